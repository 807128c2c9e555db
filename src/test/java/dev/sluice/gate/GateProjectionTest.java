package dev.sluice.gate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Every gate against loops over single numbers, in float64.
class GateProjectionTest {
  private static final int B = 2;
  private static final int T = 3;
  private static final int D = 4;

  private static final List<Activation> ACTIVATIONS =
      List.of(
          new Activation.Sigmoid(),
          new Activation.ScaledSigmoid(2),
          new Activation.NonSparseSigmoid(),
          new Activation.Silu(),
          new Activation.Softplus(),
          new Activation.Identity(),
          new Activation.LinearClip());

  private final SplittableRandom random = new SplittableRandom(13);
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

  /// The gates that differ in their arithmetic; where the tensor stands shows only in its number of
  /// heads.
  private static List<Gate> gates() {
    var gates = new ArrayList<Gate>();
    for (var granularity : Granularity.values()) {
      for (var sharing : Sharing.values()) {
        for (var combination : Combination.values()) {
          for (var activation : ACTIVATIONS) {
            for (var input : List.of(new GateInput.HiddenState(), new GateInput.None())) {
              for (var position : List.of(GatePosition.SDPA_OUTPUT, GatePosition.DENSE_OUTPUT)) {
                if (position == GatePosition.DENSE_OUTPUT
                    && (granularity == Granularity.HEADWISE || sharing == Sharing.HEAD_SHARED)) {
                  continue;
                }
                gates.add(
                    new Gate(
                        position,
                        granularity,
                        sharing,
                        combination,
                        activation,
                        input,
                        new GateInit.Normal()));
              }
            }
          }
        }
      }
    }
    return gates;
  }

  private static boolean independent(Gate gate) {
    return gate.input() instanceof GateInput.None;
  }

  /// What a gate works on: y `[B, T, heads, size]`, x `[B, T, D]` and its weight.
  private record Case(Gate gate, int heads, int size, Tensor y, Tensor x, Tensor weight) {
    Tensor apply(Probe probe) {
      return applied(new GateProjection(gate, weight), y, x, Precision.FLOAT32, probe);
    }

    Case with(Tensor changedY, Tensor changedX, Tensor changedWeight) {
      return new Case(gate, heads, size, changedY, changedX, changedWeight);
    }
  }

  private Case random(Gate gate) {
    boolean dense = gate.position() == GatePosition.DENSE_OUTPUT;
    int heads = dense ? 1 : 3;
    int size = dense ? D : 2;
    int logits = gate.logits(heads, size);
    return new Case(
        gate,
        heads,
        size,
        gaussian(B, T, heads, size),
        gaussian(B, T, D),
        independent(gate) ? gaussian(logits) : gaussian(logits, D));
  }

  private Tensor gaussian(long... shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    double[] values = new double[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = random.nextGaussian();
    }
    return Tensor.of(values, shape);
  }

  private static double sigmoid(double z) {
    return 1 / (1 + Math.exp(-z));
  }

  private static double score(Activation activation, double z) {
    return switch (activation) {
      case Activation.Sigmoid() -> sigmoid(z);
      case Activation.ScaledSigmoid(double factor) -> factor * sigmoid(z);
      case Activation.NonSparseSigmoid() -> 0.5 + 0.5 * sigmoid(z);
      case Activation.Silu() -> z * sigmoid(z);
      case Activation.Softplus() -> Math.log1p(Math.exp(z));
      case Activation.Identity() -> z;
      case Activation.LinearClip() -> Math.clamp(0.1 * z + 0.5, 0, 1);
    };
  }

