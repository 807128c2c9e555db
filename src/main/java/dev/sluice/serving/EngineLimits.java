package dev.sluice.serving;

import dev.sluice.InvalidInputException;

/// How much an [Engine] does at a time.
///
/// @param slots the most texts that are written or whose prompt is read
/// @param context the most tokens of a text with its prompt
/// @param memoryBytes the most memory for what the model keeps of them
/// @param waiting the most requests that wait until there is room
/// @param piece the most tokens of prompts that are read before those who write get their next
///   token
public record EngineLimits(int slots, int context, long memoryBytes, int waiting, int piece) {
  public EngineLimits {
    require("slots", slots, 1);
    require("the context", context, 2);
    require("the memory of texts", memoryBytes, 1);
    require("the queue", waiting, 1);
    require("a piece", piece, 1);
  }

  private static void require(String what, long value, int least) {
    if (value < least) {
      throw new InvalidInputException(
          "%s must be at least %d, not %d".formatted(what, least, value));
    }
  }
}
