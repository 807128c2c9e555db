package dev.sluice.template;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// What a template is given: values are maps with strings as keys, lists, strings, numbers,
/// booleans and null, as in the requests of chat services.
///
/// The `arguments` of a tool call may be a string of JSON, as clients send them; templates are
/// given the object that it holds.
///
/// @param messages each with its `role`, at least one
/// @param tools in JSON schema; null is none, which differs from an empty list for templates that
///   ask
/// @param variables what the template knows besides, such as `enable_thinking`
public record Conversation(
    List<Map<String, Object>> messages,
    @Nullable List<?> tools,
    Ending ending,
    Map<String, ?> variables) {
  /// What the model is to do behind the text.
  public enum Ending {
    /// Nothing: the text is that of a whole conversation.
    CLOSED,
    /// Begin an answer, whose head is written (`add_generation_prompt`).
    GENERATION_PROMPT,
    /// Go on with the last message, whose end is not written (`continue_final_message`).
    CONTINUED_MESSAGE
  }

  private static final Set<String> TAKEN = Set.of("messages", "tools", "add_generation_prompt");

  private static final JsonMapper JSON = JsonFile.mapper().build();

  /// @throws InvalidInputException if there is no message, or arguments of a tool call are no JSON
  ///   object
  public Conversation {
    if (messages.isEmpty()) {
      throw new InvalidInputException("the conversation has no message; give at least one");
    }
    for (String name : variables.keySet()) {
      if (TAKEN.contains(name)) {
        throw new InvalidInputException(
            "the template's variable '%s' is set by the conversation itself; leave it out"
                .formatted(name));
      }
    }
    var withArguments = new ArrayList<Map<String, Object>>();
    for (int i = 0; i < messages.size(); i++) {
      withArguments.add(withArguments(messages.get(i), "messages[%d]".formatted(i)));
    }
    messages = withArguments;
  }

  private static Map<String, Object> withArguments(Map<String, Object> message, String place) {
    if (!(message.get("tool_calls") instanceof List<?> calls)) {
      return message;
    }
    var changed = new ArrayList<@Nullable Object>();
    for (int i = 0; i < calls.size(); i++) {
      String where = "%s.tool_calls[%d]".formatted(place, i);
      Object call = calls.get(i);
      if (call instanceof Map<?, ?> map) {
        call = replaced(map, "arguments", where);
        if (map.get("function") instanceof Map<?, ?> function) {
          call = with(map, "function", replaced(function, "arguments", where + ".function"));
        }
      }
      changed.add(call);
    }
    @SuppressWarnings("unchecked")
    var result = (Map<String, Object>) with(message, "tool_calls", changed);
    return result;
  }

  private static Map<?, ?> replaced(Map<?, ?> map, String key, String place) {
    return map.get(key) instanceof String text
        ? with(map, key, arguments(text, place + "." + key))
        : map;
  }

  private static Map<?, ?> with(Map<?, ?> map, Object key, Object value) {
    var changed = new LinkedHashMap<@Nullable Object, @Nullable Object>(map);
    changed.put(key, value);
    return changed;
  }

  /// No text at all is no argument at all.
  private static Object arguments(String text, String place) {
    if (text.isBlank()) {
      return Map.of();
    }
    try {
      if (JSON.readTree(text) instanceof ObjectNode object) {
        return object(object);
      }
    } catch (JacksonException e) {
      throw JsonFile.notJson(place, text, e, "give a JSON object");
    }
    throw new InvalidInputException("%s is not a JSON object; give one".formatted(place));
  }

  /// A tree of JSON as the values that a conversation has.
  public static @Nullable Object plain(JsonNode node) {
    return switch (node.getNodeType()) {
      case OBJECT -> object(node);
      case ARRAY -> {
        var list = new ArrayList<@Nullable Object>();
        node.forEach(child -> list.add(plain(child)));
        yield list;
      }
      case STRING -> node.stringValue();
      case BOOLEAN -> node.booleanValue();
      case NUMBER -> node.isIntegralNumber() ? node.bigIntegerValue() : node.doubleValue();
      default -> null;
    };
  }

  private static Map<String, @Nullable Object> object(JsonNode node) {
    var map = new LinkedHashMap<String, @Nullable Object>();
    node.forEachEntry((name, child) -> map.put(name, plain(child)));
    return map;
  }
}
