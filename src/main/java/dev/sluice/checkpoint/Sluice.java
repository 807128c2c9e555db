package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
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
    int layers = config.size("num_hidden_layers", null);
    int heads = config.size("num_attention_heads", null);
    int keyValueHeads =
        keys.names("num_key_value_heads") && !keys.has("num_key_value_heads")
            ? heads
            : config.size("num_key_value_heads", null);
    int headDim = config.size("head_dim", null);
    int longest = config.longest();
    var rotary = config.rotary(longest, RotaryDefaults.WHOLE);
    var norm = new RmsNorm(config.epsilon(1e-6), false);
    boolean qkNorm = config.flag("use_qk_norm", true);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    var gates = gates(config);
    var residual = residual(config);
    var experts = mixture ? config.experts(null, null, 0, false) : Experts.NONE;
    if (mixture) {
      var _ = keys.integer("intermediate_size"); // written by older versions
    }
    var attention =
        new MixerConfig.SoftmaxAttention(
            new AttentionConfig(
                hiddenSize,
                heads,
                keyValueHeads,
                headDim,
                qkNorm,
                norm,
                rotary,
                gates,
                variant(config)));
    List<String> kinds =
        config.layerTypes(layers, List.of(ConfigReader.FULL, "attention", ConfigReader.LINEAR));
    var linear =
        kinds.contains(ConfigReader.LINEAR) ? config.deltaNet(hiddenSize, norm) : attention;
    boolean windows = config.flag("use_sliding_window", false);
    if (windows) {
      throw new InvalidInputException(
          "use_sliding_window is true, which Sluice does not compute; only full attention is");
    }
    var packing = keys.word(GatePacking.KEY);
    var feedForward = new FeedForwardConfig(hiddenSize, width, experts);
    config.finish();
    return config.model(
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    !kinds.isEmpty() && kinds.get(layer).equals(ConfigReader.LINEAR)
                        ? linear
                        : attention,
                    feedForward,
                    residual),
            longest,
            norm,
            tied,
            range),
        this,
        packing == null ? GatePacking.SEPARATE : GatePacking.parse(packing));
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
  public GatePacking packing(DecoderConfig decoder) {
    return GatePacking.SEPARATE;
  }

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    var decoder = model.decoder();
    var attention = decoder.attention();
    ConfigWriter.head(json, "SluiceForCausalLM", TYPE);
    ConfigWriter.sizes(json, decoder);
    ConfigWriter.layerTypes(json, decoder);
    var gates = json.putArray("gates");
    attention.gates().forEach(gate -> gates.add(gate.name()));
    json.put("softmax_sink", attention.variant().sink().word());
    json.put("exclusive_attention", attention.variant().exclusive());
    json.put("sdpa_nonlinearity", attention.variant().nonlinearity().word());
    json.put("switch_head", attention.variant().switchHead().word());
    json.put("sandwich_norm", decoder.residual().sandwichNorm());
    json.put("residual_clip", decoder.residual().residualClip());
    json.put("gated_norm_rank", decoder.residual().gatedNormRank());
    if (model.packedGate() != null || model.packing() == GatePacking.MEGATRON_QKV) {
      json.put(GatePacking.KEY, model.packing().word());
    }
  }
}
