package dev.sluice.report;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Optional;

/// Estimates how long a run still takes from how it went lately: the mean rate over the last
/// quarter of the elapsed time, but at least the last [#SHORTEST_WINDOW]. So the slow first steps
/// of a cold virtual machine are forgotten, while pauses that come again and again (evaluation,
/// saving) stay in the mean. A resumed run starts from its first observation.
///
/// Not thread-safe.
public final class RemainingTime {
  private static final Duration SHORTEST_WINDOW = Duration.ofSeconds(30);

  /// Observations closer together than this part of the window are not kept.
  private static final int SAMPLES_PER_WINDOW = 64;

  private record Sample(double done, long nanos) {}

  private final ArrayDeque<Sample> samples = new ArrayDeque<>();
  private long start;
  private Sample last = new Sample(0, 0);

  /// Knows nothing yet.
  public RemainingTime() {}

  /// The state of the run: how much is done, in any unit, and the time since its start.
  public void observe(double done, Duration elapsed) {
    last = new Sample(done, elapsed.toNanos());
    if (samples.isEmpty()) {
      start = last.nanos;
      samples.add(last);
      return;
    }
    long window = Math.max(SHORTEST_WINDOW.toNanos(), (last.nanos - start) / 4);
    if (last.nanos - samples.getLast().nanos >= window / SAMPLES_PER_WINDOW) {
      samples.add(last);
    }
    forget(window);
  }

  /// Units per second lately; empty before anything was seen to advance.
  public Optional<Double> rate() {
    if (samples.isEmpty()) {
      return Optional.empty();
    }
    Sample first = samples.getFirst();
    double seconds = (last.nanos - first.nanos) / 1e9;
    double advanced = last.done - first.done;
    return seconds > 0 && advanced > 0 ? Optional.of(advanced / seconds) : Optional.empty();
  }

  /// The time until `total` is done; empty while there is no rate.
  public Optional<Duration> remaining(double total) {
    return rate()
        .map(rate -> Math.max(0, total - last.done) / rate)
        .map(seconds -> Duration.ofMillis((long) Math.min(seconds * 1000, 1e15)));
  }

  /// Keeps the youngest sample that is at least a window old as the start of the window.
  private void forget(long window) {
    while (samples.size() > 2) {
      Sample oldest = samples.removeFirst();
      if (last.nanos - samples.getFirst().nanos < window) {
        samples.addFirst(oldest);
        return;
      }
    }
  }
}
