package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.Biases;
import dev.sluice.attention.Positions;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Activation;
import dev.sluice.gate.Gate;
import dev.sluice.gate.Granularity;
import dev.sluice.tensor.RmsNorm;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import tools.jackson.databind.JsonNode;

/// Laguna (`configuration_laguna.py`, `modeling_laguna.py`): a softplus gate, headwise or
/// elementwise, and layers that differ in their heads, windows and rotation. It is read, not
/// written.
final class Laguna implements Family {
  private static final String TYPE = "laguna";
  private static final String SHARED = "mlp.shared_expert.";
  private static final String CORRECTION = "mlp.gate.e_score_correction_bias";

  @Override
  public Set<String> modelTypes() {
    return Set.of(TYPE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("LagunaForCausalLM", "LagunaModel");
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
        "router_aux_loss_coef",
        "layer_types",
        "mlp_layer_types",
        "sliding_window",
        "gating",
        "num_attention_heads_per_layer",
        "moe_routed_scaling_factor",
        "moe_apply_router_weight_on_input",
        "moe_router_logit_softcapping",
        "attention_bias");
  }

  @Override
  public ModelConfig read(ConfigReader config) {
    int vocabSize = config.size("vocab_size", 100_352);
    int hiddenSize = config.size("hidden_size", 2048);
    int width = config.size("intermediate_size", 8192);
    int expertWidth = config.size("moe_intermediate_size", 512);
    int layers = config.layers(40);
    int heads = config.size("num_attention_heads", 48);
    int keyValueHeads = config.size("num_key_value_heads", 8);
    int headDim = config.size("head_dim", 128);
    int longest = config.longest(131_072);
    var norm = new RmsNorm(config.epsilon(1e-6), false);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    config.require("moe_apply_router_weight_on_input", false);
    var experts =
        new Experts(
            config.expertCount(256),
            config.size("num_experts_per_tok", 8),
            new Router(
                Router.Score.SIGMOID,
                new Router.Weighting.Shares(0),
                config.number("moe_routed_scaling_factor", 1),
                false,
                true,
                config.number("moe_router_logit_softcapping", 0)),
            new SharedExpert(
                config.size("shared_expert_intermediate_size", 512), false, new Glu.Swish()),
            config.number("router_aux_loss_coef", 1e-3),
            0);
    List<String> kinds =
        config.layerTypes(
            layers, List.of(ConfigReader.FULL, ConfigReader.SLIDING), _ -> ConfigReader.FULL);
    List<String> forms =
        config.kinds(
            "mlp_layer_types",
            layers,
            List.of("dense", "sparse"),
            layer -> layer == 0 ? "dense" : "sparse");
    List<Integer> headsOf = heads(config, layers, heads);
    int window = config.window(kinds, 512);
    Map<String, Rotary> rotary = new HashMap<>();
    for (String kind : new LinkedHashSet<>(kinds)) {
      rotary.put(
          kind,
          config.rotary(
              kind,
              longest,
              kind.equals(ConfigReader.FULL)
                  ? new RotaryDefaults(500_000, 0.5, false)
                  : new RotaryDefaults(10_000, 1.0, false)));
    }
    boolean biases = config.flag("attention_bias", false);
    var gate = gate(config);
    config.finish();
    var sparse = new FeedForwardConfig(hiddenSize, expertWidth, experts);
    var dense = new FeedForwardConfig(hiddenSize, width, Experts.NONE);
    return config.model(
        ConfigReader.decoder(
            vocabSize,
            layers,
            layer ->
                new LayerConfig(
                    new AttentionConfig(
                            hiddenSize,
                            headsOf.get(layer),
                            keyValueHeads,
                            headDim,
                            true,
                            norm,
                            Objects.requireNonNull(rotary.get(kinds.get(layer))))
                        .with(
                            new Positions(
                                Optional.ofNullable(rotary.get(kinds.get(layer))),
                                kinds.get(layer).equals(ConfigReader.SLIDING) ? window : 0))
                        .with(new Biases(biases, biases))
                        .with(List.of(gate)),
                    forms.get(layer).equals("sparse") ? sparse : dense,
                    ResidualVariant.PLAIN),
            longest,
            norm,
            tied,
            range),
        this,
        GatePacking.SEPARATE);
  }

  private static List<Integer> heads(ConfigReader config, int layers, int heads) {
    JsonNode given = config.keys().value("num_attention_heads_per_layer");
    List<Integer> each = new ArrayList<>();
    if (given != null) {
      for (JsonNode layer : given) {
        if (layer.isIntegralNumber() && layer.canConvertToInt()) {
          each.add(layer.asInt());
        }
      }
      if (!given.isArray() || each.size() != given.size() || each.size() != layers) {
        throw new InvalidInputException(
            "num_attention_heads_per_layer must be a list of %d whole numbers, not %s"
                .formatted(layers, Printable.brief(given, 60)));
      }
      return each;
    }
    return Collections.nCopies(Math.max(0, layers), heads);
  }

  private static Gate gate(ConfigReader config) {
    JsonNode gating = config.keys().value("gating");
    String word = gating == null ? "true" : gating.asString("");
    var gate = Gate.SDPA_ELEMENTWISE.with(new Activation.Softplus());
    return switch (word) {
      case "true", "per-head" -> gate.with(Granularity.HEADWISE);
      case "per-element" -> gate;
      default ->
          throw new InvalidInputException(
              "gating is %s; only true, per-head and per-element are known"
                  .formatted(Printable.brief(Objects.requireNonNull(gating), 60)));
    };
  }

  @Override
  public List<Placement> places(ModelConfig model, Parameter parameter) {
    String part = parameter.part();
    if (part.equals(ModelDirectory.GATE)) {
      return Placement.usual(model, parameter, parameter.beside("self_attn.g_proj.weight"));
    }
    if (part.equals(CORRECTION)) {
      long[] shape = parameter.spec().shape();
      return List.of(
          Placement.whole(parameter.beside("mlp.experts.e_score_correction_bias"), shape),
          Placement.whole(parameter.name(), shape));
    }
    if (part.startsWith(SHARED)) {
      return List.of(
          Placement.whole(parameter.name(), parameter.spec().shape()),
          Placement.whole(
              parameter.beside(part.replace(SHARED, "mlp.shared_experts.")),
              parameter.spec().shape()));
    }
    return Placement.usual(model, parameter, parameter.name());
  }
}
