package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.all;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.padded;
import static dev.sluice.kernel.Lanes.read;
import static dev.sluice.kernel.Lanes.write;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.jspecify.annotations.Nullable;

/// The causal convolution with SiLU, a block of channels at a time. Of a block the last `width`
/// tokens stay in arrays, token t in row `t mod width`.
final class VectorConvolution {
  private static final int BLOCK = 256;

  /// Tokens whose contributions to a weight's gradient are summed before they join the whole sum: a
  /// long sum of float32 numbers would lose them.
  private static final int SUMMED = 64;

  private final Convolution sizes;
  private final Floats x;
  private final @Nullable Floats history;
  private final int first;
  private final int count;

  /// Elements of a row of the arrays.
  private final int row;

  /// Weight i of every channel in row i.
  private final float[] weights;

  private final float[] tokens;
  private final float[] sums;

  private VectorConvolution(
      Floats x, @Nullable Floats history, Floats weight, Convolution sizes, int first, int count) {
    this.sizes = sizes;
    this.x = x;
    this.history = history;
    this.first = first;
    this.count = count;
    this.row = padded(count);
    this.weights = new float[sizes.width() * row];
    this.tokens = new float[sizes.width() * row];
    this.sums = array(count);
    float[] own = array(count * sizes.width());
    read(weight, (long) first * sizes.width(), own, count * sizes.width());
    for (int c = 0; c < count; c++) {
      for (int i = 0; i < sizes.width(); i++) {
        weights[i * row + c] = own[c * sizes.width() + i];
      }
    }
  }

  static void forward(
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats out,
      Convolution sizes,
      int from,
      int to) {
    for (int first = from; first < to; first += BLOCK) {
      new VectorConvolution(x, history, weight, sizes, first, Math.min(BLOCK, to - first))
          .forward(out);
    }
  }

  /// Of one token, see [Kernels#convolutionStep].
  static void step(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to) {
    for (int c = from; c < to; c += LANES) {
      if (to - c < LANES) {
        lastStep(x, history, weight, out, channels, width, c, to);
        return;
      }
      var sum = all(0);
      for (int i = 0; i < width; i++) {
        long row = (long) i * channels + c;
        var token = i == width - 1 ? at(x, c) : at(history, row);
        sum = at(weight, row).fma(token, sum);
        if (i > 0) {
          token.intoMemorySegment(history, (row - channels) * Float.BYTES, ByteOrder.nativeOrder());
        }
      }
      sum.mul(Lanes.sigmoid(sum))
          .intoMemorySegment(out, (long) c * Float.BYTES, ByteOrder.nativeOrder());
    }
  }

  /// Of fewer channels than a vector has.
  private static void lastStep(
      MemorySegment x,
      MemorySegment history,
      MemorySegment weight,
      MemorySegment out,
      int channels,
      int width,
      int from,
      int to) {
    float[] token = new float[LANES];
    float[] weights = new float[LANES];
    long bytes = (to - from) * (long) Float.BYTES;
    var sum = all(0);
    for (int i = 0; i < width; i++) {
      long at = ((long) i * channels + from) * Float.BYTES;
      boolean isNewest = i == width - 1;
      MemorySegment.ofArray(token)
          .copyFrom(
              (isNewest ? x : history).asSlice(isNewest ? (long) from * Float.BYTES : at, bytes));
      MemorySegment.ofArray(weights).copyFrom(weight.asSlice(at, bytes));
      sum = at(weights, 0).fma(at(token, 0), sum);
      if (i > 0) {
        history
            .asSlice(at - (long) channels * Float.BYTES, bytes)
            .copyFrom(MemorySegment.ofArray(token).asSlice(0, bytes));
      }
    }
    sum.mul(Lanes.sigmoid(sum)).intoArray(token, 0);
    out.asSlice((long) from * Float.BYTES, bytes)
        .copyFrom(MemorySegment.ofArray(token).asSlice(0, bytes));
  }

  static void backward(
      Floats dOut,
      Floats x,
      @Nullable Floats history,
      Floats weight,
      Floats dx,
      Floats dWeight,
      Convolution sizes,
      int from,
      int to) {
    for (int first = from; first < to; first += BLOCK) {
      new VectorConvolution(x, history, weight, sizes, first, Math.min(BLOCK, to - first))
          .backward(dOut, dx, dWeight);
    }
  }

  private void forward(Floats out) {
    for (long b = 0; b < sizes.batch(); b++) {
      begin(b);
      for (long t = 0; t < sizes.tokens(); t++) {
        takeUp(b, t);
        sumTaps(b, t);
        silu(sums);
        write(sums, out, place(b, t), count);
      }
    }
  }

