package dev.sluice.evaluation;

import dev.sluice.statistics.Statistics;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/// How much a metric differs between two models that answered the same rows.
///
/// Of accuracies: Agresti and Min's 95 % interval, and McNemar's exact test, which asks how often a
/// coin falls as the rows do that only one of the two has right, and which decides. Of others the
/// 95 % interval decides: that of a bootstrap over rows that draws the same rows for both, or,
/// since a bootstrap of few rows hardly leaves them, Student's interval of the jackknife's
/// pseudo-values, which are the rows' differences where the metric is a mean.
///
/// @param difference the second's value less the first's
/// @param low of the 95 % interval; NaN where there is none, as of one row
/// @param high likewise
/// @param pValue of McNemar's test; NaN for other metrics
/// @param rows that both answered
public record PairedDifference(
    double difference, double low, double high, double pValue, int rows) {
  /// With fewer rows nothing can be shown: that all differ to one side happens to a coin in 2 of 2ⁿ
  /// cases, which is more than the level.
  public static final int FEWEST_ROWS = 6;

  /// From so many rows on they are drawn anew.
  public static final int BOOTSTRAPPED_ROWS = 20;

  /// The level of the tests.
  public static final double LEVEL = 0.05;

  private static final int RESAMPLES = 2000;
  private static final long SEED = 20_250_510;

  /// Compares two models' rows.
  public static PairedDifference of(
      Metric metric, List<Metric.Share> first, List<Metric.Share> second) {
    int n = first.size();
    double difference = metric.of(second).value() - metric.of(first).value();
    if (metric.isAccuracy()) {
      double[] rows = Statistics.differences(values(second), values(first));
      int better = (int) Arrays.stream(rows).filter(each -> each > 0).count();
      int worse = (int) Arrays.stream(rows).filter(each -> each < 0).count();
      double[] ends = Statistics.pairedShares95(worse, better, n);
      return new PairedDifference(
          difference, ends[0], ends[1], Statistics.mcNemar(worse, better), n);
    }
    if (n < BOOTSTRAPPED_ROWS) {
      double half = Statistics.interval95(pseudoValues(metric, difference, first, second));
      return new PairedDifference(difference, difference - half, difference + half, Double.NaN, n);
    }
    return bootstrapped(metric, difference, first, second);
  }

  private static double[] values(List<Metric.Share> shares) {
    return shares.stream().mapToDouble(Metric.Share::value).toArray();
  }

  /// The jackknife's (Tukey 1958), `n d − (n − 1) dᵢ` with the difference dᵢ of all rows but i.
  private static double[] pseudoValues(
      Metric metric, double difference, List<Metric.Share> first, List<Metric.Share> second) {
    int n = first.size();
    return IntStream.range(0, n)
        .mapToDouble(
            row ->
                n * difference
                    - (n - 1)
                        * (metric.of(without(row, second)).value()
                            - metric.of(without(row, first)).value()))
        .toArray();
  }

  private static List<Metric.Share> without(int row, List<Metric.Share> shares) {
    return IntStream.range(0, shares.size()).filter(i -> i != row).mapToObj(shares::get).toList();
  }

  private static PairedDifference bootstrapped(
      Metric metric, double difference, List<Metric.Share> first, List<Metric.Share> second) {
    int n = first.size();
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
        difference,
        drawn[(int) (0.025 * RESAMPLES)],
        drawn[(int) (0.975 * RESAMPLES)],
        Double.NaN,
        n);
  }

  /// Whether so many rows could show a difference.
  public boolean isTested() {
    return rows >= FEWEST_ROWS;
  }

  /// Whether there is a difference beyond chance: by McNemar's test of accuracies, else where zero
  /// lies outside the interval.
  public boolean isShown() {
    return isTested() && (Double.isNaN(pValue) ? low > 0 || high < 0 : pValue <= LEVEL);
  }
}
