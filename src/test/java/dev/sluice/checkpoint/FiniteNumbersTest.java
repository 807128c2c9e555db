package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.tensor.ElementType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class FiniteNumbersTest {
  /// The bit patterns next to the bound, by type: the largest finite one of either sign, then NaN
  /// and infinities.
  private static long[][] patterns(ElementType type) {
    return switch (type) {
      case FLOAT16 -> new long[][] {{0x7BFF, 0xFBFF, 0x0001}, {0x7C00, 0xFC00, 0x7C01, 0xFFFF}};
      case BFLOAT16 -> new long[][] {{0x7F7F, 0xFF7F, 0x0001}, {0x7F80, 0xFF80, 0x7F81, 0xFFFF}};
      case FLOAT32 ->
          new long[][] {
            {0x7F7FFFFFL, 0xFF7FFFFFL, 1}, {0x7F800000L, 0xFF800000L, 0x7F800001L, 0xFFFFFFFFL}
          };
      case FLOAT64 ->
          new long[][] {
            {0x7FEFFFFFFFFFFFFFL, 0xFFEFFFFFFFFFFFFFL, 1},
            {0x7FF0000000000000L, 0xFFF0000000000000L, 0x7FF0000000000001L, -1}
          };
      case INT64, INT32, UINT8, BOOL -> new long[][] {{-1, 1, 0x7F}, {}};
    };
  }

  private static void set(MemorySegment data, ElementType type, long index, long pattern) {
    for (int i = 0; i < type.bytes(); i++) {
      data.set(ValueLayout.JAVA_BYTE, index * type.bytes() + i, (byte) (pattern >>> 8 * i));
    }
  }

  @ParameterizedTest
  @EnumSource(ElementType.class)
  void findsTheFirstWhereverItIs(ElementType type) {
    long[][] patterns = patterns(type);
    try (var arena = Arena.ofConfined()) {
      for (int length : new int[] {0, 1, 2, 3, 7, 8, 63, 65, 40_001}) {
        // not aligned, as a file's data may be
        var data =
            arena
                .allocate((long) length * type.bytes() + 1)
                .asSlice(1, (long) length * type.bytes());
        for (int i = 0; i < length; i++) {
          set(data, type, i, patterns[0][i % patterns[0].length]);
        }
        assertEquals(-1, FiniteNumbers.firstOther(data, type));
        var random = new Random(length);
        for (long pattern : length == 0 ? new long[0] : patterns[1]) {
          for (int at : new int[] {0, length - 1, random.nextInt(length)}) {
            set(data, type, at, pattern);
            assertEquals(at, FiniteNumbers.firstOther(data, type), type + " of " + length);
            set(data, type, length - 1, pattern); // one more behind it
            assertEquals(at, FiniteNumbers.firstOther(data, type), type + " of " + length);
            set(data, type, at, patterns[0][0]);
            set(data, type, length - 1, patterns[0][0]);
          }
        }
      }
    }
  }

  /// Also where several threads look.
  @Test
  void severalThreadsFindTheFirst() {
    try (var arena = Arena.ofShared()) {
      long length = 3_000_001;
      var data = arena.allocate(length * 2);
      for (long at : new long[] {length - 1, 2_000_000, 1_600_001, 3}) {
        set(data, ElementType.BFLOAT16, at, 0x7F80);
        assertEquals(at, FiniteNumbers.firstOther(data, ElementType.BFLOAT16));
      }
    }
  }

  /// Every number keeps its value; float64 is rounded as a cast does.
  @ParameterizedTest
  @EnumSource(
      value = ElementType.class,
      names = {"FLOAT16", "BFLOAT16", "FLOAT32", "FLOAT64"})
  void copiesKeepTheValues(ElementType type) {
    try (var arena = Arena.ofShared()) {
      int length = 600_007; // more than one thread's
      var random = new Random(5);
      var from =
          arena.allocate((long) length * type.bytes() + 1).asSlice(1, (long) length * type.bytes());
      var to = arena.allocate(4L * length);
      float[] expected = new float[length];
      for (int i = 0; i < length; i++) {
        short half = (short) random.nextInt();
        float single = (float) random.nextGaussian();
        double wide = random.nextGaussian() * Math.pow(10, random.nextInt(80) - 40);
        switch (type) {
          case FLOAT16 -> {
            set(from, type, i, half);
            expected[i] = Float.float16ToFloat(half);
          }
          case BFLOAT16 -> {
            set(from, type, i, half);
            expected[i] = Float.intBitsToFloat(half << 16);
          }
          case FLOAT32 -> {
            set(from, type, i, Float.floatToRawIntBits(single));
            expected[i] = single;
          }
          case FLOAT64 -> {
            set(from, type, i, Double.doubleToRawLongBits(wide));
            expected[i] = (float) wide;
          }
          case INT64, INT32, UINT8, BOOL -> throw new AssertionError(type);
        }
      }
      Float32Copy.copy(from, type, to);
      for (int i = 0; i < length; i++) {
        // numbers, not bits: a conversion may quieten a NaN
        assertEquals(expected[i], to.getAtIndex(ValueLayout.JAVA_FLOAT, i));
      }
      assertThrows(
          IllegalArgumentException.class,
          () -> Float32Copy.copy(from.asSlice(type.bytes()), type, to));
    }
  }
}
