package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// The definition of every kernel, one element at a time. Faster kernels are tested against this
/// one.
public final class ScalarKernels implements Kernels {
  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    for (long r = from; r < to; r++) {
      float score = sigmoid(z.get(r));
      for (long i = r * width; i < (r + 1) * width; i++) {
        out.set(i, y.get(i) * score);
      }
    }
  }

  @Override
  public void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    for (long r = from; r < to; r++) {
      float score = sigmoid(z.get(r));
      float dScore = 0;
      for (long i = r * width; i < (r + 1) * width; i++) {
        dy.set(i, dOut.get(i) * score); // out = y · score
        dScore += dOut.get(i) * y.get(i);
      }
      dz.set(r, dScore * score * sigmoid(-z.get(r))); // score = σ(z)
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
    float fresh1 = (float) (1 - step.beta1()); // 1 − 0.999f would be off by 5e-5 of itself
    float fresh2 = (float) (1 - step.beta2());
    for (long i = from; i < to; i++) {
      float g = get(gradient, i) * scale;
      float m = beta1 * get(firstMoment, i) + fresh1 * g;
      float v = beta2 * get(secondMoment, i) + fresh2 * (g * g);
      float update = rate * m / ((float) Math.sqrt(v) / root2 + epsilon);
      set(firstMoment, i, m);
      set(secondMoment, i, v);
      set(parameter, i, get(parameter, i) * keep - update);
    }
  }

  static float sigmoid(float z) {
    return (float) (1 / (1 + Math.exp(-z)));
  }

  private static float get(MemorySegment memory, long i) {
    return memory.get(ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4);
  }

  private static void set(MemorySegment memory, long i, float value) {
    memory.set(ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4, value);
  }
}
