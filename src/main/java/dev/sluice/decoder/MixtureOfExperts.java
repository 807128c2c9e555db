package dev.sluice.decoder;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// A feed-forward layer of many experts, of which each token goes through a few: `Σ_e w_e
/// down_e(silu(gate_e x) ⊙ up_e x)` over the experts with the largest router probabilities, whose
/// probabilities, made to sum to one, are the weights (`transformers`' `qwen3_moe`; paper section
/// 3.1). The work is that of the chosen experts alone.
final class MixtureOfExperts implements FeedForward {
  private final Experts experts;
  private final Precision precision;
  private final int layer;
  private final Tensor router;
  private final List<SwiGlu.Weights> weights = new ArrayList<>();
  private final SwiGlu.@Nullable Weights shared;
  private final @Nullable Tensor sharedGate;

  MixtureOfExperts(
      Experts experts, Precision precision, int layer, Parameters parameters, String prefix) {
    this.experts = experts;
    this.precision = precision;
    this.layer = layer;
    this.router = parameters.get(prefix + "gate.weight");
    for (int expert = 0; expert < experts.count(); expert++) {
      weights.add(SwiGlu.Weights.of(parameters, prefix + "experts." + expert + "."));
    }
    boolean isShared = experts.sharedWidth() > 0;
    this.shared = isShared ? SwiGlu.Weights.of(parameters, prefix + "shared_expert.") : null;
    this.sharedGate = parameters.find(prefix + "shared_expert_gate.weight");
  }

  @Override
  public Tensor forward(Tensor xBTD, @Nullable ExpertLoad load) {
    long width = xBTD.size(-1);
    long tokens = xBTD.elements() / width;
    var x = xBTD.reshape(tokens, width);
    var logitsTE = Precision.FLOAT32.logits(x, router);
    var probabilitiesTE = logitsTE.softmax(-1);
    var routing = Routing.of(probabilitiesTE.detach().floats(), experts);
    if (load != null) {
      load.add(layer, experts, routing.chosen, logitsTE, probabilitiesTE);
    }

    var xByExpert = dispatched(x, routing);
    var yByExpert = SwiGlu.apply(xByExpert, routing.starts, weights, precision);

    long k = experts.perToken();
    var yTKD = returned(yByExpert, routing).reshape(tokens, k, width);
    var chosenTK1 =
        probabilitiesTE
            .reshape(tokens * experts.count())
            .rows(indices(routing.probability, x))
            .reshape(tokens, k, 1);
    var weightsTK1 = chosenTK1.dividedBy(chosenTK1.mean(1)); // of mean one, so that means are sums
    var chosen = yTKD.times(weightsTK1).mean(1).reshape(xBTD.shape());
    if (shared == null || sharedGate == null) {
      return chosen.to(precision.elementType());
    }
    var score = Precision.FLOAT32.logits(xBTD, sharedGate).sigmoid();
    return SwiGlu.apply(xBTD, shared, precision)
        .to(ElementType.FLOAT32)
        .times(score)
        .plus(chosen)
        .to(precision.elementType());
  }

  /// Each token's vector once for each of its experts, sorted by expert.
  private Tensor dispatched(Tensor x, Routing routing) {
    var token = indices(routing.token, x);
    var row = indices(routing.row, x);
    return FusedOp.apply(
        "to the experts",
        List.of(x),
        List.of(token, row),
        () -> x.rows(token),
        upstream -> {
          int k = experts.perToken();
          var ofSlots = upstream.rows(row).to(ElementType.FLOAT32).reshape(-1, k, x.size(1));
          return new Tensor[] {ofSlots.mean(1).times(k).reshape(x.shape()).to(x.type())};
        });
  }

  /// Vectors that are sorted by expert, in the order of the tokens, each token's side by side.
  private static Tensor returned(Tensor y, Routing routing) {
    var row = indices(routing.row, y);
    var slot = indices(routing.slot(), y);
    return FusedOp.apply(
        "from the experts",
        List.of(y),
        List.of(row, slot),
        () -> y.rows(row),
        upstream -> new Tensor[] {upstream.rows(slot)});
  }

  private static Tensor indices(long[] indices, Tensor like) {
    return Tensor.of(indices, indices.length).to(like.device());
  }

  /// Which experts tokens go through. A slot is a token's k-th choice, its index is `token · K +
  /// k`.
  ///
  /// @param chosen how many slots each expert has
  /// @param starts where each expert's slots start when they are sorted by expert, and how many
  ///   there are in all
  /// @param token of each slot sorted by expert
  /// @param row of each slot in that order
  /// @param probability index of each slot's probability
  @SuppressWarnings("ArrayRecordComponent")
  record Routing(long[] chosen, long[] starts, long[] token, long[] row, long[] probability) {
    /// @param probabilities `[tokens, experts]`; of equal ones the first expert is taken
    static Routing of(float[] probabilities, Experts experts) {
      int count = experts.count();
      int k = experts.perToken();
      int tokens = probabilities.length / count;
      int[] expertOfSlot = new int[tokens * k];
      long[] probability = new long[tokens * k];
      long[] chosen = new long[count];
      for (int t = 0; t < tokens; t++) {
        for (int i = 0; i < k; i++) {
          int best = -1;
          for (int e = 0; e < count; e++) {
            boolean better =
                best < 0 || probabilities[t * count + e] > probabilities[t * count + best];
            if (better && !taken(expertOfSlot, t * k, i, e)) {
              best = e;
            }
          }
          expertOfSlot[t * k + i] = best;
          probability[t * k + i] = (long) t * count + best;
          chosen[best]++;
        }
      }
      long[] starts = new long[count + 1];
      for (int e = 0; e < count; e++) {
        starts[e + 1] = starts[e] + chosen[e];
      }
      long[] next = starts.clone();
      long[] token = new long[tokens * k];
      long[] row = new long[tokens * k];
      for (int slot = 0; slot < row.length; slot++) {
        row[slot] = next[expertOfSlot[slot]]++;
        token[(int) row[slot]] = slot / k;
      }
      return new Routing(chosen, starts, token, row, probability);
    }

    /// The inverse of `row`.
    long[] slot() {
      long[] slot = new long[row.length];
      for (int i = 0; i < row.length; i++) {
        slot[(int) row[i]] = i;
      }
      return slot;
    }

    private static boolean taken(int[] expertOfSlot, int first, int count, int expert) {
      for (int i = first; i < first + count; i++) {
        if (expertOfSlot[i] == expert) {
          return true;
        }
      }
      return false;
    }
  }
}
