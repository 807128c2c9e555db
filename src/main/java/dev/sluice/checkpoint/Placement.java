package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.gate.Gate;
import dev.sluice.gate.Granularity;
import dev.sluice.kernel.MachineMemory;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.function.LongUnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;

/// Where the numbers of a parameter stand in a stored tensor: row by row, where a row is any number
/// of elements that stand equally far apart.
///
/// @param tensor the stored tensor's name
/// @param shape of the stored tensor
/// @param rows how many rows of equal length the parameter is taken for
/// @param start where in the stored tensor the first element of a row stands
/// @param step how far apart the elements of a row stand
/// @param hint what to add to a message where the stored tensor has another shape
record Placement(
    String tensor, long[] shape, long rows, LongUnaryOperator start, long step, String hint) {
  private static final Pattern EXPERT =
      Pattern.compile("mlp\\.experts\\.(?<expert>\\d+)\\.(?<part>gate|up|down)_proj\\.weight");

  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /// Elements for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  /// A tensor of its own, in the parameter's order.
  static Placement whole(String tensor, long... shape) {
    return new Placement(tensor, shape, 1, _ -> 0, 1, "");
  }

  /// Some rows of a matrix.
  static Placement ofRows(String tensor, long storedRows, long width, long[] rows) {
    return new Placement(
        tensor,
        new long[] {storedRows, width},
        rows.length,
        row -> rows[Math.toIntExact(row)] * width,
        1,
        "");
  }

  /// As most families have it: under Sluice's own names, each in a tensor of its own, but the gate
  /// where it is packed; the convolution of a DeltaNet layer, which has a dimension more; and
  /// experts, which are each their own or all together in one tensor of their layer.
  ///
  /// @param name the parameter's in the file
  static List<Placement> usual(ModelConfig model, Parameter parameter, String name) {
    long[] shape = parameter.spec().shape();
    var packed = packed(model, parameter);
    if (packed != null) {
      return List.of(packed);
    }
    if (parameter.part().equals("linear_attn.conv1d.weight")) {
      return List.of(whole(name, shape[0], 1, shape[1]));
    }
    var own = whole(name, shape);
    Matcher expert = EXPERT.matcher(parameter.part());
    if (!expert.matches()) {
      return List.of(own);
    }
    var together = together(model, parameter, expert, name, "");
    var withSuffix = together(model, parameter, expert, name, ".weight");
    return List.of(own, together, withSuffix);
  }

  /// The rows of a matrix that holds several parameters of attention; null for one that stands by
  /// itself.
  private static @Nullable Placement packed(ModelConfig model, Parameter parameter) {
    Gate gate = model.packedGate();
    var packing = model.packing();
    boolean isMegatron = packing == GatePacking.MEGATRON_QKV;
    if (parameter.layer() < 0 || (gate == null && !isMegatron)) {
      return null;
    }
    var attention = model.decoder().layers().get(parameter.layer()).attention();
    if (attention.isEmpty()) {
      return null;
    }
    AttentionConfig config = attention.get();
    Granularity granularity = gate == null ? null : gate.granularity();
    long[] rows =
        switch (parameter.part()) {
          case ModelDirectory.QUERY -> packing.queryRows(config, granularity);
          case ModelDirectory.KEY -> isMegatron ? packing.keyRows(config, granularity) : null;
          case ModelDirectory.VALUE -> isMegatron ? packing.valueRows(config, granularity) : null;
          default ->
              granularity != null && parameter.part().equals(ModelDirectory.GATE)
                  ? packing.gateRows(config, granularity)
                  : null;
        };
    if (rows == null) {
      return null;
    }
    long own = parameter.spec().shape()[0];
    if (own != rows.length) {
      throw new InvalidInputException(
          "%s has %d rows where gate_packing %s has place for %d, as in a model with switch_head; use another packing"
              .formatted(parameter.name(), own, packing.word(), rows.length));
    }
    return ofRows(
        parameter.beside(isMegatron ? GatePacking.QKV : ModelDirectory.QUERY),
        packing.storedRows(config, granularity),
        config.hiddenSize(),
        rows);
  }

  /// One expert's matrix in a layer's tensor of all, `gate_up_proj` `[E, 2I, D]` (gate before up)
  /// or `down_proj` `[E, D, I]` (`modeling_qwen3_moe.py`, `Qwen3MoeExperts`).
  private static Placement together(
      ModelConfig model, Parameter parameter, Matcher expert, String name, String suffix) {
    long[] shape = parameter.spec().shape();
    boolean down = expert.group("part").equals("down");
    long experts = model.decoder().layers().get(parameter.layer()).feedForward().experts().count();
    long[] all = {experts, down ? shape[0] : 2 * shape[0], shape[1]};
    long half = expert.group("part").equals("up") ? shape[0] * shape[1] : 0;
    long first = Long.parseLong(expert.group("expert")) * all[1] * all[2] + half;
    String own = "." + expert.group("expert") + "." + expert.group("part") + "_proj.weight";
    String layer = name.substring(0, name.length() - own.length() + 1);
    return new Placement(
        layer + (down ? "down_proj" : "gate_up_proj") + suffix,
        all,
        1,
        _ -> first,
        1,
        " ([experts, %s], as transformers has it)"
            .formatted(down ? "hidden, width" : "2 * width, hidden"));
  }

  /// How many elements the stored tensor has.
  long stored() {
    return LongStream.of(shape).reduce(1, Math::multiplyExact);
  }

  /// Whether the stored tensor is the parameter and nothing else, in its order.
  boolean isWhole(long elements) {
    return rows == 1 && step == 1 && elements == stored();
  }

  /// The parameter in its own format: where it stands, or else a copy of its pieces; null where
  /// they are no whole blocks, or there is nobody to copy them.
  ///
  /// @param shape the parameter's
  /// @param copies give the memory, or null
  @Nullable StoredMatrix stored(
      WeightFormat format, MemorySegment data, long[] shape, @Nullable PackedMatrices copies) {
    var there = inPlace(format, data, shape);
    return there != null || copies == null ? there : copied(format, data, shape, copies);
  }

  /// The parameter where it stands, or null where its rows do not stand there as products read
  /// them: whole, and groups of them equally far apart.
  private @Nullable StoredMatrix inPlace(WeightFormat format, MemorySegment data, long[] shape) {
    long width = shape.length == 2 ? shape[0] * shape[1] / rows : 0;
    if (step != 1
        || width == 0
        || width % shape[1] != 0
        || shape[1] % format.blockLength() != 0
        || start.applyAsLong(0) % format.blockLength() != 0) {
      return null;
    }
    long first = start.applyAsLong(0);
    long group = together(0, width);
    long apart = group < rows ? start.applyAsLong(group) - first : 0;
    if (apart < 0 || apart % format.blockLength() != 0 || rows % group != 0) {
      return null;
    }
    for (long row = 0; row < rows; row++) {
      if (start.applyAsLong(row) != first + row / group * apart + row % group * width) {
        return null;
      }
    }
    return new StoredMatrix(
        format,
        data.asSlice(format.bytes(first)),
        shape[0],
        shape[1],
        group * width / shape[1],
        format.bytes(apart));
  }

  /// A copy of the parameter's pieces, whose pages of the file are given back; null where they are
  /// no whole blocks of their format.
  private @Nullable StoredMatrix copied(
      WeightFormat format, MemorySegment data, long[] shape, PackedMatrices copies) {
    int block = format.blockLength();
    long width = shape.length == 2 ? shape[0] * shape[1] / rows : 0;
    boolean areBlocks = width > 0 && shape[1] % block == 0 && width % block == 0;
    areBlocks &= step == 1 || block == 1;
    long begin = Long.MAX_VALUE;
    long end = 0;
    for (long row = 0; areBlocks && row < rows; row++) {
      long first = start.applyAsLong(row);
      areBlocks = first % block == 0;
      begin = Math.min(begin, first);
      end = Math.max(end, first + (width - 1) * step + 1);
    }
    if (!areBlocks) {
      return null;
    }
    var to = copies.allocate(format.bytes(shape[0] * shape[1]));
    Threads.split(
        rows,
        Math.ceilDiv(GRAIN, width),
        (from, until) -> {
          for (long row = from; row < until; row++) {
            copy(format, data, start.applyAsLong(row), width, to, row * width);
          }
        });
    if (data.isMapped()) {
      long first = format.bytes(begin);
      MachineMemory.forget(data.asSlice(first, format.bytes(end) - first));
    }
    return new StoredMatrix(format, to, shape[0], shape[1]);
  }

  /// Copies a row's elements as they are; those that stand apart are blocks each.
  private void copy(
      WeightFormat format, MemorySegment data, long first, long count, MemorySegment to, long at) {
    long begin = format.bytes(first);
    if (step == 1) {
      MemorySegment.copy(data, begin, to, format.bytes(at), format.bytes(count));
      return;
    }
    var target = to.asSlice(format.bytes(at), format.bytes(count));
    long apart = format.bytes(step);
    if (format.blockBytes() == Short.BYTES) {
      for (long i = 0; i < count; i++) {
        target.set(SHORT, i * Short.BYTES, data.get(SHORT, begin + i * apart));
      }
    } else {
      int bytes = format.blockBytes();
      for (long i = 0; i < count; i++) {
        MemorySegment.copy(data, begin + i * apart, target, i * bytes, bytes);
      }
    }
  }

  /// Which rows of the stored matrix the parameter's rows are, or null where they are none.
  ///
  /// @param own the parameter's shape
  /// @param isTurned whether the stored matrix has its rows last, `[…, in, out]`
  long @Nullable [] storedRows(long[] own, boolean isTurned) {
    long inputs = shape[shape.length - (isTurned ? 2 : 1)];
    long results = shape[shape.length - (isTurned ? 1 : 2)];
    if (own.length != 2 || own[1] != inputs || step != (isTurned ? results : 1)) {
      return null;
    }
    long[] found = new long[Math.toIntExact(own[0])];
    long together = own[0] / rows;
    for (int i = 0; i < found.length; i++) {
      long first = start.applyAsLong(i / together);
      long within = isTurned ? first % (inputs * results) : first / inputs;
      if (isTurned ? together != 1 || within >= results : first % inputs != 0) {
        return null;
      }
      found[i] = isTurned ? first / (inputs * results) * results + within : within + i % together;
    }
    return found;
  }

  /// Takes a parameter out of a stored tensor.
  void read(Entry stored, Tensor parameter) {
    long width = parameter.elements() / rows;
    for (long row = 0; row < rows; row += together(row, width)) {
      long count = together(row, width) * width;
      int bytes = stored.type().bytes();
      var to = slice(parameter.memory(), row * width, count, Float.BYTES);
      long first = start.applyAsLong(row);
      if (step == 1) {
        Float32Copy.copy(slice(stored.data(), first, count, bytes), stored.type(), to);
      } else {
        Float32Copy.strided(
            slice(stored.data(), first, (count - 1) * step + 1, bytes), stored.type(), step, to);
      }
    }
  }

  /// Numbers of a stored tensor as float32, whatever they are stored as.
  @FunctionalInterface
  interface Numbers {
    /// Fills `to` with as many numbers as it holds, from the element `first` on.
    void read(long first, MemorySegment to);
  }

  /// Takes a parameter out of a stored tensor, where the elements of a row follow one another.
  void read(Numbers stored, Tensor parameter) {
    if (step != 1) {
      throw new IllegalStateException("the elements of a row of %s stand apart".formatted(tensor));
    }
    long width = parameter.elements() / rows;
    for (long row = 0; row < rows; ) {
      long count = together(row, width);
      stored.read(
          start.applyAsLong(row),
          slice(parameter.memory(), row * width, count * width, Float.BYTES));
      row += count;
    }
  }

  /// The same rows of a tensor of another name, behind so many elements of it.
  Placement within(String other, long[] otherShape, long offset) {
    return new Placement(
        other, otherShape, rows, row -> start.applyAsLong(row) + offset, step, hint);
  }

  /// Puts a parameter, float32 on the CPU, into a tensor to be stored, rounded to its type.
  void write(Tensor parameter, Tensor stored) {
    long width = parameter.elements() / rows;
    int bytes = stored.type().bytes();
    for (long row = 0; row < rows; row += together(row, width)) {
      long count = together(row, width) * width;
      long first = start.applyAsLong(row);
      var from = slice(parameter.memory(), row * width, count, Float.BYTES);
      if (step == 1) {
        Float32Rounding.copy(from, slice(stored.memory(), first, count, bytes), stored.type());
      } else {
        for (long i = 0; i < count; i++) {
          Float32Rounding.copy(
              slice(from, i, 1, Float.BYTES),
              slice(stored.memory(), first + i * step, 1, bytes),
              stored.type());
        }
      }
    }
  }

  /// How many rows from this one on follow one another in the stored tensor too.
  private long together(long row, long width) {
    long count = 1;
    while (step == 1
        && row + count < rows
        && start.applyAsLong(row + count) == start.applyAsLong(row) + count * width) {
      count++;
    }
    return count;
  }

  private static MemorySegment slice(MemorySegment data, long from, long elements, int bytes) {
    return data.asSlice(from * bytes, elements * bytes);
  }
}
