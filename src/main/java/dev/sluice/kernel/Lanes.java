package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// What the vector kernels have in common: rows of numbers are brought into float arrays, padded to
/// whole vectors, worked on there, and written back. So a kernel's loops see one element type and
/// need no masks; the arrays stay in the innermost cache.
///
/// Only operations whose every bit Java defines: `lanewise(EXP)` and `reduceLanes(ADD)` give other
/// last bits in compiled code than in interpreted code, so that a run would depend on when the
/// compiler steps in.
///
/// The compiler (C2) must turn every vector operation into an instruction; one that stays a call
/// costs as much as a hundred. What that takes:
///
/// - Once a method has become large for the compiler, it no longer inlines our own methods, while
///   those of the Vector API go on being inlined. So a loop calls ours ([#at], [#exp]) first, and
///   only the API's after [#exp]; and [#read] and [#write] are long enough (more than 325 bytes of
///   code) never to be inlined themselves.
/// - A variable that a loop changes starts from a vector made there (`all(0)`), not from a constant
///   object.
/// - Species are constants; numbers are broadcast where they are used, as a vector loaded from a
///   constant object is not aligned.
/// - Maxima are comparisons with a blend, as Java's maximum, which tells −0 from 0, takes six
///   instructions.
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

  private static final int ONE_BITS = Float.floatToRawIntBits(1f);

  /// ln 2⁻¹²⁶
  private static final float LOWEST = -87.33654f;

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

  static FloatVector all(float value) {
    return FloatVector.broadcast(F, value);
  }

  // ---------------------------------------------------------------- memory to arrays and back

  /// Brings `count` numbers from `start` on into `to`; the padding becomes zero.
  static void read(Floats floats, long start, float[] to, int count) {
    var memory = floats.memory();
    int i = 0;
    if (floats.bfloat16()) {
      for (; i <= count - 2 * LANES; i += 2 * LANES) {
        long at = (start + i) * 2;
        var a = ShortVector.fromMemorySegment(S, memory, at, ORDER);
        var b = ShortVector.fromMemorySegment(S, memory, at + 2L * LANES, ORDER);
        widen(a).intoArray(to, i);
        widen(b).intoArray(to, i + LANES);
      }
      for (; i <= count - LANES; i += LANES) {
        widen(ShortVector.fromMemorySegment(S, memory, (start + i) * 2, ORDER)).intoArray(to, i);
      }
      for (; i < count; i++) {
        to[i] = Floats.widen(memory.get(ValueLayout.JAVA_SHORT_UNALIGNED, (start + i) * 2));
      }
    } else {
      for (; i <= count - 4 * LANES; i += 4 * LANES) {
        long at = (start + i) * 4;
        var a = FloatVector.fromMemorySegment(F, memory, at, ORDER);
        var b = FloatVector.fromMemorySegment(F, memory, at + 4L * LANES, ORDER);
        var c = FloatVector.fromMemorySegment(F, memory, at + 8L * LANES, ORDER);
        var d = FloatVector.fromMemorySegment(F, memory, at + 12L * LANES, ORDER);
        a.intoArray(to, i);
        b.intoArray(to, i + LANES);
        c.intoArray(to, i + 2 * LANES);
        d.intoArray(to, i + 3 * LANES);
      }
      for (; i <= count - LANES; i += LANES) {
        FloatVector.fromMemorySegment(F, memory, (start + i) * 4, ORDER).intoArray(to, i);
      }
      for (; i < count; i++) {
        to[i] = memory.get(ValueLayout.JAVA_FLOAT_UNALIGNED, (start + i) * 4);
      }
    }
    for (; i < padded(count); i++) {
      to[i] = 0;
    }
  }

  private static FloatVector widen(ShortVector bits) {
    return bits.convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)
        .reinterpretAsInts()
        .lanewise(VectorOperators.LSHL, 16)
        .reinterpretAsFloats();
  }

  /// Writes `count` numbers to `start` and after, rounded to nearest where they are bfloat16.
  static void write(float[] from, Floats floats, long start, int count) {
    var memory = floats.memory();
    int i = 0;
    if (floats.bfloat16()) {
      for (; i <= count - LANES; i += LANES) {
        round(at(from, i)).intoMemorySegment(memory, (start + i) * 2, ORDER);
      }
      for (; i < count; i++) {
        memory.set(ValueLayout.JAVA_SHORT_UNALIGNED, (start + i) * 2, Floats.round(from[i]));
      }
    } else {
      for (; i <= count - 8 * LANES; i += 8 * LANES) {
        long at = (start + i) * 4;
        at(from, i).intoMemorySegment(memory, at, ORDER);
        at(from, i + LANES).intoMemorySegment(memory, at + 4L * LANES, ORDER);
        at(from, i + 2 * LANES).intoMemorySegment(memory, at + 8L * LANES, ORDER);
        at(from, i + 3 * LANES).intoMemorySegment(memory, at + 12L * LANES, ORDER);
        at(from, i + 4 * LANES).intoMemorySegment(memory, at + 16L * LANES, ORDER);
        at(from, i + 5 * LANES).intoMemorySegment(memory, at + 20L * LANES, ORDER);
        at(from, i + 6 * LANES).intoMemorySegment(memory, at + 24L * LANES, ORDER);
        at(from, i + 7 * LANES).intoMemorySegment(memory, at + 28L * LANES, ORDER);
      }
      for (; i <= count - LANES; i += LANES) {
        at(from, i).intoMemorySegment(memory, (start + i) * 4, ORDER);
      }
      for (; i < count; i++) {
        memory.set(ValueLayout.JAVA_FLOAT_UNALIGNED, (start + i) * 4, from[i]);
      }
    }
  }

  private static ShortVector round(FloatVector value) {
    var bits = value.reinterpretAsInts();
    var odd = bits.lanewise(VectorOperators.LSHR, 16).and(1);
    var notANumber = value.compare(VectorOperators.NE, value).cast(I);
    return (ShortVector)
        bits.add(odd)
            .add(0x7FFF)
            .blend(bits.or(0x40_0000), notANumber)
            .lanewise(VectorOperators.LSHR, 16)
            .convertShape(VectorOperators.I2S, S, 0);
  }

  /// Writes zeros.
  static void clear(Floats floats, long start, long count) {
    if (count > 0) { // to find out costs less than a fill of nothing
      long bytes = floats.bfloat16() ? 2 : 4;
      floats.memory().asSlice(start * bytes, count * bytes).fill((byte) 0);
    }
  }

  // ---------------------------------------------------------------- arithmetic

  /// `Σ a[start + i] b[start + i]` over whole vectors, in a fixed order.
  ///
  /// @param lanes one vector to work in
  static float dot(float[] a, float[] b, int start, int padded, float[] lanes) {
    var sum = all(0);
    for (int i = start; i < start + padded; i += LANES) {
      sum = at(a, i).fma(at(b, i), sum);
    }
    return sum(sum, lanes);
  }

  /// The sum of the lanes, in a fixed order.
  ///
  /// @param lanes one vector to work in
  static float sum(FloatVector vector, float[] lanes) {
    vector.intoArray(lanes, 0);
    float sum = 0;
    for (int i = 0; i < LANES; i += 4) {
      sum += (lanes[i] + lanes[i + 1]) + (lanes[i + 2] + lanes[i + 3]);
    }
    return sum;
  }

  /// `eˣ` for x ≤ 0 within 2 ulp, and zero instead of a subnormal number: with x = n ln 2 + r and
  /// |r| ≤ ½ ln 2 it is 2ⁿ · eʳ, and eʳ is the polynomial of the Cephes library's `expf`.
  static FloatVector exp(FloatVector x) {
    var rounder = FloatVector.broadcast(F, ROUNDER);
    var one = FloatVector.broadcast(F, 1f);
    var shifted = x.fma(FloatVector.broadcast(F, 1.442695f), rounder);
    var n = shifted.sub(rounder);
    var high = n.fma(FloatVector.broadcast(F, -0x1.63p-1f), x);
    var r = n.fma(FloatVector.broadcast(F, 2.1219444e-4f), high);
    var tail =
        r.fma(FloatVector.broadcast(F, 1.9875691e-4f), FloatVector.broadcast(F, 1.3981999e-3f))
            .fma(r, FloatVector.broadcast(F, 8.333452e-3f))
            .fma(r, FloatVector.broadcast(F, 4.1665796e-2f))
            .fma(r, FloatVector.broadcast(F, 0.16666666f))
            .fma(r, FloatVector.broadcast(F, 0.5f));
    var power = shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23).add(ONE_BITS);
    return tail.fma(r.mul(r), r)
        .add(one)
        .mul(power.reinterpretAsFloats())
        .blend(0f, x.compare(VectorOperators.LT, LOWEST)); // NaN is not less
  }

  /// σ(z) = 1 / (1 + e⁻ᶻ) for z ≥ 0 and eᶻ / (1 + eᶻ) below: nothing overflows, σ(−∞) is zero.
  static FloatVector sigmoid(FloatVector z) {
    var small = exp(z.abs().neg());
    var one = FloatVector.broadcast(F, 1f);
    return small.blend(one, z.compare(VectorOperators.GE, 0f)).mul(one.div(small.add(one)));
  }
}
