package dev.sluice.decoder;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RopeScaling;
import dev.sluice.gate.Gate;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

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
  }

  private Decoders() {}

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
