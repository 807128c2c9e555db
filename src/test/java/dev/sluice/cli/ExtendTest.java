package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.RopeScaling;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.files.JsonFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// A longer context as a user asks for it, with training and without.
class ExtendTest {
  @TempDir static Path shared;

  private static Path model;

  @TempDir Path directory;

  @BeforeAll
  static void train() throws IOException {
    Path run = shared.resolve("run");
    Cli.run(
            Cli.tiny(
                Cli.text(shared.resolve("log.txt")),
                run,
                "--context",
                64,
                "--sample-tokens",
                0,
                "--steps",
                2))
        .succeeded();
    model = run.resolve("checkpoints/step-00000002");
  }

  @Test
  void aStretchChangesNoWeight() throws IOException {
    Path output = directory.resolve("yarn");
    var answer =
        Cli.run("extend", model, "--rope-scaling", "yarn*2", "--output", output).succeeded();
    assertTrue(answer.out().contains("tokens 65 to 128"), answer::out);
    assertTrue(answer.out().contains("no weight changed"), answer::out);
    Path written = output.resolve("model");
    assertArrayEquals(
        Files.readAllBytes(model.resolve("model.safetensors")),
        Files.readAllBytes(written.resolve("model.safetensors")));
    var decoder = ModelConfig.read(written).decoder();
    assertEquals(128, decoder.maxPositionEmbeddings());
    var rotary = decoder.attention().positions().rotary().orElseThrow();
    assertEquals(new RopeScaling.Yarn(2, 64), rotary.scaling());
    assertEquals(1e4, rotary.theta());
    var json = JsonFile.object(output.resolve("extend.json"), JsonFile.LARGE, "").path("models");
    assertEquals(3, json.size());
    double before = json.path("as it was").path("nats_per_token").path("1-64").asDouble();
    double after = json.path("extended").path("nats_per_token").path("1-64").asDouble();
    assertTrue(before > 0 && after > 0 && before != after, json::toString);
    assertEquals(128, json.path("extended").path("nats_by_position").size());
    // once more, from what was written: its text and its old context are known
    var twice =
        Cli.run(
                "extend",
                written,
                "--rope-scaling",
                "dynamic*3",
                "--output",
                directory.resolve("b"))
            .succeeded();
    assertTrue(twice.out().contains("The context is 192 tokens, 3.00 times the 64"), twice::out);
    assertEquals(
        new RopeScaling.Dynamic(3, 64),
        ModelConfig.read(directory.resolve("b/model"))
            .decoder()
            .attention()
            .positions()
            .rotary()
            .orElseThrow()
            .scaling());
  }

  @Test
  void anotherBaseIsTrainedAndResumed() throws IOException {
    Path output = directory.resolve("long");
    Object[] first = {
      "extend",
      model,
      "--rope-theta",
      "1e6",
      "--sequence-length",
      160,
      "--batch-size",
      1,
      "--steps",
      2,
      "--held-out-windows",
      2,
      "--output",
      output
    };
    var answer = Cli.run(first).succeeded();
    assertTrue(answer.out().contains("160 tokens, 2.50 times the 64"), answer::out);
    assertTrue(answer.out().contains("after 2 steps"), answer::out);
    assertTrue(Cli.run(first).refusal().contains("--resume"), "there already");
    Cli.run("extend", "--resume", output, "--steps", 3).succeeded();
    var decoder = ModelConfig.read(output.resolve("model")).decoder();
    assertEquals(160, decoder.maxPositionEmbeddings());
    assertEquals(1e6, decoder.attention().positions().rotary().orElseThrow().theta());
    assertArrayEquals(
        Files.readAllBytes(output.resolve("checkpoints/step-00000003/model.safetensors")),
        Files.readAllBytes(output.resolve("model/model.safetensors")));
    assertTrue(
        Cli.run("extend", "--resume", output, "--rope-theta", 5)
            .refusal()
            .contains("leave out rope_theta"));
  }

  /// The context of a named model says nothing of what this one was trained with.
  @Test
  void theTrainedContextIsThatOfTheTraining() throws IOException {
    Path run = directory.resolve("run");
    Cli.run(
            Cli.tiny(
                shared.resolve("log.txt"),
                run,
                "--sample-tokens",
                0,
                "--steps",
                2,
                "--held-out-share",
                0.2))
        .succeeded();
    assertEquals(
        32_768,
        ModelConfig.read(run.resolve("checkpoints/step-00000002"))
            .decoder()
            .maxPositionEmbeddings());
    Path output = directory.resolve("yarn");
    var answer = Cli.run("extend", run, "--rope-scaling", "yarn*2", "--output", output).succeeded();
    assertTrue(answer.out().contains("128 tokens, 2.00 times the 64"), answer::out);
    assertEquals(
        new RopeScaling.Yarn(2, 64),
        ModelConfig.read(output.resolve("model"))
            .decoder()
            .attention()
            .positions()
            .rotary()
            .orElseThrow()
            .scaling());
    // how it was trained goes with the model
    assertArrayEquals(
        Files.readAllBytes(run.resolve("checkpoints/step-00000002/manifest.json")),
        Files.readAllBytes(output.resolve("model/manifest.json")));
  }

