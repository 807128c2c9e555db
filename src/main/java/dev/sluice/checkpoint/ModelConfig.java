package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.gate.Activation;
import dev.sluice.gate.Combination;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInit;
import dev.sluice.gate.GateInput;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.Granularity;
import dev.sluice.gate.Sharing;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A model's `config.json`: the keys of `transformers` (`qwen3`, `qwen3_moe`) and of the paper's
/// code, read and written.
///
/// A model that neither of them knows is written as model type `sluice`, with its gates' names
/// under `gates` and its other variations under `softmax_sink`, `exclusive_attention`,
/// `sdpa_nonlinearity`, `sandwich_norm`, `residual_clip` and `gated_norm_rank`.
///
/// @param decoder the model
/// @param packing where the SDPA gate's rows stand
public record ModelConfig(DecoderConfig decoder, GatePacking packing) {
  /// The file's name.
  public static final String FILE = "config.json";

  private static final JsonMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  /// How Sluice writes a model: as the paper's code does where that code can compute it, else with
  /// separate gates.
  public static ModelConfig of(DecoderConfig decoder) {
    return new ModelConfig(
        decoder,
        decoder.gates().isEmpty() || isPaperModel(decoder)
            ? GatePacking.KEY_VALUE_GROUP
            : GatePacking.SEPARATE);
  }

  /// Whether the paper's code can compute the model: no gate or one of its two.
  private static boolean isPaperModel(DecoderConfig decoder) {
    return decoder.experts().count() == 0
        && decoder.attentionVariant().equals(AttentionVariant.PLAIN)
        && decoder.residualVariant().equals(ResidualVariant.PLAIN)
        && (decoder.gates().isEmpty() || isPaperGate(decoder.gates()));
  }

  /// Whether `transformers` can, as `qwen3_moe`: experts and nothing else.
  private static boolean isMixture(DecoderConfig decoder) {
    return decoder.experts().count() > 0
        && isPaperModel(decoder.with(Experts.NONE))
        && decoder.gates().isEmpty();
  }

  private static boolean isPaperGate(List<Gate> gates) {
    if (gates.size() != 1) {
      return false;
    }
    Gate gate = gates.getFirst();
    return gate.position() == GatePosition.SDPA_OUTPUT
        && gate.sharing() == Sharing.HEAD_SPECIFIC
        && gate.combination() == Combination.MULTIPLICATIVE
        && gate.activation() instanceof Activation.Sigmoid
        && gate.input() instanceof GateInput.HiddenState
        && !(gate.init() instanceof GateInit.Bias);
  }

  /// The gate whose rows are packed into `q_proj`, or null.
  @Nullable Gate packedGate() {
    return packing != GatePacking.SEPARATE && isPaperGate(decoder.gates())
        ? decoder.gates().getFirst()
        : null;
  }

  // ---------------------------------------------------------------- reading

  /// Reads `config.json` of a model directory.
  public static ModelConfig read(Path directory) {
    Path file = directory.resolve(FILE);
    JsonNode json;
    try {
      json = JSON.readTree(Files.readAllBytes(file));
    } catch (IOException e) {
      throw new InvalidInputException(
          "cannot read " + file + "; give the directory of a checkpoint that has a config.json", e);
    } catch (JacksonException e) {
      throw new InvalidInputException(
          file + " is not valid JSON (" + e.getOriginalMessage() + "); fetch it again", e);
    }
    if (!json.isObject()) {
      throw new InvalidInputException(file + " does not hold a JSON object; fetch it again");
    }
    try {
      return read(json);
    } catch (InvalidInputException e) {
      throw new InvalidInputException(file + ": " + e.getMessage(), e);
    }
  }

  private static ModelConfig read(JsonNode json) {
    String type = json.path("model_type").asString("");
    boolean own = type.equals("sluice");
    boolean mixture = type.equals("qwen3_moe") || (own && json.has("num_experts"));
    if (!own && !mixture && !type.equals("qwen3")) {
      throw new InvalidInputException(
          "unknown architecture '"
              + type
              + "'; Sluice reads model_type qwen3 (Qwen3 and the paper's models), qwen3_moe and"
              + " sluice");
    }
    refuse(json, "attention_bias");
    refuse(json, "qkv_bias");
    refuse(json, "use_sliding_window");
    String activation = json.path("hidden_act").asString("silu");
    if (!activation.equals("silu")) {
      throw new InvalidInputException("hidden_act '" + activation + "' is not known; only silu is");
    }
    for (JsonNode layer : json.path("layer_types")) {
      if (!layer.asString("").equals("full_attention")) {
        throw new InvalidInputException(
            "layer type '" + layer.asString("") + "' is not known; only full_attention is");
      }
    }
    int heads = integer(json, "num_attention_heads", null);
    var decoder =
        new DecoderConfig(
            integer(json, "vocab_size", null),
            integer(json, "hidden_size", null),
            integer(json, mixture ? "moe_intermediate_size" : "intermediate_size", null),
            integer(json, "num_hidden_layers", null),
            heads,
            integer(json, "num_key_value_heads", heads),
            integer(json, "head_dim", 128),
            integer(json, "max_position_embeddings", 32_768),
            ropeTheta(json),
            ropeScaling(json),
            number(json, "rms_norm_eps").orElse(1e-6),
            flag(json, "use_qk_norm", true),
            flag(json, "tie_word_embeddings", false),
            number(json, "initializer_range").orElse(0.02),
            own ? namedGates(json) : paperGates(json),
            own ? attentionVariant(json) : AttentionVariant.PLAIN,
            own ? residualVariant(json) : ResidualVariant.PLAIN,
            mixture ? experts(json) : Experts.NONE);
    JsonNode packing = json.path("gate_packing");
    return new ModelConfig(
        decoder,
        packing.isString()
            ? GatePacking.parse(packing.asString())
            : own ? GatePacking.SEPARATE : GatePacking.KEY_VALUE_GROUP);
  }

