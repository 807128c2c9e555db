package dev.sluice.cli;

import dev.sluice.checkpoint.Conversion;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import java.time.Duration;
import java.util.List;

/// Shows how far a model's weights were gone through, where it takes long.
final class ConversionProgress implements Conversion.Listener {
  private static final long QUIET_NANOS = 2_000_000_000L;

  private final long began = System.nanoTime();
  private final RemainingTime remaining = new RemainingTime();

  @Override
  public void advanced(String doing, long done, long total) {
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe((double) done, elapsed);
    if (elapsed.toNanos() > QUIET_NANOS && done < total) {
      Console.progress(
          new Progress(
              "MB",
              done / 1_000_000,
              total / 1_000_000,
              elapsed,
              remaining.remaining((double) total).orElse(null),
              List.of(doing)));
    }
  }

  @Override
  public boolean isStopping() {
    return Interruption.requested();
  }
}