  /// A factor stretches what the model was trained with, whatever it was stretched to before.
  @Test
  void aContextThatBecomesShorterIsTold() throws IOException {
    Path four = directory.resolve("four");
    var longer = Cli.run("extend", model, "--rope-scaling", "yarn*4", "--output", four).succeeded();
    assertFalse(longer.err().contains("had a context"), longer::err);
    Path two = directory.resolve("two");
    var shorter =
        Cli.run("extend", four.resolve("model"), "--rope-scaling", "yarn*2", "--output", two)
            .succeeded();
    String told = "The model had a context of 256 tokens, and has 128 now";
    assertTrue(shorter.err().contains(told), shorter::err);
    assertTrue(shorter.out().replaceAll("\\s+", " ").contains(told), shorter::out);
    assertTrue(shorter.err().contains(told + ": a factor of rope_scaling counts"), shorter::err);
    Object[] plain = {"--rope-scaling", "none", "--rope-theta", "1e6", "--context", 128};
    List<Object> given = new ArrayList<>(List.of("extend", four.resolve("model")));
    given.addAll(List.of(plain));
    given.addAll(List.of("--output", directory.resolve("asked")));
    var asked = Cli.run(given.toArray()).succeeded();
    assertTrue(asked.err().contains(told + "."), asked::err);
    assertFalse(asked.out().contains("a factor"), asked::out);
    var json = JsonFile.object(two.resolve("extend.json"), JsonFile.LARGE, "");
    assertEquals(256, json.path("context_before").asInt());
    assertEquals(128, json.path("context").asInt());
  }

  /// Another program's manifest says nothing.
  @Test
  void aForeignModelWithoutATextIsNotMeasured() throws IOException {
    Path foreign = Files.createDirectory(directory.resolve("foreign"));
    for (String name : new String[] {"config.json", "model.safetensors"}) {
      Files.copy(model.resolve(name), foreign.resolve(name));
    }
    Files.writeString(foreign.resolve("manifest.json"), "{\"sequence_length\": 7}");
    Path output = directory.resolve("linear");
    var answer =
        Cli.run("extend", foreign, "--rope-scaling", "linear*4", "--output", output).succeeded();
    assertTrue(answer.out().contains("256 tokens, 4.00 times the 64"), answer::out);
    assertTrue(answer.out().contains("No text was given (--data)"), answer::out);
    assertEquals(256, ModelConfig.read(output.resolve("model")).decoder().maxPositionEmbeddings());
  }

  @Test
  void whatMakesNoSenseIsOneSentence() {
    Path output = directory.resolve("refused");
    assertRefused(output, "say how, such as --rope-theta", model);
    assertRefused(output, "unknown rope_scaling 'yern*4'", model, "--rope-scaling", "yern*4");
    assertRefused(output, "at least 1, not 0.5", model, "--rope-scaling", "linear*0.5");
    assertRefused(
        output, "without --steps there is none", model, "--rope-theta", 5, "--batch-size", 2);
    assertRefused(output, "needs a model", "--rope-theta", 5);
    assertRefused(
        output,
        "cannot be set with rope_scaling dynamic*2",
        model,
        "--rope-scaling",
        "dynamic*2",
        "--context",
        99);
    assertRefused(
        output,
        "from 2 to the new context of 128 tokens, not 129",
        model,
        "--rope-scaling",
        "linear*2",
        "--measured-length",
        129);
    assertRefused(output, "that float32 has, not 1.0E300", model, "--rope-scaling", "yarn*1e300");
    for (String command : new String[] {"extend", "retrofit"}) {
      String began = Cli.run(command, "--resume", shared.resolve("run")).refusal();
      assertTrue(began.contains("so no " + command + " began there"), began);
    }
    assertRefused(output, "use a factor that leaves", model, "--rope-scaling", "linear*1e12");
    assertRefused(
        output, "which no file is put in place of", model, "--rope-theta", 5, "--json", shared);
  }

  private static void assertRefused(Path output, String part, Object... arguments) {
    Object[] all = new Object[arguments.length + 3];
    all[0] = "extend";
    System.arraycopy(arguments, 0, all, 1, arguments.length);
    all[arguments.length + 1] = "--output";
    all[arguments.length + 2] = output;
    var answer = Cli.run(all);
    assertEquals(Main.BAD_INPUT, answer.code(), answer::toString);
    String last = answer.err().lines().toList().getLast();
    assertTrue(last.startsWith("sluice: ") && last.contains(part), last);
    assertFalse(Files.exists(output.resolve("model")));
  }
}
