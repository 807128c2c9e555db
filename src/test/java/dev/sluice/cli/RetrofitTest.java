package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.files.JsonFile;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// The command as a user runs it, on a model of a few thousand parameters.
class RetrofitTest {
  @TempDir static Path directory;

  private static Path parent;
  private static Path text;

  @BeforeAll
  static void train() throws IOException {
    text = Cli.text(directory.resolve("log.txt"));
    parent = directory.resolve("parent");
    Cli.run(Cli.tiny(text, parent, "--gate", "none", "--sample-tokens", 0)).succeeded();
  }

  private static Cli.Answer retrofit(Path output, Object... more) {
    List<Object> arguments =
        new ArrayList<>(
            List.of("retrofit", parent, "--output", output, "--steps", 3, "--device", "cpu"));
    arguments.addAll(List.of("--held-out-windows", 2, "--new-learning-rate", "1e-4"));
    arguments.addAll(List.of(more));
    return Cli.run(arguments.toArray());
  }

  private static Map<String, float[]> weights(Path checkpoint) {
    try (var decoder = ModelDirectory.load(checkpoint, Precision.FLOAT32, Device.CPU, false)) {
      var weights = new HashMap<String, float[]>();
      decoder.parameters().all().forEach((name, tensor) -> weights.put(name, tensor.floats()));
      return weights;
    }
  }

  /// Before, after and control; the model that is written has the paper's gate, the factor of 2σ in
  /// its output projection, and the same answers; again, what is there is measured again.
  @Test
  void saysWhatMovedAndWritesThePapersForm() throws IOException {
    Path output = directory.resolve("gated");
    Path json = directory.resolve("numbers.json");
    var answer =
        retrofit(
                output,
                "--gate",
                "sdpa-elementwise",
                "--first-token-penalty",
                1,
                "--control",
                "--packing",
                "query_head",
                "--json",
                json)
            .succeeded();
    assertTrue(answer.out().contains("at step 0: exactly 0"), answer::out);
    assertTrue(answer.out().contains("The gates stayed at their start"), answer::out);
    assertTrue(answer.err().contains("As the model was trained: {data="), answer::err);

    JsonNode numbers = JsonFile.object(json, JsonFile.LARGE, "");
    assertEquals(numbers, JsonFile.object(output.resolve("retrofit.json"), JsonFile.LARGE, ""));
    assertEquals(0, numbers.path("difference_at_start").asDouble());
    assertTrue(numbers.path("gates_stayed").asBoolean());
    for (String name : List.of("before", "after", "control")) {
      JsonNode model = numbers.path("models").path(name);
      assertTrue(model.path("loss").asDouble() > 1, name);
      assertEquals(4, model.path("rounded").size(), name);
      assertEquals(!name.equals("before"), model.path("parent_kl").asDouble(0) > 0, name);
    }
    JsonNode manifest = numbers.path("manifest").path("config");
    assertEquals(64, manifest.path("start_weights_sha256").asString().length());

    Path model = output.resolve("model");
    CheckpointDirectory.verify(model);
    assertEquals(
        List.of(Gate.SDPA_ELEMENTWISE), ModelConfig.read(model).decoder().attention().gates());
    assertTrue(
        Files.readString(model.resolve("config.json"))
            .contains("\"elementwise_attn_output_gate\" : true"));
    assertTrue(numbers.path("written_difference").asDouble() < 1e-5);
    var trained = weights(CheckpointDirectory.latest(output.resolve("checkpoints")).orElseThrow());
    var written = weights(model);
    trained.forEach(
        (name, numbersOf) -> {
          float factor = name.endsWith("o_proj.weight") ? 2 : 1;
          for (int i = 0; i < numbersOf.length; i++) {
            assertEquals(factor * numbersOf[i], written.get(name)[i], name);
          }
        });
    assertEquals(trained.keySet(), written.keySet());
    var packed = weights(output.resolve("model-query_head"));
    written.forEach((name, numbersOf) -> assertArrayEquals(numbersOf, packed.get(name), name));
    String page = Files.readString(output.resolve("report.html"));
    for (String heading : List.of("What moved", "Attention before and after", "Rounding")) {
      assertTrue(page.contains(heading), heading);
    }

    // a model that has the gate: nothing to control, and it is told
    var gated =
        Cli.run(
            "retrofit",
            model,
            "--gate",
            "sdpa-elementwise",
            "--control",
            "--output",
            directory.resolve("twice"));
    assertEquals(Main.BAD_INPUT, gated.code(), gated::toString);
    assertTrue(lastLine(gated).contains("has gate sdpa-elementwise already"), gated::err);

    var again = Cli.run("retrofit", "--resume", output).succeeded();
    assertTrue(again.out().contains("What moved"), again::out);
    String fewer = lastLine(Cli.run("retrofit", "--resume", output, "--steps", 2));
    assertTrue(fewer.contains("is of step 3 and the run has 2 steps"), fewer);
  }

