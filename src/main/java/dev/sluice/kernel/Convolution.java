package dev.sluice.kernel;

import org.jspecify.annotations.Nullable;

/// The sizes of a causal convolution over tokens, each channel on its own.
///
/// @param batch sequences
/// @param tokens of each
/// @param channels of a token, adjacent in memory
/// @param width tokens that one result is made of: itself and those before it
/// @param starts the first token, counted within its sequence, that each token's result is made of,
///   sequence after sequence; null where nothing is hidden
public record Convolution(
    long batch, long tokens, int channels, int width, int @Nullable [] starts) {
  /// Of sequences of one document.
  public Convolution(long batch, long tokens, int channels, int width) {
    this(batch, tokens, channels, width, null);
  }

  /// The first of a token's factors that is used: factor i belongs to the token `width − 1 − i`
  /// before it.
  ///
  /// @param token within its sequence
  int firstFactor(long sequence, long token) {
    return starts == null
        ? 0
        : (int) Math.max(0, width - 1 - token + starts[Math.toIntExact(sequence * tokens + token)]);
  }
}
