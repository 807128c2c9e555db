package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.Biases;
import dev.sluice.attention.Positions;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// A decoder of which no two layers are alike: in heads, rotation, window, biases, sinks, gates,
/// norms, feed-forward layers and in what mixes tokens.
class DifferentLayersTest {
  private static final int HIDDEN = 12;
  private static final int TOKENS = 21;
  private static final RmsNorm NORM = new RmsNorm(1e-6);

  static DecoderConfig config() {
    var none = new RopeScaling.None();
    var yarn = new RopeScaling.Yarn(4, 16);
    var sinks = AttentionVariant.PLAIN.with(SoftmaxSink.LEARNED);
    var layers =
        List.of(
            layer(
                attention(4, 2, 6, true)
                    .with(new Positions(new Rotary(100, none)).withWindow(3))
                    .with(new Biases(true, true)),
                8,
                false),
            layer(
                attention(6, 1, 4, true).with(Positions.NONE).with(List.of(Gate.SDPA_ELEMENTWISE)),
                16,
                true),
            layer(
                attention(2, 2, 8, false)
                    .with(new Positions(new Rotary(1e4, yarn, 0.5)).withWindow(1))
                    .with(sinks)
                    .with(List.of(Gate.parse("sdpa-headwise-softplus"))),
                12,
                false),
            new LayerConfig(
                new MixerConfig.DeltaNet(
                    new GatedDeltaNetConfig(HIDDEN, new DeltaHeads(2, 4, 4, 6), 3, 1e-6)),
                new FeedForwardConfig(HIDDEN, 20, Experts.NONE),
                ResidualVariant.PLAIN),
            layer(
                attention(3, 3, 2, false)
                    .with(Positions.NONE.withWindow(TOKENS - 2))
                    .with(new Biases(false, true))
                    .with(List.of(Gate.SDPA_HEADWISE)),
                4,
                true),
            layer(attention(8, 4, 6, true).with(new Positions(new Rotary(50, none))), 8, false));
    return new DecoderConfig(17, HIDDEN, layers, 64, NORM, true, 0.3, 1);
  }

  private static AttentionConfig attention(
      int heads, int keyValueHeads, int headDim, boolean qkNorm) {
    var rotary = new Rotary(100, new RopeScaling.None());
    return new AttentionConfig(HIDDEN, heads, keyValueHeads, headDim, qkNorm, NORM, rotary);
  }

  private static LayerConfig layer(AttentionConfig attention, int width, boolean sandwich) {
    return new LayerConfig(
        attention,
        new FeedForwardConfig(HIDDEN, width, Experts.NONE),
        new ResidualVariant(sandwich, 0, 0));
  }

  /// Weights that begin alike are drawn too.
  private static Decoder decoder(Precision precision) {
    return decoder(config(), precision);
  }

  static Decoder decoder(DecoderConfig config, Precision precision) {
    var decoder = Decoder.initialize(config, precision, Device.CPU, 11);
    decoder
        .parameters()
        .all()
        .forEach(
            (name, tensor) -> {
              if (name.endsWith("bias") || name.endsWith("sinks")) {
                double[] values =
                    new SplittableRandom(name.hashCode())
                        .doubles(tensor.elements(), -1, 1)
                        .toArray();
                tensor.detach().copyFrom(Tensor.of(values, tensor.shape()).to(ElementType.FLOAT32));
              }
            });
    return decoder;
  }

  private static Tensor ids() {
    long[] ids = new SplittableRandom(5).longs(2 * TOKENS, 0, 17).toArray();
    return Tensor.of(ids, 2, TOKENS);
  }

  /// Within 3e-5 of the largest logit: norms of six layers make roundings larger.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 5, 20, TOKENS})
  void chunksOverACacheEqualOnePass(int chunk) {
    try (var _ = Scope.withoutGradient();
        var decoder = decoder(Precision.FLOAT32);
        var state = new SequenceState(2, TOKENS)) {
      var past = state.past(state.take(), state.take());
      float[] expected = decoder.logits(decoder.hiddenStates(ids(), null, Probe.NONE)).floats();
      var parts = new ArrayList<Tensor>();
      for (int from = 0; from < TOKENS; from += chunk) {
        var ids = ids().narrow(1, from, Math.min(chunk, TOKENS - from));
        parts.add(decoder.logits(decoder.hiddenStates(ids, past, Probe.NONE)));
      }
      float largest = 0;
      for (float logit : expected) {
        largest = Math.max(largest, Math.abs(logit));
      }
      assertArrayEquals(expected, Tensor.concatenate(parts, 1).floats(), 3e-5f * largest);
    }
  }

  /// Every parameter of every layer has the shape that the layer says, and a gradient, in both
  /// precisions.
  @Test
  void everyParameterIsTrained() {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      try (var _ = Scope.open();
          var decoder = decoder(precision)) {
        decoder.loss(ids().narrow(1, 0, 20), ids().narrow(1, 1, 20)).backward();
        decoder
            .parameters()
            .all()
            .forEach(
                (name, tensor) -> {
                  var gradient = tensor.gradient();
                  assertNotNull(gradient, name);
                  boolean shift = // of all scores of a query alike
                      name.endsWith("layers.4.self_attn.k_proj.bias");
                  assertTrue(shift || gradient.norm().item() > 0, name);
                });
      }
    }
    Map<String, List<Long>> shapes =
        Map.of(
            "0.self_attn.q_proj.bias", List.of(24L),
            "0.self_attn.o_proj.bias", List.of(12L),
            "1.self_attn.k_proj.weight", List.of(4L, 12L),
            "1.self_attn.gates.sdpa.weight", List.of(24L, 12L),
            "2.self_attn.sinks", List.of(2L),
            "5.self_attn.q_proj.weight", List.of(48L, 12L));
    var parameters = config().parameters();
    shapes.forEach(
        (name, shape) ->
            assertArrayEquals(
                shape.stream().mapToLong(Long::longValue).toArray(),
                Objects.requireNonNull(parameters.get("model.layers." + name)).shape(),
                name));
    assertTrue(!parameters.containsKey("model.layers.4.self_attn.q_proj.bias"));
  }

  /// A window takes what it hides off the operations of training, and nothing off what is kept.
  @Test
  void operationsFollowTheWindow() {
    var full = config().mapAttention(a -> a.with(a.positions().withWindow(0)));
    var narrow = full.mapAttention(a -> a.with(a.positions().withWindow(64)));
    double perKey = 0;
    for (var layer : full.layers()) {
      perKey += layer.attention().map(a -> 12.0 * a.attentionHeads() * a.headDim()).orElse(0.0);
    }
    long tokens = 4096;
    assertEquals(
        perKey * (2048 - (64 - 0.5)),
        full.trainingFlopsPerToken(tokens) - narrow.trainingFlopsPerToken(tokens),
        1);
    assertEquals(full.trainingFlopsPerToken(64), narrow.trainingFlopsPerToken(64));
    assertEquals(
        ActivationMemory.bytesPerToken(full, ElementType.FLOAT32, Recompute.NONE),
        ActivationMemory.bytesPerToken(narrow, ElementType.FLOAT32, Recompute.NONE));
  }
}
