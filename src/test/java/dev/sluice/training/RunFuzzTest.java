package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.fuzz.Checksums;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Every file of a run's directory, broken, with checksums that fit what was broken: the run is
/// verified and resumed.
class RunFuzzTest {
  private static final RunConfig CONFIG =
      Runs.config(
          "layers",
          1,
          "hidden_size",
          16,
          "intermediate_size",
          16,
          "attention_heads",
          1,
          "head_dim",
          16,
          "sequence_length",
          16,
          "batch_size",
          1,
          "held_out_windows",
          1,
          "save_every",
          2,
          "evaluate_every",
          2,
          "sample_tokens",
          0,
          "steps",
          3);

  @TempDir Path directory;

  private final Tokenizer tokenizer = Tokenizers.load("bytes");
  private Path good;
  private Path run;

  @BeforeEach
  void train() throws IOException {
    good = directory.resolve("good");
    run = directory.resolve("run");
    Path text = Files.writeString(directory.resolve("log.txt"), text());
    var corpus =
        Corpus.prepare(
            text, "text", tokenizer, CONFIG.text().heldOutShare(), good.resolve("corpus"));
    Runs.run(CONFIG, good, Runs.Fault.NONE, new Runs.Heard(), () -> false).start(corpus, tokenizer);
    Trees.remove(good.resolve("checkpoints/step-00000003"));
    renew();
    assertEquals(3, resume().steps());
  }

  private static String text() {
    var text = new StringBuilder();
    for (int i = 0; text.length() < 2000; i++) {
      text.append("Line ").append(i).append(" of the log: wind ").append(i * i % 97).append(".\n");
    }
    return text.toString();
  }

  /// The good run again, in place of what the last input left.
  private void renew() throws IOException {
    Trees.remove(run);
    Runs.after(good, Integer.MAX_VALUE, run);
  }

  private TrainingRun.Outcome resume() throws IOException {
    var corpus = Corpus.open(run.resolve("corpus"));
    corpus.verify();
    var config = RunConfig.from(run.resolve(RunConfig.FILE), Map.of());
    if (!config.equals(CONFIG)) {
      throw new InvalidInputException("the fuzzer changed the settings");
    }
    return Runs.run(CONFIG, run, Runs.Fault.NONE, new Runs.Heard(), () -> false)
        .resume(corpus, tokenizer);
  }

  private Fuzz.Outcome fuzz(String name, boolean json) throws IOException {
    Path file = run.resolve(name);
    byte[] content = Files.readAllBytes(good.resolve(name));
    return Fuzz.run(
        "run-" + file.getFileName(),
        mutations -> json ? mutations.jsonFile(content) : mutations.bytes(content),
        input -> {
          renew();
          Files.write(file, input);
          if (name.startsWith("checkpoints")) {
            Checksums.renew(file.getParent());
          }
          if (name.startsWith("corpus") && name.endsWith(".tokens")) {
            Path summary = run.resolve("corpus/corpus.json");
            String now = Files.readString(summary);
            Files.writeString(summary, now.replace(Sha256.hex(content), Sha256.hex(input)));
          }
          for (var part : RunCheck.check(run, _ -> {})) {
            if (part.damage() != null) {
              assertNull(Fuzz.wrong(part.damage()));
            }
          }
          resume();
        });
  }

  @Test
  void state() throws IOException {
    assertRefusesMost(fuzz("checkpoints/step-00000002/state.json", true));
  }

  @Test
  void moments() throws IOException {
    fuzz("checkpoints/step-00000002/optimizer.safetensors", false);
  }

  @Test
  void weights() throws IOException {
    fuzz("checkpoints/step-00000002/model.safetensors", false);
  }

  @Test
  void shapeOfTheModel() throws IOException {
    fuzz("checkpoints/step-00000002/config.json", true);
  }

  @Test
  void checksums() throws IOException {
    Path file = run.resolve("checkpoints/step-00000002/SHA256SUMS");
    byte[] content = Files.readAllBytes(file);
    assertRefusesMost(
        Fuzz.run(
            "run-checksums",
            mutations -> mutations.bytes(content),
            input -> {
              renew();
              Files.write(file, input);
              resume();
            }));
  }

  @Test
  void metrics() throws IOException {
    fuzz("metrics.jsonl", false);
  }

  @Test
  void timings() throws IOException {
    fuzz("timings.jsonl", false);
  }

  @Test
  void manifest() throws IOException {
    fuzz("checkpoints/step-00000002/manifest.json", true);
  }

  @Test
  void summaryOfTheCorpus() throws IOException {
    assertRefusesMost(fuzz("corpus/corpus.json", true));
  }

  @Test
  void tokens() throws IOException {
    fuzz("corpus/train.tokens", false);
  }

  private static void assertRefusesMost(Fuzz.Outcome outcome) {
    assertTrue(outcome.refused() > outcome.read() / 2, outcome::toString);
  }
}
