package dev.sluice.serving;

import java.util.List;

/// What a model wrote.
///
/// @param text without thoughts, calls and what ended it
/// @param thoughts what the model thought before; empty for none
/// @param calls of tools, in their order
/// @param promptTokens of the prompt
/// @param cachedTokens those of them that were not read again
/// @param tokens that were written, thoughts and calls included
/// @param thoughtTokens those of them that were thoughts
public record Answer(
    String text,
    String thoughts,
    List<ToolCall> calls,
    Ending ending,
    int promptTokens,
    int cachedTokens,
    int tokens,
    int thoughtTokens) {
  /// Why there is no more.
  public enum Ending {
    /// The model ended it, or a stop string did.
    STOP,
    /// As many tokens as were asked for, or as there was room for.
    LENGTH,
    /// The model calls tools.
    CALLS,
    /// Whoever asked wants no more.
    CANCELLED
  }

  public Answer {
    calls = List.copyOf(calls);
  }
}
