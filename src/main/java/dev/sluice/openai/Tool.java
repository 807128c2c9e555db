package dev.sluice.openai;

import tools.jackson.databind.JsonNode;

/// A tool that a model may call.
///
/// @param parameters a JSON Schema of its arguments
record Tool(String name, JsonNode parameters) {}
