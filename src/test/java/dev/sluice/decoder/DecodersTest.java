package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.Router.Weighting;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class DecodersTest {
  /// Counts of the released checkpoints; nothing is allocated for them.
  @Test
  void releasedModelsHaveTheirPublishedSizes() {
    assertEquals(1_720_837_120L, Decoders.PAPER_1B_BASELINE.parameterCount());
    assertEquals(1_721_754_624L, Decoders.PAPER_1B_GATE_HEADWISE.parameterCount());
    assertEquals(1_728_177_152L, Decoders.PAPER_1B_GATE_ELEMENTWISE.parameterCount());
  }

  /// Counts of the text parts of the released hybrids, and what a token goes through.
  @ParameterizedTest
  @CsvSource({
    "qwen3-next-80b, 79674391296",
    "qwen3.5-0.8b, 752393024",
    "qwen3.5-2b, 1881825088",
    "qwen3.5-4b, 4205751296",
    "qwen3.5-9b, 8953803264",
    "qwen3.5-27b, 26895998464",
    "qwen3.5-35b, 34660610688",
    "qwen3.5-122b, 122111526912",
    "qwen3.5-397b, 396346350336"
  })
  void releasedHybridsHaveTheirPublishedSizes(String name, long parameters) {
    assertEquals(parameters, Decoders.named(name).parameterCount());
  }

  /// Of Qwen3-Next: 36 layers of 32 · 128 · 128 and 3 · 8192 numbers, 12 of 2 · 2 · 256 a token.
  @Test
  void aHybridsStateIsMostlyOfFixedSize() {
    var next = Decoders.named("qwen3-next-80b");
    long fixed = 36 * (32 * 128 * 128 + 3 * 8192L);
    assertEquals(fixed, next.stateElements(0));
    assertEquals(fixed + 12 * 2 * 2 * 256 * 1000L, next.stateElements(1000));
    assertEquals(2 * 28 * 8 * 128 * 7L, Decoders.PAPER_DENSE_28.stateElements(7));
  }

  /// A token reads keys and values, and what a state is it reads and writes.
  @Test
  void aTokenMovesStatesTwice() {
    var next = Decoders.named("qwen3-next-80b");
    long fixed = 36 * (32 * 128 * 128 + 3 * 8192L);
    assertEquals(fixed * 4 * 2 + 12 * 2 * 2 * 256 * 1000L * 2, next.bytesMoved(1000, 2));
  }

  @Test
  void sharesOfParametersAddUpToTheActiveOnes() {
    var mixture = Decoders.named("qwen3.5-35b");
    double active = 0;
    for (var each : mixture.parameters().entrySet()) {
      active += each.getValue().elements() * mixture.sharePerToken(each.getKey());
    }
    assertEquals(mixture.activeParameterCount(), active, 1);
    assertEquals(1, mixture.sharePerToken("model.layers.3.mlp.shared_expert.up_proj.weight"));
  }

  @Test
  void theFortyEightLayerModelHasTheSizeOfItsShape() {
    // by hand: embedding, then per layer q, k, v, o, two head norms, three feed-forward matrices,
    // two norms; final norm
    long layer = 1536L * 2048 * 2 + 1536L * 1024 * 2 + 2 * 128 + 3L * 1536 * 4608 + 2 * 1536;
    assertEquals(152_064L * 1536 + 48 * layer + 1536, Decoders.PAPER_DENSE_48.parameterCount());
  }

  /// What is counted without naming every parameter equals the sum over all of them.
  @Test
  void countsEqualTheSumOverAllParameters() {
    var attention = AttentionVariant.PLAIN;
    var untied = Decoders.SMALL.withTieWordEmbeddings(false);
    for (var config :
        List.of(
            Decoders.TINY,
            untied,
            untied.with(Experts.of(7, 3)),
            afterADenseLayer(untied.with(Experts.of(7, 3))),
            afterADenseLayer(untied.with(withEverything())),
            Decoders.TINY.with(Experts.of(4, 4)).with(new ResidualVariant(true, 0, 5)),
            untied.with(List.of(Gate.parse("sdpa-headwise-rank*3-bias*2.0"))),
            Decoders.TINY.with(List.of(Gate.parse("value-elementwise-input-independent"))),
            Decoders.TINY.with(attention.with(new SwitchHead(true, 4, 2))),
            Decoders.TINY.with(attention.with(SoftmaxSink.LEARNED)))) {
      BigInteger all = BigInteger.ZERO;
      BigInteger active = BigInteger.ZERO;
      BigInteger multiplied = BigInteger.ZERO;
      for (var parameter : config.parameters().entrySet()) {
        String name = parameter.getKey();
        BigInteger elements =
            Arrays.stream(parameter.getValue().shape())
                .mapToObj(BigInteger::valueOf)
                .reduce(BigInteger.ONE, BigInteger::multiply);
        all = all.add(elements);
        var expert = Pattern.compile("experts\\.(\\d+)\\.").matcher(name);
        boolean own =
            !expert.find()
                || Integer.parseInt(expert.group(1))
                    < config.layers().getLast().feedForward().experts().perToken();
        active = own ? active.add(elements) : active;
        boolean lookedUp = name.contains("embed_tokens") && !config.tieWordEmbeddings();
        if (own && parameter.getValue().isMatrix() && !lookedUp) {
          multiplied = multiplied.add(elements);
        }
      }
      assertEquals(all.longValueExact(), config.parameterCount(), config::toString);
      assertEquals(active.longValueExact(), config.activeParameterCount(), config::toString);
      double attended =
          6.0
              * config.layers().size()
              * 100
              * config.attention().attentionHeads()
              * config.attention().headDim();
      assertEquals(
          6 * multiplied.doubleValue() + attended,
          config.trainingFlopsPerToken(100),
          config::toString);
    }
  }

  private static Experts withEverything() {
    var router = new Router(Router.Score.SIGMOID, new Weighting.Shares(0), 2, true, true, 3);
    return new Experts(7, 3, router, new SharedExpert(20, true, new Glu.Swish()), 1e-3, 0);
  }

  /// The first layer is dense and twice as wide, and units have biases.
  private static DecoderConfig afterADenseLayer(DecoderConfig config) {
    var layers =
        new ArrayList<>(
            config.layers().stream()
                .map(
                    layer -> {
                      var plain = layer.feedForward();
                      var biased =
                          new FeedForwardConfig(
                              config.hiddenSize(),
                              plain.intermediateSize(),
                              plain.glu(),
                              true,
                              plain.experts());
                      return new LayerConfig(layer.mixer(), biased, layer.residual());
                    })
                .toList());
    var first = layers.getFirst();
    var dense =
        first
            .feedForward()
            .with(Experts.NONE)
            .withIntermediateSize(2 * first.feedForward().intermediateSize());
    layers.set(0, new LayerConfig(first.mixer(), dense, first.residual()));
    return config.withLayers(layers);
  }

  /// One width cannot be matched where there are two; units with biases can.
  @Test
  void layersOfSeveralWidthsAreNotMatched() {
    var mixed = afterADenseLayer(Decoders.SMALL.with(Experts.of(7, 3)));
    assertRefused(
        "layers of width 2048 and of 7 experts of width 1024",
        () -> mixed.matchingParameters(mixed.parameterCount(), 1));
    assertRefused("of width 2048", () -> mixed.matchingFlops(1e9, 64, 1));
    var biased = mixed.withLayers(mixed.layers().subList(1, 3));
    assertEquals(
        biased.withIntermediateSize(777),
        biased.matchingParameters(biased.withIntermediateSize(777).parameterCount(), 1));
    assertEquals(
        biased.withIntermediateSize(777),
        biased.matchingFlops(biased.withIntermediateSize(777).trainingFlopsPerToken(64), 64, 1));
  }

  /// By hand: what each form of a feed-forward layer keeps of a token beside what all keep.
  @Test
  void activationsOfEachForm() {
    var base = Decoders.SMALL; // eight layers of 384, 1024 wide
    double dense = 2 * 4 * 1024;
    assertEquals(
        8 * (3 * (dense + 8 * 384) + 8 * 7 + 2 * 4 * 20 + 4 * 384 - dense),
        ActivationMemory.bytesPerToken(
                base.with(withEverything()), ElementType.FLOAT32, Recompute.NONE)
            - ActivationMemory.bytesPerToken(base, ElementType.FLOAT32, Recompute.NONE));
    double e = 2; // bfloat16
    double plain = 2 * e * 1024;
    for (var form :
        Map.of(
                new FeedForwardConfig(384, 1024, new Glu.Swish(), true, Experts.NONE), 3 * 4 + e,
                new FeedForwardConfig(384, 1024, new Glu.ClampedFactors(7), false, Experts.NONE),
                    6 * e,
                new FeedForwardConfig(384, 1024, new Glu.ClampedInputs(7, 2), true, Experts.NONE),
                    6 * 4 + e)
            .entrySet()) {
      var layer = base.layers().getFirst();
      var changed =
          base.withLayers(List.of(new LayerConfig(layer.mixer(), form.getKey(), layer.residual())));
      assertEquals(
          form.getValue() * 1024 - plain,
          ActivationMemory.bytesPerToken(changed, ElementType.BFLOAT16, Recompute.NONE)
              - ActivationMemory.bytesPerToken(
                  base.withLayers(List.of(layer)), ElementType.BFLOAT16, Recompute.NONE));
    }
  }

  /// Beyond what is sensible or countable a sentence names the setting.
  @Test
  void sizesAreBounded() {
    assertRefused("num_hidden_layers 2000000000", () -> sized(100, 64, 64, 2_000_000_000, 2, 16));
    assertRefused("hidden_size 2000000000", () -> sized(100, 2_000_000_000, 64, 2, 2, 16));
    assertRefused(
        "intermediate_size 2147483647", () -> sized(100, 64, Integer.MAX_VALUE, 2, 2, 16));
    assertRefused("num_attention_heads 2000000000", () -> sized(100, 64, 64, 2, 2_000_000_000, 16));
    assertRefused("head_dim 2147483646", () -> sized(100, 64, 64, 2, 2, Integer.MAX_VALUE - 1));
    assertRefused("2000000000 experts", () -> Decoders.TINY.with(Experts.of(2_000_000_000, 2)));
    assertRefused(
        "gated_norm_rank 2147483647",
        () -> Decoders.TINY.with(new ResidualVariant(false, 0, Integer.MAX_VALUE)));
    assertRefused(
        "switch_head value-9999-choose-1",
        () ->
            sized(100, 64, 64, 2, 1024, 1024)
                .with(AttentionVariant.PLAIN.with(new SwitchHead(false, 9999, 1))));
    assertRefused(
        "a gate of rank*2147483647",
        () -> Decoders.TINY.with(List.of(Gate.parse("sdpa-headwise-rank*2147483647"))));
    assertRefused(
        "can be counted", () -> sized(100, 1 << 24, 1 << 24, 15_000, 16, 1 << 20).parameterCount());
    assertRefused(
        "can be counted",
        () -> sized(100, 1 << 24, 1 << 24, 15_000, 16, 1 << 20).trainingFlopsPerToken(1));
    assertRefused(
        "the feed-forward layer that brings",
        () -> Decoders.TINY.matchingParameters(Long.MAX_VALUE, 1));
    var most = sized(Integer.MAX_VALUE, 1 << 24, 1, 1, 1, 2);
    assertEquals(((1L << 31) - 1) * (1L << 24), most.parameterCount(), 1e9);
  }

  private static void assertRefused(String message, Executable action) {
    var e = assertThrows(InvalidInputException.class, action);
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  private static DecoderConfig sized(
      int vocabulary, int hidden, int intermediate, int layers, int heads, int headDim) {
    return DecoderConfig.uniform(
        vocabulary,
        hidden,
        intermediate,
        layers,
        heads,
        heads,
        headDim,
        100,
        10_000,
        new RopeScaling.None(),
        1e-6,
        true,
        true,
        0.02,
        List.of());
  }

  @Test
  void matchingParametersPaysForTheGate() {
    for (Gate gate : List.of(Gate.SDPA_ELEMENTWISE, Gate.SDPA_HEADWISE)) {
      var matched =
          Decoders.SMALL.with(List.of(gate)).matchingParameters(Decoders.SMALL.parameterCount(), 1);
      double off =
          Math.abs(matched.parameterCount() - Decoders.SMALL.parameterCount())
              / (double) Decoders.SMALL.parameterCount();
      assertTrue(off < 1e-3, gate.name() + " is off by " + off);
    }
    assertThrows(InvalidInputException.class, () -> Decoders.SMALL.matchingParameters(1000, 1));
  }

  /// Twins start alike wherever they have the same parameter.
  @Test
  void aGateDoesNotChangeTheOtherWeights() {
    try (var plain = Decoder.initialize(Decoders.TINY, Precision.FLOAT32, Device.CPU, 5);
        var gated =
            Decoder.initialize(
                Decoders.TINY.with(List.of(Gate.SDPA_HEADWISE)),
                Precision.FLOAT32,
                Device.CPU,
                5)) {
      for (var parameter : plain.parameters().all().entrySet()) {
        assertArrayEquals(
            parameter.getValue().floats(),
            gated.parameters().get(parameter.getKey()).floats(),
            parameter.getKey());
      }
    }
  }
}
