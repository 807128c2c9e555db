package dev.sluice.study;

import dev.sluice.statistics.Statistics;
import java.util.Arrays;

/// Loss spikes of a training curve, counted in two ways.
///
/// An event is a maximal run of points that stand more than a threshold above the median of the 101
/// losses around them; the first and last 50 points, and those before a first step, do not count.
///
/// The spike score is the share of points at least 7 standard deviations from the mean of the 1000
/// before them (OLMo 2, arXiv 2501.00656).
public final class LossSpikes {
  /// Points on each side of the one that is judged.
  private static final int SIDE = 50;

  private static final int SCORE_WINDOW = 1000;
  private static final double SCORE_DEVIATIONS = 7;

  private LossSpikes() {}

  /// How many events there are.
  ///
  /// @param steps of the losses, increasing
  /// @param firstStep points before it do not count, but lie in the windows of others
  /// @param threshold in the unit of the losses
  public static int events(double[] steps, double[] losses, double firstStep, double threshold) {
    int events = 0;
    boolean wasHigh = false;
    for (int i = SIDE; i < losses.length - SIDE; i++) {
      boolean high = steps[i] >= firstStep && losses[i] > median(losses, i) + threshold;
      if (high && !wasHigh) {
        events++;
      }
      wasHigh = high;
    }
    return events;
  }

  private static double median(double[] losses, int center) {
    return Statistics.median(Arrays.copyOfRange(losses, center - SIDE, center + SIDE + 1));
  }

  /// The spike score; NaN for a curve that is not longer than the window.
  public static double score(double[] losses) {
    int judged = losses.length - SCORE_WINDOW;
    if (judged < 1) {
      return Double.NaN;
    }
    int spikes = 0;
    double sum = 0;
    double squares = 0;
    // Around the first loss, so that the difference of large sums keeps its digits.
    double origin = losses[0];
    for (int i = 0; i < losses.length; i++) {
      if (i >= SCORE_WINDOW) {
        double mean = sum / SCORE_WINDOW;
        double variance = Math.max(0, (squares - sum * mean) / (SCORE_WINDOW - 1));
        double distance = Math.abs(losses[i] - origin - mean);
        if (distance >= SCORE_DEVIATIONS * Math.sqrt(variance) && distance > 0) {
          spikes++;
        }
        double leaving = losses[i - SCORE_WINDOW] - origin;
        sum -= leaving;
        squares -= leaving * leaving;
      }
      double entering = losses[i] - origin;
      sum += entering;
      squares += entering * entering;
    }
    return (double) spikes / judged;
  }
}
