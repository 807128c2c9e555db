package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.List;
import java.util.Set;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/// What Qwen3-Next and Qwen3.5 share: three layers of Gated DeltaNet to one of attention with an
/// elementwise gate, zero-centred norms, a quarter of each head turned, and experts of which one
/// takes all tokens.
abstract class QwenHybrid implements Family {
  private static final double SHARE = 0.25;

  /// What `transformers` takes where a key is absent.
  ///
  /// @param experts null for a dense model
  record Defaults(
      int vocabSize,
      int hiddenSize,
      int intermediateSize,
      int layers,
      int heads,
      int keyValueHeads,
      @Nullable Integer experts,
      int perToken) {
    boolean mixture() {
      return experts != null;
    }
  }

  @Override
  public Set<String> keys() {
    return Set.of(
        "intermediate_size",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "router_aux_loss_coef",
        "router_z_loss_coef",
        "partial_rotary_factor",
        "layer_types",
        "full_attention_interval",
        "attn_output_gate",
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim");
  }

  // ---------------------------------------------------------------- reading

  /// @param isSparse which layers of a mixture have experts
  /// @param normalised whether the chosen experts' weights sum to one where nothing says so
  DecoderConfig read(
      ConfigReader config, Defaults defaults, IntPredicate isSparse, boolean normalised) {
    var keys = config.keys();
    int vocabSize = config.size("vocab_size", defaults.vocabSize);
    int hiddenSize = config.size("hidden_size", defaults.hiddenSize);
    int width =
        config.size(
            defaults.mixture() ? "moe_intermediate_size" : "intermediate_size",
            defaults.intermediateSize);
    int layers = config.layers(defaults.layers);
    int heads = config.size("num_attention_heads", defaults.heads);
    int keyValueHeads = config.size("num_key_value_heads", defaults.keyValueHeads);
    int headDim = config.size("head_dim", 256);
    int longest = config.longest();
    var rotary = config.rotary(longest, new RotaryDefaults(10_000, SHARE, true));
    var norm = new RmsNorm(config.epsilon(1e-6), true);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    var experts =
        defaults.mixture()
            ? config.experts(
                defaults.experts,
                defaults.perToken,
                new SharedExpert(
                    config.size("shared_expert_intermediate_size", 512), true, new Glu.Swish()),
                normalised)
            : Experts.NONE;
    var sparse = new FeedForwardConfig(hiddenSize, width, experts);
    var dense = defaults.mixture() ? config.dense(hiddenSize, layers, isSparse, 5632) : sparse;
    List<String> kinds = config.layerTypes(layers, List.of(ConfigReader.FULL, ConfigReader.LINEAR));
    int interval = config.interval("full_attention_interval", 4);
    Boolean gated = keys.flag("attn_output_gate");
    if (gated != null && !gated) {
      throw new InvalidInputException(
          "attn_output_gate is false, but %s always gates attention; remove it"
              .formatted(config.type()));
    }
    var linear = config.deltaNet(hiddenSize, norm);
    config.finish();
    var attention =
        new MixerConfig.SoftmaxAttention(
            new AttentionConfig(hiddenSize, heads, keyValueHeads, headDim, true, norm, rotary)
                .with(List.of(Gate.SDPA_ELEMENTWISE)));
    return ConfigReader.decoder(
        vocabSize,
        layers,
        layer ->
            new LayerConfig(
                isLinear(kinds, layer, interval) ? linear : attention,
                isSparse.test(layer) ? sparse : dense,
                ResidualVariant.PLAIN),
        longest,
        norm,
        tied,
        range);
  }

  private static boolean isLinear(List<String> kinds, int layer, int interval) {
    return kinds.isEmpty()
        ? (layer + 1) % interval != 0
        : kinds.get(layer).equals(ConfigReader.LINEAR);
  }

  // ---------------------------------------------------------------- writing

  @Override
  public GatePacking packing(DecoderConfig decoder) {
    return GatePacking.QUERY_HEAD;
  }

  @Override
  public List<GatePacking> packings() {
    return List.of(GatePacking.QUERY_HEAD);
  }

  void write(DecoderConfig decoder, ObjectNode json) {
    ConfigWriter.common(json, decoder);
    ConfigWriter.attention(json, decoder);
    ConfigWriter.rotary(
        json.putObject("rope_parameters"),
        decoder.firstAttention().orElseThrow().positions().rotary().orElseThrow());
    ConfigWriter.layerTypes(json, decoder);
    ConfigWriter.deltaNet(json, decoder);
    json.put("attn_output_gate", true);
    ConfigWriter.dense(decoder)
        .ifPresent(dense -> json.put("intermediate_size", dense.intermediateSize()));
    ConfigWriter.sparse(decoder)
        .ifPresent(
            sparse -> {
              ConfigWriter.experts(json, sparse);
              json.put("shared_expert_intermediate_size", sparse.experts().shared().width());
            });
  }
}
