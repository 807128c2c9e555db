package dev.sluice.attention;

import dev.sluice.InvalidInputException;

/// How an attention layer turns queries and keys by their positions.
///
/// @param theta base of the rotary frequencies
/// @param scaling how they are stretched
public record Rotary(double theta, RopeScaling scaling) {
  public Rotary {
    if (!(theta >= 1e-30 && theta <= 1e30)) { // float32 holds its powers
      throw new InvalidInputException(
          "rope_theta must be a number from 1e-30 to 1e30, not " + theta);
    }
    if (theta == 1 && !(scaling instanceof RopeScaling.None)) {
      throw new InvalidInputException(
          "rope_theta is 1: all dimensions turn alike, so YaRN cannot tell them apart; use"
              + " another");
    }
  }
}
