package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import java.util.Map;

/// What is done to logits before a token is chosen, in this order: the repetition penalty of
/// `transformers` (arXiv 1909.05858), which divides the positive logits and multiplies the negative
/// ones of tokens that the prompt or the text has; OpenAI's presence and frequency penalties, which
/// take from the logits of tokens that the text has, once and as often as it has them; and numbers
/// that are added to the logits of some tokens.
///
/// @param repetition 1 for none
/// @param presence 0 for none; a negative one rewards
/// @param frequency 0 for none; a negative one rewards
/// @param bias by token id; −∞ excludes a token
public record LogitAdjustments(
    double repetition, double presence, double frequency, Map<Integer, Double> bias) {
  /// Leaves logits as they are.
  public static final LogitAdjustments NONE = new LogitAdjustments(1, 0, 0, Map.of());

  /// What is added to a logit, or taken from it, has at most this size: it decides by far, and a
  /// logit stays a number.
  private static final double LARGEST = 10_000;

  private static final double LARGEST_FACTOR = 1000;

  public LogitAdjustments {
    if (!(repetition >= 1 / LARGEST_FACTOR) || repetition > LARGEST_FACTOR) {
      throw new InvalidInputException(
          "the repetition penalty must be from %s to %.0f, not %s; 1 is none"
              .formatted(1 / LARGEST_FACTOR, LARGEST_FACTOR, repetition));
    }
    requireSmall("presence", presence);
    requireSmall("frequency", frequency);
    bias.forEach(
        (id, added) -> {
          if (!(added <= LARGEST)) { // a very negative one excludes the token, as −∞ does
            throw new InvalidInputException(
                "the logit bias of token %d must be a number up to %.0f, or -Infinity, not %s"
                    .formatted(id, LARGEST, added));
          }
        });
    bias = Map.copyOf(bias);
  }

  private static boolean isSmall(double added) {
    return Math.abs(added) <= LARGEST;
  }

  private static void requireSmall(String name, double penalty) {
    if (!isSmall(penalty)) {
      throw new InvalidInputException(
          "the %s penalty must be from -%.0f to %.0f, not %s; 0 is none"
              .formatted(name, LARGEST, LARGEST, penalty));
    }
  }

  /// Refuses a bias for a token that the model does not have.
  public void requireTokens(int vocabulary) {
    bias.keySet()
        .forEach(
            id -> {
              if (id < 0 || id >= vocabulary) {
                throw new InvalidInputException(
                    "there is a logit bias for token %d, and the vocabulary has the tokens 0 to %d"
                        .formatted(id, vocabulary - 1));
              }
            });
  }

  /// Changes logits in place.
  ///
  /// @param seen which tokens the prompt or the text has
  /// @param counts how often the text has each token
  void apply(float[] logits, boolean[] seen, int[] counts) {
    if (repetition != 1 || presence != 0 || frequency != 0) {
      for (int id = 0; id < logits.length; id++) {
        if (seen[id] && repetition != 1) {
          logits[id] *= (float) (logits[id] > 0 ? 1 / repetition : repetition);
        }
        if (counts[id] > 0) {
          logits[id] -= (float) (presence + frequency * counts[id]);
        }
      }
    }
    bias.forEach((id, added) -> logits[id] += added.floatValue());
  }
}
