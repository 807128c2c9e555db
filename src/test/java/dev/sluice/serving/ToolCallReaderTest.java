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
          Tool.function("time", "", JsonMapper.shared().createObjectNode()));

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
            "time {\"a\":1}"),
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
  @MethodSource("cases")
  void callsAreFoundWhereverTheAnswerIsCut(Case each) {
    for (int cut = 0; cut <= each.answer.length(); cut++) {
      int at = cut;
      assertEquals(each.said, said(each, cut), () -> "cut at " + at);
    }
  }
}