  /// Everything frozen but the gates: what was there is written as it was.
  @Test
  void frozen() throws IOException {
    Path output = directory.resolve("frozen");
    retrofit(output, "--gate", "sdpa-headwise", "--frozen-steps", -1).succeeded();
    var before = weights(CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow());
    var after = weights(output.resolve("model"));
    before.forEach(
        (name, numbers) -> {
          float factor = name.endsWith("o_proj.weight") ? 2 : 1;
          for (int i = 0; i < numbers.length; i++) {
            assertEquals(factor * numbers[i], after.get(name)[i], name);
          }
        });
    assertTrue(
        lastLine(retrofit(directory.resolve("x"), "--frozen-steps", -1, "--control"))
            .contains("the control is the model itself"));
  }

  /// What a model learned is not held out by what goes on with it, or that is told.
  @Test
  void whatIsHeldOutIsWhatTheModelHasNotSeen() throws IOException {
    Path few = directory.resolve("few");
    Cli.run(Cli.tiny(text, few, "--gate", "none", "--held-out-share", 0.02, "--sample-tokens", 0))
        .succeeded();
    Path output = directory.resolve("few-gated");
    Object[] retrofit = {"retrofit", few, "--steps", 1, "--device", "cpu", "--output"};
    var same = Cli.run(with(retrofit, output)).succeeded();
    assertTrue(same.err().contains("held_out_share=0.02"), same::err);
    assertFalse(same.err().contains("may be what the model has learned"), same::err);
    assertArrayEquals(
        Files.readAllBytes(few.resolve("corpus/held-out.tokens")),
        Files.readAllBytes(output.resolve("corpus/held-out.tokens")));

    String told = "with held_out_share 0.02, and now it is 0.1";
    Path other = directory.resolve("few-other");
    var more = Cli.run(with(retrofit, other, "--held-out-share", 0.1)).succeeded();
    assertTrue(more.err().contains(told), more::err);
    Path another = Cli.text(directory.resolve("another.txt"));
    for (Path data : List.of(text, another)) {
      var given =
          Cli.run(with(retrofit, directory.resolve("few-" + data.getFileName()), "--data", data))
              .succeeded();
      assertEquals(data.equals(text), given.err().contains("held_out_share=0.02"), given::err);
      assertTrue(given.err().contains("sequence_length=64"), given::err);
    }
    Path started = directory.resolve("few-started");
    var train =
        Cli.run(
                "train",
                "--start",
                few,
                "--gate",
                "model",
                "--data",
                text,
                "--steps",
                1,
                "--sequence-length",
                64,
                "--batch-size",
                2,
                "--device",
                "cpu",
                "--sample-tokens",
                0,
                "--output",
                started)
            .succeeded();
    assertTrue(train.err().contains(told), train::err);
  }

  /// The control's weights stand still for as many steps as those of the gated model.
  @Test
  void theControlMovesForAsManySteps() throws IOException {
    Path output = directory.resolve("frozen-control");
    retrofit(output, "--frozen-steps", 2, "--control", "--save-every", 2, "--keep-checkpoints", 9)
        .succeeded();
    var before = weights(CheckpointDirectory.latest(parent.resolve("checkpoints")).orElseThrow());
    for (String run : new String[] {"", "control"}) {
      Path checkpoints = output.resolve(run).resolve("checkpoints");
      var frozen = weights(checkpoints.resolve("step-00000002"));
      var moved = weights(checkpoints.resolve("step-00000003"));
      before.forEach((name, numbers) -> assertArrayEquals(numbers, frozen.get(name), run + name));
      assertFalse(
          Arrays.equals(
              frozen.get("model.embed_tokens.weight"), moved.get("model.embed_tokens.weight")));
    }

    Path settings = output.resolve("control/config.toml");
    String now = Files.readString(settings);
    String old = now.replace("frozen_steps = 2", "frozen_steps = 0");
    Object[] resume = {"retrofit", "--resume", output, "--control"};
    Files.writeString(settings, old);
    String earlier = lastLine(Cli.run(resume));
    assertTrue(earlier.contains("has frozen_steps 0, not 2: controls of earlier"), earlier);
    assertTrue(earlier.contains("remove " + output.resolve("control")), earlier);
    Files.writeString(settings, old.replace("seed = 1", "seed = 2"));
    String other = lastLine(Cli.run(resume));
    assertTrue(other.contains("is of another retrofit"), other);
  }

