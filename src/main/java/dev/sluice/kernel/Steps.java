package dev.sluice.kernel;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.function.LongSupplier;

/// Work that is written down once and done many times, by all threads together and in steps: a step
/// begins when the one before has ended. Between two steps a thread only looks out for the others,
/// so that a step costs less than a microsecond beside its work, where giving work to a thread that
/// was left alone costs some ten.
///
/// ```java
/// var steps = new Steps();
/// steps.alone(() -> norm(x, y));
/// steps.shared(rows, 256, (from, to) -> multiply(matrix, y, z, from, to));
/// steps.run();
/// ```
///
/// One run at a time. After a failure no further step begins, and [#run] throws what failed first.
public final class Steps {
  /// Numbers of eight bytes in what two cores had better not write at once.
  private static final int LINE = 16;

  /// How often a thread looks out for the others before it lets others have its core: some ten
  /// microseconds.
  private static final int LOOKS = 1 << 9;

  /// @param length is asked for when the step before has ended
  /// @param piece items of a piece, which the threads take one after the other
  private record Step(LongSupplier length, long piece, boolean alone, Threads.Part part) {
    static final Step NONE = new Step(() -> 1, 1, true, (_, _) -> {});
  }

  private final List<Step> steps = new ArrayList<>();

  /// Adds work for one thread; it is one step with the work before it, where that is for one thread
  /// too.
  public void alone(Runnable work) {
    boolean joins = !steps.isEmpty() && steps.getLast().alone;
    var before = joins ? steps.removeLast() : Step.NONE;
    steps.add(
        new Step(
            () -> 1,
            1,
            true,
            (from, to) -> {
              before.part.run(from, to);
              work.run();
            }));
  }

  /// Adds work over `0 … length`, which the threads take in pieces: each has a share of its own,
  /// and takes what the others have left when that is done. A part must give the same wherever it
  /// is cut.
  ///
  /// @param piece items of a piece
  public void shared(long length, long piece, Threads.Part part) {
    requirePositive(length, piece);
    if (length <= piece) {
      alone(() -> part.run(0, length));
    } else {
      steps.add(new Step(() -> length, piece, false, part));
    }
  }

  /// The same over a length that the steps before it decide.
  ///
  /// @param length gives the same to all threads once these steps have ended; at least 1
  public void shared(LongSupplier length, long piece, Threads.Part part) {
    requirePositive(1, piece);
    steps.add(new Step(length, piece, false, part));
  }

  private static void requirePositive(long length, long piece) {
    if (length < 1 || piece < 1) {
      throw new IllegalArgumentException(
          "a step of %d items in pieces of %d".formatted(length, piece));
    }
  }

  /// Does all steps.
  public void run() {
    if (!steps.isEmpty()) {
      int threads = Threads.count();
      Threads.together(threads, new Run(steps, threads)::go);
    }
  }

  /// One run. A step has ended when its pieces are done, whoever did them: a thread that the system
  /// has stopped between two pieces keeps nobody waiting.
  private static final class Run {
    private final List<Step> steps;
    private final int threads;

    /// Of each step: how many pieces of each thread's share are taken, and how many of all are done.
    private final AtomicLongArray counters;

    private volatile boolean failed;

    Run(List<Step> steps, int threads) {
      this.steps = steps;
      this.threads = threads;
      this.counters = new AtomicLongArray(steps.size() * (threads + 1) * LINE);
    }

    private int share(int step, int thread) {
      return (step * (threads + 1) + thread) * LINE;
    }

    private int done(int step) {
      return share(step, threads);
    }

    /// What one of the threads does.
    void go(int own) {
      for (int i = 0; i < steps.size() && !failed; i++) {
        long pieces;
        try {
          long length = steps.get(i).length.getAsLong();
          pieces = Math.ceilDiv(length, steps.get(i).piece);
          work(i, own, length, pieces);
        } catch (Throwable e) {
          failed = true; // its piece will never be done
          throw e;
        }
        await(i, pieces);
      }
    }

    private void work(int number, int own, long length, long pieces) {
      var step = steps.get(number);
      for (int i = 0; i < threads; i++) {
        int of = (own + i) % threads;
        long first = pieces * of / threads;
        long count = pieces * (of + 1) / threads - first;
        while (counters.getPlain(share(number, of)) < count) {
          long taken = counters.getAndIncrement(share(number, of));
          if (taken >= count) {
            break;
          }
          long start = (first + taken) * step.piece;
          step.part.run(start, Math.min(length, start + step.piece));
          counters.getAndIncrement(done(number));
        }
      }
    }

    /// Waits until all pieces of this step are done, or one has failed. Who has waited long lets
    /// others have the core, such as a thread of this run that was stopped for one of them.
    @SuppressWarnings("ThreadPriorityCheck")
    private void await(int step, long pieces) {
      int looks = 0;
      while (counters.get(done(step)) < pieces && !failed) {
        if (++looks < LOOKS) {
          Thread.onSpinWait();
        } else {
          looks = 0;
          Thread.yield();
        }
      }
    }
  }
}
