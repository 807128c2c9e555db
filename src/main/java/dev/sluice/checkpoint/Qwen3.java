package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Activation;
import dev.sluice.gate.Combination;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInit;
import dev.sluice.gate.GateInput;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.Granularity;
import dev.sluice.gate.Sharing;
import dev.sluice.tensor.RmsNorm;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.function.IntPredicate;
import java.util.function.IntUnaryOperator;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/// Qwen3 and Qwen3-MoE (`configuration_qwen3.py`, `configuration_qwen3_moe.py`), and the paper's
/// models, which are Qwen3 with two flags for its gates (qiuzh20/gated_attention).
final class Qwen3 implements Family {
  private static final String DENSE = "qwen3";
  private static final String MIXTURE = "qwen3_moe";
  private static final String HEADWISE = "headwise_attn_output_gate";
  private static final String ELEMENTWISE = "elementwise_attn_output_gate";

  /// The paper's flags.
  static final List<String> FLAGS = List.of(HEADWISE, ELEMENTWISE);

  @Override
  public Set<String> modelTypes() {
    return Set.of(DENSE, MIXTURE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("Qwen3ForCausalLM", "Qwen3Model", "Qwen3MoeForCausalLM", "Qwen3MoeModel");
  }

  @Override
  public Set<String> keys() {
    return Set.of(
        "intermediate_size",
        "moe_intermediate_size",
        "use_qk_norm",
        HEADWISE,
        ELEMENTWISE,
        GatePacking.KEY,
        "layer_types",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "norm_topk_prob",
        "decoder_sparse_step",
        "mlp_only_layers",
        "router_aux_loss_coef",
        "router_z_loss_coef");
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    boolean mixture = config.type().equals(MIXTURE);
    var keys = config.keys();
    int vocabSize = config.size("vocab_size", 151_936);
    int hiddenSize = config.size("hidden_size", mixture ? 2048 : 4096);
    int width =
        mixture
            ? config.size("moe_intermediate_size", 768)
            : config.size("intermediate_size", 22_016);
    int layers = config.layers(mixture ? 24 : 32);
    int heads = config.size("num_attention_heads", 32);
    int keyValueHeads =
        !mixture && keys.names("num_key_value_heads") && !keys.has("num_key_value_heads")
            ? heads
            : config.size("num_key_value_heads", mixture ? 4 : 32);
    int headDim = config.size("head_dim", mixture ? hiddenSize / Math.max(1, heads) : 128);
    int longest = config.longest();
    var rotary = config.rotary(longest, RotaryDefaults.WHOLE);
    var norm = new RmsNorm(config.epsilon(1e-6), false);
    boolean qkNorm = config.flag("use_qk_norm", true);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    var gates = gates(config);
    IntPredicate isSparse = mixture ? config.sparseLayers() : _ -> false;
    var experts = mixture ? config.experts(128, 8, SharedExpert.NONE, false) : Experts.NONE;
    var packing = packing(config, gates);
    IntUnaryOperator window = windows(config, layers);
    var sparse = new FeedForwardConfig(hiddenSize, width, experts);
    var dense = mixture ? config.dense(hiddenSize, layers, isSparse, 6144) : sparse;
    config.finish();
    var attention =
        new AttentionConfig(hiddenSize, heads, keyValueHeads, headDim, qkNorm, norm, rotary)
            .with(gates);
    return config.model(
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    attention.with(attention.positions().withWindow(window.applyAsInt(layer))),
                    isSparse.test(layer) ? sparse : dense,
                    ResidualVariant.PLAIN),
            longest,
            norm,
            tied,
            range),
        this,
        packing);
  }

  /// The paper's two flags; its code tests the headwise one first.
  private static List<Gate> gates(ConfigReader config) {
    boolean headwise = config.flag(HEADWISE, false);
    boolean elementwise = config.flag(ELEMENTWISE, false);
    if (headwise && elementwise) {
      config.note(
          "%s and %s are both true; the former counts, as in the paper's code"
              .formatted(HEADWISE, ELEMENTWISE));
    }
    return headwise
        ? List.of(Gate.SDPA_HEADWISE)
        : elementwise ? List.of(Gate.SDPA_ELEMENTWISE) : List.of();
  }

  private static GatePacking packing(ConfigReader config, List<Gate> gates) {
    String packing = config.keys().word(GatePacking.KEY);
    if (packing == null) {
      return GatePacking.KEY_VALUE_GROUP;
    }
    var parsed = GatePacking.parse(packing);
    boolean packsGates = parsed == GatePacking.KEY_VALUE_GROUP || parsed == GatePacking.QUERY_HEAD;
    if (packsGates && gates.isEmpty()) {
      config.note("gate_packing %s has no effect, since no gate is packed".formatted(packing));
    }
    return parsed;
  }

  /// The window of each layer: `qwen3` has them in the layers from `max_window_layers` on, unless
  /// `layer_types` says otherwise; `qwen3_moe` in all.
  private static IntUnaryOperator windows(ConfigReader config, int layers) {
    var keys = config.keys();
    boolean mixture = config.type().equals(MIXTURE);
    List<String> kinds =
        config.layerTypes(layers, List.of(ConfigReader.FULL, ConfigReader.SLIDING, "attention"));
    boolean used = config.flag("use_sliding_window", false);
    Integer window =
        keys.names("sliding_window") ? keys.integer("sliding_window") : Integer.valueOf(4096);
    int first = Objects.requireNonNullElse(keys.integer("max_window_layers"), 28);
    if (!used || window == null) {
      if (!mixture && kinds.contains(ConfigReader.SLIDING)) {
        throw new InvalidInputException(
            "layer_types names %s, but %s; give the window or name the layers %s"
                .formatted(
                    ConfigReader.SLIDING,
                    used ? "sliding_window is null" : "use_sliding_window is not true",
                    ConfigReader.FULL));
      }
      return _ -> 0;
    }
    if (window < 1) {
      throw new InvalidInputException("sliding_window must be positive, not " + window);
    }
    return layer ->
        mixture
                || (kinds.isEmpty()
                    ? layer >= first
                    : kinds.get(layer).equals(ConfigReader.SLIDING))
            ? window
            : 0;
  }

  // ---------------------------------------------------------------- writing

  /// Whether the paper's code or `transformers` can compute the model: no gate or one of the
  /// paper's two, or experts without a gate.
  @Override
  public boolean writes(DecoderConfig decoder) {
    var gates =
        decoder.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .map(AttentionConfig::gates)
            .distinct()
            .toList();
    if (gates.size() != 1) {
      return false;
    }
    if (gates.getFirst().isEmpty()) {
      return Family.super.writes(decoder);
    }
    Gate gate = paperGate(gates.getFirst());
    return gate != null
        && ConfigWriter.sparse(decoder).isEmpty()
        // how its weights begin is of no matter once they are there
        && Family.super.writes(
            decoder.with(List.of(Gate.SDPA_ELEMENTWISE.with(gate.granularity()))));
  }

  /// The gate, if it is the only one and one of those that the paper's code and others pack into
  /// `q_proj`; else null.
  static @Nullable Gate paperGate(List<Gate> gates) {
    if (gates.size() != 1) {
      return null;
    }
    Gate gate = gates.getFirst();
    return gate.position() == GatePosition.SDPA_OUTPUT
            && gate.sharing() == Sharing.HEAD_SPECIFIC
            && gate.combination() == Combination.MULTIPLICATIVE
            && gate.activation() instanceof Activation.Sigmoid
            && gate.input() instanceof GateInput.HiddenState
            && !(gate.init() instanceof GateInit.Bias)
        ? gate
        : null;
  }

  @Override
  public GatePacking packing(DecoderConfig decoder) {
    return GatePacking.KEY_VALUE_GROUP;
  }

  @Override
  public void write(ModelConfig model, ObjectNode json) {
    var decoder = model.decoder();
    boolean mixture = ConfigWriter.sparse(decoder).isPresent();
    ConfigWriter.head(
        json, mixture ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM", mixture ? MIXTURE : DENSE);
    ConfigWriter.sizes(json, decoder);
    if (!mixture && ConfigWriter.windows(decoder).isPresent()) {
      ConfigWriter.layerTypes(json, decoder);
    }
    Gate gate = paperGate(decoder.firstAttention().orElseThrow().gates());
    if (!mixture || gate != null) {
      json.put(HEADWISE, gate != null && gate.granularity() == Granularity.HEADWISE);
      json.put(ELEMENTWISE, gate != null && gate.granularity() == Granularity.ELEMENTWISE);
    }
    if (gate != null || model.packing() == GatePacking.MEGATRON_QKV) {
      json.put(GatePacking.KEY, model.packing().word());
    }
  }
}
