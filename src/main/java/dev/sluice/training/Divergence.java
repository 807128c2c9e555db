package dev.sluice.training;

import java.util.ArrayDeque;
import java.util.Deque;

/// Tells a run that has gone wrong for good from one that is only noisy: the mean loss of the last
/// [#WINDOW] steps is above that of a model that knows nothing, or above that of the very first
/// step where this is more. A run that begins with a checkpoint has its first loss where it will
/// stay, so that noise alone would be above it.
final class Divergence {
  static final int WINDOW = 100;

  private final Deque<Double> last = new ArrayDeque<>();
  private final double ofNothing;
  private double first = Double.NaN;

  /// @param ofNothing the loss of a model that knows nothing; 0 for a new model, whose first loss
  ///   is that
  Divergence(double ofNothing) {
    this.ofNothing = ofNothing;
  }

  /// Takes up the loss of the next step.
  ///
  /// @return whether the run has diverged
  boolean after(double loss) {
    if (Double.isNaN(first)) {
      first = Math.max(loss, ofNothing);
    }
    last.add(loss);
    if (last.size() > WINDOW) {
      last.remove();
    }
    return last.size() == WINDOW
        && last.stream().mapToDouble(Double::doubleValue).average().orElseThrow() > first;
  }
}
