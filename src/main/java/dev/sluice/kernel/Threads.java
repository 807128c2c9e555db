package dev.sluice.kernel;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicLongArray;
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

  /// Numbers of eight bytes in what two cores had better not write at once.
  private static final int LINE = 16;

  private static volatile int count = Runtime.getRuntime().availableProcessors();

  private Threads() {}

  /// The most threads that can be asked for; more than there are cores only wait for one another.
  public static int most() {
    return Math.max(64, 4 * Runtime.getRuntime().availableProcessors());
  }

  /// Refuses a number of threads below 1 or above [#most].
  public static void require(int threads) {
    if (threads < 1 || threads > most()) {
      throw new IllegalArgumentException(
          "%d threads are not possible; from 1 to %d are".formatted(threads, most()));
    }
  }

  /// Sets how many threads share a kernel's work.
  public static void count(int threads) {
    require(threads);
    count = threads;
  }

  /// How many threads share a kernel's work.
  public static int count() {
    return count;
  }

  /// Runs `job` for 0 … jobs − 1, each on a thread of its own at the same time: jobs may wait for
  /// one another. Returns when all are done, also after a failure, and throws the first one as it
  /// is; when the threads cannot be had, no job is begun.
  public static void together(int jobs, IntConsumer job) {
    together(jobs, job, Worker.FRESH);
  }

  /// @param fresh makes a thread, for tests
  static void together(int jobs, IntConsumer job, ThreadFactory fresh) {
    if (jobs <= 1) {
      job.accept(0);
      return;
    }
    var others = Worker.take(jobs - 1, fresh);
    for (int i = 0; i < others.size(); i++) {
      others.get(i).give(job, i + 1);
    }
    Throwable failure = null;
    try {
      job.accept(0);
    } catch (Throwable e) {
      failure = e;
    }
    // Also after a failure: the others still write into memory that the caller is about to free.
    for (var other : others) {
      var itsFailure = other.finish();
      failure = failure == null ? itsFailure : failure;
    }
    others.forEach(Worker::rest);
    switch (failure) {
      case null -> {}
      case Error error -> throw error;
      case RuntimeException exception -> throw exception;
      default -> throw new IllegalStateException(failure);
    }
  }

  /// Runs `part` over `0 … length`, in one piece when there are fewer than `2 · grain` items.
  public static void split(long length, long grain, Part part) {
    int pieces = (int) Math.min(count, Math.max(1, length / grain));
    together(pieces, i -> part.run(length * i / pieces, length * (i + 1) / pieces));
  }

  /// Runs `part` over `0 … length` in pieces. Each thread has a share of its own, from whose
  /// beginning to its end it goes; who has done that takes what the others have left. So nobody
  /// waits for a thread that sleeps or has been stopped for longer than a piece takes. Which thread
  /// runs a piece is open: a part must give the same wherever it is cut.
  ///
  /// @param grain items for which a thread is worth its start
  /// @param piece items of a piece
  public static void share(long length, long grain, long piece, Part part) {
    int shares = (int) Math.min(count, Math.max(1, length / grain));
    if (shares == 1) {
      part.run(0, length);
      return;
    }
    long pieces = Math.ceilDiv(length, piece);
    var taken = new AtomicLongArray(shares * LINE);
    for (int i = 0; i < shares; i++) {
      taken.set(i * LINE, pieces * i / shares);
    }
    together(
        shares,
        own -> {
          for (int i = 0; i < shares; i++) {
            int of = (own + i) % shares;
            long end = pieces * (of + 1) / shares;
            long next;
            while ((next = taken.getAndIncrement(of * LINE)) < end) {
              part.run(next * piece, Math.min(length, (next + 1) * piece));
            }
          }
        });
  }

  /// A thread that runs one job at a time. The most recently used one is taken first, as its memory
  /// is in the caches.
  private static final class Worker implements Runnable {
    static final ThreadFactory FRESH = Thread.ofPlatform().daemon().name("sluice-kernel").factory();

    private static final ConcurrentLinkedDeque<Worker> IDLE = new ConcurrentLinkedDeque<>();

    private final Thread thread;
    private Thread caller;
    private int number;
    private @Nullable Throwable failure;
    private volatile @Nullable IntConsumer job;

    private Worker(ThreadFactory fresh) {
      thread = fresh.newThread(this);
      caller = thread;
    }

    /// Threads that wait for a job; all of them or, when one cannot be started, none.
    static List<Worker> take(int count, ThreadFactory fresh) {
      List<Worker> taken = new ArrayList<>(count);
      try {
        while (taken.size() < count) {
          var worker = IDLE.poll();
          if (worker == null) {
            worker = new Worker(fresh);
            worker.thread.start();
          }
          taken.add(worker);
        }
        return taken;
      } catch (RuntimeException | Error e) {
        taken.forEach(Worker::rest);
        throw e;
      }
    }

    void give(IntConsumer given, int itsNumber) {
      caller = Thread.currentThread();
      number = itsNumber;
      job = given;
      LockSupport.unpark(thread);
    }

    @Override
    @SuppressWarnings("InfiniteLoopStatement")
    public void run() {
      while (true) {
        await(true);
        var given = job;
        if (given != null) {
          try {
            given.accept(number);
          } catch (Throwable e) { // whatever it is, the caller waits
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
      return failure;
    }

    /// Waits for whoever takes it next.
    void rest() {
      failure = null;
      IDLE.push(this);
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
