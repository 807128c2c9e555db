package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.BatchReader;
import dev.sluice.corpus.Corpus;
import dev.sluice.optimizer.AdamW;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.TrainingRun.Ending;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// Faults injected into real runs.
class SurvivalTest {
  private static final JsonMapper JSON = JsonMapper.builder().build();

  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");
  private final Runs.Heard heard = new Runs.Heard();
  private Corpus corpus;
  private Path run;

  @BeforeEach
  void prepare() {
    corpus = Runs.corpus(directory.resolve("corpus"));
    run = directory.resolve("run");
  }

  private TrainingRun.Outcome start(RunConfig config, Runs.Fault fault) throws IOException {
    return Runs.run(config, run, fault, heard, () -> false).start(corpus, tokenizer);
  }

  private static void poisonOneGradient(Parameters parameters) {
    var gradient = parameters.get("model.layers.1.self_attn.k_proj.weight").gradient();
    assertNotNull(gradient);
    gradient.narrow(0, 0, 1).narrow(1, 0, 1).fill(Double.NaN);
  }

  // ---------------------------------------------------------------- the guard

  /// The loss is finite while one number of one gradient is not.
  @Test
  void aNanOnlyInTheGradientIsPassedOver() throws IOException {
    var outcome =
        start(
            Runs.config(),
            (step, loss, parameters) -> {
              if (step == 4) {
                poisonOneGradient(parameters);
              }
              return loss;
            });
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertEquals(List.of("4: the gradient norm is NaN"), heard.guarded);
    assertEquals(weights(3), weights(4), "the step moved weights");
    assertFalse(weights(4).equals(weights(5)), "the next step moved none");
    assertEquals(8, Runs.curve(run, "loss").size());
    assertEquals("[4]", Runs.curve(run, "skipped").keySet().toString());
  }

  @Test
  void aNanOnlyInTheLossIsPassedOver() throws IOException {
    var outcome = start(Runs.config(), (step, loss, _) -> step == 5 ? Double.NaN : loss);
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertEquals(List.of("5: the loss is NaN"), heard.guarded);
    assertEquals(weights(4), weights(5), "the step moved weights");
    JsonNode event = events().getFirst();
    assertEquals(5, event.path("step").asInt());
    assertEquals("skip", event.path("action").asString());
  }

  /// Batches at an offset stay at it: after going back the run reads what it has not read.
  @Test
  void goesBackToTheLastGoodCheckpointAndPassesTheBatches() throws IOException {
    var config = Runs.config("save_every", 3, "max_skips", 2, "steps", 9);
    var outcome =
        start(config, (step, loss, _) -> step >= 4 && heard.guarded.size() < 3 ? Double.NaN : loss);
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertEquals(
        List.of(
            "4: the loss is NaN",
            "5: the loss is NaN",
            "6: the loss is NaN",
            "6: going back to step 3; the batches since are passed over"),
        heard.guarded);
    // 1 2 3, then 4 and 5 passed over, back, and 4 … 9 with other batches
    assertEquals(List.of(1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9), heard.steps);
    assertEquals(9, Runs.curve(run, "loss").size());
    assertEquals(0, Runs.curve(run, "skipped").size());
    var state = TrainingCheckpoint.state(outcome.checkpoint());
    assertEquals(3, state.guard().batchesPassedOver());
    assertEquals(4, events().size());

    // the same weights as a run whose reader begins 3 further after step 3
    var batches = new BatchReader(corpus.train(), 2, 32, config.seed());
    assertFalse(Arrays.equals(batches.batch(3), batches.batch(6)));
    double[] losses = Runs.curve(run, "loss").values().stream().mapToDouble(x -> x).toArray();
    assertEquals(firstLossOn(batches.batch(6), config), losses[3], 0);
  }

  /// The loss of step 4's weights, which are those after the checkpoint of step 3, on a batch.
  private double firstLossOn(long[] batch, RunConfig config) {
    Path checkpoint = run.resolve("checkpoints").resolve(CheckpointDirectory.name(3));
    try (var decoder =
            ModelDirectory.load(checkpoint, config.computing().precisionOf(), Device.CPU, true);
        var trainer =
            new Trainer(
                decoder,
                new AdamW.Settings(0.9, 0.95, 1e-8, 0.1),
                config.optimization().scheduleOf(),
                config.optimization().learningRate(),
                config.optimization().clipNorm())) {
      return trainer.step(4, List.of(batch), 2, 32).loss();
    }
  }

