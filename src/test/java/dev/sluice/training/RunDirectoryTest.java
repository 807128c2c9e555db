package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.WholeFile;
import dev.sluice.fuzz.Checksums;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.ElementType;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// What else may stand in a run's directory, and what may not be believed of it although its
/// checksums are right.
class RunDirectoryTest {
  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");
  private final Runs.Heard heard = new Runs.Heard();
  private final RunConfig config = Runs.config("steps", 4, "save_every", 2);
  private Corpus corpus;
  private Path run;

  @BeforeEach
  void train() throws IOException {
    corpus = Runs.corpus(directory.resolve("corpus"));
    run = directory.resolve("run");
    Runs.run(config, run, Runs.Fault.NONE, heard, () -> false).start(corpus, tokenizer);
  }

  private TrainingRun.Outcome resume(RunConfig settings) throws IOException {
    return Runs.run(settings, run, Runs.Fault.NONE, heard, () -> false).resume(corpus, tokenizer);
  }

  private String refused() {
    return assertThrows(InvalidInputException.class, () -> resume(config)).getMessage();
  }

  private Path checkpoint(int step) {
    return run.resolve("checkpoints").resolve(CheckpointDirectory.name(step));
  }

  // ---------------------------------------------------------------- links and leftovers

  /// Retention must not delete, and metrics must not be appended to, what belongs to others.
  @Test
  void aLinkThatLeadsOutIsRefused() throws IOException {
    for (String name : List.of("checkpoints", "metrics.jsonl", "timings.jsonl", "failure")) {
      Path own = run.resolve(name);
      Path elsewhere = directory.resolve("elsewhere-" + name);
      if (Files.exists(own)) {
        Files.move(own, elsewhere);
      } else {
        Files.createDirectory(elsewhere);
      }
      Files.createSymbolicLink(own, elsewhere);
      assertTrue(refused().contains(own + " is a link"), refused());
      Files.delete(own);
      Files.move(elsewhere, own);
    }
    assertEquals(4, resume(config).steps());
  }

  @Test
  void aCheckpointThatIsALinkIsNoneAndStays() throws IOException {
    Path other = directory.resolve("other/step-00000001");
    Runs.after(checkpoint(2), 99, Files.createDirectories(other.getParent()).resolve("tmp"));
    Files.move(other.resolveSibling("tmp"), other);
    Files.createSymbolicLink(checkpoint(1), other);
    Files.delete(checkpoint(4).resolve(CheckpointDirectory.CHECKSUMS));
    var settings =
        config.with(null, Map.of("keep_checkpoints", "1", "save_every", "1", "steps", "6"));
    assertEquals(6, resume(settings).steps());
    assertTrue(Files.exists(other.resolve(CheckpointDirectory.CHECKSUMS)), "it was deleted");
    assertTrue(Files.isSymbolicLink(checkpoint(1)), "the link was deleted");
  }

  @Test
  void whatAKilledOwnerLeftIsRemoved() throws IOException {
    Path partial = Files.writeString(WholeFile.partial(run.resolve("metrics.jsonl")), "half");
    Path elsewhere = Files.writeString(directory.resolve("elsewhere"), "stays");
    Path link = Files.createSymbolicLink(WholeFile.partial(run.resolve("events.jsonl")), elsewhere);
    resume(config);
    assertFalse(Files.exists(partial));
    assertFalse(Files.isSymbolicLink(link));
    assertEquals("stays", Files.readString(elsewhere));
  }

  @Test
  void anotherThreadsRunIsInUse() throws IOException {
    try (var _ = RunDirectory.own(run, "a test")) {
      var other =
          CompletableFuture.supplyAsync(
              () -> {
                try {
                  return resume(config);
                } catch (IOException e) {
                  throw new AssertionError(e);
                }
              });
      var e = assertThrows(CompletionException.class, other::join);
      assertTrue(e.getCause().getMessage().contains("is in use by"), e::toString);
    }
  }

  // ---------------------------------------------------------------- states

  private void changeState(UnaryOperator<String> change) throws IOException {
    Path state = checkpoint(4).resolve("state.json");
    String before = Files.readString(state);
    String after = change.apply(before);
    assertFalse(before.equals(after), "nothing was changed in " + before);
    Files.writeString(state, after);
    Checksums.renew(checkpoint(4));
  }

