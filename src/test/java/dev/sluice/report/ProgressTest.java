package dev.sluice.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class ProgressTest {
  private static final Progress LINE =
      new Progress(
          "step",
          120,
          600,
          Duration.ofSeconds(23),
          Duration.ofSeconds(92),
          List.of("loss 2.134", "18,204 tokens/s"));

  @Test
  void saysHowFarAndHowLong() {
    assertEquals("step 120/600  20 %  loss 2.134  18,204 tokens/s  1m32s left", LINE.toString());
    assertEquals(
        "step 120/600  20 %  loss 2.134  18,204 tokens/s  23s elapsed  1m32s left", LINE.logLine());
  }

  @Test
  void aTerminalLineCoversThePreviousOneAndKeepsTheTimeLeft() {
    assertEquals(LINE + " ".repeat(79 - LINE.toString().length()), LINE.terminalLine(80));
    assertEquals("step 120/600  20 %  loss 2.134  1m32s left ", LINE.terminalLine(44));
    assertEquals("step 120/", LINE.terminalLine(10));
  }

  @Test
  void onlyWhatIsDoneIsAHundredPerCent() {
    var almost = new Progress("token", 999_999, 1_000_000, Duration.ZERO, null, List.of());
    assertEquals("token 999,999/1,000,000  99 %", almost.toString());
    assertEquals(1, new Progress("step", 0, 0, Duration.ZERO, null, List.of()).fraction());
    assertThrows(
        IllegalArgumentException.class,
        () -> new Progress("step", -1, 1, Duration.ZERO, null, List.of()));
  }

  @Test
  void anUnknownRateGivesNoTime() {
    var time = new RemainingTime();
    assertEquals(Optional.empty(), time.remaining(10));
    time.observe(0, Duration.ZERO);
    time.observe(0, Duration.ofSeconds(5));
    assertEquals(Optional.empty(), time.remaining(10));
  }

  @Test
  void aSlowStartIsForgotten() {
    var time = new RemainingTime();
    // Two minutes for the first ten steps, then two steps a second.
    for (int step = 0; step <= 10; step++) {
      time.observe(step, Duration.ofSeconds(12L * step));
    }
    for (int step = 11; step <= 400; step++) {
      time.observe(step, Duration.ofMillis(120_000 + 500L * (step - 10)));
    }
    assertEquals(2, time.rate().orElseThrow(), 0.02);
    assertEquals(100, time.remaining(600).orElseThrow().toSeconds(), 1);
  }

  @Test
  void pausesThatComeAgainStayInTheMean() {
    var time = new RemainingTime();
    // A step a second, and after every ten of them ten seconds of evaluation.
    long seconds = 0;
    for (int step = 0; step <= 1000; step++) {
      time.observe(step, Duration.ofSeconds(seconds));
      seconds += step % 10 == 9 ? 11 : 1;
    }
    assertEquals(0.5, time.rate().orElseThrow(), 0.02);
  }

  @Test
  void aResumedRunStartsFromItsFirstObservation() {
    var time = new RemainingTime();
    time.observe(5000, Duration.ofSeconds(3));
    time.observe(5010, Duration.ofSeconds(8));
    assertEquals(Duration.ofSeconds(5), time.remaining(5020).orElseThrow());
    assertTrue(time.remaining(5000).orElseThrow().isZero());
  }
}
