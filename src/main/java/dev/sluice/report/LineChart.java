package dev.sluice.report;

import java.util.Arrays;
import java.util.List;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/// Lines over a common x axis, each with an optional band, such as the spread over seeds.
public record LineChart(String title, String caption, Axis x, Axis y, List<Series> series)
    implements Figure {
  public LineChart {
    series = List.copyOf(series);
  }

  /// One line. `low` and `high` bound its band and are both null where there is none. The arrays
  /// are not copied: they belong to the figure from here on.
  ///
  /// @param arm whose colour it has; a line of another name than its arm's is dashed
  @SuppressWarnings("ArrayRecordComponent") // series are long, and nobody compares them
  public record Series(
      String name,
      String arm,
      double[] x,
      double[] mean,
      double @Nullable [] low,
      double @Nullable [] high) {
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
      return new Series(name, name, x, mean, null, null);
    }

    public Series withBand(double[] low, double[] high) {
      return new Series(name, arm, x, mean, low, high);
    }

    /// The same line as one of several of an arm.
    public Series ofArm(String whose) {
      return new Series(name, whose, x, mean, low, high);
    }

    /// The line with few points, of which the picture is the same: of each piece the first, the
    /// lowest, the highest and the last. A line with a band stays whole.
    ///
    /// @param most points that are left, or a few more
    Series thinned(int most) {
      if (x.length <= most || low != null) {
        return this;
      }
      int pieces = Math.max(1, most / 4);
      var kept = new TreeSet<Integer>();
      for (int piece = 0; piece < pieces; piece++) {
        int begin = Math.toIntExact((long) piece * x.length / pieces);
        int end = Math.toIntExact((piece + 1L) * x.length / pieces);
        int lowest = begin;
        int highest = begin;
        for (int i = begin; i < end; i++) {
          lowest = mean[i] < mean[lowest] ? i : lowest;
          highest = mean[i] > mean[highest] ? i : highest;
          if (!Double.isFinite(mean[i])) {
            kept.add(i); // a gap stays one
          }
        }
        kept.addAll(List.of(begin, lowest, highest, end - 1));
      }
      int[] at = kept.stream().mapToInt(i -> i).toArray();
      return new Series(
          name,
          arm,
          Arrays.stream(at).mapToDouble(i -> x[i]).toArray(),
          Arrays.stream(at).mapToDouble(i -> mean[i]).toArray(),
          null,
          null);
    }
  }

  /// The same picture from few points.
  LineChart thinned(int most) {
    return new LineChart(
        title, caption, x, y, series.stream().map(line -> line.thinned(most)).toList());
  }
}
