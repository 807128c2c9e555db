package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.CHUNK;
import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.clear;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// Attention's softmax and the next-token loss.
final class VectorSoftmax {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private VectorSoftmax() {}

  static void forward(
      MemorySegment scores,
      Floats weights,
      MemorySegment sums,
      MemorySegment logSumExp,
      float scale,
      int rows,
      int columns,
      long stride,
      int visible) {
    float[] row = array(columns);
    var numbers = Floats.float32(scores);
    for (int i = 0; i < rows; i++) {
      int seen = Math.min(columns, visible + i);
      int padded = padded(seen);
      read(numbers, i * stride, row, seen);
      Arrays.fill(row, seen, padded, Float.NEGATIVE_INFINITY);
      float largest = max(row, padded) * scale;
      exponentials(row, scale, largest, padded);
      float sum = Lanes.sum(row, padded);
      write(row, weights, i * stride, seen);
      clear(weights, i * stride + seen, columns - seen);
      sums.set(FLOAT, i * 4L, sum);
      logSumExp.set(FLOAT, i * 4L, (float) (largest + Math.log(sum)));
    }
  }

  static void backward(
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores,
      float scale,
      int rows,
      int columns,
      long stride,
      int visible) {
    float[] row = array(columns);
    float[] d = array(columns);
    var numbers = Floats.float32(scores);
    var gradients = Floats.float32(dWeights);
    for (int i = 0; i < rows; i++) {
      int seen = Math.min(columns, visible + i);
      int padded = padded(seen);
      read(numbers, i * stride, row, seen);
      read(gradients, i * stride, d, seen);
      exponentials(row, scale, logSumExp.get(FLOAT, i * 4L), padded);
      scoreGradients(row, d, delta.get(FLOAT, i * 4L), scale, padded);
      write(row, weights, i * stride, seen);
      write(d, dScores, i * stride, seen);
      clear(weights, i * stride + seen, columns - seen);
      clear(dScores, i * stride + seen, columns - seen);
    }
  }

  private static float max(float[] x, int padded) {
    var largest = FloatVector.broadcast(Lanes.F, Float.NEGATIVE_INFINITY);
    for (int i = 0; i < padded; i += LANES) {
      largest = largest.max(at(x, i));
    }
    float max = Float.NEGATIVE_INFINITY;
    for (float lane : largest.toArray()) {
      max = Math.max(max, lane);
    }
    return max;
  }

  /// x ← e^(scale · x − shift), whose exponents are at most zero but for rounding.
  private static void exponentials(float[] x, float scale, float shift, int padded) {
    var scales = FloatVector.broadcast(Lanes.F, scale);
    var shifts = FloatVector.broadcast(Lanes.F, -shift);
    for (int i = 0; i < padded; i += LANES) {
      Lanes.exp(at(x, i).fma(scales, shifts)).intoArray(x, i);
    }
  }

  /// d ← scale · p · (d − delta).
  private static void scoreGradients(float[] p, float[] d, float delta, float scale, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      at(d, i).sub(delta).mul(at(p, i)).mul(scale).intoArray(d, i);
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
    var numbers = Floats.float32(logits);
    for (long r = from; r < to; r++) {
      long start = r * vocabulary;
      long target = targets.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      float largest = Float.NEGATIVE_INFINITY;
      for (int at = 0; at < vocabulary; at += CHUNK) {
        int count = Math.min(CHUNK, vocabulary - at);
        readLogits(numbers, start + at, chunk, count);
        largest = Math.max(largest, max(chunk, padded(count)));
      }
      double sum = 0;
      for (int at = 0; at < vocabulary; at += CHUNK) {
        int count = Math.min(CHUNK, vocabulary - at);
        readLogits(numbers, start + at, chunk, count);
        exponentials(chunk, 1, largest, padded(count));
        sum += Lanes.sum(chunk, padded(count));
      }
      double logSumExp = largest + Math.log(sum);
      losses.set(FLOAT, r * 4, (float) (logSumExp - logits.get(FLOAT, (start + target) * 4)));
      if (dLogits != null) {
        float factor = (float) (scale / sum);
        for (int at = 0; at < vocabulary; at += CHUNK) {
          int count = Math.min(CHUNK, vocabulary - at);
          readLogits(numbers, start + at, chunk, count);
          exponentials(chunk, 1, largest, padded(count));
          scale(chunk, factor, padded(count));
          if (target >= at && target < at + count) {
            chunk[(int) (target - at)] -= scale;
          }
          write(chunk, dLogits, start + at, count);
        }
      }
    }
  }

  private static void readLogits(Floats logits, long start, float[] chunk, int count) {
    read(logits, start, chunk, count);
    Arrays.fill(chunk, count, padded(count), Float.NEGATIVE_INFINITY);
  }

  private static void scale(float[] x, float factor, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      at(x, i).mul(factor).intoArray(x, i);
    }
  }
}
