package dev.sluice.training;

import java.util.ArrayDeque;
import java.util.Deque;

/// Tells a run that has gone wrong for good from one that is only noisy: the mean loss of the last
/// [#WINDOW] steps is above that of the very first step.
final class Divergence {
  static final int WINDOW = 100;

  private final Deque<Double> last = new ArrayDeque<>();
  private double first = Double.NaN;

  /// Takes up the loss of the next step.
  ///
  /// @return whether the run has diverged
  boolean after(double loss) {
    if (Double.isNaN(first)) {
      first = loss;
    }
    last.add(loss);
    if (last.size() > WINDOW) {
      last.remove();
    }
    return last.size() == WINDOW
        && last.stream().mapToDouble(Double::doubleValue).average().orElseThrow() > first;
  }
}
