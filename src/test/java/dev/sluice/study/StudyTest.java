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
    // paired: same data order, so the first step's loss differs only by the gate
    double none = firstLoss(study.trials(whole).get(0));
    double gated = firstLoss(study.trials(whole).get(1));
    assertEquals(none, gated, 0.05);

    var report = new StudyReport(study, whole, expected);
    String words = String.join(" ", report.sentences());
    assertTrue(words.contains("2 paired seeds"), words);
    assertTrue(words.contains("use --seeds 5"), words);
    String page =
        Files.readString(report.writePage("sluice study", Map.of("seeds", List.of(1, 2))));
    assertTrue(page.contains("Attention, layer 1") && page.contains("Gate scores"), "figures");
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
