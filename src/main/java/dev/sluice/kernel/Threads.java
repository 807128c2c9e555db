package dev.sluice.kernel;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.locks.LockSupport;
import java.util.function.IntConsumer;
import org.jspecify.annotations.Nullable;

/// Splits a kernel's range among a fixed number of threads. The split depends on the number of
/// threads alone.
public final class Threads {
  /// A part of a range.
  @FunctionalInterface
  public interface Part {
    void run(long from, long to);
  }

  /// How long a thread looks out for the next event before it sleeps: waking up costs some ten
  /// microseconds, as much as a small kernel.
  private static final long WATCHED_NANOSECONDS = 50_000;

  private static volatile int count = Runtime.getRuntime().availableProcessors();

  private Threads() {}

  /// Sets how many threads share a kernel's work.
  public static void count(int threads) {
    count = threads;
  }

  /// How many threads share a kernel's work.
  public static int count() {
    return count;
  }

  /// Runs `job` for 0 … jobs − 1, each on a thread of its own at the same time: jobs may wait for
  /// one another.
  public static void together(int jobs, IntConsumer job) {
    List<Worker> others = new ArrayList<>();
    for (int i = 1; i < jobs; i++) {
      int number = i;
      others.add(Worker.start(() -> job.accept(number)));
    }
    finish(others, () -> job.accept(0));
  }

  /// Runs `part` over `0 … length`, in one piece when there are fewer than `2 · grain` items.
  public static void split(long length, long grain, Part part) {
    int pieces = (int) Math.min(count, Math.max(1, length / grain));
    together(pieces, i -> part.run(length * i / pieces, length * (i + 1) / pieces));
  }

  /// Runs the caller's own share and waits for the others.
  private static void finish(List<Worker> others, Runnable own) {
    Throwable failure = null;
    try {
      own.run();
    } catch (RuntimeException | Error e) {
      failure = e;
    }
    // Also after a failure: the others still write into memory that the caller is about to free.
    for (var other : others) {
      var itsFailure = other.finish();
      failure = failure == null ? itsFailure : failure;
    }
    if (failure != null) {
      throw new IllegalStateException("a kernel failed: " + failure.getMessage(), failure);
    }
  }

  /// A thread that runs one job at a time. The most recently used one is taken first, as its memory
  /// is in the caches.
  private static final class Worker implements Runnable {
    private static final ConcurrentLinkedDeque<Worker> IDLE = new ConcurrentLinkedDeque<>();

    private final Thread thread =
        Thread.ofPlatform().daemon().name("sluice-kernel").unstarted(this);
    private Thread caller = thread;
    private @Nullable Throwable failure;
    private volatile @Nullable Runnable job;

    static Worker start(Runnable job) {
      var worker = IDLE.poll();
      boolean fresh = worker == null;
      if (worker == null) {
        worker = new Worker();
      }
      worker.caller = Thread.currentThread();
      worker.failure = null;
      worker.job = job;
      if (fresh) {
        worker.thread.start();
      } else {
        LockSupport.unpark(worker.thread);
      }
      return worker;
    }

    @Override
    @SuppressWarnings("InfiniteLoopStatement")
    public void run() {
      while (true) {
        await(true);
        var given = job;
        if (given != null) {
          try {
            given.run();
          } catch (RuntimeException | Error e) {
            failure = e;
          }
          var waiting = caller; // which may be another's once the job is done
          job = null;
          LockSupport.unpark(waiting);
        }
      }
    }

    /// Waits for the job's end; what it failed with, or null.
    @Nullable Throwable finish() {
      boolean interrupted = false;
      while (job != null) {
        await(false);
        interrupted |= Thread.interrupted();
      }
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
      var itsFailure = failure;
      IDLE.push(this);
      return itsFailure;
    }

    /// Waits until there is a job, or none; may return early.
    private void await(boolean wanted) {
      long start = System.nanoTime();
      while ((job != null) != wanted) {
        if (System.nanoTime() - start > WATCHED_NANOSECONDS) {
          LockSupport.park(this);
          return;
        }
        Thread.onSpinWait();
      }
    }
  }
}
