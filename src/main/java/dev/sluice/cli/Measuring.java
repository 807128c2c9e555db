package dev.sluice.cli;

import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CancellationException;

/// Shows how far a measurement of equal parts is, and ends it when the user wants.
final class Measuring {
  private final String unit;
  private final long all;
  private final long began = System.nanoTime();
  private final RemainingTime remaining = new RemainingTime();
  private long done;

  /// @param unit what a part is called
  Measuring(String unit, long all) {
    this.unit = unit;
    this.all = all;
  }

  /// A part is measured.
  ///
  /// @throws CancellationException if the user wants to stop
  void done(String what) {
    if (Interruption.requested()) {
      throw new CancellationException();
    }
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe((double) ++done, elapsed);
    Console.progress(
        new Progress(
            unit,
            done,
            all,
            elapsed,
            remaining.remaining((double) all).orElse(null),
            List.of(what)));
  }
}