  private void refusesState(String was, String is, String because) throws IOException {
    Path state = checkpoint(4).resolve("state.json");
    String before = Files.readString(state);
    changeState(text -> text.replaceFirst(was, is));
    assertTrue(refused().contains(because), refused());
    var parts = RunCheck.check(run, _ -> {});
    assertTrue(
        parts.stream().anyMatch(part -> part.damage() != null && part.damage().contains(because)),
        parts::toString);
    Files.writeString(state, before);
    Checksums.renew(checkpoint(4));
  }

  @Test
  void aStateThatCannotBeIsRefused() throws IOException {
    refusesState("\"step\":4", "\"step\":-5", "is of step -5");
    refusesState("\"step\":4", "\"step\":2147483647", "is of step 2147483647");
    refusesState("\"step\":4", "\"step\":9223372036854775807", "wrong kind at step");
    refusesState("\"batchesPassedOver\":0", "\"batchesPassedOver\":-1", "-1 batches");
    refusesState(
        "\"batchesPassedOver\":0",
        "\"batchesPassedOver\":9223372036854775807",
        "9223372036854775807 batches");
    refusesState("\"skips\":0", "\"skips\":77", "77 skips");
    refusesState("\"losses\":\\[", "\"losses\":[\"NaN\",", "not finite");
    refusesState("\"losses\":\\[", "\"losses\":[null,", "not finite");
    refusesState("\"events\":\\[", "\"events\":[null", "an event without");
    refusesState("\"guard\":\\{", "\"guard\":[], \"else\":{", "wrong kind at guard");
    refusesState("\"dataFingerprint\":\"", "\"dataFingerprint\":[\"", "not valid JSON");
    refusesState("^.*$", "{}", "lacks a part");
    resume(config);
  }

  @Test
  void aCheckpointUnderAnotherStepsNameIsRefused() throws IOException {
    Files.move(checkpoint(4), checkpoint(3), StandardCopyOption.ATOMIC_MOVE);
    assertTrue(refused().contains("is of step 4, which is not the one in the"), refused());
  }

  @Test
  void aStepBeyondTheRunsIsRefused() throws IOException {
    var fewer = config.with(null, Map.of("steps", "3"));
    var e = assertThrows(InvalidInputException.class, () -> resume(fewer));
    assertTrue(e.getMessage().contains("is of step 4 and the run has 3 steps"), e.getMessage());
  }

  // ---------------------------------------------------------------- moments and weights

  private interface Change {
    SafetensorsFile.Entry of(SafetensorsFile.Entry entry);
  }

  private void changeFirst(String file, Change change) throws IOException {
    Path path = checkpoint(4).resolve(file);
    List<SafetensorsFile.Entry> entries = new ArrayList<>();
    try (var read = SafetensorsFile.open(path)) {
      for (var entry : read.entries()) {
        var copy = MemorySegment.ofArray(entry.data().toArray(ValueLayout.JAVA_BYTE));
        var same = new SafetensorsFile.Entry(entry.name(), entry.type(), entry.shape(), copy);
        entries.add(entries.isEmpty() ? change.of(same) : same);
      }
    }
    Files.delete(path);
    SafetensorsWriter.write(path, Map.of(), entries);
    Checksums.renew(checkpoint(4));
  }

  private void refusesChanged(String file, String because, Change change) throws IOException {
    byte[] before = Files.readAllBytes(checkpoint(4).resolve(file));
    changeFirst(file, change);
    assertTrue(refused().contains(because), refused());
    var parts = RunCheck.check(run, _ -> {});
    assertTrue(
        parts.stream().anyMatch(part -> part.damage() != null && part.damage().contains(because)),
        parts::toString);
    Files.write(checkpoint(4).resolve(file), before);
    Checksums.renew(checkpoint(4));
  }

