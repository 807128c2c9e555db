package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.fuzz.Fuzz;
import dev.sluice.pages.StudyFigures;
import dev.sluice.pages.StudyReport;
import dev.sluice.report.TextTable;
import dev.sluice.training.RunConfig;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Every file of a study's directory that a report reads, broken.
class StudyFuzzTest {
  @TempDir static Path directory;
  private static Study study;
  private static Path trial;

  @BeforeAll
  static void run() throws IOException {
    Path file =
        Files.writeString(
            directory.resolve("mine.toml"),
            """
            hidden_size = 16
            intermediate_size = 16
            layers = 1
            attention_heads = 2
            key_value_heads = 1
            head_dim = 8
            sequence_length = 16
            batch_size = 1
            steps = 2
            warmup_steps = 1
            evaluate_every = 1
            save_every = 2
            held_out_windows = 1
            sample_tokens = 0
            device = "cpu"
            seeds = 1
            [[variant]]
            name = "plain"
            gate = "none"
            [[variant]]
            name = "gated"
            gate = "sdpa-headwise"
            """);
    study = StudyFile.read(file, RunConfig.DEFAULTS, Map.of());
    study.run(
        directory,
        Shard.ALL,
        new TrainingRun.Origin("test", List.of("study")),
        _ -> new TrainingRun.Listener() {},
        () -> false);
    trial = study.trials(directory).getLast().directory();
    report();
  }

  private static void report() {
    var results = study.results(directory);
    var report = new StudyReport(study, directory, results);
    var _ = report.sentences();
    report.tables().forEach(table -> new TextTable(table, 116).toString());
    var figures = new StudyFigures(study, directory, new Comparisons(study, results));
    var _ = figures.curves("Loss", Map.of(), "loss", "nats", 0.9);
    var _ = figures.curves("Attention", "first_token_attention", "share");
    var _ = figures.attentionMaps();
    var _ = figures.sinkMaps();
    var _ = figures.gateMaps();
    var _ = figures.firstTokenBars();
    var _ = figures.activationBars();
    var _ = figures.gateHistograms();
  }

  private static void fuzz(String name) throws IOException {
    Path file = trial.resolve(name);
    byte[] good = Files.readAllBytes(file);
    try {
      var outcome =
          Fuzz.run(
              "study-" + name,
              mutations -> mutations.jsonFile(good),
              input -> {
                Files.write(file, input);
                report();
              });
      assertTrue(outcome.refused() > Fuzz.inputs() / 4, outcome::toString);
    } finally {
      Files.write(file, good);
    }
  }

  @Test
  void results() throws IOException {
    fuzz("trial.json");
  }

  @Test
  void sinks() throws IOException {
    fuzz("sinks.json");
  }

  @Test
  void metrics() throws IOException {
    fuzz("metrics.jsonl");
  }
}
