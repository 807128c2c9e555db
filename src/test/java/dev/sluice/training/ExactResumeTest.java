package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.corpus.Corpus;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A run that was stopped ends as one that was not, bit for bit, wherever it was stopped.
class ExactResumeTest {
  private static final int STEPS = 8;

  /// The guard's median wants 16 steps first.
  private static final int GUARDED_STEPS = 24;

  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");

  private static RunConfig config(String kind) {
    return switch (kind) {
      case "gated" -> Runs.config("steps", STEPS, "gradient_accumulation", 2);
      case "bfloat16" -> Runs.config("steps", STEPS, "precision", "bfloat16");
      case "experts" ->
          Runs.config("steps", STEPS, "experts", 4, "experts_per_token", 2, "gate", "none");
      case "muon" ->
          Runs.config(
              "steps",
              STEPS,
              "optimizer",
              "muon",
              "layers_pattern",
              "gdn,attention",
              "z_loss",
              1e-3,
              "weight_decay_kind",
              "independent",
              "weight_decay",
              1e-3);
      // passes over steps and goes back once, so that the guard has something to remember
      case "guarded" ->
          Runs.config(
              "steps",
              GUARDED_STEPS,
              "spike_threshold",
              1,
              "spike_window",
              16,
              "max_skips",
              0,
              "max_rollbacks",
              1000,
              "save_every",
              3,
              "learning_rate",
              0.03);
      default -> throw new IllegalArgumentException(kind);
    };
  }

  @ParameterizedTest
  @ValueSource(strings = {"gated", "bfloat16", "experts", "muon", "guarded"})
  void resumingAfterEveryCheckpointEndsInTheSameBits(String kind) throws IOException {
    var config = config(kind);
    Corpus corpus = Runs.corpus(directory.resolve("corpus"));
    Path whole = directory.resolve("whole");
    var heard = new Runs.Heard();
    Runs.run(config, whole, Runs.Fault.NONE, heard, () -> false).start(corpus, tokenizer);
    var expected = Runs.result(whole);
    if (kind.equals("guarded")) {
      assertTrue(heard.guarded.toString().contains("going back"), heard.guarded::toString);
    }
    for (int step = 0;
        step < config.optimization().steps();
        step += config.checkpoints().saveEvery()) {
      Path part = Runs.after(whole, step, directory.resolve("after-" + step));
      var again = new Runs.Heard();
      Runs.run(config, part, Runs.Fault.NONE, again, () -> false).resume(corpus, tokenizer);
      assertEquals(expected, Runs.result(part), "after step " + step);
      assertEquals(
          heard.samples.subList(heard.samples.size() - again.samples.size(), heard.samples.size()),
          again.samples,
          "after step " + step);
    }
  }

  @Test
  void aRunWithAMaskResumesInTheSameBits() throws IOException {
    var config =
        Runs.config("steps", STEPS, "document_mask", true, "layers_pattern", "gdn,attention");
    Corpus corpus = Runs.documents(directory);
    Path whole = directory.resolve("whole");
    Runs.run(config, whole, Runs.Fault.NONE, new Runs.Heard(), () -> false)
        .start(corpus, tokenizer);
    Path part = Runs.after(whole, 5, directory.resolve("part"));
    Runs.run(config, part, Runs.Fault.NONE, new Runs.Heard(), () -> false)
        .resume(corpus, tokenizer);
    assertEquals(Runs.result(whole), Runs.result(part));

    var without = config.with(null, Map.of("document_mask", "false"));
    Path other = directory.resolve("other");
    Runs.run(without, other, Runs.Fault.NONE, new Runs.Heard(), () -> false)
        .start(corpus, tokenizer);
    for (String curve : List.of("loss", "held_out_loss")) {
      assertNotEquals(Runs.curve(whole, curve), Runs.curve(other, curve), curve);
    }
  }

  /// Asked to stop at every step, and resumed each time: the saves are where it stopped.
  @ParameterizedTest
  @ValueSource(strings = {"gated", "guarded"})
  void stoppingAtEveryStepEndsInTheSameBits(String kind) throws IOException {
    var config = config(kind).with(null, Map.of("save_every", "4"));
    Corpus corpus = Runs.corpus(directory.resolve("corpus"));
    Path whole = directory.resolve("whole");
    var heard = new Runs.Heard();
    Runs.run(config, whole, Runs.Fault.NONE, heard, () -> false).start(corpus, tokenizer);

    Path parts = directory.resolve("parts");
    var again = new Runs.Heard();
    boolean begun = false;
    for (int stops = 0, steps = 0; steps < config.optimization().steps(); stops++) {
      var run = Runs.run(config, parts, Runs.Fault.NONE, again, () -> true);
      steps = (begun ? run.resume(corpus, tokenizer) : run.start(corpus, tokenizer)).steps();
      begun = true;
      assertTrue(stops < 10 * config.optimization().steps(), "it does not get on");
    }
    assertEquals(Runs.result(whole), Runs.result(parts));
    assertEquals(heard.samples, again.samples);
    assertEquals(heard.steps, again.steps);
  }
}
