package dev.sluice.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/// Ctrl-C and SIGTERM: asks the running command to stop at the next good place and waits until it
/// has.
final class Interruption {
  private static final long LONGEST_WAIT_SECONDS = 600;

  private static final AtomicBoolean REQUESTED = new AtomicBoolean();
  private static final CountDownLatch FINISHED = new CountDownLatch(1);

  private Interruption() {}

  /// From now on an interruption waits for [#finished].
  static void watch() {
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  REQUESTED.set(true);
                  try {
                    var _ = FINISHED.await(LONGEST_WAIT_SECONDS, TimeUnit.SECONDS);
                  } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                  }
                },
                "sluice-interruption"));
  }

  /// Whether the command should stop.
  static boolean requested() {
    return REQUESTED.get();
  }

  /// Says that the command has ended; true when that was because of an interruption, which then
  /// ends the process.
  static boolean finished() {
    FINISHED.countDown();
    return REQUESTED.get();
  }
}
