package dev.sluice.checkpoint;

import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;

/// Matrices of a model that are brought into a format of fewer bits as they are read, in memory of
/// their own.
final class RoundedMatrices implements AutoCloseable {
  private final Arena arena = Arena.ofShared();
  private final WeightFormat format;
  private final Map<WeightFormat, Integer> made = new TreeMap<>();
  private final Map<WeightFormat, Integer> kept = new TreeMap<>();

  /// @param format that is made
  RoundedMatrices(WeightFormat format) {
    this.format = format;
  }

  /// What a matrix is to become: the one that gives logits gets six bits where others get four, as
  /// `llama-quantize` has it.
  static WeightFormat wanted(WeightFormat format, boolean givesLogits) {
    boolean isFour = format == WeightFormat.Q4_0 || format == WeightFormat.Q4_K;
    return givesLogits && isFour ? WeightFormat.Q6_K : format;
  }

  /// What it becomes: eight bits or all 32 where a row is no whole blocks of that.
  static WeightFormat format(WeightFormat wanted, boolean givesLogits, long columns) {
    for (var each : List.of(wanted(wanted, givesLogits), WeightFormat.Q8_0)) {
      if (columns % each.blockLength() == 0) {
        return each;
      }
    }
    return WeightFormat.F32;
  }

  /// Makes whole blocks of numbers.
  ///
  /// @param numbers float32
  static void round(WeightFormat format, MemorySegment numbers, MemorySegment blocks) {
    float[] all = numbers.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    int block = format.blockLength();
    Threads.split(
        all.length / block,
        Math.max(1, 4096 / block),
        (begin, end) ->
            format.quantize(
                all,
                (int) begin * block,
                (int) (end - begin) * block,
                blocks,
                format.bytes(begin * block)));
  }

  /// Whether a matrix is to be rounded: one of as few bits as are wanted, or fewer, stays.
  boolean takes(WeightFormat has, boolean givesLogits, long columns) {
    var wanted = format(format, givesLogits, columns);
    if (wanted.bytes(256) < has.bytes(256)) {
      return true;
    }
    kept.merge(has, 1, Integer::sum);
    return false;
  }

  /// Rounds a matrix, and brings it into the order in which products read it fastest.
  ///
  /// @param numbers `[rows, columns]`, float32 on the CPU
  StoredMatrix round(Tensor numbers, boolean givesLogits) {
    long rows = numbers.size(0);
    long columns = numbers.size(1);
    var wanted = format(format, givesLogits, columns);
    var memory = arena.allocate(rows * wanted.bytes(columns), Long.BYTES);
    long together = Math.max(1, (1 << 24) / columns); // of which an array is made
    for (long row = 0; row < rows; row += together) {
      long count = Math.min(together, rows - row);
      round(
          wanted,
          numbers.memory().asSlice(row * columns * Float.BYTES, count * columns * Float.BYTES),
          memory.asSlice(row * wanted.bytes(columns), count * wanted.bytes(columns)));
    }
    made.merge(wanted, 1, Integer::sum);
    var matrix = new StoredMatrix(wanted, memory, rows, columns);
    return matrix.isToBePacked() ? matrix.packed(memory) : matrix;
  }

  /// What was done, for the user.
  String note() {
    return "Matrices were rounded as they were read: %s%s; all else is as the file has it."
        .formatted(
            made.isEmpty() ? "none" : words(made),
            kept.isEmpty() ? "" : ", and %s kept".formatted(words(kept)));
  }

  private static String words(Map<WeightFormat, Integer> counts) {
    return counts.entrySet().stream()
        .map(entry -> "%d %s".formatted(entry.getValue(), entry.getKey().word()))
        .collect(Collectors.joining(", "));
  }

  /// Frees the matrices.
  @Override
  public void close() {
    arena.close();
  }
}
