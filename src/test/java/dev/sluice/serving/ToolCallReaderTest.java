package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.chat.AnswerReader;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.json.JsonMapper;

/// Answers with calls of tools, each cut at every place.
class ToolCallReaderTest {
  private static final List<Tool> TOOLS =
      List.of(
          Tool.function(
              "weather",
              "",
              JsonMapper.shared()
                  .readTree(
                      "{\"properties\":{\"city\":{\"type\":\"string\"},\"days\":{\"type\":\"integer\"},"
                          + "\"what\":{\"type\":[\"array\",\"null\"]}}}")),
          Tool.function("time", "", JsonMapper.shared().createObjectNode()),
          Tool.function(
              "typed",
              "",
              JsonMapper.shared()
                  .readTree(
                      """
                      {"$defs": {
                         "Point": {"type": "object", "properties": {"x": {"type": "integer"}}},
                         "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"type": "integer"}]},
                         "a/b": {"items": {"type": "integer"}}},
                       "properties": {
                         "optional": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                         "either": {"oneOf": [{"type": "boolean"}, {"type": "number"}]},
                         "listed": {"type": ["integer", "null"]},
                         "chosen": {"enum": [1, 2, 3]},
                         "constant": {"const": 4},
                         "point": {"$ref": "#/$defs/Point"},
                         "within": {"allOf": [{"$ref": "#/$defs/Point"}]},
                         "loop": {"$ref": "#/$defs/Loop"},
                         "rows": {"$ref": "#/$defs/a~1b"},
                         "self": {"$ref": "#"},
                         "flag": {"type": "boolean"},
                         "word": {"enum": ["1", "2"]},
                         "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                         "lost": {"$ref": "#/$defs/None"},
                         "any": {"description": "of any type"}}}
                      """)));

  /// A call in the form with tags, with one argument.
  private static String typed(String name, String value) {
    return "<tool_call>\n<function=typed>\n<parameter=%s>\n%s\n</parameter>\n</function>\n</tool_call>"
        .formatted(name, value);
  }

  private static Case typed(String name, String value, String json) {
    return new Case(false, typed(name, value), "typed {\"%s\":%s}".formatted(name, json));
  }

  private static List<Case> typesOfArguments() {
    return List.of(
        typed("optional", "5", "5"),
        typed("optional", "null", "null"),
        typed("optional", "None", "null"),
        typed("optional", "five", "\"five\""),
        typed("either", "True", "true"),
        typed("either", "0.1234567890123456789", "0.1234567890123456789"),
        typed("listed", " 5 ", "5"),
        typed("chosen", "2", "2"),
        typed("constant", "4", "4"),
        typed("point", "{\"x\": 1E5}", "{\"x\": 1E5}"),
        typed("within", "{\"x\": 1}", "{\"x\": 1}"),
        typed("loop", "7", "7"),
        typed("rows", "[7]", "[7]"),
        typed("self", "{\"chosen\": 1}", "{\"chosen\": 1}"),
        typed("flag", "False", "false"),
        typed("flag", "maybe", "\"maybe\""),
        // A string is not told from others, so what may be one is one.
        typed("word", "1", "\"1\""),
        typed("note", "12", "\"12\""),
        typed("note", "True", "\"True\""),
        typed("note", "null", "null"),
        // The schema does not say.
        typed("lost", "7", "\"7\""),
        typed("any", "null", "\"null\""),
        typed("other", "7", "\"7\""));
  }

  private static List<Case> marksInCalls() {
    return List.of(
        typed("any", "print(\"</parameter>\")", "\"print(\\\"</parameter>\\\")\""),
        typed("any", "a </function> b </tool_call> c", "\"a </function> b </tool_call> c\""),
        typed("any", "a\n</parameter>\n b", "\"a\\n</parameter>\\n b\""),
        new Case(
            false,
            typed("any", "1</parameter>2") + " and " + typed("note", "3"),
            "typed {\"any\":\"1</parameter>2\"}",
            "text  and",
            "typed {\"note\":\"3\"}"),
        new Case(
            false,
            "<tool_call>\n"
                + "{\"name\": \"weather\", \"arguments\": {\"city\": \"x </tool_call> \\\"y\"}}\n"
                + "</tool_call>!",
            "weather {\"city\": \"x </tool_call> \\\"y\"}",
            "text !"),
        // No JSON, so the first mark ends it.
        new Case(
            false,
            "<tool_call>{\"name\": \"ti</tool_call>\n<tool_call>{\"name\":\"time\"}</tool_call>",
            "text <tool_call>{\"name\": \"ti</tool_call>",
            "time {}"),
        new Case(
            false, "<tool_call>a \"quote</tool_call> b", "text <tool_call>a \"quote</tool_call> b"),
        // Without an end of the function, with a tag that does not end, with a value that does not.
        new Case(
            false,
            "<tool_call><function=typed><parameter=any>1</parameter></tool_call> so",
            "text <tool_call><function=typed><parameter=any>1</parameter></tool_call> so"),
        new Case(
            false,
            "<tool_call><function=typed><parameter=any</parameter></function></tool_call> so",
            "text <tool_call><function=typed><parameter=any</parameter></function></tool_call> so"),
        new Case(
            false,
            "<tool_call><function=typed</tool_call> so",
            "text <tool_call><function=typed</tool_call> so"),
        new Case(
            false,
            "<tool_call><function=typed><parameter=any>1</function>\n</tool_call>"
                + typed("note", "2"),
            "text <tool_call><function=typed><parameter=any>1</function>\n</tool_call>",
            "typed {\"note\":\"2\"}"));
  }

