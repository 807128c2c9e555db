package dev.sluice.ruler;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.files.JsonFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class PromptFilesTest {
  private static final String GOOD =
      """
      {"index": 873, "input": "Lamps: 12.", "outputs": ["12", "twelve"], "length": 140, \
      "length_w_model_temp": 150, "answer_prefix": " They are", "token_position_answer": 3}
      """;

  @TempDir private Path folder;

  private Path file(String name, String text) throws IOException {
    Path file = folder.resolve(name);
    Files.createDirectories(file.getParent());
    return Files.writeString(file, text);
  }

  @Test
  void everyFieldIsReadAndTheLineIsTheIdentity() throws IOException {
    file("4096/data/niah_single_1/validation.jsonl", GOOD + GOOD);
    file("4096/data/vt/validation.jsonl", GOOD.replace("{", "{\"others\": {}, "));
    var files = PromptFiles.read(folder, RulerMode.NVIDIA, null);
    assertEquals(3, files.samples().size());
    assertEquals(List.of("Fields that are not read: [others]."), files.notes());
    assertEquals(
        new Sample(
            RulerTask.NIAH_SINGLE_1,
            4096,
            1,
            873,
            "Lamps: 12. They are",
            "Lamps: 12.",
            " They are",
            List.of("12", "twelve"),
            140,
            150,
            3),
        files.samples().get(1));
    assertEquals(RulerTask.VT, files.samples().get(2).task());
  }

  @Test
  void thePortsPromptsAreJoinedAsItDoes() throws IOException {
    String row =
        """
        {"task": "%s", "max_length": 512, "input": "A", "gen_prefix": "B", "outputs": ["a"], \
        "length": 9}
        """;
    Path file = file("all.jsonl", row.formatted("ruler_vt") + row.formatted("ruler_cwe"));
    var samples = PromptFiles.read(file, RulerMode.LM_EVAL, null).samples();
    assertEquals("A B", samples.get(0).prompt());
    assertEquals("A\n\nB", samples.get(1).prompt());
  }

  @Test
  void whatIsWrongIsNamedWithItsLine() throws IOException {
    var wrong =
        Map.ofEntries(
            Map.entry("\"outputs\": [\"12\", \"twelve\"]", "\"outputs\": []"),
            Map.entry("\"outputs\"", "\"outs\""),
            Map.entry("[\"12\", \"twelve\"]", "[12]"),
            Map.entry("\"Lamps: 12.\"", "\"\""),
            Map.entry("\"input\"", "\"inputs\""),
            Map.entry("\"answer_prefix\"", "\"gen_prefix\""),
            Map.entry("\"answer_prefix\": \" They are\", ", ""),
            Map.entry("\"length\": 140", "\"length\": \"140\""),
            Map.entry("{\"index\"", "{\"task\": \"niah\", \"index\""),
            Map.entry("\"index\": 873,", "\"index\": 873, \"index\": 874,"),
            Map.entry("{", "["));
    for (var change : wrong.entrySet()) {
      Path file = file("vt/a.jsonl", GOOD + GOOD.replace(change.getKey(), change.getValue()));
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () -> PromptFiles.read(file, RulerMode.NVIDIA, 512),
              change.getValue());
      assertTrue(refusal.getMessage().contains("line 2"), refusal.getMessage());
    }
  }

  @Test
  void whatNoFileSaysMustBeSaid() throws IOException {
    Path file = file("some.jsonl", GOOD);
    assertTrue(refusal(file, 512).contains("does not say its task"));
    Path task = file("cwe.jsonl", GOOD);
    assertTrue(refusal(task, null).contains("does not say the length"));
    assertEquals(
        512, PromptFiles.read(task, RulerMode.NVIDIA, 512).samples().getFirst().maxLength());
    assertTrue(refusal(file("empty.jsonl", "\n"), 512).contains("no prompts"));
    assertTrue(refusal(folder.resolve("none.jsonl"), 512).contains("does not exist"));
  }

  private static String refusal(Path file, Integer length) {
    return assertThrows(
            InvalidInputException.class, () -> PromptFiles.read(file, RulerMode.NVIDIA, length))
        .getMessage();
  }

  @Test
  @Tag("shared")
  void readsWhatTheProgramsWrote() throws IOException {
    var golden = TestData.SHARED.resolve("golden/ruler");
    for (int length : new int[] {512, 1024, 2048, 4096}) {
      Path file = golden.resolve("nvidia/%d.jsonl".formatted(length));
      var samples = PromptFiles.read(file, RulerMode.NVIDIA, null).samples();
      var lines = Files.readAllLines(file);
      assertEquals(lines.size(), samples.size());
      for (int i = 0; i < lines.size(); i++) {
        var row = JsonFile.mapper().build().readTree(lines.get(i));
        var sample = samples.get(i);
        assertEquals(row.path("task").asString(), sample.task().word());
        assertEquals(row.path("max_seq_length").asInt(), sample.maxLength());
        assertEquals(row.path("index").asInt(), sample.index());
        assertEquals(row.path("input").asString(), sample.input());
        assertEquals(row.path("answer_prefix").asString(), sample.answerPrefix());
        assertEquals(row.path("length").asInt(), sample.length());
        assertEquals(row.path("length_w_model_temp").asInt(), sample.lengthWithTemplate());
        assertEquals(row.path("outputs").size(), sample.outputs().size());
        assertEquals(
            row.has("token_position_answer") ? row.path("token_position_answer").asInt() : null,
            sample.tokenPositionOfAnswer());
      }
    }
    // Without its own field prompt, the port's is put together again.
    for (String line : Files.readAllLines(golden.resolve("lm-eval/2048.jsonl"))) {
      var row = JsonFile.mapper().build().readTree(line);
      String shorter = line.replaceFirst("\"prompt\": \"", "\"other\": \"");
      Path file = file("port.jsonl", shorter + "\n");
      assertEquals(
          row.path("prompt").asString(),
          PromptFiles.read(file, RulerMode.LM_EVAL, null).samples().getFirst().prompt());
    }
  }
}
