package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
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
