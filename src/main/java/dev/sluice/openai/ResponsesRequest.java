package dev.sluice.openai;

import dev.sluice.serving.Engine;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.TextRequest;
import java.util.List;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// A request of `/v1/responses`, as it was understood.
///
/// Nothing of it is stored, nor of its answer: a conversation goes on with all of its items.
///
/// @param echo what the answer tells of the request
record ResponsesRequest(ChatRequest chat, ObjectNode echo) {
  private static final int MOST_INCLUDED = 16;

  /// @param number of the request
  /// @param usual the most tokens of an answer where the request does not say
  static ResponsesRequest read(
      Fields fields, ServedModel model, Engine engine, long number, int usual) {
    Fields.at(
        "input", model::format); // without one no message is answered, whatever else is asked for
    var common = Common.ofResponse(fields, model, number);
    requireNothingStored(fields);
    String instructions = fields.text("instructions");
    var messages = ResponsesInput.messages(fields, instructions);
    var tools = ChatRequest.tools(fields, model, true);
    var call = ToolChoice.read(fields, tools, true);
    boolean parallel = fields.flag("parallel_tool_calls", true);
    var reasoning = fields.object("reasoning");
    var variables = ChatRequest.variables(fields, reasoning, "effort", model);
    if (reasoning != null) {
      reasoning.ignore("summary", "generate_summary"); // thoughts are told as they are
      reasoning.requireAllKnown();
    }
    var text = fields.object("text");
    var format = text == null ? null : text.object("format");
    var schema = ChatRequest.schema(format, model, true);
    if (text != null) {
      text.ignore("verbosity");
      text.requireAllKnown();
    }
    fields.requireAllKnown();
    var chat =
        ChatRequest.of(
            new ChatRequest.Wanted(
                common,
                messages,
                tools,
                call,
                parallel,
                variables,
                schema,
                TextRequest.NO_LOGPROBS),
            new ChatRequest.Places("input", "text.format"),
            model,
            engine,
            usual);
    ObjectNode echo = JsonNodeFactory.instance.objectNode();
    echo.put("instructions", instructions);
    if (common.mostTokens() > 0) {
      echo.put("max_output_tokens", common.mostTokens());
    } else {
      echo.putNull("max_output_tokens");
    }
    echo.putObject("metadata");
    echo.put("parallel_tool_calls", parallel);
    echo.putNull("previous_response_id");
    ObjectNode thinking = echo.putObject("reasoning");
    thinking.put("effort", reasoning == null ? null : reasoning.text("effort"));
    thinking.putNull("summary");
    echo.put("store", false);
    echo.put("temperature", common.sampler().temperature());
    ObjectNode shape = echo.putObject("text");
    if (format == null) {
      shape.putObject("format").put("type", "text");
    } else {
      shape.set("format", format.members());
    }
    JsonNode choice = fields.node("tool_choice");
    if (choice == null) {
      echo.put("tool_choice", "auto");
    } else {
      echo.set("tool_choice", choice);
    }
    JsonNode given = fields.node("tools");
    if (given == null) {
      echo.putArray("tools");
    } else {
      echo.set("tools", given);
    }
    echo.put("top_p", common.sampler().topP());
    echo.put("truncation", "disabled");
    return new ResponsesRequest(chat, echo);
  }

  /// Refuses what would need that answers are stored, or another service behind this one.
  private static void requireNothingStored(Fields fields) {
    for (String name : List.of("previous_response_id", "conversation")) {
      if (fields.has(name)) {
        throw ApiException.invalid(
            name,
            "%s asks for what was stored, and nothing is; send all items of the conversation as input"
                .formatted(name));
      }
    }
    if (fields.flag("background", false)) {
      throw ApiException.invalid(
          "background", "background is not possible, as nothing is stored; leave it out");
    }
    String truncation = fields.text("truncation", "disabled");
    if (!truncation.equals("disabled")) {
      throw Fields.wrong("truncation", truncation, "disabled; nothing is cut off silently");
    }
    for (JsonNode each : fields.list("include", MOST_INCLUDED)) {
      String name = each.asString("");
      if (!name.equals("reasoning.encrypted_content")) {
        throw Fields.wrong("include", each, "a list of reasoning.encrypted_content alone");
      }
      fields.ignored().add("include"); // thoughts are sent as they are
    }
  }
}
