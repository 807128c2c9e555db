package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.operations.DistilledLoss.Direction;
import dev.sluice.settings.Setting;
import dev.sluice.settings.Settings;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/// What a training begins with, and what holds it to that or drives it away from it.
public record StartSettings(
    @Setting(
            initial = "",
            called = "new weights",
            help =
                "A checkpoint or run whose weights the training begins with; shape and tokenizer"
                    + " are its own, and a gate that it has not is added.")
        String start,
    @Setting(
            initial = "true",
            help =
                "Refuse an added gate that does not begin as if it were not there; false takes it"
                    + " as its name says.")
        boolean identityStart,
    @Setting(
            initial = "0",
            called = "learning_rate",
            least = 0,
            below = 1e3,
            use = "0 for that of the others, or a positive number below 1000",
            help = "The maximum for parameters that the checkpoint has not.")
        double newLearningRate,
    @Setting(
            initial = "0",
            least = 0,
            below = 1e3,
            use = "0 or a positive number below 1000",
            help = "How fast matrices that the checkpoint has not decay.")
        double newWeightDecay,
    @Setting(
            initial = "0",
            least = -1,
            use = "how many steps, 0 for none or -1 for all",
            help =
                "Steps at the start in which only parameters move that the checkpoint has not; -1"
                    + " for all.")
        int frozenSteps,
    @Setting(
            initial = "0",
            least = 0,
            help =
                "Steps in which gates go from half a score that does nothing and half their own to"
                    + " their own alone; 0 for their own from the start.")
        int gateAnnealSteps,
    @Setting(
            initial = "1",
            least = 0,
            use = "0 or a positive number",
            help = "Weight of the next-token loss, beside parent_kl.")
        double textShare,
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for none or a positive number such as 1",
            help =
                "Weight of the divergence from the checkpoint's own answers, which is added to the"
                    + " loss.")
        double parentKl,
    @Setting(
            initial = "from-parent",
            help =
                "from-parent (over what the checkpoint finds likely), or from-model (over what the"
                    + " trained model does).")
        String parentKlDirection,
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for none or a positive number",
            help = "Weight of the mean attention on the first token, which is added to the loss.")
        double firstTokenPenalty,
    @Setting(
            initial = "all",
            help = "Whose attention that is: all, or layers from 0 such as 0,3-5.")
        String firstTokenLayers,
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for none or a positive number",
            help =
                "Weight of what activations of the residual stream exceed activation_limit by,"
                    + " which is added to the loss.")
        double activationPenalty,
    @Setting(initial = "all", help = "After which blocks: all, or blocks from 0 such as 0,3-5.")
        String activationLayers,
    @Setting(
            initial = "100",
            least = 0,
            use = "0 or a positive number",
            help = "The largest |x| that costs nothing.")
        double activationLimit,
    @Setting(initial = "0", least = 0, help = "Steps in which the penalties rise to their weights.")
        int penaltyWarmupSteps,
    @Setting(
            initial = "0",
            least = 0,
            help = "Steps at the end in which the penalties fall to nothing.")
        int penaltyDecaySteps) {
  /// With what gates begin that are annealed: the paper's 0.5 + 0.5 σ (table 4, row 7).
  private static final double ANNEALED_FROM = 0.5;

  private static final String ALL = "all";

  public StartSettings {
    var _ = layers("first_token_layers", firstTokenLayers);
    var _ = layers("activation_layers", activationLayers);
    var _ = direction(parentKlDirection);
    if (start.isBlank()) {
      requireStart(frozenSteps != 0, "frozen_steps", frozenSteps);
      requireStart(parentKl > 0, "parent_kl", parentKl);
      requireStart(newLearningRate > 0, "new_learning_rate", newLearningRate);
      requireStart(newWeightDecay > 0, "new_weight_decay", newWeightDecay);
    }
    Settings.require(
        textShare == 1 || parentKl > 0,
        "text_share",
        textShare,
        "it weighs the text against parent_kl, which is 0: give that a weight, or make penalties"
            + " smaller or larger instead");
  }

  private static void requireStart(boolean given, String name, Number value) {
    Settings.require(
        !given,
        name,
        value,
        "it is for a training that begins with a checkpoint: name it as start");
  }

  /// Whether the training begins with a checkpoint's weights.
  public boolean isGiven() {
    return !start.isBlank();
  }

  Direction direction() {
    return direction(parentKlDirection);
  }

  private static Direction direction(String word) {
    return switch (word) {
      case "from-parent" -> Direction.FROM_OTHER;
      case "from-model" -> Direction.FROM_THIS;
      default ->
          throw new InvalidInputException(
              "unknown parent_kl_direction '%s'; use from-parent or from-model"
                  .formatted(Printable.brief(word, 60)));
    };
  }

  /// The layers whose attention is penalised; empty for all.
  Set<Integer> layersOfFirstToken() {
    return layers("first_token_layers", firstTokenLayers);
  }

  /// The blocks whose activations are penalised; empty for all.
  Set<Integer> layersOfActivations() {
    return layers("activation_layers", activationLayers);
  }

  private static Set<Integer> layers(String name, String text) {
    var layers = new TreeSet<Integer>();
    if (text.equals(ALL)) {
      return layers;
    }
    for (String part : text.split(",", -1)) {
      var ends = part.strip().split("-", -1);
      int first = layer(ends[0]);
      int last = layer(ends[ends.length - 1]);
      if (ends.length > 2 || first < 0 || last < first) {
        throw new InvalidInputException(
            "%s '%s' names no layers; use all, or numbers and ranges from 0 on such as 0,3-5"
                .formatted(name, Printable.brief(text, 60)));
      }
      for (int layer = first; layer <= last; layer++) {
        layers.add(layer);
      }
    }
    return layers;
  }

  /// −1 where the text is no number of a layer.
  private static int layer(String text) {
    return text.matches("\\d{1,4}") ? Integer.parseInt(text) : -1;
  }

  /// Whether only new parameters move in the update after so many.
  boolean isFrozen(int updates) {
    return frozenSteps < 0 || updates < frozenSteps;
  }

  /// Whether what was there before never moves.
  public boolean isAlwaysFrozen() {
    return frozenSteps < 0;
  }

  /// Whether another model than the trained one has to answer.
  boolean needsParent() {
    return parentKl > 0 && !isAlwaysFrozen();
  }

  /// The share of a score that does nothing in the scores of a step, see
  /// [dev.sluice.probe.Probe#neutralShare]; 0 from step `gateAnnealSteps` on.
  ///
  /// @param step from 0
  double neutralShare(int step) {
    return step >= gateAnnealSteps ? 0 : ANNEALED_FROM * (gateAnnealSteps - step) / gateAnnealSteps;
  }

  /// The share of their weights that penalties have in a step: it rises over the first steps and
  /// falls over the last.
  ///
  /// @param step from 0
  double penaltyShare(int step, int steps) {
    double rising = step < penaltyWarmupSteps ? (step + 1.0) / penaltyWarmupSteps : 1;
    int left = steps - step - 1;
    double falling = left < penaltyDecaySteps ? (double) left / penaltyDecaySteps : 1;
    return Math.min(rising, falling);
  }

  /// Whether a step does something else than to lower the next-token loss of all parameters at one
  /// rate.
  boolean changesSteps() {
    return isGiven() || gateAnnealSteps > 0 || firstTokenPenalty > 0 || activationPenalty > 0;
  }

  /// Refuses what does not fit into the run.
  void require(int steps) {
    Settings.require(
        gateAnnealSteps < steps,
        "gate_anneal_steps",
        gateAnnealSteps,
        "the run has %d steps, and the model that is saved has its own scores alone: use fewer"
            .formatted(steps));
    Settings.require(
        frozenSteps < steps,
        "frozen_steps",
        frozenSteps,
        "the run has %d steps: use fewer, or -1 for all".formatted(steps));
  }

  /// What these do not do, though they are given.
  List<String> notes() {
    List<String> notes = new ArrayList<>();
    if (parentKl == 0 && direction() != Direction.FROM_OTHER) {
      notes.add(
          "parent_kl_direction %s does nothing with parent_kl 0.".formatted(parentKlDirection));
    }
    if (firstTokenPenalty == 0 && !firstTokenLayers.equals(ALL)) {
      notes.add(
          "first_token_layers %s does nothing with first_token_penalty 0."
              .formatted(Printable.brief(firstTokenLayers, 60)));
    }
    if (activationPenalty == 0 && !activationLayers.equals(ALL)) {
      notes.add(
          "activation_layers %s does nothing with activation_penalty 0."
              .formatted(Printable.brief(activationLayers, 60)));
    }
    if (firstTokenPenalty == 0
        && activationPenalty == 0
        && (penaltyWarmupSteps > 0 || penaltyDecaySteps > 0)) {
      notes.add(
          "penalty_warmup_steps %d and penalty_decay_steps %d do nothing without a penalty."
              .formatted(penaltyWarmupSteps, penaltyDecaySteps));
    }
    return notes;
  }
}
