package dev.sluice.serving;

import java.util.List;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.atomic.DoubleAdder;

/// How often values fell below some bounds.
public final class Histogram {
  private final List<Double> bounds;
  private final AtomicLongArray counts;
  private final DoubleAdder sum = new DoubleAdder();

  Histogram(Double... bounds) {
    this.bounds = List.of(bounds);
    this.counts = new AtomicLongArray(bounds.length + 1);
  }

  void add(double value) {
    int at = 0;
    while (at < bounds.size() && value > bounds.get(at)) {
      at++;
    }
    counts.incrementAndGet(at);
    sum.add(value);
  }

  /// Ascending.
  public List<Double> bounds() {
    return bounds;
  }

  /// How many values were at most a bound; with the number of bounds, how many there were.
  public long upTo(int bound) {
    long total = 0;
    for (int i = 0; i <= bound; i++) {
      total += counts.get(i);
    }
    return total;
  }

  /// Of all values.
  public double sum() {
    return sum.sum();
  }
}