  @Test
  void goesBackToNewWeightsWhereNothingWasSaved() throws IOException {
    var outcome =
        start(
            Runs.config("save_every", 100, "max_skips", 0, "max_rollbacks", 1),
            (step, loss, _) -> step == 3 && heard.guarded.isEmpty() ? Double.NaN : loss);
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertEquals(List.of(1, 2, 1, 2, 3, 4, 5, 6, 7, 8), heard.steps);
    assertEquals(3, TrainingCheckpoint.state(outcome.checkpoint()).guard().batchesPassedOver());
  }

  /// Bounded: what never ends is given up, with all that is needed to meet it again.
  @Test
  void givesUpAndLeavesTheBatchTheStatisticsAndTheCommand() throws IOException {
    var config = Runs.config("save_every", 4, "max_skips", 0, "max_rollbacks", 1);
    Runs.Fault fault =
        (step, loss, parameters) -> {
          if (step >= 6) {
            poisonOneGradient(parameters);
          }
          return loss;
        };
    var outcome = start(config, fault);
    assertEquals(Ending.DIVERGED, outcome.ending());
    Path failure = outcome.failure();
    assertEquals(run.resolve("failure/step-00000006"), failure);

    JsonNode statistics = JSON.readTree(Files.readString(failure.resolve("statistics.json")));
    assertEquals(6, statistics.path("step").asInt());
    assertEquals(4, statistics.path("from_step").asInt());
    assertEquals("NaN", statistics.path("gradient_norm").asString());
    assertTrue(Double.isFinite(statistics.path("loss").asDouble()));
    assertEquals(
        "[\"model.layers.1.self_attn.k_proj.weight\"]", statistics.path("not_finite").toString());
    assertEquals(5, statistics.path("guard").path("losses").size());

    JsonNode batch = JSON.readTree(Files.readString(failure.resolve("batch.json")));
    long index = batch.path("first_batch").asLong();
    long[] ids = new BatchReader(corpus.train(), 2, 32, config.seed()).batch(index);
    var recorded =
        batch
            .path("token_ids")
            .valueStream()
            .flatMap(JsonNode::valueStream)
            .mapToLong(JsonNode::asLong);
    assertEquals(Arrays.toString(ids), Arrays.toString(recorded.toArray()));
    String text = tokenizer.decode(Arrays.stream(ids, 0, 33).mapToInt(id -> (int) id).toArray());
    assertTrue(Files.readString(failure.resolve("batch.txt")).contains(text));
    assertTrue(Files.readString(failure.resolve("command.txt")).contains("--resume " + run));

    // the command meets the same step again
    var again = new Runs.Heard();
    var second = Runs.run(config, run, fault, again, () -> false).resume(corpus, tokenizer);
    assertEquals(Ending.DIVERGED, second.ending());
    assertEquals(failure, second.failure());
    assertEquals(
        batch, JSON.readTree(Files.readString(failure.resolve("batch.json"))), "another batch");

    // and where the fault is gone, the run goes on
    var third =
        Runs.run(config, run, Runs.Fault.NONE, again, () -> false).resume(corpus, tokenizer);
    assertEquals(Ending.COMPLETE, third.ending());
    assertEquals(8, third.steps());
  }

  @Test
  void aCrashLeavesItsBatchToo() {
    var crash =
        assertThrows(
            IllegalStateException.class,
            () ->
                start(
                    Runs.config(),
                    (step, loss, _) -> {
                      if (step == 3) {
                        throw new IllegalStateException("out of memory, say");
                      }
                      return loss;
                    }));
    assertEquals(0, crash.getSuppressed().length);
    Path failure = run.resolve("failure/step-00000003");
    assertTrue(Files.exists(failure.resolve("batch.json")));
    assertTrue(read(failure.resolve("statistics.json")).contains("out of memory, say"));
  }

