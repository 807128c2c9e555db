package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.training.RunConfig;
import java.util.Locale;

/// In what a variant is made equal to the baseline, by its feed-forward width.
public enum Matching {
  NONE,
  /// The number of parameters, as the paper's dense models are.
  PARAMETERS,
  /// The floating-point operations of a training step.
  FLOPS;

  /// Reads `none`, `parameters` or `flops`.
  public static Matching parse(String word) {
    for (Matching matching : values()) {
      if (matching.word().equals(word.toLowerCase(Locale.ROOT))) {
        return matching;
      }
    }
    throw new InvalidInputException(
        "variants cannot be matched by '" + word + "'; use parameters, flops or none");
  }

  /// In what variants are matched where nobody says: in parameters, but where all begin with the
  /// weights of one checkpoint.
  public static Matching usual(RunConfig base) {
    return base.start().isGiven() ? NONE : PARAMETERS;
  }

  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// The variant with the feed-forward width that makes it equal.
  ///
  /// @param tokens of a sequence
  DecoderConfig match(DecoderConfig variant, DecoderConfig baseline, long tokens) {
    return switch (this) {
      case NONE -> variant;
      case PARAMETERS -> variant.matchingParameters(baseline.parameterCount(), 1);
      case FLOPS -> variant.matchingFlops(baseline.trainingFlopsPerToken(tokens), tokens, 1);
    };
  }
}
