package dev.sluice.optimizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.kernel.AdamWStep;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

class AdamWTest {
  /// What other devices compute is what the CPU's kernel computes.
  @Test
  void composedEqualsTheKernel() {
    var random = new Random(2);
    float[] start = floats(random, 35);
    float[] gradient = floats(random, 35);
    try (var _ = Scope.open();
        var parameters = new Parameters(Map.of("w", Tensor.of(start, 5, 7)));
        var adamW = new AdamW(new AdamW.Settings(0.9, 0.95, 1e-8, 0.1), parameters)) {
      var composed = Tensor.of(start, 5, 7);
      var first = Tensor.of(new float[35], 5, 7);
      var second = Tensor.of(new float[35], 5, 7);
      var parameter = parameters.get("w").requireGradient(true);
      var g = Tensor.of(gradient, 5, 7);
      for (int step = 1; step <= 4; step++) {
        parameter.clearGradient();
        parameter.times(g).sum().backward();
        adamW.step(step, 1e-2, 0.5);
        AdamW.composed(
            composed, g, first, second, new AdamWStep(1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5));
        assertArrayEquals(composed.floats(), parameter.detach().floats(), 1e-6f);
        assertArrayEquals(first.floats(), adamW.firstMoments().get("w").floats(), 1e-7f);
        assertArrayEquals(second.floats(), adamW.secondMoments().get("w").floats(), 1e-7f);
      }
    }
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

  private static float[] floats(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
