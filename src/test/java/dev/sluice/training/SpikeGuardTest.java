package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.training.SpikeGuard.Settings;
import dev.sluice.training.SpikeGuard.State;
import dev.sluice.training.SpikeGuard.Verdict;
import java.util.Random;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.json.JsonMapper;

class SpikeGuardTest {
  private static final Settings SETTINGS = new Settings(6, 128, 2, 1);

  private static SpikeGuard calm(int steps) {
    var guard = new SpikeGuard(SETTINGS, State.NEW);
    var random = new Random(3);
    for (int step = 1; step <= steps; step++) {
      assertEquals(
          Verdict.ACCEPT,
          guard.judge(step, 3 + 0.05 * random.nextGaussian(), 1 + 0.1 * random.nextGaussian()));
    }
    return guard;
  }

  @Test
  void whatIsNotFiniteIsNeverAcceptedWithoutAnyWindow() {
    double[] bad = {Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY};
    for (double value : bad) {
      assertEquals(
          Verdict.SKIP, new SpikeGuard(new Settings(0, 128, 1, 0), State.NEW).judge(1, value, 1));
      assertEquals(
          Verdict.SKIP, new SpikeGuard(new Settings(0, 128, 1, 0), State.NEW).judge(1, 2, value));
    }
  }

  /// A running sum with one NaN in it is NaN for ever, and a comparison with NaN lets all through.
  @Test
  void aNanDoesNotSpoilTheStatistics() {
    var guard = calm(200);
    var before = guard.state();
    assertEquals(Verdict.SKIP, guard.judge(201, Double.NaN, Double.NaN));
    assertEquals(before.losses(), guard.state().losses());
    assertEquals(before.gradientNorms(), guard.state().gradientNorms());
    assertEquals(Verdict.ACCEPT, guard.judge(202, 3, 1));
    assertEquals(Verdict.SKIP, guard.judge(203, 30, 1));
  }

  /// With the candidate in its window of n, no |z| is above (n − 1)/√n: 3.75 for 16. Without, the
  /// deviations of a spike have no bound.
  @Test
  void theCandidateIsNotInItsOwnWindow() {
    var guard = calm(SpikeGuard.FEWEST);
    assertEquals(Verdict.SKIP, guard.judge(17, 300, 1));
    assertTrue(guard.state().events().getLast().cause().contains("the loss"), guard::toString);
  }

  /// Skipped values must not widen the window until the next spike looks normal.
  @Test
  void aRowOfSpikesStaysARowOfSpikes() {
    var guard = new SpikeGuard(new Settings(6, 32, 1000, 0), State.NEW);
    for (int step = 1; step <= 32; step++) {
      guard.judge(step, 3 + step % 2 * 0.1, 1);
    }
    for (int step = 33; step <= 233; step++) {
      assertEquals(Verdict.SKIP, guard.judge(step, 6, 1), "step " + step);
    }
    assertEquals(201, guard.state().skips());
    assertEquals(Verdict.ACCEPT, guard.judge(234, 3.05, 1));
    assertEquals(0, guard.state().skipsInARow());
  }

  @Test
  void aGradientAloneIsEnoughAndALowValueIsNot() {
    var guard = calm(100);
    assertEquals(Verdict.SKIP, guard.judge(101, 3, 50));
    assertTrue(guard.state().events().getLast().cause().contains("the gradient norm"));
    assertEquals(Verdict.ACCEPT, guard.judge(102, 0.1, 0.001));
  }

  @Test
  void noThresholdLetsEverySpikePass() {
    var guard = new SpikeGuard(new Settings(0, 128, 2, 1), State.NEW);
    for (int step = 1; step <= 200; step++) {
      assertEquals(Verdict.ACCEPT, guard.judge(step, step == 150 ? 1e6 : 3, 1));
    }
  }

  /// A loss that hardly moves has a deviation near 0; the next step's is not a spike for that.
  @Test
  void aStillLossMakesNoSpikes() {
    var guard = new SpikeGuard(SETTINGS, State.NEW);
    for (int step = 1; step <= 100; step++) {
      assertEquals(Verdict.ACCEPT, guard.judge(step, 3, 1));
    }
    assertEquals(Verdict.ACCEPT, guard.judge(101, 3.1, 1.02));
    assertEquals(Verdict.SKIP, guard.judge(102, 3.3, 1));
  }

  @Test
  void skipsThenGoesBackThenGivesUp() {
    var guard = calm(50);
    var good = guard.state();
    assertEquals(Verdict.SKIP, guard.judge(51, Double.NaN, 1));
    assertEquals(Verdict.SKIP, guard.judge(52, 3, Double.NaN));
    assertEquals(Verdict.ROLL_BACK, guard.judge(53, Double.NaN, 1));

    var back = guard.rolledBack(53, 50, good);
    assertEquals(3, back.batchesPassedOver());
    assertEquals(1, back.rollbacks());
    assertEquals(0, back.skips());
    assertEquals(good.losses(), back.losses());
    assertEquals(50, back.events().getLast().toStep());

    var again = new SpikeGuard(SETTINGS, back);
    assertEquals(Verdict.SKIP, again.judge(51, Double.NaN, 1));
    assertEquals(Verdict.SKIP, again.judge(52, Double.NaN, 1));
    assertEquals(Verdict.GIVE_UP, again.judge(53, Double.NaN, 1));
    assertEquals(
        "skip,skip,skip,rollback,skip,skip,give up",
        String.join(",", again.state().events().stream().map(State.Event::action).toList()));
  }

  /// The window is what rivals forget on resume: the first steps after it were unguarded.
  @Test
  void stateSurvivesAFileToTheLastBit() {
    var guard = calm(300);
    guard.judge(301, Double.NaN, Double.POSITIVE_INFINITY);
    guard.judge(302, 1e9, 1);
    var json = JsonMapper.builder().build();
    var read = json.readValue(json.writeValueAsString(guard.state()), State.class);
    assertEquals(guard.state(), read);
    assertEquals(128, read.losses().size());
    assertEquals(Verdict.SKIP, new SpikeGuard(new Settings(6, 128, 9, 0), read).judge(303, 30, 1));
  }
}
