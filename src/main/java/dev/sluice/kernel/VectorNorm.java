package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// RMSNorm and rotary embedding, row by row.
final class VectorNorm {
  private static final ScalarKernels DEFINITION = new ScalarKernels();

  private VectorNorm() {}

  private static float inverseRoot(float squares, int width, double epsilon) {
    return (float) (1 / Math.sqrt((double) squares / width + epsilon));
  }

  static void forward(
      Floats x,
      @Nullable Floats added,
      Floats weight,
      double epsilon,
      Floats sum,
      Floats out,
      int width,
      long from,
      long to) {
    float[] w = array(width);
    float[] row = array(width);
    float[] other = array(width);
    float[] lanes = array(LANES);
    read(weight, 0, w, width);
    for (long r = from; r < to; r++) {
      read(x, r * width, row, width);
      if (added != null) {
        read(added, r * width, other, width);
        add(row, other);
        write(row, sum, r * width, width);
      }
      float squares = Lanes.dot(row, row, 0, row.length, lanes);
      scale(row, w, 0, inverseRoot(squares, width, epsilon), row.length);
      write(row, out, r * width, width);
    }
  }

  private static void add(float[] a, float[] b) {
    for (int i = 0; i < a.length; i += LANES) {
      at(a, i).add(at(b, i)).intoArray(a, i);
    }
  }

  /// x ← x · s · w, for a row of x that begins at `start`.
  private static void scale(float[] x, float[] w, int start, float s, int padded) {
    var factor = Lanes.all(s);
    for (int i = 0; i < padded; i += LANES) {
      at(x, start + i).mul(factor).mul(at(w, i)).intoArray(x, start + i);
    }
  }

  static void backward(
      Floats dOut,
      Floats x,
      Floats weight,
      double epsilon,
      @Nullable Floats dPast,
      Floats dx,
      @Nullable Floats dAdded,
      MemorySegment dWeight,
      int width,
      long from,
      long to) {
    float[] w = array(width);
    float[] row = array(width);
    float[] d = array(width);
    float[] past = array(width);
    float[] dw = array(width);
    float[] lanes = array(LANES);
    read(weight, 0, w, width);
    read(Floats.float32(dWeight), 0, dw, width);
    for (long r = from; r < to; r++) {
      read(x, r * width, row, width);
      read(dOut, r * width, d, width);
      normGradient(row, d, w, dw, lanes, 0, width, epsilon);
      if (dPast != null) {
        read(dPast, r * width, past, width);
        add(d, past);
      }
      write(d, dx, r * width, width);
      if (dAdded != null) {
        write(d, dAdded, r * width, width);
      }
    }
    write(dw, Floats.float32(dWeight), 0, width);
  }

  /// dw ← dw + d x s and d ← s (d w − x s² mean(d w x)), for a row that begins at `start`.
  private static void normGradient(
      float[] x,
      float[] d,
      float[] w,
      float[] dw,
      float[] lanes,
      int start,
      int width,
      double epsilon) {
    var squares = Lanes.all(0);
    var products = Lanes.all(0);
    for (int i = 0; i < w.length; i += LANES) {
      var value = at(x, start + i);
      squares = value.fma(value, squares);
      products = at(d, start + i).mul(at(w, i)).fma(value, products);
    }
    float s = inverseRoot(Lanes.sum(squares, lanes), width, epsilon);
    float c = s * s * (Lanes.sum(products, lanes) / width);
    gradients(x, d, w, dw, start, s, c);
  }

  private static void gradients(
      float[] x, float[] d, float[] w, float[] dw, int start, float s, float c) {
    var factor = Lanes.all(s);
    var mean = Lanes.all(c);
    for (int i = 0; i < w.length; i += LANES) {
      var value = at(x, start + i);
      var upstream = at(d, start + i);
      upstream.mul(value).fma(factor, at(dw, i)).intoArray(dw, i);
      upstream.mul(at(w, i)).sub(value.mul(mean)).mul(factor).intoArray(d, start + i);
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
    int half = rotations.pairs();
    if (half % LANES != 0 || width % LANES != 0) { // no usual head size
      DEFINITION.normRotate(x, weight, epsilon, rotations, out, heads, width, from, to);
      return;
    }
    float[] w = array(width);
    float[] token = array(heads * width);
    float[] lanes = array(LANES);
    float[] cos = array(half);
    float[] sin = array(half);
    if (weight != null) {
      read(weight, 0, w, width);
    }
    for (long r = from; r < to; ) {
      int count = (int) Math.min(to - r, heads - r % heads); // what is left of a token
      readAngles(rotations, r / heads, cos, sin);
      read(x, r * width, token, count * width);
      for (int start = 0; start < count * width; start += width) {
        if (weight != null) {
          float squares = Lanes.dot(token, token, start, width, lanes);
          scale(token, w, start, inverseRoot(squares, width, epsilon), width);
        }
        rotate(token, cos, sin, start, half);
      }
      write(token, out, r * width, count * width);
      r += count;
    }
  }

  private static void readAngles(Rotations rotations, long token, float[] cos, float[] sin) {
    long position = token % rotations.positions() * cos.length;
    Lanes.read(Floats.float32(rotations.cosines()), position, cos, cos.length);
    Lanes.read(Floats.float32(rotations.sines()), position, sin, sin.length);
  }

  private static void rotate(float[] u, float[] cos, float[] sin, int start, int half) {
    for (int i = 0; i < half; i += LANES) {
      var first = at(u, start + i);
      var second = at(u, start + i + half);
      var c = at(cos, i);
      var s = at(sin, i);
      first.mul(c).sub(second.mul(s)).intoArray(u, start + i);
      second.mul(c).add(first.mul(s)).intoArray(u, start + i + half);
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
    int half = rotations.pairs();
    if (half % LANES != 0 || width % LANES != 0) {
      DEFINITION.normRotateBackward(
          dOut, x, weight, epsilon, rotations, dx, dWeight, heads, width, from, to);
      return;
    }
    float[] w = array(width);
    float[] token = array(heads * width);
    float[] d = array(heads * width);
    float[] dw = array(width);
    float[] lanes = array(LANES);
    float[] cos = array(half);
    float[] sin = array(half);
    if (weight != null) {
      read(weight, 0, w, width);
      read(Floats.float32(dWeight), 0, dw, width);
    }
    for (long r = from; r < to; ) {
      int count = (int) Math.min(to - r, heads - r % heads);
      readAngles(rotations, r / heads, cos, sin);
      read(dOut, r * width, d, count * width);
      if (weight != null) {
        read(x, r * width, token, count * width);
      }
      for (int start = 0; start < count * width; start += width) {
        rotateBack(d, cos, sin, start, half);
        if (weight != null) {
          normGradient(token, d, w, dw, lanes, start, width, epsilon);
        }
      }
      write(d, dx, r * width, count * width);
      r += count;
    }
    if (weight != null) {
      write(dw, Floats.float32(dWeight), 0, width);
    }
  }

  /// Inverts [#rotate].
  private static void rotateBack(float[] d, float[] cos, float[] sin, int start, int half) {
    for (int i = 0; i < half; i += LANES) {
      var first = at(d, start + i);
      var second = at(d, start + i + half);
      var c = at(cos, i);
      var s = at(sin, i);
      first.mul(c).add(second.mul(s)).intoArray(d, start + i);
      second.mul(c).sub(first.mul(s)).intoArray(d, start + i + half);
    }
  }
}