  /// The paper's two flags; its code tests the headwise one first.
  private static List<Gate> paperGates(JsonNode json) {
    if (flag(json, "headwise_attn_output_gate", false)) {
      return List.of(Gate.SDPA_HEADWISE);
    }
    return flag(json, "elementwise_attn_output_gate", false)
        ? List.of(Gate.SDPA_ELEMENTWISE)
        : List.of();
  }

  private static List<Gate> namedGates(JsonNode json) {
    List<Gate> gates = new ArrayList<>();
    for (JsonNode gate : json.path("gates")) {
      gates.add(Gate.parse(gate.asString("")));
    }
    return gates;
  }

  private static Experts experts(JsonNode json) {
    if (!flag(json, "norm_topk_prob", false)) {
      throw new InvalidInputException(
          "norm_topk_prob must be true; experts whose weights do not sum to one are not known");
    }
    if (integer(json, "decoder_sparse_step", 1) != 1 || !json.path("mlp_only_layers").isEmpty()) {
      throw new InvalidInputException(
          "decoder_sparse_step and mlp_only_layers ask for layers without experts, which are not"
              + " known in a mixture");
    }
    return new Experts(
        integer(json, "num_experts", 128),
        integer(json, "num_experts_per_tok", 8),
        number(json, "router_aux_loss_coef").orElse(1e-3),
        number(json, "router_z_loss_coef").orElse(0));
  }

  private static AttentionVariant attentionVariant(JsonNode json) {
    return new AttentionVariant(
        SoftmaxSink.parse(json.path("softmax_sink").asString("none")),
        flag(json, "exclusive_attention", false),
        SdpaNonlinearity.parse(json.path("sdpa_nonlinearity").asString("none")),
        SwitchHead.parse(json.path("switch_head").asString("none")));
  }

  private static ResidualVariant residualVariant(JsonNode json) {
    return new ResidualVariant(
        flag(json, "sandwich_norm", false),
        number(json, "residual_clip").orElse(0),
        integer(json, "gated_norm_rank", 0));
  }

  private static double ropeTheta(JsonNode json) {
    var newer = number(json.path("rope_parameters"), "rope_theta");
    return newer.isPresent() ? newer.getAsDouble() : number(json, "rope_theta").orElse(10_000);
  }

  private static RopeScaling ropeScaling(JsonNode json) {
    JsonNode rope = json.path("rope_parameters");
    if (!rope.isObject()) {
      rope = json.path("rope_scaling");
    }
    String type = rope.path("rope_type").asString(rope.path("type").asString("default"));
    return switch (type) {
      case "default" -> new RopeScaling.None();
      case "yarn" -> yarn(rope, json);
      default ->
          throw new InvalidInputException(
              "rope type '" + type + "' is not known; only default and yarn are");
    };
  }

  private static RopeScaling yarn(JsonNode rope, JsonNode json) {
    int longest = integer(json, "max_position_embeddings", 32_768);
    int original = integer(rope, "original_max_position_embeddings", longest);
    double factor = number(rope, "factor").orElse((double) longest / original);
    var attention = number(rope, "attention_factor");
    var scale = number(rope, "mscale");
    var scaleAll = number(rope, "mscale_all_dim");
    Double attentionFactor = attention.isPresent() ? (Double) attention.getAsDouble() : null;
    if (attentionFactor == null && scale.isPresent() && scaleAll.isPresent()) {
      attentionFactor =
          yarnScale(factor, scale.getAsDouble()) / yarnScale(factor, scaleAll.getAsDouble());
    }
    return new RopeScaling.Yarn(
        factor,
        original,
        number(rope, "beta_fast").orElse(32),
        number(rope, "beta_slow").orElse(1),
        attentionFactor,
        flag(rope, "truncate", true));
  }

  private static double yarnScale(double factor, double scale) {
    return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
  }

  private static void refuse(JsonNode json, String key) {
    if (flag(json, key, false)) {
      throw new InvalidInputException(key + " is true, which Sluice does not know; only false is");
    }
  }

  private static int integer(JsonNode json, String key, @Nullable Integer otherwise) {
    JsonNode value = json.path(key);
    if (value.isMissingNode() || value.isNull()) {
      if (otherwise == null) {
        throw new InvalidInputException(key + " is missing; add it");
      }
      return otherwise;
    }
    if (!value.canConvertToInt() || !value.isIntegralNumber()) {
      throw new InvalidInputException(key + " must be a whole number, not " + value);
    }
    return value.asInt();
  }

