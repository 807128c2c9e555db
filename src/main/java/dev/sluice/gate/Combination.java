package dev.sluice.gate;

/// How scores meet the gated tensor.
public enum Combination {
  /// y′ = y ⊙ score.
  MULTIPLICATIVE,
  /// y′ = y + score.
  ADDITIVE;

  /// The score that leaves y as it is.
  public double neutralScore() {
    return switch (this) {
      case MULTIPLICATIVE -> 1;
      case ADDITIVE -> 0;
    };
  }
}
