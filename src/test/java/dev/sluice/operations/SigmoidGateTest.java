package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.gate.Granularity;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.function.BinaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// The fused gate against its definition, and the definition against finite differences.
class SigmoidGateTest {
  private static final long[][] SHAPES = {
    {1, 1, 1, 1}, {2, 7, 3, 5}, {1, 65, 2, 63}, {3, 1, 4, 64}, {1, 8, 1, 128}, {2, 3, 5, 1}
  };

  private final SplittableRandom random = new SplittableRandom(11);
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
  }

  private Tensor gaussian(double size, long... shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    double[] values = new double[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = size * random.nextGaussian();
    }
    return Tensor.of(values, shape);
  }

  private static long[] logitShape(Granularity granularity, long[] shape) {
    return granularity == Granularity.ELEMENTWISE
        ? shape
        : new long[] {shape[0], shape[1], shape[2]};
  }

  /// Value, ∂/∂y and ∂/∂z of `Σ upstream · gate(y, z)`.
  private static double[][] results(
      BinaryOperator<Tensor> gate, Tensor y, Tensor z, Tensor upstream) {
    var leafY = y.detach().requireGradient(true);
    var leafZ = z.detach().requireGradient(true);
    var out = gate.apply(leafY, leafZ);
    out.backward(upstream.to(out.type()));
    return new double[][] {
      out.detach().doubles(),
      Objects.requireNonNull(leafY.gradient()).doubles(),
      Objects.requireNonNull(leafZ.gradient()).doubles()
    };
  }

  private static void assertClose(double[][] expected, double[][] actual, double tolerance) {
    for (int k = 0; k < 3; k++) {
      double largest = 1;
      for (double value : expected[k]) {
        largest = Math.max(largest, Math.abs(value));
      }
      assertArrayEquals(
          expected[k], actual[k], tolerance * largest, new String[] {"out", "dy", "dz"}[k]);
    }
  }

  @Test
  void fusedEqualsComposed() {
    for (var granularity : Granularity.values()) {
      for (long[] shape : SHAPES) {
        var y = gaussian(1, shape).to(ElementType.FLOAT32);
        var z = gaussian(4, logitShape(granularity, shape)).to(ElementType.FLOAT32);
        var upstream = gaussian(1, shape).to(ElementType.FLOAT32);
        assertClose(
            results(SigmoidGate::composed, y, z, upstream),
            results(SigmoidGate::apply, y, z, upstream),
            1e-6);
      }
    }
  }

  /// Both compute in float32 and round once to the logits' type, so that they differ by a bfloat16
  /// ulp at most.
  @Test
  void fusedEqualsComposedInMixedPrecision() {
    var types = new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16};
    for (var yType : types) {
      for (var zType : types) {
        for (var granularity : Granularity.values()) {
          for (long[] shape : SHAPES) {
            var y = gaussian(1, shape).to(yType);
            var z = gaussian(4, logitShape(granularity, shape)).to(zType);
            var upstream = gaussian(1, shape).to(zType);
            assertEquals(zType, SigmoidGate.apply(y, z).type());
            assertEquals(zType, SigmoidGate.composed(y, z).type());
            assertClose(
                results(SigmoidGate::composed, y, z, upstream),
                results(SigmoidGate::apply, y, z, upstream),
                yType == zType && zType == ElementType.FLOAT32 ? 1e-6 : 0x1p-8);
          }
        }
      }
    }
  }

  @Test
  void transposedTensors() {
    var y = gaussian(1, 2, 3, 7, 5).to(ElementType.FLOAT32);
    var z = gaussian(4, 2, 3, 7).to(ElementType.FLOAT32);
    var upstream = gaussian(1, 2, 3, 7, 5).to(ElementType.FLOAT32).transpose(1, 2);
    BinaryOperator<Tensor> composed =
        (a, b) -> SigmoidGate.composed(a.transpose(1, 2), b.transpose(1, 2));
    BinaryOperator<Tensor> fused =
        (a, b) -> SigmoidGate.apply(a.transpose(1, 2), b.transpose(1, 2));
    assertClose(results(composed, y, z, upstream), results(fused, y, z, upstream), 1e-6);
  }

  @Test
  void onlyOneGradientIsWanted() {
    var y = gaussian(1, 2, 7, 3, 5).to(ElementType.FLOAT32).requireGradient(true);
    var z = gaussian(4, 2, 7, 3).to(ElementType.FLOAT32).requireGradient(true);
    SigmoidGate.apply(y, z).sum().backward();
    double[] dy = Objects.requireNonNull(y.gradient()).doubles();
    double[] dz = Objects.requireNonNull(z.gradient()).doubles();
    y.clearGradient();
    z.clearGradient();
    SigmoidGate.apply(y, z.detach()).sum().backward();
    assertArrayEquals(dy, Objects.requireNonNull(y.gradient()).doubles());
    SigmoidGate.apply(y.detach(), z).sum().backward();
    assertArrayEquals(dz, Objects.requireNonNull(z.gradient()).doubles());
    assertFalse(SigmoidGate.apply(y.detach(), z.detach()).requiresGradient());
  }

  /// The definition in float64 against `(f(x + ε) − f(x − ε)) / 2ε`.
  @Test
  void definitionsGradientIsRight() {
    for (var granularity : Granularity.values()) {
      for (long[] shape : new long[][] {{1, 1, 1, 1}, {2, 3, 2, 5}}) {
        var y = gaussian(1, shape);
        var z = gaussian(2, logitShape(granularity, shape));
        var upstream = gaussian(1, shape);
        double[][] exact = results(SigmoidGate::composed, y, z, upstream);
        for (int k = 1; k <= 2; k++) {
          double[] values = (k == 1 ? y : z).doubles();
          for (int i = 0; i < values.length; i++) {
            double[] sums = new double[2];
            for (int side = 0; side < 2; side++) {
              double[] moved = values.clone();
              moved[i] += side == 0 ? -1e-5 : 1e-5;
              var x = Tensor.of(moved, (k == 1 ? y : z).shape());
              var out = SigmoidGate.composed(k == 1 ? x : y, k == 1 ? z : x);
              sums[side] = out.times(upstream).sum().item();
            }
            assertEquals((sums[1] - sums[0]) / 2e-5, exact[k][i], 1e-9, "input " + k + " at " + i);
          }
        }
      }
    }
  }

  @Test
  void otherElementTypesTakeTheDefinition() {
    var y = gaussian(1, 2, 3, 2, 5);
    var z = gaussian(2, 2, 3, 2);
    assertArrayEquals(SigmoidGate.composed(y, z).doubles(), SigmoidGate.apply(y, z).doubles());
    assertEquals(ElementType.FLOAT64, SigmoidGate.apply(y, z).type());
  }

  @Test
  void openGateChangesNothingAndClosedGateGivesZero() {
    for (var granularity : Granularity.values()) {
      var y = gaussian(1, 2, 7, 3, 5).to(ElementType.FLOAT32);
      var shape = logitShape(granularity, y.shape());
      for (double open : new double[] {30, 1e4, Double.POSITIVE_INFINITY}) {
        var z = Tensor.zeros(ElementType.FLOAT32, shape).fill(open);
        assertArrayEquals(y.floats(), SigmoidGate.apply(y, z).floats());
      }
      for (double closed : new double[] {-1e4, Double.NEGATIVE_INFINITY}) {
        var z = Tensor.zeros(ElementType.FLOAT32, shape).fill(closed);
        for (float value : SigmoidGate.apply(y, z).floats()) {
          assertEquals(0, value, 0);
        }
      }
      float[] half = SigmoidGate.apply(y, Tensor.zeros(ElementType.FLOAT32, shape)).floats();
      float[] whole = y.floats();
      for (int i = 0; i < half.length; i++) {
        assertEquals(whole[i] / 2, half[i], 0);
      }
    }
  }

  /// Enough elements for the work to be split among threads.
  @Test
  void largeTensors() {
    for (var granularity : Granularity.values()) {
      long[] shape = {2, 129, 4, 65};
      var y = gaussian(1, shape).to(ElementType.FLOAT32);
      var z = gaussian(4, logitShape(granularity, shape)).to(ElementType.FLOAT32);
      var upstream = gaussian(1, shape).to(ElementType.FLOAT32);
      assertTrue(y.elements() > 1 << 15);
      assertClose(
          results(SigmoidGate::composed, y, z, upstream),
          results(SigmoidGate::apply, y, z, upstream),
          1e-6);
    }
  }
}
