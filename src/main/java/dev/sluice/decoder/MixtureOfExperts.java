package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.operations.ExpertRows;
import dev.sluice.operations.Precision;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// A feed-forward layer of many experts, of which each token goes through a few: `Σ_e w_e
/// unit_e(x)` over the experts with the largest scores, of which the weights are made as [Router]
/// says (`transformers`' `qwen3_moe`; paper section 3.1). The work is that of the chosen experts
/// alone, and of the shared one where there is one.
final class MixtureOfExperts implements FeedForward {
  private final Experts experts;
  private final Precision precision;
  private final int layer;
  private final Weight router;
  private final @Nullable Tensor logitBias;
  private final @Nullable Tensor selectionBias;
  private final GatedUnits units;
  private final @Nullable GatedUnits shared;
  private final @Nullable Weight sharedGate;

  MixtureOfExperts(
      FeedForwardConfig config,
      Precision precision,
      int layer,
      Parameters parameters,
      String prefix) {
    this.experts = config.experts();
    this.precision = precision;
    this.layer = layer;
    this.router = parameters.weight(prefix + "gate.weight");
    this.logitBias = parameters.find(prefix + "gate.bias");
    this.selectionBias = parameters.find(prefix + "gate.e_score_correction_bias");
    var prefixes =
        IntStream.range(0, experts.count())
            .mapToObj(expert -> prefix + "experts." + expert + ".")
            .toList();
    this.units = new GatedUnits(config.glu(), config.biases(), precision, parameters, prefixes);
    this.shared = shared(experts.shared(), precision, parameters, prefix + "shared_expert.");
    this.sharedGate = parameters.findWeight(prefix + "shared_expert_gate.weight");
  }

  private static @Nullable GatedUnits shared(
      SharedExpert config, Precision precision, Parameters parameters, String prefix) {
    return config.exists()
        ? new GatedUnits(config.glu(), false, precision, parameters, List.of(prefix))
        : null;
  }

  @Override
  public @Nullable Floats write(TokenSteps steps, Floats x) {
    var alike = shared == null ? null : shared.plain();
    if (shared != null && alike == null) {
      return null;
    }
    return steps.mixture(
        x,
        units.mixture(
            sharedGate == null ? List.of(router) : List.of(router, sharedGate),
            logits -> rows(floats(logits)),
            experts.perToken(),
            alike));
  }

  private static float[] floats(Floats numbers) {
    return numbers.memory().toArray(ValueLayout.JAVA_FLOAT);
  }

  @Override
  public Tensor forward(Tensor xBTD, @Nullable ExpertLoad load, Probe probe) {
    long width = xBTD.size(-1);
    long tokens = xBTD.elements() / width;
    var x = xBTD.reshape(tokens, width);
    if (router.isStored() && load == null) {
      return running(x, probe).reshape(xBTD.shape()).to(precision.elementType());
    }
    var logitsTE = experts.router().capped(biased(Precision.FLOAT32.logits(x, router)));
    var scoresTE = experts.router().scores(logitsTE);
    var routing = Routing.of(forSelection(scoresTE), experts);
    if (load != null) {
      load.add(layer, experts, routing.chosen, logitsTE, scoresTE);
    }

    var xByExpert = dispatched(x, routing);
    var yByExpert = units.forward(xByExpert, routing.starts, probe);

    long k = experts.perToken();
    var yTKD = returned(yByExpert, routing).reshape(tokens, k, width);
    var chosenTK1 =
        scoresTE
            .reshape(tokens * experts.count())
            .rows(indices(routing.score, x))
            .reshape(tokens, k, 1);
    var chosen = yTKD.times(experts.router().weights(chosenTK1)).mean(1).reshape(xBTD.shape());
    return withShared(xBTD, chosen, probe).to(precision.elementType());
  }

  /// The same in a model that only runs. Which experts a token gets, their weights and the sum of
  /// what they give depend on the token alone.
  private Tensor running(Tensor x, Probe probe) {
    long tokens = x.size(0);
    var rows = rows(Precision.FLOAT32.logits(x, router).floats());
    var y = units.forward(rows.dispatched(x), rows.starts(), probe).to(ElementType.FLOAT32);
    var ofAll = shared == null ? null : shared.forward(x, probe).to(ElementType.FLOAT32);
    var gate = sharedGate == null ? null : Precision.FLOAT32.logits(x, sharedGate);
    return rows.mixed(y, tokens, ofAll, gate);
  }

