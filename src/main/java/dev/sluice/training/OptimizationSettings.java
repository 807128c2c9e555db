package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.optimizer.AdamW;
import dev.sluice.optimizer.LearningRateSchedule;
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
            initial = "0.1",
            least = 0,
            below = 1e3,
            use = "0 or a positive number below 1000, such as 0.1",
            help = "AdamW's decay, on matrices only.")
        double weightDecay,
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
            initial = "1.0",
            above = 0,
            use = "a positive number",
            help = "The largest global gradient norm.")
        double clipNorm) {
  public AdamW.Settings adamW() {
    return new AdamW.Settings(beta1, beta2, epsilon, weightDecay);
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
    return notes;
  }
}
