package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/// Which tokens go through which experts of a mixture, in a model that only runs. Each token has a
/// row for each of its experts, and rows are sorted by expert.
///
/// @param starts where each expert's rows start, and behind them how many there are
/// @param tokens of the rows
/// @param rows of each token, K of them, in the order in which they are summed
/// @param weights of these rows
@SuppressWarnings("ArrayRecordComponent")
public record ExpertRows(long[] starts, long[] tokens, long[] rows, float[] weights) {
  /// Numbers for which a thread is worth its start.
  private static final long GRAIN = 1 << 15;

  /// What goes to the experts: each row is a copy of its token's.
  ///
  /// @param x `[T, D]`, float32 or bfloat16
  /// @return `[T · K, D]`
  public Tensor dispatched(Tensor x) {
    var from = x.contiguous();
    long width = x.size(1);
    var y = Tensor.uninitialized(x, x.type(), tokens.length, width);
    var memory = y.numbers().memory();
    long bytes = width * x.type().bytes();
    Threads.split(
        tokens.length,
        Math.ceilDiv(GRAIN, width),
        (first, last) -> dispatch(from.memory(), bytes, memory, first, last));
    return y;
  }

  /// Some of the rows of [#dispatched].
  ///
  /// @param bytes of a row
  void dispatch(MemorySegment x, long bytes, MemorySegment to, long first, long last) {
    for (int row = (int) first; row < last; row++) {
      MemorySegment.copy(x, tokens[row] * bytes, to, row * bytes, bytes);
    }
  }

  /// What comes from the experts: the weighted sum of each token's rows, and what all tokens get
  /// besides.
  ///
  /// @param yTKD by row, `[T · K, D]`, float32
  /// @param sharedTD what is added, float32; null for nothing
  /// @param gateT logits of the sigmoids of what is added, float32; null for ones
  /// @return `[T, D]`
  public Tensor mixed(
      Tensor yTKD, long count, @Nullable Tensor sharedTD, @Nullable Tensor gateT) {
    int width = Math.toIntExact(yTKD.size(1));
    var out = Tensor.uninitialized(yTKD, ElementType.FLOAT32, count, width);
    var y = yTKD.contiguous();
    var shared = sharedTD == null ? null : sharedTD.contiguous();
    var gate = gateT == null ? null : gateT.contiguous();
    var mixing =
        new Mixing(
            y.numbers(),
            shared == null ? null : shared.numbers(),
            gate == null ? null : gate.numbers(),
            out.numbers(),
            width);
    long grain = Math.ceilDiv(GRAIN * count, (long) rows.length * width);
    Threads.split(count, grain, (first, last) -> mix(mixing, count, first, last));
    return out;
  }

  /// Where [#mixed] finds its numbers, and puts them.
  record Mixing(
      Floats y, @Nullable Floats shared, @Nullable Floats gate, Floats out, int width) {}

  /// Some of the tokens of [#mixed].
  ///
  /// @param count T
  void mix(Mixing its, long count, long first, long last) {
    int k = (int) (rows.length / count);
    int width = its.width;
    for (long token = first; token < last; token++) {
      var out = its.out.from(token * width);
      if (its.shared == null) {
        add(its.y.from(rows[(int) token * k] * width), 0, weights[(int) token * k], out, width);
      } else {
        float share = its.gate == null ? 1 : sigmoid(its.gate, token);
        add(its.shared.from(token * width), 0, share, out, width);
      }
      for (int i = its.shared == null ? 1 : 0; i < k; i++) {
        int slot = (int) token * k + i;
        add(its.y.from(rows[slot] * width), 1, weights[slot], out, width);
      }
    }
  }

  /// out ← kept · out + weight · x.
  private static void add(Floats x, float kept, float weight, Floats out, int width) {
    var before = kept == 0 ? x : out;
    Kernels.FASTEST.weightedSum(before, kept, x, weight, out, 0, width);
  }

  private static float sigmoid(Floats logits, long at) {
    double logit = logits.memory().getAtIndex(ValueLayout.JAVA_FLOAT, at);
    return (float) (1 / (1 + Math.exp(-logit)));
  }
}
