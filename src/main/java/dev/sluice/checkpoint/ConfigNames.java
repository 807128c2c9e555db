package dev.sluice.checkpoint;

import dev.sluice.settings.Settings;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// What is known about keys of a `config.json` that Sluice does not read.
final class ConfigNames {
  private ConfigNames() {}

  // ---------------------------------------------------------------- without effect on the model

  /// Names, versions, and how another program computes the same.
  private static final List<String> PROVENANCE =
      List.of(
          "_name_or_path",
          "name_or_path",
          "_commit_hash",
          "transformers_version",
          "transformers_weights",
          "unsloth_version",
          "unsloth_fixed",
          "attn_implementation",
          "_attn_implementation",
          "_attn_implementation_autoset",
          "_attn_implementation_internal",
          "experts_implementation",
          "_experts_implementation",
          "_experts_implementation_internal",
          "chunk_size_feed_forward",
          "gradient_checkpointing",
          "pretraining_tp",
          "use_bfloat16",
          "use_cache",
          "torchscript",
          "tf_legacy_loss");

  /// What a forward pass gives back besides the logits.
  private static final List<String> OUTPUTS =
      List.of(
          "output_attentions",
          "output_hidden_states",
          "output_router_logits",
          "output_scores",
          "return_dict",
          "use_return_dict",
          "return_dict_in_generate",
          "tie_last_hidden_states");

  /// Classification, and tokens by their numbers, which whoever makes text reads for itself.
  private static final List<String> TOKENS =
      List.of(
          "id2label",
          "label2id",
          "num_labels",
          "problem_type",
          "finetuning_task",
          "task_specific_params",
          "tokenizer_class",
          "prefix",
          "bos_token_id",
          "eos_token_id",
          "pad_token_id",
          "sep_token_id",
          "cls_token_id",
          "unk_token_id",
          "decoder_start_token_id",
          "is_decoder",
          "cross_attention_hidden_size");

  /// How `transformers` draws text where `generation_config.json` says nothing; it takes them out
  /// of the configuration itself.
  private static final List<String> GENERATION =
      List.of(
          "max_length",
          "min_length",
          "do_sample",
          "early_stopping",
          "num_beams",
          "num_beam_groups",
          "diversity_penalty",
          "temperature",
          "top_k",
          "top_p",
          "typical_p",
          "repetition_penalty",
          "length_penalty",
          "no_repeat_ngram_size",
          "encoder_no_repeat_ngram_size",
          "encoder_repetition_penalty",
          "bad_words_ids",
          "num_return_sequences",
          "forced_bos_token_id",
          "forced_eos_token_id",
          "remove_invalid_values",
          "exponential_decay_length_penalty",
          "suppress_tokens",
          "begin_suppress_tokens",
          "epsilon_cutoff",
          "eta_cutoff");

  private static final Set<String> HARMLESS = new LinkedHashSet<>();

  // ---------------------------------------------------------------- what Sluice does not compute

  /// Keys that change the computation unless they are off: false, 0, empty or `none`.
  private static final Set<String> OFF =
      Set.of(
          // biases
          "attention_bias",
          "attention_out_bias",
          "qkv_bias",
          "add_qkv_bias",
          "mlp_bias",
          "use_bias",
          "lm_head_bias",
          // what is done to scores and logits
          "attn_logit_softcap",
          "attn_logit_softcapping",
          "final_logit_softcap",
          "final_logit_softcapping",
          "logit_softcapping",
          "query_pre_attn_scalar",
          "attention_multiplier",
          "clip_qkv",
          "alibi",
          "use_alibi",
          // other ways to attend, other layers
          "attention_chunk_size",
          "attn_output_gate",
          "no_rope_layers",
          "no_rope_layer_interval",
          "per_layer_config",
          "full_attention_interval",
          "linear_num_key_heads",
          "linear_num_value_heads",
          "use_mrope",
          "rope_interleave",
          "use_parallel_residual",
          "is_encoder_decoder",
          "add_cross_attention",
          "pruned_heads",
          // experts that all tokens go through, layers without experts
          "shared_expert_intermediate_size",
          "moe_shared_expert_intermediate_size",
          "n_shared_experts",
          "num_shared_experts",
          "first_k_dense_replace",
          // weights that are not numbers
          "quantization_config",
          "compression_config",
          // models around this one
          "text_config",
          "vision_config",
          "audio_config",
          "thinker_config");

  /// Keys that multiply or divide something, so that one changes nothing.
  private static final Set<String> ONE =
      Set.of(
          "partial_rotary_factor",
          "rotary_pct",
          "rope_ratio",
          "logit_scale",
          "logits_scaling",
          "lm_head_multiplier",
          "embedding_multiplier",
          "residual_multiplier",
          "scale_emb",
          "scale_depth",
          "routed_scaling_factor",
          "n_group",
          "topk_group",
          "moe_layer_freq");

  private static final Set<String> ALL = new TreeSet<>();

  static {
    List.of(PROVENANCE, OUTPUTS, TOKENS, GENERATION).forEach(HARMLESS::addAll);
    List.of(HARMLESS, OFF, ONE, ConfigReader.COMMON, Families.all(Family::keys))
        .forEach(ALL::addAll);
  }

  /// Whether the key has no effect on what the model computes, whatever its value.
  static boolean isHarmless(String key) {
    return HARMLESS.contains(key);
  }

  /// Whether some model type has the key.
  static boolean isKnown(String key) {
    return ALL.contains(key);
  }

  /// Whether the key's value asks for what Sluice does not compute.
  static boolean isRefused(String key, JsonNode value) {
    return OFF.contains(key) ? !isOff(value) : ONE.contains(key) && !isOne(value);
  }

  /// Whether the key is one of those that [#isRefused] judges.
  static boolean isJudged(String key) {
    return OFF.contains(key) || ONE.contains(key);
  }

  /// Whether a value says no: false, 0, empty, `none`.
  static boolean isOff(JsonNode value) {
    return value.isNull()
        || (value.isBoolean() && !value.asBoolean())
        || (value.isNumber() && value.numberValue().doubleValue() == 0)
        || (value.isContainer() && value.isEmpty())
        || (value.isString() && Set.of("", "none").contains(value.stringValue()));
  }

  private static boolean isOne(JsonNode value) {
    return value.isNumber() && value.numberValue().doubleValue() == 1;
  }

  /// The known key that an unknown one may have been meant for, or null: at most one letter in four
  /// is another.
  static @Nullable String near(String unknown) {
    return near(unknown, ALL);
  }

  /// The same among some keys.
  static @Nullable String near(String unknown, Set<String> known) {
    String word = unknown.toLowerCase(Locale.ROOT).replace('-', '_');
    if (word.length() > 60) {
      return null;
    }
    String nearest = null;
    int least = word.length() / 4 + 1;
    for (String key : known) {
      int distance = Settings.distance(word, key);
      if (distance < least) {
        least = distance;
        nearest = key;
      }
    }
    return nearest;
  }
}
