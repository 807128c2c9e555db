package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StudyTest {
  private static final RunConfig SMALL =
      RunConfig.DEFAULTS.with(
          null,
          Map.ofEntries(
              Map.entry("hidden_size", "32"),
              Map.entry("intermediate_size", "48"),
              Map.entry("layers", "2"),
              Map.entry("attention_heads", "2"),
              Map.entry("key_value_heads", "1"),
              Map.entry("head_dim", "16"),
              Map.entry("match_parameters", "true"),
              Map.entry("sequence_length", "64"),
              Map.entry("batch_size", "2"),
              Map.entry("steps", "6"),
              Map.entry("evaluate_every", "3"),
              Map.entry("save_every", "6"),
              Map.entry("held_out_windows", "2"),
              Map.entry("sample_tokens", "0"),
              Map.entry("device", "cpu")));

  @TempDir private Path directory;

  /// Stopped in its third trial and called again, a study takes up where it was and ends like one
  /// that was not stopped.
  @Test
  void aStoppedStudyGoesOn() throws Exception {
    var study = new Study(SMALL, List.of("none", "sdpa-elementwise"), List.of(1L, 2L));
    var origin = new TrainingRun.Origin("test", List.of("study"));
    Path stopped = directory.resolve("stopped");
    var steps = new AtomicInteger();
    var counting =
        new TrainingRun.Listener() {
          @Override
          public void stepped(Trainer.Step step, double tokensPerSecond) {
            steps.incrementAndGet();
          }
        };
    var some = study.run(stopped, origin, _ -> counting, () -> steps.get() >= 15);
    assertEquals(2, some.size());
    var all = study.run(stopped, origin, _ -> counting, () -> false);
    assertEquals(4, all.size());
    assertEquals(24, steps.get());

    Path whole = directory.resolve("whole");
    var expected = study.run(whole, origin, _ -> new TrainingRun.Listener() {}, () -> false);
    for (int i = 0; i < all.size(); i++) {
      assertEquals(expected.get(i).bitsPerByte(), all.get(i).bitsPerByte());
      assertEquals(expected.get(i).firstTokenAttention(), all.get(i).firstTokenAttention());
      assertEquals(
          -1,
          Files.mismatch(
              study.trials(whole).get(i).directory().resolve("metrics.jsonl"),
              study.trials(stopped).get(i).directory().resolve("metrics.jsonl")));
    }
    var report = new StudyReport(study, whole, expected);
    String words = String.join(" ", report.sentences());
    assertTrue(words.contains("2 paired seeds"), words);
    assertTrue(words.contains("use --seeds 5"), words);
    String page =
        Files.readString(report.writePage("sluice study", Map.of("seeds", List.of(1, 2))));
    assertTrue(page.contains("Attention, layer 1") && page.contains("Gate scores"), "figures");
  }

  /// A gate that starts at exactly one, 2σ of zero logits, is no gate: with paired seeds its first
  /// step has the very loss of the ungated model, which shows that batches and initial weights are
  /// the same.
  @Test
  void seedsArePaired() throws Exception {
    var config = SMALL.with(null, Map.of("match_parameters", "false", "steps", "1"));
    var study =
        new Study(config, List.of("none", "sdpa-headwise-sigmoid*2.0-zero-init"), List.of(1L, 2L));
    study.run(
        directory,
        new TrainingRun.Origin("test", List.of("study")),
        _ -> new TrainingRun.Listener() {},
        () -> false);
    var trials = study.trials(directory);
    assertEquals(firstLoss(trials.get(0)), firstLoss(trials.get(1)), 1e-6);
    assertEquals(firstLoss(trials.get(2)), firstLoss(trials.get(3)), 1e-6);
    assertTrue(
        Math.abs(firstLoss(trials.get(0)) - firstLoss(trials.get(2))) > 1e-5, "seeds must differ");
  }

  /// A study that goes on with another text would compare what is not comparable.
  @Test
  void aChangedTextIsRefused() throws Exception {
    Path text =
        Files.writeString(directory.resolve("text.txt"), "one two three four\n".repeat(900));
    var config = SMALL.with(null, Map.of("data", text.toString(), "steps", "1"));
    var study = new Study(config, List.of("none", "sdpa-headwise"), List.of(1L));
    var origin = new TrainingRun.Origin("test", List.of("study"));
    Path place = directory.resolve("study");
    study.run(place, origin, _ -> new TrainingRun.Listener() {}, () -> true);
    Files.writeString(text, "five six seven eight\n".repeat(900));
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> study.run(place, origin, _ -> new TrainingRun.Listener() {}, () -> false));
    assertTrue(e.getMessage().contains("the data changed"), e.getMessage());
  }

  private static double firstLoss(Trial trial) {
    return RunMetrics.read(trial.directory()).curve("loss").values()[0];
  }

  @Test
  void mistakesAreRefused() {
    assertThrows(InvalidInputException.class, () -> new Study(SMALL, List.of("none"), List.of(1L)));
    assertThrows(
        InvalidInputException.class, () -> new Study(SMALL, List.of("none", "none"), List.of(1L)));
    assertThrows(
        InvalidInputException.class,
        () -> new Study(SMALL, List.of("none", "sdpa-sideways"), List.of(1L)));
  }

  @Test
  void intervalsAreStudents() {
    // five values with mean 3 and standard deviation √2.5: half width 2.776 · √(2.5/5)
    assertEquals(2.776 * Math.sqrt(0.5), Statistics.interval95(1, 2, 3, 4, 5), 1e-9);
    assertTrue(Double.isNaN(Statistics.interval95(1)));
    assertEquals(Math.sqrt(2.5), Statistics.standardDeviation(1, 2, 3, 4, 5), 1e-12);
  }
}
