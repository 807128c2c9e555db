package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.tensor.RmsNorm;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/// Configurations by name. Variants are derived:
/// `PAPER_DENSE_28.with(List.of(Gate.SDPA_HEADWISE))`.
public final class Decoders {
  /// The paper's 1.7 B dense model with 28 layers (table 7), vocabulary of the released
  /// checkpoints.
  public static final DecoderConfig PAPER_DENSE_28 = dense(152_064, 2048, 6144, 28);

  /// The paper's 1.7 B dense model with 48 layers (table 7).
  public static final DecoderConfig PAPER_DENSE_48 = dense(152_064, 1536, 4608, 48);

  /// The released `1B_baseline`: 1,720,837,120 parameters.
  public static final DecoderConfig PAPER_1B_BASELINE = PAPER_DENSE_28;

  /// The released `1B_gate_headwise`: 1,721,754,624 parameters.
  public static final DecoderConfig PAPER_1B_GATE_HEADWISE =
      PAPER_DENSE_28.with(List.of(Gate.SDPA_HEADWISE));

  /// The released `1B_gate_elementwise`: 1,728,177,152 parameters, the gate paid for by the
  /// feed-forward width.
  public static final DecoderConfig PAPER_1B_GATE_ELEMENTWISE =
      PAPER_DENSE_28.with(List.of(Gate.SDPA_ELEMENTWISE)).withIntermediateSize(5504);

  /// The paper's mixture of experts of 15 B parameters, of which a token goes through 2.5 B (table
  /// 7). The paper does not print the vocabulary; it is that of the released dense checkpoints.
  public static final DecoderConfig PAPER_MOE_15B =
      DecoderConfig.uniform(
              152_064,
              2048,
              768,
              24,
              32,
              4,
              128,
              32_768,
              10_000,
              new RopeScaling.None(),
              1e-6,
              true,
              false,
              0.02,
              List.of())
          .with(Experts.of(128, 8));

  /// 759,168 parameters at byte vocabulary: trains in a minute on two cores.
  public static final DecoderConfig TINY = small(256, 128, 344, 4, 4, 2, 32);

  /// 12,688,768 parameters at byte vocabulary.
  public static final DecoderConfig SMALL = small(256, 384, 1024, 8, 6, 2, 64);

  private static final Map<String, DecoderConfig> BY_NAME = new LinkedHashMap<>();

  static {
    BY_NAME.put("tiny", TINY);
    BY_NAME.put("small", SMALL);
    BY_NAME.put("paper-dense-28", PAPER_DENSE_28);
    BY_NAME.put("paper-dense-48", PAPER_DENSE_48);
    BY_NAME.put("paper-moe-15b", PAPER_MOE_15B);
    BY_NAME.put("paper-1b-baseline", PAPER_1B_BASELINE);
    BY_NAME.put("paper-1b-gate-headwise", PAPER_1B_GATE_HEADWISE);
    BY_NAME.put("paper-1b-gate-elementwise", PAPER_1B_GATE_ELEMENTWISE);
    BY_NAME.put(
        "qwen3-next-80b", qwen(151_936, 2048, 512, experts(512, 10, 512), 48, 16, 2, 32, false));
    BY_NAME.put("qwen3.5-0.8b", qwen(248_320, 1024, 3584, Experts.NONE, 24, 8, 2, 16, true));
    BY_NAME.put("qwen3.5-2b", qwen(248_320, 2048, 6144, Experts.NONE, 24, 8, 2, 16, true));
    BY_NAME.put("qwen3.5-4b", qwen(248_320, 2560, 9216, Experts.NONE, 32, 16, 4, 32, true));
    BY_NAME.put("qwen3.5-9b", qwen(248_320, 4096, 12_288, Experts.NONE, 32, 16, 4, 32, false));
    BY_NAME.put("qwen3.5-27b", qwen(248_320, 5120, 17_408, Experts.NONE, 64, 24, 4, 48, false));
    BY_NAME.put(
        "qwen3.5-35b", qwen(248_320, 2048, 512, experts(256, 8, 512), 40, 16, 2, 32, false));
    BY_NAME.put(
        "qwen3.5-122b", qwen(248_320, 3072, 1024, experts(256, 8, 1024), 48, 32, 2, 64, false));
    BY_NAME.put(
        "qwen3.5-397b", qwen(248_320, 4096, 1024, experts(512, 10, 1024), 60, 32, 2, 64, false));
  }

  private Decoders() {}

  /// Qwen3-Next and the text part of Qwen3.5 as they were released: of four layers three are Gated
  /// DeltaNet, and the fourth is attention with an elementwise gate (`modeling_qwen3_next.py`,
  /// `modeling_qwen3_5.py`).
  private static DecoderConfig qwen(
      int vocabulary,
      int hidden,
      int intermediate,
      Experts experts,
      int layers,
      int heads,
      int keyValueHeads,
      int valueHeads,
      boolean tied) {
    var norm = new RmsNorm(1e-6, true);
    var attention =
        new MixerConfig.SoftmaxAttention(
            new AttentionConfig(
                    hidden,
                    heads,
                    keyValueHeads,
                    256,
                    true,
                    norm,
                    new Rotary(1e7, new RopeScaling.None(), 0.25))
                .with(List.of(Gate.SDPA_ELEMENTWISE)));
    var linear =
        new MixerConfig.DeltaNet(
            new GatedDeltaNetConfig(
                hidden, new DeltaHeads(16, valueHeads, 128, 128), 4, norm.epsilon()));
    var feedForward = new FeedForwardConfig(hidden, intermediate, experts);
    return new DecoderConfig(
        vocabulary,
        hidden,
        IntStream.rangeClosed(1, layers)
            .mapToObj(
                layer ->
                    new LayerConfig(
                        layer % 4 == 0 ? attention : linear, feedForward, ResidualVariant.PLAIN))
            .toList(),
        262_144,
        norm,
        tied,
        0.02,
        1);
  }

  private static Experts experts(int count, int perToken, int shared) {
    return new Experts(
        count, perToken, Router.SOFTMAX, new SharedExpert(shared, true, new Glu.Swish()), 1e-3, 0);
  }

  /// The configuration of that name.
  public static DecoderConfig named(String name) {
    var config = BY_NAME.get(name);
    if (config == null) {
      throw new InvalidInputException(
          "unknown model '" + name + "'; known are " + String.join(", ", BY_NAME.keySet()));
    }
    return config;
  }

  /// All names.
  public static List<String> names() {
    return List.copyOf(BY_NAME.keySet());
  }

  private static DecoderConfig dense(int vocabulary, int hidden, int intermediate, int layers) {
    return DecoderConfig.uniform(
        vocabulary,
        hidden,
        intermediate,
        layers,
        16,
        8,
        128,
        32_768,
        10_000,
        new RopeScaling.None(),
        1e-6,
        true,
        true,
        0.02,
        List.of());
  }

  private static DecoderConfig small(
      int vocabulary,
      int hidden,
      int intermediate,
      int layers,
      int heads,
      int keyValueHeads,
      int headDim) {
    return DecoderConfig.uniform(
        vocabulary,
        hidden,
        intermediate,
        layers,
        heads,
        keyValueHeads,
        headDim,
        32_768,
        10_000,
        new RopeScaling.None(),
        1e-6,
        true,
        true,
        0.02,
        List.of());
  }
}
