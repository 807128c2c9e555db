package dev.sluice.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/// Ctrl-C and SIGTERM: asks the running command to stop at the next good place and waits until it
/// has.
final class Interruption {
  private static final long LONGEST_WAIT_SECONDS = 600;

  private static final AtomicBoolean WATCHED = new AtomicBoolean();
  private static final AtomicBoolean REQUESTED = new AtomicBoolean();
  private static final CountDownLatch FINISHED = new CountDownLatch(1);

  private static volatile String says = "";

  private Interruption() {}

  /// From now on an interruption waits for [#finished].
  static void watch() {
    watch("Stopping at the next step; what was done is saved first.");
  }

  /// @param note what the user reads meanwhile
  static void watch(String note) {
    says = note;
    if (WATCHED.compareAndSet(false, true)) {
      Runtime.getRuntime().addShutdownHook(new Thread(Interruption::stop, "sluice-interruption"));
    }
  }

  private static void stop() {
    if (FINISHED.getCount() == 0) {
      return; // the process ends by itself
    }
    REQUESTED.set(true);
    Console.note(says);
    try {
      var _ = FINISHED.await(LONGEST_WAIT_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  /// Whether the command should stop.
  static boolean requested() {
    return REQUESTED.get();
  }

  /// Says that the command has ended: an interruption need not wait any more.
  static void finished() {
    FINISHED.countDown();
  }
}
