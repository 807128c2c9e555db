package dev.sluice.serving;

import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// A tool that a model may call.
///
/// @param parameters a JSON Schema of its arguments
/// @param described what chat templates are given: `{"type": "function", "function": {"name", …}}`
public record Tool(String name, JsonNode parameters, JsonNode described) {
  /// A function.
  ///
  /// @param parameters a JSON Schema of its arguments, an object
  public static Tool function(String name, String description, JsonNode parameters) {
    ObjectNode described = JsonNodeFactory.instance.objectNode().put("type", "function");
    described
        .putObject("function")
        .put("name", name)
        .put("description", description)
        .set("parameters", parameters);
    return new Tool(name, parameters, described);
  }
}