  // ---------------------------------------------------------------- the disk

  /// A save that fails is told and made up for; training goes on.
  @Test
  void goesOnWithoutASaveAndMakesUpForIt() throws IOException {
    Path way = run.resolve("checkpoints").resolve(CheckpointDirectory.name(4));
    var config = Runs.config("save_every", 2);
    var outcome =
        start(
            config,
            (step, loss, _) -> {
              if (step == 4) {
                block(way);
              }
              return loss;
            });
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertEquals(1, heard.notSaved.size(), heard.notSaved::toString);
    assertTrue(heard.notSaved.getFirst().startsWith("4: "), heard.notSaved::toString);
    assertTrue(
        heard.notSaved.getFirst().contains("step-00000004 exists already"),
        heard.notSaved::toString);
    assertEquals(
        List.of("step-00000002", "step-00000004", "step-00000006", "step-00000008"),
        Runs.checkpoints(run));
    for (int step : new int[] {2, 6, 8}) {
      CheckpointDirectory.verify(
          run.resolve("checkpoints").resolve(CheckpointDirectory.name(step)));
    }
  }

  /// A place where nobody, not even root, may write: every save is told, and the last ends the run.
  @Test
  void aReadOnlyDirectoryIsToldAtEverySaveAndEndsTheRun() throws IOException {
    Runs.Fault moved =
        (step, loss, _) -> {
          if (step == 1) {
            linkCheckpoints(Path.of("/sys/kernel"));
          }
          return loss;
        };
    String failure =
        assertThrows(IOException.class, () -> start(Runs.config("save_every", 3), moved))
            .getMessage();
    assertEquals(2, heard.notSaved.size(), heard.notSaved::toString);
    assertTrue(heard.notSaved.getFirst().startsWith("3: "), heard.notSaved::toString);
    assertTrue(failure.contains("the run stopped after step 8"), failure);
    assertTrue(failure.contains("was not saved"), failure);
    assertTrue(failure.contains("there is no earlier checkpoint"), failure);
    assertEquals(8, Runs.curve(run, "loss").size());
  }

