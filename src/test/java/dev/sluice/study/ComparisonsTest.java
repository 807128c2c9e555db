package dev.sluice.study;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.pages.StudyFigures;
import dev.sluice.pages.StudyReport;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/// The numbers of a study, on made-up trials. What is expected was computed with SciPy 1.17:
/// `scipy.stats.ttest_rel` for p-values, `scipy.stats.t.interval` for intervals, and Holm's
/// correction and the sensitivities as they are defined, by hand.
class ComparisonsTest {
  private static final double NONE = Double.NaN;

  private static Study study(int seeds, List<String> rates, String... names) {
    return new Study(
        RunConfig.DEFAULTS,
        Matching.NONE,
        Arrays.stream(names).map(name -> new Variant(name, Map.of("gate", "none"), 0)).toList(),
        rates.isEmpty() ? Map.of() : Map.of("learning_rate", rates),
        Study.seeds(1, seeds));
  }

  /// A finished trial whose bits per byte and nats are the same number.
  private static TrialResult trial(Arm arm, long seed, double loss) {
    return trial(arm, seed, false, 5.5, loss);
  }

  private static TrialResult diverged(Arm arm, long seed, double initialLoss) {
    return trial(arm, seed, true, initialLoss, NONE);
  }

  private static TrialResult trial(
      Arm arm, long seed, boolean diverged, double initialLoss, double loss) {
    double any = diverged ? NONE : 0.5;
    return new TrialResult(
        arm.variant().name(),
        arm.point(),
        seed,
        diverged,
        10,
        100,
        8,
        initialLoss,
        initialLoss,
        loss,
        loss,
        0,
        NONE,
        any,
        any,
        any,
        any,
        any,
        null,
        1000,
        null);
  }

  /// Losses of seeds 1, 2, …; NaN where the trial is not done.
  private static void add(List<TrialResult> results, Arm arm, double... losses) {
    for (int i = 0; i < losses.length; i++) {
      if (!Double.isNaN(losses[i])) {
        results.add(trial(arm, i + 1, losses[i]));
      }
    }
  }

