package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.LongFunction;
import java.util.function.LongSupplier;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// A mixture's experts with matrices as their file has them, over float32 rows that are sorted by
/// expert: the products of all experts are shared among the threads at once. A row's result depends
/// on the row and its expert alone, and has the bits that a dense layer of that expert gives.
public final class StoredExperts {
  /// What an expert is besides its products.
  public interface Unit {
    /// SwiGLU without biases.
    Unit SWIGLU =
        new Unit() {
          @Override
          public void between(
              Kernels kernels, int expert, Floats gate, Floats up, Floats inner, long count) {
            kernels.swiGlu(gate, up, inner, 0, count);
          }

          @Override
          public @Nullable Floats bias(int expert) {
            return null;
          }
        };

    /// What stands between the products.
    ///
    /// @param kernels compute it
    /// @param gate rows of the first product, which may be written over
    /// @param up those of the second one, likewise
    /// @param inner is written
    /// @param count numbers of all rows
    void between(Kernels kernels, int expert, Floats gate, Floats up, Floats inner, long count);

    /// What is added to the last product, `[D]`; null for nothing, of all experts alike.
    @Nullable Floats bias(int expert);
  }

  /// What experts that do not take their rows here make of them.
  public interface Others {
    Tensor of(int expert, Tensor rows);
  }

  /// The matrices of each expert.
  ///
  /// @param inner gate and up
  /// @param down alone
  record Matrices(List<List<StoredMatrix>> inner, List<List<StoredMatrix>> down) {
    /// Null where some are not stored, or not as the others are.
    static @Nullable Matrices of(List<SwiGlu.Weights> weights) {
      List<List<StoredMatrix>> inner = new ArrayList<>();
      List<List<StoredMatrix>> down = new ArrayList<>();
      for (var expert : weights) {
        var both = stored(List.of(expert.gate(), expert.up()));
        var last = stored(List.of(expert.down()));
        if (both == null || last == null) {
          return null;
        }
        inner.add(both);
        down.add(last);
      }
      return DirectProduct.alike(inner) && DirectProduct.alike(down)
          ? new Matrices(inner, down)
          : null;
    }

    private static @Nullable List<StoredMatrix> stored(List<Weight> weights) {
      List<StoredMatrix> stored = new ArrayList<>();
      for (var weight : weights) {
        var matrix = weight.stored();
        if (matrix == null) {
          return null;
        }
        stored.add(matrix);
      }
      return stored;
    }

    /// F.
    private long width() {
      return inner.getFirst().getFirst().rows();
    }

    /// Whether an expert with so many float32 rows takes them here; others are taken by panels.
    boolean take(long rows) {
      return rows <= StoredProduct.FEW
          || Stream.concat(inner.getFirst().stream(), down.getFirst().stream())
              .allMatch(matrix -> StoredProduct.asStored(rows, ElementType.FLOAT32, matrix));
    }
  }

  /// Work that follows on the one before it.
  ///
  /// @param length is known when rows have begun
  /// @param grain for which a thread is worth its start
  record Stage(
      LongSupplier length, long grain, long piece, Threads.Part part, boolean isLastProduct) {
    Stage(LongSupplier length, long grain, long piece, Threads.Part part) {
      this(length, grain, piece, part, false);
    }
  }

  private final Matrices matrices;
  private final Unit unit;
  private final DirectProduct inner;
  private final DirectProduct down;
  private final Floats gate;
  private final Floats up;
  private final Floats activation;
  private final Floats result;
  private final long width;
  private final List<Stage> stages = new ArrayList<>();

