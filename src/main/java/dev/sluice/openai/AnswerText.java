package dev.sluice.openai;

import dev.sluice.chat.AnswerReader;
import dev.sluice.generation.StopStrings;
import dev.sluice.generation.TextStream;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Makes of the tokens of one answer what a client gets: thoughts, text and calls of tools, as soon
/// as each is sure. Stop strings end the text, and count neither in thoughts nor in calls.
final class AnswerText {
  /// Hears of each piece.
  interface Listener {
    void onThought(String piece);

    void onText(String piece);

    void onCall(String name, String arguments);
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
  AnswerText(ServedModel model, ChatRequest request, Listener listener) {
    this.model = model;
    this.listener = listener;
    this.stream = new TextStream(model.tokenizer()::decode);
    this.stops = new StopStrings(request.common().stops());
    this.oneCall = request.oneCall();
    this.calls = request.tools().isEmpty() ? null : calls(request.tools(), listener);
    this.thought = request.thinks();
    this.reader =
        new AnswerReader(
            request.thinks(), calls == null ? null : ToolCallReader.BEGIN, this::piece);
  }

  /// Of a plain text.
  AnswerText(ServedModel model, List<String> stops, Listener listener) {
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
            if (!(called && oneCall)) {
              hears.onText(piece);
            }
          }

          @Override
          public void onCall(String name, String arguments) {
            if (!(called && oneCall)) {
              called = true;
              hears.onCall(name, arguments);
            }
          }
        });
  }

  /// Takes the next token.
  void add(int token) {
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
  void finish() {
    if (reader == null) {
      text(stream.finish());
    } else {
      reader.add(stream.finish());
      reader.finish();
    }
    give(stops.finish());
    if (calls != null) {
      calls.finish();
    }
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
    give(stops.add(piece));
  }

  private void give(String sure) {
    if (sure.isEmpty()) {
      return;
    }
    if (calls != null) {
      calls.add(sure);
    } else {
      listener.onText(sure);
    }
  }

  /// Whether no more is wanted.
  boolean hasEnded() {
    return stops.found() || (called && oneCall);
  }

  /// Whether tools were called.
  boolean hasCalled() {
    return called;
  }

  /// How many tokens were thoughts.
  int thoughtTokens() {
    return thoughtTokens;
  }
}
