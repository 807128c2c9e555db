package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import java.util.List;

/// How a text is written.
///
/// @param sampler how tokens are chosen
/// @param adjustments of logits before that
/// @param mostTokens of the text; fewer where there is room for fewer
/// @param stops strings before which the text ends
public record Manner(
    Sampler sampler, LogitAdjustments adjustments, int mostTokens, List<String> stops) {
  public Manner {
    if (mostTokens < 1) {
      throw new InvalidInputException(
          "a text must have room for at least 1 token, not %d".formatted(mostTokens));
    }
    stops = List.copyOf(stops);
    if (stops.stream().anyMatch(String::isEmpty)) {
      throw new InvalidInputException("a stop string is empty; give some text, or none of them");
    }
  }

  /// The same with tokens chosen in another way.
  public Manner with(Sampler other) {
    return new Manner(other, adjustments, mostTokens, stops);
  }

  /// The same with other adjustments of logits.
  public Manner with(LogitAdjustments other) {
    return new Manner(sampler, other, mostTokens, stops);
  }

  /// The same with random numbers of another seed.
  public Manner withSeed(long seed) {
    return with(sampler.reseeded(seed));
  }

  /// The same with another number of tokens.
  public Manner withTokens(int most) {
    return new Manner(sampler, adjustments, most, stops);
  }

  /// The same with other stop strings.
  public Manner withStops(String... others) {
    return new Manner(sampler, adjustments, mostTokens, List.of(others));
  }
}
