package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.Router.Score;
import dev.sluice.decoder.Router.Weighting;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.ParameterSpec;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// Feed-forward layers against those of `transformers`, whose values and gradients
/// `feed-forward/reference.py` wrote. In the cases of AFMoE and gpt-oss an expert gets no token.
class FeedForwardReferenceTest {
  private static final int D = 6;
  private static final int F = 5;
  private static final int SHARED = 8;
  private static final int E = 7;
  private static final int K = 3;

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

  // ---------------------------------------------------------------- the cases

  private static JsonNode reference(String name) {
    try (var stream =
        Objects.requireNonNull(
            FeedForwardReferenceTest.class.getResourceAsStream("/feed-forward/reference.json"))) {
      return StreamSupport.stream(
              JsonMapper.builder().build().readTree(stream).spliterator(), false)
          .filter(each -> each.path("name").asString().equals(name))
          .findFirst()
          .orElseThrow();
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  private static float[] formula(int elements, int seed) {
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = (float) Math.sin(0.37 * i * i + 1.1 * i + 2.3 * seed);
    }
    return values;
  }

  private static Tensor formula(long[] shape, int seed) {
    int elements = Math.toIntExact(Arrays.stream(shape).reduce(1, Math::multiplyExact));
    return Tensor.of(formula(elements, seed), shape);
  }

  /// Those of the reference, by the formula; they must be what the configuration declares.
  private static Map<String, Tensor> weights(JsonNode reference, Map<String, ParameterSpec> specs) {
    var names = List.copyOf(reference.path("gradients").propertyNames());
    assertEquals(Set.copyOf(names), specs.keySet());
    var weights = new LinkedHashMap<String, Tensor>();
    for (String name : names) {
      var weight = formula(Objects.requireNonNull(specs.get(name)).shape(), weights.size());
      var added = reference.path("added").path(name);
      if (!added.isMissingNode()) {
        weight = weight.plus(Tensor.of(floats(added), weight.shape()));
      }
      weights.put(name, weight.detach().requireGradient(true));
    }
    return weights;
  }

  private static float[] floats(JsonNode numbers) {
    float[] floats = new float[numbers.size()];
    for (int i = 0; i < floats.length; i++) {
      floats[i] = (float) numbers.path(i).asDouble();
    }
    return floats;
  }

  private static Experts experts(Router router, SharedExpert shared) {
    return new Experts(E, K, router, shared, 0, 0);
  }

  private static Router sigmoid(double epsilon, double scale, double softCap) {
    return new Router(Score.SIGMOID, new Weighting.Shares(epsilon), scale, false, true, softCap);
  }

  private static FeedForwardConfig config(String name) {
    var swish = new Glu.Swish();
    return switch (name) {
      case "qwen3_moe" -> plain(experts(Router.SOFTMAX.asScored(), SharedExpert.NONE));
      case "qwen3_moe, norm_topk_prob" -> plain(experts(Router.SOFTMAX, SharedExpert.NONE));
      case "qwen3_next" ->
          plain(experts(Router.SOFTMAX.asScored(), new SharedExpert(SHARED, true, swish)));
      case "afmoe" -> plain(experts(sigmoid(1e-20, 2.5, 0), new SharedExpert(2 * F, false, swish)));
      case "gpt_oss" ->
          new FeedForwardConfig(
              D,
              F,
              new Glu.ClampedInputs(1.5, 1.702),
              true,
              experts(
                  new Router(Score.SOFTMAX, new Weighting.Shares(0), 1, true, false, 0),
                  SharedExpert.NONE));
      case "step3p7" ->
          new FeedForwardConfig(
              D,
              F,
              new Glu.ClampedFactors(0.8),
              false,
              experts(
                  sigmoid(0, 1.7, 0),
                  new SharedExpert(SHARED, false, new Glu.ClampedFactors(0.6))));
      case "step3p7 dense" ->
          new FeedForwardConfig(D, F, new Glu.ClampedFactors(0.4), false, Experts.NONE);
      case "laguna" -> plain(experts(sigmoid(0, 1.9, 1.2), new SharedExpert(SHARED, false, swish)));
      default -> throw new IllegalArgumentException(name);
    };
  }

  private static FeedForwardConfig plain(Experts experts) {
    return new FeedForwardConfig(D, F, experts);
  }

  private static FeedForward layer(
      FeedForwardConfig config, Precision precision, Map<String, Tensor> weights) {
    var parameters = new Parameters(weights);
    return config.experts().count() == 0
        ? new DenseFeedForward(config, precision, parameters, "")
        : new MixtureOfExperts(config, precision, 0, parameters, "");
  }

  // ---------------------------------------------------------------- comparing

  /// Within 1e-5 of the largest: some ten roundings of float32 on sums of up to ten.
  private static void assertClose(JsonNode expected, float[] actual, double share, String what) {
    assertEquals(expected.size(), actual.length, what);
    double largest = 1e-3;
    for (var number : expected) {
      largest = Math.max(largest, Math.abs(number.asDouble()));
    }
    for (int i = 0; i < actual.length; i++) {
      assertEquals(expected.path(i).asDouble(), actual[i], share * largest, what + " at " + i);
    }
  }

  private static void assertGradients(JsonNode expected, Map<String, Tensor> weights) {
    int seed = 0;
    for (var weight : weights.entrySet()) {
      var reference = expected.path(weight.getKey());
      var gradient = weight.getValue().gradient();
      if (reference.isNull()) {
        assertNull(gradient, weight.getKey());
      } else {
        float[] actual = Objects.requireNonNull(gradient, weight.getKey()).floats();
        float[] factors = formula(actual.length, seed + 100);
        double sum = 0;
        double size = 1e-2;
        for (int i = 0; i < actual.length; i++) {
          sum += (double) actual[i] * factors[i];
          size += Math.abs((double) actual[i] * factors[i]);
        }
        assertEquals(reference.asDouble(), sum, 3e-5 * size, weight.getKey());
      }
      seed++;
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "qwen3_moe",
        "qwen3_moe, norm_topk_prob",
        "qwen3_next",
        "afmoe",
        "gpt_oss",
        "step3p7",
        "step3p7 dense",
        "laguna"
      })
  void layersAreThoseOfTransformers(String name) {
    var reference = reference(name);
    var config = config(name);
    var weights = weights(reference, config.parameters());
    var x = formula(new long[] {2, 5, D}, 51).requireGradient(true);
    var y = layer(config, Precision.FLOAT32, weights).forward(x, null, Probe.NONE);
    y.backward(formula(new long[] {2, 5, D}, 50));
    assertClose(reference.path("y"), y.detach().floats(), 1e-5, name);
    assertClose(
        reference.path("dx"),
        Objects.requireNonNull(x.gradient()).floats(),
        1e-5,
        name + ", gradient of x");
    assertGradients(reference.path("gradients"), weights);

    float[] recorded = y.detach().floats();
    try (var _ = Scope.withoutGradient()) { // experts without tokens do no work then
      assertEquals(
          Arrays.toString(recorded),
          Arrays.toString(
              layer(config, Precision.FLOAT32, weights).forward(x, null, Probe.NONE).floats()));
      // one token at a time as all at once
      for (int t = 0; t < 5; t++) {
        float[] one =
            layer(config, Precision.FLOAT32, weights)
                .forward(x.narrow(0, 1, 1).narrow(1, t, 1), null, Probe.NONE)
                .floats();
        for (int d = 0; d < D; d++) {
          assertEquals(recorded[(5 + t) * D + d], one[d], 1e-5 * 20, name);
        }
      }
    }
  }

  /// Five tensors are rounded to bfloat16 on the way, of which the largest numbers are some 2⁻⁶
  /// off.
  @ParameterizedTest
  @ValueSource(strings = {"qwen3_moe", "afmoe", "gpt_oss", "step3p7", "step3p7 dense", "laguna"})
  void bfloat16IsNear(String name) {
    var config = config(name);
    var weights = weights(reference(name), config.parameters());
    // the router sees what goes in, so that both choose the same experts
    var x = formula(new long[] {2, 5, D}, 51).to(ElementType.BFLOAT16);
    var found = new ArrayList<float[]>();
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var input = x.to(ElementType.FLOAT32).detach().requireGradient(true);
      var y = layer(config, precision, weights).forward(input, null, Probe.NONE);
      assertEquals(precision.elementType(), y.type());
      y.to(ElementType.FLOAT32).backward(formula(new long[] {2, 5, D}, 50));
      found.add(y.detach().floats());
      weights.forEach(
          (weight, tensor) -> {
            var gradient = tensor.gradient(); // may be another where a number is near a limit
            double norm = gradient == null ? 0 : gradient.norm().item();
            assertTrue(Double.isFinite(norm), weight);
            tensor.clearGradient();
          });
    }
    float[] exact = found.getFirst();
    float[] rounded = found.getLast();
    double largest = 0;
    for (float number : exact) {
      largest = Math.max(largest, Math.abs(number));
    }
    for (int at = 0; at < exact.length; at++) {
      assertEquals(exact[at], rounded[at], 0x1p-5 * largest, name);
    }
  }

