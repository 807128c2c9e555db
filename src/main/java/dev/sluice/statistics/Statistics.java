package dev.sluice.statistics;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;
import org.apache.commons.statistics.distribution.TDistribution;

/// The statistics of a few repeated measurements.
public final class Statistics {
  private Statistics() {}

  public static double mean(double... values) {
    return Arrays.stream(values).average().orElse(Double.NaN);
  }

  /// The middle value, or the mean of the two middle ones; NaN for none.
  public static double median(double... values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int n = sorted.length;
    return n == 0 ? Double.NaN : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
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

  /// The true mean difference that as many pairs with this standard deviation would show in four of
  /// five studies (at a level of 5 %, two-sided): `(t₀.₉₇₅ + t₀.₈) s / √n`.
  public static double detectable(double standardDeviation, int pairs) {
    return pairs < 2
        ? Double.NaN
        : (quantile(0.975, pairs) + quantile(0.8, pairs))
            * standardDeviation
            / Math.sqrt((double) pairs);
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
