package dev.sluice.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class NumbersTest {
  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      value = {
        "2.1342; 4; 2.134", "0.021; 3; 0.0210", "18204.3; 3; 18,200", "9.9996; 4; 10.00",
        "0.00003204; 3; 3.20e-05", "1e9; 2; 1.0e+09", "-0.5; 2; -0.50", "0; 3; 0",
        "NaN; 3; NaN", "Infinity; 3; ∞", "-Infinity; 3; -∞"
      })
  void significant(double value, int digits, String text) {
    assertEquals(text, Numbers.significant(value, digits));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      value = {
        "2.13421; 0.01213; 2.134 ± 0.012",
        "2.1; 0.00996; 2.100 ± 0.010",
        "1234.5; 120; 1,235 ± 120",
        "-0.0351; 0.0088; -0.0351 ± 0.0088",
        "NaN; NaN; NaN ± NaN",
        "2; 0; 2.000 ± 0.000",
        "3e-9; 1.2e-10; 3.000e-09 ± 1.200e-10"
      })
  void interval(double mean, double halfWidth, String text) {
    assertEquals(text, Numbers.interval(mean, halfWidth));
  }

  @ParameterizedTest
  @CsvSource({
    "0, 0s",
    "420, 0.4s",
    "980, 1s",
    "48200, 48s",
    "59600, 1m00s",
    "185000, 3m05s",
    "3599600, 1h00m",
    "7800000, 2h10m",
    "86399000, 1d00h",
    "273600000, 3d04h",
    "-5000, -5s"
  })
  void duration(long millis, String text) {
    assertEquals(text, Numbers.duration(Duration.ofMillis(millis)));
  }

  @Test
  void prefixesAndPercent() {
    assertEquals("512", Numbers.scaled(512));
    assertEquals("13.9 M", Numbers.scaled(13_918_432));
    assertEquals("1.00 M", Numbers.scaled(999_900));
    assertEquals("1.25 GiB", Numbers.bytes(1_342_177_280L));
    assertEquals("1,000 B", Numbers.bytes(1000));
    assertEquals("20 %", Numbers.percent(0.2, 0));
    assertEquals("0.0", Numbers.fixed(-0.01, 1));
    assertThrows(IllegalArgumentException.class, () -> Numbers.significant(1, 0));
  }

  @Test
  void theLocaleOfTheMachineDoesNotMatter() {
    Locale before = Locale.getDefault();
    try {
      Locale.setDefault(Locale.GERMANY);
      assertEquals("1,234.50", Numbers.fixed(1234.5, 2));
      assertEquals("18,204", Numbers.count(18_204));
    } finally {
      Locale.setDefault(before);
    }
  }
}
