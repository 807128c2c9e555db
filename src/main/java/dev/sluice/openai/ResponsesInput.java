package dev.sluice.openai;

import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// Makes messages, as templates take them, of the input of `/v1/responses`, where thoughts, text
/// and calls of one answer are items of their own.
final class ResponsesInput {
  private static final int MOST_ITEMS = 10_000;
  private static final int MOST_PARTS = 1000;
  private static final int LONGEST_ID = 100;
  private static final String CONTENT = "content";
  private static final String CALLS = "tool_calls";
  private static final String THOUGHTS = "reasoning_content";

  private final List<Map<String, @Nullable Object>> messages = new ArrayList<>();

  /// The answer that the next items may belong to.
  private @Nullable Map<String, @Nullable Object> answer;

  /// What was called in it.
  private List<Map<String, @Nullable Object>> calls = new ArrayList<>();

  /// All that were called so far, by `call_id`.
  private final Set<String> called = new HashSet<>();

  private ResponsesInput() {}

  /// The messages of a request. Instructions and what the system says at the beginning are one
  /// message, as most templates have it.
  static List<Map<String, @Nullable Object>> messages(
      Fields fields, @Nullable String instructions) {
    var input = new ResponsesInput();
    JsonNode given = fields.node("input");
    if (given == null) {
      throw ApiException.invalid("input", "input is missing; it must be text or a list of items");
    }
    if (instructions != null) {
      input.say("system", instructions);
    }
    if (given.isString()) {
      input.say("user", given.stringValue());
      return input.messages;
    }
    var items = fields.list("input", MOST_ITEMS);
    if (items.isEmpty()) {
      throw ApiException.invalid("input", "input has no items; give some text");
    }
    for (int i = 0; i < items.size(); i++) {
      input.item(fields.object("input[%d]".formatted(i), items.get(i)));
    }
    return input.messages;
  }

  private void item(Fields item) {
    item.text("id"); // of an answer, sent back
    item.text("status");
    switch (item.text("type", "message")) {
      case "message" -> message(item);
      case "reasoning" -> {
        think(texts(item, CONTENT, "reasoning_text"));
        item.ignore("summary", "encrypted_content"); // the thoughts themselves count
      }
      case "function_call" -> call(item);
      case "function_call_output" -> {
        String of = item.requiredText("call_id");
        if (!called.contains(of)) {
          throw ApiException.invalid(
              item.place("call_id"),
              "%s is '%s', of which no function_call stands before; send the call, too"
                  .formatted(item.place("call_id"), Printable.brief(of, LONGEST_ID)));
        }
        say("tool", texts(item, "output", "input_text")).put("tool_call_id", of);
      }
      case "item_reference" ->
          throw ApiException.invalid(
              item.place("type"),
              "%s refers to an earlier item, and nothing is stored; send the item itself"
                  .formatted(item.place()));
      case String other ->
          throw Fields.wrong(
              item.place("type"),
              other,
              "message, reasoning, function_call or function_call_output");
    }
    item.requireAllKnown();
  }

  private void message(Fields item) {
    String role = item.requiredText("role");
    item.text("phase");
    switch (role) {
      case "user" -> say(role, texts(item, CONTENT, "input_text"));
      case "system", "developer" -> say("system", texts(item, CONTENT, "input_text"));
      case "assistant" -> {
        String text = texts(item, CONTENT, "output_text");
        var own = answer;
        if (own == null || own.containsKey(CALLS) || !"".equals(own.get(CONTENT))) {
          own = begin();
        }
        own.put(CONTENT, text);
      }
      default ->
          throw Fields.wrong(item.place("role"), role, "system, developer, user or assistant");
    }
  }

  private Map<String, @Nullable Object> say(String role, String text) {
    answer = null;
    var last = messages.isEmpty() ? null : messages.getLast();
    if (role.equals("system")
        && last != null
        && messages.size() == 1
        && "system".equals(last.get("role"))) {
      last.put(CONTENT, last.get(CONTENT) + "\n\n" + text);
      return last;
    }
    Map<String, @Nullable Object> message = new LinkedHashMap<>();
    message.put("role", role);
    message.put(CONTENT, text);
    messages.add(message);
    return message;
  }

  private Map<String, @Nullable Object> begin() {
    var begun = say("assistant", "");
    answer = begun;
    calls = new ArrayList<>();
    return begun;
  }

  private void think(String thoughts) {
    var own = begin();
    if (!thoughts.isEmpty()) {
      own.put(THOUGHTS, thoughts);
      own.put("thinking", thoughts);
    }
  }

  private void call(Fields item) {
    Map<String, @Nullable Object> function = new LinkedHashMap<>();
    function.put("name", item.requiredText("name"));
    function.put("arguments", ChatRequest.arguments(item));
    Map<String, @Nullable Object> call = new LinkedHashMap<>();
    String id = item.requiredText("call_id");
    called.add(id);
    call.put("id", id);
    call.put("type", "function");
    call.put("function", function);
    var own = answer == null ? begin() : answer;
    calls.add(call);
    own.put(CALLS, calls);
  }

  /// A string, or the texts of parts.
  private static String texts(Fields item, String name, String kind) {
    JsonNode node = item.node(name);
    if (node == null) {
      return "";
    }
    if (node.isString()) {
      return node.stringValue();
    }
    var texts = new ArrayList<String>();
    var parts = item.list(name, MOST_PARTS);
    for (int i = 0; i < parts.size(); i++) {
      var part = item.object("%s[%d]".formatted(item.place(name), i), parts.get(i));
      String type = part.requiredText("type");
      if (!type.equals(kind)) {
        throw Fields.wrong(part.place("type"), type, kind + ", as the model reads nothing else");
      }
      texts.add(part.requiredText("text"));
      part.node("annotations"); // of an answer, sent back
      part.node("logprobs");
      part.requireAllKnown();
    }
    return String.join("\n", texts);
  }
}
