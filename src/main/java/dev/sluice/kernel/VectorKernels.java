package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// The kernels with the Vector API. Only tails use masks, which cost several times the arithmetic;
/// every element is computed alike, in a tail or not.
///
/// Only operations whose every bit Java defines: `lanewise(EXP)` and `reduceLanes(ADD)` give other
/// last bits in compiled code than in interpreted code, so that a run would depend on when the
/// compiler steps in.
///
/// Species are constants: a species computed at run time costs a factor of 30.
public final class VectorKernels implements Kernels {
  private static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;
  private static final VectorSpecies<Integer> I = IntVector.SPECIES_PREFERRED;

  /// As many 2-byte lanes as F has 4-byte ones.
  private static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final int LANES = F.length();

  /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
  private static final float ROUNDER = 12_582_912f;

  private static final int ROUNDER_BITS = Float.floatToRawIntBits(ROUNDER);

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

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    if (width == 1) {
      elements(y, z, out, from, to);
    } else {
      rows(y, z, out, width, from, to);
    }
  }

  private static void elements(Floats y, Floats z, Floats out, long from, long to) {
    long i = from;
    for (; i <= to - LANES; i += LANES) {
      store(out, i, load(y, i).mul(sigmoid(load(z, i))));
    }
    if (i < to) {
      lastElements(y, z, out, i, to);
    }
  }

  private static void lastElements(Floats y, Floats z, Floats out, long i, long to) {
    var mask = F.indexInRange(i, to);
    store(out, i, mask, load(y, i, mask).mul(sigmoid(load(z, i, mask))));
  }

  private static void rows(Floats y, Floats z, Floats out, int width, long from, long to) {
    for (long r = from; r < to; r++) {
      float score = ScalarKernels.sigmoid(z.get(r));
      long end = (r + 1) * width;
      long i = r * width;
      for (; i <= end - LANES; i += LANES) {
        store(out, i, load(y, i).mul(score));
      }
      if (i < end) {
        var mask = F.indexInRange(i, end);
        store(out, i, mask, load(y, i, mask).mul(score));
      }
    }
  }

  @Override
  public void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    if (width == 1) {
      elementsBackward(dOut, y, z, dy, dz, from, to);
    } else {
      rowsBackward(dOut, y, z, dy, dz, width, from, to);
    }
  }

  private static void elementsBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, long from, long to) {
    // Two loops: what both need together is more than the compiler inlines into one.
    elements(dOut, z, dy, from, to); // out = y · σ(z)
    long i = from;
    for (; i <= to - LANES; i += LANES) {
      store(dz, i, load(dOut, i).mul(load(y, i)).mul(slope(load(z, i))));
    }
    if (i < to) {
      lastSlopes(dOut, y, z, dz, i, to);
    }
  }

  private static void lastSlopes(Floats dOut, Floats y, Floats z, Floats dz, long i, long to) {
    var mask = F.indexInRange(i, to);
    var product = load(dOut, i, mask).mul(load(y, i, mask));
    store(dz, i, mask, product.mul(slope(load(z, i, mask))));
  }

  private static void rowsBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    float[] lanes = new float[LANES];
    for (long r = from; r < to; r++) {
      float score = ScalarKernels.sigmoid(z.get(r));
      var sum = FloatVector.zero(F);
      long end = (r + 1) * width;
      long i = r * width;
      for (; i <= end - LANES; i += LANES) {
        var d = load(dOut, i);
        store(dy, i, d.mul(score));
        sum = d.fma(load(y, i), sum);
      }
      if (i < end) {
        var mask = F.indexInRange(i, end);
        var d = load(dOut, i, mask);
        store(dy, i, mask, d.mul(score));
        sum = d.fma(load(y, i, mask), sum);
      }
      dz.set(r, sum(sum, lanes) * score * ScalarKernels.sigmoid(-z.get(r)));
    }
  }

  @Override
  public void adamW(
      MemorySegment parameter,
      MemorySegment gradient,
      MemorySegment firstMoment,
      MemorySegment secondMoment,
      AdamWStep step,
      long from,
      long to) {
    float keep = (float) (1 - step.learningRate() * step.weightDecay());
    float rate = (float) (step.learningRate() / step.correction1());
    float scale = (float) step.gradientScale();
    float beta1 = (float) step.beta1();
    float beta2 = (float) step.beta2();
    float root2 = (float) step.rootCorrection2();
    float epsilon = (float) step.epsilon();
    float fresh1 = (float) (1 - step.beta1());
    float fresh2 = (float) (1 - step.beta2());
    for (long i = from; i < to; i += LANES) {
      var mask = F.indexInRange(i, to);
      long at = i * 4;
      var g = FloatVector.fromMemorySegment(F, gradient, at, ORDER, mask).mul(scale);
      var m =
          FloatVector.fromMemorySegment(F, firstMoment, at, ORDER, mask)
              .mul(beta1)
              .add(g.mul(fresh1));
      var v =
          FloatVector.fromMemorySegment(F, secondMoment, at, ORDER, mask)
              .mul(beta2)
              .add(g.mul(g).mul(fresh2));
      var update = m.mul(rate).div(v.sqrt().div(root2).add(epsilon));
      m.intoMemorySegment(firstMoment, at, ORDER, mask);
      v.intoMemorySegment(secondMoment, at, ORDER, mask);
      FloatVector.fromMemorySegment(F, parameter, at, ORDER, mask)
          .mul(keep)
          .sub(update)
          .intoMemorySegment(parameter, at, ORDER, mask);
    }
  }

  /// σ(z) = 1 / (1 + e⁻ᶻ) for z ≥ 0 and eᶻ / (1 + eᶻ) below: nothing overflows, σ(−∞) is zero.
  private static FloatVector sigmoid(FloatVector z) {
    var small = expOfMinusMagnitude(z);
    var numerator = small.blend(1f, z.compare(VectorOperators.GE, 0f));
    return numerator.div(small.add(1f));
  }

  /// σ′(z) = σ(z) σ(−z) = e / (1 + e)² with e = e^−|z|.
  private static FloatVector slope(FloatVector z) {
    var small = expOfMinusMagnitude(z);
    var whole = small.add(1f);
    return small.div(whole).div(whole);
  }

  /// `e^−|z|` within 2 ulp, and zero instead of a subnormal number: with −|z| = n ln 2 + r and |r|
  /// ≤ ½ ln 2 it is 2ⁿ · eʳ, and eʳ is the polynomial of the Cephes library's `expf`.
  private static FloatVector expOfMinusMagnitude(FloatVector z) {
    var x = z.abs().neg().max(-104f); // NaN stays NaN
    var shifted = x.fma(LOG2_E, ROUNDERS);
    var n = shifted.sub(ROUNDERS);
    var r = n.fma(MINUS_LN_2_LOW, n.fma(MINUS_LN_2_HIGH, x));
    var tail =
        r.fma(C_7, C_6).fma(r, C_5).fma(r, C_4).fma(r, C_3).fma(r, C_2).fma(r.mul(r), r).add(1f);
    var exponent = shifted.reinterpretAsInts().sub(ROUNDER_BITS - 127).max(0);
    return tail.mul(exponent.lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats());
  }

  /// The sum of the lanes, upper half onto lower half until one is left.
  private static float sum(FloatVector vector, float[] lanes) {
    vector.intoArray(lanes, 0);
    for (int half = LANES / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; j++) {
        lanes[j] += lanes[j + half];
      }
    }
    return lanes[0];
  }

  private static FloatVector load(Floats floats, long i) {
    return floats.bfloat16()
        ? widen(ShortVector.fromMemorySegment(S, floats.memory(), i * 2, ORDER))
        : FloatVector.fromMemorySegment(F, floats.memory(), i * 4, ORDER);
  }

  private static FloatVector load(Floats floats, long i, VectorMask<Float> mask) {
    return floats.bfloat16()
        ? widen(ShortVector.fromMemorySegment(S, floats.memory(), i * 2, ORDER, mask.cast(S)))
        : FloatVector.fromMemorySegment(F, floats.memory(), i * 4, ORDER, mask);
  }

  private static void store(Floats floats, long i, FloatVector value) {
    if (floats.bfloat16()) {
      round(value).intoMemorySegment(floats.memory(), i * 2, ORDER);
    } else {
      value.intoMemorySegment(floats.memory(), i * 4, ORDER);
    }
  }

  private static void store(Floats floats, long i, VectorMask<Float> mask, FloatVector value) {
    if (floats.bfloat16()) {
      round(value).intoMemorySegment(floats.memory(), i * 2, ORDER, mask.cast(S));
    } else {
      value.intoMemorySegment(floats.memory(), i * 4, ORDER, mask);
    }
  }

  private static FloatVector widen(ShortVector bits) {
    return bits.convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)
        .reinterpretAsInts()
        .lanewise(VectorOperators.LSHL, 16)
        .reinterpretAsFloats();
  }

  private static ShortVector round(FloatVector value) {
    var bits = value.reinterpretAsInts();
    var odd = bits.lanewise(VectorOperators.LSHR, 16).and(1);
    var rounded = bits.add(odd).add(0x7FFF);
    var notANumber = value.test(VectorOperators.IS_NAN).cast(I);
    return (ShortVector)
        rounded
            .blend(bits.or(0x40_0000), notANumber)
            .lanewise(VectorOperators.LSHR, 16)
            .convertShape(VectorOperators.I2S, S, 0);
  }
}
