package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
import dev.sluice.optimizer.Muon;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.settings.Setting;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/// How far the weights move, step by step.
public record OptimizationSettings(
    @Setting(initial = "400", least = 1, help = "Optimizer steps.") int steps,
    @Setting(
            initial = "3e-3",
            above = 0,
            below = 1e3,
            use = "a positive number below 1000, such as 0.003",
            help = "The maximum.")
        double learningRate,
    @Setting(initial = "cosine", help = "cosine, or wsd (warm-up, stable, decay).") String schedule,
    @Setting(initial = "20", help = "Steps until the maximum.") int warmupSteps,
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for a fifth of all",
            help = "Steps of the last phase of wsd; 0 for a fifth of all.")
        int decaySteps,
    @Setting(initial = "0.1", help = "Share of the maximum at the end.")
        double minLearningRateShare,
    @Setting(
            initial = "adamw",
            help =
                "adamw, or muon: matrices inside the layers move by Newton-Schulz, all else by"
                    + " AdamW.")
        String optimizer,
    @Setting(
            initial = "0.1",
            least = 0,
            below = 1e3,
            use = "0 or a positive number below 1000, such as 0.1",
            help = "How fast matrices decay; norms do not.")
        double weightDecay,
    @Setting(
            initial = "coupled",
            help =
                "coupled (a step decays by learning rate times weight decay), or independent (by"
                    + " weight decay times the schedule's share alone; such as 1e-4).")
        String weightDecayKind,
    @Setting(
            initial = "0.9",
            least = 0,
            below = 1,
            use = "a number in [0, 1)",
            help = "AdamW's β₁.")
        double beta1,
    @Setting(
            initial = "0.95",
            least = 0,
            below = 1,
            use = "a number in [0, 1)",
            help = "AdamW's β₂.")
        double beta2,
    @Setting(initial = "1e-8", above = 0, use = "a small positive number", help = "AdamW's ε.")
        double epsilon,
    @Setting(
            initial = "0.95",
            least = 0,
            below = 1,
            use = "a number in [0, 1)",
            help = "Muon's momentum.")
        double muonMomentum,
    @Setting(
            initial = "1.0",
            above = 0,
            use = "a positive number",
            help = "The largest global gradient norm.")
        double clipNorm,
    @Setting(
            initial = "0",
            least = 0,
            below = 1,
            use = "0 for none, or a small number such as 1e-4",
            help = "Weight of the squared log of the softmax's sum, added to the loss; 0 for none.")
        double zLoss) {
  /// A step that lets more than this share of a matrix decay leaves little of what it learned.
  private static final double MUCH_DECAY = 0.01;

  /// The optimizer and its constants.
  public Optimizer.Settings optimizerSettings() {
    return optimizerSettings(weightDecay, learningRate);
  }

  /// The same for parameters with a decay and a learning rate of their own.
  ///
  /// @param rate their maximum
  Optimizer.Settings optimizerSettings(double weightDecay, double rate) {
    double decay = isIndependent() ? weightDecay / rate : weightDecay;
    var adamW = new AdamW.Settings(beta1, beta2, epsilon, decay);
    return switch (Optimizer.Kind.parse(optimizer)) {
      case ADAMW -> adamW;
      case MUON -> new Muon.Settings(muonMomentum, adamW);
    };
  }

  /// Whether decay does not grow with the learning rate: θ ← θ − s (ηΔ + λθ) with the schedule's
  /// share s (arXiv 2309.14322, section 3.2.2). As the rate of a step is sη, that is a decay of λ/η
  /// by the rate of the step.
  private boolean isIndependent() {
    return switch (weightDecayKind.toLowerCase(Locale.ROOT)) {
      case "coupled" -> false;
      case "independent" -> true;
      default ->
          throw new InvalidInputException(
              "unknown weight_decay_kind '%s'; use coupled or independent"
                  .formatted(Printable.brief(weightDecayKind, 100)));
    };
  }

  /// The learning rate of a step.
  ///
  /// @param step from 1
  double learningRateAt(int step) {
    return learningRate * scheduleOf().at(step - 1);
  }

  public LearningRateSchedule scheduleOf() {
    int warmup = Math.min(warmupSteps, steps);
    return switch (schedule.toLowerCase(Locale.ROOT)) {
      case "cosine" -> new LearningRateSchedule.Cosine(warmup, steps, minLearningRateShare);
      case "wsd" ->
          new LearningRateSchedule.WarmupStableDecay(
              warmup,
              steps,
              decaySteps > 0 ? decaySteps : Math.min(steps / 5, steps - warmup),
              minLearningRateShare);
      default ->
          throw new InvalidInputException(
              "unknown schedule '%s'; use cosine or wsd".formatted(Printable.brief(schedule, 100)));
    };
  }

  /// What these do beside what their names say.
  List<String> notes() {
    List<String> notes = new ArrayList<>();
    if (warmupSteps > steps) {
      notes.add(
          "warmup_steps is %d and the run has %d steps: the learning rate rises to its maximum at the last step."
              .formatted(warmupSteps, steps));
    }
    if (decaySteps > 0 && !schedule.equalsIgnoreCase("wsd")) {
      notes.add("decay_steps %d does nothing with schedule %s.".formatted(decaySteps, schedule));
    }
    double decay = isIndependent() ? weightDecay : learningRate * weightDecay;
    if (decay > MUCH_DECAY) {
      notes.add(
          "Every step lets %.3g of each matrix decay: weight_decay %s is %s; %s is usual."
              .formatted(
                  decay,
                  weightDecay,
                  isIndependent()
                      ? "not multiplied by the learning rate"
                      : "multiplied by " + learningRate,
                  isIndependent() ? "1e-4" : "0.1"));
    }
    if (muonMomentum != 0.95 && Optimizer.Kind.parse(optimizer) != Optimizer.Kind.MUON) {
      notes.add(
          "muon_momentum %s does nothing with optimizer %s.".formatted(muonMomentum, optimizer));
    }
    return notes;
  }
}
