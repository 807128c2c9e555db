package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.Biases;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.files.JsonFile;
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
import java.util.Set;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;
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
/// @param form how the other weights are stored
/// @param notes what whoever uses the model has to know of how the file was read, in sentences
public record ModelConfig(
    DecoderConfig decoder, GatePacking packing, StoredForm form, List<String> notes) {
  /// The file's name.
  public static final String FILE = "config.json";

  private static final JsonMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.INDENT_OUTPUT).build();

  public ModelConfig {
    notes = List.copyOf(notes);
  }

  /// One that leaves nothing to be told.
  ModelConfig(DecoderConfig decoder, GatePacking packing) {
    this(decoder, packing, StoredForm.PLAIN, List.of());
  }

  /// How Sluice writes a model: as the paper's code does where that code can compute it, else with
  /// separate gates.
  public static ModelConfig of(DecoderConfig decoder) {
    return new ModelConfig(
        decoder,
        decoder.attention().gates().isEmpty() || isPaperModel(decoder)
            ? GatePacking.KEY_VALUE_GROUP
            : GatePacking.SEPARATE);
  }

  /// Whether the paper's code can compute the model: no gate or one of its two.
  private static boolean isPaperModel(DecoderConfig decoder) {
    return decoder.feedForward().experts().count() == 0
        && decoder.attention().variant().equals(AttentionVariant.PLAIN)
        && decoder.residual().equals(ResidualVariant.PLAIN)
        && (decoder.attention().gates().isEmpty() || isPaperGate(decoder.attention().gates()));
  }

  /// Whether `transformers` can, as `qwen3_moe`: experts and nothing else.
  private static boolean isMixture(DecoderConfig decoder) {
    return decoder.feedForward().experts().count() > 0
        && isPaperModel(decoder.with(Experts.NONE))
        && decoder.attention().gates().isEmpty();
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
    return packing != GatePacking.SEPARATE && isPaperGate(decoder.attention().gates())
        ? decoder.attention().gates().getFirst()
        : null;
  }

  // ---------------------------------------------------------------- reading

  /// Reads `config.json` of a model directory.
  public static ModelConfig read(Path directory) {
    Path file = directory.resolve(FILE);
    var json =
        JsonFile.object(file, JsonFile.SMALL, "name a checkpoint whose " + FILE + " is whole");
    try {
      var config = ModelConfigReader.read(json);
      return new ModelConfig(
          config.decoder,
          config.packing,
          config.form,
          config.notes.stream().map(note -> Printable.line(file + ": " + note)).toList());
    } catch (InvalidInputException e) {
      throw new InvalidInputException(file + ": " + e.getMessage(), e);
    }
  }

  // ---------------------------------------------------------------- writing

  /// Writes `config.json` into a directory.
  ///
  /// @param endToken the id of the token that ends a text; null where nobody knows it
  public void write(Path directory, @Nullable Integer endToken) throws IOException {
    ObjectNode json = json();
    if (endToken != null) {
      json.put("eos_token_id", endToken);
    }
    Files.writeString(
        directory.resolve(FILE), JSON.writeValueAsString(json).replace("\r\n", "\n") + "\n");
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
    json.put("intermediate_size", decoder.feedForward().intermediateSize());
    if (decoder.feedForward().experts().count() > 0) {
      json.put("moe_intermediate_size", decoder.feedForward().intermediateSize());
      json.put("num_experts", decoder.feedForward().experts().count());
      json.put("num_experts_per_tok", decoder.feedForward().experts().perToken());
      json.put("norm_topk_prob", true);
      json.put("decoder_sparse_step", 1);
      json.putArray("mlp_only_layers");
      json.put("router_aux_loss_coef", decoder.feedForward().experts().balance());
      json.put("router_z_loss_coef", decoder.feedForward().experts().routerZ());
    }
    json.put("num_hidden_layers", decoder.layers().size());
    json.put("num_attention_heads", decoder.attention().attentionHeads());
    json.put("num_key_value_heads", decoder.attention().keyValueHeads());
    json.put("head_dim", decoder.attention().headDim());
    json.put("max_position_embeddings", decoder.maxPositionEmbeddings());
    json.put("hidden_act", "silu");
    json.put("rms_norm_eps", decoder.norm().epsilon());
    var rotary = rotary();
    json.put("rope_theta", rotary.theta());
    switch (rotary.scaling()) {
      case RopeScaling.None() -> json.putNull("rope_scaling");
      case RopeScaling.Llama3 llama -> {
        ObjectNode rope = json.putObject("rope_scaling");
        rope.put("rope_type", "llama3");
        rope.put("factor", llama.factor());
        rope.put("original_max_position_embeddings", llama.originalMaxPositionEmbeddings());
        rope.put("low_freq_factor", llama.lowFrequencyFactor());
        rope.put("high_freq_factor", llama.highFrequencyFactor());
      }
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
    json.put("use_qk_norm", decoder.attention().qkNorm());
    json.put("use_sliding_window", false);
    json.put("tie_word_embeddings", decoder.tieWordEmbeddings());
    json.put("initializer_range", decoder.initializerRange());
    json.put("torch_dtype", "float32");
    if (own) {
      var gates = json.putArray("gates");
      decoder.attention().gates().forEach(gate -> gates.add(gate.name()));
      json.put("softmax_sink", decoder.attention().variant().sink().word());
      json.put("exclusive_attention", decoder.attention().variant().exclusive());
      json.put("sdpa_nonlinearity", decoder.attention().variant().nonlinearity().word());
      json.put("switch_head", decoder.attention().variant().switchHead().word());
      json.put("sandwich_norm", decoder.residual().sandwichNorm());
      json.put("residual_clip", decoder.residual().residualClip());
      json.put("gated_norm_rank", decoder.residual().gatedNormRank());
    } else if (!mixture) {
      json.put("headwise_attn_output_gate", isGranularity(packed, Granularity.HEADWISE));
      json.put("elementwise_attn_output_gate", isGranularity(packed, Granularity.ELEMENTWISE));
    }
    if (packed != null) {
      json.put("gate_packing", packing.word());
    }
    return json;
  }

  /// How queries and keys turn, where the file has keys for all that positions and biases do.
  private Rotary rotary() {
    var attention = decoder.attention();
    if (attention.positions().rotary().isEmpty()
        || attention.positions().window() > 0
        || !attention.biases().equals(Biases.NONE)) {
      throw new InvalidInputException(
          "a model with %s and %s cannot be written as %s, which has no keys for them; use attention over all tokens with rotary embedding and without biases"
              .formatted(attention.positions(), attention.biases(), FILE));
    }
    return attention.positions().rotary().get();
  }

  private static boolean isGranularity(@Nullable Gate gate, Granularity granularity) {
    return gate != null && gate.granularity() == granularity;
  }
}
