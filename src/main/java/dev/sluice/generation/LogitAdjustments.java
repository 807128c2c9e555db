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

  public LogitAdjustments {
    if (!(repetition > 0) || Double.isInfinite(repetition)) {
      throw new InvalidInputException(
          "the repetition penalty must be a positive number, not %s; 1 is none"
              .formatted(repetition));
    }
    requireFinite("presence", presence);
    requireFinite("frequency", frequency);
    bias.forEach(
        (id, added) -> {
          if (Double.isNaN(added) || added == Double.POSITIVE_INFINITY) {
            throw new InvalidInputException(
                "the logit bias of token %d must be a number or -Infinity, not %s"
                    .formatted(id, added));
          }
        });
    bias = Map.copyOf(bias);
  }

  private static void requireFinite(String name, double penalty) {
    if (!Double.isFinite(penalty)) {
      throw new InvalidInputException(
          "the %s penalty must be a number, not %s; 0 is none".formatted(name, penalty));
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
