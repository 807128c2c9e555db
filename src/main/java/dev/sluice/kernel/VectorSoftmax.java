package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.CHUNK;
import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.clear;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
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
    float[] lanes = array(LANES);
    var numbers = Floats.float32(scores);
    for (int i = 0; i < tile.rows(); i++) {
      long start = (long) i * columns;
      int hidden = tile.hidden(i);
      int seen = tile.seen(i);
      if (hidden == seen) {
        clear(weights, start, columns);
        factors.set(FLOAT, i * 4L, 1);
        continue;
      }
      int first = hidden / LANES * LANES; // what stands before is not read
      int whole = Math.min(padded(seen), columns);
      read(numbers, start + first, row, whole - first);
      hide(row, hidden - first, seen - first, Float.NEGATIVE_INFINITY);
      int padded = padded(seen - first);
      float before = maxima.get(FLOAT, i * 4L);
      float largest = Math.max(before, max(row, padded, lanes) * scale);
      float sum = exponentials(row, padded, scale, largest, lanes);
      hide(row, hidden - first, seen - first, 0);
      clear(weights, start, first);
      write(row, weights, start + first, whole - first);
      clear(weights, start + whole, columns - whole);
      float factor = (float) Math.exp(before - largest);
      maxima.set(FLOAT, i * 4L, largest);
      sums.set(FLOAT, i * 4L, factor * sums.get(FLOAT, i * 4L) + sum);
      factors.set(FLOAT, i * 4L, factor);
    }
  }

  /// Keys that one token's queries attend over at a time.
  private static final int KEYS = 64;

  static void oneToken(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      int width,
      double scale,
      MemorySegment y,
      MemorySegment logSumExp) {
    int padded = padded(width);
    boolean whole = padded == width && !keys.bfloat16(); // vectors are read where they lie
    try (var arena = Arena.ofConfined()) {
      // Loops over memory on the heap took four times as long.
      var rows =
          whole ? MemorySegment.NULL : arena.allocate((long) KEYS * padded * Float.BYTES, 64);
      float[] query = array(group * padded);
      float[] block = array(whole ? 0 : KEYS * padded);
      float[] weights = array(group * KEYS);
      float[] sums = array(group * padded);
      float[] total = array(group);
      float[] largest = array(group);
      float[] lanes = array(LANES);
      readRows(Floats.float32(queries), 0, group, width, query);
      Arrays.fill(largest, Float.NEGATIVE_INFINITY);
      for (int from = 0; from < count; from += KEYS) {
        int some = Math.min(KEYS, count - from);
        var blockKeys = whole ? keys.memory() : brought(keys, from, some, width, block, rows);
        long first = whole ? (long) from * width : 0;
        for (int g = 0; g < group; g++) {
          float[] scores = array(KEYS);
          Arrays.fill(scores, Float.NEGATIVE_INFINITY);
          scores(query, g * padded, blockKeys, first, some, padded, scores, lanes);
          float most = Math.max(largest[g], max(scores, KEYS, lanes) * (float) scale);
          float factor = (float) Math.exp(largest[g] - most);
          total[g] = factor * total[g] + exponentials(scores, KEYS, (float) scale, most, lanes);
          largest[g] = most;
          scaleBy(sums, g * padded, padded, factor);
          System.arraycopy(scores, 0, weights, g * KEYS, KEYS);
        }
        var blockValues = whole ? values.memory() : brought(values, from, some, width, block, rows);
        for (int g = 0; g < group; g++) {
          addWeighted(blockValues, first, weights, g * KEYS, some, padded, sums, g * padded);
        }
      }
      for (int g = 0; g < group; g++) {
        for (int c = 0; c < width; c++) {
          float mean = sums[g * padded + c] / total[g];
          y.set(FLOAT, ((long) g * width + c) * 4, mean);
        }
        logSumExp.set(FLOAT, g * 4L, (float) (largest[g] + Math.log(total[g])));
      }
    }
  }

  /// Brings rows into an array, each padded with zeros to whole vectors.
  private static void readRows(Floats numbers, int first, int count, int width, float[] to) {
    int padded = padded(width);
    if (padded == width) {
      read(numbers, (long) first * width, to, count * width);
      return;
    }
    float[] row = array(width);
    for (int i = 0; i < count; i++) {
      read(numbers, (long) (first + i) * width, row, width);
      System.arraycopy(row, 0, to, i * padded, padded);
    }
  }

  /// The same into memory, by way of an array.
  private static MemorySegment brought(
      Floats from, int first, int count, int width, float[] block, MemorySegment rows) {
    readRows(from, first, count, width, block);
    MemorySegment.copy(block, 0, rows, FLOAT, 0, count * padded(width));
    return rows;
  }

  private static void scores(
      float[] query,
      int atQuery,
      MemorySegment keys,
      long first,
      int count,
      int padded,
      float[] scores,
      float[] lanes) {
    for (int j = 0; j < count; j++) {
      var sum = Lanes.all(0);
      long key = first + (long) j * padded;
      for (int i = 0; i < padded; i += LANES) {
        sum = at(query, atQuery + i).fma(at(keys, key + i), sum);
      }
      scores[j] = Lanes.sum(sum, lanes);
    }
  }

  private static void scaleBy(float[] x, int start, int padded, float factor) {
    for (int i = start; i < start + padded; i += LANES) {
      at(x, i).mul(Lanes.all(factor)).intoArray(x, i);
    }
  }

  /// Adds weighted rows to a sum, four parts of which stay in registers.
  private static void addWeighted(
      MemorySegment rows,
      long first,
      float[] weights,
      int firstWeight,
      int count,
      int padded,
      float[] sums,
      int to) {
    int i = 0;
    for (; i <= padded - 4 * LANES; i += 4 * LANES) {
      var a = at(sums, to + i);
      var b = at(sums, to + i + LANES);
      var c = at(sums, to + i + 2 * LANES);
      var d = at(sums, to + i + 3 * LANES);
      for (int j = 0; j < count; j++) {
        var weight = Lanes.all(weights[firstWeight + j]);
        long row = first + (long) j * padded + i;
        a = at(rows, row).fma(weight, a);
        b = at(rows, row + LANES).fma(weight, b);
        c = at(rows, row + 2L * LANES).fma(weight, c);
        d = at(rows, row + 3L * LANES).fma(weight, d);
      }
      a.intoArray(sums, to + i);
      b.intoArray(sums, to + i + LANES);
      c.intoArray(sums, to + i + 2 * LANES);
      d.intoArray(sums, to + i + 3 * LANES);
    }
    for (; i < padded; i += LANES) {
      var sum = at(sums, to + i);
      for (int j = 0; j < count; j++) {
        long row = first + (long) j * padded + i;
        sum = at(rows, row).fma(Lanes.all(weights[firstWeight + j]), sum);
      }
      sum.intoArray(sums, to + i);
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
    float[] lanes = array(LANES);
    float[] d = array(columns);
    var numbers = Floats.float32(scores);
    var gradients = Floats.float32(dWeights);
    for (int i = 0; i < tile.rows(); i++) {
      long start = (long) i * columns;
      int hidden = tile.hidden(i);
      int seen = tile.seen(i);
      int first = hidden / LANES * LANES;
      int whole = Math.min(padded(seen), columns);
      int padded = padded(seen - first);
      read(numbers, start + first, row, whole - first);
      read(gradients, start + first, d, whole - first);
      exponentials(row, padded, scale, logSumExp.get(FLOAT, i * 4L), lanes);
      scoreGradients(row, d, padded, delta.get(FLOAT, i * 4L), scale);
      hide(row, hidden - first, seen - first, 0);
      hide(d, hidden - first, seen - first, 0);
      clear(weights, start, first);
      clear(dScores, start, first);
      write(row, weights, start + first, whole - first);
      write(d, dScores, start + first, whole - first);
      clear(weights, start + whole, columns - whole);
      clear(dScores, start + whole, columns - whole);
    }
  }

  /// Puts a value into the first numbers of a row and into those from `to` on, up to whole vectors.
  private static void hide(float[] row, int from, int to, float value) {
    Arrays.fill(row, 0, from, value);
    hide(row, to, value);
  }

  /// Puts a value into what follows the first `count` numbers of a row, up to whole vectors.
  private static void hide(float[] row, int count, float value) {
    for (int i = count; i < padded(count); i++) {
      row[i] = value;
    }
  }

  private static float max(float[] x, int padded, float[] lanes) {
    float max = Float.NEGATIVE_INFINITY;
    var first = Lanes.all(max);
    var second = first;
    int i = 0;
    for (; i <= padded - 2 * LANES; i += 2 * LANES) { // two, as each waits for the one before
      first = larger(first, at(x, i));
      second = larger(second, at(x, i + LANES));
    }
    if (i < padded) {
      first = larger(first, at(x, i));
    }
    larger(first, second).intoArray(lanes, 0);
    for (float lane : lanes) {
      max = Math.max(max, lane);
    }
    return max;
  }

  /// The larger, or `a` where b is NaN, which then shows in the exponentials.
  private static FloatVector larger(FloatVector a, FloatVector b) {
    return a.blend(b, b.compare(VectorOperators.GT, a));
  }

  /// x ← e^(scale · x − shift); gives their sum. The product is rounded as the shift was, else what
  /// is lost in rounding a large shift would make an exponent of its own.
  private static float exponentials(
      float[] x, int padded, float scale, float shift, float[] lanes) {
    var scales = Lanes.all(scale);
    var shifts = Lanes.all(shift);
    var sum = Lanes.all(0);
    for (int i = 0; i < padded; i += LANES) {
      var e = Lanes.exp(at(x, i).mul(scales).sub(shifts));
      e.intoArray(x, i);
      sum = sum.add(e);
    }
    return Lanes.sum(sum, lanes);
  }

  /// d ← scale · p · (d − delta).
  private static void scoreGradients(float[] p, float[] d, int padded, float delta, float scale) {
    var deltas = Lanes.all(delta);
    var scales = Lanes.all(scale);
    for (int i = 0; i < padded; i += LANES) {
      at(d, i).sub(deltas).mul(at(p, i)).mul(scales).intoArray(d, i);
    }
  }

  static void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      MemorySegment logSums,
      @Nullable Floats dLogits,
      float scale,
      double zLoss,
      int vocabulary,
      long from,
      long to) {
    float[] chunk = array(CHUNK);
    float[] lanes = array(LANES);
    var numbers = Floats.float32(logits);
    for (long r = from; r < to; r++) {
      long start = r * vocabulary;
      long target = targets.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      float largest = Float.NEGATIVE_INFINITY;
      for (int at = 0; at < vocabulary; at += CHUNK) {
        int count = Math.min(CHUNK, vocabulary - at);
        read(numbers, start + at, chunk, count);
        hide(chunk, count, Float.NEGATIVE_INFINITY);
        largest = Math.max(largest, max(chunk, padded(count), lanes));
      }
      double sum = 0;
      for (int at = 0; at < vocabulary; at += CHUNK) {
        sum +=
            exponentials(
                numbers, start + at, Math.min(CHUNK, vocabulary - at), chunk, largest, lanes);
      }
      double logSumExp = largest + Math.log(sum);
      losses.set(FLOAT, r * 4, (float) (logSumExp - logits.get(FLOAT, (start + target) * 4)));
      logSums.set(FLOAT, r * 4, (float) logSumExp);
      if (dLogits != null) {
        double share = zLoss == 0 ? 1 : 1 + 2 * zLoss * logSumExp; // none of an infinite one
        float factor = (float) (scale / sum * share);
        for (int at = 0; at < vocabulary; at += CHUNK) {
          int count = Math.min(CHUNK, vocabulary - at);
          exponentials(numbers, start + at, count, chunk, largest, lanes);
          scale(chunk, factor, padded(count));
          if (target >= at && target < at + count) {
            chunk[(int) (target - at)] -= scale;
          }
          write(chunk, dLogits, start + at, count);
        }
      }
    }
  }

  private static float exponentials(
      Floats logits, long start, int count, float[] chunk, float largest, float[] lanes) {
    read(logits, start, chunk, count);
    hide(chunk, count, Float.NEGATIVE_INFINITY);
    return exponentials(chunk, padded(count), 1, largest, lanes);
  }

  private static void scale(float[] x, float factor, int padded) {
    var factors = Lanes.all(factor);
    for (int i = 0; i < padded; i += LANES) {
      at(x, i).mul(factors).intoArray(x, i);
    }
  }
}
