package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.files.JsonFile;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

/// What the commands do when all is well.
class MainTest {
  @TempDir static Path directory;
  static Path data;
  static Path run;

  @BeforeAll
  static void train() throws IOException {
    data = Cli.text(directory.resolve("log.txt"));
    run = directory.resolve("run");
    Cli.run(Cli.tiny(data, run, "--gate", "sdpa-headwise")).succeeded();
  }

  @Test
  void trainingLeavesARunDirectory() throws IOException {
    for (String file :
        new String[] {"config.toml", "manifest.json", "metrics.jsonl", "report.html"}) {
      assertTrue(Files.isRegularFile(run.resolve(file)), file);
    }
    Path latest = CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
    assertEquals("step-00000004", latest.getFileName().toString());
    CheckpointDirectory.verify(latest);
    var metrics = Files.readAllLines(run.resolve("metrics.jsonl"));
    assertEquals(6, metrics.size());
    for (String sinks :
        new String[] {"first_token_attention", "largest_activation", "mean_gate_score"}) {
      assertTrue(metrics.getLast().contains(sinks), metrics.getLast());
    }
  }

  /// What is kept of a pass changes nothing that a run records.
  @Test
  void recomputedBlocksTrainTheSame() throws IOException {
    Path again = directory.resolve("recomputed");
    Cli.run(Cli.tiny(data, again, "--gate", "sdpa-headwise", "--recompute", "blocks")).succeeded();
    assertArrayEquals(
        Files.readAllBytes(run.resolve("metrics.jsonl")),
        Files.readAllBytes(again.resolve("metrics.jsonl")));
    Path none = directory.resolve("none");
    String experts =
        Cli.run(
                Cli.tiny(
                    data,
                    none,
                    "--recompute",
                    "blocks",
                    "--experts",
                    "4",
                    "--experts-per-token",
                    "2"))
            .refusal();
    assertTrue(experts.contains("recompute = blocks does not go with experts"), experts);
    String watched =
        Cli.run(Cli.tiny(data, none, "--recompute", "blocks", "--gate-anneal-steps", "2"))
            .refusal();
    assertTrue(watched.contains("recompute = blocks does not go with"), watched);
    assertFalse(Files.exists(none));
  }

  @Test
  void planCountsRecomputedBlocks() {
    var kept = Cli.run("plan", "--model", "paper-dense-28", "--gates", "none").succeeded();
    var again =
        Cli.run("plan", "--model", "paper-dense-28", "--gates", "none", "--recompute", "blocks")
            .succeeded();
    assertNotEquals(kept.out(), again.out());
  }

  /// What libtorch says, without the list of its own calls.
  @Test
  void aFailureOfLibtorchIsOneSentence() {
    try (var _ = Scope.open()) {
      var shapes =
          assertThrows(
              RuntimeException.class,
              () ->
                  Tensor.zeros(ElementType.FLOAT32, 2).plus(Tensor.zeros(ElementType.FLOAT32, 3)));
      String sentence = Main.oneSentence(shapes);
      assertEquals(1, sentence.lines().count(), sentence);
      assertTrue(sentence.contains("libtorch said: The size of tensor"), sentence);
    }
  }

  @Test
  void planOfManyGpusStatesMemoryAndWhatIsSent() {
    for (String model : new String[] {"paper-dense-28", "paper-moe-15b"}) {
      var plan = Cli.run("plan", "--model", model, "--gpus", 1024, "--gates", "none").succeeded();
      assertTrue(plan.out().contains("1,024 GPUs"), plan::toString);
      assertTrue(plan.out().contains("Assumed: 80 GB a GPU"), plan::toString);
    }
    String refused = Cli.run("plan", "--gpus", 1000).refusal();
    assertTrue(refused.contains("1024 sequences cannot be shared evenly by 1000"), refused);
    assertTrue(Cli.run("plan", "--gpus", 0).refusal().contains("--gpus cannot be 0"));
  }

