package dev.sluice.cli;

import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import java.time.Duration;
import java.util.List;

/// Shows how far a prompt was read, where it takes long.
final class ReadingProgress {
  /// Tokens of a prompt that go through the model together: few enough that progress shows and
  /// Ctrl-C is heard.
  static final int PIECE = 512;

  private static final long QUIET_NANOS = 2_000_000_000L;

  private final long began = System.nanoTime();
  private final RemainingTime remaining = new RemainingTime();

  void read(int tokens, int total) {
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe((double) tokens, elapsed);
    if (elapsed.toNanos() > QUIET_NANOS && tokens < total) {
      Console.progress(
          new Progress(
              "token",
              tokens,
              total,
              elapsed,
              remaining.remaining((double) total).orElse(null),
              List.of("reading the prompt")));
    }
  }
}
