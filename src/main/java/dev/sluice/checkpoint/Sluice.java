package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.function.IntPredicate;
import tools.jackson.databind.node.ObjectNode;

/// What no other family can say: any gates, by their names, and all other variants. All keys are
/// written.
final class Sluice implements Family {
  static final String TYPE = "sluice";

  /// Keys of no other family.
  static final List<String> OWN =
      List.of(
          "gates",
          "softmax_sink",
          "exclusive_attention",
          "sdpa_nonlinearity",
          "switch_head",
          "sandwich_norm",
          "residual_clip",
          "gated_norm_rank");

  @Override
  public Set<String> modelTypes() {
    return Set.of(TYPE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("SluiceForCausalLM");
  }

  @Override
  public Set<String> keys() {
    var keys = new LinkedHashSet<>(new Qwen3().keys());
    keys.addAll(
        List.of(
            "linear_num_key_heads",
            "linear_num_value_heads",
            "linear_key_head_dim",
            "linear_value_head_dim",
            "linear_conv_kernel_dim"));
    keys.addAll(OWN);
    return keys;
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    var keys = config.keys();
    boolean mixture = keys.has("num_experts");
    int vocabSize = config.size("vocab_size", null);
    int hiddenSize = config.size("hidden_size", null);
    int width = config.size(mixture ? "moe_intermediate_size" : "intermediate_size", null);
    int layers = config.layers(null);
    int longest = config.longest();
    var norm = new RmsNorm(config.epsilon(1e-6), false);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    var residual = residual(config);
    var experts = mixture ? config.experts(null, null, SharedExpert.NONE, false) : Experts.NONE;
    List<String> kinds = kinds(config, layers);
    int window = config.window(kinds, null);
    var _ = config.flag("use_sliding_window", false); // told by the layers
    Map<String, MixerConfig> mixers = new HashMap<>();
    if (kinds.contains(ConfigReader.LINEAR)) {
      mixers.put(ConfigReader.LINEAR, config.deltaNet(hiddenSize, norm));
    }
    var gates = gates(config);
    var variant = variant(config);
    if (kinds.stream().anyMatch(kind -> !kind.equals(ConfigReader.LINEAR))) {
      var attention = attention(config, hiddenSize, longest, norm).with(gates).with(variant);
      mixers.put(ConfigReader.FULL, new MixerConfig.SoftmaxAttention(attention));
      mixers.put(
          ConfigReader.SLIDING,
          new MixerConfig.SoftmaxAttention(
              attention.with(attention.positions().withWindow(window))));
    }
    var packing = keys.word(GatePacking.KEY);
    IntPredicate isSparse = mixture ? config.sparseLayers() : _ -> true;
    var feedForward = new FeedForwardConfig(hiddenSize, width, experts);
    var dense = mixture ? config.dense(hiddenSize, layers, isSparse, width) : feedForward;
    config.finish();
    return config.model(
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    Objects.requireNonNull(mixers.get(kinds.get(layer))),
                    isSparse.test(layer) ? feedForward : dense,
                    residual),
            longest,
            norm,
            tied,
            range),
        this,
        packing == null ? GatePacking.SEPARATE : GatePacking.parse(packing));
  }

  private static AttentionConfig attention(
      ConfigReader config, int hiddenSize, int longest, RmsNorm norm) {
    var keys = config.keys();
    int heads = config.size("num_attention_heads", null);
    int keyValueHeads =
        keys.names("num_key_value_heads") && !keys.has("num_key_value_heads")
            ? heads
            : config.size("num_key_value_heads", null);
    return new AttentionConfig(
        hiddenSize,
        heads,
        keyValueHeads,
        config.size("head_dim", null),
        config.flag("use_qk_norm", true),
        norm,
        config.rotary(longest, RotaryDefaults.WHOLE));
  }

  private static List<String> kinds(ConfigReader config, int layers) {
    List<String> kinds =
        config.layerTypes(
            layers,
            List.of(ConfigReader.FULL, ConfigReader.SLIDING, ConfigReader.LINEAR, "attention"));
    return kinds.isEmpty()
        ? Collections.nCopies(Math.max(0, layers), ConfigReader.FULL)
        : kinds.stream().map(kind -> kind.equals("attention") ? ConfigReader.FULL : kind).toList();
  }

  private static List<Gate> gates(ConfigReader config) {
    for (String flag : Qwen3.FLAGS) {
      if (config.flag(flag, false)) {
        throw new InvalidInputException(
            flag + " is read with model_type qwen3 alone; name the gate under gates");
      }
    }
    List<String> names = config.keys().words("gates");
    if (names == null) {
      throw config.missing("gates");
    }
    return names.stream().map(Gate::parse).toList();
  }

  private static AttentionVariant variant(ConfigReader config) {
    return new AttentionVariant(
        SoftmaxSink.parse(config.word("softmax_sink", "none")),
        config.flag("exclusive_attention", false),
        SdpaNonlinearity.parse(config.word("sdpa_nonlinearity", "none")),
        SwitchHead.parse(config.word("switch_head", "none")));
  }

  private static ResidualVariant residual(ConfigReader config) {
    return new ResidualVariant(
        config.flag("sandwich_norm", false),
        config.number("residual_clip", 0),
        Objects.requireNonNullElse(config.keys().integer("gated_norm_rank"), 0));
  }

  // ---------------------------------------------------------------- writing

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    var decoder = model.decoder();
    ConfigWriter.head(json, "SluiceForCausalLM", TYPE);
    ConfigWriter.sizes(json, decoder);
    if (decoder.layers().stream().anyMatch(layer -> layer.attention().isEmpty())
        || ConfigWriter.windows(decoder).isPresent()) {
      ConfigWriter.layerTypes(json, decoder);
      ConfigWriter.deltaNet(json, decoder);
    }
    var attention = decoder.firstAttention();
    var gates = json.putArray("gates");
    attention.ifPresent(each -> each.gates().forEach(gate -> gates.add(gate.name())));
    var variant = attention.map(AttentionConfig::variant).orElse(AttentionVariant.PLAIN);
    json.put("softmax_sink", variant.sink().word());
    json.put("exclusive_attention", variant.exclusive());
    json.put("sdpa_nonlinearity", variant.nonlinearity().word());
    json.put("switch_head", variant.switchHead().word());
    json.put("sandwich_norm", decoder.residual().sandwichNorm());
    json.put("residual_clip", decoder.residual().residualClip());
    json.put("gated_norm_rank", decoder.residual().gatedNormRank());
    if (model.packedGate() != null || model.packing() == GatePacking.MEGATRON_QKV) {
      json.put(GatePacking.KEY, model.packing().word());
    }
  }
}
