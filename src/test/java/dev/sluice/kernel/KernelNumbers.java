package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Supplier;
import java.util.zip.CRC32;

/// Numbers in memory for kernels under test: NaN wherever a kernel has not written, and nothing to
/// be written around them.
final class KernelNumbers {
  /// Elements before and after each tensor that nobody may touch.
  static final int PAD = 5;

  static final Kernels SCALAR = new ScalarKernels();
  static final Kernels VECTOR = new VectorKernels();

  /// Those that are not the definition; the last are machine code where the machine has it.
  static final List<Kernels> FAST = List.of(VECTOR, Kernels.FASTEST);

  static final List<Kernels> ALL = List.of(SCALAR, VECTOR, Kernels.FASTEST);

  private KernelNumbers() {}

  interface Values {
    float at(int i);
  }

  static Floats fill(Floats floats, Values values) {
    for (int i = 0; i < floats.length(); i++) {
      floats.set(i, values.at(i));
    }
    return floats;
  }

  /// Memory full of NaN, with [#PAD] more elements on both sides.
  static Floats poisoned(Arena arena, long elements, boolean bfloat16) {
    int size = bfloat16 ? 2 : 4;
    var memory = arena.allocate((elements + 2 * PAD) * size);
    memory.fill((byte) 0xFF);
    return new Floats(memory.asSlice((long) PAD * size, elements * size), bfloat16);
  }

  /// Normally distributed numbers with NaN around them.
  static Floats gaussian(Arena arena, SplittableRandom random, long elements, boolean bfloat16) {
    return fill(poisoned(arena, elements, bfloat16), _ -> (float) random.nextGaussian());
  }

  /// All bytes of a poisoned tensor with its padding.
  static byte[] withPadding(Floats floats) {
    int size = floats.bfloat16() ? 2 : 4;
    long start = floats.memory().address() - (long) PAD * size;
    long bytes = floats.memory().byteSize() + 2L * PAD * size;
    return reinterpreted(start, bytes).toArray(ValueLayout.JAVA_BYTE);
  }

  @SuppressWarnings("restricted")
  private static MemorySegment reinterpreted(long address, long bytes) {
    return MemorySegment.ofAddress(address).reinterpret(bytes);
  }

  /// The elements' bytes, with one NaN for all: Java does not say which one an operation gives, and
  /// compiled code gives others than interpreted code.
  static byte[] bytes(Floats floats) {
    byte[] bytes = floats.memory().toArray(ValueLayout.JAVA_BYTE);
    int size = floats.bfloat16() ? 2 : 4;
    for (int i = 0; i < floats.length(); i++) {
      if (Float.isNaN(floats.get(i))) {
        Arrays.fill(bytes, i * size, (i + 1) * size, (byte) 0xFF);
      }
    }
    return bytes;
  }

  static String crc(byte[] bytes) {
    var crc = new CRC32();
    crc.update(bytes);
    return Long.toHexString(crc.getValue());
  }

  static double sigmoid(double z) {
    return 1 / (1 + Math.exp(-z));
  }

  /// @param terms the magnitudes of what the number is summed from
  /// @param rounding what rounding to the stored type may change, relative to the number
  static void assertClose(
      double expected, double actual, double terms, double rounding, Supplier<String> what) {
    double tolerance = 4 * 0x1p-23 * terms + rounding * Math.abs(expected) + 16 * Float.MIN_NORMAL;
    double stored = Math.abs(expected) > Float.MAX_VALUE ? (float) expected : expected;
    assertTrue(
        stored == actual
            || Math.abs(expected - actual) <= tolerance
            || (Double.isNaN(expected) && Double.isNaN(actual)),
        () -> what.get() + ": expected " + expected + " but was " + actual + " ± " + tolerance);
  }

  /// `part` has the bits of `whole` within the range and the poison outside.
  static void assertRange(Floats whole, Floats part, long from, long to, String what) {
    int size = whole.bfloat16() ? 2 : 4;
    byte[] expected = bytes(whole);
    byte[] inside = bytes(part);
    byte[] all = withPadding(part);
    for (int i = 0; i < all.length; i++) {
      int element = Math.floorDiv(i, size) - PAD;
      boolean written = element >= from && element < to;
      int at = i - PAD * size;
      byte right = written ? expected[at] : (byte) 0xFF;
      byte actual = written ? inside[at] : all[i];
      if (right != actual) {
        assertEquals(right, actual, what + ", a byte of element " + element);
      }
    }
  }

  /// Nothing around the tensor was written.
  static void assertPaddingUntouched(Floats floats, String what) {
    assertRange(floats, floats, 0, floats.length(), what);
  }
}
