package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.DirectoryLock;
import dev.sluice.pages.RunReport;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// What the measuring commands take as length and numbers, and where they write.
class MeasuringTest {
  private static final String WEIGHTS = "step-00000004";

  @TempDir static Path directory;
  static Path data;
  static Path run;

  @BeforeAll
  static void train() throws IOException {
    data = Cli.text(directory.resolve("log.txt"));
    run = directory.resolve("run");
    Cli.run(Cli.tiny(data, run, "--gate", "sdpa-headwise", "--sequence-length", 48)).succeeded();
  }

  private static JsonNode inspected(Path output) throws IOException {
    return JsonMapper.shared().readTree(Files.readString(output.resolve("inspect.json")));
  }

  private static void assertContains(String text, String... parts) {
    for (String part : parts) {
      assertTrue(text.contains(part), text);
    }
  }

  private static boolean warnsOfLength(JsonNode inspected) {
    return inspected.path("warnings").toString().contains("longer than the 48");
  }

  // ---------------------------------------------------------------- tokens of a window

  /// By default what the model was trained with, whether the run is named, its checkpoint, or a
  /// copy of that elsewhere.
  @Test
  void windowsAreAsLongAsTheModelWasTrainedWith() throws IOException {
    Path elsewhere =
        Cli.copy(
            run.resolve("checkpoints").resolve(WEIGHTS),
            directory.resolve("elsewhere"),
            "SHA256SUMS");
    for (Path model : List.of(run, run.resolve("checkpoints").resolve(WEIGHTS), elsewhere)) {
      Path output = directory.resolve("trained-" + model.getFileName());
      var answer =
          Cli.run("inspect", model, "--data", data, "--windows", 2, "--output", output).succeeded();
      assertContains(answer.out(), "2 windows of 48 tokens");
      var json = inspected(output);
      assertEquals(48, json.path("sinks").path("longest_window").asInt());
      assertEquals(2 * 48, json.path("loss").path("tokens").asInt());
      assertFalse(warnsOfLength(json), json.path("warnings")::toString);
      assertContains(json.path("warnings").toString(), "fewer than 512");
    }
  }

  @Test
  void longerWindowsAreWarnedOf() throws IOException {
    Path output = directory.resolve("longer");
    var answer =
        Cli.run("inspect", run, "--windows", 2, "--tokens", 49, "--output", output).succeeded();
    assertContains(answer.err(), "49 tokens are longer than the 48 that the model was trained");
    assertTrue(warnsOfLength(inspected(output)));
    assertContains(Files.readString(output.resolve("inspect.html")), "longer than the 48");
    Cli.run("inspect", run, "--windows", 2, "--tokens", 47, "--output", output).succeeded();
    assertFalse(warnsOfLength(inspected(output)));
  }

  /// What it saw in training was one document at a time.
  @Test
  void aModelWithAMaskIsMeasuredDocumentByDocument() throws IOException {
    Path masked = Cli.copy(run, directory.resolve("masked"));
    Path config = masked.resolve(RunConfig.FILE);
    Files.writeString(
        config,
        Files.readString(config).replaceAll("document_mask *= *false", "document_mask = true"));
    Path documents =
        Files.writeString(
            directory.resolve("documents.jsonl"),
            "{\"text\": \"twenty bytes of text\"}\n{\"text\": \"and some fifteen\"}\n".repeat(40));
    Path output = directory.resolve("by-document");
    var answer =
        Cli.run("inspect", masked, "--data", documents, "--windows", 3, "--output", output)
            .succeeded();
    assertContains(answer.err(), "trained to see its own document alone");
    var json = inspected(output);
    assertEquals(21, json.path("sinks").path("longest_window").asInt());
    assertEquals(3 * 48, json.path("loss").path("tokens").asInt());
    Path plain = directory.resolve("whole-windows");
    Cli.run("inspect", run, "--data", documents, "--windows", 3, "--output", plain).succeeded();
    assertTrue(
        json.path("loss").path("nats").asDouble()
            != inspected(plain).path("loss").path("nats").asDouble());
    assertContains(
        inspected(plain).path("sinks").path("token_attention").toString(), "\"queries\"");
  }

