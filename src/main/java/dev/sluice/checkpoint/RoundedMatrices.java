package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.DoubleAdder;
import java.util.stream.Collectors;

/// Matrices of a model that are brought into a format of fewer bits as they are read, in memory of
/// their own.
final class RoundedMatrices implements AutoCloseable {
  /// Numbers that differ by more of their own size are others: rounding to four bits moves numbers
  /// by a tenth.
  static final double ANOTHER = 0.5;

  /// Numbers for which a thread is worth its start.
  private static final long GRAIN = 1 << 16;

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
  /// @return whether what was made is finite: numbers may be too large for a format
  static boolean round(WeightFormat format, MemorySegment numbers, MemorySegment blocks) {
    float[] all = numbers.toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    int block = format.blockLength();
    var areFinite = new AtomicBoolean(true);
    Threads.split(
        all.length / block,
        Math.max(1, 4096 / block),
        (begin, end) -> {
          int count = (int) (end - begin) * block;
          long offset = format.bytes(begin * block);
          format.quantize(all, (int) begin * block, count, blocks, offset);
          if (block > 1 && !format.hasFiniteScales(blocks, offset, count)) {
            areFinite.set(false);
          }
        });
    return switch (format) {
      case F16 -> FiniteNumbers.firstOther(blocks, ElementType.FLOAT16) < 0;
      case BF16 -> FiniteNumbers.firstOther(blocks, ElementType.BFLOAT16) < 0;
      default -> areFinite.get();
    };
  }

  // ---------------------------------------------------------------- what a format does not hold

  /// Whether numbers are so small as a whole that a format's scales of half precision may make
  /// others of them: such a scale is moved by up to 2⁻²⁵ where it is small, and a number by as many
  /// times of that as its level says. Above four times of that, no more than a quarter is lost.
  ///
  /// @param numbers float32, which are read no further than an answer needs
  static boolean areTiny(WeightFormat format, MemorySegment numbers) {
    long count = numbers.byteSize() / Float.BYTES;
    double least = 0x1p-23 * format.largestLevel();
    double enough = least * least * count;
    double squares = 0;
    for (long i = 0; i < count && squares < enough; i++) {
      double number = numbers.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
      squares += number * number;
    }
    return squares < enough;
  }

  /// How far numbers are from others: the root of the mean squared difference as a share of the
  /// root of their own mean square.
  ///
  /// @param beside what is added to each number's square
  static double error(MemorySegment wanted, MemorySegment found, double beside) {
    var squares = new DoubleAdder();
    var errors = new DoubleAdder();
    Threads.split(
        wanted.byteSize() / Float.BYTES,
        GRAIN,
        (from, end) -> {
          var layout = ValueLayout.JAVA_FLOAT_UNALIGNED;
          double ofNumbers = 0;
          double ofErrors = 0;
          for (long i = from; i < end; i++) {
            double number = wanted.getAtIndex(layout, i);
            double difference = number - found.getAtIndex(layout, i);
            ofNumbers += number * number + beside;
            ofErrors += difference * difference;
          }
          squares.add(ofNumbers);
          errors.add(ofErrors);
        });
    return errors.sum() == 0 ? 0 : Math.sqrt(errors.sum() / squares.sum());
  }

  /// Numbers whose scales no format of half precision has.
  ///
  /// @param name of the tensor
  static InvalidInputException tooSmall(String name, WeightFormat format, double error) {
    return new InvalidInputException(
        "the numbers of the tensor %s are too small for %s: rounded to it they are off by %.0f %% of their size; choose bf16 or f32"
            .formatted(Listing.quoted(name), format.word(), 100 * error));
  }

  /// @param numbers float32, of which one is too large
  static InvalidInputException tooLarge(String name, WeightFormat format, MemorySegment numbers) {
    return new InvalidInputException(
        "the tensor %s holds %s, which is too large for %s; choose %s"
            .formatted(
                Listing.quoted(name),
                largest(numbers),
                format.word(),
                format == WeightFormat.BF16 ? "f32" : "bf16 or f32"));
  }

  /// The number of the largest magnitude.
  static float largest(MemorySegment numbers) {
    float largest = 0;
    for (long i = 0; i < numbers.byteSize() / Float.BYTES; i++) {
      float number = numbers.getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i);
      largest = Math.abs(number) > Math.abs(largest) ? number : largest;
    }
    return largest;
  }

  private static void requireHeld(
      String name, WeightFormat format, MemorySegment numbers, MemorySegment blocks) {
    if (!areTiny(format, numbers)) {
      return;
    }
    try (var own = Arena.ofShared()) {
      var found = own.allocate(numbers.byteSize(), Float.BYTES);
      int block = format.blockLength();
      Threads.split(
          numbers.byteSize() / Float.BYTES / block,
          Math.max(1, 4096 / block),
          (begin, end) ->
              format.dequantize(
                  blocks,
                  format.bytes(begin * block),
                  (end - begin) * block,
                  found,
                  begin * block * Float.BYTES));
      double error = error(numbers, found, 0);
      if (!(error < ANOTHER)) {
        throw tooSmall(name, format, error);
      }
    }
  }

  // ---------------------------------------------------------------- models

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
  /// @param name of the matrix
  /// @param numbers `[rows, columns]`, float32 on the CPU
  /// @throws InvalidInputException if the format does not hold such numbers
  StoredMatrix round(String name, Tensor numbers, boolean givesLogits) {
    long rows = numbers.size(0);
    long columns = numbers.size(1);
    var wanted = format(format, givesLogits, columns);
    var memory = arena.allocate(rows * wanted.bytes(columns), Long.BYTES);
    long together = Math.max(1, (1 << 24) / columns); // of which an array is made
    for (long row = 0; row < rows; row += together) {
      long count = Math.min(together, rows - row);
      var piece =
          numbers.memory().asSlice(row * columns * Float.BYTES, count * columns * Float.BYTES);
      var blocks = memory.asSlice(row * wanted.bytes(columns), count * wanted.bytes(columns));
      if (!round(wanted, piece, blocks)) {
        throw tooLarge(name, wanted, piece);
      }
    }
    requireHeld(name, wanted, numbers.memory(), memory);
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
