package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Router.Score;
import dev.sluice.decoder.Router.Weighting;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// A mixture of experts against its definition, in which every token goes through every expert and
/// the weights of those that it did not choose are zero.
class MixtureOfExpertsTest {
  private static final int D = 12;
  private static final int F = 7;

  private final SplittableRandom random = new SplittableRandom(17);
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

  private Tensor gaussian(long... shape) {
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = (float) (0.5 * random.nextGaussian());
    }
    return Tensor.of(values, shape);
  }

  private static FeedForwardConfig config(Experts experts) {
    return new FeedForwardConfig(D, F, experts);
  }

  private Map<String, Tensor> weights(Experts experts) {
    var weights = new LinkedHashMap<String, Tensor>();
    weights.put("gate.weight", gaussian(experts.count(), D));
    for (int e = 0; e < experts.count(); e++) {
      weights.put("experts." + e + ".gate_proj.weight", gaussian(F, D));
      weights.put("experts." + e + ".up_proj.weight", gaussian(F, D));
      weights.put("experts." + e + ".down_proj.weight", gaussian(D, F));
    }
    weights.replaceAll((_, weight) -> weight.detach().requireGradient(true));
    return weights;
  }

  private static Tensor definition(Experts experts, Map<String, Tensor> weights, Tensor xBTD) {
    var x = xBTD.reshape(-1, D);
    var p = x.linear(Objects.requireNonNull(weights.get("gate.weight"))).softmax(-1);
    float[] values = p.detach().floats();
    int tokens = (int) x.size(0);
    float[] mask = new float[values.length];
    for (int t = 0; t < tokens; t++) {
      for (int e = 0; e < experts.count(); e++) {
        int rank = 0;
        for (int other = 0; other < experts.count(); other++) {
          float one = values[t * experts.count() + e];
          float two = values[t * experts.count() + other];
          rank += two > one || (two == one && other < e) ? 1 : 0;
        }
        mask[t * experts.count() + e] = rank < experts.perToken() ? 1 : 0;
      }
    }
    var chosen = p.times(Tensor.of(mask, tokens, experts.count()));
    var weightTE = chosen.dividedBy(chosen.mean(1).times(experts.count()));
    Tensor sum = Tensor.zeros(ElementType.FLOAT32, tokens, D);
    for (int e = 0; e < experts.count(); e++) {
      String name = "experts." + e + ".";
      var inner =
          x.linear(Objects.requireNonNull(weights.get(name + "gate_proj.weight")))
              .silu()
              .times(x.linear(Objects.requireNonNull(weights.get(name + "up_proj.weight"))));
      var y = inner.linear(Objects.requireNonNull(weights.get(name + "down_proj.weight")));
      sum = sum.plus(y.times(weightTE.narrow(1, e, 1)));
    }
    return sum.reshape(xBTD.shape());
  }

  @Test
  void valuesAndGradientsAreThoseOfTheDefinition() {
    for (var experts :
        List.of(Experts.of(1, 1), Experts.of(2, 1), Experts.of(7, 3), Experts.of(5, 5))) {
      for (int tokens : new int[] {1, 7, 65}) {
        var weights = weights(experts);
        var x = gaussian(2, tokens, D).requireGradient(true);
        var upstream = gaussian(2, tokens, D);
        var mixture =
            new MixtureOfExperts(
                config(experts), Precision.FLOAT32, 0, new Parameters(weights), "");
        var results = new ArrayList<Map<String, float[]>>();
        for (int way = 0; way < 2; way++) {
          var y = way == 0 ? mixture.forward(x, null, Probe.NONE) : definition(experts, weights, x);
          y.times(upstream).sum().backward();
          var found = new LinkedHashMap<String, float[]>();
          found.put("y", y.detach().floats());
          found.put("x", Objects.requireNonNull(x.gradient()).floats());
          x.clearGradient();
          weights.forEach(
              (name, weight) -> {
                found.put(name, Objects.requireNonNull(weight.gradient(), name).floats());
                weight.clearGradient();
              });
          results.add(found);
        }
        results
            .getLast()
            .forEach(
                (name, expected) ->
                    assertArrayEquals(
                        expected,
                        results.getFirst().get(name),
                        3e-5f,
                        name + " of " + experts + ", " + tokens + " tokens"));
      }
    }
  }

  @Test
  void bfloat16IsNear() {
    var experts = Experts.of(7, 3);
    var weights = weights(experts);
    var x = gaussian(2, 65, D);
    var mixture =
        new MixtureOfExperts(config(experts), Precision.BFLOAT16, 0, new Parameters(weights), "");
    // the router sees what goes in, so that both choose the same experts
    var rounded = x.to(ElementType.BFLOAT16);
    float[] expected =
        definition(experts, weights, rounded.to(ElementType.FLOAT32)).detach().floats();
    float[] actual =
        mixture.forward(rounded, null, Probe.NONE).detach().to(ElementType.FLOAT32).floats();
    assertArrayEquals(expected, actual, 0.03f);
  }

  /// A limit that nothing reaches changes nothing, so that what is composed and what is fused check
  /// each other.
  @Test
  void composedUnitsAreThoseOfTheFusedOperation() {
    for (var experts : List.of(Experts.of(1, 1), Experts.of(7, 3))) {
      for (int tokens : new int[] {1, 7, 65}) {
        var weights = weights(experts);
        var x = gaussian(tokens, D).requireGradient(true);
        var upstream = gaussian(tokens, D);
        var found = new ArrayList<Map<String, float[]>>();
        for (var glu : List.of(new Glu.Swish(), new Glu.ClampedFactors(1e30))) {
          var config = new FeedForwardConfig(D, F, glu, false, experts);
          var y =
              new MixtureOfExperts(config, Precision.FLOAT32, 0, new Parameters(weights), "")
                  .forward(x, null, Probe.NONE);
          y.backward(upstream);
          var results = new LinkedHashMap<String, float[]>();
          results.put("y", y.detach().floats());
          results.put("x", Objects.requireNonNull(x.gradient()).floats());
          x.clearGradient();
          weights.forEach(
              (name, weight) -> {
                results.put(name, Objects.requireNonNull(weight.gradient(), name).floats());
                weight.clearGradient();
              });
          found.add(results);
        }
        found
            .getFirst()
            .forEach(
                (name, expected) ->
                    assertArrayEquals(
                        expected, found.getLast().get(name), 3e-5f, name + " of " + tokens));
      }
    }
  }

  @Test
  void routingSortsTokensByExpert() {
    float[] p = {0.1f, 0.6f, 0.3f, 0.5f, 0.25f, 0.25f};
    var routing = MixtureOfExperts.Routing.of(p, Experts.of(3, 2));
    assertArrayEquals(new long[] {1, 2, 1}, routing.chosen());
    assertArrayEquals(new long[] {0, 1, 3, 4}, routing.starts());
    assertArrayEquals(new long[] {1, 0, 1, 0}, routing.token()); // expert 0: token 1; 1: 0, 1; 2: 0
    assertArrayEquals(new long[] {1, 3, 0, 2}, routing.row());
    assertArrayEquals(new long[] {1, 2, 3, 4}, routing.score());
    assertArrayEquals(new long[] {2, 0, 3, 1}, routing.slot());
  }

  /// Even routing costs `balance` times K, and all tokens on one expert more; over two
  /// micro-batches shares are counted together.
  @Test
  void lossesThatKeepExpertsBusy() {
    var experts = new Experts(4, 1, 0.5, 0);
    var load = new ExpertLoad();
    var logits = Tensor.zeros(ElementType.FLOAT32, 8, 4);
    var even = Tensor.zeros(ElementType.FLOAT32, 8, 4).fill(0.25);
    load.add(0, experts, new long[] {2, 2, 2, 2}, logits, even);
    assertEquals(0.5, Objects.requireNonNull(load.takeLoss()).item(), 1e-6);
    float[] toOne = new float[32];
    for (int t = 0; t < 8; t++) {
      toOne[4 * t] = 1;
    }
    // together: expert 0 has 10 of 16 tokens; its probability now is 1: 0.5 · 4 · 10/16
    load.add(0, experts, new long[] {8, 0, 0, 0}, logits, Tensor.of(toOne, 8, 4));
    assertEquals(0.5 * 4 * 10 / 16, Objects.requireNonNull(load.takeLoss()).item(), 1e-6);
    assertArrayEquals(new long[] {10, 2, 2, 2}, load.chosen(0));

    var z = new ExpertLoad();
    z.add(0, new Experts(4, 1, 0, 2), new long[] {8, 0, 0, 0}, logits, even);
    double logFour = Math.log(4);
    assertEquals(2 * logFour * logFour, Objects.requireNonNull(z.takeLoss()).item(), 1e-5);
    assertEquals(null, new ExpertLoad().takeLoss());

    // sigmoids are shared out to sum to one: expert 0 has 0.8 of 2.0, and half of the tokens
    var sigmoid =
        experts.with(new Router(Score.SIGMOID, new Weighting.Shares(0), 2.5, false, true, 0));
    float[] scores = {0.8f, 0.4f, 0.4f, 0.4f, 0.8f, 0.4f, 0.4f, 0.4f};
    var ofSigmoid = new ExpertLoad();
    ofSigmoid.add(
        0,
        sigmoid,
        new long[] {1, 1, 0, 0},
        Tensor.zeros(ElementType.FLOAT32, 2, 4),
        Tensor.of(scores, 2, 4));
    assertEquals(
        0.5 * 4 * (0.5 * 0.4 + 0.5 * 0.2),
        Objects.requireNonNull(ofSigmoid.takeLoss()).item(),
        1e-6);
  }

  private static DecoderConfig config() {
    return TinyDecoders.config(Gate.SDPA_HEADWISE).with(Experts.of(6, 2));
  }

  @Test
  void cachedDecodingEqualsTheFullPass() {
    try (var decoder = Decoder.initialize(config(), Precision.FLOAT32, Device.CPU, 7);
        var _ = Scope.withoutGradient()) {
      long[] tokens = TinyDecoders.tokens(9, 3);
      var ids = Tensor.of(tokens, 1, 9);
      float[] expected = decoder.logits(decoder.hiddenStates(ids, null, Probe.NONE)).floats();
      var parts = new ArrayList<Tensor>();
      try (var state = new SequenceState(1, 9)) {
        var cache = state.past(state.take());
        for (int[] chunk : new int[][] {{0, 4}, {4, 1}, {5, 4}}) {
          parts.add(
              decoder.logits(
                  decoder.hiddenStates(ids.narrow(1, chunk[0], chunk[1]), cache, Probe.NONE)));
        }
        assertArrayEquals(expected, Tensor.concatenate(parts, 1).floats(), 2e-4f);
      }
    }
  }

  /// The balancing losses are part of what is minimised, and reach the router.
  @Test
  void theTotalHasTheBalancingLosses() {
    try (var decoder = Decoder.initialize(config(), Precision.FLOAT32, Device.CPU, 7)) {
      var ids = Tensor.of(TinyDecoders.tokens(18, 3), 2, 9);
      var targets = Tensor.of(TinyDecoders.tokens(18, 4), 2, 9);
      var load = new ExpertLoad();
      var loss = decoder.loss(ids, targets, null, load, 0);
      double added = loss.total().item() - loss.crossEntropy().item();
      assertTrue(added > 2e-3, "balancing adds " + added);
      assertEquals(36, Arrays.stream(load.chosen(2)).sum());
      loss.total().backward();
      var router = decoder.parameters().get("model.layers.1.mlp.gate.weight");
      assertTrue(Objects.requireNonNull(router.gradient()).norm().item() > 0);
    }
  }

  @Test
  void counts() {
    assertEquals(128, Decoders.PAPER_MOE_15B.feedForward().experts().count());
    // the paper's name is 15A2B, with 2.54 B active parameters
    double all = Decoders.PAPER_MOE_15B.parameterCount();
    double active = Decoders.PAPER_MOE_15B.activeParameterCount();
    assertEquals(15.6e9, all, 0.4e9);
    assertEquals(2.0e9, active, 0.6e9);
    var dense = TinyDecoders.config();
    assertEquals(dense.parameterCount(), dense.activeParameterCount());
    for (var mistake :
        List.<Runnable>of(
            () -> Experts.of(4, 5),
            () -> Experts.of(4, 0),
            () -> new Experts(4, 1, -1, 0),
            () -> new Experts(4, 1, 0, Double.NaN),
            () -> Experts.NONE.with(new SharedExpert(3, true, new Glu.Swish())),
            () -> new SharedExpert(-1, true, new Glu.Swish()),
            () -> new Glu.ClampedFactors(0),
            () -> new Glu.ClampedInputs(7, Double.NaN),
            () -> new Weighting.Shares(-1),
            () -> router(Double.POSITIVE_INFINITY, 0),
            () -> router(0, 0),
            () -> router(1, -1))) {
      assertThrows(InvalidInputException.class, mistake::run);
    }
    var e = assertThrows(InvalidInputException.class, () -> Experts.of(4, 2).with(router(1, 0)));
    assertTrue(e.getMessage().contains("router_z 0.001"), e.getMessage());
  }

  private static Router router(double scale, double softCap) {
    return new Router(Score.SIGMOID, new Weighting.Shares(0), scale, false, false, softCap);
  }
}
