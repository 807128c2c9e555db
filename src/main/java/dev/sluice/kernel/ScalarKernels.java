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

  static float f(MemorySegment m, long i) {
    return m.get(java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4);
  }

  static void f(MemorySegment m, long i, float v) {
    m.set(java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4, v);
  }

  @Override
  public void rmsNorm(
      Floats x, Floats weight, double epsilon, Floats out, int width, long from, long to) {
    for (long r = from; r < to; r++) {
      double q = 0;
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        q += v * v;
      }
      float s = (float) (1 / Math.sqrt(q / width + epsilon));
      for (int j = 0; j < width; j++)
        out.set(r * width + j, x.get(r * width + j) * s * weight.get(j));
    }
  }

  @Override
  public void rmsNormBackward(
      Floats dOut,
      Floats x,
      Floats weight,
      double epsilon,
      @org.jspecify.annotations.Nullable Floats dPast,
      Floats dx,
      MemorySegment dWeight,
      int width,
      long from,
      long to) {
    for (long r = from; r < to; r++) {
      double q = 0, d = 0;
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        q += v * v;
        d += dOut.get(r * width + j) * weight.get(j) * v;
      }
      float s = (float) (1 / Math.sqrt(q / width + epsilon));
      float c = (float) (s * s * d / width);
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        float g = dOut.get(r * width + j);
        dx.set(
            r * width + j,
            s * (g * weight.get(j) - v * c) + (dPast == null ? 0 : dPast.get(r * width + j)));
        f(dWeight, j, f(dWeight, j) + g * v * s);
      }
    }
  }

  @Override
  public void normRotate(
      Floats x,
      @org.jspecify.annotations.Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to) {
    int h = width / 2;
    for (long r = from; r < to; r++) {
      long p = (r / heads) % rotations.positions();
      double q = 0;
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        q += v * v;
      }
      float s = weight == null ? 1 : (float) (1 / Math.sqrt(q / width + epsilon));
      for (int i = 0; i < h; i++) {
        float a = x.get(r * width + i) * s * (weight == null ? 1 : weight.get(i)),
            b = x.get(r * width + i + h) * s * (weight == null ? 1 : weight.get(i + h));
        float c = f(rotations.cosines(), p * h + i), n = f(rotations.sines(), p * h + i);
        out.set(r * width + i, a * c - b * n);
        out.set(r * width + i + h, b * c + a * n);
      }
    }
  }

  @Override
  public void normRotateBackward(
      Floats dOut,
      Floats x,
      @org.jspecify.annotations.Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats dx,
      MemorySegment dWeight,
      int heads,
      int width,
      long from,
      long to) {
    int h = width / 2;
    float[] du = new float[width];
    for (long r = from; r < to; r++) {
      long p = (r / heads) % rotations.positions();
      for (int i = 0; i < h; i++) {
        float a = dOut.get(r * width + i), b = dOut.get(r * width + i + h);
        float c = f(rotations.cosines(), p * h + i), n = f(rotations.sines(), p * h + i);
        du[i] = a * c + b * n;
        du[i + h] = b * c - a * n;
      }
      if (weight == null) {
        for (int j = 0; j < width; j++) dx.set(r * width + j, du[j]);
        continue;
      }
      double q = 0, d = 0;
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        q += v * v;
        d += du[j] * weight.get(j) * v;
      }
      float s = (float) (1 / Math.sqrt(q / width + epsilon));
      float c = (float) (s * s * d / width);
      for (int j = 0; j < width; j++) {
        float v = x.get(r * width + j);
        dx.set(r * width + j, s * (du[j] * weight.get(j) - v * c));
        f(dWeight, j, f(dWeight, j) + du[j] * v * s);
      }
    }
  }

  @Override
  public void swiGlu(Floats gate, Floats up, Floats out, long from, long to) {
    for (long i = from; i < to; i++) out.set(i, gate.get(i) * sigmoid(gate.get(i)) * up.get(i));
  }

  @Override
  public void swiGluBackward(
      Floats dOut, Floats gate, Floats up, Floats dGate, Floats dUp, long from, long to) {
    for (long i = from; i < to; i++) {
      float g = gate.get(i), s = sigmoid(g), d = dOut.get(i);
      dUp.set(i, d * g * s);
      dGate.set(i, d * up.get(i) * s * (1 + g * sigmoid(-g)));
    }
  }

  @Override
  public void causalSoftmax(
      MemorySegment scores,
      Floats weights,
      MemorySegment sums,
      MemorySegment logSumExp,
      double scale,
      int rows,
      int columns,
      long stride,
      int visible) {
    for (int i = 0; i < rows; i++) {
      int n = Math.min(columns, visible + i);
      float m = Float.NEGATIVE_INFINITY;
      for (int j = 0; j < n; j++) m = Math.max(m, (float) (scale * f(scores, i * stride + j)));
      double sum = 0;
      for (int j = 0; j < n; j++) {
        float e = (float) Math.exp((float) (scale * f(scores, i * stride + j)) - m);
        sum += e;
        weights.set(i * stride + j, e);
      }
      for (int j = n; j < columns; j++) weights.set(i * stride + j, 0);
      f(sums, i, (float) sum);
      f(logSumExp, i, (float) (m + Math.log(sum)));
    }
  }

  @Override
  public void causalSoftmaxBackward(
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores,
      double scale,
      int rows,
      int columns,
      long stride,
      int visible) {
    for (int i = 0; i < rows; i++) {
      int n = Math.min(columns, visible + i);
      for (int j = 0; j < columns; j++) {
        float p = j < n ? (float) Math.exp(scale * f(scores, i * stride + j) - f(logSumExp, i)) : 0;
        weights.set(i * stride + j, p);
        dScores.set(
            i * stride + j,
            j < n ? (float) (scale * p * (f(dWeights, i * stride + j) - f(delta, i))) : 0);
      }
    }
  }

  @Override
  public void divideRows(
      MemorySegment x,
      @org.jspecify.annotations.Nullable MemorySegment divisors,
      Floats out,
      long start,
      long stride,
      int rows,
      int width) {
    for (int i = 0; i < rows; i++)
      for (int j = 0; j < width; j++)
        out.set(
            start + i * stride + j,
            f(x, (long) i * width + j) / (divisors == null ? 1 : f(divisors, i)));
  }

  @Override
  public void dotRows(
      Floats a, Floats b, MemorySegment out, long start, long stride, int rows, int width) {
    for (int i = 0; i < rows; i++) {
      double s = 0;
      for (int j = 0; j < width; j++)
        s += a.get(start + i * stride + j) * b.get(start + i * stride + j);
      f(out, i, (float) s);
    }
  }

  @Override
  public void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      @org.jspecify.annotations.Nullable Floats dLogits,
      double scale,
      int vocabulary,
      long from,
      long to) {
    for (long r = from; r < to; r++) {
      float m = Float.NEGATIVE_INFINITY;
      for (int j = 0; j < vocabulary; j++) m = Math.max(m, f(logits, r * vocabulary + j));
      double sum = 0;
      for (int j = 0; j < vocabulary; j++) sum += Math.exp(f(logits, r * vocabulary + j) - m);
      double lse = m + Math.log(sum);
      long t = targets.get(java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      f(losses, r, (float) (lse - f(logits, r * vocabulary + t)));
      if (dLogits != null)
        for (int j = 0; j < vocabulary; j++)
          dLogits.set(
              r * vocabulary + j,
              (float) (scale * (Math.exp(f(logits, r * vocabulary + j) - lse) - (j == t ? 1 : 0))));
    }
  }

  @Override
  public void plus(Floats a, Floats b, Floats out, long from, long to) {
    for (long i = from; i < to; i++) out.set(i, a.get(i) + b.get(i));
  }

  @Override
  public void copy(Floats x, Floats out, long from, long to) {
    for (long i = from; i < to; i++) out.set(i, x.get(i));
  }

  @Override
  public double squareSum(MemorySegment x, long from, long to) {
    double s = 0;
    for (long i = from; i < to; i++) s += (double) f(x, i) * f(x, i);
    return s;
  }

  @Override
  public void addRows(
      Floats rows,
      MemorySegment ids,
      MemorySegment table,
      int width,
      long count,
      int from,
      int to) {
    for (long r = 0; r < count; r++) {
      long t = ids.get(java.lang.foreign.ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      for (int j = from; j < to; j++)
        f(table, t * width + j, f(table, t * width + j) + rows.get(r * width + j));
    }
  }
}
