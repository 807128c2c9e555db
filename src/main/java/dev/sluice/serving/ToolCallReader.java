package dev.sluice.serving;

import dev.sluice.files.JsonFile;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.core.JsonToken;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.JsonNodeType;
import tools.jackson.databind.node.ObjectNode;

/// Finds the calls of tools in an answer as it comes piece by piece. Two forms are known, both
/// between `<tool_call>` and `</tool_call>`: a JSON object with `name` and `arguments` (Qwen3), and
/// `<function=NAME>` with a `<parameter=NAME>` for each argument (Qwen3-Coder, Qwen3.5), whose
/// values are text that the tool's schema gives types: where a string is allowed, or the schema
/// does not say, a value stays text, but for `null` where it allows both by name; else it is read
/// as JSON, or as Python's `True`, `False` and `None`.
///
/// Marks within a string of JSON are a part of it. A value between tags ends where the next tag
/// follows, so that one may hold `</parameter>`. Arguments are told as the model wrote them.
///
/// What is no call of a tool that there is stays text: also a call that never ends.
public final class ToolCallReader {
  /// Begins a call.
  static final String BEGIN = "<tool_call>";

  static final String END = "</tool_call>";
  static final String FUNCTION = "<function=";
  private static final String FUNCTION_END = "</function>";

  /// The tags of a call but for its first one, and its end.
  private static final Pattern TAG = Pattern.compile("<parameter=|</function>|</tool_call>");

  private static final Pattern VALUE_END =
      Pattern.compile("</parameter>(?=\\s*(?:" + TAG.pattern() + "))");

