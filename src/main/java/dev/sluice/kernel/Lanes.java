package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// What the vector kernels have in common: rows of numbers are brought into float arrays, padded to
/// whole vectors, worked on there, and written back. So a kernel's loops see one element type, need
/// no masks, and stay small enough for the compiler to keep vectors in registers; the arrays stay
/// in the innermost cache.
///
/// Only operations whose every bit Java defines: `lanewise(EXP)` and `reduceLanes(ADD)` give other
/// last bits in compiled code than in interpreted code, so that a run would depend on when the
/// compiler steps in.
///
/// Species are constants: a species computed at run time costs a factor of 30.
final class Lanes {
  static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;
  static final int LANES = F.length();

  /// Elements that are worked on at a time where there are no rows.
  static final int CHUNK = 1024;

  private static final VectorSpecies<Integer> I = IntVector.SPECIES_PREFERRED;

  /// As many 2-byte lanes as F has 4-byte ones.
  private static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
  private static final float ROUNDER = 12_582_912f;

  private static final int ROUNDER_BITS = Float.floatToRawIntBits(ROUNDER);

  private static final FloatVector ONE = FloatVector.broadcast(F, 1f);
  private static final FloatVector ROUNDERS = FloatVector.broadcast(F, ROUNDER);
  private static final FloatVector LOG2_E = FloatVector.broadcast(F, 1.442695f);
  private static final FloatVector MINUS_LN_2_HIGH = FloatVector.broadcast(F, -0x1.63p-1f);
  private static final FloatVector MINUS_LN_2_LOW = FloatVector.broadcast(F, 2.1219444e-4f);
  private static final FloatVector C_7 = FloatVector.broadcast(F, 1.9875691e-4f);
  private static final FloatVector C_6 = FloatVector.broadcast(F, 1.3981999e-3f);
  private static final FloatVector C_5 = FloatVector.broadcast(F, 8.333452e-3f);
  private static final FloatVector C_4 = FloatVector.broadcast(F, 4.1665796e-2f);
  private static final FloatVector C_3 = FloatVector.broadcast(F, 0.16666666f);
  private static final FloatVector C_2 = FloatVector.broadcast(F, 0.5f);

  private Lanes() {}

  /// An array of at least `count` elements, whole vectors of them.
  static float[] array(int count) {
    return new float[padded(count)];
  }

  /// `count` rounded up to whole vectors.
  static int padded(int count) {
    return (count + LANES - 1) / LANES * LANES;
  }

  static FloatVector at(float[] array, int i) {
    return FloatVector.fromArray(F, array, i);
  }

  /// Float32 numbers in memory, from element i on.
  static FloatVector at(MemorySegment floats, long i) {
    return FloatVector.fromMemorySegment(F, floats, i * 4, ORDER);
  }

  // ---------------------------------------------------------------- memory to arrays and back

  /// Brings `count` numbers from `start` on into `to`; the padding becomes zero.
  static void read(Floats floats, long start, float[] to, int count) {
    if (floats.bfloat16()) {
      readBfloat16(floats.memory(), start, to, count);
    } else {
      MemorySegment.copy(
          floats.memory(), ValueLayout.JAVA_FLOAT_UNALIGNED, start * 4, to, 0, count);
    }
    Arrays.fill(to, count, padded(count), 0);
  }

