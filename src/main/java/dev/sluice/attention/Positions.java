package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import java.util.Optional;

/// What the positions of tokens do in an attention layer.
///
/// @param rotary how they turn queries and keys; empty where they do not (NoPE), so that a layer
///   knows no more of them than which tokens came before
/// @param window how many keys a query sees, its own and those just before it; 0 for all
public record Positions(Optional<Rotary> rotary, int window) {
  /// Neither a rotation nor a window.
  public static final Positions NONE = new Positions(Optional.empty(), 0);

  /// A rotation and no window.
  public Positions(Rotary rotary) {
    this(Optional.of(rotary), 0);
  }

  public Positions {
    if (window < 0) {
      throw new InvalidInputException(
          "sliding_window must be a positive number, or 0 for none, not " + window);
    }
  }

  /// The same with another window.
  public Positions withWindow(int changed) {
    return new Positions(rotary, changed);
  }

  /// How many keys a query sees, in the mean over a sequence: half of the tokens without a window,
  /// and close to the window where it is much shorter than the sequence.
  ///
  /// @param tokens of the sequence, at least 1
  public double meanKeys(long tokens) {
    double most = seen(tokens);
    return most - most * most / (2.0 * tokens);
  }

  /// How many keys a query sees behind so many tokens, its own included.
  public long seen(long tokens) {
    return window == 0 ? tokens : Math.min(window, tokens);
  }
}