  private static OptionalDouble number(JsonNode json, String key) {
    JsonNode value = json.path(key);
    if (value.isMissingNode() || value.isNull()) {
      return OptionalDouble.empty();
    }
    if (!value.isNumber()) {
      throw new InvalidInputException(key + " must be a number, not " + value);
    }
    return OptionalDouble.of(value.asDouble());
  }

  private static boolean flag(JsonNode json, String key, boolean otherwise) {
    JsonNode value = json.path(key);
    if (value.isMissingNode() || value.isNull()) {
      return otherwise;
    }
    if (!value.isBoolean()) {
      throw new InvalidInputException(key + " must be true or false, not " + value);
    }
    return value.asBoolean();
  }

  // ---------------------------------------------------------------- writing

  /// Writes `config.json` into a directory.
  public void write(Path directory) throws IOException {
    Files.writeString(
        directory.resolve(FILE), JSON.writeValueAsString(json()).replace("\r\n", "\n") + "\n");
  }

  /// How another model's `config.json` would differ from this one's: `hidden_size 64, now 128`.
  public List<String> differences(ModelConfig now) {
    var differences = new ArrayList<String>();
    ObjectNode here = json();
    ObjectNode there = now.json();
    Set<String> names = new TreeSet<>(here.propertyNames());
    names.addAll(there.propertyNames());
    for (String name : names) {
      if (!here.path(name).equals(there.path(name))) {
        differences.add("%s %s, now %s".formatted(name, here.path(name), there.path(name)));
      }
    }
    return differences;
  }

  private ObjectNode json() {
    ObjectNode json = JSON.createObjectNode();
    Gate packed = packedGate();
    boolean mixture = isMixture(decoder);
    boolean own = packed == null && !mixture && !isPaperModel(decoder);
    json.putArray("architectures")
        .add(own ? "SluiceForCausalLM" : mixture ? "Qwen3MoeForCausalLM" : "Qwen3ForCausalLM");
    json.put("model_type", own ? "sluice" : mixture ? "qwen3_moe" : "qwen3");
    json.put("vocab_size", decoder.vocabSize());
    json.put("hidden_size", decoder.hiddenSize());
    json.put("intermediate_size", decoder.intermediateSize());
    if (decoder.experts().count() > 0) {
      json.put("moe_intermediate_size", decoder.intermediateSize());
      json.put("num_experts", decoder.experts().count());
      json.put("num_experts_per_tok", decoder.experts().perToken());
      json.put("norm_topk_prob", true);
      json.put("decoder_sparse_step", 1);
      json.putArray("mlp_only_layers");
      json.put("router_aux_loss_coef", decoder.experts().balance());
      json.put("router_z_loss_coef", decoder.experts().routerZ());
    }
    json.put("num_hidden_layers", decoder.layers());
    json.put("num_attention_heads", decoder.attentionHeads());
    json.put("num_key_value_heads", decoder.keyValueHeads());
    json.put("head_dim", decoder.headDim());
    json.put("max_position_embeddings", decoder.maxPositionEmbeddings());
    json.put("hidden_act", "silu");
    json.put("rms_norm_eps", decoder.rmsNormEps());
    json.put("rope_theta", decoder.ropeTheta());
    switch (decoder.ropeScaling()) {
      case RopeScaling.None() -> json.putNull("rope_scaling");
      case RopeScaling.Yarn yarn -> {
        ObjectNode rope = json.putObject("rope_scaling");
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
    }
    json.put("attention_bias", false);
    json.put("qkv_bias", false); // the paper's code reads this undeclared key
    json.put("use_qk_norm", decoder.qkNorm());
    json.put("use_sliding_window", false);
    json.put("tie_word_embeddings", decoder.tieWordEmbeddings());
    json.put("initializer_range", decoder.initializerRange());
    json.put("torch_dtype", "float32");
    if (own) {
      var gates = json.putArray("gates");
      decoder.gates().forEach(gate -> gates.add(gate.name()));
      json.put("softmax_sink", decoder.attentionVariant().sink().word());
      json.put("exclusive_attention", decoder.attentionVariant().exclusive());
      json.put("sdpa_nonlinearity", decoder.attentionVariant().nonlinearity().word());
      json.put("switch_head", decoder.attentionVariant().switchHead().word());
      json.put("sandwich_norm", decoder.residualVariant().sandwichNorm());
      json.put("residual_clip", decoder.residualVariant().residualClip());
      json.put("gated_norm_rank", decoder.residualVariant().gatedNormRank());
    } else if (!mixture) {
      json.put("headwise_attn_output_gate", isGranularity(packed, Granularity.HEADWISE));
      json.put("elementwise_attn_output_gate", isGranularity(packed, Granularity.ELEMENTWISE));
    }
    if (packed != null) {
      json.put("gate_packing", packing.word());
    }
    return json;
  }

  private static boolean isGranularity(@Nullable Gate gate, Granularity granularity) {
    return gate != null && gate.granularity() == granularity;
  }
}
