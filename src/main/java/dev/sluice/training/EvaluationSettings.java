package dev.sluice.training;

import dev.sluice.settings.Setting;

/// When and on how much held-out text a run is evaluated.
public record EvaluationSettings(
    @Setting(initial = "32", least = 1, help = "Held-out sequences per evaluation.")
        int heldOutWindows,
    @Setting(initial = "100", least = 1, help = "Steps between evaluations.") int evaluateEvery) {
  boolean isDue(int step) {
    return step % evaluateEvery == 0;
  }
}
