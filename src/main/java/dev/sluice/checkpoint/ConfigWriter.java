package dev.sluice.checkpoint;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.Router.Weighting;
import java.util.List;
import java.util.Optional;
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
    var attention = decoder.firstAttention();
    var sparse = sparse(decoder);
    json.put("vocab_size", decoder.vocabSize());
    json.put("hidden_size", decoder.hiddenSize());
    json.put("intermediate_size", dense(decoder).or(() -> sparse).orElseThrow().intermediateSize());
    if (sparse.isPresent()) {
      var experts = sparse.get().experts();
      json.put("moe_intermediate_size", sparse.get().intermediateSize());
      json.put("num_experts", experts.count());
      json.put("num_experts_per_tok", experts.perToken());
      sparseLayers(json, decoder);
      json.put("router_aux_loss_coef", experts.balance());
      json.put("router_z_loss_coef", experts.routerZ());
    }
    json.put("num_hidden_layers", decoder.layers().size());
    attention.ifPresent(each -> heads(json, each));
    json.put("max_position_embeddings", decoder.maxPositionEmbeddings());
    json.put("hidden_act", "silu");
    json.put("rms_norm_eps", decoder.norm().epsilon());
    attention.ifPresent(each -> rotation(json, each.positions().rotary().orElseThrow()));
    json.put("attention_bias", false);
    json.put("qkv_bias", false); // the paper's code reads this undeclared key
    attention.ifPresent(each -> json.put("use_qk_norm", each.qkNorm()));
    var windows = windows(decoder);
    json.put("use_sliding_window", windows.isPresent());
    windows.ifPresent(window -> json.put("sliding_window", window));
    json.put("tie_word_embeddings", decoder.tieWordEmbeddings());
    json.put("initializer_range", decoder.initializerRange());
    json.put("torch_dtype", "float32");
  }

  private static void heads(ObjectNode json, AttentionConfig attention) {
    json.put("num_attention_heads", attention.attentionHeads());
    json.put("num_key_value_heads", attention.keyValueHeads());
    json.put("head_dim", attention.headDim());
  }

  /// In the older spelling.
  private static void rotation(ObjectNode json, Rotary rotary) {
    json.put("rope_theta", rotary.theta());
    switch (rotary.scaling()) {
      case RopeScaling.None() -> json.putNull("rope_scaling");
      case RopeScaling.Linear linear ->
          factor(json.putObject("rope_scaling"), "linear", linear.factor());
      case RopeScaling.Dynamic dynamic ->
          factor(json.putObject("rope_scaling"), "dynamic", dynamic.factor());
      case RopeScaling.Yarn yarn -> yarn(json.putObject("rope_scaling"), yarn);
      case RopeScaling.Llama3 llama -> llama3(json.putObject("rope_scaling"), llama);
      case RopeScaling.Factors factors -> longRope(json.putObject("rope_scaling"), factors);
    }
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
    var attention = decoder.firstAttention().orElseThrow();
    heads(json, attention);
    json.put("attention_bias", attention.biases().queryKeyValue());
  }

  /// The object `rope_parameters`.
  static void rotary(ObjectNode rope, Rotary rotary) {
    rope.put("rope_theta", rotary.theta());
    if (rotary.share() != 1) {
      rope.put("partial_rotary_factor", rotary.share());
    }
    switch (rotary.scaling()) {
      case RopeScaling.None() -> rope.put("rope_type", "default");
      case RopeScaling.Linear linear -> factor(rope, "linear", linear.factor());
      case RopeScaling.Dynamic dynamic -> factor(rope, "dynamic", dynamic.factor());
      case RopeScaling.Yarn yarn -> yarn(rope, yarn);
      case RopeScaling.Llama3 llama -> llama3(rope, llama);
      case RopeScaling.Factors factors -> longRope(rope, factors);
    }
  }

  private static void factor(ObjectNode rope, String type, double factor) {
    rope.put("rope_type", type);
    rope.put("factor", factor);
  }

  private static void llama3(ObjectNode rope, RopeScaling.Llama3 llama) {
    rope.put("rope_type", "llama3");
    rope.put("factor", llama.factor());
    rope.put("original_max_position_embeddings", llama.originalMaxPositionEmbeddings());
    rope.put("low_freq_factor", llama.lowFrequencyFactor());
    rope.put("high_freq_factor", llama.highFrequencyFactor());
  }

  /// The factors of short texts are those of long ones, and scores are not scaled.
  static void longRope(ObjectNode rope, RopeScaling.Factors factors) {
    rope.put("rope_type", "longrope");
    for (String key : List.of("short_factor", "long_factor")) {
      var list = rope.putArray(key);
      factors.factors().forEach(list::add);
    }
    rope.put("attention_factor", 1.0);
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

  /// Those of the layers that have a window; empty where none has.
  static Optional<Integer> windows(DecoderConfig decoder) {
    return decoder.layers().stream()
        .flatMap(layer -> layer.attention().stream())
        .map(attention -> attention.positions().window())
        .filter(window -> window > 0)
        .findFirst();
  }

  /// The first layer's of those with experts.
  static Optional<FeedForwardConfig> sparse(DecoderConfig decoder) {
    return decoder.layers().stream()
        .map(LayerConfig::feedForward)
        .filter(feedForward -> feedForward.experts().count() > 0)
        .findFirst();
  }

  /// The first layer's of those without.
  static Optional<FeedForwardConfig> dense(DecoderConfig decoder) {
    return decoder.layers().stream()
        .map(LayerConfig::feedForward)
        .filter(feedForward -> feedForward.experts().count() == 0)
        .findFirst();
  }

  /// What each layer is.
  static void layerTypes(ObjectNode json, DecoderConfig decoder) {
    var types = json.putArray("layer_types");
    for (var layer : decoder.layers()) {
      types.add(
          layer
              .attention()
              .map(
                  attention ->
                      attention.positions().window() > 0 ? ConfigReader.SLIDING : ConfigReader.FULL)
              .orElse(ConfigReader.LINEAR));
    }
  }

  /// The shape of the layers of Gated DeltaNet, where there are any.
  static void deltaNet(ObjectNode json, DecoderConfig decoder) {
    for (var layer : decoder.layers()) {
      if (layer.mixer() instanceof MixerConfig.DeltaNet(var net)) {
        json.put("linear_num_key_heads", net.heads().keyHeads());
        json.put("linear_num_value_heads", net.heads().valueHeads());
        json.put("linear_key_head_dim", net.heads().keyWidth());
        json.put("linear_value_head_dim", net.heads().valueWidth());
        json.put("linear_conv_kernel_dim", net.convolutionWidth());
        return;
      }
    }
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

  /// How experts are weighted, and which layers have none.
  static void sparseLayers(ObjectNode json, DecoderConfig decoder) {
    boolean shares =
        sparse(decoder).orElseThrow().experts().router().weighting() instanceof Weighting.Shares;
    json.put("norm_topk_prob", shares);
    json.put("decoder_sparse_step", 1);
    var dense = json.putArray("mlp_only_layers");
    for (int layer = 0; layer < decoder.layers().size(); layer++) {
      if (decoder.layers().get(layer).feedForward().experts().count() == 0) {
        dense.add(layer);
      }
    }
  }
}
