package dev.sluice.serving;

/// How the hidden states of a text's tokens become one vector.
public enum Pooling {
  /// Their mean.
  MEAN,
  /// That of the last token, which has seen all others.
  LAST
}
