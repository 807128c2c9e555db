package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.EnumSource.Mode;

/// Products with weights as a file has them, and the numbers that they are.
class StoredMatrixTest {
  private static final Kernels DEFINITION = new ScalarKernels();
  private static final int ROWS = 5;

  private final Random random = new Random(7);

  private float[] gaussian(int count, double scale) {
    float[] numbers = new float[count];
    for (int i = 0; i < count; i++) {
      numbers[i] = (float) (scale * random.nextGaussian());
    }
    return numbers;
  }

  private static int[] widths(WeightFormat format) {
    return switch (format.blockLength()) {
      case 1 -> new int[] {1, 7, 31, 33, 64, 200};
      case 32 -> new int[] {32, 96, 160, 1056};
      case 64 -> new int[] {64, 192, 1088};
      case 128 -> new int[] {128, 384};
      default -> new int[] {256, 768};
    };
  }

  private StoredMatrix matrix(WeightFormat format, int columns) {
    long bytes = format.bytes(columns);
    var data = Arena.ofAuto().allocate(ROWS * bytes, 1);
    for (int r = 0; r < ROWS; r++) {
      float[] numbers = gaussian(columns, Math.scalb(1.0, r - 3));
      if (format.isMade()) {
        format.quantize(numbers, 0, columns, data, r * bytes);
        continue;
      }
      for (long b = 0; b < bytes; b += format.blockBytes()) { // any bits, but for NaN
        var block = data.asSlice(r * bytes + b, format.blockBytes());
        for (long i = 4; i < block.byteSize(); i++) {
          int bits = random.nextInt(256);
          block.set(ValueLayout.JAVA_BYTE, i, (byte) ((bits & 0x7F) == 0x7F ? 0x80 : bits));
        }
        block.set(WeightBlocks.FLOAT, 0, numbers[(int) (b / format.blockBytes())]);
      }
    }
    return new StoredMatrix(format, data, ROWS, columns);
  }

  private static float[] product(
      Kernels kernels, StoredMatrix w, float[] x, int inputs, long... cuts) {
    var y = Arena.ofAuto().allocate(inputs * w.rows() * 4, 4);
    var from = Arena.ofAuto().allocate((long) x.length * 4, 4);
    MemorySegment.copy(x, 0, from, ValueLayout.JAVA_FLOAT, 0, x.length);
    long first = 0;
    for (long cut : cuts) {
      kernels.storedProduct(w, from, inputs, y, w.rows(), first, cut);
      first = cut;
    }
    kernels.storedProduct(w, from, inputs, y, w.rows(), first, w.rows());
    return y.toArray(ValueLayout.JAVA_FLOAT);
  }

  private static float[] numbers(Kernels kernels, StoredMatrix w) {
    var out = Arena.ofAuto().allocate(w.rows() * w.columns() * 4, 4);
    kernels.dequantize(w, 0, w.rows(), Floats.float32(out));
    return out.toArray(ValueLayout.JAVA_FLOAT);
  }

  @ParameterizedTest
  @EnumSource(
      names = {
        "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "I4_32", "I4_64", "I4_128", "E4M3"
      },
      mode = Mode.INCLUDE)
  void areTheDefinitionsNumbersToTheBit(WeightFormat format) {
    for (int columns : widths(format)) {
      var w = matrix(format, columns);
      assertArrayEquals(
          numbers(DEFINITION, w), numbers(KernelNumbers.VECTOR, w), format + " of " + columns);
    }
  }

  @ParameterizedTest
  @EnumSource(
      names = {
        "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "I4_32", "I4_64", "I4_128", "E4M3"
      },
      mode = Mode.INCLUDE)
  void productsAreTheDefinitionsAndDoNotDependOnTheirCompany(WeightFormat format) {
    for (int columns : widths(format)) {
      var w = matrix(format, columns);
      float[] x = gaussian(8 * columns, 1);
      float[] weights = numbers(DEFINITION, w);
      float[] expected = product(DEFINITION, w, x, 8);
      float[] together = product(KernelNumbers.VECTOR, w, x, 8);
      for (int i = 0; i < 8; i++) {
        float[] alone =
            product(
                KernelNumbers.VECTOR,
                w,
                Arrays.copyOfRange(x, i * columns, (i + 1) * columns),
                1,
                2);
        for (int r = 0; r < ROWS; r++) {
          double size = 0;
          for (int c = 0; c < columns; c++) {
            size += Math.abs((double) weights[r * columns + c] * x[i * columns + c]);
          }
          int at = i * ROWS + r;
          assertEquals(expected[at], together[at], 2e-6 * size, format + " of " + columns);
          assertEquals(together[at], alone[r], 0, format + " of " + columns);
        }
      }
    }
  }

  @Test
  void rowsMayStandInGroups() {
    float[] all = gaussian(8 * 6, 1); // two groups of two rows, each followed by two others
    var data = Arena.ofAuto().allocate(8 * 6 * 4, 4);
    MemorySegment.copy(all, 0, data, ValueLayout.JAVA_FLOAT, 0, all.length);
    var w = new StoredMatrix(WeightFormat.F32, data, 4, 6, 2, 4 * 6 * 4);
    float[] found = numbers(KernelNumbers.VECTOR, w);
    for (int r = 0; r < 4; r++) {
      for (int c = 0; c < 6; c++) {
        assertEquals(all[(r / 2 * 4 + r % 2) * 6 + c], found[r * 6 + c]);
      }
    }
  }

