package dev.sluice.openai;

import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.schema.TokenMask;
import java.util.List;
import java.util.OptionalInt;
import java.util.function.Supplier;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

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

  /// Lets an answer be a call and nothing else. In the form with tags what stands between them is
  /// the model's to write.
  Supplier<Restriction> restriction(ServedModel model) {
    var tokenizer = model.tokenizer();
    if (model.templatesMention(ToolCallReader.FUNCTION)) {
      String name = forced.size() == 1 ? forced.getFirst().name() + ">" : "";
      int[] begin = tokenizer.encode(ToolCallReader.BEGIN + "\n" + ToolCallReader.FUNCTION + name);
      return () -> new ForcedCall(begin, null, new int[0], model.turnEnds());
    }
    var mask = ChatRequest.mask(model, "tools", schema());
    int[] begin = tokenizer.encode(ToolCallReader.BEGIN + "\n");
    int[] end = tokenizer.encode("\n" + ToolCallReader.END);
    return () -> new ForcedCall(begin, new Arguments(mask), end, model.turnEnds());
  }

  /// `{"name": NAME, "arguments": {…}}` of one of the tools.
  private JsonNode schema() {
    var factory = JsonNodeFactory.instance;
    ObjectNode schema = factory.objectNode();
    var alternatives = schema.putArray("anyOf");
    for (var tool : forced) {
      ObjectNode call = alternatives.addObject();
      call.put("type", "object");
      ObjectNode properties = call.putObject("properties");
      properties.putObject("name").put("const", tool.name());
      ObjectNode arguments = properties.putObject("arguments");
      if (tool.parameters() instanceof ObjectNode parameters) {
        arguments.setAll(parameters);
      }
      arguments.put("type", "object");
      call.putArray("required").add("name").add("arguments");
      call.put("additionalProperties", false);
    }
    return schema;
  }

  /// A JSON value as the body of a call.
  private static final class Arguments implements ForcedCall.Body {
    private final JsonRestriction json;

    Arguments(TokenMask mask) {
      this.json = new JsonRestriction(mask, OptionalInt.empty());
    }

    @Override
    public void restrict(float[] logits) {
      json.restrict(logits);
    }

    @Override
    public void chosen(int token) {
      json.chosen(token);
    }

    @Override
    public boolean isComplete() {
      return json.isComplete();
    }
  }
}
