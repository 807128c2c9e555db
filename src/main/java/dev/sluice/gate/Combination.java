package dev.sluice.gate;

/// How scores meet the gated tensor.
public enum Combination {
  /// y′ = y ⊙ score.
  MULTIPLICATIVE,
  /// y′ = y + score.
  ADDITIVE
}
