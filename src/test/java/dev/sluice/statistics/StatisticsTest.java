package dev.sluice.statistics;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

/// Against SciPy 1.17: `np.mean`, `np.std(ddof=1)`, `scipy.stats.t.interval`,
/// `scipy.stats.ttest_1samp`; Holm's correction by its definition.
class StatisticsTest {
  private static final double[] FOUR = {-0.013, -0.021, 0.004, -0.017};

  @Test
  void momentsAndIntervals() {
    assertEquals(-0.01175, Statistics.mean(FOUR), 1e-15);
    assertEquals(0.010996211468804458, Statistics.standardDeviation(FOUR), 1e-15);
    assertEquals(0.01749742628050754, Statistics.interval95(FOUR), 1e-12);
    assertEquals(Math.sqrt(2.5), Statistics.standardDeviation(1, 2, 3, 4, 5), 1e-12);
    assertEquals(1.963243161477557, Statistics.interval95(1, 2, 3, 4, 5), 1e-10);
    for (double[] few : new double[][] {{}, {1}}) {
      assertTrue(Double.isNaN(Statistics.interval95(few)));
      assertTrue(Double.isNaN(Statistics.standardDeviation(few)));
      assertTrue(Double.isNaN(Statistics.pValue(few)));
    }
    assertTrue(Double.isNaN(Statistics.mean()));
  }

  @Test
  void medians() {
    assertEquals(2, Statistics.median(3, 1, 2));
    assertEquals(2.5, Statistics.median(4, 1, 3, 2));
    assertEquals(7, Statistics.median(7));
    assertTrue(Double.isNaN(Statistics.median()));
    assertTrue(Double.isNaN(Statistics.median(1, 2, Double.NaN)));
    double[] kept = {3, 1, 2};
    Statistics.median(kept);
    assertArrayEquals(new double[] {3, 1, 2}, kept);
  }

  @Test
  void pValues() {
    assertEquals(0.12218760708796912, Statistics.pValue(FOUR), 1e-10);
    assertEquals(0.013235599563682695, Statistics.pValue(1, 2, 3, 4, 5), 1e-10);
    assertEquals(0.030292344376736297, Statistics.pValue(1e-3, 1.1e-3), 1e-9);
    assertEquals(1, Statistics.pValue(-1, 1), 1e-12);
    assertEquals(1, Statistics.pValue(0, 0));
    assertEquals(0, Statistics.pValue(0.5, 0.5));
    assertTrue(Double.isNaN(Statistics.pValue(1, Double.NaN)));
  }

  /// The formula in float64 with `scipy.stats.norm.ppf`, by hand: (c − b)/(n + 2) ± z √(b + c + 1 −
  /// (c − b)²/(n + 2))/(n + 2).
  @Test
  void sharesOfPairs() {
    assertArrayEquals(
        new double[] {-0.21601725873908678, -0.03089632150782677},
        Statistics.pairedShares95(40, 20, 160),
        1e-12);
    assertArrayEquals(
        new double[] {-0.0041673867744127235, 0.12537950798653394},
        Statistics.pairedShares95(0, 4, 64),
        1e-12);
    assertArrayEquals(
        new double[] {-0.1633303320450045, 0.1633303320450045},
        Statistics.pairedShares95(0, 0, 10),
        1e-12);
    assertArrayEquals(
        new double[] {-0.19295191217483898, 1}, Statistics.pairedShares95(0, 2, 2), 1e-12);
  }

  @Test
  void holm() {
    assertArrayEquals(
        new double[] {0.04, 0.09, 0.09, 0.025, 0.6},
        Statistics.holm(0.01, 0.04, 0.03, 0.005, 0.6),
        1e-12);
    assertArrayEquals(
        new double[] {0.04, Double.NaN, 0.06, 0.06},
        Statistics.holm(0.04 / 3, Double.NaN, 0.03, 0.04),
        1e-12);
    assertArrayEquals(new double[] {1, 1}, Statistics.holm(0.7, 0.9), 1e-12);
    assertArrayEquals(new double[0], Statistics.holm());
  }

  /// The standardised effect that the two-sided t-test at 5 % has a power of 80 % for: with
  /// `scipy`, the root of the noncentral t's power, integrated over the sample deviation.
  @Test
  void detectableDifferences() {
    assertEquals(11.549888435882378, Statistics.detectable(1, 2), 1e-4);
    assertEquals(3.2640435496994287, Statistics.detectable(1, 3), 1e-5);
    assertEquals(2 * 1.681996965955923, Statistics.detectable(2, 5), 1e-6);
    assertEquals(0.9960013714554434, Statistics.detectable(1, 10), 1e-6);
    assertEquals(0.45425693968358795, Statistics.detectable(1, 40), 1e-6);
    assertEquals(0, Statistics.detectable(0, 5));
    assertTrue(Double.isNaN(Statistics.detectable(1, 1)));
    assertTrue(Double.isNaN(Statistics.detectable(Double.NaN, 5)));
  }
}
