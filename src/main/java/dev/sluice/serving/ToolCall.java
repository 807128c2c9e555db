package dev.sluice.serving;

/// A call of a tool that a model asks for.
///
/// @param arguments a JSON object
public record ToolCall(String name, String arguments) {}
