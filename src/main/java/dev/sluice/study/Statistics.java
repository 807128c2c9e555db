package dev.sluice.study;

import java.util.Arrays;

/// The statistics of a few repeated measurements.
public final class Statistics {
  // Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
  private static final double[] T95 = {
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042
  };

  private Statistics() {}

  public static double mean(double... values) {
    return Arrays.stream(values).average().orElse(Double.NaN);
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
    return quantile95(values.length - 1)
        * standardDeviation(values)
        / Math.sqrt((double) values.length);
  }

  /// The two-sided 95 % quantile of Student's t (beyond 30 degrees of freedom a slightly wide
  /// approximation).
  private static double quantile95(int degreesOfFreedom) {
    if (degreesOfFreedom < 1) {
      return Double.NaN;
    }
    return degreesOfFreedom <= T95.length
        ? T95[degreesOfFreedom - 1]
        : 1.960 + 2.5 / degreesOfFreedom;
  }

  /// a − b, element by element: measurements of the same seeds.
  public static double[] differences(double[] a, double[] b) {
    double[] differences = new double[a.length];
    Arrays.setAll(differences, i -> a[i] - b[i]);
    return differences;
  }
}
