package dev.sluice.sink;

import dev.sluice.InvalidInputException;

/// A mean over NaN says nothing, so measuring stops where the first one is met.
final class NotFinite {
  private NotFinite() {}

  static float require(float value, String what, int index) {
    if (!Float.isFinite(value)) {
      throw new InvalidInputException(
          what
              + " "
              + index
              + " hold "
              + value
              + ", so the model cannot be measured; check the checkpoint, or run it in float32");
    }
    return value;
  }
}
