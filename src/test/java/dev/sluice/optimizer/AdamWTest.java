package dev.sluice.optimizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import dev.sluice.kernel.AdamWStep;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.operations.AdamWUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
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
        Operations.COMPOSED.adamW(
            List.of(
                new AdamWUpdate(
                    new Weight("w", composed),
                    g,
                    first,
                    second,
                    new AdamWStep(1e-2, 0.9, 0.95, 1e-8, 0.1, step, 0.5))));
        assertArrayEquals(composed.floats(), parameter.detach().floats(), 1e-6f);
        assertArrayEquals(first.floats(), adamW.firstMoments().get("w").floats(), 1e-7f);
        assertArrayEquals(second.floats(), adamW.secondMoments().get("w").floats(), 1e-7f);
      }
    }
  }

  /// A device's step, a call for those of one size of step, is the definition's; weights whose
  /// numbers moved are known to have.
  @Test
  void togetherEqualsTheDefinition() {
    var random = new Random(3);
    long[][] shapes = {{1}, {7}, {5, 13}, {257}, {3, 4, 5}};
    try (var _ = Scope.withoutGradient()) {
      for (double scale : new double[] {1, 0.37}) {
        var expected = new ArrayList<AdamWUpdate>();
        var actual = new ArrayList<AdamWUpdate>();
        for (long[] shape : shapes) {
          float[] start = floats(random, elements(shape));
          float[] gradient = floats(random, elements(shape));
          float[] first = floats(random, elements(shape));
          float[] second = floats(random, elements(shape));
          for (int i = 0; i < second.length; i++) {
            second[i] = Math.abs(second[i]);
          }
          double decay = shape.length < 2 ? 0 : 0.1;
          var step = new AdamWStep(1e-2, 0.9, 0.95, 1e-8, decay, 3, scale);
          for (var updates : List.of(expected, actual)) {
            updates.add(
                new AdamWUpdate(
                    new Weight("w", Tensor.of(start, shape)),
                    Tensor.of(gradient, shape),
                    Tensor.of(first, shape),
                    Tensor.of(second, shape),
                    step));
          }
        }
        var before = actual.stream().map(update -> rounded(update)).toList();
        Operations.COMPOSED.adamW(expected);
        Operations.LIBTORCH.adamW(actual);
        for (int i = 0; i < shapes.length; i++) {
          String what = "tensor " + i + ", scale " + scale;
          var right = expected.get(i);
          var given = actual.get(i);
          assertArrayEquals(right.parameter().floats(), given.parameter().floats(), 1e-6f, what);
          assertArrayEquals(right.first().floats(), given.first().floats(), 1e-6f, what);
          assertArrayEquals(right.second().floats(), given.second().floats(), 1e-6f, what);
          assertFalse(Arrays.equals(before.get(i), rounded(given)), what + " as it was");
        }
      }
    }
  }

  private static float[] rounded(AdamWUpdate update) {
    return update.weight().of(ElementType.BFLOAT16).floats();
  }

  /// All parameters in one pass, whose pieces begin in the middle of a parameter, are what each
  /// parameter alone is, bit for bit and with any number of threads; and close to the composed
  /// step. Only matrices decay.
  @Test
  void onePassEqualsStepsOfSingleParameters() {
    var random = new Random(5);
    long[][] shapes = {{1}, {7}, {63}, {5, 13}, {257}, {33_333}, {131, 129}, {1, 1}, {40_001}};
    var settings = new AdamW.Settings(0.9, 0.95, 1e-8, 0.1);
    for (int threads = 1; threads <= 3; threads++) {
      Threads.count(threads);
      try (var _ = Scope.open();
          var all = new Parameters(parameters(random, shapes));
          var together = new AdamW(settings, all)) {
        for (int i = 0; i < shapes.length; i++) {
          var gradient = Tensor.of(floats(random, elements(shapes[i])), shapes[i]);
          var parameter = all.get("p" + i);
          if (i != 2) { // which has no gradient and stays as it is
            parameter.requireGradient(true).times(gradient).sum().backward();
          }
        }
        var before = new LinkedHashMap<String, float[]>();
        all.all().forEach((name, parameter) -> before.put(name, parameter.detach().floats()));
        together.step(3, 1e-2, 0.37);
        for (int i = 0; i < shapes.length; i++) {
          String name = "p" + i;
          float[] actual = all.get(name).detach().floats();
          if (i == 2) {
            assertArrayEquals(before.get(name), actual);
            continue;
          }
          double decay = shapes[i].length < 2 ? 0 : 0.1;
          var step = new AdamWStep(1e-2, 0.9, 0.95, 1e-8, decay, 3, 0.37);
          assertAlone(
              step, before.get(name), all.get(name), together, name, threads + " threads " + name);
        }
      } finally {
        Threads.count(Runtime.getRuntime().availableProcessors());
      }
    }
  }

  private static void assertAlone(
      AdamWStep step, float[] before, Tensor parameter, AdamW together, String name, String what) {
    var gradient = Objects.requireNonNull(parameter.gradient());
    var alone = Tensor.of(before, parameter.shape());
    var first = Tensor.zeros(ElementType.FLOAT32, parameter.shape());
    var second = Tensor.zeros(ElementType.FLOAT32, parameter.shape());
    Kernels.FASTEST.adamW(
        alone.memory(),
        gradient.memory(),
        first.memory(),
        second.memory(),
        step,
        0,
        parameter.elements());
    assertArrayEquals(alone.floats(), parameter.detach().floats(), what);
    assertArrayEquals(first.floats(), together.firstMoments().get(name).floats(), what);
    assertArrayEquals(second.floats(), together.secondMoments().get(name).floats(), what);
    var composed = Tensor.of(before, parameter.shape());
    Operations.COMPOSED.adamW(
        List.of(
            new AdamWUpdate(
                new Weight("w", composed),
                gradient,
                Tensor.zeros(ElementType.FLOAT32, parameter.shape()),
                Tensor.zeros(ElementType.FLOAT32, parameter.shape()),
                step)));
    assertArrayEquals(composed.floats(), parameter.detach().floats(), 1e-6f, what);
  }

  private static Map<String, Tensor> parameters(Random random, long[][] shapes) {
    Map<String, Tensor> parameters = new LinkedHashMap<>();
    for (int i = 0; i < shapes.length; i++) {
      parameters.put("p" + i, Tensor.of(floats(random, elements(shapes[i])), shapes[i]));
    }
    return parameters;
  }

  private static int elements(long[] shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    return elements;
  }

  private static float[] floats(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
