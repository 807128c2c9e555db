package dev.sluice.generation;

/// e to the power of many numbers that are not positive, as the softmax of a vocabulary asks for:
/// from two tables and three terms of the series, in a fifth of the time of `Math.exp`, wrong by
/// less than 1e-13 of the result.
final class Exponential {
  private static final int PARTS = 1024;

  /// Below, nothing is left in double precision.
  private static final int LARGEST = 745;

  private static final double[] WHOLE = powers(LARGEST + 1, 1);
  private static final double[] PART = powers(PARTS, PARTS);

  private Exponential() {}

  private static double[] powers(int count, double of) {
    double[] powers = new double[count];
    for (int i = 0; i < count; i++) {
      powers[i] = Math.exp(-i / of);
    }
    return powers;
  }

  /// `e^−x` for x from 0 to infinity.
  static double ofNegative(double x) {
    if (x >= LARGEST) {
      return 0;
    }
    int parts = (int) (x * PARTS);
    double rest = x - parts * (1.0 / PARTS);
    double ofRest = 1 - rest * (1 - rest * (1 / 2.0 - rest * (1 / 6.0)));
    return WHOLE[parts / PARTS] * PART[parts % PARTS] * ofRest;
  }
}