  /// @param logits of the router, `[tokens, experts]`, which are written over
  private ExpertRows rows(float[] logits) {
    int count = experts.count();
    int k = experts.perToken();
    int tokens = logits.length / count;
    for (int token = 0; token < tokens; token++) {
      add(logitBias, logits, token * count);
      experts.router().score(logits, token * count, count);
    }
    float[] selected = logits;
    if (selectionBias != null) {
      selected = logits.clone();
      for (int token = 0; token < tokens; token++) {
        add(selectionBias, selected, token * count);
      }
    }
    var routing = Routing.of(selected, experts);
    float[] weights = new float[routing.score.length];
    for (int slot = 0; slot < weights.length; slot++) {
      weights[slot] = logits[(int) routing.score[slot]];
    }
    for (int token = 0; token < tokens; token++) {
      experts.router().weigh(weights, token * k, k);
    }
    return new ExpertRows(routing.starts, routing.token, routing.row, weights);
  }

  private static void add(@Nullable Tensor bias, float[] to, int first) {
    if (bias != null) {
      var numbers = bias.memory();
      for (int i = 0; i < bias.elements(); i++) {
        to[first + i] += numbers.getAtIndex(ValueLayout.JAVA_FLOAT, i);
      }
    }
  }

  private Tensor biased(Tensor logitsTE) {
    return logitBias == null ? logitsTE : logitsTE.plus(logitBias);
  }

  /// What experts are chosen by; no gradient comes back through it.
  private float[] forSelection(Tensor scoresTE) {
    var scores = scoresTE.detach();
    return (selectionBias == null ? scores : scores.plus(selectionBias.detach())).floats();
  }

  private Tensor withShared(Tensor xBTD, Tensor chosenBTD, Probe probe) {
    if (shared == null) {
      return chosenBTD;
    }
    var ofAllBTD = shared.forward(xBTD, probe).to(ElementType.FLOAT32);
    return gated(xBTD, ofAllBTD).plus(chosenBTD);
  }

  private Tensor gated(Tensor xBTD, Tensor yBTD) {
    return sharedGate == null
        ? yBTD
        : yBTD.times(Precision.FLOAT32.logits(xBTD, sharedGate).sigmoid());
  }

  /// Each token's vector once for each of its experts, sorted by expert.
  private Tensor dispatched(Tensor x, Routing routing) {
    var token = indices(routing.token, x);
    var row = indices(routing.row, x);
    long[] shape = x.shape(); // x itself may be gone when the backward pass comes
    var type = x.type();
    int k = experts.perToken();
    return FusedOp.apply(
        "to the experts",
        List.of(x),
        List.of(token, row),
        () -> x.rows(token),
        upstream -> {
          var ofSlots = upstream.rows(row).to(ElementType.FLOAT32).reshape(-1, k, shape[1]);
          return new Tensor[] {ofSlots.mean(1).times(k).reshape(shape).to(type)};
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
  /// @param score index of each slot's score
  @SuppressWarnings("ArrayRecordComponent")
  record Routing(long[] chosen, long[] starts, long[] token, long[] row, long[] score) {
    /// @param scores `[tokens, experts]`; of equal ones the first expert is taken
    static Routing of(float[] scores, Experts experts) {
      int count = experts.count();
      int k = experts.perToken();
      int tokens = scores.length / count;
      int[] expertOfSlot = new int[tokens * k];
      long[] score = new long[tokens * k];
      long[] chosen = new long[count];
      for (int t = 0; t < tokens; t++) {
        for (int i = 0; i < k; i++) {
          int best = -1;
          for (int e = 0; e < count; e++) {
            boolean better = best < 0 || scores[t * count + e] > scores[t * count + best];
            if (better && !taken(expertOfSlot, t * k, i, e)) {
              best = e;
            }
          }
          expertOfSlot[t * k + i] = best;
          score[t * k + i] = (long) t * count + best;
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
      return new Routing(chosen, starts, token, row, score);
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
