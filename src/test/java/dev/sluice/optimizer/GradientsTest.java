package dev.sluice.optimizer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class GradientsTest {
  @AfterEach
  void allThreads() {
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  @Test
  void theNormIsThatOfAllGradientsAndClippingKeepsItBelowItsLimit() {
    try (var _ = Scope.open();
        var parameters =
            new Parameters(
                Map.of(
                    "a", Tensor.of(new float[] {1, 1}, 2),
                    "b", Tensor.of(new float[] {1}, 1)))) {
      parameters.requireGradients(true);
      var a = parameters.get("a");
      var b = parameters.get("b");
      a.times(Tensor.of(new float[] {2, 3}, 2)).sum().plus(b.times(6).sum()).backward();
      assertEquals(7, Gradients.norm(parameters), 1e-6);
      assertEquals(1.0 / 7, Gradients.clippingScale(7, 1), 1e-6);
      assertEquals(1, Gradients.clippingScale(0.5, 1));
      Gradients.clear(parameters);
      assertEquals(0, Gradients.norm(parameters));
    }
  }

  /// Of more numbers than are summed at a time, 65536, within what tens of thousands of additions
  /// in double precision are off; the sums have one order whatever the number of threads.
  @Test
  void theNormIsADoubleSumThatThreadsDoNotChange() {
    int[] sizes = {1, 7, 63, 65, 65_536, 65_537, 200_003};
    assertNorm(sizes);
    int[] many = new int[50];
    Arrays.fill(many, 5); // whose sums another order would change
    assertNorm(many);
  }

  private static void assertNorm(int[] sizes) {
    var random = new Random(7);
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    var sum = BigDecimal.ZERO;
    try (var _ = Scope.open()) {
      for (int p = 0; p < sizes.length; p++) {
        tensors.put("p" + p, Tensor.of(new float[sizes[p]], sizes[p]));
      }
      tensors.put("none", Tensor.of(new float[5], 5));
      try (var parameters = new Parameters(tensors)) {
        parameters.requireGradients(true);
        for (int p = 0; p < sizes.length; p++) {
          float[] gradient = new float[sizes[p]];
          for (int i = 0; i < sizes[p]; i++) {
            gradient[i] = (float) random.nextGaussian();
            sum = sum.add(new BigDecimal(gradient[i]).pow(2));
          }
          parameters.get("p" + p).times(Tensor.of(gradient, sizes[p])).sum().backward();
        }
        Threads.count(1);
        double norm = Gradients.norm(parameters);
        assertEquals(Math.sqrt(sum.doubleValue()), norm, 1e-13 * norm);
        for (int threads = 2; threads <= 3; threads++) {
          Threads.count(threads);
          assertEquals(norm, Gradients.norm(parameters));
        }
        parameters.get("p3").times(Double.NaN).sum().backward();
        assertTrue(Double.isNaN(Gradients.norm(parameters)));
      }
    }
  }
}
