package dev.sluice.distributed;

import dev.sluice.tensor.ProcessGroup.Store;
import java.time.Duration;
import java.util.Arrays;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/// Notices that a rank died or hangs, and tells every rank why the job ends.
///
/// Each rank shows a sign of life in the job's store ten times per timeout, and at least once a
/// second. Rank 0 looks at all signs, the others at rank 0's and at what rank 0 has said; so a job
/// of many ranks asks the store little. Whoever fails says why itself. A rank whose process is
/// stopped or gone shows no signs, and rank 0 says so for it; with rank 0 the store is gone or
/// silent too, which each other rank notices by itself. A server that is stopped answers nothing
/// for ever, so a second thread watches the first.
public final class Heartbeat implements AutoCloseable {
  private static final String CAUSE = "cause";
  private static final String DONE = "done";

  private final Ranks ranks;
  private final Store store;
  private final Duration timeout;
  private final Consumer<String> ended;
  private final Thread thread;
  private final String[] signs;
  private final long[] seenAt;
  private volatile boolean closing;
  private volatile long answeredAt = System.nanoTime();
  private volatile @Nullable String cause;

  /// Begins to show signs of life.
  ///
  /// @param store a connection of its own: others may block theirs
  /// @param timeout without a sign of life after which a rank is given up
  /// @param ended hears, on another thread and once, why the job ends; it should end the process,
  ///   since the rank may be waiting inside libtorch for one that will not come
  public Heartbeat(Ranks ranks, Store store, Duration timeout, Consumer<String> ended) {
    this.ranks = ranks;
    this.store = store;
    this.timeout = timeout;
    this.ended = ended;
    this.signs = new String[ranks.worldSize()];
    Arrays.fill(signs, "");
    this.seenAt = new long[ranks.worldSize()];
    Arrays.fill(seenAt, System.nanoTime());
    this.thread = Thread.ofPlatform().daemon().name("sluice-heartbeat").start(this::beat);
    Thread.ofPlatform().daemon().name("sluice-heartbeat-watch").start(this::watch);
  }

  private void watch() {
    try {
      while (!closing) {
        if (System.nanoTime() - answeredAt > timeout.toNanos()) {
          end(silentServer());
          return;
        }
        Thread.sleep(pause());
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }

  private long pause() {
    return Math.clamp(timeout.toMillis() / 10, 50, 1000);
  }

  private String silentServer() {
    return "%s at %s:%d, where ranks meet, is gone or has not answered for %d s"
        .formatted(
            ranks.rank() == 0 ? "the launcher's store" : ranks.name(0),
            ranks.masterAddress(),
            ranks.masterPort(),
            timeout.toSeconds());
  }

  private void beat() {
    for (long count = 1; !closing; count++) {
      String why;
      try {
        store.set(sign(ranks.rank()), String.valueOf(count));
        why = look();
        answeredAt = System.nanoTime();
      } catch (RuntimeException e) { // the store does not answer
        why = silentServer();
      }
      if (why != null && !closing) {
        end(why);
        return;
      }
      try {
        Thread.sleep(pause());
      } catch (InterruptedException e) {
        return;
      }
    }
  }

  /// Why the job ends, or null.
  private @Nullable String look() {
    String said = store.get(CAUSE);
    if (said != null) {
      return said;
    }
    int last = ranks.rank() == 0 ? ranks.worldSize() : 1;
    long now = System.nanoTime();
    for (int other = 0; other < last; other++) {
      String sign = store.get(sign(other));
      if (sign != null && !sign.equals(signs[other])) {
        signs[other] = sign;
        seenAt[other] = now;
      } else if (!signs[other].equals(DONE) && now - seenAt[other] > timeout.toNanos()) {
        String silent =
            "%s has not answered for %d s: its process or its machine is gone or stopped"
                .formatted(ranks.name(other), timeout.toSeconds());
        if (ranks.rank() == 0) {
          store.set(CAUSE, silent);
        }
        return silent;
      }
    }
    return null;
  }

  private static String sign(int rank) {
    return "sign-of-life-" + rank;
  }

  private synchronized void end(String why) {
    if (cause == null) {
      cause = why;
      ended.accept(why);
    }
  }

  /// Tells the others why this rank fails; unless it fails because another did, which is then told
  /// instead. Returns when the others have had the time to hear it.
  ///
  /// @param why a sentence
  /// @param lostContact whether it failed in an exchange with the others, whose end is then the
  ///   cause
  public void fail(String why, boolean lostContact) {
    try {
      if (lostContact) {
        // whose cause is it? Either somebody says so or a sign of life is missed.
        Thread.sleep(timeout.plusMillis(timeout.toMillis() / 5 + 500));
        return; // nobody died
      }
      if (store.get(CAUSE) == null) {
        store.set(CAUSE, ranks.name(ranks.rank()) + " failed: " + why);
      }
      closing = true;
      Thread.sleep(2 * pause() + 300); // rank 0 may be the server
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (RuntimeException _) {
      // the store is gone: there is nobody to tell
    }
  }

  /// Ends without a cause, once all ranks are done; the server stays until they are.
  @Override
  public void close() {
    closing = true;
    try {
      thread.interrupt();
      thread.join(timeout.toMillis());
      store.set(sign(ranks.rank()), DONE);
      long until = System.nanoTime() + Math.min(timeout.toNanos(), 10_000_000_000L);
      for (int other = 0; ranks.serves() && other < ranks.worldSize(); other++) {
        while (!DONE.equals(store.get(sign(other))) && System.nanoTime() < until) {
          Thread.sleep(10);
        }
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    } catch (RuntimeException _) {
      // the server has gone home before
    }
  }
}