  @Test
  void refusesRowsBeyondItsMemory() {
    var data = Arena.ofAuto().allocate(100);
    assertThrows(
        IllegalArgumentException.class, () -> new StoredMatrix(WeightFormat.F32, data, 5, 6));
    assertThrows(
        IllegalArgumentException.class, () -> new StoredMatrix(WeightFormat.Q8_0, data, 2, 33));
    assertThrows(
        IllegalArgumentException.class,
        () -> new StoredMatrix(WeightFormat.F32, data, 4, 6, 2, 60));
  }

  private static Floats kept(float[] numbers, boolean bfloat16) {
    var kept = new Floats(Arena.ofAuto().allocate(numbers.length * 4L, 4), bfloat16);
    for (int i = 0; i < numbers.length; i++) {
      kept.set(i, numbers[i]);
    }
    return kept;
  }

  @Test
  void oneTokensAttentionIsTheDefinitions() {
    for (int[] sizes :
        new int[][] {{1, 1, 1}, {63, 2, 16}, {64, 1, 20}, {65, 3, 7}, {200, 4, 64}}) {
      int count = sizes[0];
      int group = sizes[1];
      int width = sizes[2];
      var q = memory(gaussian(group * width, 2));
      float[] keys = gaussian(count * width, 2);
      float[] values = gaussian(count * width, 1);
      for (boolean bfloat16 : new boolean[] {false, true}) {
        var k = kept(keys, bfloat16);
        var v = kept(values, bfloat16);
        float[][] results = new float[4][];
        int at = 0;
        for (var kernels : new Kernels[] {DEFINITION, KernelNumbers.VECTOR}) {
          var y = Arena.ofAuto().allocate((long) group * width * 4, 4);
          var sums = Arena.ofAuto().allocate(group * 4L, 4);
          kernels.oneTokenAttention(q, k, v, count, group, width, 0.3, y, sums);
          results[at++] = y.toArray(ValueLayout.JAVA_FLOAT);
          results[at++] = sums.toArray(ValueLayout.JAVA_FLOAT);
        }
        assertArrayEquals(results[0], results[2], 2e-5f, count + " keys");
        assertArrayEquals(results[1], results[3], 2e-5f, count + " keys");
      }
    }
  }

  private static MemorySegment memory(float[] numbers) {
    var memory = Arena.ofAuto().allocate((long) numbers.length * 4, 4);
    MemorySegment.copy(numbers, 0, memory, ValueLayout.JAVA_FLOAT, 0, numbers.length);
    return memory;
  }

  /// Strips have the numbers of their rows, whichever of them are asked for, and also where they
  /// take the rows' own place or come from groups that stand apart.
  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void stripsHaveTheNumbersOfTheirRows(WeightFormat format) {
    int rows = 64;
    int columns = 768;
    long rowBytes = format.bytes(columns);
    byte[] bytes = new byte[(int) (rows * rowBytes)];
    random.nextBytes(bytes);
    var data = Arena.ofAuto().allocate(bytes.length, 1).copyFrom(MemorySegment.ofArray(bytes));
    var whole = new StoredMatrix(format, data, rows, columns);
    var out = Arena.ofAuto().allocate(rows * columns * 4L, 4);
    DEFINITION.dequantize(whole, 0, rows, Floats.float32(out));
    int[] expected = out.toArray(ValueLayout.JAVA_INT);

    var apart = Arena.ofAuto().allocate(2L * bytes.length, 1);
    for (int group = 0; group < 2; group++) { // of 32 rows, as many bytes of something else between
      long half = bytes.length / 2;
      MemorySegment.copy(data, group * half, apart, group * 2 * half, half);
    }
    var groups = new StoredMatrix(format, apart, rows, columns, 32, bytes.length);
    var strips =
        List.of(
            whole.packed(Arena.ofAuto().allocate(bytes.length, 1)),
            groups.packed(Arena.ofAuto().allocate(bytes.length, 1)),
            whole.packed(data)); // the last, as it writes over the rows
    for (var each : strips) {
      for (int[] range : new int[][] {{0, 64}, {0, 1}, {15, 17}, {17, 31}, {33, 64}, {63, 64}}) {
        var some = Arena.ofAuto().allocate((range[1] - range[0]) * columns * 4L, 4);
        for (var kernels : List.of(DEFINITION, KernelNumbers.VECTOR)) {
          kernels.dequantize(each, range[0], range[1], Floats.float32(some));
          assertArrayEquals(
              Arrays.copyOfRange(expected, range[0] * columns, range[1] * columns),
              some.toArray(ValueLayout.JAVA_INT));
        }
      }
    }
  }

  @Test
  void onlyWholeStripsArePacked() {
    var format = WeightFormat.Q8_0;
    var data = Arena.ofAuto().allocate(format.bytes(64 * 384), 1);
    for (var no :
        List.of(
            new StoredMatrix(format, data, 40, 384),
            new StoredMatrix(format, data, 64, 96),
            new StoredMatrix(format, data, 32, 384, 8, format.bytes(8 * 384)),
            new StoredMatrix(WeightFormat.Q5_0, data, 64, 384))) {
      assertFalse(no.isToBePacked());
    }
    assertThrows(
        IllegalArgumentException.class,
        () -> new StoredMatrix(format, data, 64, 384).packed(data.asSlice(1)));
    assertEquals(
        MachineProducts.here() != null, new StoredMatrix(format, data, 64, 384).isToBePacked());
  }
}