  private void linkCheckpoints(Path elsewhere) {
    try {
      Files.delete(run.resolve("checkpoints"));
      Files.createSymbolicLink(run.resolve("checkpoints"), elsewhere);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// A file stands where a directory is to appear: no rename replaces it.
  private static void block(Path place) {
    try {
      Files.writeString(place, "in the way");
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Test
  void recordsHowLongTrainingWaitedForASave() throws IOException {
    start(Runs.config(), Runs.Fault.NONE);
    var pauses = RunMetrics.timings(run).curve("save_pause_seconds");
    var saves = RunMetrics.timings(run).curve("save_seconds");
    assertEquals(8, pauses.values().length);
    assertEquals(8, saves.values().length);
    assertTrue(Arrays.stream(saves.values()).allMatch(seconds -> seconds > 0));
  }

  /// One bit of one file, for every file of a checkpoint and both shards.
  @Test
  void aFlippedBitIsFoundAndNamedAndTheCheckpointBeforeIsOffered() throws IOException {
    var config = Runs.config("save_every", 4);
    start(config, Runs.Fault.NONE);
    Path last = run.resolve("checkpoints/step-00000008");
    List<Path> files;
    try (Stream<Path> all = Files.list(last)) {
      files = all.sorted().toList();
    }
    assertTrue(files.size() >= 6, files::toString);
    for (Path file : files) {
      for (double place : new double[] {0, 0.5, 1}) {
        byte[] bytes = Files.readAllBytes(file);
        byte[] flipped = bytes.clone();
        flipped[(int) (place * (bytes.length - 1))] ^= 4;
        Files.write(file, flipped);
        var refused =
            assertThrows(
                InvalidInputException.class,
                () ->
                    Runs.run(config, run, Runs.Fault.NONE, heard, () -> false)
                        .resume(corpus, tokenizer));
        // a flip in the list of checksums may be of a name: then that name is what is missing
        assertTrue(
            refused.getMessage().contains(file.getFileName().toString())
                || file.endsWith(CheckpointDirectory.CHECKSUMS),
            refused.getMessage());
        assertTrue(
            refused.getMessage().contains("--resume " + run + " --checkpoint step-00000004"),
            refused.getMessage());
        var damaged =
            RunCheck.check(run, _ -> {}).stream().filter(part -> part.damage() != null).toList();
        assertEquals(List.of(last), damaged.stream().map(RunCheck.Part::path).toList());
        Files.write(file, bytes);
      }
    }
    for (String shard : List.of("train.tokens", "held-out.tokens")) {
      Path file = directory.resolve("corpus").resolve(shard);
      byte[] bytes = Files.readAllBytes(file);
      byte[] flipped = bytes.clone();
      flipped[bytes.length / 3] ^= 64;
      Files.write(file, flipped);
      var refused =
          assertThrows(
              InvalidInputException.class,
              () ->
                  RunCorpus.prepare(config, tokenizer, directory.resolve("corpus"), true, _ -> {}));
      assertTrue(refused.getMessage().contains(shard), refused.getMessage());
      Files.write(file, bytes);
    }
  }

  /// What is offered works: the damaged checkpoint is set aside and the run ends as it would have.
  @Test
  void goesOnFromTheCheckpointThatIsOffered() throws IOException {
    var config = Runs.config("save_every", 2);
    start(config, Runs.Fault.NONE);
    var expected = Runs.result(run);
    Path broken = Runs.after(run, 6, directory.resolve("broken"));
    Files.writeString(broken.resolve("checkpoints/step-00000006/model.safetensors"), "rot");
    var outcome =
        Runs.run(config, broken, Runs.Fault.NONE, heard, () -> false)
            .resume(corpus, tokenizer, "step-00000004");
    assertEquals(8, outcome.steps());
    assertEquals(expected, Runs.result(broken));
    assertTrue(Runs.checkpoints(broken).contains("step-00000006.set-aside"));
    assertTrue(
        assertThrows(
                InvalidInputException.class,
                () ->
                    Runs.run(config, broken, Runs.Fault.NONE, heard, () -> false)
                        .resume(corpus, tokenizer, "step-00000099"))
            .getMessage()
            .contains("step-00000004"));
  }

  /// Its metrics are replaced, so it must not go unsaid.
  @Test
  void aRunWithoutACheckpointSaysThatItBeginsAgain() throws IOException {
    var config = Runs.config("save_every", 8);
    start(config, Runs.Fault.NONE);
    heard.noted.clear();
    Files.move(run.resolve("checkpoints/step-00000008"), run.resolve("checkpoints/last"));
    var outcome =
        Runs.run(config, run, Runs.Fault.NONE, heard, () -> false).resume(corpus, tokenizer);
    assertEquals(8, outcome.steps());
    assertEquals(
        List.of(
            run.resolve("checkpoints")
                + " holds no complete checkpoint but last: the run begins again at step 1 and"
                + " replaces its metrics."),
        heard.noted);
    assertTrue(Files.exists(run.resolve("checkpoints/last")));
  }

  /// Going back does not trust a checkpoint either.
  @Test
  void goesBackFurtherWhereTheLastCheckpointIsDamaged() throws IOException {
    var config = Runs.config("save_every", 2, "max_skips", 0);
    var outcome =
        start(
            config,
            (step, loss, _) -> {
              if (step == 6 && heard.guarded.isEmpty()) {
                awaitThenDamage(run.resolve("checkpoints/step-00000004"));
                return Double.NaN;
              }
              return loss;
            });
    assertEquals(Ending.COMPLETE, outcome.ending());
    assertTrue(heard.guarded.getLast().contains("back to step 2"), heard.guarded::toString);
    assertTrue(Runs.checkpoints(run).contains("step-00000004.set-aside"));
  }

  private static void awaitThenDamage(Path checkpoint) {
    try {
      while (Files.notExists(checkpoint)) {
        Thread.sleep(2);
      }
      Files.writeString(checkpoint.resolve("state.json"), "{}");
    } catch (IOException | InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  // ---------------------------------------------------------------- what stays, what changed

  @Test
  void keepsTheNewestEveryNthAndTheBest() throws IOException {
    var config =
        Runs.config("steps", 12, "keep_checkpoints", 2, "keep_every", 5, "evaluate_every", 1);
    start(config, Runs.Fault.NONE);
    var heldOut = Runs.curve(run, "held_out_loss");
    int best = heldOut.entrySet().stream().min(Map.Entry.comparingByValue()).orElseThrow().getKey();
    var stay =
        IntStream.concat(IntStream.of(5, 10, 11, 12), IntStream.of(best))
            .sorted()
            .distinct()
            .mapToObj(CheckpointDirectory::name)
            .toList();
    assertEquals(stay, Runs.checkpoints(run));
  }

  /// The best is not always among the newest, and what is no checkpoint is nobody's to delete.
  @Test
  void keepsABestThatIsOldAndEverythingElse() throws IOException {
    var config = Runs.config("steps", 8, "keep_checkpoints", 1, "evaluate_every", 1);
    Path mine = run.resolve("checkpoints/my-notes");
    Files.createDirectories(mine);
    Files.createDirectories(run.resolve("checkpoints/step-00000002.old"));
    start(
        config,
        (step, loss, parameters) -> {
          if (step >= 4) { // from here on it gets worse
            try (var _ = Scope.withoutGradient()) {
              parameters.get("model.norm.weight").scaleInPlace(4);
            }
          }
          return loss;
        });
    var heldOut = Runs.curve(run, "held_out_loss");
    int best = heldOut.entrySet().stream().min(Map.Entry.comparingByValue()).orElseThrow().getKey();
    assertTrue(best < 8, heldOut::toString);
    assertEquals(
        List.of("my-notes", "step-00000002.old", CheckpointDirectory.name(best), "step-00000008")
            .stream()
            .sorted()
            .toList(),
        Runs.checkpoints(run));
  }

  @Test
  void anotherShapeIsRefusedByNameAndOtherSettingsAreTold() throws IOException {
    start(Runs.config(), Runs.Fault.NONE);
    var wider = Runs.config("intermediate_size", 96, "layers", 3);
    String refused =
        assertThrows(
                InvalidInputException.class,
                () ->
                    Runs.run(wider, run, Runs.Fault.NONE, heard, () -> false)
                        .resume(corpus, tokenizer))
            .getMessage();
    assertTrue(refused.contains("intermediate_size 64, now 96"), refused);
    assertTrue(refused.contains("num_hidden_layers 2, now 3"), refused);

    Runs.run(Runs.config("steps", 10, "seed", 7), run, Runs.Fault.NONE, heard, () -> false)
        .resume(corpus, tokenizer);
    assertEquals(List.of("steps 8 10", "seed 1 7"), heard.changed);
  }

  @Test
  void aChangedFileIsNamed() throws IOException {
    Path texts = Files.createDirectories(directory.resolve("texts"));
    for (String name : List.of("a.txt", "b.txt", "c.txt")) {
      Files.writeString(texts.resolve(name), (name + " is a text. ").repeat(200));
    }
    var config = Runs.config("data", texts.toString());
    Path place = directory.resolve("own");
    RunCorpus.prepare(config, tokenizer, place, false, _ -> {});
    Files.writeString(texts.resolve("b.txt"), "other");
    Files.delete(texts.resolve("c.txt"));
    Files.writeString(texts.resolve("d.txt"), "more");
    String refused =
        assertThrows(
                InvalidInputException.class,
                () -> RunCorpus.prepare(config, tokenizer, place, true, _ -> {}))
            .getMessage();
    assertTrue(refused.contains("(b.txt changed, c.txt is gone, d.txt is new)"), refused);
  }

  // ---------------------------------------------------------------- reading

  private String weights(int step) throws IOException {
    return Files.readString(
        run.resolve("checkpoints")
            .resolve(CheckpointDirectory.name(step))
            .resolve("model.safetensors"),
        StandardCharsets.ISO_8859_1);
  }

  private List<JsonNode> events() throws IOException {
    List<JsonNode> events = new ArrayList<>();
    for (String line : Files.readAllLines(run.resolve(TrainingRun.EVENTS))) {
      events.add(JSON.readTree(line));
    }
    return events;
  }

  private static String read(Path file) {
    try {
      return Files.readString(file);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