  private static final Pattern CALL_END = Pattern.compile(FUNCTION_END + "\\s*" + END);

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
  private int looked; // so far in a call that had not ended there

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
    looked = 0;
  }

  private boolean call() {
    // All that ends something ends so: to look at every piece anew takes long with a long value.
    if (held.indexOf(">", looked) < 0 || held.indexOf(END) < 0) {
      looked = held.length();
      return false;
    }
    var ended = ended();
    looked = ended == null ? held.length() : 0;
    if (ended == null) {
      return false;
    }
    if (ended.call == null) {
      int length = blanks.length() + ended.end;
      keepBlanks();
      give(length);
    } else {
      calling = false;
      called = true;
      blanks = "";
      held.delete(0, ended.end);
      listener.onCall(ended.call.name, ended.call.arguments);
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

  /// What was held as a call and has ended.
  ///
  /// @param call null where it is none
  /// @param end behind its mark
  private record Ended(@Nullable Call call, int end) {}

  /// The call that is held; null while it goes on.
  private @Nullable Ended ended() {
    int begin = BEGIN.length();
    while (Character.isWhitespace(held.charAt(begin))) {
      begin++; // up to a mark, which there is
    }
    if (held.indexOf(FUNCTION, begin) == begin) {
      return ofTags(begin + FUNCTION.length());
    }
    int end = held.charAt(begin) == '{' ? outsideStrings(begin) : held.indexOf(END);
    return end < 0
        ? null
        : new Ended(ofJson(held.substring(begin, end).strip()), end + END.length());
  }

  /// Where the first mark of an end stands that is no part of a string of JSON; the first one of
  /// all where it is no JSON, and −1 where there is none yet.
  private int outsideStrings(int begin) {
    boolean isString = false;
    boolean isEscaped = false;
    for (int i = begin; i < held.length(); i++) {
      char c = held.charAt(i);
      if (isString && c < ' ') {
        return held.indexOf(END);
      }
      if (isEscaped) {
        isEscaped = false;
      } else if (isString && c == '\\') {
        isEscaped = true;
      } else if (c == '"') {
        isString = !isString;
      } else if (!isString && c == '<' && isAt(END, i)) {
        return i;
      }
    }
    return -1;
  }

  private boolean isAt(String mark, int place) {
    int end = place + mark.length();
    return end <= held.length() && mark.contentEquals(held.subSequence(place, end));
  }

  private @Nullable Tool tool(String name) {
    return tools.stream().filter(tool -> tool.name().equals(name)).findFirst().orElse(null);
  }

  private @Nullable Call ofJson(String text) {
    if (!(json(text) instanceof ObjectNode call) || !call.path("name").isString()) {
      return null;
    }
    var tool = tool(call.path("name").stringValue());
    if (tool == null) {
      return null;
    }
    // Some models call them parameters, as the tool's description does.
    String key = call.hasNonNull("arguments") ? "arguments" : "parameters";
    JsonNode given = call.path(key);
    // A model may write them as clients do.
    String arguments = given.isString() ? given.stringValue().strip() : source(text, key);
    if (given.isMissingNode() || given.isNull() || arguments.isEmpty()) {
      return new ToolParameters(tool.parameters()).areNone() ? new Call(tool.name(), "{}") : null;
    }
    return json(arguments) instanceof ObjectNode ? new Call(tool.name(), arguments) : null;
  }

  /// A member of a JSON object as it is written there; empty where there is none.
  private static String source(String object, String key) {
    try (var parser = JSON.createParser(object)) {
      parser.nextToken();
      while (parser.nextToken() == JsonToken.PROPERTY_NAME) {
        boolean isIt = parser.currentName().equals(key);
        parser.nextToken();
        int begin = Math.toIntExact(parser.currentTokenLocation().getCharOffset());
        parser.skipChildren();
        if (isIt) {
          int end = Math.toIntExact(parser.currentLocation().getCharOffset());
          return object.substring(begin, end);
        }
      }
      return "";
    }
  }

  /// @param from behind the first tag's beginning
  private @Nullable Ended ofTags(int from) {
    int nameEnd = held.indexOf(">", from);
    var tool = tool(held.substring(from, nameEnd).strip()); // there is one in the mark that ends
    Map<String, String> values = new LinkedHashMap<>();
    var tag = TAG.matcher(held);
    var valueEnd = VALUE_END.matcher(held);
    var callEnd = CALL_END.matcher(held);
    int at = from;
    while (tag.find(at)) {
      at = tag.end();
      switch (tag.group()) {
        case END -> {
          return new Ended(null, at);
        }
        case FUNCTION_END -> {
          int end = held.indexOf(END, at);
          return end < 0
              ? null
              : new Ended(tool == null ? null : call(tool, values), end + END.length());
        }
        default -> {
          int parameterEnd = held.indexOf(">", at);
          boolean isEnded = valueEnd.find(at);
          if (callEnd.find(at) && (!isEnded || callEnd.start() < valueEnd.start())) {
            return new Ended(null, callEnd.end()); // within a value, which has no end of its own
          }
          if (!isEnded) {
            return null;
          }
          if (parameterEnd < 0 || parameterEnd > valueEnd.start()) {
            tool = null; // a tag that does not end
          } else {
            values.put(
                held.substring(at, parameterEnd).strip(),
                withoutFrame(held.substring(parameterEnd + 1, valueEnd.start())));
          }
          at = valueEnd.end();
        }
      }
    }
    return null;
  }

  private static Call call(Tool tool, Map<String, String> values) {
    var parameters = new ToolParameters(tool.parameters());
    return new Call(
        tool.name(),
        values.entrySet().stream()
            .map(
                value ->
                    quoted(value.getKey())
                        + ":"
                        + typed(parameters.types(value.getKey()), value.getValue()))
            .collect(Collectors.joining(",", "{", "}")));
  }

  /// Without the line break that the form has at either end of a value.
  private static String withoutFrame(String value) {
    int begin = value.startsWith("\n") ? 1 : 0;
    int end = value.length() > begin && value.endsWith("\n") ? value.length() - 1 : value.length();
    return value.substring(begin, end);
  }

  /// What a value between tags is as JSON. One that may be a string has no marks there that tell
  /// whether it is one, so it is, also where it looks like a number.
  private static String typed(Set<JsonNodeType> types, String value) {
    String stripped = value.strip();
    boolean mayBeNull = types.contains(JsonNodeType.NULL) && !types.equals(ToolParameters.ANY);
    if (types.contains(JsonNodeType.STRING) && !(mayBeNull && stripped.equals("null"))) {
      return quoted(value);
    }
    String json =
        switch (stripped) {
          case "True" -> "true";
          case "False" -> "false";
          case "None" -> "null";
          default -> stripped;
        };
    return json(json) == null ? quoted(value) : json;
  }

  private static String quoted(String text) {
    return JSON.getNodeFactory().stringNode(text).toString();
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
