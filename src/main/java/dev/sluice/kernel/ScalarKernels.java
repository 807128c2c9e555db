package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

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
    for (long r = from; r < to; r++) {
      for (long i = r * width; added != null && i < (r + 1) * width; i++) {
        sum.set(i, x.get(i) + added.get(i));
      }
      var row = added == null ? x : sum;
      float s = inverseRoot(row, r * width, width, epsilon);
      for (int j = 0; j < width; j++) {
        out.set(r * width + j, row.get(r * width + j) * s * weight.get(j));
      }
    }
  }

  private static float inverseRoot(Floats x, long start, int width, double epsilon) {
    double squares = 0;
    for (long i = start; i < start + width; i++) {
      squares += (double) x.get(i) * x.get(i);
    }
    return (float) (1 / Math.sqrt(squares / width + epsilon));
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
    float[] d = new float[width];
    for (long r = from; r < to; r++) {
      for (int j = 0; j < width; j++) {
        d[j] = dOut.get(r * width + j);
      }
      normGradient(d, sum, r * width, weight, epsilon, dWeight);
      for (int j = 0; j < width; j++) {
        float both = d[j] + (dPast == null ? 0 : dPast.get(r * width + j));
        dSum.set(r * width + j, both);
        if (dAdded != null) {
          dAdded.set(r * width + j, both);
        }
      }
    }
  }

  /// Turns ∂L/∂out of a normed row into ∂L/∂x, and adds to ∂L/∂weight.
  private static void normGradient(
      float[] d, Floats x, long start, Floats weight, double epsilon, MemorySegment dWeight) {
    float s = inverseRoot(x, start, d.length, epsilon);
    double dot = 0;
    for (int j = 0; j < d.length; j++) {
      dot += (double) d[j] * weight.get(j) * x.get(start + j);
    }
    float c = (float) (s * s * (dot / d.length));
    for (int j = 0; j < d.length; j++) {
      float v = x.get(start + j);
      set(dWeight, j, get(dWeight, j) + d[j] * v * s); // out = x · s · weight
      d[j] = s * (d[j] * weight.get(j) - v * c);
    }
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
    int half = rotations.pairs();
    float[] u = new float[width];
    for (long r = from; r < to; r++) {
      float s = weight == null ? 1 : inverseRoot(x, r * width, width, epsilon);
      for (int j = 0; j < width; j++) {
        u[j] = x.get(r * width + j) * s * (weight == null ? 1 : weight.get(j));
      }
      long angle = r / heads % rotations.positions() * half;
      for (int i = 0; i < half; i++) {
        float cos = get(rotations.cosines(), angle + i);
        float sin = get(rotations.sines(), angle + i);
        out.set(r * width + i, u[i] * cos - u[i + half] * sin);
        out.set(r * width + i + half, u[i + half] * cos + u[i] * sin);
      }
      for (int i = 2 * half; i < width; i++) {
        out.set(r * width + i, u[i]);
      }
    }
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
    int half = rotations.pairs();
    float[] d = new float[width];
    for (long r = from; r < to; r++) {
      long angle = r / heads % rotations.positions() * half;
      for (int i = 0; i < half; i++) { // the rotation back
        float cos = get(rotations.cosines(), angle + i);
        float sin = get(rotations.sines(), angle + i);
        float first = dOut.get(r * width + i);
        float second = dOut.get(r * width + i + half);
        d[i] = first * cos + second * sin;
        d[i + half] = second * cos - first * sin;
      }
      for (int i = 2 * half; i < width; i++) {
        d[i] = dOut.get(r * width + i);
      }
      if (weight != null) {
        normGradient(d, x, r * width, weight, epsilon, dWeight);
      }
      for (int j = 0; j < width; j++) {
        dx.set(r * width + j, d[j]);
      }
    }
  }

  @Override
  public void swiGlu(Floats gate, Floats up, Floats out, long from, long to) {
    for (long i = from; i < to; i++) {
      float z = gate.get(i);
      out.set(i, z * sigmoid(z) * up.get(i));
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
    for (long i = from; i < to; i++) {
      float z = gate.get(i);
      float score = sigmoid(z);
      out.set(i, z * score * up.get(i));
      dUp.set(i, dOut.get(i) * z * score);
      dGate.set(i, dOut.get(i) * up.get(i) * score * (1 + z * sigmoid(-z)));
    }
  }

  @Override
  public void causalSoftmax(
      CausalTile tile,
      MemorySegment scores,
      Floats weights,
      MemorySegment maxima,
      MemorySegment sums,
      MemorySegment factors) {
    for (int i = 0; i < tile.rows(); i++) {
      long row = (long) i * tile.columns();
      int hidden = tile.hidden(i);
      int seen = tile.seen(i);
      float before = get(maxima, i);
      float largest = before;
      for (int j = hidden; j < seen; j++) {
        largest = Math.max(largest, (float) tile.scale() * get(scores, row + j));
      }
      float factor = hidden == seen ? 1 : (float) Math.exp(before - largest);
      double sum = factor * get(sums, i);
      for (int j = 0; j < tile.columns(); j++) {
        float score = (float) tile.scale() * get(scores, row + j);
        float weight = j >= hidden && j < seen ? (float) Math.exp(score - largest) : 0;
        weights.set(row + j, weight);
        sum += weight;
      }
      set(maxima, i, largest);
      set(sums, i, (float) sum);
      set(factors, i, factor);
    }
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
    for (int i = 0; i < tile.rows(); i++) {
      long row = (long) i * tile.columns();
      for (int j = 0; j < tile.columns(); j++) {
        boolean seen = j >= tile.hidden(i) && j < tile.seen(i);
        float score = (float) tile.scale() * get(scores, row + j);
        float p = seen ? (float) Math.exp(score - get(logSumExp, i)) : 0;
        float d = seen ? p * (get(dWeights, row + j) - get(delta, i)) : 0;
        weights.set(row + j, p);
        dScores.set(row + j, (float) tile.scale() * d);
      }
    }
  }

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
    double[] scores = new double[count];
    for (int g = 0; g < group; g++) {
      double largest = Double.NEGATIVE_INFINITY;
      for (int j = 0; j < count; j++) {
        double score = 0;
        for (int c = 0; c < width; c++) {
          score += (double) get(queries, (long) g * width + c) * keys.get((long) j * width + c);
        }
        scores[j] = scale * score;
        largest = Math.max(largest, scores[j]);
      }
      double sum = 0;
      for (int j = 0; j < count; j++) {
        scores[j] = Math.exp(scores[j] - largest);
        sum += scores[j];
      }
      for (int c = 0; c < width; c++) {
        double mean = 0;
        for (int j = 0; j < count; j++) {
          mean += scores[j] * values.get((long) j * width + c);
        }
        set(y, (long) g * width + c, (float) (mean / sum));
      }
      set(logSumExp, g, (float) (largest + Math.log(sum)));
    }
  }

  @Override
  public void scaleRows(MemorySegment x, MemorySegment factors, int rows, int width) {
    for (int i = 0; i < rows; i++) {
      for (long j = (long) i * width; j < (i + 1L) * width; j++) {
        set(x, j, get(x, j) * get(factors, i));
      }
    }
  }

  @Override
  public void gatherRows(Floats x, HeadRows rows, Floats out) {
    for (int i = 0; i < rows.rows(); i++) {
      for (int j = 0; j < rows.width(); j++) {
        out.set((long) i * rows.width() + j, x.get(rows.at(i) + j));
      }
    }
  }

  @Override
  public void scatterRows(
      MemorySegment x, @Nullable MemorySegment divisors, Floats out, HeadRows rows) {
    for (int i = 0; i < rows.rows(); i++) {
      float divisor = divisors == null ? 1 : get(divisors, i);
      for (int j = 0; j < rows.width(); j++) {
        out.set(rows.at(i) + j, get(x, (long) i * rows.width() + j) / divisor);
      }
    }
  }

  @Override
  public void spreadRows(Floats x, Floats out, HeadRows rows) {
    for (int i = 0; i < rows.rows(); i++) {
      for (int j = 0; j < rows.width(); j++) {
        out.set(rows.at(i) + j, x.get((long) i * rows.width() + j));
      }
    }
  }

  @Override
  public void scatterGatedRows(
      MemorySegment x, MemorySegment divisors, Floats z, int scores, Floats out, HeadRows rows) {
    for (int i = 0; i < rows.rows(); i++) {
      for (int j = 0; j < rows.width(); j++) {
        float y = get(x, (long) i * rows.width() + j) / get(divisors, i);
        out.set(rows.at(i) + j, y * sigmoid(z.get((long) i * scores + j % scores)));
      }
    }
  }

  @Override
  public void gatedRowsBackward(
      Floats dOut, Floats out, Floats z, int scores, MemorySegment delta, int rows, int width) {
    for (int i = 0; i < rows; i++) {
      double sum = 0;
      for (long j = (long) i * width; j < (i + 1L) * width; j++) {
        sum += (double) dOut.get(j) * out.get(j);
      }
      set(delta, i, (float) sum);
      for (int part = 0; part < scores; part++) {
        long logit = (long) i * scores + part;
        float score = sigmoid(z.get(logit));
        float complement = sigmoid(-z.get(logit));
        long from = (long) i * width + part;
        long to = scores == 1 ? from + width : from + 1;
        double product = scores == 1 ? sum : (double) dOut.get(from) * out.get(from);
        z.set(logit, (float) (product * complement));
        for (long j = from; j < to; j++) {
          dOut.set(j, dOut.get(j) * score);
        }
      }
    }
  }

  @Override
  public void dotRows(Floats a, Floats b, MemorySegment out, int rows, int width) {
    for (int i = 0; i < rows; i++) {
      double sum = 0;
      for (long j = (long) i * width; j < (i + 1L) * width; j++) {
        sum += (double) a.get(j) * b.get(j);
      }
      set(out, i, (float) sum);
    }
  }

  @Override
  public void causalConvolution(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to) {
    for (long token = 0; token < sizes.batch() * sizes.tokens(); token++) {
      for (int c = from; c < to; c++) {
        float u = convolved(x, history, weight, sizes, token, c);
        out.set(token * sizes.channels() + c, u * sigmoid(u));
      }
    }
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
    var floats = ValueLayout.JAVA_FLOAT;
    for (int c = from; c < to; c++) {
      double sum = 0;
      for (int i = 0; i < width; i++) {
        boolean isNewest = i == width - 1;
        float token =
            isNewest
                ? x.getAtIndex(floats, c)
                : history.getAtIndex(floats, (long) i * channels + c);
        sum += (double) weight.getAtIndex(floats, (long) i * channels + c) * token;
        if (i > 0) {
          history.setAtIndex(floats, (i - 1L) * channels + c, token);
        }
      }
      float u = (float) sum;
      out.setAtIndex(floats, c, u * sigmoid(u));
    }
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
    int width = sizes.width();
    for (int c = from; c < to; c++) {
      double[] sums = new double[width];
      for (long token = 0; token < sizes.batch() * sizes.tokens(); token++) {
        double sum = 0;
        for (int i = 0; i < width && token % sizes.tokens() + i < sizes.tokens(); i++) {
          if (width - 1 - i >= firstFactor(sizes, token + i)) {
            float d = convolvedSlope(dOut, x, history, weight, sizes, token + i, c);
            sum += (double) weight.get((long) c * width + width - 1 - i) * d;
          }
        }
        dx.set(token * sizes.channels() + c, (float) sum);
        float d = convolvedSlope(dOut, x, history, weight, sizes, token, c);
        for (int i = firstFactor(sizes, token); i < width; i++) {
          sums[i] += (double) d * before(x, history, sizes, token, width - 1 - i, c);
        }
      }
      for (int i = 0; i < width; i++) {
        long at = (long) c * width + i;
        dWeight.set(at, (float) (dWeight.get(at) + sums[i]));
      }
    }
  }

  private static int firstFactor(Convolution sizes, long token) {
    return sizes.firstFactor(token / sizes.tokens(), token % sizes.tokens());
  }

  /// u of a token, counted through all sequences.
  private static float convolved(
      Floats x, @Nullable Floats history, Floats weight, Convolution sizes, long token, int c) {
    double sum = 0;
    for (int i = firstFactor(sizes, token); i < sizes.width(); i++) {
      float earlier = before(x, history, sizes, token, sizes.width() - 1 - i, c);
      sum += (double) weight.get((long) c * sizes.width() + i) * earlier;
    }
    return (float) sum;
  }

  private static float convolvedSlope(
      Floats dOut,
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Convolution sizes,
      long token,
      int c) {
    float u = convolved(x, history, weight, sizes, token, c);
    return dOut.get(token * sizes.channels() + c) * sigmoid(u) * (1 + u * sigmoid(-u));
  }

  /// Channel c of the token that stands `distance` before a token.
  private static float before(
      Floats x, @Nullable Floats history, Convolution sizes, long token, int distance, int c) {
    long within = token % sizes.tokens() - distance;
    if (within >= 0) {
      return x.get((token - distance) * sizes.channels() + c);
    }
    int earlier = sizes.width() - 1;
    long sequence = token / sizes.tokens();
    return history == null
        ? 0
        : history.get((sequence * earlier + earlier + within) * sizes.channels() + c);
  }

  @Override
  public void deltaScores(
      MemorySegment scores,
      double[] decays,
      float[] rates,
      MemorySegment system,
      MemorySegment weights,
      int rows) {
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < rows; j++) {
        double factor = j <= i ? decayed(decays[i] - decays[j]) : 0;
        long at = (long) i * rows + j;
        double key = get(scores, at);
        double query = get(scores, (long) rows * rows + at);
        set(system, at, j < i ? (float) (rates[i] * key * factor) : 0);
        set(weights, at, j <= i ? (float) (query * factor) : 0);
      }
    }
  }

  private static double decayed(double difference) {
    return difference < FORGOTTEN ? 0 : Math.exp(difference);
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
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j <= i; j++) {
        double factor = decayed(decays[i] - decays[j]);
        long key = (long) i * rows + j;
        long query = (long) rows * rows + key;
        double ofQuery = get(products, query) * factor;
        set(dScores, query, (float) (get(dScores, query) + ofQuery));
        if (j < i) { // the diagonal of the weights has no decay
          double ofSystem = -get(products, key) * factor;
          double ofKey = ofSystem * rates[i];
          set(dScores, key, (float) (get(dScores, key) + ofKey));
          dRates[i] += ofSystem * get(scores, key);
          double ofDecay = ofKey * get(scores, key) + ofQuery * get(scores, query);
          dDecays[i] += ofDecay;
          dDecays[j] -= ofDecay;
        }
      }
    }
  }

  @Override
  public void solveUnitTriangle(
      MemorySegment lower, MemorySegment x, boolean transposed, int rows, int width) {
    for (int c = 0; c < width; c++) {
      for (int step = 0; step < rows; step++) {
        int i = transposed ? rows - 1 - step : step;
        double rest = get(x, (long) i * width + c);
        for (int j = transposed ? i + 1 : 0; j < (transposed ? rows : i); j++) {
          long at = transposed ? (long) j * rows + i : (long) i * rows + j;
          rest -= (double) get(lower, at) * get(x, (long) j * width + c);
        }
        set(x, (long) i * width + c, (float) rest);
      }
    }
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
    for (int i = 0; i < rows; i++) {
      double factor = get(factors, i);
      double dot = 0;
      for (long j = (long) i * width; j < (i + 1L) * width; j++) {
        double scaled = factor * get(x, j);
        set(sums, j, (float) (get(sums, j) + scaled));
        dot += scaled * get(base, j);
      }
      set(dots, i, (float) dot);
    }
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
    for (int j = 0; j < valueWidth; j++) {
      double read = 0;
      double seen = 0;
      double same = 0;
      for (int i = 0; i < keyWidth; i++) {
        double number = get(state, (long) i * valueWidth + j);
        read += get(key, i) * number;
        seen += get(query, i) * number;
        same += (double) get(query, i) * get(key, i);
      }
      double change = rate * (value.get(j) - decay * read);
      out.set(j, (float) (decay * seen + same * change));
      for (int i = 0; i < keyWidth; i++) {
        long at = (long) i * valueWidth + j;
        set(state, at, (float) (decay * (double) get(state, at) + get(key, i) * change));
      }
    }
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
    for (long r = from; r < to; r++) {
      long row = r * vocabulary;
      float largest = Float.NEGATIVE_INFINITY;
      for (int j = 0; j < vocabulary; j++) {
        largest = Math.max(largest, get(logits, row + j));
      }
      double sum = 0;
      for (int j = 0; j < vocabulary; j++) {
        sum += Math.exp(get(logits, row + j) - largest);
      }
      double logSumExp = largest + Math.log(sum);
      long target = targets.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8);
      set(losses, r, (float) (logSumExp - get(logits, row + target)));
      set(logSums, r, (float) logSumExp);
      double share = zLoss == 0 ? 1 : 1 + 2 * zLoss * logSumExp; // none of an infinite one
      for (int j = 0; dLogits != null && j < vocabulary; j++) {
        double p = Math.exp(get(logits, row + j) - largest) / sum * share;
        dLogits.set(row + j, (float) (scale * (j == target ? p - 1 : p)));
      }
    }
  }

  @Override
  public void copy(Floats x, Floats out, long from, long to) {
    for (long i = from; i < to; i++) {
      out.set(i, x.get(i));
    }
  }

  @Override
  public void weightedSum(Floats x, float a, Floats y, float b, Floats out, long from, long to) {
    for (long i = from; i < to; i++) {
      out.set(i, a * x.get(i) + b * y.get(i));
    }
  }

  @Override
  public double squareSum(MemorySegment x, long from, long to) {
    double sum = 0;
    for (long i = from; i < to; i++) {
      sum += (double) get(x, i) * get(x, i);
    }
    return sum;
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
    int columns = Math.toIntExact(w.columns());
    float[] row = new float[columns];
    for (long r = from; r < to; r++) {
      w.format().dequantize(w.data(), w.offset(r), columns, row, 0);
      for (int i = 0; i < inputs; i++) {
        double sum = 0;
        for (int c = 0; c < columns; c++) {
          sum += (double) row[c] * get(x, (long) i * columns + c);
        }
        set(y, i * yStride + r, (float) sum);
      }
    }
  }

  @Override
  public void dequantizeRows(StoredMatrix w, long from, long to, Floats out) {
    int columns = Math.toIntExact(w.columns());
    float[] row = new float[columns];
    for (long r = from; r < to; r++) {
      w.format().dequantize(w.data(), w.offset(r), columns, row, 0);
      long at = (r - from) * columns;
      if (out.bfloat16()) {
        for (int c = 0; c < columns; c++) {
          out.set(at + c, row[c]);
        }
      } else { // the first rows of a process, when nothing is compiled yet
        var layout = ValueLayout.JAVA_FLOAT_UNALIGNED;
        MemorySegment.copy(row, 0, out.memory(), layout, at * Float.BYTES, columns);
      }
    }
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
      long start = ids.get(ValueLayout.JAVA_LONG_UNALIGNED, r * 8) * width;
      for (int j = from; j < to; j++) {
        set(table, start + j, get(table, start + j) + rows.get(r * width + j));
      }
    }
  }
}
