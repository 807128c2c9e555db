package dev.sluice.report;

/// One cell of a [Table]: what is shown, and for numbers the value by which a column is sorted.
public sealed interface Cell {
  /// Words; a column with words is aligned to the left.
  record Words(String text) implements Cell {}

  /// A number as `text` shows it.
  record Quantity(double value, String text) implements Cell {}

  /// An estimate with the half-width of its interval.
  record Interval(double mean, double halfWidth) implements Cell {}

  /// There is no value here.
  record Missing() implements Cell {}

  static Cell of(String words) {
    return new Words(words);
  }

  static Cell of(long count) {
    return new Quantity(count, Numbers.count(count));
  }

  static Cell of(double value, int decimals) {
    return new Quantity(value, Numbers.fixed(value, decimals));
  }

  static Cell significant(double value, int digits) {
    return new Quantity(value, Numbers.significant(value, digits));
  }

  static Cell percent(double fraction, int decimals) {
    return new Quantity(fraction, Numbers.percent(fraction, decimals));
  }

  static Cell interval(double mean, double halfWidth) {
    return new Interval(mean, halfWidth);
  }

  static Cell missing() {
    return new Missing();
  }
}
