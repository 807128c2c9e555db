package dev.sluice.decoder;

import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/// How a training step's tokens were shared among experts, and the losses that keep the shares
/// even.
///
/// Shares are counted over the global batch: over all micro-batches of a step so far, not over each
/// by itself, so that a micro-batch may be uneven where the others make up for it (arXiv
/// 2501.11873), and over all ranks. Make a new one for every step.
public final class ExpertLoad {
  private final Map<Integer, long[]> chosenByLayer = new HashMap<>();
  private final Map<Integer, Long> tokensByLayer = new HashMap<>();

  /// Outlive their layer's scope.
  private final List<Tensor> losses = new ArrayList<>();

  private final UnaryOperator<long[]> overRanks;

  /// Of one process.
  public ExpertLoad() {
    this(UnaryOperator.identity());
  }

  /// @param overRanks gives the sums of all ranks' counts
  public ExpertLoad(UnaryOperator<long[]> overRanks) {
    this.overRanks = overRanks;
  }

  /// Takes up a layer's routing of a micro-batch.
  ///
  /// @param chosen how many tokens each expert was given
  /// @param logitsTE the router's, float32
  /// @param scoresTE what the router made of them
  void add(int layer, Experts experts, long[] chosen, Tensor logitsTE, Tensor scoresTE) {
    long[] counts = Arrays.copyOf(chosen, chosen.length + 1);
    counts[chosen.length] = logitsTE.size(0);
    counts = overRanks.apply(counts);
    var sums = chosenByLayer.computeIfAbsent(layer, _ -> new long[experts.count()]);
    for (int expert = 0; expert < chosen.length; expert++) {
      sums[expert] += counts[expert];
    }
    long tokens = tokensByLayer.merge(layer, counts[chosen.length], Long::sum);
    if (experts.balance() > 0) {
      float[] shares = new float[sums.length];
      for (int expert = 0; expert < shares.length; expert++) {
        shares[expert] = (float) ((double) sums[expert] / tokens);
      }
      // E Σ f_e P_e; f is not differentiable, P is
      var mean = experts.router().probabilities(scoresTE).mean(0).reshape(shares.length);
      var f = Tensor.of(shares, shares.length).to(mean.device());
      losses.add(mean.times(f).sum().times(experts.balance() * experts.count()).retain());
    }
    if (experts.routerZ() > 0) {
      losses.add(logitsTE.logSumExp(1).square().mean().times(experts.routerZ()).retain());
    }
  }

  /// How many tokens of a layer each expert was given.
  public long[] chosen(int layer) {
    return chosenByLayer.getOrDefault(layer, new long[0]).clone();
  }

  /// The losses of the micro-batch since the last call, averaged over layers; null where there are
  /// none.
  @Nullable Tensor takeLoss() {
    if (losses.isEmpty()) {
      return null;
    }
    var sum = losses.getFirst().times(1.0 / chosenByLayer.size());
    for (var loss : losses.subList(1, losses.size())) {
      sum = sum.plus(loss.times(1.0 / chosenByLayer.size()));
    }
    losses.forEach(Tensor::close);
    losses.clear();
    return sum;
  }
}
