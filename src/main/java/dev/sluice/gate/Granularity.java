package dev.sluice.gate;

/// How many scores a token's gate has.
public enum Granularity {
  /// One score per head.
  HEADWISE,
  /// One score per element of the gated tensor.
  ELEMENTWISE
}
