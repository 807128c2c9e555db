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
/// Species are constants: a species computed at run time costs a factor of 30.
public final class VectorKernels implements Kernels {
  private static final VectorSpecies<Float> F = FloatVector.SPECIES_PREFERRED;
  private static final VectorSpecies<Integer> I = IntVector.SPECIES_PREFERRED;

  /// As many 2-byte lanes as F has 4-byte ones.
  private static final VectorSpecies<Short> S =
      VectorSpecies.of(short.class, VectorShape.forBitSize(F.vectorBitSize() / 2));

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();
  private static final int LANES = F.length();

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
        var score = sigmoid(load(z, i, mask));
        var d = load(dOut, i, mask);
        store(dy, i, mask, d.mul(score));
        var slope = score.mul(score.neg().add(1f));
        store(dz, i, mask, d.mul(load(y, i, mask)).mul(slope));
      }
      return;
    }
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
      dz.set(r, sum.reduceLanes(VectorOperators.ADD) * score * (1 - score));
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
    for (long i = from; i < to; i += LANES) {
      var mask = F.indexInRange(i, to);
      long at = i * 4;
      var g = FloatVector.fromMemorySegment(F, gradient, at, ORDER, mask).mul(scale);
      var m =
          FloatVector.fromMemorySegment(F, firstMoment, at, ORDER, mask)
              .mul(beta1)
              .add(g.mul(1 - beta1));
      var v =
          FloatVector.fromMemorySegment(F, secondMoment, at, ORDER, mask)
              .mul(beta2)
              .add(g.mul(g).mul(1 - beta2));
      var update = m.mul(rate).div(v.sqrt().div(root2).add(epsilon));
      m.intoMemorySegment(firstMoment, at, ORDER, mask);
      v.intoMemorySegment(secondMoment, at, ORDER, mask);
      FloatVector.fromMemorySegment(F, parameter, at, ORDER, mask)
          .mul(keep)
          .sub(update)
          .intoMemorySegment(parameter, at, ORDER, mask);
    }
  }

  private static FloatVector sigmoid(FloatVector z) {
    return FloatVector.broadcast(F, 1f).div(z.neg().lanewise(VectorOperators.EXP).add(1f));
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