  private static void readBfloat16(MemorySegment memory, long start, float[] to, int count) {
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      ShortVector.fromMemorySegment(S, memory, (start + i) * 2, ORDER)
          .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)
          .reinterpretAsInts()
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats()
          .intoArray(to, i);
    }
    for (; i < count; i++) {
      to[i] = Floats.widen(memory.get(ValueLayout.JAVA_SHORT_UNALIGNED, (start + i) * 2));
    }
  }

  /// Writes `count` numbers to `start` and after, rounded to nearest where they are bfloat16.
  static void write(float[] from, Floats floats, long start, int count) {
    if (floats.bfloat16()) {
      writeBfloat16(from, floats.memory(), start, count);
    } else {
      MemorySegment.copy(
          from, 0, floats.memory(), ValueLayout.JAVA_FLOAT_UNALIGNED, start * 4, count);
    }
  }

  private static void writeBfloat16(float[] from, MemorySegment memory, long start, int count) {
    int i = 0;
    for (; i <= count - LANES; i += LANES) {
      round(at(from, i)).intoMemorySegment(memory, (start + i) * 2, ORDER);
    }
    for (; i < count; i++) {
      memory.set(ValueLayout.JAVA_SHORT_UNALIGNED, (start + i) * 2, Floats.round(from[i]));
    }
  }

  private static ShortVector round(FloatVector value) {
    var bits = value.reinterpretAsInts();
    var odd = bits.lanewise(VectorOperators.LSHR, 16).and(1);
    var rounded = bits.add(odd).add(0x7FFF);
    VectorMask<Integer> notANumber = value.test(VectorOperators.IS_NAN).cast(I);
    return (ShortVector)
        rounded
            .blend(bits.or(0x40_0000), notANumber)
            .lanewise(VectorOperators.LSHR, 16)
            .convertShape(VectorOperators.I2S, S, 0);
  }

  /// Writes zeros.
  static void clear(Floats floats, long start, long count) {
    long bytes = floats.bfloat16() ? 2 : 4;
    floats.memory().asSlice(start * bytes, count * bytes).fill((byte) 0);
  }

  // ---------------------------------------------------------------- arithmetic

  /// The sum of an array of whole vectors, in a fixed order.
  static float sum(float[] array, int padded) {
    var sum = FloatVector.zero(F);
    for (int i = 0; i < padded; i += LANES) {
      sum = sum.add(at(array, i));
    }
    return sum(sum);
  }

  /// `Σ a[i] b[i]` over whole vectors, in a fixed order.
  static float dot(float[] a, float[] b, int padded) {
    var sum = FloatVector.zero(F);
    for (int i = 0; i < padded; i += LANES) {
      sum = at(a, i).fma(at(b, i), sum);
    }
    return sum(sum);
  }

  /// The sum of the lanes, upper half onto lower half until one is left.
  static float sum(FloatVector vector) {
    float[] lanes = vector.toArray();
    for (int half = LANES / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; j++) {
        lanes[j] += lanes[j + half];
      }
    }
    return lanes[0];
  }

  /// σ(z) = 1 / (1 + e⁻ᶻ) for z ≥ 0 and eᶻ / (1 + eᶻ) below: nothing overflows, σ(−∞) is zero.
  static FloatVector sigmoid(FloatVector z) {
    var small = exp(z.abs().neg());
    var numerator = small.blend(1f, z.compare(VectorOperators.GE, 0f));
    return numerator.mul(ONE.div(small.add(1f)));
  }

  /// `eˣ` for x ≤ 0 within 2 ulp, and zero instead of a subnormal number: with x = n ln 2 + r and
  /// |r| ≤ ½ ln 2 it is 2ⁿ · eʳ, and eʳ is the polynomial of the Cephes library's `expf`.
  static FloatVector exp(FloatVector nonPositive) {
    var x = nonPositive.max(-104f); // NaN stays NaN
    var shifted = x.fma(LOG2_E, ROUNDERS);
    var n = shifted.sub(ROUNDERS);
    var r = n.fma(MINUS_LN_2_LOW, n.fma(MINUS_LN_2_HIGH, x));
    var tail =
        r.fma(C_7, C_6).fma(r, C_5).fma(r, C_4).fma(r, C_3).fma(r, C_2).fma(r.mul(r), r).add(1f);
    var exponent = shifted.reinterpretAsInts().sub(ROUNDER_BITS - 127).max(0);
    return tail.mul(exponent.lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats());
  }
}
