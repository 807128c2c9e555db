package dev.sluice.report;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.time.Duration;
import java.util.Locale;

/// Numbers as text, the same on every machine whatever its locale: `18,204`, `2.134 ± 0.012`, `20
/// %`, `3m05s`. Values that are not finite come out as `NaN`, `∞` and `-∞`: a table must show that
/// a loss diverged.
public final class Numbers {
  private static final String[] SI = {"", " k", " M", " G", " T", " P", " E"};
  private static final String[] BINARY = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};

  private Numbers() {}

  /// With thousands separators: `18,204`.
  public static String count(long value) {
    return String.format(Locale.ROOT, "%,d", value);
  }

  /// With a fixed number of decimals and thousands separators: `1,234.50`.
  public static String fixed(double value, int decimals) {
    if (!Double.isFinite(value)) {
      return notFinite(value);
    }
    String text = String.format(Locale.ROOT, "%,." + decimals + "f", value);
    return isZero(text) && text.startsWith("-") ? text.substring(1) : text;
  }

  /// Rounded to `digits` significant digits, trailing zeros kept because they say how much is
  /// known: `2.130`, `0.0210`, `18,204`. Below 1e-4 and from 1e9 on in scientific notation:
  /// `3.20e-05`.
  public static String significant(double value, int digits) {
    if (digits < 1) {
      throw new IllegalArgumentException("significant digits must be at least 1, not " + digits);
    }
    if (!Double.isFinite(value)) {
      return notFinite(value);
    }
    if (value == 0) {
      return "0";
    }
    BigDecimal rounded = round(value, digits);
    int exponent = exponent(rounded);
    if (exponent < -4 || exponent >= 9) {
      return String.format(Locale.ROOT, "%." + (digits - 1) + "e", value);
    }
    return fixed(rounded.doubleValue(), Math.max(0, digits - 1 - exponent));
  }

  /// An estimate and the half-width of its interval, which is rounded to two significant digits and
  /// decides the decimals of both: `2.134 ± 0.012`.
  public static String interval(double mean, double halfWidth) {
    int decimals = decimals(halfWidth);
    return estimate(mean, decimals) + " ± " + estimate(halfWidth, decimals);
  }

  /// Decimals that show two significant digits of a half-width; three where it is not finite or
  /// zero.
  static int decimals(double halfWidth) {
    return Double.isFinite(halfWidth) && halfWidth != 0
        ? Math.max(0, 1 - exponent(round(halfWidth, 2)))
        : 3;
  }

  /// One side of an interval. Eight decimals or more read better in scientific notation.
  static String estimate(double value, int decimals) {
    return decimals < 8 ? fixed(value, decimals) : significant(value, 4);
  }

  /// A fraction in per cent: `percent(0.2, 0)` is `20 %`.
  public static String percent(double fraction, int decimals) {
    return Double.isFinite(fraction) ? fixed(100 * fraction, decimals) + " %" : notFinite(fraction);
  }

  /// With a decimal prefix and three significant digits: `13.9 M`, `1.50 G`, `512`.
  public static String scaled(double value) {
    return prefixed(value, 1000, SI);
  }

  /// With a binary prefix and three significant digits: `1.25 GiB`.
  public static String bytes(long bytes) {
    return prefixed((double) bytes, 1024, BINARY);
  }

  /// The two largest units: `0.4s`, `48s`, `3m05s`, `2h10m`, `3d04h`.
  public static String duration(Duration duration) {
    if (duration.isNegative()) {
      return "-" + duration(duration.negated());
    }
    if (duration.toMillis() < 950) {
      long tenths = Math.round(duration.toMillis() / 100.0);
      return tenths == 0 ? "0s" : "0." + tenths + "s";
    }
    long seconds = duration.plusMillis(500).toSeconds();
    if (seconds < 60) {
      return seconds + "s";
    }
    if (seconds < 3600) {
      return String.format(Locale.ROOT, "%dm%02ds", seconds / 60, seconds % 60);
    }
    long minutes = duration.plusSeconds(30).toMinutes();
    if (minutes < 60) {
      return "1h00m";
    }
    if (minutes < 24 * 60) {
      return String.format(Locale.ROOT, "%dh%02dm", minutes / 60, minutes % 60);
    }
    long hours = duration.plusMinutes(30).toHours();
    return String.format(Locale.ROOT, "%dd%02dh", hours / 24, hours % 24);
  }

  private static String prefixed(double value, int base, String[] prefixes) {
    if (!Double.isFinite(value)) {
      return notFinite(value);
    }
    double rest = value;
    int prefix = 0;
    // 999.5 would be printed as 1000: it belongs to the next prefix.
    while (Math.abs(rest) >= (base == 1000 ? 999.5 : base) && prefix < prefixes.length - 1) {
      rest /= base;
      prefix++;
    }
    boolean whole = prefix == 0 && rest == Math.rint(rest);
    return (whole ? count((long) rest) : significant(rest, 3)) + prefixes[prefix];
  }

  private static BigDecimal round(double value, int digits) {
    return new BigDecimal(value).round(new MathContext(digits, RoundingMode.HALF_EVEN));
  }

  private static int exponent(BigDecimal value) {
    return value.precision() - value.scale() - 1;
  }

  private static boolean isZero(String text) {
    return text.chars().noneMatch(c -> c >= '1' && c <= '9');
  }

  private static String notFinite(double value) {
    return Double.isNaN(value) ? "NaN" : value > 0 ? "∞" : "-∞";
  }
}
