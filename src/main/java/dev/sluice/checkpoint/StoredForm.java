package dev.sluice.checkpoint;

/// How a family stores weights that Sluice has otherwise.
public enum StoredForm {
  /// As Sluice has them.
  PLAIN,
  /// The projections of a DeltaNet layer apart (`modeling_qwen3_5.py`).
  QWEN3_5,
  /// The projections of a DeltaNet layer as two matrices, key head by key head
  /// (`modeling_qwen3_next.py`).
  QWEN3_NEXT
}