  private static List<Case> argumentsAsWritten() {
    String numbers =
        "{\"id\": 12345678901234567890123,\n \"f\": 0.1234567890123456789, \"e\": 1E5, \"z\": -0}";
    String call = "<tool_call>\n{\"name\": \"%s\", %s}\n</tool_call>";
    String without = call.formatted("weather", "\"arguments\": null");
    return List.of(
        new Case(false, call.formatted("typed", "\"arguments\": " + numbers), "typed " + numbers),
        new Case(
            false,
            call.formatted("typed", "\"parameters\" : {\"chosen\": 1} "),
            "typed {\"chosen\": 1}"),
        new Case(
            false,
            call.formatted("typed", "\"parameters\": {}, \"arguments\": {\"chosen\": 1}"),
            "typed {\"chosen\": 1}"),
        new Case(false, call.formatted("time", "\"arguments\": null"), "time {}"),
        new Case(false, call.formatted("time", "\"arguments\": \"\""), "time {}"),
        // Arguments that are missing are not guessed.
        new Case(false, without, "text " + without),
        new Case(
            false,
            call.formatted("typed", "\"arguments\": {\"chosen\": 1, \"chosen\": 2}"),
            "text " + call.formatted("typed", "\"arguments\": {\"chosen\": 1, \"chosen\": 2}")));
  }

  /// @param thinks whether the prompt has opened thoughts
  /// @param said thoughts, texts and calls, in order
  private record Case(boolean thinks, String answer, List<String> said) {
    Case(boolean thinks, String answer, String... said) {
      this(thinks, answer, List.of(said));
    }
  }

  private static List<Case> cases() {
    String call = "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
    return List.of(
        new Case(false, "plain < text <tool", "text plain < text <tool"),
        new Case(false, call, "time {}"),
        new Case(
            false, "I ask.\n\n" + call + "\n" + call + "\n", "text I ask.", "time {}", "time {}"),
        new Case(
            false,
            "<tool_call>{\"arguments\":{\"city\":\"a</b>\\n"
                + "\"},\"name\":\"weather\"}</tool_call> so",
            "weather {\"city\":\"a</b>\\n\"}",
            "text  so"),
        new Case(
            false,
            "<tool_call>{\"name\":\"time\",\"arguments\":\"{\\\"a\\\": 1}\"}</tool_call>",
            "time {\"a\": 1}"),
        new Case(true, "hm\n</think>\n\n" + call, "thought hm", "time {}"),
        // The model forgets to end its thoughts.
        new Case(true, "hm, I call\n" + call, "thought hm, I call", "time {}"),
        new Case(false, "<think>\nhm " + call, "thought hm", "time {}"),
        new Case(
            false,
            "<tool_call>\n<function=weather>\n<parameter=days>\n3\n</parameter>\n"
                + "<parameter=city>\n12 <b>\nX\n</parameter>\n<parameter=what>\n[1]\n</parameter>\n"
                + "<parameter=other>\n7\n</parameter>\n</function>\n</tool_call>",
            "weather {\"days\":3,\"city\":\"12 <b>\\nX\",\"what\":[1],\"other\":\"7\"}"),
        new Case(
            false,
            "<tool_call><function=weather><parameter=days>many</parameter></function></tool_call>",
            "weather {\"days\":\"many\"}"),
        new Case(false, "<tool_call><function=time></function></tool_call>", "time {}"),
        // No call of a tool that there is.
        new Case(
            false,
            "<tool_call>{\"name\":\"sing\"}</tool_call>",
            "text <tool_call>{\"name\":\"sing\"}</tool_call>"),
        new Case(
            false, "<tool_call>{\"name\":</tool_call>", "text <tool_call>{\"name\":</tool_call>"),
        new Case(
            false,
            "<tool_call><function=weather><parameter=city>a</function></tool_call>",
            "text <tool_call><function=weather><parameter=city>a</function></tool_call>"),
        new Case(
            false, "so\n<tool_call>{}</tool_call>\n.", "text so\n<tool_call>{}</tool_call>\n."),
        // One that never ends.
        new Case(
            false, "so <tool_call>{\"name\":\"time\",", "text so <tool_call>{\"name\":\"time\","));
  }

  /// Neighbours of one kind together.
  private static List<String> said(Case each, int cut) {
    var said = new ArrayList<String>();
    var calls =
        new ToolCallReader(
            TOOLS,
            new ToolCallReader.Listener() {
              @Override
              public void onText(String piece) {
                add(said, "text ", piece);
              }

              @Override
              public void onCall(String name, String arguments) {
                said.add(name + " " + arguments);
              }
            });
    var reader =
        new AnswerReader(
            each.thinks,
            ToolCallReader.BEGIN,
            (part, piece) -> {
              switch (part) {
                case THINKING -> add(said, "thought ", piece);
                case ANSWER -> calls.add(piece);
              }
            });
    reader.add(each.answer.substring(0, cut));
    for (char c : each.answer.substring(cut).toCharArray()) {
      reader.add(String.valueOf(c));
    }
    reader.finish();
    calls.finish();
    return said;
  }

  private static void add(List<String> said, String kind, String piece) {
    if (!said.isEmpty() && said.getLast().startsWith(kind)) {
      said.add(said.removeLast() + piece);
    } else {
      said.add(kind + piece);
    }
  }

  @ParameterizedTest
  @MethodSource({"cases", "typesOfArguments", "marksInCalls", "argumentsAsWritten"})
  void callsAreFoundWhereverTheAnswerIsCut(Case each) {
    for (int cut = 0; cut <= each.answer.length(); cut++) {
      int at = cut;
      assertEquals(each.said, said(each, cut), () -> "cut at " + at);
    }
  }
}
