package dev.sluice.checkpoint;

import dev.sluice.operations.DeltaHeads;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The architectures of GGUF whose models are read, by the names that `general.architecture` has
/// for them, and the `model_type` that each is.
enum GgufArchitecture {
  QWEN3("qwen3", "qwen3"),
  QWEN3_MOE("qwen3moe", "qwen3_moe"),
  QWEN3_NEXT("qwen3next", "qwen3_next"),
  QWEN35("qwen35", "qwen3_5_text"),
  QWEN35_MOE("qwen35moe", "qwen3_5_moe_text"),
  AFMOE("afmoe", "afmoe"),
  GPT_OSS("gpt-oss", "gpt_oss"),
  LAGUNA("laguna", "laguna"),
  STEP35("step35", "step3p5");

  private final String word;
  private final String modelType;

  GgufArchitecture(String word, String modelType) {
    this.word = word;
    this.modelType = modelType;
  }

  /// The name in a file, with which its metadata keys begin.
  String word() {
    return word;
  }

  /// The word of `model_type` in a `config.json` of such a model.
  String modelType() {
    return modelType;
  }

  static @Nullable GgufArchitecture named(@Nullable String word) {
    return Arrays.stream(values()).filter(each -> each.word.equals(word)).findFirst().orElse(null);
  }

  static @Nullable GgufArchitecture ofModelType(String type) {
    return Arrays.stream(values())
        .filter(each -> each.modelType.equals(type))
        .findFirst()
        .orElse(null);
  }

  static List<String> words() {
    return Arrays.stream(values()).map(GgufArchitecture::word).toList();
  }

  /// Three layers of Gated DeltaNet to one of attention.
  boolean isHybrid() {
    return switch (this) {
      case QWEN3_NEXT, QWEN35, QWEN35_MOE -> true;
      case QWEN3, QWEN3_MOE, AFMOE, GPT_OSS, LAGUNA, STEP35 -> false;
    };
  }

  /// How the value heads of a DeltaNet layer stand (`conversion/qwen.py`,
  /// `_LinearAttentionVReorderBase`).
  DeltaHeads.Order valueHeads() {
    return switch (this) {
      case QWEN35, QWEN35_MOE -> DeltaHeads.Order.APART;
      case QWEN3, QWEN3_MOE, QWEN3_NEXT, AFMOE, GPT_OSS, LAGUNA, STEP35 ->
          DeltaHeads.Order.TOGETHER;
    };
  }

  /// Whether layers without a window divide their rotary frequencies by factors that a file has as
  /// a tensor (`step35.cpp`).
  boolean hasRotaryFactors() {
    return this == STEP35;
  }

  /// What the norm before the feed-forward layer is called.
  String feedForwardNorm() {
    return switch (this) {
      case QWEN3_NEXT, QWEN35, QWEN35_MOE, GPT_OSS -> "post_attention_norm.weight";
      case QWEN3, QWEN3_MOE, AFMOE, LAGUNA, STEP35 -> "ffn_norm.weight";
    };
  }
}
