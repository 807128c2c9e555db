package dev.sluice.openai;

import dev.sluice.serving.Tool;
import java.util.List;
import tools.jackson.databind.JsonNode;

/// Whether a model is to call tools.
///
/// @param rendersTools whether the model is told of them
/// @param forced the tools one of which is to be called; none where the model may choose
record ToolChoice(boolean rendersTools, List<Tool> forced) {
  /// @param tools of the request
  /// @param flat whether a function is named in the choice itself, and not in a field of its own
  static ToolChoice read(Fields fields, List<Tool> tools, boolean flat) {
    JsonNode node = fields.node("tool_choice");
    boolean some = !tools.isEmpty();
    if (node == null) {
      return new ToolChoice(some, List.of());
    }
    if (node.isString()) {
      return switch (node.stringValue()) {
        case "none" -> new ToolChoice(false, List.of());
        case "auto" -> new ToolChoice(some, List.of());
        case "required" -> {
          if (!some) {
            throw ApiException.invalid(
                "tool_choice", "tool_choice is required, and there are no tools");
          }
          yield new ToolChoice(true, tools);
        }
        default ->
            throw Fields.wrong(
                "tool_choice", node, "none, auto, required or an object that names a function");
      };
    }
    var choice = fields.object("tool_choice", node);
    String type = choice.requiredText("type");
    if (!type.equals("function")) {
      throw Fields.wrong(choice.place("type"), type, "function");
    }
    var function = flat ? choice : choice.requiredObject("function");
    String name = function.requiredText("name");
    function.requireAllKnown();
    choice.requireAllKnown();
    var named = tools.stream().filter(tool -> tool.name().equals(name)).toList();
    if (named.isEmpty()) {
      throw Fields.wrong(function.place("name"), name, "the name of one of the tools");
    }
    return new ToolChoice(true, named);
  }

  boolean isForced() {
    return !forced.isEmpty();
  }
}
