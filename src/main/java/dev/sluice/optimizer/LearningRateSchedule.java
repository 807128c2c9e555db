package dev.sluice.optimizer;

import dev.sluice.InvalidInputException;

/// The learning rate over a run, as a share of its maximum. Steps count from 0.
public sealed interface LearningRateSchedule {
  /// Linear warm-up, then half a cosine down to `minimum`.
  ///
  /// @param warmupSteps steps until the maximum
  /// @param totalSteps steps of the run
  /// @param minimum the share at the end
  record Cosine(int warmupSteps, int totalSteps, double minimum) implements LearningRateSchedule {
    public Cosine {
      check(warmupSteps, totalSteps, minimum);
    }
  }

  /// Warm-up, stable, decay: linear warm-up, the maximum, then linear down to `minimum` over the
  /// last `decaySteps`.
  ///
  /// @param warmupSteps steps until the maximum
  /// @param totalSteps steps of the run
  /// @param decaySteps steps of the last phase
  /// @param minimum the share at the end
  record WarmupStableDecay(int warmupSteps, int totalSteps, int decaySteps, double minimum)
      implements LearningRateSchedule {
    public WarmupStableDecay {
      check(warmupSteps, totalSteps, minimum);
      if (decaySteps < 0 || (long) warmupSteps + decaySteps > totalSteps) {
        throw new InvalidInputException(
            "warm-up ("
                + warmupSteps
                + ") and decay ("
                + decaySteps
                + ") do not fit into "
                + totalSteps
                + " steps; shorten one");
      }
    }
  }

  private static void check(int warmupSteps, int totalSteps, double minimum) {
    if (warmupSteps < 0 || warmupSteps > totalSteps) {
      throw new InvalidInputException(
          "warmup_steps must lie between 0 and steps (" + totalSteps + "), not " + warmupSteps);
    }
    if (!(minimum >= 0 && minimum <= 1)) {
      throw new InvalidInputException(
          "min_learning_rate_share must lie between 0 and 1, not " + minimum);
    }
  }

  /// The share of the maximum at a step.
  default double at(int step) {
    return switch (this) {
      case Cosine(int warmup, int total, double minimum) -> {
        if (step < warmup) {
          yield (step + 1) / (double) warmup;
        }
        double progress = (step - warmup) / (double) Math.max(1, total - warmup);
        yield minimum + (1 - minimum) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, progress)));
      }
      case WarmupStableDecay(int warmup, int total, int decay, double minimum) -> {
        if (step < warmup) {
          yield (step + 1) / (double) warmup;
        }
        int left = total - step;
        yield left > decay ? 1 : minimum + (1 - minimum) * Math.max(0, left) / decay;
      }
    };
  }
}
