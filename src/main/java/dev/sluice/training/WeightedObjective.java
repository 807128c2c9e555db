package dev.sluice.training;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.ExpertLoad;
import dev.sluice.operations.DistilledLoss;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Next-token loss, what holds the model to the one that it began as, and penalties on what gates
/// are to take away:
///
/// `a · CE + b · KL + c · S + d · A`, each in the mean over the micro-batch.
///
/// - KL is the divergence from the answers of the model that it began as, see [DistilledLoss].
/// - S is the attention on the first token of the row or document: mean over the chosen layers, the
///   sequences, the query heads, and the queries that do not stand at that token themselves.
/// - A is what activations exceed a limit by: `Σ_d max(0, |x_d| − limit)` of the residual stream,
///   mean over the chosen blocks, sequences and tokens.
///
/// c and d rise and fall with the steps as [StartSettings#penaltyShare] says.
final class WeightedObjective implements Objective {
  /// A pass as the model was before it was given gates.
  private static final Probe BEFORE =
      new Probe() {
        @Override
        public boolean passesOverGates() {
          return true;
        }
      };

  private final StartSettings settings;
  private final int steps;
  private final double zLoss;
  private final Set<String> added;
  private final @Nullable Decoder parent;
  private int frozen = -1;

  /// @param steps of the run
  /// @param zLoss weight of the z-loss
  /// @param added names of the parameters that the model had not before
  /// @param parent the model that it began as, which this takes over; null where the model itself
  ///   is that one when its gates are passed over
  WeightedObjective(
      StartSettings settings,
      int steps,
      double zLoss,
      Set<String> added,
      @Nullable Decoder parent) {
    this.settings = settings;
    this.steps = steps;
    this.zLoss = zLoss;
    this.added = Set.copyOf(added);
    this.parent = parent;
  }

  @Override
  public Terms terms(
      Decoder decoder,
      Tensor idsBT,
      Tensor targetsBT,
      @Nullable DocumentStarts documents,
      ExpertLoad load,
      int step) {
    try (var scope = Scope.open();
        var watched = new Watched(step, decoder.config().layers().size(), idsBT, documents)) {
      Decoder.Loss loss;
      if (settings.parentKl() > 0) {
        var teacher =
            parent == null
                ? decoder.teach(idsBT, documents, BEFORE)
                : parent.teach(idsBT, documents, Probe.NONE);
        var shares =
            new DistilledLoss.Shares(
                settings.textShare(), settings.parentKl(), settings.direction(), zLoss);
        loss = decoder.distilledLoss(idsBT, targetsBT, documents, load, watched, teacher, shares);
      } else {
        loss = decoder.loss(idsBT, targetsBT, documents, load, watched, zLoss);
      }
      Map<String, Tensor> parts = new LinkedHashMap<>();
      if (loss.divergence() != null) {
        parts.put("parent_kl", scope.keep(loss.divergence().detach()));
      }
      double share = settings.penaltyShare(step, steps);
      var total = loss.total();
      if (!watched.firstToken.isEmpty()) {
        var mean = mean(watched.firstToken);
        total = total.plus(mean.times(share * settings.firstTokenPenalty()));
        parts.put("first_token_share", scope.keep(mean.detach()));
      }
      if (!watched.activations.isEmpty()) {
        var mean = mean(watched.activations);
        total = total.plus(mean.times(share * settings.activationPenalty()));
        parts.put("activation_excess", scope.keep(mean.detach()));
      }
      parts.put("objective", scope.keep(total.detach()));
      return new Terms(
          scope.keep(total),
          scope.keep(loss.crossEntropy()),
          loss.zLoss() == null ? null : scope.keep(loss.zLoss()),
          parts);
    }
  }

  private static Tensor mean(List<Tensor> parts) {
    var sum = parts.getFirst();
    for (var part : parts.subList(1, parts.size())) {
      sum = sum.plus(part);
    }
    return sum.times(1.0 / parts.size());
  }

  /// Takes the penalties out of a pass, layer by layer.
  private final class Watched implements Probe, AutoCloseable {
    private final Set<Integer> attentionLayers = settings.layersOfFirstToken();
    private final Set<Integer> activationLayers = settings.layersOfActivations();
    private final int blocks;
    private final double neutral;
    private final Tensor countsBT1;

    // they outlive their layer's scope
    private final List<Tensor> firstToken = new ArrayList<>();
    private final List<Tensor> activations = new ArrayList<>();

    Watched(int step, int blocks, Tensor idsBT, @Nullable DocumentStarts documents) {
      this.blocks = blocks;
      this.neutral = settings.neutralShare(step);
      this.countsBT1 = counts(idsBT, documents);
    }

    /// `[B, T, 1]`: a query's share in a mean over queries, 0 for those at a first token.
    private static Tensor counts(Tensor idsBT, @Nullable DocumentStarts documents) {
      int batch = Math.toIntExact(idsBT.size(0));
      int tokens = Math.toIntExact(idsBT.size(1));
      float[] counts = new float[batch * tokens];
      int counted = 0;
      for (int i = 0; i < counts.length; i++) {
        int first = documents == null ? 0 : documents.start(i / tokens, i % tokens);
        counts[i] = i % tokens == first ? 0 : 1;
        counted += i % tokens == first ? 0 : 1;
      }
      return Tensor.of(counts, batch, tokens, 1)
          .times(1.0 / Math.max(1, counted))
          .to(idsBT.device());
    }

    @Override
    public double neutralShare() {
      return neutral;
    }

    @Override
    public boolean wantsFirstTokenShare(int layer) {
      return settings.firstTokenPenalty() > 0
          && (attentionLayers.isEmpty() || attentionLayers.contains(layer));
    }

    @Override
    public void firstTokenShare(int layer, Tensor shareBTN) {
      firstToken.add(
          shareBTN.times(countsBT1).sum().times(1.0 / shareBTN.size(2)).reshape(1).retain());
    }

    @Override
    public void residual(int index, Tensor xBTD) {
      int block = index - 1;
      boolean wanted =
          settings.activationPenalty() > 0
              && (activationLayers.isEmpty()
                  ? block >= 0 && block < blocks
                  : activationLayers.contains(block));
      if (wanted) {
        activations.add(
            xBTD.absolute()
                .plus(-settings.activationLimit())
                .clamp(0, Float.MAX_VALUE)
                .sum()
                .times(1.0 / (xBTD.size(0) * xBTD.size(1)))
                .reshape(1)
                .retain());
      }
    }

    @Override
    public void close() {
      firstToken.forEach(Tensor::close);
      activations.forEach(Tensor::close);
    }
  }

  /// Those that were there have none while they are frozen; where there are no others, a backward
  /// pass needs them, and the optimizer alone holds them still.
  @Override
  public boolean choose(Decoder decoder, int updates) {
    int now = settings.isFrozen(updates) && !added.isEmpty() ? 1 : 0;
    if (now == frozen) {
      return false;
    }
    boolean changed = frozen >= 0;
    frozen = now;
    decoder
        .parameters()
        .weights()
        .forEach(
            (name, weight) ->
                weight
                    .leaf()
                    .requireGradient(
                        weight.spec().trained() && (now == 0 || added.contains(name))));
    return changed;
  }

  @Override
  public Probe view(int steps) {
    double neutral = settings.neutralShare(steps);
    return neutral == 0
        ? Probe.NONE
        : new Probe() {
          @Override
          public double neutralShare() {
            return neutral;
          }
        };
  }

  @Override
  public void close() {
    if (parent != null) {
      parent.close();
    }
  }
}