  /// The gate by its definition.
  private static double[] definition(Case c) {
    double[] y = c.y.doubles();
    double[] x = c.x.doubles();
    double[] weight = c.weight.doubles();
    double[] gated = new double[y.length];
    for (int token = 0; token < B * T; token++) {
      for (int n = 0; n < c.heads; n++) {
        for (int h = 0; h < c.size; h++) {
          double score = 0;
          boolean shared = c.gate.sharing() == Sharing.HEAD_SHARED;
          for (int m = shared ? 0 : n; m < (shared ? c.heads : n + 1); m++) {
            int row = c.gate.granularity() == Granularity.HEADWISE ? m : m * c.size + h;
            double logit = independent(c.gate) ? weight[row] : 0;
            for (int d = 0; d < D && !independent(c.gate); d++) {
              logit += x[token * D + d] * weight[row * D + d];
            }
            score += score(c.gate.activation(), logit) / (shared ? c.heads : 1);
          }
          int i = (token * c.heads + n) * c.size + h;
          gated[i] =
              c.gate.combination() == Combination.MULTIPLICATIVE ? y[i] * score : y[i] + score;
        }
      }
    }
    return gated;
  }

  /// Remembers the scores that it is shown.
  private static final class Watching implements Probe {
    private long @Nullable [] shape;
    private double @Nullable [] scores;

    @Override
    public boolean wantsGates(int layer) {
      return true;
    }

    @Override
    public void gate(int layer, String position, Tensor shown) {
      shape = shown.shape();
      scores = shown.doubles();
    }
  }

  @Test
  void valueIsThatOfTheDefinition() {
    for (Gate gate : gates()) {
      var c = random(gate);
      double[] expected = definition(c);
      var gated = c.apply(Probe.NONE);
      assertArrayEquals(new long[] {B, T, c.heads, c.size}, gated.shape(), gate::name);
      assertArrayEquals(expected, gated.doubles(), 1e-12, gate::name);
      assertArrayEquals(expected, c.apply(new Watching()).doubles(), 1e-12, gate::name);
    }
  }

  @Test
  void scoresHaveOneNumberForWhatShares() {
    for (Gate gate : gates()) {
      var c = random(gate);
      var probe = new Watching();
      var gated = c.apply(probe);
      long tokens = independent(gate) ? 1 : T;
      assertArrayEquals(
          new long[] {
            independent(gate) ? 1 : B,
            tokens,
            gate.sharing() == Sharing.HEAD_SHARED ? 1 : c.heads,
            gate.granularity() == Granularity.HEADWISE ? 1 : c.size
          },
          probe.shape,
          gate::name);
      var scores = Tensor.of(Objects.requireNonNull(probe.scores), probe.shape);
      var again =
          gate.combination() == Combination.MULTIPLICATIVE ? c.y.times(scores) : c.y.plus(scores);
      assertArrayEquals(gated.doubles(), again.doubles(), 1e-15, gate::name);
    }
  }

  @Test
  void sharedEqualsSpecificWhenTheScoresAreEqual() {
    for (Gate gate : gates()) {
      if (gate.sharing() == Sharing.HEAD_SHARED || gate.position() == GatePosition.DENSE_OUTPUT) {
        continue;
      }
      var c = random(gate);
      int rows = (int) c.weight.size(0) / c.heads;
      var oneHead = c.weight.narrow(0, 0, rows);
      var equal = c.with(c.y, c.x, Tensor.concatenate(List.of(oneHead, oneHead, oneHead), 0));
      var shared =
          new Case(gate.with(Sharing.HEAD_SHARED), c.heads, c.size, equal.y, equal.x, equal.weight);
      assertArrayEquals(
          equal.apply(Probe.NONE).doubles(), shared.apply(Probe.NONE).doubles(), 1e-12);
    }
  }

  @Test
  void headwiseEqualsElementwiseWithRepeatedWeights() {
    for (Gate gate : gates()) {
      if (gate.granularity() == Granularity.ELEMENTWISE) {
        continue;
      }
      var c = random(gate);
      var elementwise =
          new Case(
              gate.with(Granularity.ELEMENTWISE),
              c.heads,
              c.size,
              c.y,
              c.x,
              c.weight.repeatInterleave(c.size, 0));
      assertArrayEquals(
          c.apply(Probe.NONE).doubles(), elementwise.apply(Probe.NONE).doubles(), 1e-12);
    }
  }

