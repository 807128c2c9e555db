package dev.sluice.operations;

import dev.sluice.kernel.Convolution;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// A causal convolution of each channel over a few tokens, and SiLU, as one operation: `y[t] =
/// silu(Σ_i w[i] · x[t − W + 1 + i])` for i < W. So `w[W − 1]` belongs to the token itself.
///
/// Before the first token there are zeros, or what an earlier call left: the last W − 1 tokens of
/// its input, which [#history] gives. The history has no gradient. With a mask of documents, which
/// excludes a history, there are zeros before the first token of each document.
public final class ShortConvolution {
  /// Channels of a thread's piece of work.
  private static final int CHANNELS = 256;

  private ShortConvolution() {}

  /// The definition.
  ///
  /// @param xBTC in float64, the result is float64 too
  static Tensor composed(
      Tensor xBTC,
      Tensor weightCW,
      @Nullable Tensor historyBHC,
      @Nullable DocumentStarts documents) {
    expect(xBTC, weightCW, historyBHC, documents);
    var all = withHistory(xBTC, historyBHC, weightCW.size(1)).wide();
    var weight = weightCW.wide();
    Tensor sum = null;
    for (long i = 0; i < weight.size(1); i++) {
      var factors = weight.narrow(1, i, 1).reshape(weight.size(0));
      var product = all.narrow(1, i, xBTC.size(1)).times(factors);
      if (documents != null) {
        int distance = Math.toIntExact(weight.size(1) - 1 - i);
        product = product.times(documents.reaches(distance, xBTC.device()));
      }
      sum = sum == null ? product : sum.plus(product);
    }
    return Objects.requireNonNull(sum).silu().to(xBTC.type());
  }

  /// @param xBTC float32 or bfloat16
  /// @param weightCW `[C, W]`, a float32 leaf
  /// @param historyBHC the H = W − 1 tokens before the first one, of x's type; null for zeros
  /// @param documents of which a token sees its own alone, or null
  static Tensor apply(
      Tensor xBTC,
      Tensor weightCW,
      @Nullable Tensor historyBHC,
      @Nullable DocumentStarts documents) {
    expect(xBTC, weightCW, historyBHC, documents);
    var x = xBTC.contiguous();
    var history = historyBHC == null ? null : historyBHC.contiguous();
    return FusedOp.apply(
            "short convolution",
            List.of(x),
            List.of(weightCW),
            () -> forward(x, weightCW, history, documents))
        .getFirst();
  }

  /// What the tokens after x need to know: the last W − 1 tokens of x, and of the history where x
  /// is shorter. Cut off from the gradient's path; for a W above 1 in memory of its own.
  public static Tensor history(Tensor xBTC, Tensor weightCW, @Nullable Tensor historyBHC) {
    expect(xBTC, weightCW, historyBHC, null);
    try (var scope = Scope.withoutGradient()) {
      long kept = weightCW.size(1) - 1;
      var all = withHistory(xBTC.detach(), historyBHC, kept + 1);
      return scope.keep(all.narrow(1, all.size(1) - kept, kept));
    }
  }

  private static Tensor withHistory(Tensor x, @Nullable Tensor history, long width) {
    if (width == 1) {
      return x;
    }
    var earlier =
        history == null
            ? Tensor.zeros(x.type(), x.size(0), width - 1, x.size(2)).to(x.device())
            : history;
    return Tensor.concatenate(List.of(earlier, x), 1);
  }

  private static void expect(
      Tensor x, Tensor weight, @Nullable Tensor history, @Nullable DocumentStarts documents) {
    boolean fits =
        x.shape().length == 3 && weight.shape().length == 2 && weight.size(0) == x.size(2);
    boolean continues =
        history == null
            || (history.type() == x.type()
                && List.of(x.size(0), weight.size(1) - 1, x.size(2))
                    .equals(List.of(history.size(0), history.size(1), history.size(2))));
    if (!fits || !continues) {
      throw new IllegalArgumentException(
          "no convolution of %s with %s after %s".formatted(x, weight, history));
    }
    if (history != null && FusedOp.recording(List.of(history), List.of())) {
      throw new IllegalArgumentException("the history of a convolution has no gradient");
    }
    if (documents != null) {
      documents.requireShape(x);
      if (history != null) {
        throw new IllegalArgumentException("what goes on is one document, without a mask");
      }
    }
  }

  private static FusedOp.Forward forward(
      Tensor x, Tensor weight, @Nullable Tensor history, @Nullable DocumentStarts documents) {
    var sizes =
        new Convolution(
            x.size(0),
            x.size(1),
            Math.toIntExact(x.size(2)),
            Math.toIntExact(weight.size(1)),
            documents == null ? null : documents.all());
    var y = Tensor.uninitialized(x, x.type(), x.shape());
    var xs = x.numbers();
    var weights = weight.numbers();
    var earlier = history == null || sizes.width() == 1 ? null : history.numbers();
    var out = y.numbers();
    each(
        sizes,
        (from, to) ->
            Kernels.FASTEST.causalConvolution(
                xs, earlier, weights, out, sizes, (int) from, (int) to));
    var saved = new ArrayList<>(List.of(x, weight));
    if (history != null) {
      saved.add(history);
    }
    return new FusedOp.Forward(
        List.of(y),
        saved,
        upstreams -> {
          var dx = Tensor.uninitialized(x, x.type(), x.shape());
          var dy = Objects.requireNonNull(upstreams.getFirst()).numbers();
          var dxs = dx.numbers();
          var dWeight = Tensor.zeros(ElementType.FLOAT32, weight.shape());
          var dWeights = dWeight.numbers();
          each(
              sizes,
              (from, to) ->
                  Kernels.FASTEST.causalConvolutionBackward(
                      dy, xs, earlier, weights, dxs, dWeights, sizes, (int) from, (int) to));
          if (weight.requiresGradient()) {
            FusedOp.gradientOf(
                weight,
                (gradient, add) -> {
                  if (add) {
                    gradient.addInPlace(dWeight, 1);
                  } else {
                    gradient.copyFrom(dWeight);
                  }
                });
          }
          return new Tensor[] {dx};
        });
  }

  /// A channel is one thread's, with all tokens: its weight's gradient is summed in one order.
  private static void each(Convolution sizes, Threads.Part part) {
    long blocks = Math.ceilDiv(sizes.channels(), CHANNELS);
    long tokens = sizes.batch() * sizes.tokens();
    Threads.split(
        blocks,
        Math.max(1, 64 / tokens),
        (from, to) -> part.run(from * CHANNELS, Math.min(sizes.channels(), to * CHANNELS)));
  }
}
