package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.CHUNK;
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
        var forgotten = difference.compare(VectorOperators.LT, (float) Kernels.FORGOTTEN);
        Lanes.exp(difference.blend(0f, positive)).blend(0f, forgotten).intoArray(factors, j);
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

  /// Row s is solved when it has lost its share of the rows t < s. The transposed system is the
  /// same with rows and columns counted from the end.
  static void solve(MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width) {
    float[] triangle = array(rows * rows);
    read(Floats.float32(lower), 0, triangle, rows * rows);
    int origin = transposed ? rows * rows - 1 : 0;
    int down = transposed ? -1 : rows;
    int right = transposed ? -rows : 1;
    int stride = (width + COLUMNS - 1) / COLUMNS * COLUMNS;
    float[] y = new float[rows * stride];
    float[] row = array(width);
    var numbers = Floats.float32(x);
    for (int i = 0; i < rows; i++) {
      read(numbers, (long) i * width, row, width);
      System.arraycopy(row, 0, y, i * stride, row.length);
    }
    int step = transposed ? -stride : stride;
    for (int first = 0; first < width; first += COLUMNS) {
      int top = first + (transposed ? (rows - 1) * stride : 0);
      int s = 0;
      for (; s < rows - 1; s += 2) {
        subtractFromTwo(triangle, origin + s * down, down, right, y, top, step, s);
      }
      if (s < rows) {
        subtractFromOne(triangle, origin + s * down, right, y, top, step, s);
      }
    }
    for (int i = 0; i < rows; i++) {
      System.arraycopy(y, i * stride, row, 0, row.length);
      write(row, numbers, (long) i * width, width);
    }
  }

  /// Solves row s, whose factors begin at `start` and are `right` apart; row t begins at `top + t ·
  /// step`.
  private static void subtractFromOne(
      float[] triangle, int start, int right, float[] y, int top, int step, int s) {
    int own = top + s * step;
    var a = FloatVector.fromArray(F, y, own);
    var b = FloatVector.fromArray(F, y, own + LANES);
    var c = FloatVector.fromArray(F, y, own + 2 * LANES);
    var d = FloatVector.fromArray(F, y, own + 3 * LANES);
    for (int t = 0; t < s; t++) {
      var factor = FloatVector.broadcast(F, -triangle[start + t * right]);
      int row = top + t * step;
      a = factor.fma(FloatVector.fromArray(F, y, row), a);
      b = factor.fma(FloatVector.fromArray(F, y, row + LANES), b);
      c = factor.fma(FloatVector.fromArray(F, y, row + 2 * LANES), c);
      d = factor.fma(FloatVector.fromArray(F, y, row + 3 * LANES), d);
    }
    a.intoArray(y, own);
    b.intoArray(y, own + LANES);
    c.intoArray(y, own + 2 * LANES);
    d.intoArray(y, own + 3 * LANES);
  }

  /// Solves rows s and s + 1, so that each row that is solved already is read for both.
  ///
  /// @param down from a factor of the first to that of the second
  private static void subtractFromTwo(
      float[] triangle, int start, int down, int right, float[] y, int top, int step, int s) {
    int own = top + s * step;
    int next = own + step;
    var a = FloatVector.fromArray(F, y, own);
    var b = FloatVector.fromArray(F, y, own + LANES);
    var c = FloatVector.fromArray(F, y, own + 2 * LANES);
    var d = FloatVector.fromArray(F, y, own + 3 * LANES);
    var e = FloatVector.fromArray(F, y, next);
    var f = FloatVector.fromArray(F, y, next + LANES);
    var g = FloatVector.fromArray(F, y, next + 2 * LANES);
    var h = FloatVector.fromArray(F, y, next + 3 * LANES);
    for (int t = 0; t < s; t++) {
      var first = FloatVector.broadcast(F, -triangle[start + t * right]);
      var second = FloatVector.broadcast(F, -triangle[start + down + t * right]);
      int row = top + t * step;
      var solved = FloatVector.fromArray(F, y, row);
      a = first.fma(solved, a);
      e = second.fma(solved, e);
      solved = FloatVector.fromArray(F, y, row + LANES);
      b = first.fma(solved, b);
      f = second.fma(solved, f);
      solved = FloatVector.fromArray(F, y, row + 2 * LANES);
      c = first.fma(solved, c);
      g = second.fma(solved, g);
      solved = FloatVector.fromArray(F, y, row + 3 * LANES);
      d = first.fma(solved, d);
      h = second.fma(solved, h);
    }
    a.intoArray(y, own);
    b.intoArray(y, own + LANES);
    c.intoArray(y, own + 2 * LANES);
    d.intoArray(y, own + 3 * LANES);
    var last = FloatVector.broadcast(F, -triangle[start + down + s * right]);
    last.fma(a, e).intoArray(y, next);
    last.fma(b, f).intoArray(y, next + LANES);
    last.fma(c, g).intoArray(y, next + 2 * LANES);
    last.fma(d, h).intoArray(y, next + 3 * LANES);
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
    int row = padded(width);
    int atOnce = row == width ? Math.max(1, CHUNK / width) : 1; // rows of whole vectors
    float[] scaled = array(atOnce * row);
    float[] other = array(atOnce * row);
    float[] sum = array(atOnce * row);
    float[] lanes = array(LANES);
    for (int start = 0; start < rows; start += atOnce) {
      int count = Math.min(atOnce, rows - start) * width;
      long at = (long) start * width;
      read(Floats.float32(x), at, scaled, count);
      read(Floats.float32(base), at, other, count);
      read(Floats.float32(sums), at, sum, count);
      for (int r = 0; r * width < count; r++) {
        float factor = factors.get(FLOAT, (start + r) * 4L);
        dots.set(
            FLOAT, (start + r) * 4L, addScaled(scaled, other, sum, r * row, row, factor, lanes));
      }
      write(sum, Floats.float32(sums), at, count);
    }
  }

  /// sum ← sum + factor x, and factor x · base, of a row that begins at `start`.
  private static float addScaled(
      float[] x, float[] base, float[] sum, int start, int padded, float factor, float[] lanes) {
    var factors = Lanes.all(factor);
    var dot = Lanes.all(0);
    for (int i = start; i < start + padded; i += LANES) {
      var scaled = at(x, i).mul(factors);
      dot = scaled.fma(at(base, i), dot);
      at(sum, i).add(scaled).intoArray(sum, i);
    }
    return Lanes.sum(dot, lanes);
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
