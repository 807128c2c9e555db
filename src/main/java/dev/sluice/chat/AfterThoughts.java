package dev.sluice.chat;

import dev.sluice.generation.Restriction;

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

  /// @param thinks whether the prompt has opened thoughts already
  /// @param begin the token that begins thoughts
  /// @param end the token that ends them
  public AfterThoughts(Restriction answer, boolean thinks, int begin, int end) {
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
