package dev.sluice.training;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.jspecify.annotations.Nullable;

/// Writes checkpoints on a thread of its own while training goes on, one at a time: who begins the
/// next waits for the one under way.
final class CheckpointSaver implements AutoCloseable {
  /// What became of a save.
  ///
  /// @param pauseSeconds training waited: for the save before, and for the copy
  /// @param saveSeconds the writing took
  /// @param failure why nothing was saved, or null
  record Saved(
      int step,
      Path checkpoint,
      double pauseSeconds,
      double saveSeconds,
      @Nullable IOException failure) {}

  /// Writes a checkpoint.
  @FunctionalInterface
  interface Work {
    void run() throws IOException;
  }

  private final ExecutorService thread =
      Executors.newSingleThreadExecutor(
          Thread.ofPlatform().daemon().name("sluice-checkpoint").factory());
  private @Nullable Future<Saved> underWay;

  /// Begins to save; none may be under way.
  void begin(int step, Path checkpoint, double pauseSeconds, Work work) {
    if (underWay != null) {
      throw new IllegalStateException("a save is under way");
    }
    underWay =
        thread.submit(
            () -> {
              long began = System.nanoTime();
              IOException failure = null;
              try {
                work.run();
              } catch (IOException e) {
                failure = e;
              } catch (InvalidInputException e) { // something stands in the way
                failure = new IOException(e.getMessage(), e);
              }
              double seconds = (System.nanoTime() - began) / 1e9;
              return new Saved(step, checkpoint, pauseSeconds, seconds, failure);
            });
  }

  /// What became of the save under way, once it has ended; null before, and when there is none.
  @Nullable Saved finished() {
    return underWay != null && underWay.isDone() ? await() : null;
  }

  /// Waits for the save under way; null when there is none.
  @Nullable Saved await() {
    var save = underWay;
    if (save == null) {
      return null;
    }
    underWay = null;
    boolean interrupted = false;
    try {
      while (true) {
        try {
          return save.get();
        } catch (InterruptedException e) {
          interrupted = true; // a checkpoint is not given up half-written
        }
      }
    } catch (ExecutionException e) {
      if (e.getCause() instanceof RuntimeException cause) {
        throw cause;
      }
      if (e.getCause() instanceof Error cause) {
        throw cause;
      }
      throw new IllegalStateException(e.getCause());
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /// Waits for what is under way and ends the thread.
  @Override
  public void close() {
    thread.close();
  }
}
