package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.CHUNK;
import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.jspecify.annotations.Nullable;

/// The kernels with the Vector API, see [Lanes] for how they are built. Norms and rotation are in
/// [VectorNorm], softmax and loss in [VectorSoftmax], the gated delta rule in [VectorDeltaRule] and
/// its convolution in [VectorConvolution].
public final class VectorKernels implements Kernels {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  // ---------------------------------------------------------------- the gate

  @Override
  public void sigmoidGate(Floats y, Floats z, Floats out, int width, long from, long to) {
    if (width == 1) {
      elements(y, z, out, from, to);
    } else {
      rows(y, z, out, width, from, to);
    }
  }

  private static void elements(Floats y, Floats z, Floats out, long from, long to) {
    float[] a = array(CHUNK);
    float[] b = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(y, start, a, count);
      read(z, start, b, count);
      multiplyBySigmoids(a, b, padded(count));
      write(a, out, start, count);
    }
  }

  private static void multiplyBySigmoids(float[] y, float[] z, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      var product = at(y, i);
      product.mul(Lanes.sigmoid(at(z, i))).intoArray(y, i);
    }
  }

  /// As many rows at a time as fill a chunk.
  private static void rows(Floats y, Floats z, Floats out, int width, long from, long to) {
    int most = Math.max(1, CHUNK / width);
    float[] a = array(most * width);
    float[] scores = array(most);
    for (long start = from; start < to; start += most) {
      int rows = (int) Math.min(most, to - start);
      read(z, start, scores, rows);
      sigmoids(scores, padded(rows));
      read(y, start * width, a, rows * width);
      for (int r = 0; r < rows; r++) {
        scale(a, r * width, width, scores[r]);
      }
      write(a, out, start * width, rows * width);
    }
  }

  private static void sigmoids(float[] z, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      Lanes.sigmoid(at(z, i)).intoArray(z, i);
    }
  }

  /// Multiplies `count` numbers from `start` on, which need not be whole vectors.
  private static void scale(float[] a, int start, int count, float factor) {
    var factors = Lanes.all(factor);
    int i = start;
    for (; i <= start + count - LANES; i += LANES) {
      at(a, i).mul(factors).intoArray(a, i);
    }
    for (; i < start + count; i++) {
      a[i] *= factor;
    }
  }

  @Override
  public void sigmoidGateBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    if (width == 1) {
      elementsBackward(dOut, y, z, dy, dz, from, to);
    } else {
      rowsBackward(dOut, y, z, dy, dz, width, from, to);
    }
  }

  private static void elementsBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, long from, long to) {
    float[] d = array(CHUNK);
    float[] a = array(CHUNK);
    float[] b = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(dOut, start, d, count);
      read(y, start, a, count);
      read(z, start, b, count);
      gateSlopes(d, a, b, padded(count));
      write(d, dy, start, count);
      write(a, dz, start, count);
    }
  }

  /// d ← d σ(z) and y ← d y σ(z) σ(−z), where with e = e^(−|z|) the slope is e / (1 + e)².
  private static void gateSlopes(float[] d, float[] y, float[] z, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      var logit = at(z, i);
      var upstream = at(d, i);
      var product = upstream.mul(at(y, i));
      var small = Lanes.exp(logit.abs().neg());
      var one = FloatVector.broadcast(Lanes.F, 1f);
      var inverse = one.div(small.add(one));
      var numerator = small.blend(one, logit.compare(VectorOperators.GE, 0f));
      upstream.mul(numerator.mul(inverse)).intoArray(d, i);
      product.mul(small.mul(inverse).mul(inverse)).intoArray(y, i);
    }
  }

  private static void rowsBackward(
      Floats dOut, Floats y, Floats z, Floats dy, Floats dz, int width, long from, long to) {
    int most = Math.max(1, CHUNK / width);
    float[] d = array(most * width);
    float[] a = array(most * width);
    float[] scores = array(most);
    float[] complements = array(most);
    float[] lanes = array(LANES);
    for (long start = from; start < to; start += most) {
      int rows = (int) Math.min(most, to - start);
      read(z, start, scores, rows);
      scoresAndComplements(scores, complements, padded(rows));
      read(dOut, start * width, d, rows * width);
      read(y, start * width, a, rows * width);
      for (int r = 0; r < rows; r++) {
        complements[r] *= scores[r];
        complements[r] *= dot(d, a, r * width, width, lanes);
        scale(d, r * width, width, scores[r]);
      }
      write(complements, dz, start, rows);
      write(d, dy, start * width, rows * width);
    }
  }

  /// z ← σ(z) and complements ← σ(−z).
  private static void scoresAndComplements(float[] z, float[] complements, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      var logit = at(z, i);
      var small = Lanes.exp(logit.abs().neg());
      var one = FloatVector.broadcast(Lanes.F, 1f);
      var inverse = one.div(small.add(one));
      var positive = logit.compare(VectorOperators.GE, 0f);
      small.blend(one, positive).mul(inverse).intoArray(z, i);
      one.blend(small, positive).mul(inverse).intoArray(complements, i);
    }
  }

  /// `Σ a[i] b[i]` over `count` numbers from `start` on, which need not be whole vectors.
  private static float dot(float[] a, float[] b, int start, int count, float[] lanes) {
    int whole = count / LANES * LANES;
    float sum = Lanes.dot(a, b, start, whole, lanes);
    for (int i = start + whole; i < start + count; i++) {
      sum += a[i] * b[i];
    }
    return sum;
  }

  // ---------------------------------------------------------------- the feed-forward

  @Override
  public void swiGlu(Floats gate, Floats up, Floats out, long from, long to) {
    float[] g = array(CHUNK);
    float[] u = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(gate, start, g, count);
      read(up, start, u, count);
      for (int i = 0; i < count; i += LANES) {
        var z = at(g, i);
        var other = at(u, i);
        z.mul(Lanes.sigmoid(z)).mul(other).intoArray(u, i);
      }
      write(u, out, start, count);
    }
  }

  @Override
  public void swiGluBackward(
      Floats dOut,
      Floats gate,
      Floats up,
      Floats out,
      Floats dGate,
      Floats dUp,
      long from,
      long to) {
    float[] d = array(CHUNK);
    float[] g = array(CHUNK);
    float[] u = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(dOut, start, d, count);
      read(gate, start, g, count);
      read(up, start, u, count);
      swiGluSlopes(d, g, u, padded(count));
      write(d, dUp, start, count);
      write(g, out, start, count);
      write(u, dGate, start, count);
    }
  }

  /// d ← d z σ(z), u ← d u σ(z) (1 + z σ(−z)) and z ← u z σ(z).
  private static void swiGluSlopes(float[] d, float[] z, float[] u, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      var logit = at(z, i);
      var up = at(u, i);
      var upstream = at(d, i);
      var small = Lanes.exp(logit.abs().neg());
      var one = FloatVector.broadcast(Lanes.F, 1f);
      var inverse = one.div(small.add(one));
      var positive = logit.compare(VectorOperators.GE, 0f);
      var score = small.blend(one, positive).mul(inverse);
      var rest = one.blend(small, positive).mul(inverse);
      var silu = logit.mul(score);
      upstream.mul(silu).intoArray(d, i);
      upstream.mul(up).mul(score.mul(rest.fma(logit, one))).intoArray(u, i);
      silu.mul(up).intoArray(z, i);
    }
  }

  // ---------------------------------------------------------------- norms and rotation

  @Override
  public void rmsNorm(
      Floats x,
      @Nullable Floats added,
      Floats weight,
      double epsilon,
      Floats sum,
      Floats out,
      int width,
      long from,
      long to) {
    VectorNorm.forward(x, added, weight, epsilon, sum, out, width, from, to);
  }

  @Override
  public void rmsNormBackward(
      Floats dOut,
      Floats sum,
      Floats weight,
      double epsilon,
      @Nullable Floats dPast,
      Floats dSum,
      @Nullable Floats dAdded,
      MemorySegment dWeight,
      int width,
      long from,
      long to) {
    VectorNorm.backward(dOut, sum, weight, epsilon, dPast, dSum, dAdded, dWeight, width, from, to);
  }

  @Override
  public void normRotate(
      Floats x,
      @Nullable Floats weight,
      double epsilon,
      Rotations rotations,
      Floats out,
      int heads,
      int width,
      long from,
      long to) {
    VectorNorm.rotate(x, weight, epsilon, rotations, out, heads, width, from, to);
  }

  @Override
  public void normRotateBackward(
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
    VectorNorm.rotateBackward(
        dOut, x, weight, epsilon, rotations, dx, dWeight, heads, width, from, to);
  }

  // ---------------------------------------------------------------- softmax

  @Override
  public void causalSoftmax(
      CausalTile tile,
      MemorySegment scores,
      Floats weights,
      MemorySegment maxima,
      MemorySegment sums,
      MemorySegment factors) {
    VectorSoftmax.forward(tile, scores, weights, maxima, sums, factors);
  }

  @Override
  public void causalSoftmaxBackward(
      CausalTile tile,
      MemorySegment scores,
      MemorySegment dWeights,
      MemorySegment logSumExp,
      MemorySegment delta,
      Floats weights,
      Floats dScores) {
    VectorSoftmax.backward(tile, scores, dWeights, logSumExp, delta, weights, dScores);
  }

  @Override
  public void crossEntropy(
      MemorySegment logits,
      MemorySegment targets,
      MemorySegment losses,
      MemorySegment logSums,
      @Nullable Floats dLogits,
      double scale,
      double zLoss,
      int vocabulary,
      long from,
      long to) {
    VectorSoftmax.crossEntropy(
        logits, targets, losses, logSums, dLogits, (float) scale, zLoss, vocabulary, from, to);
  }

  // ---------------------------------------------------------------- rows and elements

  @Override
  public void scaleRows(MemorySegment x, MemorySegment factors, int rows, int width) {
    int most = Math.max(1, CHUNK / width);
    float[] some = array(most * width);
    var numbers = Floats.float32(x);
    for (int start = 0; start < rows; start += most) {
      int count = Math.min(most, rows - start);
      read(numbers, (long) start * width, some, count * width);
      for (int r = 0; r < count; r++) {
        scale(some, r * width, width, factors.get(FLOAT, (start + r) * 4L));
      }
      write(some, numbers, (long) start * width, count * width);
    }
  }

  @Override
  public void gatherRows(Floats x, HeadRows rows, Floats out) {
    rows.gather(x, out);
  }

  @Override
  public void spreadRows(Floats x, Floats out, HeadRows rows) {
    rows.spread(x, out);
  }

  @Override
  public void scatterRows(
      MemorySegment x, @Nullable MemorySegment divisors, Floats out, HeadRows rows) {
    int width = rows.width();
    float[] token = array(rows.group() * width);
    var numbers = Floats.float32(x);
    for (int i = 0; i < rows.rows(); i += rows.group()) {
      int count = Math.min(rows.group(), rows.rows() - i);
      read(numbers, (long) i * width, token, count * width);
      for (int r = 0; divisors != null && r < count; r++) {
        divide(token, r * width, width, divisors.get(FLOAT, (i + r) * 4L));
      }
      write(token, out, rows.at(i), count * width);
    }
  }

  @Override
  public void scatterGatedRows(
      MemorySegment x, MemorySegment divisors, Floats z, int scores, Floats out, HeadRows rows) {
    int width = rows.width();
    boolean shared = scores < width;
    float[] y = array(rows.group() * width);
    float[] score = array(shared ? rows.rows() : rows.group() * width);
    var numbers = Floats.float32(x);
    if (shared) {
      read(z, 0, score, rows.rows());
      sigmoids(score, padded(rows.rows()));
    }
    for (int i = 0; i < rows.rows(); i += rows.group()) {
      int count = Math.min(rows.group(), rows.rows() - i);
      read(numbers, (long) i * width, y, count * width);
      if (!shared) {
        read(z, (long) i * width, score, count * width);
        multiplyBySigmoids(y, score, padded(count * width));
      }
      for (int r = 0; r < count; r++) {
        float factor = shared ? score[i + r] : 1;
        scale(y, r * width, width, factor / divisors.get(FLOAT, (i + r) * 4L));
      }
      write(y, out, rows.at(i), count * width);
    }
  }

  @Override
  public void gatedRowsBackward(
      Floats dOut, Floats out, Floats z, int scores, MemorySegment delta, int rows, int width) {
    boolean shared = scores < width;
    int most = Math.max(1, CHUNK / width);
    float[] d = array(most * width);
    float[] a = array(most * width);
    float[] logits = array(most * scores);
    float[] complements = array(most);
    float[] lanes = array(LANES);
    for (int start = 0; start < rows; start += most) {
      int count = Math.min(most, rows - start);
      read(dOut, (long) start * width, d, count * width);
      read(out, (long) start * width, a, count * width);
      read(z, (long) start * scores, logits, count * scores);
      if (shared) {
        scoresAndComplements(logits, complements, padded(count));
      }
      for (int r = 0; r < count; r++) {
        float sum = dot(d, a, r * width, width, lanes);
        delta.set(FLOAT, (start + r) * 4L, sum);
        if (shared) {
          complements[r] *= sum;
          scale(d, r * width, width, logits[r]);
        }
      }
      if (!shared) {
        gatedSlopes(d, a, logits, padded(count * width));
      }
      write(shared ? complements : a, z, (long) start * scores, count * scores);
      write(d, dOut, (long) start * width, count * width);
    }
  }

  /// d ← d σ(z) and out ← d out σ(−z).
  private static void gatedSlopes(float[] d, float[] out, float[] z, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      var logit = at(z, i);
      var upstream = at(d, i);
      var product = upstream.mul(at(out, i));
      var small = Lanes.exp(logit.abs().neg());
      var one = FloatVector.broadcast(Lanes.F, 1f);
      var inverse = one.div(small.add(one));
      var positive = logit.compare(VectorOperators.GE, 0f);
      upstream.mul(small.blend(one, positive).mul(inverse)).intoArray(d, i);
      product.mul(one.blend(small, positive).mul(inverse)).intoArray(out, i);
    }
  }

  @Override
  public void dotRows(Floats a, Floats b, MemorySegment out, int rows, int width) {
    int most = Math.max(1, CHUNK / width);
    float[] left = array(most * width);
    float[] right = array(most * width);
    float[] lanes = array(LANES);
    for (int start = 0; start < rows; start += most) {
      int count = Math.min(most, rows - start);
      read(a, (long) start * width, left, count * width);
      read(b, (long) start * width, right, count * width);
      for (int r = 0; r < count; r++) {
        out.set(FLOAT, (start + r) * 4L, dot(left, right, r * width, width, lanes));
      }
    }
  }

  @Override
  public void copy(Floats x, Floats out, long from, long to) {
    float[] chunk = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(x, start, chunk, count);
      write(chunk, out, start, count);
    }
  }

  @Override
  public double squareSum(MemorySegment x, long from, long to) {
    float[] chunk = array(CHUNK);
    double[] sums = new double[4]; // one after the other would wait for each addition
    var numbers = Floats.float32(x);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(numbers, start, chunk, count);
      addSquares(chunk, padded(count), sums);
    }
    double sum = 0;
    for (double part : sums) {
      sum += part;
    }
    return sum;
  }

  private static void addSquares(float[] x, int padded, double[] sums) {
    double a = sums[0];
    double b = sums[1];
    double c = sums[2];
    double d = sums[3];
    for (int i = 0; i < padded; i += 4) {
      a += (double) x[i] * x[i];
      b += (double) x[i + 1] * x[i + 1];
      c += (double) x[i + 2] * x[i + 2];
      d += (double) x[i + 3] * x[i + 3];
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
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
    int columns = to - from;
    float[] row = array(columns);
    float[] sum = array(columns);
    var numbers = Floats.float32(table);
    for (long r = 0; r < count; r++) {
      long at = ids.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8) * width + from;
      read(rows, r * width + from, row, columns);
      read(numbers, at, sum, columns);
      for (int i = 0; i < columns; i += LANES) {
        at(sum, i).add(at(row, i)).intoArray(sum, i);
      }
      write(sum, numbers, at, columns);
    }
  }

  // ---------------------------------------------------------------- the gated delta rule

  @Override
  public void causalConvolution(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to) {
    VectorConvolution.forward(x, history, weight, out, sizes, from, to);
  }

  @Override
  public void convolutionStep(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to) {
    VectorConvolution.step(x, history, weight, out, channels, width, from, to);
  }

  @Override
  public void causalConvolutionBackward(
      Floats dOut,
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats dx,
      Floats dWeight,
      Convolution sizes,
      int from,
      int to) {
    VectorConvolution.backward(dOut, x, history, weight, dx, dWeight, sizes, from, to);
  }

  @Override
  public void deltaScores(
      MemorySegment scores,
      double[] decays,
      float[] rates,
      MemorySegment system,
      MemorySegment weights,
      int rows) {
    VectorDeltaRule.scores(scores, decays, rates, system, weights, rows);
  }

  @Override
  public void deltaScoresBackward(
      MemorySegment scores,
      MemorySegment products,
      double[] decays,
      float[] rates,
      MemorySegment dScores,
      double[] dDecays,
      double[] dRates,
      int rows) {
    VectorDeltaRule.scoresBackward(scores, products, decays, rates, dScores, dDecays, dRates, rows);
  }

  @Override
  public void solveUnitTriangle(
      MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width) {
    VectorDeltaRule.solve(lower, x, transposed, rows, width);
  }

  @Override
  public void addScaledRows(
      MemorySegment x,
      MemorySegment factors,
      MemorySegment base,
      MemorySegment sums,
      MemorySegment dots,
      int rows,
      int width) {
    VectorDeltaRule.addScaledRows(x, factors, base, sums, dots, rows, width);
  }

  @Override
  public void deltaStep(
      MemorySegment key,
      MemorySegment query,
      Floats value,
      float decay,
      float rate,
      MemorySegment state,
      Floats out,
      int keyWidth,
      int valueWidth) {
    VectorDeltaRule.step(key, query, value, decay, rate, state, out, keyWidth, valueWidth);
  }

  // ---------------------------------------------------------------- the optimizer

  @Override
  public void adamW(
      MemorySegment parameter,
      MemorySegment gradient,
      MemorySegment firstMoment,
      MemorySegment secondMoment,
      AdamWStep step,
      long from,
      long to) {
    float[] theta = array(CHUNK);
    float[] g = array(CHUNK);
    float[] m = array(CHUNK);
    float[] v = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(Floats.float32(parameter), start, theta, count);
      read(Floats.float32(gradient), start, g, count);
      read(Floats.float32(firstMoment), start, m, count);
      read(Floats.float32(secondMoment), start, v, count);
      moments(g, m, v, step, padded(count));
      update(theta, m, v, step, padded(count));
      write(theta, Floats.float32(parameter), start, count);
      write(m, Floats.float32(firstMoment), start, count);
      write(v, Floats.float32(secondMoment), start, count);
    }
  }

  private static void moments(float[] g, float[] m, float[] v, AdamWStep step, int padded) {
    float scale = (float) step.gradientScale();
    float beta1 = (float) step.beta1();
    float beta2 = (float) step.beta2();
    float fresh1 = (float) (1 - step.beta1());
    float fresh2 = (float) (1 - step.beta2());
    for (int i = 0; i < padded; i += LANES) {
      var gradient = at(g, i).mul(scale);
      at(m, i).mul(beta1).add(gradient.mul(fresh1)).intoArray(m, i);
      at(v, i).mul(beta2).add(gradient.mul(gradient).mul(fresh2)).intoArray(v, i);
    }
  }

  private static void update(float[] theta, float[] m, float[] v, AdamWStep step, int padded) {
    float keep = (float) (1 - step.learningRate() * step.weightDecay());
    float rate = (float) (step.learningRate() / step.correction1());
    float root2 = (float) step.rootCorrection2();
    float epsilon = (float) step.epsilon();
    for (int i = 0; i < padded; i += LANES) {
      var change = at(m, i).mul(rate).div(at(v, i).sqrt().div(root2).add(epsilon));
      at(theta, i).mul(keep).sub(change).intoArray(theta, i);
    }
  }

  @Override
  public void weightedSum(Floats x, float a, Floats y, float b, Floats out, long from, long to) {
    float[] one = array(CHUNK);
    float[] other = array(CHUNK);
    for (long start = from; start < to; start += CHUNK) {
      int count = (int) Math.min(CHUNK, to - start);
      read(x, start, one, count);
      read(y, start, other, count);
      weightedSum(one, a, other, b, padded(count));
      write(one, out, start, count);
    }
  }

  private static void weightedSum(float[] x, float a, float[] y, float b, int padded) {
    for (int i = 0; i < padded; i += LANES) {
      at(x, i).mul(a).add(at(y, i).mul(b)).intoArray(x, i);
    }
  }

  // ---------------------------------------------------------------- small loops

  /// Divides `count` numbers from `start` on, which need not be whole vectors.
  private static void divide(float[] a, int start, int count, float divisor) {
    var divisors = Lanes.all(divisor);
    int i = start;
    for (; i <= start + count - LANES; i += LANES) {
      at(a, i).div(divisors).intoArray(a, i);
    }
    for (; i < start + count; i++) {
      a[i] /= divisor;
    }
  }

  // ---------------------------------------------------------------- decoding

  @Override
  public void oneTokenAttention(
      MemorySegment queries,
      Floats keys,
      Floats values,
      int count,
      int group,
      int width,
      double scale,
      MemorySegment y,
      MemorySegment logSumExp) {
    VectorSoftmax.oneToken(queries, keys, values, count, group, width, scale, y, logSumExp);
  }

  @Override
  public void storedProduct(
      StoredMatrix w,
      MemorySegment x,
      int inputs,
      MemorySegment y,
      long yStride,
      long from,
      long to) {
    VectorWeights.product(w, x, inputs, y, yStride, from, to);
  }

  @Override
  public void dequantizeRows(StoredMatrix w, long from, long to, Floats out) {
    VectorWeights.dequantize(w, from, to, out);
  }
}
