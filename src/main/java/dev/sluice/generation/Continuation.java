package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.kernel.Threads;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import java.util.random.RandomGenerator;
import org.jspecify.annotations.Nullable;

/// A text that continues a prompt, as it grows: each token is chosen from the logits after the one
/// before. Random numbers, penalties and restriction are its own, so that it does not depend on
/// which other texts are written beside it.
///
/// For one thread at a time.
public final class Continuation {
  private final Choice choice;
  private final int mostTokens;
  private final Set<Integer> stopIds;
  private final RandomGenerator random;
  private final Restriction restriction;
  private final List<Integer> tokens = new ArrayList<>();
  private final boolean[] seen;
  private final int[] counts;
  private OptionalInt drawn = OptionalInt.empty();
  private @Nullable Ending ending;

  /// @param number of several texts that continue the same prompt, from 0
  /// @param prompt whose tokens the model has
  /// @param vocabulary how many tokens the model knows
  /// @param stopIds tokens that end the text; the one that does is not part of it
  public Continuation(
      int number,
      Choice choice,
      int[] prompt,
      int vocabulary,
      int mostTokens,
      Set<Integer> stopIds) {
    this.choice = choice;
    this.mostTokens = mostTokens;
    this.stopIds = stopIds;
    this.random = choice.sampler().random(number);
    this.restriction = choice.restrictions().apply(number);
    this.seen = new boolean[vocabulary];
    this.counts = new int[vocabulary];
    for (int token : prompt) {
      seen[token] = true;
    }
  }

  /// Draws the tokens that [#choose] will take, with the same logits, of several texts side by
  /// side: each goes through the whole vocabulary. Not those of a restriction, which texts may
  /// share, and not where it would fail.
  ///
  /// @param logits a row for each text, and perhaps more
  public static void draw(List<Continuation> texts, float[][] logits) {
    Threads.split(
        texts.size(),
        1,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            texts.get(i).draw(logits[i]);
          }
        });
  }

  private void draw(float[] logits) {
    if (restriction.equals(Restriction.NONE)) {
      try {
        drawn = OptionalInt.of(drawn(logits));
      } catch (InvalidInputException _) { // of which nothing was drawn, and which choose will say
        drawn = OptionalInt.empty();
      }
    }
  }

  private int drawn(float[] logits) {
    return choice.sampler().choose(adjusted(logits), random);
  }

  /// Chooses the next token.
  ///
  /// @param logits after the text as it is, which stay as they are
  /// @return whether it is part of the text, as [#last]; else it was one that ends the text
  public boolean choose(float[] logits) {
    int token = drawn.isPresent() ? drawn.getAsInt() : drawn(logits);
    drawn = OptionalInt.empty();
    restriction.chosen(token);
    if (stopIds.contains(token)) {
      ending = Ending.STOP_TOKEN;
      return false;
    }
    tokens.add(token);
    seen[token] = true;
    counts[token]++;
    if (tokens.size() == mostTokens) {
      ending = Ending.LENGTH;
    }
    return true;
  }

  /// Logits as the next token is chosen from them.
  float[] adjusted(float[] logits) {
    if (choice.adjustments().equals(LogitAdjustments.NONE)
        && restriction.equals(Restriction.NONE)) {
      return logits;
    }
    float[] adjusted = logits.clone();
    choice.adjustments().apply(adjusted, seen, counts);
    restriction.restrict(adjusted);
    return adjusted;
  }

  /// Says that the caller wants no more.
  public void stop() {
    ending = Ending.CALLER;
  }

  /// The tokens so far.
  public List<Integer> tokens() {
    return Collections.unmodifiableList(tokens);
  }

  /// The last token.
  public int last() {
    return tokens.getLast();
  }

  /// Why there are no more tokens; null while there are.
  public @Nullable Ending ending() {
    return ending;
  }
}
