package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// The gated norm as one operation against the definition in float64, and the definition and the
/// rates of the delta rule against their formulas.
class GatedHeadNormTest {
  private static final int THREADS = Threads.count();
  private static final double EPSILON = 1e-6;

  private final SplittableRandom random = new SplittableRandom(61);
  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
    Threads.count(THREADS);
  }

  private static Operation fused() {
    return given -> List.of(GatedHeadNorm.apply(given.get(0), given.get(1), given.get(2), EPSILON));
  }

  private static Operation composed() {
    return given ->
        List.of(GatedHeadNorm.composed(given.get(0), given.get(1), given.get(2), EPSILON));
  }

  private List<Tensor> inputs(ElementType x, ElementType z, long... shape) {
    return List.of(
        gaussian(random, x, shape),
        gaussian(random, z, shape),
        rounded(random, shape[shape.length - 1]));
  }

  private List<@Nullable Tensor> upstreams(ElementType type, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, shape).detach());
    return upstreams;
  }

  /// Not rows of one element, whose norm has a gradient of nothing but rounding.
  @Test
  void valuesAndGradients() {
    for (var x : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
      for (var z : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
        for (int tokens : new int[] {1, 7, 65}) {
          for (int width : new int[] {2, 7, 63, 65, 128}) {
            var inputs = inputs(x, z, 2, tokens, 3, width);
            var upstreams = upstreams(x, 2, tokens, 3, width);
            Differentiated.of(fused(), inputs, upstreams)
                .assertClose(
                    Differentiated.exact(composed(), inputs, upstreams),
                    2e-6,
                    x + " " + z + " " + tokens + " × " + width);
          }
        }
      }
    }
  }

  @Test
  void eachGradientAlone() {
    Differentiated.assertEachGradientAlone(
        fused(),
        inputs(ElementType.FLOAT32, ElementType.FLOAT32, 1, 70, 2, 5),
        upstreams(ElementType.FLOAT32, 1, 70, 2, 5));
  }

  @Test
  void sameBitsOnAnyNumberOfThreads() {
    var inputs = inputs(ElementType.BFLOAT16, ElementType.BFLOAT16, 2, 200, 3, 20);
    var upstreams = upstreams(ElementType.BFLOAT16, 2, 200, 3, 20);
    Threads.count(1);
    var alone = Differentiated.of(fused(), inputs, upstreams);
    for (int threads = 2; threads <= 3; threads++) {
      Threads.count(threads);
      Differentiated.of(fused(), inputs, upstreams).assertEqualTo(alone, threads + " threads");
    }
  }

  @Test
  void theDefinitionIsTheFormula() {
    try (var _ = Scope.withoutGradient()) {
      double[] x = {3, -4};
      double[] z = {1, -2};
      double[] y =
          GatedHeadNorm.composed(
                  Tensor.of(x, 1, 1, 1, 2),
                  Tensor.of(z, 1, 1, 1, 2),
                  Tensor.of(new double[] {2, 0.5}, 2),
                  0.5)
              .doubles();
      double root = Math.sqrt(12.5 + 0.5);
      assertEquals(3 / root * 2 * 1 / (1 + Math.exp(-1)), y[0], 1e-15);
      assertEquals(-4 / root * 0.5 * -2 / (1 + Math.exp(2)), y[1], 1e-15);
    }
  }

  @Test
  void ratesAreTheFormula() {
    try (var _ = Scope.withoutGradient()) {
      var rates =
          new DeltaRates.Logits(
                  Tensor.of(new double[] {0.3, 100, -800, 2}, 1, 2, 2),
                  Tensor.of(new double[] {0.7, -1, 50, -800}, 1, 2, 2),
                  Tensor.of(new double[] {0.2, 2}, 2),
                  Tensor.of(new double[] {0.5, -0.5}, 2))
              .rates();
      double[] g = rates.decaysBTN().doubles();
      double[] beta = rates.ratesBTN().doubles();
      assertEquals(-Math.exp(0.2) * Math.log1p(Math.exp(0.8)), g[0], 1e-14);
      assertEquals(-Math.exp(2) * 99.5, g[1], 1e-12);
      assertEquals(0, g[2], 1e-300);
      assertEquals(-Math.exp(2) * Math.log1p(Math.exp(1.5)), g[3], 1e-14);
      assertEquals(1 / (1 + Math.exp(-0.7)), beta[0], 1e-15);
      assertEquals(1, beta[2], 1e-15);
      assertEquals(0, beta[3]);
      var narrow =
          new DeltaRates.Logits(
                  Tensor.zeros(ElementType.BFLOAT16, 1, 2, 2),
                  Tensor.zeros(ElementType.BFLOAT16, 1, 2, 2),
                  Tensor.zeros(ElementType.FLOAT32, 2),
                  Tensor.zeros(ElementType.FLOAT32, 2))
              .rates();
      assertEquals(ElementType.FLOAT32, narrow.decaysBTN().type());
      assertEquals(ElementType.FLOAT32, narrow.ratesBTN().type());
    }
  }

  /// Few tokens' rates are the definition's, of any size, and the same bits in any company.
  @Test
  void ratesOfFewTokens() {
    try (var _ = Scope.withoutGradient()) {
      int heads = 7;
      float[] a = new float[3 * heads];
      float[] b = new float[3 * heads];
      for (int i = 0; i < a.length; i++) {
        a[i] = (float) (random.nextGaussian() * (i % 5 == 0 ? 100 : 2));
        b[i] = (float) (random.nextGaussian() * (i % 5 == 0 ? 100 : 2));
      }
      var logA = gaussian(random, ElementType.FLOAT32, heads);
      var bias = gaussian(random, ElementType.FLOAT32, heads);
      var aBTN = Tensor.of(a, 1, 3, heads);
      var bBTN = Tensor.of(b, 1, 3, heads);
      var all = new DeltaRates.Logits(aBTN, bBTN, logA, bias).one();
      var exact =
          new DeltaRates.Logits(
                  aBTN.to(ElementType.FLOAT64),
                  bBTN.to(ElementType.FLOAT64),
                  logA.to(ElementType.FLOAT64),
                  bias.to(ElementType.FLOAT64))
              .rates();
      double[] decays = exact.decaysBTN().doubles();
      double[] rates = exact.ratesBTN().doubles();
      for (int i = 0; i < a.length; i++) {
        assertEquals(decays[i], all.decaysBTN().floats()[i], 1e-7 * -decays[i] + 1e-38);
        assertEquals(rates[i], all.ratesBTN().floats()[i], 1e-7 * rates[i] + 1e-38);
      }
      for (int token = 0; token < 3; token++) {
        var one =
            new DeltaRates.Logits(aBTN.narrow(1, token, 1), bBTN.narrow(1, token, 1), logA, bias)
                .one();
        assertArrayEquals(all.decaysBTN().narrow(1, token, 1).floats(), one.decaysBTN().floats());
        assertArrayEquals(all.ratesBTN().narrow(1, token, 1).floats(), one.ratesBTN().floats());
      }
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    var x = gaussian(random, ElementType.FLOAT32, 1, 2, 3);
    var z = gaussian(random, ElementType.FLOAT32, 1, 3, 2);
    assertThrows(
        IllegalArgumentException.class,
        () -> GatedHeadNorm.apply(x, z, rounded(random, 3), EPSILON));
    assertThrows(
        IllegalArgumentException.class,
        () -> GatedHeadNorm.apply(x, x, rounded(random, 2), EPSILON));
  }
}
