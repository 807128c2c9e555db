package dev.sluice.kernel;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLongArray;

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

  /// @param pieces that the threads take one after the other
  private record Step(long length, long piece, long pieces, Threads.Part part) {}

  private final List<Step> steps = new ArrayList<>();

  /// Adds work for one thread; it is one step with the work before it, where that is for one thread
  /// too.
  public void alone(Runnable work) {
    var before = steps.isEmpty() ? null : steps.getLast();
    if (before != null && before.pieces == 1) {
      steps.removeLast();
      add(
          1,
          1,
          (_, _) -> {
            before.part.run(0, before.length);
            work.run();
          });
    } else {
      add(1, 1, (_, _) -> work.run());
    }
  }

  /// Adds work over `0 … length`, which the threads take in pieces: each has a share of its own,
  /// and takes what the others have left when that is done. A part must give the same wherever it
  /// is cut.
  ///
  /// @param piece items of a piece
  public void shared(long length, long piece, Threads.Part part) {
    add(length, piece, part);
  }

  private void add(long length, long piece, Threads.Part part) {
    if (length < 1 || piece < 1) {
      throw new IllegalArgumentException(
          "a step of %d items in pieces of %d".formatted(length, piece));
    }
    steps.add(new Step(length, piece, Math.ceilDiv(length, piece), part));
  }

  /// Does all steps.
  public void run() {
    if (!steps.isEmpty()) {
      int threads = Threads.count();
      Threads.together(threads, new Run(steps, threads)::go);
    }
  }

  /// One run.
  private static final class Run {
    private final List<Step> steps;
    private final int threads;

    /// The next piece of each thread's share of the present step.
    private final AtomicLongArray next;

    private final AtomicInteger arrived = new AtomicInteger();
    private volatile boolean failed;

    /// The present step.
    private volatile int turn;

    Run(List<Step> steps, int threads) {
      this.steps = steps;
      this.threads = threads;
      this.next = new AtomicLongArray(threads * LINE);
      divide(0);
    }

    private void divide(int step) {
      for (int i = 0; i < threads; i++) {
        next.setPlain(i * LINE, steps.get(step).pieces * i / threads);
      }
    }

    /// What one of the threads does.
    void go(int own) {
      for (int i = 0; i < steps.size() && !failed; i++) {
        try {
          work(steps.get(i), own);
        } catch (Throwable e) {
          failed = true; // nobody waits for this thread any more
          throw e;
        }
        arrive(i);
      }
    }

    private void work(Step step, int own) {
      for (int i = 0; i < threads; i++) {
        int of = (own + i) % threads;
        long end = step.pieces * (of + 1) / threads;
        while (next.getPlain(of * LINE) < end) {
          long piece = next.getAndIncrement(of * LINE);
          if (piece >= end) {
            break;
          }
          step.part.run(piece * step.piece, Math.min(step.length, (piece + 1) * step.piece));
        }
      }
    }

    /// Waits until all threads have done this step, or one has failed. Who has waited long lets
    /// others have the core, such as a thread of this run that was stopped for one of them.
    @SuppressWarnings("ThreadPriorityCheck")
    private void arrive(int step) {
      if (arrived.incrementAndGet() == threads) {
        arrived.setPlain(0);
        if (step + 1 < steps.size()) {
          divide(step + 1);
        }
        turn = step + 1;
        return;
      }
      for (int looks = 0; turn == step && !failed; ) {
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
