package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class StepsTest {
  private final int before = Threads.count();

  @AfterEach
  void restore() {
    Threads.count(before);
  }

  /// Each step sees all that the one before has written, and each item is done once.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 8})
  void stepsFollowOneAnother(int threads) {
    Threads.count(threads);
    int length = 1001;
    int[] first = new int[length];
    int[] second = new int[length];
    int[] sum = new int[2];
    var steps = new Steps();
    steps.shared(
        length,
        7,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            first[i]++;
          }
        });
    steps.alone(() -> sum[0] = Arrays.stream(first).sum());
    steps.alone(() -> sum[1] = sum[0] + 1);
    steps.shared(
        length,
        length,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            second[i] += first[length - 1 - i] + sum[1];
          }
        });
    steps.shared(3, 1, (from, to) -> assertEquals(1, to - from));
    int expected = 0;
    for (int run = 1; run <= 200; run++) {
      steps.run();
      assertEquals(run * length, sum[0]);
      expected += run + run * length + 1;
      for (int i = 0; i < length; i++) {
        assertEquals(run, first[i]);
        assertEquals(expected, second[i]);
      }
    }
  }

  /// A length that an earlier step of the same run decides.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 8})
  void aLengthMayBeDecidedOnTheWay(int threads) {
    Threads.count(threads);
    int[] length = new int[1];
    int[] counts = new int[500];
    var steps = new Steps();
    steps.shared(40, 1, (from, to) -> counts[(int) from] += (int) (to - from));
    steps.alone(() -> length[0] = 1 + (7 * length[0] + 11) % 500);
    steps.shared(
        () -> length[0],
        3,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            counts[i]++;
          }
        });
    int[] expected = new int[500];
    for (int run = 0; run < 300; run++) {
      steps.run();
      for (int i = 0; i < 500; i++) {
        expected[i] += (i < 40 ? 1 : 0) + (i < length[0] ? 1 : 0);
      }
      assertArrayEquals(expected, counts);
    }
  }

  @Test
  void allThreadsTakePart() {
    Threads.count(3);
    var here = new AtomicInteger();
    var steps = new Steps();
    steps.shared(
        3,
        1,
        (_, _) -> {
          here.incrementAndGet();
          while (here.get() < 3) {
            Thread.onSpinWait(); // for the two others
          }
        });
    steps.run();
    assertEquals(3, here.get());
  }

  /// No step begins after one that failed, nobody waits for ever, and the next run is whole.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 4})
  void aFailureEndsTheRun(int threads) {
    Threads.count(threads);
    var failure = new IllegalStateException("of a step");
    var fails = new boolean[] {true};
    var later = new AtomicIntegerArray(1);
    var steps = new Steps();
    steps.alone(() -> {});
    steps.shared(
        100,
        1,
        (from, _) -> {
          if (from == 57 && fails[0]) {
            throw failure;
          }
        });
    steps.alone(() -> later.incrementAndGet(0));
    for (int run = 0; run < 20; run++) {
      assertSame(failure, assertThrows(IllegalStateException.class, steps::run));
    }
    assertEquals(0, later.get(0));
    fails[0] = false;
    steps.run();
    assertEquals(1, later.get(0));
  }

  @Test
  void nothingToDo() {
    new Steps().run();
    var steps = new Steps();
    assertThrows(IllegalArgumentException.class, () -> steps.shared(0, 1, (_, _) -> {}));
    assertThrows(IllegalArgumentException.class, () -> steps.shared(1, 0, (_, _) -> {}));
  }
}
