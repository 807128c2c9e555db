package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.generation.Generation;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

/// What becomes of the tokens of an answer, whatever model they are from.
class AnswerTextTest {
  private static final List<Tool> TOOLS =
      List.of(Tool.function("add", "", JsonMapper.shared().createObjectNode()));
  private static final String ONE =
      "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
  private static final String CALL = "add {\"a\": 1}";

  private static TextModel model;

  @BeforeAll
  static void open() throws Exception {
    model = TextModel.open(Path.of("samples/tiny-chat"));
  }

  @AfterAll
  static void close() {
    model.close();
  }

  /// Hears it, with neighbours of one kind together.
  private static final class Said implements AnswerText.Listener {
    private final List<String> parts = new ArrayList<>();
    private boolean isText;

    @Override
    public void onText(String piece) {
      parts.add(isText ? parts.removeLast() + piece : piece);
      isText = true;
    }

    @Override
    public void onCall(String name, String arguments) {
      parts.add(name + " " + arguments);
      isText = false;
    }
  }

  private static AnswerText reader(Said said, List<Tool> tools, String... stops) {
    return new AnswerText(model.known(), List.of(stops), false, tools, false, said);
  }

  /// Gives tokens up to the end of a text, or until no more is wanted.
  private static void read(AnswerText reader, String text) {
    for (int token : model.known().tokenizer().encode(text)) {
      if (!reader.hasEnded()) {
        reader.add(token);
      }
    }
  }

  private static List<String> said(List<Tool> tools, String text, String... stops) {
    var said = new Said();
    var reader = reader(said, tools, stops);
    read(reader, text);
    reader.finish();
    return said.parts;
  }

  @Test
  void stopStringsDoNotCountInCalls() {
    assertEquals(List.of(CALL), said(TOOLS, ONE, "\n"));
    assertEquals(List.of(CALL), said(TOOLS, ONE, "}"));
    assertEquals(List.of("Sure.", CALL, CALL), said(TOOLS, "Sure.\n" + ONE + ONE, "\n", "}"));
    assertEquals(List.of("Sure.", CALL, " so "), said(TOOLS, "Sure. " + ONE + " so it", "it"));
    assertEquals(List.of("Su"), said(TOOLS, "Sure. " + ONE, "re"));
    // What may become a stop string stands before the call, and does not become one behind it.
    assertEquals(List.of("Sure. i", CALL, "t"), said(TOOLS, "Sure. i" + ONE + "t", "it"));
    // What is no call is text.
    assertEquals(List.of("<tool_call>{"), said(TOOLS, "<tool_call>{}</tool_call>", "}"));
    assertEquals(List.of(ONE.substring(0, ONE.indexOf('}'))), said(List.of(), ONE, "}"));
  }

  @Test
  void whatIsCutOffIsToldBeforeWhatWasCalled() {
    var said = new Said();
    var reader = reader(said, TOOLS);
    read(reader, ONE + "\n" + ONE.substring(0, 40));
    reader.finish();
    assertEquals(CALL, said.parts.getFirst());
    assertEquals(Answer.Ending.LENGTH, reader.ending(Generation.Ending.LENGTH));
    assertEquals(Answer.Ending.CALLS, reader.ending(Generation.Ending.STOP_TOKEN));
    // Nothing is cut off where no more is wanted.
    var single = new AnswerText(model.known(), List.of(), false, TOOLS, true, new Said());
    read(single, "no call");
    assertFalse(single.hasEnded());
    assertEquals(Answer.Ending.STOP, single.ending(Generation.Ending.STOP_TOKEN));
    read(single, ONE);
    assertTrue(single.hasEnded());
    assertEquals(Answer.Ending.CALLS, single.ending(Generation.Ending.LENGTH));
  }
}
