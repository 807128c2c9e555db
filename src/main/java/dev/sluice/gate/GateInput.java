package dev.sluice.gate;

import dev.sluice.InvalidInputException;

/// What a gate's logits are computed from.
public sealed interface GateInput {
  /// The layer's hidden state after pre-normalisation, the paper's X.
  record HiddenState() implements GateInput {}

  /// Nothing: a learned parameter per score, the paper's input-independent control.
  record None() implements GateInput {}

  /// The first `dimensions` of the hidden state.
  record TruncatedHiddenState(int dimensions) implements GateInput {}

  /// The hidden state through a projection of this rank.
  record LowRank(int rank) implements GateInput {}

  /// The value states, without gradient (arXiv 2510.09017).
  record Value() implements GateInput {}

  /// The head's own output (arXiv 2608.11805).
  record HeadOutput() implements GateInput {}

  /// Refuses what is not implemented yet.
  default void requireImplemented() {
    String missing =
        switch (this) {
          case HiddenState() -> null;
          case None() -> null;
          case TruncatedHiddenState(int dimensions) -> "truncated to " + dimensions + " dimensions";
          case LowRank(int rank) -> "of low rank " + rank;
          case Value() -> "from the value states";
          case HeadOutput() -> "from the head output";
        };
    if (missing != null) {
      throw new InvalidInputException(
          "a gate input " + missing + " is not implemented yet; use the hidden state");
    }
  }
}
