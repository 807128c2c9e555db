package dev.sluice.gate;

import dev.sluice.InvalidInputException;

/// How a gate's weights start.
public sealed interface GateInit {
  /// N(0, std²), the official code's choice with the model's own `initializer_range`: gates start
  /// near ½.
  record Normal() implements GateInit {}

  /// All zero: a sigmoid gate starts at exactly ½; 2σ and additive gates start as if they were not
  /// there.
  record Zeros() implements GateInit {}

  /// Weights of zero and a learned bias that starts at `bias`: open at 10 (x-transformers), at
  /// probability p with logit(p) (arXiv 2306.12929), and with σ/p then as if it were not there.
  record Bias(double bias) implements GateInit {
    public Bias {
      if (!Float.isFinite((float) bias) || (bias != 0 && (float) bias == 0)) {
        throw new InvalidInputException(
            "a gate's bias must be a number that float32 has, not " + bias);
      }
    }
  }

  /// The words for this start in a gate's name, empty for the official one.
  default String word() {
    return switch (this) {
      case Normal() -> "";
      case Zeros() -> "zero-init";
      case Bias(double bias) -> "bias*" + bias;
    };
  }
}
