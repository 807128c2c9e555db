package dev.sluice.checkpoint;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.Biases;
import dev.sluice.attention.Positions;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import tools.jackson.databind.node.ObjectNode;

/// AFMoE, the Trinity models (`configuration_afmoe.py`, `modeling_afmoe.py`): an elementwise gate
/// with a matrix of its own, windows with rotation in all layers but every fourth, which has
/// neither, norms before and after each sublayer, and experts chosen by sigmoids.
final class Afmoe implements Family {
  private static final String TYPE = "afmoe";

  /// Our names within a layer, and theirs.
  private static final List<List<String>> NAMES =
      List.of(
          List.of("attention_output_layernorm.", "post_attention_layernorm."),
          List.of("post_attention_layernorm.", "pre_mlp_layernorm."),
          List.of("mlp_output_layernorm.", "post_mlp_layernorm."),
          List.of(ModelDirectory.GATE, "self_attn.gate_proj.weight"),
          List.of("mlp.gate.weight", "mlp.router.gate.weight"),
          List.of("mlp.gate.e_score_correction_bias", "mlp.expert_bias"),
          List.of("mlp.shared_expert.", "mlp.shared_experts."));

  @Override
  public Set<String> modelTypes() {
    return Set.of(TYPE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("AfmoeForCausalLM", "AfmoeModel");
  }

  @Override
  public Set<String> keys() {
    return Set.of(
        "intermediate_size",
        "moe_intermediate_size",
        "num_dense_layers",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "num_shared_experts",
        "route_scale",
        "route_norm",
        "score_func",
        "global_attn_every_n_layers",
        "layer_types",
        "sliding_window",
        "mup_enabled",
        "attention_bias");
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    var keys = config.keys();
    int vocabSize = config.size("vocab_size", 200_192);
    int hiddenSize = config.size("hidden_size", 2048);
    int width = config.size("intermediate_size", 6144);
    int expertWidth = config.size("moe_intermediate_size", 1408);
    int layers = config.layers(32);
    int dense = config.size("num_dense_layers", 1);
    int heads = config.size("num_attention_heads", 16);
    int keyValueHeads =
        keys.has("num_key_value_heads") ? config.size("num_key_value_heads", 0) : heads;
    int headDim = config.size("head_dim", 128);
    int longest = config.longest(16_384);
    var rotary = config.rotary(longest, RotaryDefaults.WHOLE);
    var norm = new RmsNorm(config.epsilon(1e-5), false);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    config.require("score_func", "sigmoid");
    config.require("route_norm", true);
    var experts =
        new Experts(
            config.expertCount(64),
            config.size("num_experts_per_tok", 6),
            new Router(
                Router.Score.SIGMOID,
                new Router.Weighting.Shares(1e-20),
                config.number("route_scale", 1),
                false,
                true,
                0),
            shared(config, expertWidth),
            0,
            0);
    int every = config.interval("global_attn_every_n_layers", 4);
    List<String> kinds =
        config.layerTypes(
            layers,
            List.of(ConfigReader.SLIDING, ConfigReader.FULL),
            layer -> (layer + 1) % every == 0 ? ConfigReader.FULL : ConfigReader.SLIDING);
    int window = config.window(kinds, 1024);
    boolean scaled = config.flag("mup_enabled", false);
    boolean biases = config.flag("attention_bias", false);
    config.finish();
    var attention =
        new AttentionConfig(hiddenSize, heads, keyValueHeads, headDim, true, norm, rotary)
            .with(new Biases(biases, biases))
            .with(List.of(Gate.SDPA_ELEMENTWISE));
    var sliding = attention.with(new Positions(Optional.of(rotary), window));
    var full = attention.with(Positions.NONE);
    var sparse = new FeedForwardConfig(hiddenSize, expertWidth, experts);
    var plain = new FeedForwardConfig(hiddenSize, width, Experts.NONE);
    var decoder =
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    kinds.get(layer).equals(ConfigReader.FULL) ? full : sliding,
                    layer < dense ? plain : sparse,
                    new ResidualVariant(true, 0, 0)),
            longest,
            norm,
            tied,
            range);
    return config.model(
        scaled ? decoder.withEmbeddingMultiplier(Math.sqrt(hiddenSize)) : decoder,
        this,
        GatePacking.SEPARATE);
  }

  /// All shared experts as one.
  private static SharedExpert shared(ConfigReader config, int expertWidth) {
    int count = config.size("num_shared_experts", 2);
    AttentionConfig.requireWidth(
        "num_shared_experts %d of moe_intermediate_size %d".formatted(count, expertWidth),
        (double) count * expertWidth);
    return new SharedExpert(count * expertWidth, false, new Glu.Swish());
  }

  // ---------------------------------------------------------------- writing

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    var decoder = model.decoder();
    ConfigWriter.head(json, "AfmoeForCausalLM", TYPE);
    ConfigWriter.common(json, decoder);
    ConfigWriter.attention(json, decoder);
    var rotary =
        decoder.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .flatMap(attention -> attention.positions().rotary().stream())
            .findFirst();
    ConfigWriter.rotary(json.putObject("rope_parameters"), rotary.orElseThrow());
    ConfigWriter.layerTypes(json, decoder);
    ConfigWriter.windows(decoder).ifPresent(window -> json.put("sliding_window", window));
    var sparse = ConfigWriter.sparse(decoder).orElseThrow();
    json.put(
        "num_dense_layers",
        decoder.layers().stream()
            .filter(layer -> layer.feedForward().experts().count() == 0)
            .count());
    ConfigWriter.dense(decoder)
        .ifPresent(dense -> json.put("intermediate_size", dense.intermediateSize()));
    json.put("moe_intermediate_size", sparse.intermediateSize());
    json.put("num_experts", sparse.experts().count());
    json.put("num_experts_per_tok", sparse.experts().perToken());
    json.put("num_shared_experts", sparse.experts().shared().width() / sparse.intermediateSize());
    json.put("route_scale", sparse.experts().router().scale());
    json.put("mup_enabled", decoder.embeddingMultiplier() != 1);
  }

  @Override
  public List<Placement> places(ModelConfig model, Parameter parameter) {
    return Placement.usual(model, parameter, parameter.renamed(NAMES));
  }
}
