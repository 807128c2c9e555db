package dev.sluice.attention;

import dev.sluice.InvalidInputException;

/// How an attention layer turns queries and keys by their positions.
///
/// @param theta base of the rotary frequencies
/// @param scaling how they are stretched
/// @param share of a head's elements, its first ones, that turn
public record Rotary(double theta, RopeScaling scaling, double share) {
  /// All elements turn.
  public Rotary(double theta, RopeScaling scaling) {
    this(theta, scaling, 1);
  }

  public Rotary {
    if (!(theta >= 1e-30 && theta <= 1e30)) { // float32 holds its powers
      throw new InvalidInputException(
          "rope_theta must be a number from 1e-30 to 1e30, not " + theta);
    }
    if (theta == 1 && scaling instanceof RopeScaling.Yarn) {
      throw new InvalidInputException(
          "rope_theta is 1: all dimensions turn alike, so YaRN cannot tell them apart; use"
              + " another");
    }
    if (!(share > 0 && share <= 1)) {
      throw new InvalidInputException(
          "partial_rotary_factor must be above 0 and at most 1, not " + share);
    }
  }

  /// For people: `rope_theta 10000, YaRN by 4`.
  public String words() {
    return "rope_theta %s, %s".formatted(RopeScaling.shown(theta), scaling.words());
  }

  /// How many elements of a head turn, as `transformers` rounds it.
  int dimensions(int headDim) {
    return (int) (headDim * share);
  }

  /// The same rotation with [RopeScaling#asFactors].
  public Rotary asFactors(int headDim) {
    return new Rotary(theta, scaling.asFactors(theta, dimensions(headDim)), share);
  }

  /// The frequencies of a head, one for each pair of elements that turns, in radians a position.
  ///
  /// @param tokens of the sequence so far, see [RopeScaling#dependsOnLength]
  public float[] inverseFrequencies(int headDim, int tokens) {
    return scaling.inverseFrequencies(theta, dimensions(headDim), tokens);
  }
}
