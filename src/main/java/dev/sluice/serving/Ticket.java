package dev.sluice.serving;

import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.TokenLogprob;
import java.time.Duration;
import java.util.BitSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/// What becomes of a request, for whoever made it. Of what happens nothing is lost, and nobody
/// waits for it to be taken: there are never more events than tokens that were asked for.
public final class Ticket {
  /// Something that happened, in this order: [Event.Read] any number of times, then for each text
  /// [Event.Token]s and [Event.Ended]; or [Event.Failed] at any time, which ends all.
  public sealed interface Event {
    /// Some of the prompt has been read.
    ///
    /// @param cachedTokens those of them that were not read, as the cache held them
    record Read(int tokens, int total, int cachedTokens) implements Event {}

    /// A text has another token.
    ///
    /// @param sequence which text, from 0
    /// @param logprob null where none was asked for
    /// @param watch null where nobody watches
    record Token(
        int sequence, int token, @Nullable TokenLogprob logprob, @Nullable TokenWatch watch)
        implements Event {}

    /// A text has ended.
    record Ended(int sequence, Ending ending) implements Event {}

    /// There is no more.
    record Failed(RuntimeException cause) implements Event {}
  }

  private final TextRequest request;
  private final long asked = System.nanoTime();
  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();
  private final BitSet stopped = new BitSet();
  private volatile boolean anyStopped;
  private volatile boolean cancelled;

  Ticket(TextRequest request) {
    this.request = request;
  }

  TextRequest request() {
    return request;
  }

  /// When it was made, of [System#nanoTime].
  long asked() {
    return asked;
  }

  void tell(Event event) {
    events.add(event);
  }

  /// What happened next.
  ///
  /// @return null if nothing did within that time
  public @Nullable Event next(Duration wait) throws InterruptedException {
    return events.poll(wait.toMillis(), TimeUnit.MILLISECONDS);
  }

  /// Wants nothing more: all that is held for the request is free before the next step. No event
  /// need come any more.
  public void cancel() {
    cancelled = true;
  }

  /// Wants no more of one text. Tokens that were chosen meanwhile still come.
  public void stop(int sequence) {
    synchronized (stopped) {
      stopped.set(sequence);
      anyStopped = true;
    }
  }

  boolean isCancelled() {
    return cancelled;
  }

  boolean isStopped(int sequence) {
    if (!anyStopped) {
      return false;
    }
    synchronized (stopped) {
      return stopped.get(sequence);
    }
  }
}
