package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.CHUNK;
import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.clear;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// Attention's softmax and the next-token loss.
final class VectorSoftmax {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private VectorSoftmax() {}

  static void forward(
      CausalTile tile,
      MemorySegment scores,
      Floats weights,
      MemorySegment maxima,
      MemorySegment sums,
      MemorySegment factors) {
    float scale = (float) tile.scale();
    int columns = tile.columns();
    float[] row = array(columns);
    for (int i = 0; i < tile.rows(); i++) {
      long start = (long) i * columns;
      int seen = tile.seen(i);
      float before = maxima.get(FLOAT, i * 4L);
      float largest = Math.max(before, max(scores, start, seen) * scale);
      float sum = exponentials(scores, start, seen, row, scale, largest);
      write(row, weights, start, seen);
      clear(weights, start + seen, columns - seen);
      float factor = (float) Math.exp(before - largest);
      maxima.set(FLOAT, i * 4L, largest);
      sums.set(FLOAT, i * 4L, factor * sums.get(FLOAT, i * 4L) + sum);
      factors.set(FLOAT, i * 4L, factor);
    }
  }

  static void backward(
      CausalTile tile,
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores) {
    float scale = (float) tile.scale();
    int columns = tile.columns();
    float[] row = array(columns);
    float[] d = array(columns);
    for (int i = 0; i < tile.rows(); i++) {
      long start = (long) i * columns;
      int seen = tile.seen(i);
      exponentials(scores, start, seen, row, scale, logSumExp.get(FLOAT, i * 4L));
      scoreGradients(dWeights, start, seen, row, d, delta.get(FLOAT, i * 4L), scale);
      write(row, weights, start, seen);
      write(d, dScores, start, seen);
      clear(weights, start + seen, columns - seen);
      clear(dScores, start + seen, columns - seen);
    }
  }

  /// The largest of `count` numbers from `start` on.
  private static float max(MemorySegment x, long start, int count) {
    int whole = count / LANES * LANES;
    var largest = FloatVector.broadcast(Lanes.F, Float.NEGATIVE_INFINITY);
    for (int j = 0; j < whole; j += LANES) {
      largest = largest.max(at(x, start + j));
    }
    float max = Float.NEGATIVE_INFINITY;
    for (float lane : largest.toArray()) {
      max = Math.max(max, lane);
    }
    for (int j = whole; j < count; j++) {
      max = Math.max(max, x.get(FLOAT, (start + j) * 4));
    }
    return max;
  }

  /// `to[j] ← e^(scale · x[start + j] − shift)`, whose exponents are at most zero but for rounding,
  /// and zeros up to a whole vector; gives their sum.
  private static float exponentials(
      MemorySegment x, long start, int count, float[] to, float scale, float shift) {
    var scales = FloatVector.broadcast(Lanes.F, scale);
    var shifts = FloatVector.broadcast(Lanes.F, -shift);
    var sum = FloatVector.zero(Lanes.F);
    int whole = count / LANES * LANES;
    for (int j = 0; j < whole; j += LANES) {
      var e = Lanes.exp(at(x, start + j).fma(scales, shifts));
      e.intoArray(to, j);
      sum = sum.add(e);
    }
    if (whole < count) {
      tail(x, start, whole, count, to, Float.NEGATIVE_INFINITY);
      var e = Lanes.exp(at(to, whole).fma(scales, shifts));
      e.intoArray(to, whole);
      sum = sum.add(e);
    }
    return Lanes.sum(sum);
  }

  /// `to[j] ← scale · p[j] · (d[start + j] − delta)`.
  private static void scoreGradients(
      MemorySegment d, long start, int count, float[] p, float[] to, float delta, float scale) {
    int whole = count / LANES * LANES;
    for (int j = 0; j < whole; j += LANES) {
      at(d, start + j).sub(delta).mul(at(p, j)).mul(scale).intoArray(to, j);
    }
    if (whole < count) {
      tail(d, start, whole, count, to, 0);
      at(to, whole).sub(delta).mul(at(p, whole)).mul(scale).intoArray(to, whole);
    }
  }

  /// Brings the numbers after the last whole vector into an array, filled up to a whole vector.
  private static void tail(
      MemorySegment x, long start, int whole, int count, float[] to, float filling) {
    for (int j = whole; j < padded(count); j++) {
      to[j] = j < count ? x.get(FLOAT, (start + j) * 4) : filling;
    }
  }

  static void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      @Nullable Floats dLogits,
      float scale,
      int vocabulary,
      long from,
      long to) {
    float[] chunk = array(CHUNK);
    for (long r = from; r < to; r++) {
      long start = r * vocabulary;
      long target = targets.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      float largest = max(logits, start, vocabulary);
      double sum = 0;
      for (int at = 0; at < vocabulary; at += CHUNK) {
        int count = Math.min(CHUNK, vocabulary - at);
        sum += exponentials(logits, start + at, count, chunk, 1, largest);
      }
      double logSumExp = largest + Math.log(sum);
      losses.set(FLOAT, r * 4, (float) (logSumExp - logits.get(FLOAT, (start + target) * 4)));
      if (dLogits != null) {
        float factor = (float) (scale / sum);
        for (int at = 0; at < vocabulary; at += CHUNK) {
          int count = Math.min(CHUNK, vocabulary - at);
          exponentials(logits, start + at, count, chunk, 1, largest);
          scale(chunk, factor, padded(count));
          if (target >= at && target < at + count) {
            chunk[(int) (target - at)] -= scale;
          }
          write(chunk, dLogits, start + at, count);
        }
      }
    }
  }

  private static void scale(float[] x, float factor, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      at(x, i).mul(factor).intoArray(x, i);
    }
  }
}
