package dev.sluice.optimizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.Threads;
import dev.sluice.operations.MuonUpdate;
import dev.sluice.operations.Operations;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class MuonTest {
  private static final Muon.Settings SETTINGS =
      new Muon.Settings(0.95, new AdamW.Settings(0.9, 0.95, 1e-8, 0.1));

  @AfterEach
  void allThreads() {
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  private static Tensor gaussian(Random random, long... shape) {
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.of(values, shape);
  }

  private static Map<String, ParameterSpec> declared() {
    Map<String, ParameterSpec> declared = new LinkedHashMap<>();
    declared.put("table", ParameterSpec.drawn(31, 8));
    declared.put("wide", ParameterSpec.map(7, 33));
    declared.put("tall", ParameterSpec.map(65, 8));
    declared.put("row", ParameterSpec.map(1, 17));
    declared.put("packed", ParameterSpec.drawn(24, 16).asMaps(8, 4, 12));
    declared.put("norm", ParameterSpec.constant(1, 8));
    declared.put("headwise", ParameterSpec.drawn(4, 16));
    return declared;
  }

  /// A step with gradients of a seed of their own, for all parameters but `without`.
  private static void differentiate(Parameters parameters, int seed, String without) {
    var random = new Random(seed);
    parameters
        .all()
        .forEach(
            (name, parameter) -> {
              parameter.clearGradient();
              var gradient = gaussian(random, parameter.shape());
              if (!name.equals(without)) {
                parameter.requireGradient(true).times(gradient).sum().backward();
              }
            });
  }

  private static Parameters parameters() {
    var random = new Random(3);
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    declared().forEach((name, spec) -> tensors.put(name, gaussian(random, spec.shape())));
    return new Parameters(declared(), tensors);
  }

  /// What other devices compute is what the CPU's kernels compute, to bfloat16's roundings, which
  /// five steps make larger: a few hundredths of a step. Momenta are the same.
  @Test
  void composedIsCloseToTheKernels() {
    try (var _ = Scope.open();
        var fused = parameters();
        var muon = new Muon(SETTINGS, fused, _ -> true);
        var other = parameters()) {
      Map<String, Tensor> momenta = new LinkedHashMap<>();
      declared()
          .forEach(
              (name, spec) -> momenta.put(name, Tensor.zeros(ElementType.FLOAT32, spec.shape())));
      for (int step = 1; step <= 3; step++) {
        differentiate(fused, step, "");
        muon.step(step, 1e-2, 0.5);
        try (var _ = Scope.withoutGradient()) {
          for (String name : List.of("wide", "tall", "row", "packed")) {
            var gradient = Objects.requireNonNull(fused.get(name).gradient());
            Operations.COMPOSED.muon(
                List.of(
                    new MuonUpdate(
                        other.weight(name),
                        gradient,
                        Objects.requireNonNull(momenta.get(name)),
                        new MuonUpdate.Step(1e-2, 0.95, 0.1, 0.5))));
            float[] expected = Objects.requireNonNull(momenta.get(name)).floats();
            assertArrayEquals(expected, muon.firstMoments().get(name).floats(), 1e-6f, name);
            var difference = other.get(name).detach().minus(fused.get(name).detach());
            double distance = difference.norm().item() / Math.sqrt(difference.elements());
            assertTrue(distance < step * 0.06 * 0.2 * 1e-2, name + ": " + distance);
          }
        }
      }
    }
  }

  /// In float64, by hand: θ ← θ (1 − ηλ) − 0.2 √17 η u / ‖u‖ f, for a map of one row, of which
  /// Newton and Schulz make f = p⁵(1) of its direction.
  @Test
  void aMapOfOneRowMovesAlongItsMomentum() {
    try (var _ = Scope.open();
        var parameters = parameters();
        var muon = new Muon(SETTINGS, parameters, _ -> true)) {
      double[] theta = parameters.get("row").detach().to(ElementType.FLOAT64).doubles();
      double[] m = new double[17];
      double f = 1;
      for (int i = 0; i < 5; i++) {
        f = 3.4445 * f - 4.7750 * f * f * f + 2.0315 * f * f * f * f * f;
      }
      for (int step = 1; step <= 3; step++) {
        differentiate(parameters, step, "");
        float[] g = Objects.requireNonNull(parameters.get("row").gradient()).floats();
        double[] u = new double[17];
        double norm = 0;
        for (int i = 0; i < 17; i++) {
          m[i] = 0.95 * m[i] + 0.05 * 0.5 * g[i];
          u[i] = 0.95 * m[i] + 0.05 * 0.5 * g[i];
          norm += u[i] * u[i];
        }
        for (int i = 0; i < 17; i++) {
          double direction = f * u[i] / Math.sqrt(norm);
          theta[i] = theta[i] * (1 - 1e-2 * 0.1) - 1e-2 * 0.2 * Math.sqrt(17) * direction;
        }
        muon.step(step, 1e-2, 0.5);
      }
      double[] actual = parameters.get("row").detach().to(ElementType.FLOAT64).doubles();
      assertArrayEquals(theta, actual, 3 * 0.03 * 0.2 * 1e-2);
    }
  }

  /// A map that is packed with others moves as it does alone, bit for bit.
  @Test
  void packedMapsMoveAsIfTheyWereAlone() {
    try (var _ = Scope.open();
        var parameters = parameters();
        var muon = new Muon(SETTINGS, parameters, _ -> true)) {
      differentiate(parameters, 5, "");
      var gradient = Objects.requireNonNull(parameters.get("packed").gradient()).detach();
      var before = Tensor.of(parameters.get("packed").detach().floats(), 24, 16);
      muon.step(1, 1e-2, 1);
      long from = 0;
      for (long rows : new long[] {8, 4, 12}) {
        var alone = Tensor.of(before.narrow(0, from, rows).contiguous().floats(), rows, 16);
        var step = new MuonUpdate.Step(1e-2, 0.95, 0.1, 1);
        Operations.FUSED.muon(
            List.of(
                new MuonUpdate(
                    new Weight("alone", ParameterSpec.map(rows, 16), alone),
                    gradient.narrow(0, from, rows).contiguous(),
                    Tensor.zeros(ElementType.FLOAT32, rows, 16),
                    step)));
        assertArrayEquals(
            alone.floats(),
            parameters.get("packed").detach().narrow(0, from, rows).contiguous().floats());
        from += rows;
      }
    }
  }

  /// Neither the number of threads changes a bit, nor who else is moved; what is no map moves as
  /// AdamW moves it; and what has no gradient stays.
  @Test
  void theRestIsAdamWsAndThreadsChangeNothing() {
    Map<String, float[]> expected = new LinkedHashMap<>();
    for (int threads = 1; threads <= 3; threads++) {
      Threads.count(threads);
      try (var _ = Scope.open();
          var parameters = parameters();
          var muon = new Muon(SETTINGS, parameters, _ -> true);
          var plain = parameters();
          var adamW = new AdamW(SETTINGS.others(), plain)) {
        float[] tall = parameters.get("tall").floats();
        for (int step = 1; step <= 2; step++) {
          differentiate(parameters, step, "tall");
          muon.step(step, 1e-2, 0.5);
          differentiate(plain, step, "tall");
          adamW.step(step, 1e-2, 0.5);
        }
        assertArrayEquals(tall, parameters.get("tall").detach().floats());
        for (String name : List.of("table", "norm", "headwise")) {
          assertArrayEquals(
              plain.get(name).detach().floats(), parameters.get(name).detach().floats(), name);
        }
        for (String name : declared().keySet()) {
          float[] now = parameters.get(name).detach().floats();
          assertArrayEquals(expected.computeIfAbsent(name, _ -> now), now, name + threads);
        }
      }
    }
  }

  @Test
  void mapsHaveOneMomentAndOthersTwo() {
    try (var _ = Scope.open();
        var parameters = parameters();
        var muon = new Muon(SETTINGS, parameters, _ -> true);
        var some = new Muon(SETTINGS, parameters, name -> name.equals("wide"))) {
      assertEquals(List.copyOf(declared().keySet()), List.copyOf(muon.firstMoments().keySet()));
      assertEquals(
          List.of("table", "norm", "headwise"), List.copyOf(muon.secondMoments().keySet()));
      assertEquals(List.of("wide"), List.copyOf(some.firstMoments().keySet()));
      assertTrue(some.secondMoments().isEmpty());
    }
  }

  @Test
  void mapsMustMakeUpTheParameter() {
    assertThrows(IllegalArgumentException.class, () -> ParameterSpec.drawn(24, 16).asMaps(8, 8));
    assertThrows(IllegalArgumentException.class, () -> ParameterSpec.drawn(24).asMaps(24));
    assertThrows(IllegalArgumentException.class, () -> ParameterSpec.drawn(24, 2).asMapsOf(7));
  }
}
