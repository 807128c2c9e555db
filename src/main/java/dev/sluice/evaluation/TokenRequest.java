package dev.sluice.evaluation;

import java.util.Arrays;

/// A sequence of tokens whose last ones are scored: `targets[i]` after `inputs[0 … n − t + i]`,
/// with n inputs and t targets.
///
/// @param inputs what the model sees, at least as many as targets
/// @param targets what follows the last t of them
/// @param cut how many tokens were left out at the start because the model's context is too short
@SuppressWarnings("ArrayRecordComponent") // nobody compares or prints requests
public record TokenRequest(int[] inputs, int[] targets, int cut) {
  public TokenRequest {
    if (targets.length == 0 || targets.length > inputs.length) {
      throw new IllegalArgumentException(
          "%d targets after %d inputs".formatted(targets.length, inputs.length));
    }
  }

  /// The tokens after `context` of a sequence that is seen without its last token.
  ///
  /// @param context how many tokens are given
  static TokenRequest after(int[] sequence, int context, int cut) {
    return new TokenRequest(
        Arrays.copyOf(sequence, sequence.length - 1),
        Arrays.copyOfRange(sequence, context, sequence.length),
        cut);
  }

  /// The first input that has a target.
  int firstScored() {
    return inputs.length - targets.length;
  }
}