  @Test
  void verifyNamesWhatIsDamaged() throws IOException {
    Path copy = Cli.copy(run, directory.resolve("to-verify"));
    var whole = Cli.run("verify", copy).succeeded();
    assertTrue(whole.out().contains("Everything is as it was written."), whole::toString);
    assertTrue(whole.out().contains("checkpoints/step-00000004"), whole::toString);

    Path weights = copy.resolve("checkpoints/step-00000002/model.safetensors");
    byte[] bytes = Files.readAllBytes(weights);
    bytes[bytes.length / 2] ^= 1;
    Files.write(weights, bytes);
    byte[] tokens = Files.readAllBytes(copy.resolve("corpus/train.tokens"));
    tokens[17] ^= 1;
    Files.write(copy.resolve("corpus/train.tokens"), tokens);
    var damaged = Cli.run("verify", copy);
    assertEquals(Main.FAILED, damaged.code(), damaged::toString);
    assertTrue(damaged.out().contains("2 of 7 parts are damaged."), damaged::toString);
    assertTrue(damaged.err().contains(weights + " is damaged"), damaged::toString);
    assertTrue(damaged.err().contains("train.tokens does not match"), damaged::toString);
    assertFalse(damaged.err().contains(".."), damaged::toString);
  }

  /// What is measured on less than was asked for, and a plan's setting that does nothing.
  @Test
  void whatIsNotDoneIsTold() throws IOException {
    var few =
        Cli.run(
                Cli.tiny(
                    data,
                    directory.resolve("few-windows"),
                    "--steps",
                    2,
                    "--held-out-windows",
                    100_000))
            .succeeded();
    assertTrue(
        few.err()
            .matches("(?s).*The held-out text has only \\d+ windows of 64 tokens, not 100000.*"),
        few::err);
    assertFalse(
        Cli.run(Cli.tiny(data, directory.resolve("two-windows"), "--steps", 2))
            .err()
            .contains("has only"));
    var plan = Cli.run("plan", "--model", "tiny", "--experts-per-token", 99).succeeded();
    assertTrue(plan.err().contains("experts_per_token 99 does nothing"), plan::err);
  }

  /// What has no checksum is compared with what says the same.
  @Test
  void verifyComparesWhatHasNoChecksum() throws IOException {
    Path copy = Cli.copy(run, directory.resolve("edited"));
    for (String name : List.of("metrics.jsonl", "timings.jsonl")) {
      Path record = copy.resolve(name);
      String lines = Files.readString(record);
      for (String broken :
          List.of("{\"step\":1,\"lo", "", lines.substring(0, lines.indexOf('\n')))) {
        Files.writeString(record, broken);
        assertTrue(verified(copy).contains(name + " ends with step "), broken);
      }
      Files.delete(record);
      assertTrue(verified(copy).contains(name), name);
      Files.writeString(record, lines);
    }
    Path config = copy.resolve("config.toml");
    Files.writeString(config, Files.readString(config).replace("seed = 1", "seed = 2"));
    String told = verified(copy);
    assertTrue(told.contains("config.toml and manifest.json differ (seed 2 and 1)"), told);
    assertTrue(told.contains("went on with an edited config.toml without recording that"), told);
    assertFalse(told.contains("--resume"), "which is not the way on for every run: " + told);
    Path manifest = copy.resolve("manifest.json");
    Files.writeString(
        manifest, Files.readString(manifest).replaceFirst("(\"steps\"\\s*:\\s*)4", "$1-4"));
    assertTrue(verified(copy).contains("differ (this version refuses what the latter records)"));
  }

  /// The one sentence of damage.
  private static String verified(Path run) {
    var answer = Cli.run("verify", run);
    assertEquals(Main.FAILED, answer.code(), answer::toString);
    assertTrue(answer.out().contains("1 of 7 parts are damaged."), answer::toString);
    return answer.err().lines().filter(line -> line.startsWith("sluice: ")).toList().getLast();
  }

  @Test
  void oneSeedGivesTheSameMetrics() throws IOException {
    Path again = directory.resolve("again");
    Cli.run(Cli.tiny(data, again, "--gate", "sdpa-headwise")).succeeded();
    assertSameMetrics(run, again);
    Path other = directory.resolve("other");
    Cli.run(Cli.tiny(data, other, "--gate", "sdpa-headwise", "--seed", 2)).succeeded();
    assertNotEquals(
        Files.readString(run.resolve("metrics.jsonl")),
        Files.readString(other.resolve("metrics.jsonl")));
  }

  @Test
  void savedConfigurationRepeatsTheRun() throws IOException {
    Path repeated = directory.resolve("repeated");
    Cli.run("train", "--config", run.resolve("config.toml"), "--output", repeated).succeeded();
    assertSameMetrics(run, repeated);
  }

  private static void assertSameMetrics(Path one, Path two) throws IOException {
    assertArrayEquals(
        Files.readAllBytes(one.resolve("metrics.jsonl")),
        Files.readAllBytes(two.resolve("metrics.jsonl")));
  }

