package dev.sluice.serving;

import dev.sluice.files.JsonFile;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Finds the calls of tools in an answer as it comes piece by piece. Two forms are known, both
/// between `<tool_call>` and `</tool_call>`: a JSON object with `name` and `arguments` (Qwen3), and
/// `<function=NAME>` with a `<parameter=NAME>` for each argument (Qwen3-Coder, Qwen3.5), whose
/// values are text that the tool's schema gives types.
///
/// What is no call of a tool that there is stays text: also a call that never ends.
public final class ToolCallReader {
  /// Begins a call.
  static final String BEGIN = "<tool_call>";

  static final String END = "</tool_call>";
  static final String FUNCTION = "<function=";
  private static final String FUNCTION_END = "</function>";
  private static final String PARAMETER = "<parameter=";
  private static final String PARAMETER_END = "</parameter>";

  private static final JsonMapper JSON = JsonFile.mapper().build();

  /// Hears of each part as soon as it is sure.
  public interface Listener {
    /// @param piece of text, never empty
    void onText(String piece);

    /// @param arguments a JSON object
    void onCall(String name, String arguments);
  }

  private final List<Tool> tools;
  private final Listener listener;
  private final StringBuilder held = new StringBuilder();
  private String blanks = ""; // before the call that is held
  private boolean calling;
  private boolean called;

  public ToolCallReader(List<Tool> tools, Listener listener) {
    this.tools = List.copyOf(tools);
    this.listener = listener;
  }

  /// Takes the next piece of the answer.
  public void add(String piece) {
    held.append(piece);
    boolean again = true;
    while (again) {
      again = calling ? call() : text();
    }
  }

  /// Gives what is still held back, as no more text comes.
  public void finish() {
    keepBlanks();
    if (!called || !held.toString().isBlank()) {
      give(held.length());
    }
    held.setLength(0);
  }

  private boolean text() {
    int begin = held.indexOf(BEGIN);
    int sure = begin >= 0 ? begin : held.length() - begun();
    while (sure > 0 && Character.isWhitespace(held.charAt(sure - 1))) {
      sure--; // blanks before a call are no text
    }
    give(sure);
    if (begin < 0) {
      return false;
    }
    blanks = held.substring(0, held.indexOf(BEGIN));
    held.delete(0, blanks.length());
    calling = true;
    return true;
  }

  /// What was taken for a call is text, with the blanks before it.
  private void keepBlanks() {
    held.insert(0, blanks);
    blanks = "";
    calling = false;
  }

  private boolean call() {
    int end = held.indexOf(END);
    if (end < 0) {
      return false;
    }
    var call = parsed(held.substring(BEGIN.length(), end).strip());
    if (call == null) {
      int length = blanks.length() + end + END.length();
      keepBlanks();
      give(length);
    } else {
      calling = false;
      called = true;
      blanks = "";
      held.delete(0, end + END.length());
      listener.onCall(call.name, call.arguments);
    }
    return true;
  }

  private void give(int length) {
    if (length > 0) {
      String piece = held.substring(0, length);
      held.delete(0, length);
      listener.onText(piece);
    }
  }

  /// Characters at the end that may begin a call.
  private int begun() {
    for (int length = Math.min(BEGIN.length() - 1, held.length()); length > 0; length--) {
      if (BEGIN.startsWith(held.substring(held.length() - length))) {
        return length;
      }
    }
    return 0;
  }

  private record Call(String name, String arguments) {}

  private @Nullable Call parsed(String text) {
    return text.startsWith(FUNCTION) ? ofTags(text) : ofJson(text);
  }

  private @Nullable Tool tool(String name) {
    return tools.stream().filter(tool -> tool.name().equals(name)).findFirst().orElse(null);
  }

  private @Nullable Call ofJson(String text) {
    if (!(json(text) instanceof ObjectNode call)
        || !call.path("name").isString()
        || tool(call.path("name").stringValue()) == null) {
      return null;
    }
    JsonNode arguments = call.path("arguments");
    if (arguments.isString()) { // a model may write them as clients do
      arguments = json(arguments.stringValue());
    }
    if (arguments == null || arguments.isMissingNode() || arguments.isNull()) {
      return new Call(call.path("name").stringValue(), "{}");
    }
    return arguments.isObject()
        ? new Call(call.path("name").stringValue(), arguments.toString())
        : null;
  }

  private @Nullable Call ofTags(String text) {
    int nameEnd = text.indexOf('>');
    int end = text.lastIndexOf(FUNCTION_END);
    if (nameEnd < 0 || end < nameEnd) {
      return null;
    }
    var tool = tool(text.substring(FUNCTION.length(), nameEnd).strip());
    if (tool == null) {
      return null;
    }
    ObjectNode arguments = JSON.createObjectNode();
    int at = text.indexOf(PARAMETER, nameEnd);
    while (at >= 0 && at < end) {
      int parameterEnd = text.indexOf('>', at);
      int valueEnd = text.indexOf(PARAMETER_END, at);
      if (parameterEnd < 0 || valueEnd < parameterEnd) {
        return null;
      }
      String name = text.substring(at + PARAMETER.length(), parameterEnd).strip();
      String value = text.substring(parameterEnd + 1, valueEnd);
      arguments.set(name, typed(tool, name, withoutFrame(value)));
      at = text.indexOf(PARAMETER, valueEnd);
    }
    return new Call(tool.name(), arguments.toString());
  }

  /// Without the line break that the form has at either end of a value.
  private static String withoutFrame(String value) {
    int begin = value.startsWith("\n") ? 1 : 0;
    int end = value.length() > begin && value.endsWith("\n") ? value.length() - 1 : value.length();
    return value.substring(begin, end);
  }

  /// A string stays as it is, also one that looks like a number, where the schema wants a string or
  /// does not know better.
  private static JsonNode typed(Tool tool, String name, String value) {
    JsonNode type = tool.parameters().path("properties").path(name).path("type");
    boolean mayBeText =
        type.isMissingNode()
            || (type.isArray()
                ? type.valueStream().anyMatch(each -> each.asString("").equals("string"))
                : type.asString("").equals("string"));
    JsonNode parsed = mayBeText ? null : json(value);
    return parsed == null ? JSON.getNodeFactory().stringNode(value) : parsed;
  }

  private static @Nullable JsonNode json(String text) {
    try {
      JsonNode node = JSON.readTree(text);
      return node.isMissingNode() ? null : node;
    } catch (JacksonException _) {
      return null;
    }
  }
}