  // ---------------------------------------------------------------- a whole model

  /// AFMoE has all of it: a dense layer before mixtures, norms on both sides of a sublayer, a
  /// multiplier of embeddings that the output matrix does not have, tied or not.
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void aDecoderIsThatOfTransformers(boolean tied) {
    var reference = reference(tied ? "afmoe whole, tied" : "afmoe whole");
    var config = afmoe(tied);
    var weights = weights(reference, config.parameters());
    try (var decoder =
        new Decoder(
            config, Precision.FLOAT32, Device.CPU, new Parameters(config.parameters(), weights))) {
      long[] ids = new long[reference.path("ids").size()];
      Arrays.setAll(ids, i -> reference.path("ids").path(i).asInt());
      var all = Tensor.of(ids, 1, ids.length);
      var inputs = all.narrow(1, 0, ids.length - 1L);
      var logits = decoder.logits(decoder.hiddenStates(inputs, null, Probe.NONE));
      assertClose(reference.path("y"), logits.detach().floats(), 1e-5, "logits");
      var loss = decoder.loss(inputs, all.narrow(1, 1, ids.length - 1L));
      assertEquals(reference.path("loss").asDouble(), loss.item(), 1e-5);
      loss.backward();
      assertGradients(reference.path("gradients"), weights);
      var untrained = new HashSet<String>();
      weights.forEach(
          (name, weight) -> {
            if (!weight.requiresGradient()) {
              untrained.add(name);
            }
          });
      assertEquals(
          Set.of(
              "model.layers.1.mlp.gate.e_score_correction_bias",
              "model.layers.2.mlp.gate.e_score_correction_bias"),
          untrained);
      assertFalse(loss.detach().requiresGradient());
    }
  }

  private static DecoderConfig afmoe(boolean tied) {
    int hidden = 12;
    var norm = new RmsNorm(1e-5);
    var attention =
        new AttentionConfig(hidden, 4, 2, 6, true, norm, new Rotary(10_000, new RopeScaling.None()))
            .with(List.of(Gate.SDPA_ELEMENTWISE));
    var residual = new ResidualVariant(true, 0, 0);
    var dense = new FeedForwardConfig(hidden, 14, Experts.NONE);
    var mixture =
        new FeedForwardConfig(
            hidden,
            F,
            experts(sigmoid(1e-20, 2.5, 0), new SharedExpert(2 * F, false, new Glu.Swish())));
    var layer = new LayerConfig(attention, mixture, residual);
    return DecoderConfig.uniform(13, 3, layer, 64, norm, tied, 0.02)
        .withLayers(List.of(new LayerConfig(attention, dense, residual), layer, layer))
        .withEmbeddingMultiplier(Math.sqrt(hidden));
  }
}
