package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.F;
import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;

/// A chunk of the gated delta rule, and one token of it.
final class VectorDeltaRule {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  /// Columns that are solved for at a time.
  private static final int COLUMNS = 4 * LANES;

  private VectorDeltaRule() {}

  // ---------------------------------------------------------------- decay

  /// The decays c of a chunk as sums of two float32 numbers each, so that the difference of two
  /// large ones is not rounded to what is left of them.
  private record Decays(float[] high, float[] low) {
    static Decays of(double[] c, int rows) {
      float[] high = array(rows);
      float[] low = array(rows);
      for (int i = 0; i < rows; i++) {
        high[i] = (float) c[i];
        low[i] = (float) (c[i] - high[i]);
      }
      return new Decays(high, low);
    }

    /// The factors e^(cᵢ − cⱼ) for j ≤ i, and numbers between 0 and 1 after them.
    void factors(int i, float[] factors) {
      float highest = high[i];
      float rest = low[i];
      for (int j = 0; j <= i; j += LANES) {
        var difference =
            FloatVector.broadcast(F, highest)
                .sub(FloatVector.fromArray(F, high, j))
                .add(FloatVector.broadcast(F, rest).sub(FloatVector.fromArray(F, low, j)));
        var positive = difference.compare(VectorOperators.GT, 0f);
        Lanes.exp(difference.blend(0f, positive)).intoArray(factors, j);
      }
    }
  }

  static void scores(
      MemorySegment scores,
      double[] decays,
      float[] rates,
      MemorySegment system,
      MemorySegment weights,
      int rows) {
    var given = Floats.float32(scores);
    var decay = Decays.of(decays, rows);
    float[] factors = array(rows);
    float[] keys = array(rows);
    float[] queries = array(rows);
    for (int i = 0; i < rows; i++) {
      decay.factors(i, factors);
      read(given, (long) i * rows, keys, rows);
      read(given, (long) (rows + i) * rows, queries, rows);
      multiply(keys, factors, rates[i], i);
      multiply(queries, factors, 1, i + 1);
      write(keys, Floats.float32(system), (long) i * rows, rows);
      write(queries, Floats.float32(weights), (long) i * rows, rows);
    }
  }

  /// x ← x · factors · scale for the first `count` numbers, and zero after them.
  private static void multiply(float[] x, float[] factors, float scale, int count) {
    for (int j = 0; j < count; j += LANES) {
      at(x, j).mul(at(factors, j)).mul(scale).intoArray(x, j);
    }
    for (int j = count; j < x.length; j++) {
      x[j] = 0;
    }
  }

  static void scoresBackward(
      MemorySegment scores,
      MemorySegment products,
      double[] decays,
      float[] rates,
      MemorySegment dScores,
      double[] dDecays,
      double[] dRates,
      int rows) {
    var given = Floats.float32(scores);
    var arrived = Floats.float32(products);
    var sums = Floats.float32(dScores);
    var decay = Decays.of(decays, rows);
    float[] factors = array(rows);
    float[] score = array(rows);
    float[] d = array(rows);
    float[] sum = array(rows);
    float[] columns = array(rows);
    float[] lanes = array(LANES);
    for (int i = 0; i < rows; i++) {
      decay.factors(i, factors);
      // system = rate · score · factor, and its gradient is what arrived, negated
      read(given, (long) i * rows, score, rows);
      read(arrived, (long) i * rows, d, rows);
      multiply(d, factors, -1, i);
      float ofRate = Lanes.dot(d, score, 0, padded(i), lanes);
      scale(d, rates[i], padded(i));
      float ofRow = addUp(d, score, columns, padded(i), lanes);
      read(sums, (long) i * rows, sum, rows);
      add(d, sum, padded(i));
      write(sum, sums, (long) i * rows, rows);
      // weight = score · factor; the diagonal has no decay
      read(given, (long) (rows + i) * rows, score, rows);
      read(arrived, (long) (rows + i) * rows, d, rows);
      multiply(d, factors, 1, i + 1);
      read(sums, (long) (rows + i) * rows, sum, rows);
      add(d, sum, padded(i + 1));
      write(sum, sums, (long) (rows + i) * rows, rows);
      d[i] = 0;
      ofRow += addUp(d, score, columns, padded(i + 1), lanes);
      dDecays[i] += ofRow;
      dRates[i] += ofRate;
    }
    for (int j = 0; j < rows; j++) {
      dDecays[j] -= columns[j];
    }
  }

  private static void scale(float[] x, float factor, int padded) {
    for (int j = 0; j < padded; j += LANES) {
      at(x, j).mul(factor).intoArray(x, j);
    }
  }

