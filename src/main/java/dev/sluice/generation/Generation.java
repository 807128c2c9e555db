package dev.sluice.generation;

import java.util.List;

/// What was generated, and why it ended.
///
/// @param tokens the new tokens, without the prompt and without the stop token
/// @param ending why there are no more
/// @param cachedTokens how many of the prompt's tokens were not read again, as a cache held them
/// @param drafted how many tokens a head has guessed; 0 without one
/// @param accepted those of them that the model has chosen too
public record Generation(
    List<Integer> tokens, Ending ending, int cachedTokens, int drafted, int accepted) {
  /// Why generation ended.
  public enum Ending {
    /// The model chose a stop token.
    STOP_TOKEN,
    /// As many tokens as were asked for.
    LENGTH,
    /// The caller wanted no more.
    CALLER
  }

  public Generation {
    tokens = List.copyOf(tokens);
  }

  /// The new tokens as a tokenizer takes them.
  public int[] ids() {
    return tokens.stream().mapToInt(Integer::intValue).toArray();
  }
}
