package dev.sluice.evaluation;

import dev.sluice.statistics.Statistics;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;

/// How much a metric differs between two models that answered the same rows.
///
/// Of accuracies: the mean of the rows' differences with Student's 95 % interval, and McNemar's
/// exact test, which asks how often a coin falls as the rows do that only one of the two has right.
/// Of others: the 95 % interval of a bootstrap over rows that draws the same rows for both.
///
/// @param difference the second's value less the first's
/// @param low of the 95 % interval; NaN for fewer than two rows
/// @param high likewise
/// @param pValue of McNemar's test; NaN for other metrics
public record PairedDifference(double difference, double low, double high, double pValue) {
  private static final int RESAMPLES = 2000;
  private static final long SEED = 20_250_510;

  /// Compares two models' rows.
  public static PairedDifference of(
      Metric metric, List<Metric.Share> first, List<Metric.Share> second) {
    double difference = metric.of(second).value() - metric.of(first).value();
    if (!metric.isAccuracy()) {
      return bootstrapped(metric, difference, first, second);
    }
    double[] rows = Statistics.differences(values(second), values(first));
    double half = Statistics.interval95(rows);
    int better = (int) Arrays.stream(rows).filter(each -> each > 0).count();
    int worse = (int) Arrays.stream(rows).filter(each -> each < 0).count();
    return new PairedDifference(
        difference, difference - half, difference + half, Statistics.mcNemar(better, worse));
  }

  private static double[] values(List<Metric.Share> shares) {
    return shares.stream().mapToDouble(Metric.Share::value).toArray();
  }

  private static PairedDifference bootstrapped(
      Metric metric, double difference, List<Metric.Share> first, List<Metric.Share> second) {
    int n = first.size();
    if (n < 2) {
      return new PairedDifference(difference, Double.NaN, Double.NaN, Double.NaN);
    }
    var random = new SplittableRandom(SEED);
    double[] drawn = new double[RESAMPLES];
    double[][] a = new double[2][n];
    double[][] b = new double[2][n];
    for (int resample = 0; resample < RESAMPLES; resample++) {
      for (int i = 0; i < n; i++) {
        int row = random.nextInt(n);
        a[0][i] = first.get(row).value();
        a[1][i] = first.get(row).weight();
        b[0][i] = second.get(row).value();
        b[1][i] = second.get(row).weight();
      }
      drawn[resample] = metric.summarised(b[0], b[1]) - metric.summarised(a[0], a[1]);
    }
    Arrays.sort(drawn);
    return new PairedDifference(
        difference, drawn[(int) (0.025 * RESAMPLES)], drawn[(int) (0.975 * RESAMPLES)], Double.NaN);
  }

  /// Whether zero lies outside the interval.
  public boolean isShown() {
    return low > 0 || high < 0;
  }
}
