package dev.sluice.serving;

import dev.sluice.serving.Answer.Ending;
import dev.sluice.serving.Ticket.Event;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.function.Function;

/// A text that a [TextModel] writes. One thread takes it, any thread may cancel it.
public final class Writing {
  private static final Duration LONG = Duration.ofMinutes(1);

  private final Ticket ticket;
  private final Function<AnswerText.Listener, AnswerText> reading;
  private volatile boolean cancelled;

  /// @param reading what makes an answer of the tokens
  Writing(Ticket ticket, Function<AnswerText.Listener, AnswerText> reading) {
    this.ticket = ticket;
    this.reading = reading;
  }

  /// Wants no more: what is held for it is free before the engine's next step.
  public void cancel() {
    cancelled = true;
    ticket.cancel();
    ticket.tell(new Event.Failed(new CancellationException("cancelled"))); // who waits goes on
  }

  /// Whether it was.
  public boolean isCancelled() {
    return cancelled;
  }

  /// Waits until the text has ended.
  public Answer await() {
    return await(_ -> {});
  }

  /// Waits until the text has ended, and tells each piece as soon as it is sure. An interrupt of
  /// this thread cancels the text.
  public Answer await(AnswerText.Listener listener) {
    var heard = new Heard(listener);
    var reader = reading.apply(heard);
    int cached = 0;
    int tokens = 0;
    try {
      while (true) {
        switch (ticket.next(LONG)) {
          case null -> {}
          case Event.Read read -> cached = read.cachedTokens();
          case Event.Token token -> {
            if (!reader.hasEnded() && !cancelled) {
              tokens++;
              reader.add(token.token());
              if (reader.hasEnded()) {
                ticket.stop(token.sequence());
              }
            }
          }
          case Event.Ended ended -> {
            reader.finish();
            return heard.answer(reader.ending(ended.ending()), this, cached, tokens, reader);
          }
          case Event.Failed failed -> {
            if (!cancelled) {
              throw failed.cause();
            }
            return heard.answer(Ending.CANCELLED, this, cached, tokens, reader);
          }
        }
      }
    } catch (InterruptedException _) {
      Thread.currentThread().interrupt();
      cancel();
      return heard.answer(Ending.CANCELLED, this, cached, tokens, reader);
    } catch (RuntimeException | Error e) {
      cancel(); // a listener that fails wants no more
      throw e;
    }
  }

  /// Keeps what is told.
  private static final class Heard implements AnswerText.Listener {
    private final AnswerText.Listener listener;
    private final StringBuilder thoughts = new StringBuilder();
    private final StringBuilder text = new StringBuilder();
    private final List<ToolCall> calls = new ArrayList<>();

    Heard(AnswerText.Listener listener) {
      this.listener = listener;
    }

    @Override
    public void onThought(String piece) {
      thoughts.append(piece);
      listener.onThought(piece);
    }

    @Override
    public void onText(String piece) {
      text.append(piece);
      listener.onText(piece);
    }

    @Override
    public void onCall(String name, String arguments) {
      calls.add(new ToolCall(name, arguments));
      listener.onCall(name, arguments);
    }

    Answer answer(Ending ending, Writing of, int cached, int tokens, AnswerText reader) {
      return new Answer(
          text.toString(),
          thoughts.toString(),
          calls,
          ending,
          of.ticket.request().ids().length,
          cached,
          tokens,
          reader.thoughtTokens());
    }
  }
}
