package dev.sluice.serving;

import java.util.Map;

/// What was seen of the pass from which a token was chosen: the pass through the model of the token
/// before it. Each list has a number for every layer, NaN for those that have nothing to see.
///
/// @param firstTokenAttention the share of its attention that the layer gives to the first token of
///   the text, mean over heads
/// @param gateScores by the gate's position (`sdpa`, `value`, …): mean over heads and features
@SuppressWarnings("ArrayRecordComponent") // is only read, right after it was made
public record TokenWatch(float[] firstTokenAttention, Map<String, float[]> gateScores) {
  /// The most tokens of a text that is watched, so that what is seen of it does not fill the memory
  /// while a client is slow to take it.
  public static final int MOST_TOKENS = 4096;

  public TokenWatch {
    gateScores = Map.copyOf(gateScores);
  }
}
