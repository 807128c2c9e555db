package dev.sluice.gate;

/// Whether heads have scores of their own.
public enum Sharing {
  /// Each head has its own scores.
  HEAD_SPECIFIC,
  /// Scores are computed for every head and averaged over the heads (the full projection stays, as
  /// in the paper's parameter counts).
  HEAD_SHARED
}
