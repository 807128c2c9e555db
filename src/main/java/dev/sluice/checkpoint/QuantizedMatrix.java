package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.kernel.Floats;
import dev.sluice.kernel.MachineMemory;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.tensor.ElementType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// A matrix that [Quantization] found in several tensors of a file. [#restored] gives its numbers
/// as float32, which is their definition; [#kept] brings them into blocks of as many bits as they
/// have in the file, the same numbers to the bit.
///
/// @param name as `transformers` has it
/// @param parts the stored tensors that it is made of, in the order that its method has
/// @param shape of the matrix, `[…, out, in]`, or `[…, in, out]` where it is turned
record QuantizedMatrix(
    String name, List<@Nullable Entry> parts, List<Long> shape, Quantization by) {
  static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfLong LONG =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort HALF =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfFloat LITTLE_FLOAT = FLOAT.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// Rows for which a thread is worth its start.
  private static final long GRAIN = 64;

  /// Rows of which a block each is made before the next ones: words that run along the results are
  /// then in a cache when the next row wants them.
  private static final long TILE = 128;

  /// Above this, a scale may make infinity of a number.
  private static final float LARGEST_SCALE = 0x1p100f;

  /// Which result a number of a word of `awq` belongs to.
  private static final int[] AWQ_ORDER = {0, 2, 4, 6, 1, 3, 5, 7};

  private static final float[] E2M1 = {
    0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6
  };

  // ---------------------------------------------------------------- what is stored

  /// A whole number of a row, at an input or of a group.
  private interface Whole {
    int at(long row, int place);
  }

  /// A scale of a row, of a group or at an input.
  private interface Scale {
    float at(long row, int place);
  }

  /// Whole numbers that share a scale and a zero point in groups of inputs.
  ///
  /// @param given which group an input belongs to; null where one follows the other
  private record Integers(
      int bits,
      long rows,
      int inputs,
      int groups,
      int @Nullable [] given,
      Whole code,
      Whole zero,
      Scale scale) {
    /// Inputs of a group.
    int each() {
      return inputs / groups;
    }

    int group(int input) {
      return given == null ? input / each() : given[input];
    }

    boolean isInOrder() {
      for (int i = 0; given != null && i < inputs; i++) {
        if (given[i] != i / each()) {
          return false;
        }
      }
      return true;
    }
  }

  /// Numbers of E4M3.
  ///
  /// @param together inputs that surely share a scale
  private record Scaled(MemorySegment data, long rows, int inputs, int together, Scale scale) {}

  private Entry part(int i) {
    Entry part = parts.get(i);
    if (part == null) {
      throw new IllegalStateException(name + " lacks part " + i);
    }
    return part;
  }

  private long last(int fromBehind) {
    return shape.get(shape.size() - fromBehind);
  }

  /// Whether [#shape] has inputs before results.
  boolean isTurned() {
    return by.method().equals("mxfp4");
  }

  private boolean isInIntegers() {
    return switch (by.method()) {
      case "awq", "gptq" -> true;
      case "compressed-tensors" -> by.bits() == 4 && part(0).type() == ElementType.INT32;
      default -> false;
    };
  }

  private Integers integers() {
    return switch (by.method()) {
      case "awq" -> awq();
      case "gptq" -> gptq();
      default -> packed();
    };
  }

  /// A tensor of scales as float32.
  private static float[] numbers(Entry entry) {
    if (!entry.type().isFloatingPoint()) {
      throw new InvalidInputException(
          "%s has the type %s where scales are floating-point numbers; fetch the checkpoint again"
              .formatted(Listing.quoted(entry.name()), entry.type().safetensorsName()));
    }
    long count = entry.shape().stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
    float[] numbers = new float[Math.toIntExact(count)];
    var copied = Arena.ofAuto().allocate(Math.max(1, count) * Float.BYTES, Float.BYTES);
    Float32Copy.copy(entry.data(), entry.type(), copied.asSlice(0, count * Float.BYTES));
    MemorySegment.copy(copied, FLOAT, 0, numbers, 0, numbers.length);
    return numbers;
  }

  /// Which group each input belongs to, where a list says so.
  private static int @Nullable [] groups(@Nullable Entry list, long inputs, long groups) {
    if (list == null) {
      return null;
    }
    int[] given = new int[(int) inputs];
    boolean fits = list.type() == ElementType.INT32 && list.shape().equals(List.of(inputs));
    for (int i = 0; fits && i < given.length; i++) {
      given[i] = list.data().get(INT, i * 4L);
      fits = given[i] >= 0 && given[i] < groups;
    }
    if (!fits) {
      throw new InvalidInputException(
          "%s does not give a group from 0 to %d for each of %d inputs; fetch the checkpoint again"
              .formatted(Listing.quoted(list.name()), groups - 1, inputs));
    }
    return given;
  }

  private Integers packed() {
    var words = part(0).data();
    float[] scales = numbers(part(1));
    int inputs = Math.toIntExact(last(1));
    long results = last(2);
    int groups = Math.toIntExact(part(1).shape().get(1));
    int[] given = groups(parts.get(3), inputs, groups);
    Entry zeros = parts.get(2);
    if (zeros != null
        && (zeros.type() != ElementType.INT32
            || !zeros.shape().equals(List.of(Math.ceilDiv(results, 8L), (long) groups)))) {
      throw new InvalidInputException(
          "%s has the shape %s where %s by %d zeros are packed in eights; fetch the checkpoint again"
              .formatted(Listing.quoted(zeros.name()), zeros.shape(), results, groups));
    }
    return new Integers(
        4,
        results,
        inputs,
        groups,
        given,
        (row, input) -> words.get(INT, (row * inputs + input) / 8 * 4) >>> (input % 8 * 4) & 15,
        zeros == null
            ? (_, _) -> 8
            : (row, group) ->
                zeros.data().get(INT, (row / 8 * groups + group) * 4) >>> ((int) (row % 8) * 4)
                    & 15,
        (row, group) -> scales[(int) row * groups + group]);
  }

  private Integers awq() {
    var words = part(0).data();
    float[] scales = numbers(part(1));
    var zeros = part(2).data();
    long results = last(2);
    int[] shift = new int[8]; // of a result in its word
    for (int k = 0; k < 8; k++) {
      shift[AWQ_ORDER[k]] = 4 * k;
    }
    return new Integers(
        4,
        results,
        Math.toIntExact(last(1)),
        Math.toIntExact(part(1).shape().get(0)),
        null,
        (row, input) ->
            words.get(INT, (input * results + row) / 8 * 4) >>> shift[(int) (row % 8)] & 15,
        (row, group) ->
            zeros.get(INT, (group * results + row) / 8 * 4) >>> shift[(int) (row % 8)] & 15,
        (row, group) -> scales[(int) (group * results + row)]);
  }

  /// Refuses zero points of `gptq` other than the middle where the configuration says that all are
  /// that: who believes it computes other numbers than who reads them.
  private void requireMiddle(Entry zeros, int middle) {
    int bits = by.bits();
    int mask = (1 << bits) - 1;
    long words = zeros.data().byteSize() / Integer.BYTES;
    for (long i = 0; Boolean.TRUE.equals(by.said().isSymmetric()) && i < words; i++) {
      int word = zeros.data().get(INT, i * Integer.BYTES);
      for (int shift = 0; shift < 32; shift += bits) {
        if ((word >>> shift & mask) != middle) {
          throw new InvalidInputException(
              "%s holds a zero point of %d where quantization_config says sym true, which is %d; fetch the checkpoint again, or correct sym or checkpoint_format"
                  .formatted(Listing.quoted(zeros.name()), word >>> shift & mask, middle));
        }
      }
    }
  }

  private Integers gptq() {
    var words = part(0).data();
    float[] scales = numbers(part(1));
    var zeros = part(2).data();
    long results = last(2);
    int inputs = Math.toIntExact(last(1));
    int groups = Math.toIntExact(part(1).shape().get(0));
    int bits = by.bits();
    int perWord = 32 / bits;
    int mask = (1 << bits) - 1;
    int more = by.isShifted() ? 1 : 0;
    requireMiddle(part(2), (1 << (bits - 1)) - more);
    return new Integers(
        bits,
        results,
        inputs,
        groups,
        groups(parts.get(3), inputs, groups),
        (row, input) ->
            words.get(INT, (input / perWord * results + row) * 4) >>> (input % perWord * bits)
                & mask,
        (row, group) ->
            (zeros.get(INT, (group * results + row) / perWord * 4)
                        >>> ((int) (row % perWord) * bits)
                    & mask)
                + more,
        (row, group) -> scales[(int) (group * results + row)]);
  }

  /// The dimensions before the last two, which count matrices, with others behind them.
  private List<Long> leading(List<Long> last) {
    return Stream.concat(shape.subList(0, shape.size() - 2).stream(), last.stream()).toList();
  }

  /// Whether scales are of that many in each matrix; a last dimension of one may be left out.
  private boolean fits(List<Long> found, List<Long> each) {
    var wanted = leading(each);
    return found.equals(wanted)
        || (found.size() == wanted.size() + 1
            && found.getLast() == 1
            && found.subList(0, wanted.size()).equals(wanted));
  }

  private Scaled scaled() {
    Entry entry = part(0);
    Entry scale = part(1);
    float[] scales = numbers(scale);
    long rows = last(2);
    int columns = Math.toIntExact(last(1));
    long all = shape.stream().limit(shape.size() - 2L).reduce(1L, Math::multiplyExact) * rows;
    boolean byBlock = by.blockRows() > 0 && scales.length != 1;
    long blockRows = byBlock ? by.blockRows() : rows;
    long blockColumns = byBlock ? by.blockColumns() : columns;
    long down = Math.ceilDiv(rows, blockRows);
    long across = Math.ceilDiv(columns, blockColumns);
    if (scales.length != 1
        && !fits(scale.shape(), byBlock ? List.of(down, across) : List.of(rows))) {
      throw new InvalidInputException(
          "%s has the shape %s, which is no scale for all of %s nor for each %s, where %s belongs; fetch the checkpoint again"
              .formatted(
                  Listing.quoted(scale.name()),
                  scale.shape(),
                  shape,
                  byBlock ? "block of %d by %d".formatted(blockRows, blockColumns) : "row",
                  byBlock ? leading(List.of(down, across)) : leading(List.of(rows, 1L))));
    }
    if (entry.type() != ElementType.UINT8) {
      throw new InvalidInputException(
          "%s has the type %s beside a scale, where F8_E4M3 belongs; fetch the checkpoint again"
              .formatted(Listing.quoted(entry.name()), entry.type().safetensorsName()));
    }
    Scale at =
        scales.length == 1
            ? (_, _) -> scales[0]
            : byBlock
                ? (row, input) ->
                    scales[
                        (int)
                            ((row / rows * down + row % rows / blockRows) * across
                                + input / blockColumns)]
                : (row, _) -> scales[(int) row];
    return new Scaled(
        entry.data(), all, columns, (int) Math.min(blockColumns, Integer.MAX_VALUE), at);
  }

  // ---------------------------------------------------------------- float32

  /// Its numbers, in memory that is freed when nothing refers to it.
  Entry restored() {
    long count = shape.stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
    var data = Arena.ofAuto().allocate(Math.multiplyExact(count, Float.BYTES), 64);
    if (isTurned()) {
      restoreMxfp4(data);
    } else if (isInIntegers()) {
      restore(integers(), data);
    } else {
      restore(scaled(), data);
    }
    return new Entry(name, ElementType.FLOAT32, shape, data);
  }

  private static void restore(Integers of, MemorySegment to) {
    Threads.split(
        of.rows,
        GRAIN,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (int i = 0; i < of.inputs; i++) {
              int group = of.group(i);
              int number = of.code.at(row, i) - of.zero.at(row, group);
              to.set(FLOAT, (row * of.inputs + i) * 4, number * of.scale.at(row, group));
            }
          }
        });
  }

  private static void restore(Scaled of, MemorySegment to) {
    Threads.split(
        of.rows,
        GRAIN,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (int i = 0; i < of.inputs; i++) {
              long at = row * of.inputs + i;
              float value = Floats.ofE4m3(of.data.get(ValueLayout.JAVA_BYTE, at));
              to.set(FLOAT, at * 4, value * of.scale.at(row, i));
            }
          }
        });
  }

  /// Rows of blocks become columns, as `transformers` turns them (`convert_moe_packed_tensors`).
  private void restoreMxfp4(MemorySegment to) {
    var blocks = part(0).data();
    var scales = part(1).data();
    long rows = last(1);
    long columns = last(2);
    Threads.split(
        shape.get(0) * rows,
        GRAIN,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (long i = 0; i < columns; i++) {
              long block = row * (columns / 32) + i / 32;
              int bytes = blocks.get(ValueLayout.JAVA_BYTE, block * 16 + i % 32 / 2) & 0xFF;
              int exponent = scales.get(ValueLayout.JAVA_BYTE, block) & 0xFF;
              float value = E2M1[i % 2 == 0 ? bytes & 15 : bytes >> 4];
              to.set(
                  FLOAT,
                  ((row / rows * columns + i) * rows + row % rows) * 4,
                  exponent == 255 ? Float.NaN : Math.scalb(value, exponent - 127));
            }
          }
        });
  }

  // ---------------------------------------------------------------- few bits

  /// What a matrix is kept as.
  ///
  /// @param matrix null where no format holds its numbers
  /// @param why it does not
  record Kept(@Nullable StoredMatrix matrix, String why) {
    static Kept as(WeightFormat format, MemorySegment data, long rows, long inputs) {
      return new Kept(new StoredMatrix(format, data, rows, inputs), "");
    }

    static Kept not(String why) {
      return new Kept(null, why);
    }
  }

  /// Some rows in blocks of about as many bits as they have in the file. Numbers that are NaN or
  /// infinite are left to [#restored], whose user says where they are.
  ///
  /// @param rows of the matrix with its inputs last, those of the first matrix first
  /// @param copies gives the memory
  Kept kept(long[] rows, PackedMatrices copies) {
    var kept =
        isTurned()
            ? keptMxfp4(rows, copies)
            : isInIntegers() ? kept(integers(), rows, copies) : kept(scaled(), rows, copies);
    for (var part : parts) {
      if (part != null && part.data().isMapped()) {
        MachineMemory.forget(part.data()); // what was copied need not stay in memory twice
      }
    }
    return kept;
  }

  private static Kept kept(Integers of, long[] rows, PackedMatrices copies) {
    if (!of.isInOrder()) {
      return Kept.not("their inputs are in groups in another order than their own (act-order)");
    }
    if (of.each() % 32 != 0) {
      return Kept.not("a group of %d inputs is no whole blocks of 32".formatted(of.each()));
    }
    boolean areHalves = true;
    boolean areUsual = true;
    int middle = 1 << (of.bits - 1);
    boolean isSymmetric = true;
    for (long row : rows) {
      for (int group = 0; group < of.groups; group++) {
        float scale = of.scale.at(row, group);
        areUsual &= Math.abs(scale) <= LARGEST_SCALE;
        areHalves &= Float.float16ToFloat(Float.floatToFloat16(scale)) == scale;
        isSymmetric &= of.zero.at(row, group) == middle;
      }
    }
    if (!areUsual) {
      return Kept.not("a scale is NaN, infinite or nearly so");
    }
    WeightFormat format;
    if (of.bits == 8) {
      if (!isSymmetric || !areHalves) {
        return Kept.not(
            "of numbers of 8 bits only those are kept whose zero point is 128 and whose scales are"
                + " halves");
      }
      format = WeightFormat.Q8_0;
    } else if (isSymmetric && areHalves && of.each() <= 128) {
      format = WeightFormat.Q4_0;
    } else {
      format =
          of.each() % 128 == 0
              ? WeightFormat.I4_128
              : of.each() % 64 == 0 ? WeightFormat.I4_64 : WeightFormat.I4_32;
    }
    long rowBytes = format.bytes(of.inputs);
    var to = copies.allocate(rows.length * rowBytes);
    int length = format.blockLength();
    Threads.split(
        rows.length,
        GRAIN,
        (from, end) -> {
          int[] codes = new int[length];
          for (long first = from; first < end; first += TILE) {
            for (int input = 0; input < of.inputs; input += length) {
              int group = input / of.each();
              for (long r = first; r < Math.min(end, first + TILE); r++) {
                long row = rows[(int) r];
                for (int i = 0; i < length; i++) {
                  codes[i] = of.code.at(row, input + i);
                }
                var block = to.asSlice(r * rowBytes + format.bytes(input), format.bytes(length));
                write(format, codes, of.zero.at(row, group), of.scale.at(row, group), block);
              }
            }
          }
        });
    return Kept.as(format, to, rows.length, of.inputs);
  }

  private static void write(
      WeightFormat format, int[] codes, int zero, float scale, MemorySegment to) {
    long at;
    if (format == WeightFormat.Q8_0 || format == WeightFormat.Q4_0) {
      to.set(HALF, 0, Float.floatToFloat16(scale));
      at = 2;
    } else {
      to.set(LITTLE_FLOAT, 0, scale);
      to.set(ValueLayout.JAVA_BYTE, 4, (byte) (16 - zero));
      at = 5;
    }
    if (format == WeightFormat.Q8_0) {
      for (int code : codes) {
        to.set(ValueLayout.JAVA_BYTE, at++, (byte) (code - 128));
      }
      return;
    }
    for (int part = 0; part < codes.length; part += 32) {
      for (int i = part; i < part + 16; i++) {
        to.set(ValueLayout.JAVA_BYTE, at++, (byte) (codes[i] | codes[i + 16] << 4));
      }
    }
  }

  private static Kept kept(Scaled of, long[] rows, PackedMatrices copies) {
    var format = WeightFormat.E4M3;
    int length = format.blockLength();
    if (of.inputs % length != 0 || (of.together % length != 0 && of.together < of.inputs)) {
      return Kept.not(
          "%d inputs, of which %d share a scale, are no whole blocks of %d"
              .formatted(of.inputs, Math.min(of.together, of.inputs), length));
    }
    long rowBytes = format.bytes(of.inputs);
    var to = copies.allocate(rows.length * rowBytes);
    var areNumbers = new AtomicBoolean(true);
    Threads.split(
        rows.length,
        GRAIN,
        (from, end) -> {
          for (long r = from; r < end; r++) {
            long row = rows[(int) r];
            long none = 0;
            for (int input = 0; input < of.inputs; input += length) {
              long read = row * of.inputs + input;
              long at = r * rowBytes + format.bytes(input);
              float scale = of.scale.at(row, input);
              none |= Math.abs(scale) <= LARGEST_SCALE ? 0 : 1;
              to.set(LITTLE_FLOAT, at, scale);
              for (int i = 0; i < length; i += 8) {
                long eight = of.data.get(LONG, read + i);
                // NaN is seven ones, to which one more carries.
                long carried = (eight & 0x7F7F_7F7F_7F7F_7F7FL) + 0x0101_0101_0101_0101L;
                none |= carried & 0x8080_8080_8080_8080L;
                to.set(LONG, at + Float.BYTES + i, eight);
              }
            }
            if (none != 0) {
              areNumbers.set(false);
            }
          }
        });
    return areNumbers.get()
        ? Kept.as(format, to, rows.length, of.inputs)
        : Kept.not("a number or a scale is NaN, infinite or nearly so");
  }

  private Kept keptMxfp4(long[] rows, PackedMatrices copies) {
    var format = WeightFormat.MXFP4;
    var blocks = part(0).data();
    var scales = part(1).data();
    long inputs = last(2);
    long each = inputs / format.blockLength();
    var to = copies.allocate(rows.length * format.bytes(inputs));
    var areNumbers = new AtomicBoolean(true);
    Threads.split(
        rows.length,
        GRAIN,
        (from, end) -> {
          byte[] pairs = new byte[16];
          for (long r = from; r < end; r++) {
            for (long i = 0; i < each; i++) {
              long block = rows[(int) r] * each + i;
              byte exponent = scales.get(ValueLayout.JAVA_BYTE, block);
              if (exponent == -1) {
                areNumbers.set(false);
              }
              MemorySegment.copy(blocks, ValueLayout.JAVA_BYTE, block * 16, pairs, 0, 16);
              long at = (r * each + i) * format.blockBytes();
              to.set(ValueLayout.JAVA_BYTE, at, exponent);
              for (int k = 0; k < 16; k++) { // numbers k and k + 16, each one half of a pair
                int shift = k % 2 * 4;
                int low = pairs[k / 2] >> shift & 15;
                int high = pairs[8 + k / 2] >> shift & 15;
                to.set(ValueLayout.JAVA_BYTE, at + 1 + k, (byte) (low | high << 4));
              }
            }
          }
        });
    return areNumbers.get() ? Kept.as(format, to, rows.length, inputs) : Kept.not("a scale is NaN");
  }
}
