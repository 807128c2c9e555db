package dev.sluice.chat;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.Restriction;
import dev.sluice.tokenizer.Tokenizer;
import java.util.OptionalInt;
import java.util.function.Supplier;

/// Lets a model think as it likes, and restricts what it answers then: a restriction from the first
/// token on would forbid the very mark that ends thoughts.
public final class AfterThoughts implements Restriction {
  private enum Place {
    /// Nothing was chosen yet; thoughts may begin, or what is restricted.
    BEGINNING,
    THINKING,
    ANSWER
  }

  private final Restriction answer;
  private final int begin;
  private final int end;
  private Place place;

  /// What restricts a model's answer, a new one each time: behind its thoughts where its template
  /// has opened some, or where it may begin some itself.
  ///
  /// @param answer what restricts the answer alone
  /// @param prompt what the model continues
  /// @throws InvalidInputException if the answers of this model cannot be restricted, or not while
  ///   it thinks
  public static Supplier<Restriction> around(
      Supplier<Restriction> answer, ChatFormat format, ChatFormat.Prompt prompt) {
    requireAnswersAlone(format);
    var begin = token(ChatFormat.THOUGHTS, format.tokenizer());
    var end = token(ChatFormat.THOUGHTS_END, format.tokenizer());
    return switch (prompt.thoughts()) {
      case OPEN -> {
        if (end.isEmpty()) {
          throw new InvalidInputException(
              "neither JSON nor a call can be asked of this model while it thinks, since %s is not one of its tokens; turn thinking off"
                  .formatted(ChatFormat.THOUGHTS_END));
        }
        yield () -> new AfterThoughts(answer.get(), true, begin.orElse(-1), end.getAsInt());
      }
      case ENDED -> answer;
      case NOT_BEGUN -> {
        boolean may = format.templates().mention(ChatFormat.THOUGHTS_END);
        yield begin.isPresent() && end.isPresent() && may
            ? () -> new AfterThoughts(answer.get(), false, begin.getAsInt(), end.getAsInt())
            : answer;
      }
    };
  }

  /// Refuses a model whose answers are parts of a longer text that only its own control tokens tell
  /// apart.
  public static void requireAnswersAlone(ChatFormat format) {
    if (format.templates().mention(AnswerReader.CHANNEL)) {
      throw new InvalidInputException(
          "neither JSON nor a call can be asked of this model, whose answers stand in channels");
    }
  }

  private static OptionalInt token(String text, Tokenizer tokenizer) {
    int[] ids = tokenizer.encode(text);
    return ids.length == 1 ? OptionalInt.of(ids[0]) : OptionalInt.empty();
  }

  /// @param thinks whether the prompt has opened thoughts already
  /// @param begin the token that begins thoughts, which nobody asks for where they are open
  /// @param end the token that ends them
  AfterThoughts(Restriction answer, boolean thinks, int begin, int end) {
    this.answer = answer;
    this.begin = begin;
    this.end = end;
    this.place = thinks ? Place.THINKING : Place.BEGINNING;
  }

  @Override
  public void restrict(float[] logits) {
    switch (place) {
      case BEGINNING -> {
        float thoughts = logits[begin];
        answer.restrict(logits);
        logits[begin] = thoughts;
      }
      case THINKING -> {}
      case ANSWER -> answer.restrict(logits);
    }
  }

  @Override
  public void chosen(int token) {
    switch (place) {
      case BEGINNING -> {
        place = token == begin ? Place.THINKING : Place.ANSWER;
        if (place == Place.ANSWER) {
          answer.chosen(token);
        }
      }
      case THINKING -> place = token == end ? Place.ANSWER : Place.THINKING;
      case ANSWER -> answer.chosen(token);
    }
  }
}
