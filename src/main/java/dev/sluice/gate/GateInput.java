package dev.sluice.gate;

import dev.sluice.InvalidInputException;

/// What a gate's logits are computed from. Legend: D hidden size, N query heads, M key/value heads,
/// H head size.
public sealed interface GateInput {
  /// The layer's hidden state after pre-normalisation, the paper's X: logits `x Wᵀ`, W `[logits,
  /// D]`.
  record HiddenState() implements GateInput {}

  /// Nothing: a learned parameter per score, W `[logits]`, the paper's input-independent control.
  record None() implements GateInput {}

  /// The first `dimensions` of the hidden state, W `[logits, dimensions]` (modded-nanogpt, pull
  /// request 117: the first 12).
  record TruncatedHiddenState(int dimensions) implements GateInput {
    public TruncatedHiddenState {
      requirePositive("first", dimensions);
    }
  }

  /// The hidden state through a bottleneck: `(x W_downᵀ) Wᵀ`, W_down `[rank, D]`, W `[logits,
  /// rank]`.
  record LowRank(int rank) implements GateInput {
    public LowRank {
      requirePositive("rank", rank);
    }
  }

  /// The value states of the same token, all heads, without gradient: W `[logits, M · H]` (arXiv
  /// 2510.09017).
  record Value() implements GateInput {}

  /// What the head itself gives: the logits of head n from its own output, W `[logits, H]` (arXiv
  /// 2306.12929, 2608.11805). Only for a gate on the output of scaled dot-product attention.
  record HeadOutput() implements GateInput {}

  /// The words for this input in a gate's name, empty for the hidden state.
  default String word() {
    return switch (this) {
      case HiddenState() -> "";
      case None() -> "input-independent";
      case TruncatedHiddenState(int dimensions) -> "first*" + dimensions;
      case LowRank(int rank) -> "rank*" + rank;
      case Value() -> "from-value";
      case HeadOutput() -> "from-output";
    };
  }

  private static void requirePositive(String word, int value) {
    if (value < 1) {
      throw new InvalidInputException(
          "a gate's -" + word + "* needs a positive number, not " + value);
    }
  }
}
