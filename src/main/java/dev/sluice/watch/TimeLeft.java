package dev.sluice.watch;

import dev.sluice.report.Numbers;
import dev.sluice.report.RemainingTime;
import java.time.Duration;
import java.util.Optional;

/// How long the steps that are left will take, by how they went while they were watched, and until
/// that is known by how long the latest took.
final class TimeLeft {
  private static final double ENOUGH_SECONDS = 20;

  private RemainingTime observed = new RemainingTime();
  private long began = System.nanoTime();
  private long done = -1;

  /// `, about 2m05s left`; empty while nothing is known.
  ///
  /// @param secondsOfAStep NaN if not known
  String words(long nowDone, long all, double secondsOfAStep) {
    if (nowDone < done) { // the run went back
      observed = new RemainingTime();
      began = System.nanoTime();
    }
    done = nowDone;
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    observed.observe((double) nowDone, elapsed);
    var seen =
        elapsed.toSeconds() < ENOUGH_SECONDS
            ? Optional.<Duration>empty()
            : observed.remaining((double) all);
    double guess = (all - nowDone) * secondsOfAStep;
    return nowDone >= all
        ? ""
        : seen.map(left -> ", about " + Numbers.duration(left) + " left")
            .orElse(
                Double.isFinite(guess)
                    ? ", about %s left"
                        .formatted(Numbers.duration(Duration.ofMillis((long) (1e3 * guess))))
                    : "");
  }
}