  /// @param x `[most, D]`
  /// @param y `[most, D]`
  /// @param most rows
  /// @param memory gives so many bytes, to be used until the last stage has ended
  /// @param each hears of rows before they are taken from x
  StoredExperts(
      Matrices matrices,
      Unit unit,
      MemorySegment x,
      MemorySegment y,
      int most,
      LongFunction<MemorySegment> memory,
      Threads.Part each) {
    this.matrices = matrices;
    this.unit = unit;
    this.result = Floats.float32(y);
    this.width = matrices.width();
    long bytes = most * width * Float.BYTES;
    this.gate = Floats.float32(memory.apply(bytes));
    this.up = Floats.float32(memory.apply(bytes));
    this.activation = Floats.float32(memory.apply(bytes));
    this.inner =
        new DirectProduct(x, most, matrices.inner, List.of(gate.memory(), up.memory()), memory);
    this.down = new DirectProduct(activation.memory(), most, matrices.down, List.of(y), memory);
    stages.add(
        new Stage(
            inner::groups,
            1,
            1,
            (from, to) -> {
              each.run(inner.first(from), inner.end(to - 1));
              inner.arrangeGroups(from, to);
            }));
    stages.add(new Stage(inner::rows, inner.grain(), inner.piece(most), inner::multiply));
    stages.add(new Stage(down::groups, 1, 1, this::between));
    stages.add(new Stage(down::rows, down.grain(), down.piece(most), down::multiply, true));
    if (unit.bias(0) != null) {
      stages.add(new Stage(down::groups, 1, 1, this::addBiases));
    }
  }

  /// Begins with other rows.
  ///
  /// @param starts where each expert's rows start, and behind them how many there are; those of
  ///   experts that do not [Matrices#take] them are left out
  void begin(long[] starts) {
    inner.begin(starts, matrices::take);
    down.begin(starts, matrices::take);
  }

  /// What experts make of their rows.
  ///
  /// @param x `[rows, D]`
  /// @param starts where each expert's rows start, and behind them how many there are
  /// @param type of the results; only with float32 are experts taken here
  public static Tensor apply(
      Tensor x,
      long[] starts,
      List<SwiGlu.Weights> weights,
      ElementType type,
      Unit unit,
      Others others) {
    var matrices = type == ElementType.FLOAT32 ? Matrices.of(weights) : null;
    var y = Tensor.uninitialized(x, type, x.shape());
    if (matrices != null && x.size(0) > 0) {
      var input = x.to(type).contiguous();
      run(matrices, unit, input.memory(), starts, y.numbers().memory(), (int) x.size(0));
    }
    for (int expert = 0; expert < weights.size(); expert++) {
      long rows = starts[expert + 1] - starts[expert];
      if (rows > 0 && (matrices == null || !matrices.take(rows))) {
        var its = others.of(expert, x.narrow(0, starts[expert], rows));
        y.narrow(0, starts[expert], rows).copyFrom(its);
      }
    }
    return y;
  }

  private static void run(
      Matrices matrices, Unit unit, MemorySegment x, long[] starts, MemorySegment y, int rows) {
    var experts =
        new StoredExperts(matrices, unit, x, y, rows, StoredProduct.scratch(), (_, _) -> {});
    experts.begin(starts);
    for (var stage : experts.stages) {
      long length = stage.length.getAsLong();
      if (length > 0) {
        Threads.share(length, stage.grain, stage.piece, stage.part);
      }
    }
  }

  /// What is to be done with them, one after the other.
  List<Stage> stages() {
    return stages;
  }

  private void between(long from, long to) {
    for (long group = from; group < to; group++) {
      long first = down.first(group) * width;
      unit.between(
          Kernels.FASTEST,
          down.expert(group),
          gate.from(first),
          up.from(first),
          activation.from(first),
          down.end(group) * width - first);
    }
    down.arrangeGroups(from, to);
  }

  private void addBiases(long from, long to) {
    for (long group = from; group < to; group++) {
      var bias = Objects.requireNonNull(unit.bias(down.expert(group)));
      for (long row = down.first(group); row < down.end(group); row++) {
        var its = result.from(row * bias.length());
        Kernels.FASTEST.weightedSum(its, 1, bias, 1, its, 0, bias.length());
      }
    }
  }
}
