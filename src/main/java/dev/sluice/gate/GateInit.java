package dev.sluice.gate;

/// How a gate's weights start.
public sealed interface GateInit {
  /// N(0, std²), the official code's choice with the model's own `initializer_range`: gates start
  /// near ½.
  record Normal() implements GateInit {}

  /// All zero: a sigmoid gate starts at exactly ½, 2σ at exactly one.
  record Zeros() implements GateInit {}
}
