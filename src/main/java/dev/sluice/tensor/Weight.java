package dev.sluice.tensor;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.WeightFormat;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/// A learned tensor: what was declared of it, its numbers, and the forms in which products take
/// them.
///
/// The numbers are a float32 leaf, to whose gradient backward passes add. [#of] gives them in
/// another element type: a copy that is kept until the numbers change. Nobody has to say that they
/// have changed: libtorch counts what its operations write to a tensor and to its views, [#write]
/// counts what is written past libtorch, and what [Tensor#memory] gives of a weight can only be
/// read. Every other form that products take of a weight is made and kept here.
public final class Weight implements AutoCloseable {
  /// @param version of the leaf when it was made
  private record Form(Tensor tensor, long version) {}

  private final String name;
  private final ParameterSpec spec;
  private @Nullable Tensor leaf;
  private final @Nullable StoredMatrix stored;
  private final Map<ElementType, Form> forms = new EnumMap<>(ElementType.class);

  /// @param leaf of the declared shape; the weight takes it over
  public Weight(String name, ParameterSpec spec, Tensor leaf) {
    if (!Arrays.equals(leaf.shape(), spec.shape())) {
      throw new IllegalArgumentException(
          "the weight %s is declared as %s, not %s".formatted(name, spec, leaf));
    }
    this.name = name;
    this.spec = spec;
    this.leaf = leaf.retain();
    this.stored = null;
    leaf.onlyRead();
    if (!spec.trained() && leaf.requiresGradient()) {
      leaf.requireGradient(false);
    }
  }

  /// One of which nothing is declared but what the leaf shows.
  public Weight(String name, Tensor leaf) {
    this(name, ParameterSpec.drawn(leaf.shape()), leaf);
  }

  /// One that stays as a file has it.
  ///
  /// @param stored of the declared shape; its memory outlives the weight
  public Weight(String name, ParameterSpec spec, StoredMatrix stored) {
    if (!Arrays.equals(spec.shape(), new long[] {stored.rows(), stored.columns()})) {
      throw new IllegalArgumentException(
          "the weight %s is declared as %s, not %d rows of %d"
              .formatted(name, spec, stored.rows(), stored.columns()));
    }
    this.name = name;
    this.spec = spec;
    this.leaf = null;
    this.stored = stored;
  }

  /// One whose numbers are in memory, and that products take as one that stays: so that a model
  /// which only runs has one kind of products, whichever of its matrices can be read where they
  /// stand.
  ///
  /// @param numbers float32 on the CPU, of the declared shape `[rows, columns]`; the weight takes
  ///   them over
  public static Weight toRun(String name, ParameterSpec spec, Tensor numbers) {
    return new Weight(
        name,
        spec,
        numbers,
        new StoredMatrix(WeightFormat.F32, numbers.memory(), spec.shape()[0], spec.shape()[1]));
  }

  private Weight(String name, ParameterSpec spec, Tensor leaf, StoredMatrix stored) {
    this.name = name;
    this.spec = spec;
    this.leaf = leaf.retain();
    this.stored = stored;
    leaf.onlyRead();
  }

  public String name() {
    return name;
  }

  public ParameterSpec spec() {
    return spec;
  }

  /// The float32 numbers, whose gradient is the weight's. Of a stored weight they are a copy that
  /// is made when first asked for, and kept.
  public synchronized Tensor leaf() {
    if (leaf == null) {
      try (var _ = Scope.withoutGradient()) {
        var made =
            Tensor.uninitialized(
                Tensor.zeros(ElementType.FLOAT32, 1), ElementType.FLOAT32, spec.shape());
        Kernels.FASTEST.dequantize(
            Objects.requireNonNull(stored), 0, spec.shape()[0], made.numbers());
        made.onlyRead();
        leaf = made.retain();
      }
    }
    return leaf;
  }

  /// Whether products take the weight as its file has it.
  public boolean isStored() {
    return stored != null;
  }

  /// Whether its numbers stay in the file, so that there is no tensor of them.
  synchronized boolean isInFile() {
    return leaf == null;
  }

  /// The matrix as its file has it, or null.
  public @Nullable StoredMatrix stored() {
    return stored;
  }

  /// Whether a backward pass can add its gradient where it belongs: that it is a contiguous float32
  /// leaf. Others, such as the float64 ones of a comparison, take libtorch's operations.
  public boolean takesGradient() {
    return leaf != null && leaf.type() == ElementType.FLOAT32 && leaf.isPlainLeaf();
  }

  /// The numbers in another element type, without a gradient; the leaf itself where it has that
  /// type. Valid until the numbers change; a backward pass keeps what its forward pass took.
  public synchronized Tensor of(ElementType type) {
    var leaf = leaf();
    if (type == leaf.type()) {
      return leaf;
    }
    long version = leaf.version();
    var kept = forms.get(type);
    if (kept != null && kept.version == version) {
      return kept.tensor;
    }
    if (kept != null) {
      forms.remove(type);
      kept.tensor.close();
    }
    try (var _ = Scope.withoutGradient()) {
      var made = leaf.copied(type);
      forms.put(type, new Form(made.retain(), version));
      return made;
    }
  }

  /// What libtorch's own operations take: [#of], but of the leaf where they record gradients, so
  /// that the cast is recorded with them.
  public Tensor recorded(ElementType type) {
    var leaf = leaf();
    return FusedOp.recording(List.of(), List.of(leaf)) ? leaf.to(type) : of(type);
  }

  /// Lets `work` write to the leaf's memory, which is on the CPU; the memory is not to be kept.
  public void write(Consumer<MemorySegment> work) {
    var leaf = leaf();
    try {
      work.accept(leaf.writable());
    } finally {
      leaf.changed();
    }
  }

  /// Counts what a device's kernels have written to the leaf past libtorch.
  public void written() {
    leaf().changed();
  }

  /// Frees the leaf and what was made of it.
  @Override
  public synchronized void close() {
    forms.values().forEach(form -> form.tensor.close());
    forms.clear();
    if (leaf != null) {
      leaf.close();
    }
  }

  @Override
  public String toString() {
    return name + " " + Arrays.toString(spec.shape());
  }
}