  private void backward(Floats dOut, Floats dx, Floats dWeight) {
    int width = sizes.width();
    float[] upstream = array(count);
    float[] done = array(count);
    float[] dTokens = new float[width * row]; // what has been added up of a token's gradient
    float[] dWeights = new float[width * row];
    float[] all = new float[width * row];
    for (long b = 0; b < sizes.batch(); b++) {
      begin(b);
      Arrays.fill(dTokens, 0);
      for (long t = 0; t < sizes.tokens(); t++) {
        takeUp(b, t);
        sumTaps(b, t);
        read(dOut, place(b, t), upstream, count);
        slopes(upstream, sums);
        for (int i = sizes.firstFactor(b, t); i < width; i++) {
          int earlier = slot(t - width + 1 + i);
          addProducts(upstream, tokens, earlier, dWeights, i * row);
          addProducts(upstream, weights, i * row, dTokens, earlier);
        }
        finish(dTokens, done, dx, b, t - width + 1);
        if (t % SUMMED == SUMMED - 1 || t == sizes.tokens() - 1) {
          addTo(all, dWeights);
        }
      }
      for (long t = sizes.tokens() - width + 1; t < sizes.tokens(); t++) {
        finish(dTokens, done, dx, b, t);
      }
    }
    float[] own = array(count * width);
    for (int c = 0; c < count; c++) {
      for (int i = 0; i < width; i++) {
        own[c * width + i] = all[i * row + c];
      }
    }
    float[] before = array(count * width);
    read(dWeight, (long) first * width, before, count * width);
    for (int i = 0; i < own.length; i += LANES) {
      at(own, i).add(at(before, i)).intoArray(own, i);
    }
    write(own, dWeight, (long) first * width, count * width);
  }

  /// Where a token's channels stand in x.
  private long place(long sequence, long token) {
    return (sequence * sizes.tokens() + token) * sizes.channels() + first;
  }

  /// Where a token stands in the arrays; before the first one of a sequence tokens are negative.
  private int slot(long token) {
    return (int) Math.floorMod(token, (long) sizes.width()) * row;
  }

  /// Brings the tokens before a sequence's first one into the arrays.
  private void begin(long sequence) {
    int earlier = sizes.width() - 1;
    Arrays.fill(tokens, 0);
    for (int i = 0; history != null && i < earlier; i++) {
      read(history, (sequence * earlier + i) * sizes.channels() + first, sums, count);
      System.arraycopy(sums, 0, tokens, slot(i - earlier), row);
    }
  }

  private void takeUp(long sequence, long token) {
    read(x, place(sequence, token), sums, count);
    System.arraycopy(sums, 0, tokens, slot(token), row);
  }

  /// Writes a token's gradient, to which no later token adds, and makes room for another.
  private void finish(float[] dTokens, float[] done, Floats dx, long sequence, long token) {
    int slot = slot(token);
    if (token >= 0) {
      System.arraycopy(dTokens, slot, done, 0, row);
      write(done, dx, place(sequence, token), count);
    }
    Arrays.fill(dTokens, slot, slot + row, 0);
  }

  /// sums ← Σ_i weight i · token t − width + 1 + i.
  private void sumTaps(long sequence, long t) {
    Arrays.fill(sums, 0);
    for (int i = sizes.firstFactor(sequence, t); i < sizes.width(); i++) {
      addProducts(weights, i * row, tokens, slot(t - sizes.width() + 1 + i), sums, 0, row);
    }
  }

  private void addProducts(float[] a, float[] b, int fromB, float[] to, int at) {
    addProducts(a, 0, b, fromB, to, at, row);
  }

  private static void addProducts(
      float[] a, int fromA, float[] b, int fromB, float[] to, int at, int count) {
    for (int i = 0; i < count; i += LANES) {
      at(a, fromA + i).fma(at(b, fromB + i), at(to, at + i)).intoArray(to, at + i);
    }
  }

  /// all ← all + some and some ← 0.
  private static void addTo(float[] all, float[] some) {
    for (int i = 0; i < all.length; i += LANES) {
      at(all, i).add(at(some, i)).intoArray(all, i);
    }
    Arrays.fill(some, 0);
  }

  private static void silu(float[] u) {
    for (int i = 0; i < u.length; i += LANES) {
      var value = at(u, i);
      value.mul(Lanes.sigmoid(value)).intoArray(u, i);
    }
  }

  /// d ← d σ(u) (1 + u σ(−u)).
  private static void slopes(float[] d, float[] u) {
    for (int i = 0; i < u.length; i += LANES) {
      var value = at(u, i);
      var upstream = at(d, i);
      var small = Lanes.exp(value.abs().neg());
      var one = FloatVector.broadcast(Lanes.F, 1f);
      var inverse = one.div(small.add(one));
      var positive = value.compare(VectorOperators.GE, 0f);
      var score = small.blend(one, positive).mul(inverse);
      var rest = one.blend(small, positive).mul(inverse);
      upstream.mul(score.mul(rest.fma(value, one))).intoArray(d, i);
    }
  }
}
