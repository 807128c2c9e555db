package dev.sluice.report;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// Lines over a common x axis, each with an optional band, such as the spread over seeds.
public record LineChart(String title, String caption, Axis x, Axis y, List<Series> series)
    implements Figure {
  public LineChart {
    series = List.copyOf(series);
  }

  /// One line. `low` and `high` bound its band and are both null where there is none. The arrays
  /// are not copied: they belong to the figure from here on.
  @SuppressWarnings("ArrayRecordComponent") // series are long, and nobody compares them
  public record Series(
      String name, double[] x, double[] mean, double @Nullable [] low, double @Nullable [] high) {
    public Series {
      if (x.length != mean.length) {
        throw new IllegalArgumentException(
            "series \"%s\" has %d x and %d values".formatted(name, x.length, mean.length));
      }
      if ((low == null) != (high == null)
          || (low != null && low.length != x.length)
          || (high != null && high.length != x.length)) {
        throw new IllegalArgumentException(
            "the band of series \"%s\" needs a low and a high for each of its %d values"
                .formatted(name, x.length));
      }
    }

    public static Series of(String name, double[] x, double[] mean) {
      return new Series(name, x, mean, null, null);
    }

    public Series withBand(double[] low, double[] high) {
      return new Series(name, x, mean, low, high);
    }
  }
}
