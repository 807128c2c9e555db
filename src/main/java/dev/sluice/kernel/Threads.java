package dev.sluice.kernel;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.function.IntConsumer;

/// Splits a kernel's range among a fixed number of threads. The split depends on the number of
/// threads alone.
public final class Threads {
  /// A part of a range.
  @FunctionalInterface
  public interface Part {
    void run(long from, long to);
  }

  private static final ExecutorService WORKERS =
      Executors.newCachedThreadPool(
          Thread.ofPlatform().daemon().name("sluice-kernel-", 0).factory());

  private static volatile int count = Runtime.getRuntime().availableProcessors();

  private Threads() {}

  /// Sets how many threads share a kernel's work.
  public static void count(int threads) {
    count = threads;
  }

  /// Runs `job` for 0 … jobs − 1, each on a thread of its own at the same time: jobs may wait for
  /// one another.
  public static void together(int jobs, IntConsumer job) {
    List<Future<?>> others = new ArrayList<>();
    for (int i = 1; i < jobs; i++) {
      int number = i;
      others.add(WORKERS.submit(() -> job.accept(number)));
    }
    finish(others, () -> job.accept(0));
  }

  /// Runs `part` over `0 … length`, in one piece when there are fewer than `2 · grain` items.
  public static void split(long length, long grain, Part part) {
    int pieces = (int) Math.min(count, Math.max(1, length / grain));
    List<Future<?>> others = new ArrayList<>();
    for (int i = 1; i < pieces; i++) {
      long from = length * i / pieces;
      long to = length * (i + 1) / pieces;
      others.add(WORKERS.submit(() -> part.run(from, to)));
    }
    finish(others, () -> part.run(0, length / pieces));
  }

  /// Runs the caller's own share and waits for the others.
  private static void finish(List<Future<?>> others, Runnable own) {
    Throwable failure = null;
    try {
      own.run();
    } catch (RuntimeException | Error e) {
      failure = e;
    }
    // Also after a failure: the others still write into memory that the caller is about to free.
    boolean interrupted = false;
    for (var other : others) {
      while (true) {
        try {
          other.get();
          break;
        } catch (ExecutionException e) {
          failure = failure == null ? e.getCause() : failure;
          break;
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
    if (failure != null) {
      throw new IllegalStateException("a kernel failed: " + failure.getMessage(), failure);
    }
  }
}
