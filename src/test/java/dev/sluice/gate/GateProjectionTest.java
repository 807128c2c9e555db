package dev.sluice.gate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalDouble;
import java.util.SplittableRandom;
import java.util.function.UnaryOperator;
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

  private static final List<GateInput> INPUTS =
      List.of(
          new GateInput.HiddenState(),
          new GateInput.None(),
          new GateInput.TruncatedHiddenState(3),
          new GateInput.LowRank(2),
          new GateInput.Value(),
          new GateInput.HeadOutput());

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
            for (var input : INPUTS) {
              for (var position : List.of(GatePosition.SDPA_OUTPUT, GatePosition.DENSE_OUTPUT)) {
                boolean dense = position == GatePosition.DENSE_OUTPUT;
                if (dense
                    && (granularity == Granularity.HEADWISE
                        || sharing == Sharing.HEAD_SHARED
                        || input instanceof GateInput.HeadOutput)) {
                  continue;
                }
                var gate =
                    new Gate(
                        position,
                        granularity,
                        sharing,
                        combination,
                        activation,
                        input,
                        new GateInit.Normal());
                gates.add(gate);
                if (!independent(gate)) {
                  gates.add(gate.with(new GateInit.Bias(0.5)));
                }
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

  /// What a gate works on: y `[B, T, heads, size]`, x `[B, T, D]`, values `[B, T, 2, 2]`, and its
  /// weights by name.
  private record Case(
      Gate gate, int heads, int size, Tensor y, Tensor x, Tensor v, Map<String, Tensor> weights) {
    GateProjection projection(UnaryOperator<Tensor> each) {
      var down = orNull("down.weight", each);
      return new GateProjection(
          gate,
          new Weight("weight", each.apply(Objects.requireNonNull(weights.get("weight")))),
          down == null ? null : new Weight("down.weight", down),
          orNull("bias", each));
    }

    private @Nullable Tensor orNull(String name, UnaryOperator<Tensor> each) {
      var weight = weights.get(name);
      return weight == null ? null : each.apply(weight);
    }

    Tensor apply(Probe probe) {
      return applied(projection(UnaryOperator.identity()), y, x, v, Precision.FLOAT32, probe);
    }

    Case with(Tensor changedY, Tensor changedX, Tensor changedV, Map<String, Tensor> changed) {
      return new Case(gate, heads, size, changedY, changedX, changedV, changed);
    }

    Case with(Gate changed, UnaryOperator<Tensor> each) {
      var changedWeights = new LinkedHashMap<>(weights);
      changedWeights.replaceAll((_, weight) -> each.apply(weight));
      return new Case(changed, heads, size, y, x, v, changedWeights);
    }

    /// With the weights changed that have a row per logit.
    Case onlyLogits(UnaryOperator<Tensor> each) {
      var changed = new LinkedHashMap<>(weights);
      changed.replaceAll(
          (name, weight) -> name.equals("down.weight") ? weight : each.apply(weight));
      return with(y, x, v, changed);
    }

    /// Everything, in a fixed order.
    Map<String, Tensor> all() {
      var all = new LinkedHashMap<String, Tensor>();
      all.put("y", y);
      all.put("x", x);
      all.put("v", v);
      all.putAll(weights);
      return all;
    }

    Case of(Map<String, Tensor> all) {
      var changed = new LinkedHashMap<>(all);
      changed.keySet().retainAll(weights.keySet());
      return with(
          Objects.requireNonNull(all.get("y")),
          Objects.requireNonNull(all.get("x")),
          Objects.requireNonNull(all.get("v")),
          changed);
    }
  }

  private Case random(Gate gate) {
    boolean dense = gate.position() == GatePosition.DENSE_OUTPUT;
    int heads = dense ? 1 : 3;
    int size = dense ? D : 2;
    var weights = new LinkedHashMap<String, Tensor>();
    GateProjection.parameters(gate, gate.logits(heads, size), D, 4, size)
        .forEach((name, spec) -> weights.put(name, gaussian(spec.shape())));
    return new Case(
        gate,
        heads,
        size,
        gaussian(B, T, heads, size),
        gaussian(B, T, D),
        gaussian(B, T, 2, 2),
        weights);
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

  /// What a logit is computed from, out of the tensors.
  private record Numbers(
      Case c, double[] x, double[] y, double[] v, Map<String, double[]> weights) {
    static Numbers of(Case c) {
      var weights = new LinkedHashMap<String, double[]>();
      c.weights.forEach((name, weight) -> weights.put(name, weight.doubles()));
      return new Numbers(c, c.x.doubles(), c.y.doubles(), c.v.doubles(), weights);
    }

    /// One logit by its definition.
    double logit(int token, int head, int row) {
      double[] ofToken = Arrays.copyOfRange(x, token * D, (token + 1) * D);
      int output = (token * c.heads + head) * c.size;
      double[] from =
          switch (c.gate.input()) {
            case GateInput.HiddenState() -> ofToken;
            case GateInput.None() -> new double[] {1};
            case GateInput.TruncatedHiddenState(int first) -> Arrays.copyOf(ofToken, first);
            case GateInput.LowRank(int rank) -> {
              double[] inner = new double[rank];
              for (int r = 0; r < rank; r++) {
                inner[r] = dot(ofToken, Objects.requireNonNull(weights.get("down.weight")), r);
              }
              yield inner;
            }
            case GateInput.Value() -> Arrays.copyOfRange(v, token * 4, (token + 1) * 4);
            case GateInput.HeadOutput() -> Arrays.copyOfRange(y, output, output + c.size);
          };
      double[] bias = weights.get("bias");
      return (bias == null ? 0 : bias[row])
          + dot(from, Objects.requireNonNull(weights.get("weight")), row);
    }

    private static double dot(double[] x, double[] matrix, int row) {
      double sum = 0;
      for (int i = 0; i < x.length; i++) {
        sum += x[i] * matrix[row * x.length + i];
      }
      return sum;
    }
  }

  /// The gate by its definition.
  private static double[] definition(Case c) {
    var numbers = Numbers.of(c);
    double[] y = numbers.y;
    double[] gated = new double[y.length];
    for (int token = 0; token < B * T; token++) {
      for (int n = 0; n < c.heads; n++) {
        for (int h = 0; h < c.size; h++) {
          double score = 0;
          boolean shared = c.gate.sharing() == Sharing.HEAD_SHARED;
          for (int m = shared ? 0 : n; m < (shared ? c.heads : n + 1); m++) {
            int row = c.gate.granularity() == Granularity.HEADWISE ? m : m * c.size + h;
            double logit = numbers.logit(token, m, row);
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
  private static class Watching implements Probe {
    long @Nullable [] shape;
    double @Nullable [] scores;

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
      if (gate.input() instanceof GateInput.HeadOutput) {
        continue; // heads give different things
      }
      UnaryOperator<Tensor> ofOneHead =
          weight -> {
            var oneHead = weight.narrow(0, 0, weight.size(0) / c.heads);
            return Tensor.concatenate(List.of(oneHead, oneHead, oneHead), 0);
          };
      var equal = c.with(gate, UnaryOperator.identity()).onlyLogits(ofOneHead);
      var shared = equal.with(gate.with(Sharing.HEAD_SHARED), UnaryOperator.identity());
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
          c.onlyLogits(weight -> weight.repeatInterleave(c.size, 0))
              .with(gate.with(Granularity.ELEMENTWISE), UnaryOperator.identity());
      assertArrayEquals(
          c.apply(Probe.NONE).doubles(), elementwise.apply(Probe.NONE).doubles(), 1e-12);
    }
  }

  @Test
  void gradientsAreThoseOfFiniteDifferences() {
    for (Gate gate : gates()) {
      var c = random(gate);
      var upstream = gaussian(B, T, c.heads, c.size);
      var leaves = new LinkedHashMap<String, Tensor>();
      c.all().forEach((name, tensor) -> leaves.put(name, tensor.detach().requireGradient(true)));
      c.of(leaves).apply(Probe.NONE).times(upstream).sum().backward();
      for (var leaf : leaves.entrySet()) {
        String name = leaf.getKey();
        var gradient = leaf.getValue().gradient();
        if (name.equals("v") || (name.equals("x") && !matters(gate))) {
          assertNull(gradient, name + " takes no gradient from " + gate.name());
          continue;
        }
        double[] exact = assertNotNullAnd(gradient).doubles();
        double[] values = leaf.getValue().detach().doubles();
        // A few elements of each are enough: a wrong formula is wrong everywhere.
        for (int i = 0; i < values.length; i += 1 + values.length / 5) {
          double[] sums = new double[2];
          try (var _ = Scope.withoutGradient()) {
            for (int side = 0; side < 2; side++) {
              double[] changed = values.clone();
              changed[i] += side == 0 ? -1e-5 : 1e-5;
              var moved = new LinkedHashMap<>(c.all());
              moved.put(name, Tensor.of(changed, leaf.getValue().shape()));
              sums[side] = c.of(moved).apply(Probe.NONE).times(upstream).sum().item();
            }
          }
          assertEquals((sums[1] - sums[0]) / 2e-5, exact[i], 1e-8, gate.name() + ", " + name);
        }
      }
    }
  }

  /// Whether the hidden state does.
  private static boolean matters(Gate gate) {
    return switch (gate.input()) {
      case GateInput.HiddenState(), GateInput.TruncatedHiddenState _, GateInput.LowRank _ -> true;
      case GateInput.None(), GateInput.Value(), GateInput.HeadOutput() -> false;
    };
  }

  private static Tensor assertNotNullAnd(@Nullable Tensor tensor) {
    assertNotNull(tensor);
    return Objects.requireNonNull(tensor);
  }

  private static Tensor applied(
      GateProjection gate, Tensor y, Tensor x, Tensor v, Precision precision, Probe probe) {
    var products =
        gate.ofHiddenState().stream().map(weight -> precision.linear(x, weight)).iterator();
    return gate.apply(y, gate.logits(x, v, products, precision), 0, probe);
  }

  /// What a probe sees is what an unwatched pass computes, in either precision.
  @Test
  void watchingDoesNotChangeTheResult() {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      for (var yType : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
        for (Gate gate : gates()) {
          var c = random(gate);
          var y = c.y.to(yType);
          var x = c.x.to(ElementType.FLOAT32);
          var v = c.v.to(ElementType.FLOAT32);
          var projection = c.projection(weight -> weight.to(ElementType.FLOAT32));
          var unwatched = applied(projection, y, x, v, precision, Probe.NONE);
          var watched = applied(projection, y, x, v, precision, new Watching());
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
      boolean plain =
          gate.input() instanceof GateInput.HiddenState
              && gate.init() instanceof GateInit.Normal
              && gate.sharing() == Sharing.HEAD_SPECIFIC;
      if (!plain) {
        continue;
      }
      var c = random(gate);
      var probe = new Watching();
      var x = c.x.to(ElementType.BFLOAT16).to(ElementType.FLOAT32);
      var projection =
          c.projection(weight -> weight.to(ElementType.BFLOAT16).to(ElementType.FLOAT32));
      applied(projection, c.y.to(ElementType.BFLOAT16), x, c.v, Precision.BFLOAT16, probe);
      double[] rounded =
          x.to(ElementType.BFLOAT16).linear(projection.weight().of(ElementType.BFLOAT16)).doubles();
      double[] scores = Objects.requireNonNull(probe.scores);
      for (int i = 0; i < scores.length; i++) {
        assertEquals(score(gate.activation(), rounded[i]), scores[i], 1e-6, gate.name());
      }
    }
  }

  /// A forced score takes the place of all scores, and is what a watcher sees.
  @Test
  void forcedScores() {
    for (Gate gate : gates()) {
      var c = random(gate);
      var probe =
          new Watching() {
            @Override
            public OptionalDouble forcedScore(int layer, String position) {
              assertEquals(gate.position().word(), position);
              return OptionalDouble.of(0.25);
            }
          };
      double[] expected =
          (gate.combination() == Combination.MULTIPLICATIVE ? c.y.times(0.25) : c.y.plus(0.25))
              .doubles();
      assertArrayEquals(expected, c.apply(probe).doubles(), 1e-12, gate::name);
      for (double score : Objects.requireNonNull(probe.scores)) {
        assertEquals(0.25, score);
      }
    }
  }
}
