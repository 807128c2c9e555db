package dev.sluice.decoder;

import dev.sluice.InvalidInputException;

/// What a training pass keeps for its backward pass, and what that computes again.
public enum Recompute {
  /// All that operations keep.
  NONE,
  /// What goes into each block; a block's forward pass runs again before its backward pass. A third
  /// more products, the same bits, and the memory of one block instead of all.
  BLOCKS;

  /// Reads `none` or `blocks`.
  public static Recompute parse(String text) {
    return switch (text) {
      case "none" -> NONE;
      case "blocks" -> BLOCKS;
      default ->
          throw new InvalidInputException("unknown recompute '" + text + "'; use none or blocks");
    };
  }
}