  /// sum ← sum + x.
  private static void add(float[] x, float[] sum, int padded) {
    for (int j = 0; j < padded; j += LANES) {
      at(sum, j).add(at(x, j)).intoArray(sum, j);
    }
  }

  /// columns ← columns + a b; the sum of a b.
  private static float addUp(float[] a, float[] b, float[] columns, int padded, float[] lanes) {
    var sum = Lanes.all(0);
    for (int j = 0; j < padded; j += LANES) {
      var product = at(a, j).mul(at(b, j));
      sum = sum.add(product);
      at(columns, j).add(product).intoArray(columns, j);
    }
    return Lanes.sum(sum, lanes);
  }

  // ---------------------------------------------------------------- the triangular system

  static void solve(MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width) {
    float[] triangle = array(rows * rows);
    read(Floats.float32(lower), 0, triangle, rows * rows);
    float[] block = new float[rows * COLUMNS];
    float[] row = new float[COLUMNS];
    var numbers = Floats.float32(x);
    for (int first = 0; first < width; first += COLUMNS) {
      int count = Math.min(COLUMNS, width - first);
      for (int i = 0; i < rows; i++) {
        read(numbers, (long) i * width + first, row, count);
        System.arraycopy(row, 0, block, i * COLUMNS, COLUMNS);
      }
      for (int i = 0; i < rows; i++) {
        if (transposed) {
          int at = rows - 1 - i;
          subtract(triangle, (at + 1) * rows + at, rows, block, at, at + 1, rows);
        } else {
          subtract(triangle, i * rows, 1, block, i, 0, i);
        }
      }
      for (int i = 0; i < rows; i++) {
        System.arraycopy(block, i * COLUMNS, row, 0, COLUMNS);
        write(row, numbers, (long) i * width + first, count);
      }
    }
  }

  /// Row i of the block loses its share of the rows `from … to`, which are solved.
  ///
  /// @param start of row `from`'s factor in the triangle, and `step` from one factor to the next
  private static void subtract(
      float[] triangle, int start, int step, float[] block, int i, int from, int to) {
    int own = i * COLUMNS;
    var a = FloatVector.fromArray(F, block, own);
    var b = FloatVector.fromArray(F, block, own + LANES);
    var c = FloatVector.fromArray(F, block, own + 2 * LANES);
    var d = FloatVector.fromArray(F, block, own + 3 * LANES);
    for (int j = from, at = start; j < to; j++, at += step) {
      var factor = FloatVector.broadcast(F, -triangle[at]);
      int row = j * COLUMNS;
      a = factor.fma(FloatVector.fromArray(F, block, row), a);
      b = factor.fma(FloatVector.fromArray(F, block, row + LANES), b);
      c = factor.fma(FloatVector.fromArray(F, block, row + 2 * LANES), c);
      d = factor.fma(FloatVector.fromArray(F, block, row + 3 * LANES), d);
    }
    a.intoArray(block, own);
    b.intoArray(block, own + LANES);
    c.intoArray(block, own + 2 * LANES);
    d.intoArray(block, own + 3 * LANES);
  }

  // ---------------------------------------------------------------- rows

  static void addScaledRows(
      MemorySegment x,
      MemorySegment factors,
      MemorySegment base,
      MemorySegment sums,
      MemorySegment dots,
      int rows,
      int width) {
    float[] row = array(width);
    float[] other = array(width);
    float[] sum = array(width);
    float[] lanes = array(LANES);
    for (int i = 0; i < rows; i++) {
      float factor = factors.get(FLOAT, i * 4L);
      read(Floats.float32(x), (long) i * width, row, width);
      read(Floats.float32(base), (long) i * width, other, width);
      read(Floats.float32(sums), (long) i * width, sum, width);
      scale(row, factor, row.length);
      add(row, sum, row.length);
      dots.set(FLOAT, i * 4L, Lanes.dot(row, other, 0, row.length, lanes));
      write(sum, Floats.float32(sums), (long) i * width, width);
    }
  }

  // ---------------------------------------------------------------- one token