  @Test
  void settingsSurviveTheirFile() throws IOException {
    String prompt = "a \"quoted\"\nline, \\ ’ and \t";
    var config = RunConfig.from(null, Map.of("sample_prompt", prompt, "epsilon", "1e-12"));
    Path folder = Files.createDirectory(directory.resolve("settings"));
    config.write(folder);
    assertEquals(config, RunConfig.from(folder.resolve(RunConfig.FILE), Map.of()));
  }

  @Test
  void runThatDiedBeforeItsFirstCheckpointBeginsAnew() throws IOException {
    Path died = Cli.copy(run, directory.resolve("died"), "step-00000002", "step-00000004");
    Cli.run("train", "--resume", died).succeeded();
    assertSameMetrics(run, died);
  }

  @Test
  void generateContinuesARun() {
    var greedy = Cli.run("generate", run, "--prompt", "Line 1", "--max-tokens", 20).succeeded();
    assertTrue(greedy.out().startsWith("Line 1"), greedy::out);
    assertTrue(greedy.err().contains("tokens/s"), greedy::err);
    var checkpoint = run.resolve("checkpoints").resolve("step-00000004");
    assertEquals(
        greedy.out(),
        Cli.run("generate", checkpoint, "--prompt", "Line 1", "--max-tokens", 20).out());
    var sampled = new Object[] {"generate", run, "--prompt", "@1", "--temperature", 1, "--seed", 3};
    assertEquals(Cli.run(sampled).succeeded().out(), Cli.run(sampled).out());
    assertTrue(Cli.run(sampled).out().startsWith("@1"));
    Cli.run("generate", run, "--max-tokens", 3).succeeded();
  }

  @Test
  void generateWritesJson() throws IOException {
    Path schema = directory.resolve("schema.json");
    Files.writeString(
        schema,
        "{\"type\": \"object\", \"required\": [\"a\"], \"additionalProperties\": false,"
            + " \"properties\": {\"a\": {\"enum\": [\"whale\", 12], \"description\": \"x\"}}}");
    Path texts = directory.resolve("texts.json");
    var answer =
        Cli.run("generate", run, "--prompt", "@", "--json-schema", schema, "--json", texts)
            .succeeded();
    // Read, because an untrained model may well write a name with escapes.
    var value = JsonFile.mapper().build().readTree(answer.out().substring(1));
    assertEquals(1, value.size(), answer::toString);
    assertTrue(Set.of("\"whale\"", "12").contains(value.get("a").toString()), answer::toString);
    assertTrue(Files.readString(texts).contains("\"json_complete\" : true"));
    answer = Cli.run("generate", run, "--json-object", "--max-tokens", 1).succeeded();
    assertTrue(answer.err().contains("The JSON is not complete"), answer::toString);
    String refused = Cli.run("generate", run, "--json-object", "--json-after", "ab").refusal();
    assertTrue(refused.contains("--json-after ab is 2 tokens"), refused);
    refused = Cli.run("generate", run, "--json-after", "a").refusal();
    assertTrue(refused.contains("none is given"), refused);
    refused = Cli.run("generate", run, "--json-object", "--json-schema", schema).refusal();
    assertTrue(refused.contains("only one"), refused);
    Files.writeString(schema, "{\"not\": {}}");
    refused = Cli.run("generate", run, "--json-schema", schema).refusal();
    assertTrue(refused.contains("schema.json cannot be followed at #"), refused);
  }