  @Test
  void gradientsAreThoseOfFiniteDifferences() {
    for (Gate gate : gates()) {
      var c = random(gate);
      var upstream = gaussian(B, T, c.heads, c.size);
      var leaves = new Tensor[] {c.y, c.x, c.weight};
      var y = c.y.detach().requireGradient(true);
      var x = c.x.detach().requireGradient(true);
      var weight = c.weight.detach().requireGradient(true);
      c.with(y, x, weight).apply(Probe.NONE).times(upstream).sum().backward();
      var gradients = new @Nullable Tensor[] {y.gradient(), x.gradient(), weight.gradient()};
      for (int k = 0; k < 3; k++) {
        if (k == 1 && independent(gate)) {
          assertEquals(null, gradients[k], "x does not matter");
          continue;
        }
        double[] exact = assertNotNullAnd(gradients[k]).doubles();
        double[] values = leaves[k].doubles();
        // A few elements of each are enough: a wrong formula is wrong everywhere.
        for (int i = 0; i < values.length; i += 1 + values.length / 5) {
          double[] sums = new double[2];
          try (var _ = Scope.withoutGradient()) {
            for (int side = 0; side < 2; side++) {
              double[] changed = values.clone();
              changed[i] += side == 0 ? -1e-5 : 1e-5;
              var moved = Tensor.of(changed, leaves[k].shape());
              sums[side] =
                  c.with(k == 0 ? moved : c.y, k == 1 ? moved : c.x, k == 2 ? moved : c.weight)
                      .apply(Probe.NONE)
                      .times(upstream)
                      .sum()
                      .item();
            }
          }
          assertEquals((sums[1] - sums[0]) / 2e-5, exact[i], 1e-8, gate.name() + ", input " + k);
        }
      }
    }
  }

  private static Tensor assertNotNullAnd(@Nullable Tensor tensor) {
    assertNotNull(tensor);
    return Objects.requireNonNull(tensor);
  }

  private static Tensor applied(
      GateProjection gate, Tensor y, Tensor x, Precision precision, Probe probe) {
    var projected = gate.projectsHiddenState() ? precision.linear(x, gate.weight()) : gate.weight();
    return gate.apply(y, projected, 0, probe);
  }

  /// What a probe sees is what an unwatched pass computes, in either precision.
  @Test
  void watchingDoesNotChangeTheResult() {
    for (var precision : Precision.values()) {
      for (var yType : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
        for (Gate gate : gates()) {
          var c = random(gate);
          var y = c.y.to(yType);
          var x = c.x.to(ElementType.FLOAT32);
          var projection = new GateProjection(gate, c.weight.to(ElementType.FLOAT32));
          var unwatched = applied(projection, y, x, precision, Probe.NONE);
          var watched = applied(projection, y, x, precision, new Watching());
          assertEquals(unwatched.type(), watched.type(), gate::name);
          double tolerance = unwatched.type() == ElementType.FLOAT32 ? 1e-6 : 0x1p-7;
          double[] expected = unwatched.doubles();
          double[] actual = watched.doubles();
          for (int i = 0; i < expected.length; i++) {
            assertEquals(
                expected[i], actual[i], tolerance * Math.max(1, Math.abs(expected[i])), gate::name);
          }
        }
      }
    }
  }

  /// Scores are float32 whatever the matrix products are: bfloat16 has no number between 0.996 and
  /// 1.
  @Test
  void scoresAreNotRoundedToBfloat16() {
    for (Gate gate : gates()) {
      var c = random(gate);
      var probe = new Watching();
      var x = c.x.to(ElementType.BFLOAT16).to(ElementType.FLOAT32);
      var weight = c.weight.to(ElementType.BFLOAT16).to(ElementType.FLOAT32);
      var y = c.y.to(ElementType.BFLOAT16);
      applied(new GateProjection(gate, weight), y, x, Precision.BFLOAT16, probe);
      var logits =
          independent(gate)
              ? null
              : x.to(ElementType.BFLOAT16).linear(weight.to(ElementType.BFLOAT16));
      if (logits == null || gate.sharing() == Sharing.HEAD_SHARED) {
        continue;
      }
      double[] rounded = logits.doubles();
      double[] scores = Objects.requireNonNull(probe.scores);
      for (int i = 0; i < scores.length; i++) {
        assertEquals(score(gate.activation(), rounded[i]), scores[i], 1e-6, gate.name());
      }
    }
  }
}
