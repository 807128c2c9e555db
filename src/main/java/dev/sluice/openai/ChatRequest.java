package dev.sluice.openai;

import dev.sluice.schema.TokenMask;
import dev.sluice.serving.Engine;
import dev.sluice.serving.Question;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.TextRequest;
import dev.sluice.serving.Tool;
import dev.sluice.template.Conversation;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// A request to answer messages, as it was understood.
///
/// @param tools that the model may call
/// @param oneCall whether the answer ends after a call
/// @param thinks whether the answer begins within thoughts
record ChatRequest(
    Common common, TextRequest text, List<Tool> tools, boolean oneCall, boolean thinks) {
  private static final int MOST_MESSAGES = 10_000;
  private static final int MOST_PARTS = 1000;
  private static final int MOST_TOOLS = 256;
  private static final int MOST_LOGPROBS = 20;

  private static final String THINKING = "enable_thinking";
  private static final String EFFORT = "reasoning_effort";

  /// @param number of the request
  /// @param usual the most tokens of an answer where the request does not say
  static ChatRequest read(Fields fields, ServedModel model, Engine engine, long number, int usual) {
    Fields.at("messages", model::format);
    var common = Common.read(fields, model, number);
    int logprobs = logprobs(fields);
    var messages = messages(fields);
    var tools = tools(fields, model, false);
    var call = ToolChoice.read(fields, tools, false);
    boolean parallel = fields.flag("parallel_tool_calls", true);
    var variables = variables(fields, fields, EFFORT, model);
    fields.ignore("verbosity");
    var schema = schema(fields.object("response_format"), model, false);
    fields.list("modalities", 2).stream()
        .filter(each -> !each.asString("").equals("text"))
        .findFirst()
        .ifPresent(
            each -> {
              throw Fields.wrong("modalities", each, "[\"text\"]");
            });
    fields.requireAllKnown();
    return of(
        new Wanted(common, messages, tools, call, parallel, variables, schema, logprobs),
        new Places("messages", "response_format"),
        model,
        engine,
        usual);
  }

  /// What a request of one kind or the other asks for.
  ///
  /// @param parallel whether an answer may have several calls
  /// @param variables of the template
  /// @param schema that the answer is to follow; null for none
  record Wanted(
      Common common,
      List<Map<String, @Nullable Object>> messages,
      List<Tool> tools,
      ToolChoice call,
      boolean parallel,
      Map<String, @Nullable Object> variables,
      @Nullable TokenMask schema,
      int logprobs) {}

  /// The fields in which messages and a schema stand.
  record Places(String messages, String schema) {}

  /// @param usual the most tokens of an answer where the request does not say
  static ChatRequest of(Wanted wanted, Places places, ServedModel model, Engine engine, int usual) {
    var call = wanted.call;
    var schema = wanted.schema;
    if (call.rendersTools()) {
      Fields.at(
          "tools",
          () -> {
            model.requireTools();
            return true;
          });
    }
    var told = call.rendersTools() ? wanted.tools : List.<Tool>of();
    var question =
        Fields.at(
            places.schema,
            () -> new Question(wanted.messages, told, call.forced(), schema, wanted.variables));
    var prompt = Fields.at(places.messages, () -> question.prompt(model));
    var restriction =
        Fields.at(
            schema != null ? places.schema : "tool_choice",
            () -> question.restriction(model, prompt));
    var text =
        wanted.common.text(
            engine,
            places.messages,
            prompt.ids(),
            prompt.turnStarts(),
            _ -> restriction.get(),
            model.turnEnds(),
            usual,
            wanted.logprobs);
    return new ChatRequest(
        wanted.common, text, told, !wanted.parallel || call.isForced(), prompt.thinks());
  }

  private static int logprobs(Fields fields) {
    boolean wanted = fields.flag("logprobs", false);
    int likeliest = (int) fields.whole("top_logprobs", 0, 0, MOST_LOGPROBS);
    if (fields.has("top_logprobs") && likeliest > 0 && !wanted) {
      throw ApiException.invalid(
          "top_logprobs", "top_logprobs is for \"logprobs\": true, which is not given");
    }
    return wanted ? likeliest : TextRequest.NO_LOGPROBS;
  }

  // ---------------------------------------------------------------- messages

  private static List<Map<String, @Nullable Object>> messages(Fields fields) {
    var list = fields.list("messages", MOST_MESSAGES);
    if (list.isEmpty()) {
      throw ApiException.invalid("messages", "messages must be a list of at least one message");
    }
    var messages = new ArrayList<Map<String, @Nullable Object>>();
    for (int i = 0; i < list.size(); i++) {
      messages.add(message(fields.object("messages[%d]".formatted(i), list.get(i))));
    }
    return messages;
  }

  private static Map<String, @Nullable Object> message(Fields message) {
    String role = message.requiredText("role");
    Map<String, @Nullable Object> map = new LinkedHashMap<>();
    JsonNode content = message.node("content");
    switch (role) {
      case "system", "user" -> map.put("role", role);
      case "developer" -> map.put("role", "system");
      case "tool" -> {
        map.put("role", role);
        String of = message.text("tool_call_id");
        if (of != null) {
          map.put("tool_call_id", of);
        }
      }
      case "assistant" -> {
        map.put("role", role);
        String thinking = message.text("reasoning_content");
        if (thinking != null && !thinking.isEmpty()) {
          map.put("reasoning_content", thinking);
          map.put("thinking", thinking);
        }
        var calls = calls(message);
        if (!calls.isEmpty()) {
          map.put("tool_calls", calls);
        }
        message.ignore("refusal", "annotations", "parsed"); // what answers have, sent back
      }
      default ->
          throw Fields.wrong(
              message.place("role"), role, "system, developer, user, assistant or tool");
    }
    if (content == null && !role.equals("assistant")) {
      throw ApiException.invalid(
          message.place("content"), message.place("content") + " is missing; it must be text");
    }
    map.put("content", content == null ? "" : content(message, content));
    String name = message.text("name");
    if (name != null) {
      map.put("name", name);
    }
    message.requireAllKnown();
    return map;
  }

  private static String content(Fields message, JsonNode content) {
    if (content.isString()) {
      return content.stringValue();
    }
    var texts = new ArrayList<String>();
    var parts = message.list("content", MOST_PARTS);
    for (int i = 0; i < parts.size(); i++) {
      var part = message.object("%s[%d]".formatted(message.place("content"), i), parts.get(i));
      String type = part.requiredText("type");
      if (!type.equals("text")) {
        throw Fields.wrong(part.place("type"), type, "text, as the model reads nothing else");
      }
      texts.add(part.requiredText("text"));
      part.requireAllKnown();
    }
    return String.join("\n", texts);
  }

  private static List<Map<String, @Nullable Object>> calls(Fields message) {
    var calls = new ArrayList<Map<String, @Nullable Object>>();
    var list = message.list("tool_calls", MOST_TOOLS);
    for (int i = 0; i < list.size(); i++) {
      var call = message.object("%s[%d]".formatted(message.place("tool_calls"), i), list.get(i));
      requireFunction(call);
      var function = call.requiredObject("function");
      Map<String, @Nullable Object> described = new LinkedHashMap<>();
      described.put("name", function.requiredText("name"));
      described.put("arguments", arguments(function));
      function.ignore("parsed_arguments");
      function.requireAllKnown();
      Map<String, @Nullable Object> one = new LinkedHashMap<>();
      one.put("id", call.text("id", ""));
      one.put("type", "function");
      one.put("function", described);
      call.ignore("index");
      call.requireAllKnown();
      calls.add(one);
    }
    return calls;
  }

  /// Templates take arguments as the object that clients send as a string.
  static Object arguments(Fields function) {
    String text = function.text("arguments", "");
    String place = function.place("arguments");
    var parsed = text.isBlank() ? JsonNodeFactory.instance.objectNode() : Json.parsed(place, text);
    if (parsed instanceof ObjectNode object
        && Conversation.plain(object) instanceof Map<?, ?> map) {
      return map;
    }
    throw ApiException.invalid(place, place + " is not a JSON object");
  }

  private static void requireFunction(Fields fields) {
    String type = fields.text("type", "function");
    if (!type.equals("function")) {
      throw Fields.wrong(fields.place("type"), type, "function");
    }
  }

  // ---------------------------------------------------------------- tools

  /// @param flat whether a function stands in its tool itself, and not in a field of its own
  static List<Tool> tools(Fields fields, ServedModel model, boolean flat) {
    var list = fields.list("tools", MOST_TOOLS);
    var tools = new ArrayList<Tool>();
    for (int i = 0; i < list.size(); i++) {
      var tool = fields.object("tools[%d]".formatted(i), list.get(i));
      requireFunction(tool);
      var function = flat ? tool : tool.requiredObject("function");
      String name = function.requiredText("name");
      if (!Tool.isName(name)) {
        throw Fields.wrong(function.place("name"), name, Tool.NAMES);
      }
      function.text("description");
      // A call that was forced follows its schema anyway, where it has a form that can.
      if (function.flag("strict", false) && model.callsHaveTags()) {
        function.ignore("strict");
      }
      var parameters = function.object("parameters");
      function.requireAllKnown();
      tool.requireAllKnown();
      tools.add(
          new Tool(
              name,
              parameters == null ? JsonNodeFactory.instance.objectNode() : parameters.members(),
              flat ? nested(tool.members()) : list.get(i)));
    }
    return tools;
  }

  /// A tool as templates know it.
  private static ObjectNode nested(ObjectNode tool) {
    ObjectNode nested = JsonNodeFactory.instance.objectNode().put("type", "function");
    nested.set("function", tool.deepCopy().without("type"));
    return nested;
  }

  // ---------------------------------------------------------------- the rest

  /// What the template knows besides.
  ///
  /// @param of the object in which it stands how much the model is to think, if it does, as `name`
  static Map<String, @Nullable Object> variables(
      Fields fields, @Nullable Fields of, String name, ServedModel model) {
    Map<String, @Nullable Object> variables = new HashMap<>();
    String effort = of == null ? null : of.text(name);
    if (effort != null) {
      if (model.templatesMention(EFFORT)) {
        variables.put(EFFORT, effort);
      } else if (model.templatesMention(THINKING)) {
        variables.put(THINKING, !effort.equals("none") && !effort.equals("minimal"));
      } else if (of != null) {
        of.ignore(name);
      }
    }
    var given = fields.object("chat_template_kwargs");
    if (given != null) {
      given
          .members()
          .forEachEntry(
              (variable, value) -> {
                variables.put(variable, Conversation.plain(value));
                if (!model.templatesMention(variable)) {
                  fields.ignored().add(given.place(variable));
                }
              });
    }
    return variables;
  }

  /// @param flat whether a schema stands in the format itself, and not in a field of its own
  static @Nullable TokenMask schema(@Nullable Fields format, ServedModel model, boolean flat) {
    if (format == null) {
      return null;
    }
    String type = format.requiredText("type");
    return switch (type) {
      case "text" -> {
        format.requireAllKnown();
        yield null;
      }
      case "json_object" -> {
        format.requireAllKnown();
        yield Fields.at(format.place(), model::anyObjectMask);
      }
      case "json_schema" -> {
        var described = flat ? format : format.requiredObject("json_schema");
        described.text("name");
        described.text("description");
        described.flag("strict", true);
        var schema = described.requiredObject("schema");
        described.requireAllKnown();
        format.requireAllKnown();
        var mask = Fields.at(schema.place(), () -> model.mask(schema.place(), schema.members()));
        mask.notes().forEach(note -> described.tell(schema.place() + " " + note));
        yield mask;
      }
      default -> throw Fields.wrong(format.place("type"), type, "text, json_object or json_schema");
    };
  }
}
