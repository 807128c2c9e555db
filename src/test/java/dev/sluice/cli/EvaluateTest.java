package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.MachineProducts;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class EvaluateTest {
  @TempDir static Path directory;
  static Path text;
  static Path run;
  static Path piqa;

  @BeforeAll
  static void train() throws IOException {
    text = Cli.text(directory.resolve("log.txt"));
    run = directory.resolve("run");
    Cli.run(Cli.tiny(text, run, "--gate", "sdpa-headwise")).succeeded();
    text =
        Files.writeString(directory.resolve("short.txt"), Files.readString(text).substring(0, 300));
    piqa = directory.resolve("piqa.jsonl");
    var rows = new StringBuilder();
    for (int i = 0; i < 12; i++) {
      rows.append(
          "{\"goal\": \"Line %d\", \"sol1\": \"of the log\", \"sol2\": \"gol eht %d\", \"label\": %d}\n"
              .formatted(i, i, i % 2));
    }
    Files.writeString(piqa, rows);
  }

  private static JsonNode json(Path file) throws IOException {
    return JsonMapper.shared().readTree(Files.readString(file));
  }

  private static Path answers(Path output, String task) throws IOException {
    return answers(output, task, "-[0-9a-f]{16}\\.jsonl");
  }

  private static Path answers(Path output, String task, String end) throws IOException {
    try (var files = Files.list(output.resolve("answers"))) {
      return files
          .filter(f -> f.getFileName().toString().matches(task + end))
          .findFirst()
          .orElseThrow();
    }
  }

  /// One run: tasks, checkpoints, files; then it is stopped in the middle, and goes on.
  @Test
  void goesOnWhereItWasStopped() throws IOException {
    Path output = directory.resolve("goes-on");
    Path numbers = directory.resolve("numbers.json");
    Object[] command = {
      "evaluate",
      run,
      "--every-checkpoint",
      "--task",
      "piqa=" + piqa,
      "--task",
      "text=" + text,
      "--output",
      output,
      "--json",
      numbers,
      "--device",
      "cpu",
      "--eviction-window",
      8
    };
    var answer = Cli.run(command).succeeded();
    for (String part :
        List.of("run 2", "run 4", "acc_norm", "bits_per_byte", "the first 4 and the last 8")) {
      assertTrue(answer.out().contains(part), answer.out());
    }
    var before = json(numbers);
    assertEquals(2, before.path("models").size());
    var task = before.path("models").path(1).path("tasks").path(0);
    assertEquals(12, task.path("rows").asInt());
    assertTrue(task.path("metrics").path("acc").path("paired").has("mcnemar_p"));
    assertEquals(3, before.path("models").path(0).path("evictions").size());
    String page = Files.readString(output.resolve("report.html"));
    assertTrue(page.contains("Over training"));
    // Half of the answers, and a line that was not finished.
    Path file = answers(output, "piqa");
    var lines = Files.readAllLines(file);
    assertEquals(12, lines.size());
    Files.writeString(
        file, String.join("\n", lines.subList(0, 5)) + "\n" + lines.get(5).substring(0, 20));
    // What stands there is taken: nothing asks it again.
    Path marked = answers(output, "text");
    Files.writeString(
        marked,
        Files.readString(marked)
            .replaceFirst("\"log_?[lL]ikelihood\":-[0-9.]+", "\"logLikelihood\":-1.0"));
    Path evicted = answers(output, "text", "-[0-9a-f]{16}-eviction-8\\.jsonl");
    var losses = Files.readAllLines(evicted);
    Files.writeString(
        evicted,
        losses.getFirst().replaceFirst("\"nats\":[0-9.]+", "\"nats\":1e6")
            + "\n"
            + losses.get(1)
            + "\n"
            + losses.get(2).substring(0, 9));
    Cli.run(command).succeeded();
    assertEquals(12, Files.readAllLines(file).size());
    assertEquals(
        losses.subList(1, losses.size()), Files.readAllLines(evicted).subList(1, losses.size()));
    String kept = Files.readString(evicted);
    Files.writeString(evicted, kept.replaceFirst(",\"nats\":[-0-9.E]+}", "}")); // and not 0 nats
    String refused = Cli.run(command).refusal();
    assertTrue(refused.contains("a line that is no loss"), refused);
    Files.writeString(evicted, kept);
    var after = json(numbers);
    boolean changed = false;
    double most = 0;
    for (int model = 0; model < 2; model++) {
      var tasks = after.path("models").path(model).path("tasks");
      var old = before.path("models").path(model).path("tasks");
      assertEquals(old.path(0), tasks.path(0));
      changed |= !old.path(1).equals(tasks.path(1));
      var cache = after.path("models").path(model).path("evictions").path(0);
      most = Math.max(most, cache.path("nats").asDouble());
    }
    assertTrue(changed);
    assertTrue(most > 1e6);
  }

  @Test
  void batchesChangeNoScore() throws IOException {
    JsonNode one = null;
    for (int batchSize : new int[] {1, 5, 64}) {
      Path output = directory.resolve("batch-" + batchSize);
      Cli.run(
              "evaluate",
              run,
              "--task",
              "piqa=" + piqa,
              "--output",
              output,
              "--batch-size",
              batchSize,
              "--device",
              "cpu")
          .succeeded();
      var scores = JsonMapper.shared().createArrayNode();
      Files.readAllLines(answers(output, "piqa")).stream()
          .map(line -> JsonMapper.shared().readTree(line))
          .sorted(java.util.Comparator.comparingInt(line -> line.path("row").asInt()))
          .forEach(scores::add);
      assertEquals(12, scores.size());
      if (one == null) {
        one = scores;
      }
      for (int i = 0; i < 12; i++) {
        for (int j = 0; j < 2; j++) {
          String path = "/answers/%d/logLikelihood".formatted(j);
          double expected = one.path(i).at(path).asDouble();
          assertNotEquals(0, expected);
          assertEquals(expected, scores.path(i).at(path).asDouble(), 1e-5);
        }
      }
    }
  }

  /// The checksums of a checkpoint are those of the files that were saved: what is answered from
  /// earlier answers is what the files beside them say now.
  @Test
  void anEditedConfigurationIsAnotherModel() throws IOException {
    Path checkpoint =
        Cli.copy(run.resolve("checkpoints").resolve("step-00000004"), directory.resolve("edited"));
    Path output = directory.resolve("edited-output");
    Object[] command = {
      "evaluate", checkpoint, "--task", "text=" + text, "--output", output, "--device", "cpu"
    };
    String first = Cli.run(command).succeeded().err();
    assertFalse(first.contains("SHA256SUMS"), first);
    double before = value(output);
    Path config = checkpoint.resolve("config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replaceFirst("(\"rope_theta\"\\s*:\\s*)[0-9.Ee]+", "$110.0")
            .replaceFirst("(\"rms_norm_eps\"\\s*:\\s*)[0-9.Ee-]+", "$11.0"));
    String second = Cli.run(command).succeeded().err();
    assertTrue(
        second.contains("config.json is not the file that SHA256SUMS beside it lists"), second);
    assertNotEquals(before, value(output));
    // Weights that were replaced by others of the same size.
    Path weights = checkpoint.resolve("model.safetensors");
    double edited = value(output);
    Files.copy(
        run.resolve("checkpoints").resolve("step-00000002").resolve("model.safetensors"),
        weights,
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    Cli.run(command).succeeded();
    assertNotEquals(edited, value(output));
  }

  private static double value(Path output) throws IOException {
    return json(output.resolve("evaluate.json"))
        .at("/models/0/tasks/0/metrics/bits_per_byte/value")
        .asDouble(-1);
  }

  /// Models of different windows see as many tokens as the one with the fewest: a model differs
  /// from itself in nothing, whatever its run says of its training.
  @Test
  void modelsAreComparedOverOneContext() throws IOException {
    Path checkpoint = run.resolve("checkpoints").resolve("step-00000004");
    Path shorter = Cli.copy(checkpoint, directory.resolve("shorter"));
    Path manifest = shorter.resolve("manifest.json");
    Files.writeString(
        manifest,
        Files.readString(manifest).replaceFirst("(\"sequence_length\"\\s*:\\s*)64", "$124"));
    Path output = directory.resolve("one-context");
    List<Object> command =
        new ArrayList<>(
            List.of("evaluate", run, shorter, "--task", "text=" + text, "--output", output));
    command.addAll(List.of("--device", "cpu"));
    var answer = Cli.run(command.toArray()).succeeded();
    assertTrue(
        answer.err().contains("All models see 24 tokens at a time, the most that shorter does"),
        answer.err());
    var both = json(output.resolve("evaluate.json"));
    String value = "/tasks/0/metrics/bits_per_byte/value";
    assertEquals(24, both.at("/manifest/config/context").asInt());
    double together = both.path("models").path(0).at(value).asDouble(-1);
    assertEquals(together, both.path("models").path(1).at(value).asDouble(-2));
    command.addAll(List.of("--context", 64));
    assertFalse(Cli.run(command.toArray()).succeeded().err().contains("All models see"));
    assertNotEquals(
        together, json(output.resolve("evaluate.json")).at("/models/0" + value).asDouble(-1));
  }

  @Test
  void rowsThatDoNotFitAreNamed() throws IOException {
    Path rows = directory.resolve("long.jsonl");
    Files.writeString(
        rows,
        "{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n"
            + "{\"goal\": \"%s\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 0}\n"
                .formatted("long ".repeat(40)));
    Path output = directory.resolve("long");
    String why = Cli.run("evaluate", run, "--task", "piqa=" + rows, "--output", output).refusal();
    assertTrue(why.contains("1 of the 2 rows") && why.contains("(rows 1)"), why);
    var answer =
        Cli.run("evaluate", run, "--task", "piqa=" + rows, "--output", output, "--truncate", "left")
            .succeeded();
    assertTrue(answer.err().contains("lost their start (the first is row 1)"), answer.err());
    assertEquals(
        1, json(output.resolve("evaluate.json")).at("/models/0/tasks/0/cut_rows/0").asInt());
  }

  /// What fewer bits of weights and inputs cost is measured with the model that runs so; answers of
  /// one are not taken for another's.
  @Test
  void modelsInFewBits() throws IOException {
    Path output = directory.resolve("few-bits");
    double asStored = bitsPerByte(output);
    double rounded = bitsPerByte(output, "--weights", "q4_0");
    assertNotEquals(asStored, rounded);
    assertEquals(asStored, rounded, 0.1);
    if (MachineProducts.here() != null) {
      double int8 = bitsPerByte(output, "--precision", "int8");
      assertNotEquals(asStored, int8);
      assertEquals(asStored, int8, 0.01);
    }
    assertEquals(asStored, bitsPerByte(output));
  }

  private double bitsPerByte(Path output, Object... more) throws IOException {
    List<Object> command = new ArrayList<>(List.of("evaluate", "samples/tiny-qwen35.gguf"));
    command.addAll(List.of("--task", "text=" + text, "--output", output));
    command.addAll(List.of(more));
    Cli.run(command.toArray()).succeeded();
    return value(output);
  }

  @Test
  void modelsWrite() throws IOException {
    Path definition =
        Files.writeString(
            directory.resolve("sums.toml"),
            "kind = \"answer\"\ncontext = \"{q}\"\nanswer = \"{a}\"\nmax_tokens = 5\n");
    Path rows =
        Files.writeString(directory.resolve("sums.json"), "[{\"q\": \"Line 1\", \"a\": \"2\"}]");
    Path output = directory.resolve("sums");
    Cli.run("evaluate", run, "--task", definition + "=" + rows, "--output", output).succeeded();
    var line = JsonMapper.shared().readTree(Files.readString(answers(output, "sums")));
    assertEquals(5, line.at("/answers/0/tokens").asInt());
    assertEquals(
        0,
        json(output.resolve("evaluate.json"))
            .at("/models/0/tasks/0/metrics/exact_match/value")
            .asDouble(-1));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '~',
      value = {
        "--limit 3 | no task is named",
        "--task piqa | names no file",
        "--task piqa=nothing.jsonl | nothing.jsonl does not exist",
        "--task pika=PIQA | there is no task 'pika'",
        "--task boolq=PIQA | row 0 of piqa.jsonl has no field 'passage' but goal, sol1, sol2,"
            + " label",
        "--task piqa=PIQA --batch-size 0 | --batch-size must be from 1",
        "--task piqa=PIQA --limit 0 | --limit must be at least 1",
        "--task piqa=PIQA --truncate right | left is",
        "--task piqa=PIQA --context 1 | --context must be from 2 to",
        "--task piqa=PIQA --start-token once | always, never or tokenizer",
        "--task piqa=PIQA --examples arc-easy=PIQA | which is not asked",
        "--task piqa=PIQA --examples piqa=PIQA | takes no examples",
        "--task piqa=PIQA --num-examples 12 | takes 12 examples",
        "--task piqa=PIQA --eviction-window 8 | needs a task of whole texts",
        "--task text=PIQA | row 0 of piqa.jsonl has no field 'text'",
      })
  void refusals(String flags, String why) {
    var command =
        new java.util.ArrayList<Object>(
            List.of("evaluate", run, "--output", directory.resolve("refused")));
    command.addAll(List.of(flags.replace("PIQA", piqa.toString()).split(" ")));
    String sentence = Cli.run(command.toArray()).refusal();
    assertTrue(sentence.contains(why), sentence);
  }

  @Test
  void modelsThatAreNone() {
    Path checkpoint = run.resolve("checkpoints").resolve("step-00000004");
    assertTrue(
        Cli.run("evaluate", run, checkpoint, "--task", "piqa=" + piqa)
            .refusal()
            .contains("is named twice"));
    assertTrue(
        Cli.run("evaluate", checkpoint, "--every-checkpoint", "--task", "piqa=" + piqa)
            .refusal()
            .contains("needs runs"));
    assertTrue(
        Cli.run("evaluate", directory.resolve("no"), "--task", "piqa=" + piqa)
            .refusal()
            .contains("does not exist"));
  }
}
