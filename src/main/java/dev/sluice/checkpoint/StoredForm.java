package dev.sluice.checkpoint;

/// How a family stores weights that Sluice has otherwise.
public enum StoredForm {
  /// As Sluice has them.
  PLAIN,
  /// Norms less one; the projections of a DeltaNet layer apart (`modeling_qwen3_5.py`).
  QWEN3_5,
  /// Norms less one; the projections of a DeltaNet layer as two matrices, key head by key head
  /// (`modeling_qwen3_next.py`).
  QWEN3_NEXT;

  /// Whether norms are stored less one: all but those of a DeltaNet layer's heads.
  boolean hasCentredNorms() {
    return this != PLAIN;
  }
}
