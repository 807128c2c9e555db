package dev.sluice.openai;

import java.time.Duration;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/// Interrupts threads that wait for a client too long; a channel that such a thread reads or writes
/// is closed with that.
final class Guard implements AutoCloseable {
  private static final long LOOK_MILLIS = 250;

  private final ScheduledExecutorService clock =
      Executors.newSingleThreadScheduledExecutor(Thread.ofPlatform().daemon().factory());
  private final Set<Watch> watches = ConcurrentHashMap.newKeySet();

  /// One thread's.
  final class Watch implements AutoCloseable {
    private final Thread thread = Thread.currentThread();
    private volatile long end;
    private volatile boolean waits;

    private Watch() {}

    /// From now on the thread waits for its client, for so long at most.
    void begin(Duration most) {
      end = System.nanoTime() + most.toNanos();
      waits = true;
    }

    /// It does not wait any more.
    void end() {
      waits = false;
    }

    @Override
    public void close() {
      waits = false;
      watches.remove(this);
    }
  }

  Guard() {
    var _ =
        clock.scheduleWithFixedDelay(this::look, LOOK_MILLIS, LOOK_MILLIS, TimeUnit.MILLISECONDS);
  }

  /// Watches the calling thread.
  Watch watch() {
    var watch = new Watch();
    watches.add(watch);
    return watch;
  }

  private void look() {
    long now = System.nanoTime();
    for (var watch : watches) {
      if (watch.waits && now - watch.end > 0) {
        watch.thread.interrupt();
      }
    }
  }

  @Override
  public void close() {
    clock.shutdownNow();
  }
}
