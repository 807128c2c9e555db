package dev.sluice.gate;

import java.util.Arrays;

/// Which tensor of the attention layer is gated (paper section 3, positions G1 to G5).
public enum GatePosition {
  /// G4: the query projection's output, before query norm and rotation.
  QUERY("query"),
  /// G3: the key projection's output, before key norm and rotation.
  KEY("key"),
  /// G2: the value projection's output.
  VALUE("value"),
  /// G1: the output of scaled dot-product attention, per head, before the heads are joined.
  SDPA_OUTPUT("sdpa"),
  /// G5: the attention layer's output, after the output projection.
  DENSE_OUTPUT("dense");

  private final String word;

  GatePosition(String word) {
    this.word = word;
  }

  /// The position of that word.
  static GatePosition named(String word) {
    return Arrays.stream(values())
        .filter(position -> position.word.equals(word))
        .findFirst()
        .orElseThrow();
  }

  /// The position in a gate's name, such as `sdpa` in `sdpa-headwise`.
  public String word() {
    return word;
  }
}