  /// The baseline lacks seed 4, one arm seed 2, and there each has an outlier that would show if
  /// anything were taken unpaired.
  @Test
  void armsAreComparedOverTheSeedsThatBothHave() {
    var study = study(5, List.of(), "plain", "a", "b");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2.10, 2.20, 2.15, NONE, 2.40);
    add(results, arms.get(1), 2.05, NONE, 2.08, 1.00, 2.37);
    add(results, arms.get(2), 2.04, 2.21, 2.11, 9.00, 2.30);
    for (var order : List.of(results, results.reversed())) {
      var comparisons = new Comparisons(study, order);
      assertEquals(2, comparisons.comparisons().size());
      var a = comparisons.comparisons().get(0);
      assertEquals(List.of(1L, 3L, 5L), a.pairs().seeds());
      assertArrayEquals(new double[] {-0.05, -0.07, -0.03}, a.pairs().differences(), 1e-12);
      assertEquals(-0.05, a.pairs().mean(), 1e-12);
      assertEquals(0.04968275423500665, a.pairs().half(), 1e-10);
      assertEquals(-0.022556390977443594, a.pairs().relative(), 1e-12);
      // 0.0494 alone, which the correction for two comparisons doubles
      assertEquals(0.09882724842656654, a.corrected(), 1e-10);
      assertFalse(a.shown());
      var b = comparisons.comparisons().get(1);
      assertEquals(List.of(1L, 2L, 3L, 5L), b.pairs().seeds());
      assertEquals(-0.0475, b.pairs().mean(), 1e-12);
      assertEquals(0.072774181061313, b.pairs().half(), 1e-10);
      assertEquals(-0.021468926553672357, b.pairs().relative(), 1e-12);
      assertEquals(0.1293487980064804, b.corrected(), 1e-10);
      assertEquals(0.03286737122335372, comparisons.deviation().orElseThrow(), 1e-12);
    }
  }

  private static TrialResult measured(
      Arm arm, long seed, double firstToken, double largest, TrialResult.@Nullable Inside inside) {
    return new TrialResult(
        arm.variant().name(),
        arm.point(),
        seed,
        false,
        10,
        100,
        8,
        5.5,
        5.5,
        2,
        2,
        0,
        NONE,
        firstToken,
        0.01,
        0,
        largest,
        largest,
        null,
        1000,
        inside);
  }

  /// Ratios of geometric means, with what is below a thousandth counted as one; the strongest heads
  /// of a trial that an earlier version measured are not known.
  @Test
  void whatIsInsideModelsIsComparedByRatios() {
    var study = study(3, List.of(), "plain", "gated");
    var plain = study.arms().get(0);
    var gated = study.arms().get(1);
    var results =
        List.of(
            measured(plain, 1, 0.2, 50, new TrialResult.Inside(0.5, null)),
            measured(plain, 2, 0.4, 100, new TrialResult.Inside(0.6, null)),
            measured(plain, 3, 0.1, 20, new TrialResult.Inside(0.2, null)),
            measured(gated, 1, 0.02, 5, new TrialResult.Inside(0.05, 0.8)),
            measured(gated, 2, 0.03, 20, new TrialResult.Inside(0.08, 0.9)),
            measured(gated, 3, 0, 4, null));
    var inside = new Comparisons(study, results).inside();
    assertEquals(
        List.of(Measure.values()), inside.stream().map(Comparisons.Inside::measure).toList());
    var first = inside.get(0);
    assertRatio(
        first,
        0.04217163326508746,
        0.0018684107128950306,
        0.9518499546009321,
        0.08471304120610501,
        0.008434326653017495,
        0.2);
    var strongest = inside.get(1);
    assertEquals(List.of(1L, 2L), strongest.logarithms().seeds());
    assertRatio(
        strongest,
        0.11547005383792518,
        0.018566104256728784,
        0.718154608471566,
        0.08471304120610501,
        0.0632455532033676,
        0.5477225575051662);
    assertRatio(
        inside.get(2),
        0.15874010519681994,
        0.05874138105445416,
        0.42897222614732433,
        0.04618949002603645,
        7.368062997280772,
        46.415888336127786);
  }

  private static void assertRatio(Comparisons.Inside one, double... expected) {
    assertEquals(expected[0], one.ratio(0), 1e-9);
    assertEquals(expected[1], one.ratio(-1), 1e-9 * expected[1]);
    assertEquals(expected[2], one.ratio(1), 1e-7 * expected[2]);
    assertEquals(expected[3], one.corrected(), 1e-9);
    assertEquals(expected[4], one.ofArm(), 1e-9);
    assertEquals(expected[5], one.ofBaseline(), 1e-9);
    assertEquals(expected[3] <= 0.05, one.shown());
  }

  /// A comparison that cannot be tested yet does not cost the others anything.
  @Test
  void anUntestedComparisonIsNotCorrectedFor() {
    var study = study(3, List.of(), "plain", "a", "b", "c");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2.10, 2.15, 2.40);
    add(results, arms.get(1), 2.05, 2.08, 2.37);
    add(results, arms.get(2), 2.5);
    var comparisons = new Comparisons(study, results).comparisons();
    assertEquals(0.04941362421328327, comparisons.get(0).corrected(), 1e-10);
    assertTrue(comparisons.get(0).shown());
    assertEquals(1, comparisons.get(1).pairs().count());
    assertEquals(0.4, comparisons.get(1).pairs().mean(), 1e-12);
    assertTrue(Double.isNaN(comparisons.get(1).pairs().half()));
    assertFalse(comparisons.get(1).tested() || comparisons.get(1).shown());
    assertEquals(0, comparisons.get(2).pairs().count());
    assertFalse(comparisons.get(2).tested() || comparisons.get(2).shown());
  }

  @Test
  void divergedTrialsAreInNoPair() {
    var study = study(3, List.of(), "plain", "a");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2.10, 2.20, NONE);
    results.add(diverged(arms.get(0), 3, 5.5));
    results.add(diverged(arms.get(1), 1, NONE));
    add(results, arms.get(1), NONE, 2.15, 2.3);
    var comparisons = new Comparisons(study, results);
    var pairs = comparisons.comparisons().getFirst().pairs();
    assertEquals(List.of(2L), pairs.seeds());
    assertEquals(-0.05, pairs.mean(), 1e-12);
    assertEquals(3, comparisons.done(arms.get(1)).size());
    assertEquals(2, comparisons.finished(arms.get(1)).size());
    assertTrue(comparisons.deviation().isEmpty());
  }

  /// Equal values are no difference; the same difference every time is one beyond doubt.
  @Test
  void equalValues() {
    var study = study(3, List.of(), "plain", "a", "b");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2, 3, 4);
    add(results, arms.get(1), 2, 3, 4);
    add(results, arms.get(2), 2.5, 3.5, 4.5);
    var comparisons = new Comparisons(study, results);
    assertEquals(1, comparisons.comparisons().get(0).corrected());
    assertEquals(0, comparisons.comparisons().get(0).pairs().mean());
    assertEquals(0, comparisons.comparisons().get(1).corrected());
    assertEquals(0, comparisons.comparisons().get(1).pairs().half());
    assertEquals(0, comparisons.deviation().orElseThrow());
  }

  /// A trial that did not diverge has a loss.
  @Test
  void lossesThatAreNoneAreRefused() {
    var arm = study(1, List.of(), "plain", "a").arms().getFirst();
    for (double loss : new double[] {NONE, Double.POSITIVE_INFINITY}) {
      var e = assertThrows(InvalidInputException.class, () -> trial(arm, 1, loss));
      assertTrue(e.getMessage().contains("held_out_loss"), e.getMessage());
    }
  }

  /// Three learning rates; seed 2 of the baseline lacks one and seed 5 is of the other variants
  /// alone, so that arrays of the same length would pair different seeds. Losses above a new
  /// model's 5.5, and diverged trials, count as 5.5.
  @Test
  void sensitivitiesArePairedBySeed() {
    var study = study(5, List.of("1e-3", "1e-2", "1e-1"), "plain", "gated", "wide");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 3.0, 3.1, 3.2, 3.0);
    add(results, arms.get(1), 2.8, 2.9, 2.7, 2.9);
    add(results, arms.get(2), 3.4, NONE, 6.0);
    results.add(diverged(arms.get(2), 4, 5.5));
    add(results, arms.get(3), 2.9, 2.9, 2.8, 2.7, 2.6);
    add(results, arms.get(4), 2.7, 2.8, 2.7, 2.75, 2.6);
    add(results, arms.get(5), 3.0, 2.85, 3.0, 2.9, 9.0);
    add(results, arms.get(6), 3.0, NONE, 3.1, 3.3);
    add(results, arms.get(7), 3.0, NONE, 2.9, 2.9);
    add(results, arms.get(8), 3.0, NONE, 3.0);
    results.add(diverged(arms.get(8), 4, 5.5));
    for (int rate = 6; rate < 9; rate++) {
      results.add(diverged(arms.get(rate), 5, 5.5)); // has no best
    }
    var comparisons = new Comparisons(study, results);
    assertTrue(comparisons.sweepsLearningRates());
    var plain = comparisons.sensitivities().get(0);
    assertEquals(List.of(1L, 3L, 4L), List.copyOf(plain.bySeed().keySet()));
    assertEquals(0.7555555555555556, plain.mean(), 1e-12);
    assertEquals(0, plain.pairs().count());
    var gated = comparisons.sensitivities().get(1);
    assertEquals(5, gated.bySeed().size());
    assertEquals(0.28, gated.mean(), 1e-12);
    assertEquals(0.96666666666666663, gated.bySeed().get(5L), 1e-12);
    assertEquals(List.of(1L, 3L, 4L), gated.pairs().seeds());
    assertEquals(-0.6277777777777781, gated.pairs().mean(), 1e-12);
    assertEquals(1.150606457485065, gated.pairs().half(), 1e-9);
    assertEquals(0.28684610082742795, gated.corrected(), 1e-9);
    var wide = comparisons.sensitivities().get(2);
    assertEquals(List.of(1L, 3L, 4L), List.copyOf(wide.bySeed().keySet()));
    assertEquals(-0.388888888888889, wide.pairs().mean(), 1e-12);
    assertEquals(0.3521850043529926, wide.corrected(), 1e-9);
  }

  /// What is measured differs with the mask, as it does with the sequence length.
  @Test
  void variantsThatAreMeasuredDifferentlyAreTold() {
    for (String setting : List.of("document_mask", "sequence_length")) {
      var study =
          new Study(
              RunConfig.DEFAULTS,
              Matching.NONE,
              List.of(
                  new Variant("plain", Map.of("gate", "none"), 0),
                  new Variant(
                      "other",
                      Map.of("gate", "none", setting, setting.startsWith("d") ? "true" : "64"),
                      0)),
              Map.of(),
              Study.seeds(1, 1));
      String said =
          String.join("\n", new StudyReport(study, Path.of("nowhere"), List.of()).sentences());
      assertEquals(setting.startsWith("d"), said.contains("document_mask differs"), said);
      assertEquals(setting.startsWith("s"), said.contains("sequence length differs"), said);
    }
  }

  /// Trials that begin with a trained model have their first loss where it will stay: what bounds
  /// them is the loss of a model that knows nothing.
  @Test
  void trainedModelsAreNotBoundedByWhereTheyBegan() {
    var study = study(1, List.of("1e-3", "1e-2", "1e-1"), "plain", "gated");
    var arms = study.arms();
    var results =
        List.of(
            begunWith(arms.get(0), false, 2.0, 1.9),
            begunWith(arms.get(1), false, 2.0, 2.5),
            begunWith(arms.get(2), true, 2.0, NONE));
    var plain = new Comparisons(study, results).sensitivities().getFirst();
    assertEquals((0.6 + (5.5 - 1.9)) / 3, plain.mean(), 1e-12);
  }

  private static TrialResult begunWith(Arm arm, boolean diverged, double initialLoss, double loss) {
    var like = trial(arm, 1, diverged, initialLoss, loss);
    return new TrialResult(
        like.variant(),
        like.point(),
        1,
        diverged,
        10,
        100,
        8,
        initialLoss,
        5.5,
        loss,
        loss,
        0,
        NONE,
        like.firstTokenAttention(),
        like.uniformFloor(),
        like.sinkRate(),
        like.largestActivation(),
        like.meanBlockMaximum(),
        null,
        1000,
        null);
  }

  /// A curve leaves out the steps whose loss is no number.
  @Test
  void aFirstStepWithoutALossIsNotAnother() {
    double[] losses = {3, 4};
    assertEquals(3, TrialResult.first(new RunMetrics.Curve(new double[] {1, 2}, losses)));
    assertEquals(NONE, TrialResult.first(new RunMetrics.Curve(new double[] {2, 3}, losses)));
    assertEquals(NONE, TrialResult.first(new RunMetrics.Curve(new double[0], new double[0])));
  }

  /// The fault that was found by reading: three seeds each, of which one is common.
  @Test
  void asManySeedsAreNotTheSameSeeds() {
    var study = study(5, List.of("1e-3", "1e-2"), "plain", "gated");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    // sensitivities 0.5, 1 and 1.5 of seeds 1, 2 and 3; and the same of seeds 3, 4 and 5
    add(results, arms.get(0), 2, 2, 2);
    add(results, arms.get(1), 3, 4, 5);
    add(results, arms.get(2), NONE, NONE, 2, 2, 2);
    add(results, arms.get(3), NONE, NONE, 5, 4, 3);
    var gated = new Comparisons(study, results).sensitivities().get(1);
    assertEquals(List.of(3L), gated.pairs().seeds());
    assertEquals(0, gated.pairs().mean());
    assertTrue(Double.isNaN(gated.corrected()));
  }

  @Test
  void oneGridOrNoneHasNoSensitivity() {
    var study = study(1, List.of(), "plain", "gated");
    assertFalse(new Comparisons(study, List.of()).sweepsLearningRates());
    assertEquals(List.of(), new Comparisons(study, List.of()).sensitivities());
    assertEquals(
        List.of(),
        new Comparisons(study(2, List.of("1e-3", "1e-2"), "plain", "gated"), List.of())
            .sensitivities());
  }

  /// Pictures show arms over their common seeds, or say that there are none.
  @Test
  void whatIsShownSideBySideIsOfTheSameSeeds() {
    var study = study(4, List.of(), "plain", "a", "b");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 1, 2, 3);
    add(results, arms.get(1), NONE, 2, 3, 4);
    var shown = new Comparisons(study, results).finished(arms);
    assertEquals(List.of(2L, 3L), shown.seeds());
    assertEquals(List.of(arms.get(0), arms.get(1)), List.copyOf(shown.trials().keySet()));
    for (var trials : shown.trials().values()) {
      assertEquals(List.of(2L, 3L), trials.stream().map(TrialResult::seed).toList());
    }
    add(results, arms.get(2), 9);
    var none = new Comparisons(study, results).finished(arms);
    assertEquals(List.of(), none.seeds());
    assertEquals(3, none.trials().get(arms.get(0)).size());
    assertEquals(1, none.trials().get(arms.get(2)).size());
    assertTrue(new Comparisons(study, List.of()).finished(arms).trials().isEmpty());
  }

  /// At the first learning rate only the easy seed is done, which must not make it the best.
  @Test
  void theShownPointIsBestOverTheSameSeeds() {
    var study = study(2, List.of("1e-3", "1e-2", "1e-1"), "plain", "gated");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2.0);
    add(results, arms.get(1), 1.9, 4.0);
    var partly = new Comparisons(study, results).shownPoint();
    assertEquals(Map.of("learning_rate", "1e-2"), partly.settings());
    assertFalse(partly.best(), "a rate is not done yet");
    add(results, arms.get(2), 1.0);
    results.add(diverged(arms.get(2), 2, 5.5));
    var all = new Comparisons(study, results).shownPoint();
    assertEquals(Map.of("learning_rate", "1e-1"), all.settings());
    assertTrue(all.best());
    results.add(trial(arms.get(0), 2, 2.5)); // now seed 2 counts, on which the last one diverged
    var both = new Comparisons(study, results).shownPoint();
    assertEquals(Map.of("learning_rate", "1e-3"), both.settings());
    assertTrue(both.best());
    var nothing = new Comparisons(study, List.of()).shownPoint();
    assertEquals(new Comparisons.Point(Map.of("learning_rate", "1e-3"), false), nothing);
  }

  /// Curves of different lengths, and one with a hole where a loss was not finite.
  @Test
  void bandsAreOverCommonSteps() {
    var band =
        StudyFigures.band(
                "arm",
                List.of(
                    new RunMetrics.Curve(new double[] {1, 2, 3, 4}, new double[] {4, 3, 2, 1}),
                    new RunMetrics.Curve(
                        new double[] {1, 3, 4, 5, 6}, new double[] {6, 5, 1, 0, 0}),
                    new RunMetrics.Curve(new double[] {1, 2, 3}, new double[] {2, 9, 8})))
            .orElseThrow();
    assertArrayEquals(new double[] {1, 3}, band.x());
    assertArrayEquals(new double[] {4, 5}, band.mean());
    assertArrayEquals(new double[] {2, 2}, band.low());
    assertArrayEquals(new double[] {6, 8}, band.high());
    var alone = new RunMetrics.Curve(new double[] {1, 2}, new double[] {4, 3});
    assertEquals(null, StudyFigures.band("arm", List.of(alone)).orElseThrow().low());
    var nothing = new RunMetrics.Curve(new double[0], new double[0]);
    assertTrue(StudyFigures.band("arm", List.of(alone, nothing)).isEmpty());
  }

  /// What the words say is what was computed.
  @Test
  void wordsSayTheNumbers() {
    var study = study(5, List.of(), "plain", "a", "b");
    var arms = study.arms();
    List<TrialResult> results = new ArrayList<>();
    add(results, arms.get(0), 2.10, 2.20, 2.15, NONE, 2.40);
    add(results, arms.get(1), 2.05, NONE, 2.08, 1.00, 2.37);
    add(results, arms.get(2), 2.04, 2.21, 2.11, 9.00, 2.30);
    String all =
        String.join("\n", new StudyReport(study, Path.of("nowhere"), results).conclusions());
    assertTrue(
        all.contains(
            "a against plain: held-out loss lower by 0.0500 bits per byte on average over 3 paired"
                + " seeds (-0.0500, -0.0700, -0.0300). No difference shown: 95 % interval -0.0997"
                + " to -0.0003, p = 0.099 after correction"),
        all);
  }

  @Test
  void seedsInWords() {
    assertEquals("seed 4", StudyReport.seeds(List.of(4L)));
    assertEquals("seeds 1 to 3, 5, 6, 9", StudyReport.seeds(List.of(1L, 2L, 3L, 5L, 6L, 9L)));
  }
}