  static void step(
      MemorySegment key,
      MemorySegment query,
      Floats value,
      float decay,
      float rate,
      MemorySegment state,
      Floats out,
      int keyWidth,
      int valueWidth) {
    float[] k = array(keyWidth);
    float[] q = array(keyWidth);
    float[] v = array(valueWidth);
    float[] y = array(valueWidth);
    float[] lanes = array(LANES);
    read(Floats.float32(key), 0, k, keyWidth);
    read(Floats.float32(query), 0, q, keyWidth);
    read(value, 0, v, valueWidth);
    float same = Lanes.dot(q, k, 0, q.length, lanes);
    int j = 0;
    for (; j <= valueWidth - 2 * LANES; j += 2 * LANES) {
      stepTwo(k, q, v, y, same, decay, rate, state, j, keyWidth, valueWidth);
    }
    for (; j <= valueWidth - LANES; j += LANES) {
      stepOne(k, q, v, y, same, decay, rate, state, j, keyWidth, valueWidth);
    }
    for (; j < valueWidth; j++) {
      float read = 0;
      float seen = 0;
      for (int i = 0; i < keyWidth; i++) {
        float number = state.get(FLOAT, ((long) i * valueWidth + j) * 4);
        read = Math.fma(k[i], number, read);
        seen = Math.fma(q[i], number, seen);
      }
      float change = rate * (v[j] - decay * read);
      y[j] = Math.fma(same, change, decay * seen);
      for (int i = 0; i < keyWidth; i++) {
        long at = ((long) i * valueWidth + j) * 4;
        state.set(FLOAT, at, Math.fma(k[i], change, decay * state.get(FLOAT, at)));
      }
    }
    write(y, out, 0, valueWidth);
  }

  /// The columns of two vectors from j on: read for Sᵀk and Sᵀq, and while they are in the core's
  /// cache read once more and written.
  private static void stepTwo(
      float[] k,
      float[] q,
      float[] v,
      float[] y,
      float same,
      float decay,
      float rate,
      MemorySegment state,
      int j,
      int keyWidth,
      int valueWidth) {
    var readA = FloatVector.broadcast(F, 0f);
    var readB = FloatVector.broadcast(F, 0f);
    var seenA = FloatVector.broadcast(F, 0f);
    var seenB = FloatVector.broadcast(F, 0f);
    long stride = valueWidth * 4L;
    long at = j * 4L;
    for (int i = 0; i < keyWidth; i++, at += stride) {
      var a = FloatVector.fromMemorySegment(F, state, at, ORDER);
      var b = FloatVector.fromMemorySegment(F, state, at + 4L * LANES, ORDER);
      var key = FloatVector.broadcast(F, k[i]);
      var query = FloatVector.broadcast(F, q[i]);
      readA = key.fma(a, readA);
      readB = key.fma(b, readB);
      seenA = query.fma(a, seenA);
      seenB = query.fma(b, seenB);
    }
    var changeA = FloatVector.fromArray(F, v, j).sub(readA.mul(decay)).mul(rate);
    var changeB = FloatVector.fromArray(F, v, j + LANES).sub(readB.mul(decay)).mul(rate);
    var both = FloatVector.broadcast(F, same);
    both.fma(changeA, seenA.mul(decay)).intoArray(y, j);
    both.fma(changeB, seenB.mul(decay)).intoArray(y, j + LANES);
    at = j * 4L;
    for (int i = 0; i < keyWidth; i++, at += stride) {
      var a = FloatVector.fromMemorySegment(F, state, at, ORDER).mul(decay);
      var b = FloatVector.fromMemorySegment(F, state, at + 4L * LANES, ORDER).mul(decay);
      var key = FloatVector.broadcast(F, k[i]);
      key.fma(changeA, a).intoMemorySegment(state, at, ORDER);
      key.fma(changeB, b).intoMemorySegment(state, at + 4L * LANES, ORDER);
    }
  }

  private static void stepOne(
      float[] k,
      float[] q,
      float[] v,
      float[] y,
      float same,
      float decay,
      float rate,
      MemorySegment state,
      int j,
      int keyWidth,
      int valueWidth) {
    var read = FloatVector.broadcast(F, 0f);
    var seen = FloatVector.broadcast(F, 0f);
    long stride = valueWidth * 4L;
    long at = j * 4L;
    for (int i = 0; i < keyWidth; i++, at += stride) {
      var a = FloatVector.fromMemorySegment(F, state, at, ORDER);
      read = FloatVector.broadcast(F, k[i]).fma(a, read);
      seen = FloatVector.broadcast(F, q[i]).fma(a, seen);
    }
    var change = FloatVector.fromArray(F, v, j).sub(read.mul(decay)).mul(rate);
    FloatVector.broadcast(F, same).fma(change, seen.mul(decay)).intoArray(y, j);
    at = j * 4L;
    for (int i = 0; i < keyWidth; i++, at += stride) {
      var a = FloatVector.fromMemorySegment(F, state, at, ORDER).mul(decay);
      FloatVector.broadcast(F, k[i]).fma(change, a).intoMemorySegment(state, at, ORDER);
    }
  }
}
