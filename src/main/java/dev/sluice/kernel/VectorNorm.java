package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// RMSNorm and rotary embedding, row by row.
final class VectorNorm {
  private static final ScalarKernels DEFINITION = new ScalarKernels();

  private VectorNorm() {}

  private static float inverseRoot(float[] x, int width, double epsilon) {
    return (float) (1 / Math.sqrt((double) Lanes.dot(x, x, x.length) / width + epsilon));
  }

  static void forward(
      Floats x, Floats weight, double epsilon, Floats out, int width, long from, long to) {
    float[] w = array(width);
    float[] row = array(width);
    read(weight, 0, w, width);
    for (long r = from; r < to; r++) {
      read(x, r * width, row, width);
      scale(row, w, inverseRoot(row, width, epsilon));
      write(row, out, r * width, width);
    }
  }

  /// x ← x · s · w.
  private static void scale(float[] x, float[] w, float s) {
    for (int i = 0; i < x.length; i += LANES) {
      at(x, i).mul(s).mul(at(w, i)).intoArray(x, i);
    }
  }

  static void backward(
      Floats dOut,
      Floats x,
      Floats weight,
      double epsilon,
      @Nullable Floats dPast,
      Floats dx,
      MemorySegment dWeight,
      int width,
      long from,
      long to) {
    float[] w = array(width);
    float[] row = array(width);
    float[] d = array(width);
    float[] past = array(width);
    float[] dw = array(width);
    read(weight, 0, w, width);
    read(Floats.float32(dWeight), 0, dw, width);
    for (long r = from; r < to; r++) {
      read(x, r * width, row, width);
      read(dOut, r * width, d, width);
      float s = inverseRoot(row, width, epsilon);
      normGradient(row, d, w, dw, s, width);
      if (dPast != null) {
        read(dPast, r * width, past, width);
        add(d, past);
      }
      write(d, dx, r * width, width);
    }
    write(dw, Floats.float32(dWeight), 0, width);
  }

  /// dw ← dw + d x s, then d ← s (d w − x s² mean(d w x)).
  private static void normGradient(
      float[] x, float[] d, float[] w, float[] dw, float s, int width) {
    for (int i = 0; i < x.length; i += LANES) {
      at(d, i).mul(at(x, i)).mul(s).add(at(dw, i)).intoArray(dw, i);
    }
    for (int i = 0; i < x.length; i += LANES) {
      at(d, i).mul(at(w, i)).intoArray(d, i);
    }
    float c = s * s * (Lanes.dot(d, x, x.length) / width);
    for (int i = 0; i < x.length; i += LANES) {
      at(d, i).sub(at(x, i).mul(c)).mul(s).intoArray(d, i);
    }
  }

  private static void add(float[] a, float[] b) {
    for (int i = 0; i < a.length; i += LANES) {
      at(a, i).add(at(b, i)).intoArray(a, i);
    }
  }

  static void rotate(
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to) {
    int half = width / 2;
    if (half % LANES != 0) { // no usual head size
      DEFINITION.normRotate(x, weight, epsilon, rotations, out, heads, width, from, to);
      return;
    }
    float[] w = array(width);
    float[] row = array(width);
    float[] cos = array(half);
    float[] sin = array(half);
    if (weight != null) {
      read(weight, 0, w, width);
    }
    for (long r = from; r < to; r++) {
      if (r == from || r % heads == 0) {
        long position = r / heads % rotations.positions() * half;
        read(Floats.float32(rotations.cosines()), position, cos, half);
        read(Floats.float32(rotations.sines()), position, sin, half);
      }
      read(x, r * width, row, width);
      if (weight != null) {
        scale(row, w, inverseRoot(row, width, epsilon));
      }
      rotate(row, cos, sin, half);
      write(row, out, r * width, width);
    }
  }

  private static void rotate(float[] u, float[] cos, float[] sin, int half) {
    for (int i = 0; i < half; i += LANES) {
      FloatVector first = at(u, i);
      FloatVector second = at(u, i + half);
      first.mul(at(cos, i)).sub(second.mul(at(sin, i))).intoArray(u, i);
      second.mul(at(cos, i)).add(first.mul(at(sin, i))).intoArray(u, i + half);
    }
  }

  static void rotateBackward(
      Floats dOut,
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats dx,
      MemorySegment dWeight,
      int heads,
      int width,
      long from,
      long to) {
    int half = width / 2;
    if (half % LANES != 0) {
      DEFINITION.normRotateBackward(
          dOut, x, weight, epsilon, rotations, dx, dWeight, heads, width, from, to);
      return;
    }
    float[] w = array(width);
    float[] row = array(width);
    float[] d = array(width);
    float[] dw = array(width);
    float[] cos = array(half);
    float[] sin = array(half);
    if (weight != null) {
      read(weight, 0, w, width);
      read(Floats.float32(dWeight), 0, dw, width);
    }
    for (long r = from; r < to; r++) {
      if (r == from || r % heads == 0) {
        long position = r / heads % rotations.positions() * half;
        read(Floats.float32(rotations.cosines()), position, cos, half);
        read(Floats.float32(rotations.sines()), position, sin, half);
      }
      read(dOut, r * width, d, width);
      rotateBack(d, cos, sin, half);
      if (weight != null) {
        read(x, r * width, row, width);
        normGradient(row, d, w, dw, inverseRoot(row, width, epsilon), width);
      }
      write(d, dx, r * width, width);
    }
    if (weight != null) {
      write(dw, Floats.float32(dWeight), 0, width);
    }
  }

  /// Inverts [#rotate].
  private static void rotateBack(float[] d, float[] cos, float[] sin, int half) {
    for (int i = 0; i < half; i += LANES) {
      FloatVector first = at(d, i);
      FloatVector second = at(d, i + half);
      first.mul(at(cos, i)).add(second.mul(at(sin, i))).intoArray(d, i);
      second.mul(at(cos, i)).sub(first.mul(at(sin, i))).intoArray(d, i + half);
    }
  }
}