  /// Of all that decides which token comes, log-probabilities know nothing.
  @Test
  void generateSaysHowLikelyTokensAre() throws IOException {
    Path texts = directory.resolve("likely.json");
    Object[] arguments = {
      "generate",
      run,
      "--prompt",
      "Line",
      "--max-tokens",
      12,
      "--temperature",
      0.8,
      "--top-k",
      60,
      "--top-p",
      0.98,
      "--min-p",
      0.001,
      "--repetition-penalty",
      1.1,
      "--presence-penalty",
      0.5,
      "--logit-bias",
      "101=-Infinity",
      "--logit-bias",
      "33=40",
      "--stop",
      "!!!",
      "--seed",
      5,
      "--sequences",
      2,
      "--logprobs",
      3,
      "--json",
      texts
    };
    var answer = Cli.run(arguments).succeeded();
    var held = JsonFile.mapper().build().readTree(Files.readString(texts)).get("texts");
    assertEquals(2, held.size());
    try (var _ = Scope.withoutGradient();
        var decoder =
            ModelDirectory.load(
                run.resolve("checkpoints/step-00000004"), Precision.FLOAT32, Device.CPU, false)) {
      for (var text : held) {
        // The stop string of three tokens is made likely, and is no part of the text.
        assertEquals("caller", text.get("ending").asString(), answer::toString);
        assertFalse(text.get("text").asString().contains("!"), answer::toString);
        long[] ids = new long[4 + text.get("tokens").size()];
        byte[] prompt = "Line".getBytes(StandardCharsets.UTF_8);
        for (int i = 0; i < ids.length; i++) {
          ids[i] = i < 4 ? prompt[i] : text.get("tokens").get(i - 4).get("id").asInt();
        }
        var hidden = decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE);
        for (int i = 4; i < ids.length; i++) {
          var said = text.get("tokens").get(i - 4);
          assertNotEquals(101, ids[i]);
          float[] logits = decoder.logits(hidden.narrow(1, i - 1, 1)).floats();
          double sum = 0;
          for (float logit : logits) {
            sum += Math.exp(logit);
          }
          assertEquals(logits[(int) ids[i]] - Math.log(sum), said.get("logprob").asDouble(), 1e-4);
          Integer[] order = new Integer[logits.length];
          Arrays.setAll(order, id -> id);
          Arrays.sort(order, Comparator.comparingDouble(id -> -logits[id]));
          for (int j = 0; j < 3; j++) {
            var likely = said.get("likeliest").get(j);
            assertEquals(logits[order[j]] - Math.log(sum), likely.get("logprob").asDouble(), 1e-4);
          }
        }
      }
    }
  }

  @Test
  void vocabularyMayExceedTheTokenizer() throws IOException {
    Path larger = directory.resolve("larger");
    Cli.run(Cli.tiny(data, larger, "--vocab-size", 300, "--sample-tokens", 60)).succeeded();
    Cli.run("generate", larger, "--prompt", "Line", "--temperature", 1).succeeded();
  }

  @Test
  void inspectMeasuresARun() throws IOException {
    var answer = Cli.run("inspect", run, "--tokens", 64, "--windows", 3).succeeded();
    assertTrue(answer.out().contains("F-Attn"), answer::out);
    assertTrue(answer.out().contains("M-Act"), answer::out);
    assertTrue(answer.out().contains("Gate sdpa"), answer::out);
    assertTrue(answer.err().contains("fewer than 512"), answer::err);
    Path json = run.resolve("inspect").resolve("inspect.json");
    var read = JsonMapper.shared().readTree(Files.readString(json));
    assertEquals(3, read.path("sinks").path("windows").asInt());
    assertEquals(3 * 64, read.path("loss").path("tokens").asInt());
    String page = Files.readString(run.resolve("inspect").resolve("inspect.html"));
    assertTrue(page.contains("Attention maps"));
    assertFalse(page.contains("src=\"http"), "the page must not need a network");
  }

  @Test
  void inspectLeavesAForeignCheckpointAlone() throws IOException {
    Path foreign =
        Cli.copy(
            run.resolve("checkpoints").resolve("step-00000004"),
            directory.resolve("foreign"),
            "SHA256SUMS",
            "optimizer.safetensors");
    var before = Cli.contents(foreign);
    Path output = directory.resolve("looked-at");
    var answer =
        Cli.run("inspect", foreign, "--data", data, "--tokens", 64, "--output", output).succeeded();
    assertTrue(answer.err().contains("trained on this text"), answer::err);
    assertTrue(Files.isRegularFile(output.resolve("inspect.html")));
    assertEquals(before, Cli.contents(foreign));
    Cli.run("inspect", foreign, "--data", data, "--tokens", 64, "--output", foreign).refusal();
    assertEquals(before, Cli.contents(foreign));
  }

  @Test
  void benchMeasuresTrainingSteps() throws IOException {
    Path json = directory.resolve("bench.json");
    var answer =
        Cli.run(
                "bench",
                "train",
                "--shape",
                "64,2,2,1,96,50,33,2",
                "--gate",
                "none,sdpa-elementwise",
                "--precision",
                "bfloat16,float32",
                "--match-parameters",
                "--steps",
                3,
                "--warm-up",
                0,
                "--profile",
                "--json",
                json)
            .succeeded();
    assertTrue(answer.out().contains("tokens/s"), answer::out);
    assertTrue(answer.out().contains("feed-forward"), answer::out);
    var read = JsonMapper.shared().readTree(Files.readString(json));
    assertEquals(4, read.path("arms").size());
    var ungated = read.path("arms").get(0);
    var gated = read.path("arms").get(1);
    assertEquals(96, ungated.path("intermediate_size").asInt());
    assertEquals(72, gated.path("intermediate_size").asInt(), "64 · 64 / (3 · 64), in eights");
    for (var arm : read.path("arms")) {
      assertEquals(3, arm.path("step_seconds").size());
    }
    // 6 for every weight of a product, the tied output's among them, and attention
    double weights = 50 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96.0);
    double flops = (6 * weights + 6 * 2 * 33 * 64) * 66;
    var seconds = ungated.path("step_seconds").valueStream().mapToDouble(s -> s.asDouble());
    double median = seconds.sorted().toArray()[1];
    assertEquals(
        flops / median, ungated.path("flops_per_second").asDouble(), 1e-6 * flops / median);
    assertEquals(4, read.path("profiles").size());
    for (var profile : read.path("profiles")) {
      double inProducts = profile.path("product_multiplications").asDouble();
      assertTrue(inProducts > 1e6, "multiplications seen: " + inProducts);
    }
  }

  @Test
  void helpNamesTheCommands() {
    String help = Cli.run().succeeded().out();
    for (String command :
        new String[] {
          "train",
          "verify",
          "study",
          "inspect",
          "evaluate",
          "generate",
          "convert",
          "parity",
          "plan",
          "bench"
        }) {
      assertTrue(help.contains("  " + command), help);
      assertTrue(Cli.run(command, "--help").succeeded().out().contains("Example"), command);
    }
    assertTrue(Cli.run("train", "--help").out().contains("--batch-size"));
  }

  @Test
  void planCountsWithoutAllocating() {
    var answer = Cli.run("plan", "--model", "paper-moe-15b", "--table", 1).succeeded();
    assertTrue(answer.out().contains("201.3"), answer::out);
    assertTrue(answer.out().contains("453.2"), answer::out);
    assertTrue(answer.out().contains("SDPA headwise"), answer::out);
    var dense = Cli.run("plan", "--gates", "none,sdpa-elementwise", "--match-parameters");
    assertTrue(dense.out().contains("1,720,837,120"), dense::out);
    assertTrue(Cli.run("plan", "--gates", "none", "--table", 1).refusal().contains("--table"));
    assertTrue(Cli.run("plan", "--steps", 3).refusal().contains("--steps"));
  }

  /// A gate forced to what it is anyway changes nothing; another score does.
  @Test
  void inspectForcesGates() throws IOException {
    Path output = directory.resolve("forced");
    var answer =
        Cli.run(
                "inspect",
                run,
                "--tokens",
                64,
                "--windows",
                2,
                "--force-gate",
                0.05,
                "--output",
                output)
            .succeeded();
    assertTrue(answer.out().contains("Loss with gates forced to 0.0500"), answer::out);
    String json = Files.readString(output.resolve("inspect.json"));
    assertTrue(json.contains("\"interventions\""), json);
    assertTrue(answer.out().contains("all"), answer::out);
  }

  @Test
  void aStudyInAFileAndItsShards() throws IOException {
    Path file =
        Files.writeString(
            directory.resolve("study.toml"),
            """
            data = "%s"
            hidden_size = 16
            intermediate_size = 24
            layers = 1
            attention_heads = 2
            key_value_heads = 1
            head_dim = 8
            sequence_length = 32
            batch_size = 2
            steps = 2
            evaluate_every = 2
            save_every = 2
            held_out_windows = 2
            seeds = 2
            [[variant]]
            name = "plain"
            gate = "none"
            [[variant]]
            name = "gated"
            gate = "sdpa-headwise"
            """
                .formatted(data));
    Path place = directory.resolve("study");
    for (String shard : new String[] {"2/2", "1/2"}) {
      Cli.run("study", file, "--shard", shard, "--output", place).succeeded();
    }
    var report = Cli.run("study", "report", place).succeeded();
    assertTrue(report.out().contains("gated"), report::out);
    assertTrue(Files.isRegularFile(place.resolve("report.html")));
    Cli.run("study", file, "--steps", 3, "--output", place).refusal();
    Cli.run("study", file, "--gates", "none,sdpa-headwise").refusal();
    Cli.run("study", "report", directory.resolve("nothing")).refusal();
    Cli.run("study", file, "--shard", "3/2").refusal();
    Files.writeString(file, "[[variant]]\nname = \"one\"\n");
    Cli.run("study", file).refusal();
    Files.writeString(file, "stepz = 3\n[[variant]]\nname = \"one\"\n");
    assertTrue(Cli.run("study", file).refusal().contains("stepz"));
  }
}