  private static SafetensorsFile.Entry with(SafetensorsFile.Entry entry, float value) {
    entry.data().set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * (entry.data().byteSize() / 8), value);
    return entry;
  }

  @Test
  void momentsAreCheckedAsWeightsAre() throws IOException {
    String file = "optimizer.safetensors";
    refusesChanged(file, "holds NaN or an infinite number", entry -> with(entry, Float.NaN));
    refusesChanged(
        file, "holds NaN or an infinite number", entry -> with(entry, Float.NEGATIVE_INFINITY));
    refusesChanged(
        file,
        "of shape",
        entry ->
            new SafetensorsFile.Entry(
                entry.name(), entry.type(), List.of(entry.data().byteSize() / 4), entry.data()));
    refusesChanged(
        file,
        "is I32 of shape",
        entry ->
            new SafetensorsFile.Entry(
                entry.name(), ElementType.INT32, entry.shape(), entry.data()));
    refusesChanged(
        file,
        "holds no tensor",
        entry -> new SafetensorsFile.Entry("other", entry.type(), entry.shape(), entry.data()));
    resume(config);
  }

  @Test
  void aMomentOfNoWeightIsRefused() throws IOException {
    Path path = checkpoint(4).resolve("optimizer.safetensors");
    List<SafetensorsFile.Entry> entries = new ArrayList<>();
    try (var read = SafetensorsFile.open(path)) {
      for (var entry : read.entries()) {
        var copy = MemorySegment.ofArray(entry.data().toArray(ValueLayout.JAVA_BYTE));
        entries.add(new SafetensorsFile.Entry(entry.name(), entry.type(), entry.shape(), copy));
        if (entries.size() == 1) {
          entries.add(
              new SafetensorsFile.Entry("first_moment.ghost", entry.type(), entry.shape(), copy));
        }
      }
    }
    Files.delete(path);
    SafetensorsWriter.write(path, Map.of(), entries);
    Checksums.renew(checkpoint(4));
    int expected = entries.size() - 1;
    assertTrue(
        refused()
            .contains(
                "holds %d tensors where the weights ask for %d".formatted(expected + 1, expected)),
        refused());
  }

  @Test
  void weightsThatAreNotFiniteAreRefused() throws IOException {
    refusesChanged(
        "model.safetensors", "NaN or infinite", entry -> with(entry, Float.POSITIVE_INFINITY));
    resume(config);
  }

  @Test
  void weightsThatWereRoundedAreRefused() throws IOException {
    refusesChanged(
        "model.safetensors",
        "and a run saves float32",
        entry ->
            new SafetensorsFile.Entry(
                entry.name(),
                ElementType.FLOAT16,
                entry.shape(),
                entry.data().asSlice(0, entry.data().byteSize() / 2).fill((byte) 0)));
    resume(config);
  }

  @Test
  void aStateOfAnotherProgramIsRefused() throws IOException {
    Path state = checkpoint(4).resolve("state.json");
    Files.writeString(state, Files.readString(state).replaceFirst("\\{", "{\"momentum\": 1, "));
    Checksums.renew(checkpoint(4));
    assertTrue(refused().contains("momentum"), refused());
  }

  /// The loss of the last step was finite, its update was not.
  @Test
  void weightsThatAreNotFiniteAreNeverSaved() throws IOException {
    run = directory.resolve("poisoned");
    Runs.Fault fault =
        (step, loss, parameters) -> {
          if (step == 4) {
            parameters.get("model.norm.weight").detach().fill(Double.NaN);
          }
          return loss;
        };
    var broken = Runs.run(config, run, fault, heard, () -> false);
    var failure = assertThrows(IOException.class, () -> broken.start(corpus, tokenizer));
    assertTrue(
        failure.getMessage().contains("'model.norm.weight' holds NaN"), failure.getMessage());
    assertEquals(List.of("step-00000002"), Runs.checkpoints(run));
    assertEquals(4, resume(config).steps());
  }

  // ---------------------------------------------------------------- going on longer

  @Test
  void aFinishedRunIsExtendedAndSaysWhatThatDoesToTheSchedule() throws IOException {
    var longer = config.with(null, Map.of("steps", "8"));
    assertEquals(8, resume(longer).steps());
    assertTrue(heard.changed.contains("steps 4 8"), heard.changed::toString);
    assertTrue(
        heard.noted.stream()
            .anyMatch(
                note ->
                    note.matches(
                        "The schedule is that of 8 steps now: the learning rate was .* at step 4"
                            + " and is .* at step 5\\.")),
        heard.noted::toString);
    assertEquals(longer, RunConfig.from(run.resolve(RunConfig.FILE), Map.of()));
    assertEquals(8, RunManifest.read(run.resolve(RunManifest.FILE_NAME)).config().get("steps"));
    assertEquals(8, Runs.curve(run, "loss").size());
    heard.changed.clear();
    var longest = config.with(null, Map.of("steps", "10"));
    assertEquals(10, resume(longest).steps());
    assertTrue(heard.changed.contains("steps 8 10"), heard.changed::toString);
  }

  /// As a user does who edits `config.toml` and goes on: the file is what is asked for already, and
  /// the manifest says what the run was begun with.
  @Test
  void anEditedConfigurationIsWhatTheManifestSays() throws IOException {
    var edited = config.with(null, Map.of("steps", "6", "learning_rate", "0.002", "seed", "7"));
    edited.write(run);
    heard.noted.clear();
    assertEquals(6, resume(edited).steps());
    assertTrue(
        heard.noted.stream().anyMatch(note -> note.startsWith("The schedule is that of 6 steps")),
        heard.noted::toString);
    for (Path of : List.of(run, checkpoint(6))) {
      var manifest = RunManifest.read(of.resolve(RunManifest.FILE_NAME));
      assertEquals(edited, RunConfig.of(manifest), of.toString());
      assertEquals(7L, manifest.seeds().get("seed"));
    }
    byte[] before = Files.readAllBytes(run.resolve(RunManifest.FILE_NAME));
    assertEquals(6, resume(edited).steps());
    assertArrayEquals(before, Files.readAllBytes(run.resolve(RunManifest.FILE_NAME)));
  }

  /// The manifest records; what a run goes on with is in `config.toml` and its checkpoints.
  @Test
  void aManifestThatSaysNothingIsWrittenAnew() throws IOException {
    Path manifest = run.resolve(RunManifest.FILE_NAME);
    String whole = Files.readString(manifest);
    String refused = whole.replaceFirst("(\"steps\"\\s*:\\s*)4", "$1-4");
    for (String damaged : List.of(whole.substring(0, 99), refused)) {
      Files.writeString(manifest, damaged);
      heard.noted.clear();
      assertEquals(4, resume(config).steps());
      assertTrue(
          heard.noted.stream().anyMatch(note -> note.startsWith(manifest + " cannot be read, or")),
          heard.noted::toString);
      assertEquals(config, RunConfig.of(RunManifest.read(manifest)));
    }
  }

  /// Once with what does nothing more, once to a new checkpoint.
  @Test
  void whoWentOnIsRecorded() throws IOException {
    Path manifest = run.resolve(RunManifest.FILE_NAME);
    var attempts = List.of(new Attempt("test", "cpu"), new Attempt("newer", "cpu"));
    var longer = config.with(null, Map.of("steps", "6"));
    for (RunConfig settings : List.of(config, longer)) {
      var newer = new TrainingRun.Origin("newer", List.of("train"));
      new TrainingRun(settings, run, newer, heard, () -> false).resume(corpus, tokenizer);
      assertEquals(attempts, Attempt.of(RunManifest.read(manifest)));
    }
    Path copied = checkpoint(6).resolve(RunManifest.FILE_NAME);
    assertEquals(attempts, Attempt.of(RunManifest.read(copied)));
    Files.writeString(manifest, "{");
    assertEquals(6, resume(longer).steps());
    var again = List.of(attempts.getFirst(), attempts.getLast(), attempts.getFirst());
    assertEquals(again, Attempt.of(RunManifest.read(manifest)));
  }

  @Test
  void aWarmUpLongerThanTheRunIsTold() throws IOException {
    run = directory.resolve("short");
    var shorter = config.with(null, Map.of("warmup_steps", "9", "decay_steps", "2"));
    Runs.run(shorter, run, Runs.Fault.NONE, heard, () -> false).start(corpus, tokenizer);
    assertEquals(
        List.of(
            "warmup_steps is 9 and the run has 4 steps: the learning rate rises to its maximum at"
                + " the last step.",
            "decay_steps 2 does nothing with schedule cosine."),
        heard.noted);
  }
}
