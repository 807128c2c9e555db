package dev.sluice.cli;

import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import java.time.Duration;
import java.util.List;

/// Shows how far something is once it has taken two seconds.
final class SlowProgress {
  private static final long QUIET_NANOS = 2_000_000_000L;

  private final long began = System.nanoTime();
  private final RemainingTime remaining = new RemainingTime();
  private final String unit;

  /// @param unit of what is counted
  SlowProgress(String unit) {
    this.unit = unit;
  }

  /// @param doing what is done, in words; none where the unit says it
  void advanced(long done, long total, String... doing) {
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe((double) done, elapsed);
    if (elapsed.toNanos() > QUIET_NANOS && done < total) {
      Console.progress(
          new Progress(
              unit,
              done,
              total,
              elapsed,
              remaining.remaining((double) total).orElse(null),
              List.of(doing)));
    }
  }
}