  /// What it says can be pasted into a shell.
  @Test
  void theCommandThatGoesOnIsQuoted() {
    var again = List.of("--control", "--json", "it's.json");
    assertEquals(
        "./sluice retrofit --resume 'my runs/a' --control --json 'it'\\''s.json'",
        new ContinuedTraining("retrofit", List.of(), again).goOn(Path.of("my runs/a")));
    assertEquals(
        "./sluice extend --resume runs/a-1 --json größer.json",
        new ContinuedTraining("extend", List.of(), List.of("--json", "größer.json"))
            .goOn(Path.of("runs/a-1")));
  }

  /// From another directory, or where another text has the name.
  @Test
  void anotherTextOfTheNameIsRefused() throws IOException {
    Path here = Path.of("").toAbsolutePath();
    Path own = Cli.text(directory.resolve("own.txt"));
    Path run = directory.resolve("relative");
    Cli.run(Cli.tiny(here.relativize(own), run, "--gate", "none", "--sample-tokens", 0))
        .succeeded();
    assertEquals(
        own.toString(), RunConfig.from(run.resolve(RunConfig.FILE), Map.of()).text().data());

    Files.writeString(own, Files.readString(own).replace("wind", "rain"));
    for (String command : new String[] {"retrofit", "extend"}) {
      Path output = directory.resolve("other-" + command);
      Object[] begun = {command, run, "--output", output, "--rope-theta", "1e6"};
      Object[] arguments = command.equals("retrofit") ? Arrays.copyOf(begun, 4) : begun;
      var refused = Cli.run(arguments);
      assertTrue(
          lastLine(refused).contains("own.txt is not the text that the model was trained on"),
          refused::err);
      assertFalse(Files.exists(output));
    }
    Cli.run(
            with(
                new Object[] {"retrofit", run, "--steps", 1, "--device", "cpu", "--data", own},
                "--output",
                directory.resolve("meant")))
        .succeeded();
  }

  private static Object[] with(Object[] arguments, Object... more) {
    return Stream.concat(Stream.of(arguments), Stream.of(more)).toArray();
  }

  @Test
  void refusals() {
    Path none = directory.resolve("none");
    Map<Object[], String> refused =
        Map.of(
            new Object[] {"--gate", "sdpa-elementwise-silu"}, "does not begin as if",
            new Object[] {"--gate", "none", "--frozen-steps", -1}, "add a gate",
            new Object[] {"--sequence-length", 40_000}, "more than the context",
            new Object[] {"--packing", "elsewhere"}, "unknown gate_packing",
            new Object[] {"--gate-anneal-steps", 3}, "the run has 3 steps",
            new Object[] {"--first-token-layers", "9"}, "names layer 9");
    refused.forEach(
        (flags, says) -> {
          String sentence = lastLine(retrofit(none, flags));
          assertTrue(sentence.contains(says), sentence);
          assertFalse(Files.exists(none.resolve(RunConfig.FILE)));
        });
    assertTrue(Cli.run("retrofit").refusal().contains("needs a model"));
    assertTrue(
        Cli.run("retrofit", directory.resolve("nowhere")).refusal().contains("holds neither"));
    assertTrue(
        Cli.run("retrofit", "--resume", parent, "--seed", 2).refusal().contains("leave out"));
  }

  /// After the note of what the settings are.
  private static String lastLine(Cli.Answer answer) {
    assertEquals(Main.BAD_INPUT, answer.code(), answer::toString);
    return answer.err().lines().toList().getLast();
  }
}
