package dev.sluice.serving;

import dev.sluice.chat.AnswerReader;
import dev.sluice.generation.Generation;
import dev.sluice.generation.StopStrings;
import dev.sluice.generation.TextStream;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Makes of the tokens of one answer what a client gets: thoughts, text and calls of tools, as soon
/// as each is sure. Stop strings end the text, and count neither in thoughts nor in calls nor in
/// the blanks before them.
public final class AnswerText {
  /// Hears of each piece.
  @FunctionalInterface
  public interface Listener {
    /// @param piece of thoughts, never empty
    default void onThought(String piece) {}

    /// @param piece of the answer, never empty
    void onText(String piece);

    /// @param arguments a JSON object
    default void onCall(String name, String arguments) {}
  }

  private final ServedModel model;
  private final Listener listener;
  private final TextStream stream;
  private final StopStrings stops;
  private final boolean oneCall;
  private final @Nullable AnswerReader reader; // null for plain texts
  private final @Nullable ToolCallReader calls;
  private boolean thought;
  private boolean answered;
  private boolean called;
  private int thoughtTokens;

  /// Of an answer to messages.
  ///
  /// @param stops strings before which the answer ends
  /// @param thinks whether the prompt has opened thoughts already
  /// @param tools that the model may call
  /// @param oneCall whether the answer ends after a call
  public AnswerText(
      ServedModel model,
      List<String> stops,
      boolean thinks,
      List<Tool> tools,
      boolean oneCall,
      Listener listener) {
    this.model = model;
    this.listener = listener;
    this.stream = new TextStream(model.tokenizer()::decode);
    this.stops = new StopStrings(stops);
    this.oneCall = oneCall;
    this.calls = tools.isEmpty() ? null : calls(tools, listener);
    this.thought = thinks;
    this.reader =
        new AnswerReader(thinks, calls == null ? null : ToolCallReader.BEGIN, this::piece);
  }

  /// Of a plain text.
  ///
  /// @param stops strings before which the text ends
  public AnswerText(ServedModel model, List<String> stops, Listener listener) {
    this.model = model;
    this.listener = listener;
    this.stream = new TextStream(model.tokenizer()::decode);
    this.stops = new StopStrings(stops);
    this.oneCall = false;
    this.calls = null;
    this.reader = null;
  }

  private ToolCallReader calls(List<Tool> tools, Listener hears) {
    return new ToolCallReader(
        tools,
        new ToolCallReader.Listener() {
          @Override
          public void onText(String piece) {
            if (!hasEnded()) {
              give(stops.add(piece));
            }
          }

          @Override
          public void onCall(String name, String arguments) {
            if (!hasEnded()) {
              give(stops.finish());
              called = true;
              hears.onCall(name, arguments);
            }
          }
        });
  }

  /// Takes the next token.
  public void add(int token) {
    String control = model.control(token);
    if (reader == null) {
      text(stream.add(token));
      return;
    }
    if (control == null) {
      reader.add(stream.add(token));
    } else {
      reader.add(stream.finish());
      reader.control(control);
    }
    if (thought && !answered) {
      thoughtTokens++;
    }
  }

  /// Gives what is held back, as no more tokens come.
  public void finish() {
    if (reader == null) {
      text(stream.finish());
    } else {
      reader.add(stream.finish());
      reader.finish();
    }
    if (calls != null) {
      calls.finish();
    }
    give(stops.finish());
  }

  private void piece(AnswerReader.Part part, String piece) {
    switch (part) {
      case THINKING -> {
        thought = true;
        listener.onThought(piece);
      }
      case ANSWER -> {
        answered = true;
        text(piece);
      }
    }
  }

  private void text(String piece) {
    if (calls != null) {
      calls.add(piece);
    } else {
      give(stops.add(piece));
    }
  }

  private void give(String sure) {
    if (!sure.isEmpty()) {
      listener.onText(sure);
    }
  }

  /// Whether no more is wanted.
  public boolean hasEnded() {
    return stops.found() || (called && oneCall);
  }

  /// Why there is no more. What was cut off is told before what was called: the answer may have
  /// been in the middle of another call.
  ///
  /// @param ending how the tokens ended
  public Answer.Ending ending(Generation.Ending ending) {
    if (ending == Generation.Ending.LENGTH && !hasEnded()) {
      return Answer.Ending.LENGTH;
    }
    return called ? Answer.Ending.CALLS : Answer.Ending.STOP;
  }

  /// How many tokens were thoughts.
  public int thoughtTokens() {
    return thoughtTokens;
  }
}
