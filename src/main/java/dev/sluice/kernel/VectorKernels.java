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

/// The kernels with the Vector API. Tails use masks, so every element is computed alike.
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

  private static final float LOG2_E = 1.442695f;
  private static final float LN_2_HIGH = 0x1.63p-1f; // nine bits, so that n times it is exact
  private static final float LN_2_LOW = -2.12194440e-4f;

  /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
  private static final float ROUNDER = 12_582_912f;

  private static final int ROUNDER_BITS = Float.floatToRawIntBits(ROUNDER);

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    if (width == 1) {
      for (long i = from; i < to; i += LANES) {
        var mask = F.indexInRange(i, to);
        store(out, i, mask, load(y, i, mask).mul(sigmoid(load(z, i, mask))));
      }
      return;
    }
    for (long r = from; r < to; r++) {
      float score = ScalarKernels.sigmoid(z.get(r));
      long end = (r + 1) * width;
      for (long i = r * width; i < end; i += LANES) {
        var mask = F.indexInRange(i, end);
        store(out, i, mask, load(y, i, mask).mul(score));
      }
    }
  }

  @Override
  public void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    if (width == 1) {
      for (long i = from; i < to; i += LANES) {
        var mask = F.indexInRange(i, to);
        var logit = load(z, i, mask);
        var small = expOfMinusMagnitude(logit);
        var larger = one().div(small.add(1f)); // σ(|z|)
        var smaller = small.mul(larger); // σ(−|z|)
        var d = load(dOut, i, mask);
        store(dy, i, mask, d.mul(smaller.blend(larger, positive(logit))));
        store(dz, i, mask, d.mul(load(y, i, mask)).mul(larger.mul(smaller)));
      }
      return;
    }
    float[] lanes = new float[LANES];
    for (long r = from; r < to; r++) {
      float score = ScalarKernels.sigmoid(z.get(r));
      var sum = FloatVector.zero(F);
      long end = (r + 1) * width;
      for (long i = r * width; i < end; i += LANES) {
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
    return small.blend(1f, positive(z)).div(small.add(1f));
  }

  private static VectorMask<Float> positive(FloatVector z) {
    return z.compare(VectorOperators.GE, 0f);
  }

  private static FloatVector one() {
    return FloatVector.broadcast(F, 1f);
  }

  /// `e^−|z|` within 2 ulp: with −|z| = n ln 2 + r and |r| ≤ ½ ln 2 it is 2ⁿ · eʳ, and eʳ is the
  /// polynomial of the Cephes library's `expf`.
  private static FloatVector expOfMinusMagnitude(FloatVector z) {
    var x = z.abs().neg().max(-104f); // e⁻¹⁰⁴ rounds to zero; NaN stays NaN
    var shifted = x.fma(LOG2_E, ROUNDER);
    var n = shifted.sub(ROUNDER);
    var r = x.sub(n.mul(LN_2_HIGH)).sub(n.mul(LN_2_LOW));
    var tail = r.mul(1.9875691e-4f).add(1.3981999e-3f);
    tail = tail.mul(r).add(8.333452e-3f);
    tail = tail.mul(r).add(4.1665796e-2f);
    tail = tail.mul(r).add(0.16666666f);
    tail = tail.mul(r).add(0.5f);
    var power = tail.mul(r).mul(r).add(r).add(1f);
    // 2ⁿ in two factors, since it may be subnormal.
    var exponent = shifted.reinterpretAsInts().sub(ROUNDER_BITS);
    var half = exponent.lanewise(VectorOperators.ASHR, 1);
    return power.mul(powerOfTwo(half)).mul(powerOfTwo(exponent.sub(half)));
  }

  private static FloatVector powerOfTwo(IntVector exponent) {
    return exponent.add(127).lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats();
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

  private static FloatVector load(Floats floats, long i, VectorMask<Float> mask) {
    if (floats.bfloat16()) {
      return ShortVector.fromMemorySegment(S, floats.memory(), i * 2, ORDER, mask.cast(S))
          .convertShape(VectorOperators.ZERO_EXTEND_S2I, I, 0)
          .reinterpretAsInts()
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats();
    }
    return FloatVector.fromMemorySegment(F, floats.memory(), i * 4, ORDER, mask);
  }

  private static void store(Floats floats, long i, VectorMask<Float> mask, FloatVector value) {
    if (!floats.bfloat16()) {
      value.intoMemorySegment(floats.memory(), i * 4, ORDER, mask);
      return;
    }
    var bits = value.reinterpretAsInts();
    var odd = bits.lanewise(VectorOperators.LSHR, 16).and(1);
    var rounded = bits.add(odd).add(0x7FFF).lanewise(VectorOperators.LSHR, 16);
    var nan = bits.lanewise(VectorOperators.LSHR, 16).or(0x40);
    var notANumber = value.test(VectorOperators.IS_NAN).cast(I);
    ((ShortVector) rounded.blend(nan, notANumber).convertShape(VectorOperators.I2S, S, 0))
        .intoMemorySegment(floats.memory(), i * 2, ORDER, mask.cast(S));
  }
}
