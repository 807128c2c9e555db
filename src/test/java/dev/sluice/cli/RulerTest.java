package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.JsonFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RulerTest {
  @TempDir private static Path folder;
  private static Path model = Path.of("");

  @TempDir private Path output;

  @BeforeAll
  static void train() throws IOException {
    model = folder.resolve("run");
    Cli.run(
            Cli.tiny(
                Cli.text(folder.resolve("text.txt")),
                model,
                "--sequence-length",
                1100,
                "--batch-size",
                1,
                "--steps",
                1))
        .succeeded();
  }

  @Test
  void answersAreKeptAndModelsCompared() throws IOException {
    Object[] command = {
      "ruler",
      model,
      model.resolve("checkpoints/step-00000001"),
      "--lengths",
      "1k",
      "--tasks",
      "niah_single_1,fwe,niah_single_2",
      "--samples",
      2,
      "--device",
      "cpu",
      "--output",
      output,
      "--json",
      output.resolve("all.json")
    };
    var first = Cli.run(command).succeeded();
    assertTrue(first.err().contains("niah_single_2 does not fit into 1024 tokens"), first.err());
    assertTrue(first.out().contains("niah_single_1"), first.out());
    var lines = Files.readAllLines(output.resolve("answers.jsonl"));
    assertEquals(4, lines.size(), "the second model is the first one"); // two tasks, two samples
    var json = JsonFile.object(output.resolve("all.json"), JsonFile.SMALL, "");
    var score = json.path("models").path(1).path("scores").path(0);
    assertEquals("niah_single_1", score.path("task").asString());
    assertEquals(2, score.path("samples").asInt());
    assertEquals(0, score.path("minus_first").asDouble(1));
    assertTrue(score.path("mean_length").asDouble() <= 1024);
    assertFalse(json.path("manifest").path("config").path("made_of").isEmpty());
    assertTrue(Files.readString(output.resolve("report.html")).contains("Needles by length"));

    // Killed while it wrote the third answer.
    Files.writeString(
        output.resolve("answers.jsonl"),
        lines.get(0) + "\n" + lines.get(1) + "\n" + lines.get(2).substring(0, 40));
    Cli.run(command).succeeded();
    var again = Files.readAllLines(output.resolve("answers.jsonl"));
    assertEquals(4, again.size());
    assertEquals(lines.subList(0, 2), again.subList(0, 2));
  }

  @Test
  void promptsAreReadFromFiles() throws IOException {
    Path prompts = output.resolve("512.jsonl");
    Files.writeString(
        prompts,
        """
        {"task": "vt", "index": 0, "input": "VAR A = 1", "outputs": ["A", ""], "length": 50, \
        "length_w_model_temp": 50, "answer_prefix": " Answer:"}
        """);
    var answer =
        Cli.run("ruler", model, "--prompts", prompts, "--device", "cpu", "--output", output)
            .succeeded();
    assertTrue(answer.out().contains("vt"), answer.out());
  }

  /// As generate does, and as lm-evaluation-harness has the tokenizer do.
  @Test
  void promptsOfForeignModelsBeginWithTheirStartToken() throws IOException {
    Path own = output.resolve("own");
    Cli.run(
            Cli.tiny(
                Cli.text(output.resolve("text.txt")),
                own,
                "--tokenizer",
                "src/test/resources/dev/sluice/tokenizer/tokenizer.json",
                "--context",
                512,
                "--steps",
                1))
        .succeeded();
    Path checkpoint = own.resolve("checkpoints/step-00000001");
    Path foreign = Files.createDirectory(output.resolve("foreign")); // nothing says who trained it
    for (var file : List.of("config.json", "model.safetensors", "tokenizer.json")) {
      Files.copy(checkpoint.resolve(file), foreign.resolve(file));
    }
    Path prompts = output.resolve("512.jsonl");
    Files.writeString(
        prompts,
        """
        {"task": "vt", "index": 0, "input": "VAR A = 1", "outputs": ["A"], "length": 50, \
        "length_w_model_temp": 50, "answer_prefix": " A:"}
        """);
    assertEquals(promptTokens(prompts, own) + 1, promptTokens(prompts, foreign));
  }

  private int promptTokens(Path prompts, Path checkpoint) throws IOException {
    Path answers = output.resolve("of-" + checkpoint.getFileName());
    Cli.run("ruler", checkpoint, "--prompts", prompts, "--device", "cpu", "--output", answers)
        .succeeded();
    return JsonFile.object(answers.resolve("answers.jsonl"), JsonFile.SMALL, "")
        .path("prompt_tokens")
        .asInt();
  }

  @Test
  void whatCannotBeAnsweredIsRefused() throws IOException {
    for (var wrong :
        List.of(
            List.of("--lengths", "1000000"),
            List.of("--lengths", "12"),
            List.of("--lengths", "x"),
            List.of("--samples", "0", "--lengths", "512"),
            List.of("--mode", "ruler", "--lengths", "512"),
            List.of("--tasks", "niah", "--lengths", "512"),
            List.of("--tasks", "qa_1", "--lengths", "512"),
            List.of("--prompts", "none.jsonl"),
            List.of("--prompts", "none.jsonl", "--haystack", "b"),
            List.of())) {
      var arguments = new ArrayList<Object>(List.of("ruler", model, "--output", output));
      arguments.addAll(wrong);
      arguments.addAll(List.of("--device", "cpu"));
      Cli.run(arguments.toArray()).refusal();
    }
    var tooLong = Cli.run("ruler", model, "--lengths", "512k", "--output", output).refusal();
    assertTrue(tooLong.contains("sluice extend"), tooLong);
  }
}
