package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.decoder.Decoders;
import dev.sluice.pages.StudyFigures;
import dev.sluice.pages.StudyReport;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StudyTest {
  @TempDir private Path directory;

  /// Stopped in its third trial and called again, a study takes up where it was and ends like one
  /// that was not stopped.
  @Test
  void aStoppedStudyGoesOn() throws Exception {
    var study = study(SmallStudy.CONFIG, Matching.PARAMETERS, 2, "none", "sdpa-elementwise");
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
    var some = study.run(stopped, Shard.ALL, origin, _ -> counting, () -> steps.get() >= 15);
    assertEquals(2, some.size());
    var all = study.run(stopped, Shard.ALL, origin, _ -> counting, () -> false);
    assertEquals(4, all.size());
    assertEquals(24, steps.get());

    Path whole = directory.resolve("whole");
    var expected =
        study.run(whole, Shard.ALL, origin, _ -> new TrainingRun.Listener() {}, () -> false);
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

  /// A trial that another version went on with is told beside those of one version.
  @Test
  void whoWentOnWithATrialIsTold() throws Exception {
    var study = study(SmallStudy.CONFIG, Matching.NONE, 1, "none", "sdpa-headwise");
    var steps = new AtomicInteger();
    var counting =
        new TrainingRun.Listener() {
          @Override
          public void stepped(Trainer.Step step, double tokensPerSecond) {
            steps.incrementAndGet();
          }
        };
    for (String version : List.of("older", "newer")) {
      study.run(
          directory,
          Shard.ALL,
          new TrainingRun.Origin(version, List.of("study")),
          _ -> counting,
          () -> steps.get() == 8);
      steps.set(9);
    }
    assertEquals(2, study.results(directory).size());
    String mixtures = String.join(" ", study.mixtures(directory));
    assertTrue(mixtures.contains("The trials are of different commits"), mixtures);
    var trials = study.trials(directory);
    assertTrue(mixtures.contains("older (%s)".formatted(trials.getFirst().name())), mixtures);
    assertTrue(
        mixtures.contains("older, then newer (%s)".formatted(trials.getLast().name())), mixtures);
    assertFalse(mixtures.contains("of different devices"), mixtures);
  }

  /// A gate that starts at exactly one, 2σ of zero logits, is no gate: with paired seeds its first
  /// step has the very loss of the ungated model, which shows that batches and initial weights are
  /// the same.
  @Test
  void seedsArePaired() throws Exception {
    var config = SmallStudy.CONFIG.with(null, Map.of("steps", "1"));
    var study = study(config, Matching.NONE, 2, "none", "sdpa-headwise-sigmoid*2.0-zero-init");
    study.run(
        directory,
        Shard.ALL,
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
    var config = SmallStudy.CONFIG.with(null, Map.of("data", text.toString(), "steps", "1"));
    var study = study(config, Matching.NONE, 1, "none", "sdpa-headwise");
    var origin = new TrainingRun.Origin("test", List.of("study"));
    Path place = directory.resolve("study");
    study.run(place, Shard.ALL, origin, _ -> new TrainingRun.Listener() {}, () -> true);
    Files.writeString(text, "five six seven eight\n".repeat(900));
    var e =
        assertThrows(
            InvalidInputException.class,
            () ->
                study.run(
                    place, Shard.ALL, origin, _ -> new TrainingRun.Listener() {}, () -> false));
    assertTrue(e.getMessage().contains("the data changed"), e.getMessage());
  }

  private static double firstLoss(Trial trial) {
    return RunMetrics.read(trial.directory()).curve("loss").values()[0];
  }

  private static Study study(RunConfig base, Matching matching, int seeds, String... gates) {
    return new Study(
        base,
        matching,
        Arrays.stream(gates).map(Variant::ofGate).toList(),
        Map.of(),
        Study.seeds(1, seeds));
  }

  @Test
  void mistakesAreRefused() {
    assertThrows(
        InvalidInputException.class, () -> study(SmallStudy.CONFIG, Matching.NONE, 1, "none"));
    assertThrows(
        InvalidInputException.class,
        () -> study(SmallStudy.CONFIG, Matching.NONE, 1, "none", "none"));
    assertThrows(
        InvalidInputException.class,
        () -> study(SmallStudy.CONFIG, Matching.NONE, 1, "none", "sdpa-sideways"));
    assertThrows(
        InvalidInputException.class,
        () -> study(SmallStudy.CONFIG, Matching.NONE, 0, "none", "query-headwise"));
    var variants = List.of(Variant.ofGate("none"), Variant.ofGate("sdpa-headwise"));
    for (var grid :
        List.<Map<String, List<String>>>of(
            Map.of("gate", List.of("none")),
            Map.of("learning_rate", List.of()),
            Map.of("learning_rate", List.of("1e-3", "1e-3")),
            Map.of("learning_rate", List.of("fast")),
            Map.of("learning_speed", List.of("1")))) {
      assertThrows(
          InvalidInputException.class,
          () -> new Study(SmallStudy.CONFIG, Matching.NONE, variants, grid, List.of(1L)),
          grid.toString());
    }
    var ended =
        assertThrows(
            InvalidInputException.class,
            () ->
                new Study(
                    SmallStudy.CONFIG,
                    Matching.NONE,
                    variants,
                    Map.of("eos_token", List.of("<a>", "<b>")),
                    List.of(1L)));
    assertTrue(ended.getMessage().contains("the grid sets eos_token"), ended::getMessage);
    for (String shard : List.of("", "1", "0/2", "3/2", "1/0", "-1/2", "a/b")) {
      assertThrows(InvalidInputException.class, () -> Shard.parse(shard), shard);
    }
    assertThrows(InvalidInputException.class, () -> Matching.parse("price"));
    assertThrows(InvalidInputException.class, () -> PaperTables.table(5, Decoders.TINY));
  }

  /// Variants, a grid and seeds; the shards together do what the whole does, and no trial twice.
  @Test
  void shardsTogetherAreTheStudy() throws Exception {
    Path file =
        Files.writeString(
            directory.resolve("mine.toml"),
            """
            hidden_size = 32
            intermediate_size = 48
            layers = 1
            attention_heads = 2
            key_value_heads = 1
            head_dim = 16
            sequence_length = 32
            batch_size = 2
            steps = 2
            evaluate_every = 2
            save_every = 2
            held_out_windows = 2
            sample_tokens = 0
            device = "cpu"
            seeds = 2
            match = "none"
            [grid]
            learning_rate = [1e-3, 0.003]
            [[variant]]
            name = "no gate"
            gate = "none"
            published_perplexity = 6.026
            [[variant]]
            name = "two gates, deeper, twice the heads"
            gate = "value-headwise+sdpa-headwise"
            layers = 2
            key_value_heads = 2
            """);
    var study = StudyFile.read(file, RunConfig.DEFAULTS, Map.of());
    assertEquals(4, study.arms().size());
    assertEquals(List.of(1L, 2L), study.seeds());
    assertEquals(
        Map.of("gate", "value-headwise+sdpa-headwise", "layers", "2", "key_value_heads", "2"),
        study.variants().getLast().settings());
    Path place = directory.resolve("study");
    int trained = 0;
    for (String shard : List.of("1/3", "2/3", "3/3")) {
      var part = Shard.parse(shard);
      var origin =
          new TrainingRun.Origin(shard.equals("3/3") ? "newer" : "older", List.of("study"));
      var results = study.run(place, part, origin, _ -> new TrainingRun.Listener() {}, () -> false);
      assertEquals(part.of(8), results.size());
      trained += results.size();
      var partly = new StudyReport(study, place, study.results(place));
      String said = String.join(" ", partly.sentences());
      assertEquals(trained < 8, said.contains("not done yet"), said);
      assertEquals(trained < 8, partly.tables().getFirst().columns().contains("seeds"));
      partly.writePage("sluice study report", Map.of());
    }
    assertEquals(8, trained);
    assertEquals(
        study, StudyFile.read(place.resolve(StudyFile.NAME), RunConfig.DEFAULTS, Map.of()));
    var all = study.results(place);
    assertEquals(8, all.size());
    var report = new StudyReport(study, place, all);
    String words = String.join(" ", report.sentences());
    assertTrue(words.contains("learning-rate sensitivity"), words);
    assertTrue(words.contains("in four of five such studies"), words);
    assertTrue(words.contains("The trials are of different commits"), words);
    var trials = study.trials(place); // the third shard has the third and the sixth
    assertTrue(
        words.contains("newer (%s; %s)".formatted(trials.get(2).name(), trials.get(5).name())),
        words);
    assertFalse(words.contains("of different devices"), words);
    Path manifest = trials.getFirst().directory().resolve("manifest.json");
    Files.writeString(
        manifest,
        Files.readString(manifest)
            .replaceFirst("(\"device_used\"\\s*:\\s*)\"cpu\"", "$1\"cuda:0\""));
    var devices = String.join(" ", new StudyReport(study, place, all).sentences());
    assertTrue(devices.contains("of different devices"), devices);
    assertTrue(devices.contains("cuda:0 (%s)".formatted(trials.getFirst().name())), devices);
    String page = Files.readString(report.writePage("sluice study", Map.of()));
    assertTrue(page.contains("Loss and learning rate"), "the sweep's picture");
    assertTrue(page.contains("6.026"), "the paper's number");
    // both gates of a layer together: 2 heads each, of all tokens of all windows
    var sinks = all.get(2).sinks(study.trials(place).get(2).directory());
    long tokens = (long) sinks.windows() * sinks.longestWindow();
    assertEquals(4, sinks.gateStatistics().gates().size());
    var histograms = new StudyFigures(study, place, new Comparisons(study, all)).gateHistograms();
    assertEquals(1, histograms.arms().size());
    for (double[] layer : histograms.arms().getFirst().counts()) {
      assertEquals(4.0 * tokens, Arrays.stream(layer).sum());
    }
    var loaded = study.trials(place).get(2).config();
    assertEquals(2, loaded.shape().keyValueHeads());
    assertEquals(1e-3, loaded.optimization().learningRate());
  }

  @Test
  void variantsAreMatchedWithTheBaseline() {
    for (var matching : List.of(Matching.PARAMETERS, Matching.FLOPS)) {
      var study =
          study(SmallStudy.CONFIG, matching, 1, "none", "sdpa-elementwise", "dense-elementwise");
      var sizes =
          study.trials(directory).stream()
              .map(trial -> trial.config().decoder(256))
              .mapToDouble(
                  decoder ->
                      matching == Matching.PARAMETERS
                          ? decoder.parameterCount()
                          : decoder.trainingFlopsPerToken(64))
              .toArray();
      double column = (matching == Matching.PARAMETERS ? 1 : 6) * 3.0 * 32 * 2;
      assertEquals(sizes[0], sizes[1], column / 2);
      assertEquals(sizes[0], sizes[2], column / 2);
    }
  }

  /// A loss that stays above where it began ends the trial, and the study says so.
  @Test
  void aDivergedTrialIsStopped() throws Exception {
    var config =
        SmallStudy.CONFIG.with(
            null,
            Map.of(
                "learning_rate",
                "900",
                "warmup_steps",
                "0",
                "steps",
                "400",
                "layers",
                "1",
                "sequence_length",
                "16",
                "clip_norm",
                "1e9",
                "stop_diverged",
                "true"));
    var study = study(config, Matching.NONE, 1, "none", "sdpa-headwise");
    var origin = new TrainingRun.Origin("test", List.of("study"));
    var results =
        study.run(directory, Shard.ALL, origin, _ -> new TrainingRun.Listener() {}, () -> false);
    assertTrue(results.stream().allMatch(TrialResult::diverged));
    assertTrue(results.stream().allMatch(result -> result.steps() < 200), results.toString());
    var report = new StudyReport(study, directory, results);
    assertTrue(String.join(" ", report.sentences()).contains("1 of 1 trials diverged"));
    report.writePage("sluice study", Map.of());
  }

  /// Every row of the paper's tables is a model that can be built, with names of its own.
  @Test
  void paperTables() {
    for (int table : new int[] {1, 2, 3, 4, 6}) {
      var variants = PaperTables.table(table, Decoders.TINY);
      var study =
          new Study(RunConfig.DEFAULTS, Matching.PARAMETERS, variants, Map.of(), List.of(1L));
      assertEquals(variants.size(), study.trials(directory).size());
    }
    assertEquals(14, PaperTables.table(1, Decoders.TINY).size());
    assertEquals(7, PaperTables.table(3, Decoders.TINY).size());
    assertEquals(7, PaperTables.table(4, Decoders.TINY).size());
    assertEquals(6, PaperTables.table(6, Decoders.TINY).size());
  }

  /// The parameters that table 1's variants add come out as the paper prints them, but for the row
  /// in which its own arithmetic is off.
  @Test
  void addedParametersAreThePapers() {
    var base = RunConfig.DEFAULTS.with(null, Map.of("model", "paper-moe-15b"));
    int vocabulary = Decoders.PAPER_MOE_15B.vocabSize();
    assertEquals(Decoders.PAPER_MOE_15B, base.decoder(vocabulary));
    var variants = PaperTables.table(1, Decoders.PAPER_MOE_15B);
    assertEquals(15, variants.size());
    long baseline = Decoders.PAPER_MOE_15B.parameterCount();
    for (var variant : variants) {
      var decoder = base.with(null, variant.settings()).decoder(vocabulary);
      double added = (decoder.parameterCount() - baseline) / 1e6;
      double printed = PaperTables.addedMillions(variant.name()).orElseThrow();
      if (variant.name().equals("four more experts")) {
        assertEquals(453, added, 1);
        continue;
      }
      double lastDigit = printed < 1 ? 0.1 : printed < 10 ? 0.1 : 1;
      assertEquals(printed, added, lastDigit, variant.name());
    }
  }

  /// The paper's own curves, by the rule that their counts were taken with.
  @Test
  @Tag("shared")
  void lossSpikesOfThePapersCurves() throws Exception {
    int[][] expected = {{137, 81, 39, 13}, {3, 0, 0, 0}};
    double[] thresholds = {0.05, 0.1, 0.2, 0.5};
    String[] files = {"baseline-3t.csv", "gate-3t.csv"};
    for (int i = 0; i < 2; i++) {
      var lines = Files.readAllLines(TestData.SHARED.resolve("data/curves").resolve(files[i]));
      var rows = lines.stream().skip(1).map(line -> line.split(",")).toList();
      double[] steps = rows.stream().mapToDouble(row -> Double.parseDouble(row[0])).toArray();
      double[] losses = rows.stream().mapToDouble(row -> Double.parseDouble(row[1])).toArray();
      for (int j = 0; j < 4; j++) {
        assertEquals(
            expected[i][j],
            LossSpikes.events(steps, losses, 5000, thresholds[j]),
            files[i] + " above " + thresholds[j]);
      }
    }
  }

  @Test
  void spikeScore() {
    var random = new SplittableRandom(5);
    double[] losses = random.doubles(3000).map(value -> 2 + 0.01 * value).toArray();
    assertEquals(0, LossSpikes.score(losses));
    losses[1500] = 3;
    losses[1501] = 3;
    losses[500] = 3; // only in others' windows
    assertEquals(2 / 2000.0, LossSpikes.score(losses));
    assertTrue(Double.isNaN(LossSpikes.score(new double[1000])));
  }
}
