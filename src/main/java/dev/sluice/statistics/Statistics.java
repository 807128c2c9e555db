package dev.sluice.statistics;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;
import org.apache.commons.statistics.distribution.BinomialDistribution;
import org.apache.commons.statistics.distribution.NakagamiDistribution;
import org.apache.commons.statistics.distribution.NormalDistribution;
import org.apache.commons.statistics.distribution.TDistribution;

/// The statistics of a few repeated measurements.
public final class Statistics {
  /// How often a difference is to be seen that is called detectable.
  private static final double POWER = 0.8;

  /// Points of the midpoint rule.
  private static final int POINTS = 2000;

  private Statistics() {}

  public static double mean(double... values) {
    return Arrays.stream(values).average().orElse(Double.NaN);
  }

  /// The middle value, or the mean of the two middle ones; NaN for none, or where any is NaN.
  public static double median(double... values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int n = sorted.length;
    return n == 0 || Double.isNaN(sorted[n - 1]) // NaN is sorted last
        ? Double.NaN
        : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  }

  /// The sample standard deviation (n − 1); NaN for fewer than two values.
  public static double standardDeviation(double... values) {
    if (values.length < 2) {
      return Double.NaN;
    }
    double mean = mean(values);
    double squares = Arrays.stream(values).map(v -> (v - mean) * (v - mean)).sum();
    return Math.sqrt(squares / (values.length - 1));
  }

  /// Half the width of the 95 % confidence interval of the mean, by Student's t; NaN for fewer than
  /// two values.
  public static double interval95(double... values) {
    return values.length < 2 ? Double.NaN : quantile(0.975, values.length) * standardError(values);
  }

  /// The probability of a mean at least as far from zero as that of these values, if each of them
  /// were drawn from a normal distribution around zero: the two-sided one-sample t-test, which on
  /// differences of pairs is the paired one. NaN for fewer than two values.
  public static double pValue(double... differences) {
    if (differences.length < 2) {
      return Double.NaN;
    }
    double mean = mean(differences);
    double error = standardError(differences);
    if (error == 0) {
      return mean == 0 ? 1 : 0;
    }
    var distribution = TDistribution.of(differences.length - 1);
    return 2 * distribution.survivalProbability(Math.abs(mean) / error);
  }

  /// McNemar's exact test of paired answers: the probability that a fair coin falls at least as
  /// unevenly as the pairs do of which one alone is right; 1 where there are none.
  ///
  /// @param onlyFirst pairs of which the first alone is right
  /// @param onlySecond the others
  public static double mcNemar(int onlyFirst, int onlySecond) {
    int pairs = onlyFirst + onlySecond;
    if (pairs == 0) {
      return 1;
    }
    double tail =
        BinomialDistribution.of(pairs, 0.5).cumulativeProbability(Math.min(onlyFirst, onlySecond));
    return Math.min(1, 2 * tail);
  }

  /// The 95 % confidence interval of the difference of two shares of the same pairs, the second's
  /// right answers less the first's, by Agresti and Min (Statistics in Medicine 24, 2005, 729–740):
  /// Wald's interval after half a pair more in each of the four cells, so that it keeps a width
  /// where all pairs agree.
  ///
  /// @param onlyFirst pairs of which the first alone is right
  /// @param onlySecond of which the second alone is
  /// @param pairs all, at least one
  /// @return its lower and its upper end
  public static double[] pairedShares95(int onlyFirst, int onlySecond, int pairs) {
    double more = pairs + 2;
    double between = onlySecond - onlyFirst;
    double middle = between / more;
    double half =
        NormalDistribution.of(0, 1).inverseCumulativeProbability(0.975)
            * Math.sqrt(onlyFirst + onlySecond + 1 - between * between / more)
            / more;
    return new double[] {Math.max(-1, middle - half), Math.min(1, middle + half)};
  }

  /// Holm's correction of p-values of several comparisons: whoever calls those at or below α shown
  /// is wrong about any of them with a probability of at most α. NaN stays and does not count.
  public static double[] holm(double... pValues) {
    int[] order =
        IntStream.range(0, pValues.length)
            .filter(i -> !Double.isNaN(pValues[i]))
            .boxed()
            .sorted(Comparator.comparingDouble(i -> pValues[i]))
            .mapToInt(Integer::intValue)
            .toArray();
    double[] corrected = new double[pValues.length];
    Arrays.fill(corrected, Double.NaN);
    double least = 0;
    for (int rank = 0; rank < order.length; rank++) {
      least = Math.max(least, Math.min(1, (order.length - rank) * pValues[order[rank]]));
      corrected[order[rank]] = least;
    }
    return corrected;
  }

  /// The true mean difference that the t-test of [#pValue], at 5 %, shows in four of five studies
  /// of as many pairs whose differences have this standard deviation.
  public static double detectable(double standardDeviation, int pairs) {
    if (pairs < 2) {
      return Double.NaN;
    }
    double below = 0;
    double above = 1;
    while (power(above, pairs) < POWER) {
      below = above;
      above *= 2;
    }
    for (int halving = 0; halving < 40; halving++) {
      double middle = (below + above) / 2;
      if (power(middle, pairs) < POWER) {
        below = middle;
      } else {
        above = middle;
      }
    }
    return above * standardDeviation;
  }

  /// The probability that the test shows a true mean of so many standard deviations.
  ///
  /// Of n normal values with mean d and standard deviation 1, the sample's deviation s is
  /// Nakagami's with μ = (n − 1)/2, and its mean, which is independent of s, is beyond the critical
  /// `±t₀.₉₇₅ s/√n` with the probability `Φ(√n d − t₀.₉₇₅ s) + Φ(−√n d − t₀.₉₇₅ s)`: the mean of
  /// that over s, by the midpoint rule.
  private static double power(double deviations, int pairs) {
    int freedom = pairs - 1;
    double critical = quantile(0.975, pairs);
    double shift = deviations * Math.sqrt((double) pairs);
    var spread = NakagamiDistribution.of(freedom / 2.0, 1);
    var normal = NormalDistribution.of(0, 1);
    double reach = 9 / Math.sqrt((double) freedom);
    double lowest = Math.max(0, 1 - reach);
    double width = (1 + reach - lowest) / POINTS;
    double sum = 0;
    for (int i = 0; i < POINTS; i++) {
      double s = lowest + (i + 0.5) * width;
      double shown =
          normal.cumulativeProbability(shift - critical * s)
              + normal.cumulativeProbability(-shift - critical * s);
      sum += shown * spread.density(s) * width;
    }
    return sum;
  }

  private static double quantile(double probability, int values) {
    return TDistribution.of(values - 1.0).inverseCumulativeProbability(probability);
  }

  private static double standardError(double... values) {
    return standardDeviation(values) / Math.sqrt((double) values.length);
  }

  /// a − b, element by element: measurements of the same seeds.
  public static double[] differences(double[] a, double[] b) {
    double[] differences = new double[a.length];
    Arrays.setAll(differences, i -> a[i] - b[i]);
    return differences;
  }
}
