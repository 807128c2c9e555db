package dev.sluice.checkpoint;

import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import tools.jackson.databind.node.ObjectNode;

/// The keys of a `config.json` that families write alike.
final class ConfigWriter {
  private ConfigWriter() {}

  static void head(ObjectNode json, String architecture, String type) {
    json.putArray("architectures").add(architecture);
    json.put("model_type", type);
  }

  /// All that Qwen3 and [Sluice] say besides gates and variants, in the order in which older
  /// versions wrote it.
  static void sizes(ObjectNode json, DecoderConfig decoder) {
    var attention = decoder.attention();
    var feedForward =
        decoder.layers().stream()
            .map(LayerConfig::feedForward)
            .filter(layer -> layer.experts().count() > 0)
            .findFirst()
            .orElse(decoder.layers().getFirst().feedForward());
    var dense =
        decoder.layers().stream()
            .map(LayerConfig::feedForward)
            .filter(layer -> layer.experts().count() == 0)
            .findFirst()
            .orElse(feedForward);
    json.put("vocab_size", decoder.vocabSize());
    json.put("hidden_size", decoder.hiddenSize());
    json.put("intermediate_size", dense.intermediateSize());
    if (feedForward.experts().count() > 0) {
      json.put("moe_intermediate_size", feedForward.intermediateSize());
      json.put("num_experts", feedForward.experts().count());
      json.put("num_experts_per_tok", feedForward.experts().perToken());
      sparseLayers(json, decoder);
      json.put("router_aux_loss_coef", feedForward.experts().balance());
      json.put("router_z_loss_coef", feedForward.experts().routerZ());
    }
    json.put("num_hidden_layers", decoder.layers().size());
    json.put("num_attention_heads", attention.attentionHeads());
    json.put("num_key_value_heads", attention.keyValueHeads());
    json.put("head_dim", attention.headDim());
    json.put("max_position_embeddings", decoder.maxPositionEmbeddings());
    json.put("hidden_act", "silu");
    json.put("rms_norm_eps", decoder.norm().epsilon());
    json.put("rope_theta", attention.rotary().theta());
    switch (attention.rotary().scaling()) {
      case RopeScaling.None() -> json.putNull("rope_scaling");
      case RopeScaling.Yarn yarn -> yarn(json.putObject("rope_scaling"), yarn);
    }
    json.put("attention_bias", false);
    json.put("qkv_bias", false); // the paper's code reads this undeclared key
    json.put("use_qk_norm", attention.qkNorm());
    json.put("use_sliding_window", false);
    json.put("tie_word_embeddings", decoder.tieWordEmbeddings());
    json.put("initializer_range", decoder.initializerRange());
    json.put("torch_dtype", "float32");
  }

  /// What every model of `transformers` 5 says.
  static void common(ObjectNode json, DecoderConfig decoder) {
    json.put("vocab_size", decoder.vocabSize());
    json.put("hidden_size", decoder.hiddenSize());
    json.put("num_hidden_layers", decoder.layers().size());
    json.put("max_position_embeddings", decoder.maxPositionEmbeddings());
    json.put("hidden_act", "silu");
    json.put("rms_norm_eps", decoder.norm().epsilon());
    json.put("tie_word_embeddings", decoder.tieWordEmbeddings());
    json.put("initializer_range", decoder.initializerRange());
    json.put("dtype", "float32");
  }

  /// The heads of models whose attention layers are alike.
  static void attention(ObjectNode json, DecoderConfig decoder) {
    var attention = decoder.attention();
    json.put("num_attention_heads", attention.attentionHeads());
    json.put("num_key_value_heads", attention.keyValueHeads());
    json.put("head_dim", attention.headDim());
    json.put("attention_bias", false);
  }

  /// The object `rope_parameters`.
  static void rotary(ObjectNode rope, Rotary rotary) {
    rope.put("rope_theta", rotary.theta());
    if (rotary.share() != 1) {
      rope.put("partial_rotary_factor", rotary.share());
    }
    switch (rotary.scaling()) {
      case RopeScaling.None() -> rope.put("rope_type", "default");
      case RopeScaling.Yarn yarn -> yarn(rope, yarn);
    }
  }

  private static void yarn(ObjectNode rope, RopeScaling.Yarn yarn) {
    rope.put("rope_type", "yarn");
    rope.put("factor", yarn.factor());
    rope.put("original_max_position_embeddings", yarn.originalMaxPositionEmbeddings());
    rope.put("beta_fast", yarn.betaFast());
    rope.put("beta_slow", yarn.betaSlow());
    rope.put("truncate", yarn.truncate());
    Double attentionFactor = yarn.attentionFactor();
    if (attentionFactor != null) {
      rope.put("attention_factor", attentionFactor);
    }
  }

  /// What each layer is, and the shape of those of Gated DeltaNet, where there are any.
  static void layerTypes(ObjectNode json, DecoderConfig decoder) {
    var net =
        decoder.layers().stream()
            .map(LayerConfig::mixer)
            .filter(MixerConfig.DeltaNet.class::isInstance)
            .map(MixerConfig.DeltaNet.class::cast)
            .map(MixerConfig.DeltaNet::config)
            .findFirst();
    if (net.isEmpty()) {
      return;
    }
    var types = json.putArray("layer_types");
    for (var layer : decoder.layers()) {
      types.add(layer.attention().isPresent() ? ConfigReader.FULL : ConfigReader.LINEAR);
    }
    json.put("linear_num_key_heads", net.get().heads().keyHeads());
    json.put("linear_num_value_heads", net.get().heads().valueHeads());
    json.put("linear_key_head_dim", net.get().heads().keyWidth());
    json.put("linear_value_head_dim", net.get().heads().valueWidth());
    json.put("linear_conv_kernel_dim", net.get().convolutionWidth());
  }

  /// The experts of a layer.
  static void experts(ObjectNode json, FeedForwardConfig sparse) {
    json.put("moe_intermediate_size", sparse.intermediateSize());
    json.put("num_experts", sparse.experts().count());
    json.put("num_experts_per_tok", sparse.experts().perToken());
    json.put("router_aux_loss_coef", sparse.experts().balance());
    if (sparse.experts().routerZ() != 0) {
      json.put("router_z_loss_coef", sparse.experts().routerZ());
    }
  }

  /// Which layers have no experts.
  static void sparseLayers(ObjectNode json, DecoderConfig decoder) {
    json.put("norm_topk_prob", true);
    json.put("decoder_sparse_step", 1);
    var dense = json.putArray("mlp_only_layers");
    for (int layer = 0; layer < decoder.layers().size(); layer++) {
      if (decoder.layers().get(layer).feedForward().experts().count() == 0) {
        dense.add(layer);
      }
    }
  }
}