  /// A model of others: 512, or all that its context has.
  @Test
  void aModelWithoutARunIsMeasuredWithinItsContext() throws IOException {
    Path foreign =
        Cli.copy(
            run.resolve("checkpoints").resolve(WEIGHTS),
            directory.resolve("foreign"),
            "SHA256SUMS",
            "optimizer.safetensors",
            "state.json",
            "manifest.json");
    Path output = directory.resolve("of-foreign");
    Cli.run("inspect", foreign, "--data", data, "--windows", 2, "--output", output).succeeded();
    assertEquals(512, inspected(output).path("sinks").path("longest_window").asInt());
    Path config = foreign.resolve("config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replace("\"max_position_embeddings\" : 32768", "\"max_position_embeddings\" : 100"));
    Files.writeString(foreign.resolve("manifest.json"), "{\"sequence_length\": \"many\"}");
    Cli.run("inspect", foreign, "--data", data, "--windows", 2, "--output", output).succeeded();
    assertEquals(100, inspected(output).path("sinks").path("longest_window").asInt());
  }

  // ---------------------------------------------------------------- numbers

  @Test
  void numbersThatCannotBe() {
    for (Object tokens : new Object[] {0, 1, -5, Integer.MIN_VALUE}) {
      assertContains(
          Cli.run("inspect", run, "--tokens", tokens).refusal(), "--tokens", "" + tokens);
    }
    assertContains(
        Cli.run("inspect", run, "--tokens", Integer.MAX_VALUE).refusal(), "--tokens 2147483647");
    for (Object windows : new Object[] {0, -1, Integer.MIN_VALUE}) {
      assertContains(Cli.run("inspect", run, "--windows", windows).refusal(), "--windows");
    }
    for (String score : new String[] {"NaN", "Infinity", "-Infinity", "1e400", "1e-400"}) {
      assertContains(Cli.run("inspect", run, "--force-gate", score).refusal(), "--force-gate");
      assertContains(Cli.run("generate", run, "--temperature", score).refusal(), "temperature");
      assertContains(Cli.run("generate", run, "--top-p", score).refusal(), "top-p");
      assertContains(Cli.run("parity", run, "--tolerance", score).refusal(), "tolerance");
      assertContains(Cli.run("bench", "train", "--warm-up", score).refusal(), "--warm-up");
    }
    for (String score : new String[] {"1e308", "-1e39", "1001"}) {
      assertContains(Cli.run("inspect", run, "--force-gate", score).refusal(), "--force-gate");
    }
    assertContains(Cli.run("parity", run, "--tolerance", -1).refusal(), "tolerance");
    for (Object tokens : new Object[] {0, -1, Integer.MIN_VALUE}) {
      assertContains(Cli.run("generate", run, "--max-tokens", tokens).refusal(), "at least 1");
    }
    assertContains(
        Cli.run("generate", run, "--max-tokens", Integer.MAX_VALUE).refusal(), "context of 32768");
    assertContains(Cli.run("generate", run, "--top-k", -1).refusal(), "top-k");
    Cli.run("generate", run, "--top-k", Integer.MAX_VALUE, "--temperature", 1, "--max-tokens", 2)
        .succeeded();
    for (String shape :
        new String[] {
          "64,2,2,1,96,50,2147483647,2147483647", "64,2,2,1,96,50,4096,2147483647",
          "2147483646,2,2,1,96,50,33,2", "64,2147483647,2,1,96,50,33,2",
          "64,2,2,1,2147483647,2147483647,33,2"
        }) {
      assertContains(Cli.run("bench", "train", "--shape", shape).refusal(), "--shape");
    }
    assertContains(Cli.run("bench", "train", "--optimizer", "adamw,lion").refusal(), "'lion'");
    assertContains(Cli.run("bench", "train", "--experts", Integer.MAX_VALUE).refusal(), "--shape");
  }

  /// Room for keys and values is taken at once, so a context that no machine can hold is not.
  @Test
  void aContextThatNoMachineHolds() throws IOException {
    Path claims =
        Cli.copy(
            run.resolve("checkpoints").resolve(WEIGHTS), directory.resolve("claims"), "SHA256SUMS");
    Path config = claims.resolve("config.json");
    Files.writeString(
        config,
        Files.readString(config)
            .replace(
                "\"max_position_embeddings\" : 32768", "\"max_position_embeddings\" : 2147483647"));
    assertContains(
        Cli.run("generate", claims, "--prompt", "L", "--max-tokens", Integer.MAX_VALUE - 1)
            .refusal(),
        "1 prompt tokens and 2147483646 new ones are more than");
    Cli.run("generate", claims, "--prompt", "L", "--max-tokens", 2).succeeded();
    assertContains(
        Cli.run("inspect", claims, "--data", data, "--tokens", Integer.MAX_VALUE - 1).refusal(),
        "fewer than two windows of 2147483646");
  }

  /// As many windows as there are, said; more tokens than can be measured at once, refused.
  @Test
  void moreWindowsThanThereAre() {
    var answer =
        Cli.run(
                "inspect",
                run,
                "--windows",
                Integer.MAX_VALUE,
                "--tokens",
                1500,
                "--output",
                directory.resolve("many"))
            .succeeded();
    assertContains(answer.err(), "The text has only 2 windows of 1500 tokens");
  }

  // ---------------------------------------------------------------- where it is written

  @Test
  void twoInspectionsOfOneDirectory() throws IOException {
    Path output = Files.createDirectory(directory.resolve("shared"));
    try (var _ = Cli.ofAnother(() -> DirectoryLock.own(output, "sluice inspect elsewhere"))) {
      assertContains(
          Cli.run("inspect", run, "--output", output).refusal(), output + " is in use by");
    }
    assertFalse(Files.exists(output.resolve("inspect.json")));
    Files.createFile(output.resolve(".inspect.json.0123456789abcdef.partial"));
    Path precious = Files.writeString(directory.resolve("precious"), "mine");
    for (String name : new String[] {"inspect.html", "inspect.json"}) {
      Files.createSymbolicLink(output.resolve(name), precious);
    }
    Path old = Files.createSymbolicLink(output.resolve(".inspect.html.partial"), precious);
    Cli.run("inspect", run, "--output", output).succeeded();
    assertEquals("mine", Files.readString(precious));
    assertFalse(Files.isSymbolicLink(output.resolve("inspect.html")));
    assertFalse(Files.isSymbolicLink(output.resolve("inspect.json")));
    Files.delete(old);
    try (var files = Files.list(output)) {
      assertEquals(
          List.of(".lock", "inspect.html", "inspect.json"),
          files.map(file -> file.getFileName().toString()).sorted().toList());
    }
  }

  /// A run of which no loss was finite still has its page.
  @Test
  void aRunWithoutAHeldOutLossHasAPage() throws IOException {
    Path broken = Cli.copy(run, directory.resolve("broken"), "checkpoints", "report.html");
    Path metrics = broken.resolve("metrics.jsonl");
    Files.writeString(
        metrics,
        Files.readString(metrics)
            .replaceAll("\"held_out_(\\w+)\":[^,}]+", "\"held_out_$1\":\"NaN\""));
    Path page = RunReport.write(broken, RunConfig.from(broken.resolve(RunConfig.FILE), Map.of()));
    assertContains(Files.readString(page), "No held-out loss of this run is a number.");
  }

  @Test
  void benchReplacesALink() throws IOException {
    Path precious = Files.writeString(directory.resolve("precious-too"), "mine");
    Path json = Files.createSymbolicLink(directory.resolve("bench.json"), precious);
    Cli.run(
            "bench",
            "train",
            "--shape",
            "64,1,2,1,96,50,16,1",
            "--precision",
            "float32",
            "--steps",
            1,
            "--warm-up",
            0,
            "--json",
            json)
        .succeeded();
    assertEquals("mine", Files.readString(precious));
    assertFalse(Files.isSymbolicLink(json));
  }
}
