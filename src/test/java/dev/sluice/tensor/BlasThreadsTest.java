package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class BlasThreadsTest {
  private final int before = Libtorch.threads();

  @AfterEach
  void restore() {
    Libtorch.threads(before);
  }

  /// Large products are shared among threads; callers on several Java threads do not disturb one
  /// another.
  @Test
  void concurrentLargeProductsAreRight() throws Exception {
    Libtorch.threads(2);
    // 900³ multiplications: above the bound from which products are split
    float[] a = floats(1, 900 * 900);
    float[] b = floats(2, 900 * 900);
    float[] expected = product(a, b);
    double[] definition = row(a, b, 17);
    for (int j = 0; j < 900; j++) {
      assertEquals(definition[j], expected[17 * 900 + j], 1e-3);
    }
    List<Callable<float[]>> callers = new ArrayList<>();
    for (int i = 0; i < 6; i++) {
      callers.add(() -> product(a, b));
    }
    try (var pool = Executors.newFixedThreadPool(3)) {
      for (var result : pool.invokeAll(callers)) {
        assertArrayEquals(expected, result.get());
      }
    }
  }

  /// However callers meet, each finds the setting that it asked for, as long as it runs.
  @Test
  void everyOperationRunsWithItsOwnSetting() throws Exception {
    Libtorch.threads(3);
    List<Callable<Void>> callers = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      long multiplications = i % 3 == 0 ? 1_000_000_000 : 1000;
      boolean one = i % 3 == 1;
      int wanted = i % 3 == 0 ? 3 : 1;
      callers.add(
          () -> {
            Supplier<Integer> setting =
                () -> {
                  int before = BlasThreads.current();
                  Thread.yield();
                  // an operation within another one takes the outer one's
                  assertEquals(before, BlasThreads.withOne(BlasThreads::current));
                  return before == BlasThreads.current() ? before : -1;
                };
            assertEquals(
                wanted,
                one ? BlasThreads.withOne(setting) : BlasThreads.product(multiplications, setting));
            return null;
          });
    }
    try (var pool = Executors.newFixedThreadPool(4)) {
      for (var result : pool.invokeAll(callers)) {
        result.get();
      }
    }
  }

  @Test
  void aFailureLeavesTheSettingFree() {
    Libtorch.threads(2);
    for (int i = 0; i < 2; i++) {
      assertThrows(
          IllegalStateException.class,
          () ->
              BlasThreads.withOne(
                  () -> {
                    throw new IllegalStateException("shapes do not fit");
                  }));
    }
    assertEquals(2, BlasThreads.product(1_000_000_000, BlasThreads::current));
    assertEquals(2, BlasThreads.current());
  }

  private static float[] product(float[] a, float[] b) {
    try (var _ = Scope.withoutGradient()) {
      return Tensor.of(a, 900, 900).linear(Tensor.of(b, 900, 900)).floats();
    }
  }

  /// Row i of a bᵀ.
  private static double[] row(float[] a, float[] b, int i) {
    double[] row = new double[900];
    for (int j = 0; j < 900; j++) {
      for (int k = 0; k < 900; k++) {
        row[j] += (double) a[i * 900 + k] * b[j * 900 + k];
      }
    }
    return row;
  }

  private static float[] floats(long seed, int count) {
    var random = new Random(seed);
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat() - 0.5f;
    }
    return values;
  }
}
