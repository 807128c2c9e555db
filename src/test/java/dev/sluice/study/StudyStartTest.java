package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/// A study whose trials all begin with the weights of one checkpoint.
class StudyStartTest {
  @TempDir Path directory;

  private static final TrainingRun.Origin ORIGIN = new TrainingRun.Origin("test", List.of("study"));

  private Path parent() throws IOException {
    var config =
        SmallStudy.CONFIG.with(
            null, Map.of("steps", "2", "save_every", "2", "gate", "none", "learning_rate", "0.02"));
    var bytes = Tokenizers.load("bytes");
    Path run = directory.resolve("parent");
    var corpus =
        RunCorpus.prepare(config, bytes, directory.resolve("parent/corpus"), false, _ -> {});
    new TrainingRun(config, run, ORIGIN, new TrainingRun.Listener() {}, () -> false)
        .start(corpus, bytes);
    return run;
  }

  /// The file names no shape: sizes are the checkpoint's, variants differ in what drives them, and
  /// all begin with the same loss, as the gate begins as nothing.
  @Test
  void trialsBeginWithOneModel() throws IOException {
    Path file = directory.resolve("study.toml");
    Files.writeString(
        file,
        """
        start = "%s"
        seeds = 1
        steps = 4
        sequence_length = 64
        batch_size = 2
        held_out_windows = 2
        new_learning_rate = 1e-2
        [[variant]]
        name = "further training"
        gate = "model"
        [[variant]]
        name = "gate"
        gate = "sdpa-elementwise"
        [[variant]]
        name = "gate and penalty"
        gate = "sdpa-elementwise"
        first_token_penalty = 1
        parent_kl = 1
        """
            .formatted(parent().toString().replace("\\", "/")));
    var study = StudyFile.read(file, SmallStudy.CONFIG.with(null, shapeless()), Map.of());
    assertEquals(Matching.NONE, study.matching());
    assertTrue(study.base().start().start().contains("step-00000002"));
    var results = run(study, directory.resolve("study"), "1/1");
    assertEquals(3, results.size());
    for (var result : results) {
      assertEquals(results.getFirst().initialLoss(), result.initialLoss(), result.variant());
      assertEquals(Math.log(256), result.lossBound(), 1e-12);
    }
    var trial = study.trials(directory.resolve("study")).getFirst();
    Path measured = trial.directory().resolve("trial.json");
    Files.writeString( // as an earlier version wrote it
        measured, Files.readString(measured).replaceFirst("\"loss_bound\"\\s*:[^,}]*,", ""));
    assertEquals(Math.log(256), TrialResult.read(trial).lossBound(), 1e-12);
    Path shape = Path.of(trial.config().start().start()).resolve("config.json");
    Path away = Files.move(shape, directory.resolve("away"));
    assertTrue(Double.isNaN(TrialResult.read(trial).lossBound()));
    Files.move(away, shape);
    assertNull(results.getFirst().meanGate());
    assertEquals(1, results.get(1).meanGate(), 0.3);
    assertNotEquals(results.get(1).heldOutLoss(), results.get(2).heldOutLoss());

    var matched =
        assertThrows(
            InvalidInputException.class,
            () ->
                StudyFile.read(
                    file,
                    SmallStudy.CONFIG.with(null, shapeless()),
                    Map.of(),
                    1,
                    Matching.PARAMETERS,
                    Map.of()));
    assertTrue(matched.getMessage().contains("whose width nothing can match"));
    var own =
        assertThrows(
            InvalidInputException.class,
            () ->
                StudyFile.read(
                    file,
                    SmallStudy.CONFIG.with(null, shapeless()),
                    Map.of(),
                    null,
                    null,
                    Map.of("start", List.of("a", "b"))));
    assertTrue(own.getMessage().contains("sets start"), own::getMessage);
  }

  /// Shards run at different times, between which the weights may be replaced: their trials would
  /// be paired.
  @Test
  void trialsThatBeganWithDifferentWeightsAreNoPair() throws IOException {
    Path file = directory.resolve("study.toml");
    Files.writeString(
        file,
        """
        start = "%s"
        seeds = 1
        steps = 2
        save_every = 2
        [[variant]]
        name = "plain"
        gate = "model"
        [[variant]]
        name = "gated"
        gate = "sdpa-elementwise"
        """
            .formatted(parent().toString().replace("\\", "/")));
    var study = StudyFile.read(file, SmallStudy.CONFIG.with(null, shapeless()), Map.of());
    Path place = directory.resolve("study");
    assertEquals(1, run(study, place, "1/2").size());
    Path weights = Path.of(study.base().start().start()).resolve("model.safetensors");
    byte[] before = Files.readAllBytes(weights);
    byte[] after = before.clone();
    after[after.length - 4] ^= 1;
    Files.write(weights, after);
    String begun =
        assertThrows(InvalidInputException.class, () -> run(study, place, "2/2")).getMessage();
    assertTrue(
        begun.contains("other weights than plain, seed 1 began with, so gated, seed 1"), begun);
    Files.write(weights, before);
    assertEquals(1, run(study, place, "2/2").size());
    assertEquals(2, study.results(place).size());

    Path manifest = place.resolve("trials").resolve("gated-seed1").resolve("manifest.json");
    Files.writeString(
        manifest,
        Files.readString(manifest)
            .replaceFirst("(\"start_weights_sha256\"\\s*:\\s*\")[0-9a-f]", "$1x"));
    for (Executable each :
        List.<Executable>of(() -> study.results(place), () -> run(study, place, "1/1"))) {
      String done = assertThrows(InvalidInputException.class, each).getMessage();
      assertTrue(done.contains("gated, seed 1 began with other weights"), done);
      assertTrue(done.contains("than plain, seed 1"), done);
    }
  }

  private static List<TrialResult> run(Study study, Path place, String shard) throws IOException {
    return study.run(
        place, Shard.parse(shard), ORIGIN, _ -> new TrainingRun.Listener() {}, () -> false);
  }

  /// [SmallStudy] without its sizes.
  private static Map<String, String> shapeless() {
    var defaults = RunConfig.DEFAULTS.settings();
    return Map.of(
        "hidden_size", String.valueOf(defaults.get("hidden_size")),
        "intermediate_size", "0",
        "layers", "0",
        "attention_heads", "0",
        "key_value_heads", "0",
        "head_dim", "0");
  }
}
