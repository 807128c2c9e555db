package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.deltanet.DeltaHeads;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Objects;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// Reads a `config.json` as `transformers` 5.18 does: its defaults for what is absent, its choice
/// among what contradicts itself. Every key is used, or known to have no effect, or told; what asks
/// for another computation is refused.
final class ModelConfigReader {
  /// What Sluice reads, and what `transformers` takes where a key is absent
  /// (`configuration_qwen3.py`, `configuration_qwen3_moe.py`).
  private enum Type {
    QWEN3(151_936, 4096, 22_016, 32, 32, 32, "intermediate_size"),
    QWEN3_MOE(151_936, 2048, 768, 24, 32, 4, "moe_intermediate_size"),
    QWEN3_NEXT(151_936, 2048, 512, 48, 16, 2, "moe_intermediate_size"),
    QWEN3_5_TEXT(248_320, 4096, 12_288, 32, 16, 4, "intermediate_size"),
    QWEN3_5_MOE_TEXT(248_320, 2048, 512, 40, 16, 2, "moe_intermediate_size"),
    /// Written by Sluice, with all keys.
    SLUICE(null, null, null, null, null, null, "intermediate_size");

    private final @Nullable Integer vocabSize;
    private final @Nullable Integer hiddenSize;
    private final @Nullable Integer intermediateSize;
    private final @Nullable Integer layers;
    private final @Nullable Integer attentionHeads;
    private final @Nullable Integer keyValueHeads;
    private final String width;

    Type(
        @Nullable Integer vocabSize,
        @Nullable Integer hiddenSize,
        @Nullable Integer intermediateSize,
        @Nullable Integer layers,
        @Nullable Integer attentionHeads,
        @Nullable Integer keyValueHeads,
        String width) {
      this.vocabSize = vocabSize;
      this.hiddenSize = hiddenSize;
      this.intermediateSize = intermediateSize;
      this.layers = layers;
      this.attentionHeads = attentionHeads;
      this.keyValueHeads = keyValueHeads;
      this.width = width;
    }

    String word() {
      return name().toLowerCase(Locale.ROOT);
    }

    /// Whether Gated DeltaNet layers stand among those of attention, which has an elementwise gate.
    boolean isHybrid() {
      return form() != StoredForm.PLAIN;
    }

    boolean isMixture() {
      return width.equals("moe_intermediate_size");
    }

    StoredForm form() {
      return switch (this) {
        case QWEN3, QWEN3_MOE, SLUICE -> StoredForm.PLAIN;
        case QWEN3_NEXT -> StoredForm.QWEN3_NEXT;
        case QWEN3_5_TEXT, QWEN3_5_MOE_TEXT -> StoredForm.QWEN3_5;
      };
    }
  }

  /// The settings of YaRN besides its type and base.
  private static final List<String> YARN =
      List.of(
          "factor",
          "original_max_position_embeddings",
          "attention_factor",
          "beta_fast",
          "beta_slow",
          "mscale",
          "mscale_all_dim",
          "truncate");

  private static final Set<String> ROPE_KEYS =
      Set.copyOf(
          Stream.concat(YARN.stream(), List.of("rope_type", "type", "rope_theta").stream())
              .toList());

  private static final Set<String> ARCHITECTURES =
      Set.of(
          "Qwen3ForCausalLM",
          "Qwen3Model",
          "Qwen3MoeForCausalLM",
          "Qwen3MoeModel",
          "SluiceForCausalLM",
          "Qwen3NextForCausalLM",
          "Qwen3_5ForCausalLM",
          "Qwen3_5MoeForCausalLM");

  private static final String LINEAR = "linear_attention";

  private final ConfigKeys keys;
  private final Type type;

  /// What the user has to know.
  private final List<String> notes = new ArrayList<>();

  /// Keys that are absent, and what stands for them.
  private final List<String> taken = new ArrayList<>();

  private ModelConfigReader(ConfigKeys keys, Type type) {
    this.keys = keys;
    this.type = type;
  }

  static ModelConfig read(ObjectNode json) {
    var keys = new ConfigKeys(json, "");
    List<String> taken = List.of();
    try {
      var reader = new ModelConfigReader(keys, type(keys));
      taken = reader.taken;
      return reader.read();
    } catch (InvalidInputException e) {
      throw explained(e, keys, taken);
    }
  }

  /// A refusal may come from what was taken for a key that is absent, perhaps misspelt.
  private static InvalidInputException explained(
      InvalidInputException e, ConfigKeys keys, List<String> taken) {
    var reasons = new ArrayList<String>();
    if (!taken.isEmpty()) {
      reasons.add("not given, and taken as transformers does: " + String.join(", ", taken));
    }
    var misspelt =
        keys.left().keySet().stream()
            .filter(key -> !ConfigNames.isKnown(key) && !isDropout(key))
            .map(key -> withNear(key, keys))
            .toList();
    if (!misspelt.isEmpty()) {
      reasons.add("not known: " + Listing.ofWords(misspelt));
    }
    return reasons.isEmpty()
        ? e
        : new InvalidInputException(
            "%s (%s)".formatted(e.getMessage(), String.join("; ", reasons)), e);
  }

  private static Type type(ConfigKeys keys) {
    String word = keys.word("model_type");
    for (Type type : Type.values()) {
      if (type.word().equals(word)) {
        return type;
      }
    }
    String wayOut =
        "Sluice reads model_type qwen3 (Qwen3 and the paper's models), qwen3_moe and sluice";
    if (keys.has("text_config")) {
      wayOut += "; its text_config makes it a composite model: save the text part by itself";
    }
    throw new InvalidInputException(
        word == null
            ? "model_type is missing among %s; %s".formatted(Listing.of(keys.all()), wayOut)
            : "unknown architecture %s; %s".formatted(Listing.quoted(word), wayOut));
  }

  private ModelConfig read() {
    boolean own = type == Type.SLUICE;
    boolean mixture = type.isMixture() || (own && keys.has("num_experts"));
    int vocabSize = size("vocab_size", type.vocabSize);
    int hiddenSize = size("hidden_size", type.hiddenSize);
    int width = size(mixture ? "moe_intermediate_size" : type.width, type.intermediateSize);
    int layers = size("num_hidden_layers", type.layers);
    int heads = size("num_attention_heads", type.attentionHeads);
    int keyValueHeads =
        !type.isMixture() && keys.names("num_key_value_heads") && !keys.has("num_key_value_heads")
            ? heads
            : size("num_key_value_heads", type.keyValueHeads);
    int headDim =
        size(
            "head_dim",
            switch (type) {
              case QWEN3 -> 128;
              case QWEN3_MOE -> hiddenSize / Math.max(1, heads);
              case QWEN3_NEXT, QWEN3_5_TEXT, QWEN3_5_MOE_TEXT -> 256;
              case SLUICE -> null;
            });
    int longest = Objects.requireNonNullElse(keys.integer("max_position_embeddings"), 32_768);
    var rope = rope(longest);
    double epsilon = number("rms_norm_eps", 1e-6, true);
    boolean qkNorm = flag("use_qk_norm", true);
    boolean tied = flag("tie_word_embeddings", false);
    double initializerRange = number("initializer_range", 0.02, false);
    var gates =
        own ? namedGates() : type.isHybrid() ? List.of(Gate.SDPA_ELEMENTWISE) : paperGates();
    var attention = own ? attentionVariant() : AttentionVariant.PLAIN;
    var residual = own ? residualVariant() : ResidualVariant.PLAIN;
    var experts = mixture ? experts() : Experts.NONE;
    String packing = keys.word("gate_packing");
    requireSilu();
    requireCausal();
    List<String> kinds = kinds(layers);
    if (!type.isHybrid()) {
      refuseWindows(layers, kinds);
    }
    tellWhatActsElsewhere();
    if (mixture) {
      var _ =
          keys.integer("intermediate_size"); // of layers without experts, of which there are none
    }
    var norm = new RmsNorm(epsilon, type.isHybrid());
    var softmax =
        new MixerConfig.SoftmaxAttention(
            new AttentionConfig(
                hiddenSize,
                heads,
                keyValueHeads,
                headDim,
                qkNorm,
                norm,
                new Rotary(rope.theta, rope.scaling, rope.share),
                gates,
                attention));
    var linear = type.isHybrid() ? deltaNet(hiddenSize, epsilon) : softmax;
    refuseOrTellTheRest(own);
    var feedForward = new FeedForwardConfig(hiddenSize, width, experts);
    var full = new LayerConfig(softmax, feedForward, residual);
    var decoder =
        DecoderConfig.uniform(vocabSize, layers, full, longest, norm, tied, initializerRange);
    if (kinds.contains(LINEAR)) {
      var other = new LayerConfig(linear, feedForward, residual);
      decoder =
          decoder.withLayers(
              kinds.stream().map(kind -> kind.equals(LINEAR) ? other : full).toList());
    }
    var config =
        new ModelConfig(
            decoder,
            packing != null
                ? GatePacking.parse(packing)
                : own
                    ? GatePacking.SEPARATE
                    : type.isHybrid() ? GatePacking.QUERY_HEAD : GatePacking.KEY_VALUE_GROUP);
    if (packing != null
        && config.packing() != GatePacking.SEPARATE
        && config.packedGate() == null) {
      notes.add("gate_packing %s has no effect, since no gate is packed".formatted(packing));
    }
    if (!taken.isEmpty()) {
      notes.addFirst("not given, and taken as transformers does: " + String.join(", ", taken));
    }
    return new ModelConfig(config.decoder(), config.packing(), type.form(), notes);
  }

  // ---------------------------------------------------------------- gates and variants

  /// The paper's two flags; its code tests the headwise one first.
  private List<Gate> paperGates() {
    boolean headwise = flag("headwise_attn_output_gate", false);
    boolean elementwise = flag("elementwise_attn_output_gate", false);
    if (headwise && elementwise) {
      notes.add(
          "headwise_attn_output_gate and elementwise_attn_output_gate are both true; the former"
              + " counts, as in the paper's code");
    }
    return headwise
        ? List.of(Gate.SDPA_HEADWISE)
        : elementwise ? List.of(Gate.SDPA_ELEMENTWISE) : List.of();
  }

  private List<Gate> namedGates() {
    for (String flag : List.of("headwise_attn_output_gate", "elementwise_attn_output_gate")) {
      if (flag(flag, false)) {
        throw new InvalidInputException(
            flag + " is read with model_type qwen3 alone; name the gate under gates");
      }
    }
    List<String> names = keys.words("gates");
    if (names == null) {
      throw missing("gates");
    }
    return names.stream().map(Gate::parse).toList();
  }

  private AttentionVariant attentionVariant() {
    return new AttentionVariant(
        SoftmaxSink.parse(word("softmax_sink", "none")),
        flag("exclusive_attention", false),
        SdpaNonlinearity.parse(word("sdpa_nonlinearity", "none")),
        SwitchHead.parse(word("switch_head", "none")));
  }

  private ResidualVariant residualVariant() {
    return new ResidualVariant(
        flag("sandwich_norm", false),
        number("residual_clip", 0, false),
        Objects.requireNonNullElse(keys.integer("gated_norm_rank"), 0));
  }

  private @Nullable Integer mixtureDefault(int ofQwen3, int ofNext, int of35) {
    return switch (type) {
      case SLUICE -> null;
      case QWEN3_NEXT -> Integer.valueOf(ofNext);
      case QWEN3_5_MOE_TEXT -> Integer.valueOf(of35);
      case QWEN3, QWEN3_MOE, QWEN3_5_TEXT -> Integer.valueOf(ofQwen3);
    };
  }

  private Experts experts() {
    JsonNode dense = keys.value("mlp_only_layers");
    Integer every = keys.integer("decoder_sparse_step");
    if ((dense != null && !(dense.isArray() && dense.isEmpty())) || (every != null && every != 1)) {
      throw new InvalidInputException(
          "mlp_only_layers %s and decoder_sparse_step %s ask for layers without experts, which Sluice does not compute in a mixture; only [] and 1 do"
              .formatted(
                  dense == null ? "[]" : Printable.brief(dense, 60), every == null ? 1 : every));
    }
    boolean always = type == Type.QWEN3_5_MOE_TEXT;
    if (!flag("norm_topk_prob", always || type == Type.QWEN3_NEXT)) {
      throw new InvalidInputException(
          (keys.has("norm_topk_prob")
                  ? "norm_topk_prob is false"
                  : "norm_topk_prob is not given, which transformers takes for false")
              + ": experts whose weights do not sum to one are not computed; only true is");
    }
    Integer local = keys.integer("num_local_experts");
    Integer named = keys.integer("num_experts");
    if (local != null && named != null && !local.equals(named)) {
      notes.add(
          "num_local_experts is %d and num_experts is %d; the former is used, as transformers does"
              .formatted(local, named));
    }
    int count = local != null ? local : size("num_experts", mixtureDefault(128, 512, 256));
    return new Experts(
        count,
        size("num_experts_per_tok", mixtureDefault(8, 10, 8)),
        type.isHybrid() ? size("shared_expert_intermediate_size", 512) : 0,
        number("router_aux_loss_coef", 1e-3, false),
        number("router_z_loss_coef", 0, false));
  }

  // ---------------------------------------------------------------- rotary embedding

  private record Rope(double theta, RopeScaling scaling, double share) {}

  /// `rope_scaling` wins over `rope_parameters` as a whole; a base within them over one at the top
  /// (`modeling_rope_utils.py`, `convert_rope_params_to_dict`).
  private Rope rope(int longest) {
    Double top = keys.number("rope_theta");
    Double topShare = type.isHybrid() ? keys.number("partial_rotary_factor") : null;
    double share = topShare != null ? topShare : type.isHybrid() ? 0.25 : 1;
    ConfigKeys scaling = keys.object("rope_scaling");
    ConfigKeys parameters = keys.object("rope_parameters");
    Integer original = keys.integer("original_max_position_embeddings");
    boolean isScaled = scaling != null && !scaling.isEmpty();
    boolean hasParameters = parameters != null && !parameters.isEmpty();
    ConfigKeys chosen = isScaled ? scaling : hasParameters ? parameters : null;
    if (chosen == null) {
      return new Rope(top != null ? top : defaultTheta(taken), new RopeScaling.None(), share);
    }
    var used = rope(chosen, top, share, original, longest, notes, taken);
    if (isScaled
        && hasParameters
        && !used.equals(quietly(parameters, top, share, original, longest))) {
      notes.add(
          "rope_scaling %s and rope_parameters %s differ; the former is used with rope_theta %s, as transformers does"
              .formatted(scaling, parameters, used.theta));
    }
    return used;
  }

  /// What would be used if it were alone, or null where it would be refused.
  private @Nullable Rope quietly(
      @Nullable ConfigKeys rope,
      @Nullable Double top,
      double share,
      @Nullable Integer original,
      int longest) {
    try {
      return rope(
          Objects.requireNonNull(rope),
          top,
          share,
          original,
          longest,
          new ArrayList<>(),
          new ArrayList<>());
    } catch (InvalidInputException _) {
      return null;
    }
  }

  private static double defaultTheta(List<String> taken) {
    taken.add("rope_theta 10000");
    return 10_000;
  }

  private Rope rope(
      ConfigKeys rope,
      @Nullable Double top,
      double share,
      @Nullable Integer original,
      int longest,
      List<String> notes,
      List<String> taken) {
    Double inside = rope.number("rope_theta");
    if (inside != null && top != null && !inside.equals(top)) {
      notes.add(
          "rope_theta is %s in %s and %s at the top; the former is used, as transformers does"
              .formatted(inside, rope.named("rope_theta"), top));
    }
    double theta = inside != null ? inside : top != null ? top : defaultTheta(taken);
    String newer = rope.word("rope_type");
    String older = rope.word("type");
    if (newer != null && older != null && !newer.equals(older)) {
      notes.add(
          "%s is %s and %s is %s; the former is used, as transformers does"
              .formatted(rope.named("rope_type"), newer, rope.named("type"), older));
    }
    String kind = newer != null ? newer : older != null ? older : "default";
    Double part = rope.number("partial_rotary_factor");
    if (type.isHybrid()) { // of text alone, all three positions of a token are the same
      var _ = rope.value("mrope_section");
      var _ = rope.value("mrope_interleaved");
    } else if (part != null && part != 1) {
      throw new InvalidInputException(
          "%s is %s, which Sluice does not compute; only 1 is"
              .formatted(rope.named("partial_rotary_factor"), part));
    }
    var scaling =
        switch (kind) {
          case "default" -> {
            var idle = YARN.stream().filter(rope::has).map(rope::named).toList();
            if (!idle.isEmpty()) {
              notes.add(
                  "%s: without effect, since the rope type is default"
                      .formatted(String.join(", ", idle)));
            }
            yield new RopeScaling.None();
          }
          case "yarn" -> yarn(rope, original, longest, notes, taken);
          default ->
              throw new InvalidInputException(
                  "rope type %s is not known; only default and yarn are"
                      .formatted(Listing.quoted(kind)));
        };
    for (String key : rope.left().keySet()) {
      String near = ConfigNames.near(key, ROPE_KEYS);
      throw new InvalidInputException(
          "%s is not known%s; remove it if the model does not need it"
              .formatted(
                  Printable.brief(rope.named(key), 80),
                  near == null ? "" : " (near " + near + ")"));
    }
    return new Rope(theta, scaling, type.isHybrid() && part != null ? part : share);
  }

  private static RopeScaling yarn(
      ConfigKeys rope, @Nullable Integer top, int longest, List<String> notes, List<String> taken) {
    String name = rope.named("original_max_position_embeddings");
    Integer inside = rope.integer("original_max_position_embeddings");
    if (top != null && inside != null && !top.equals(inside)) {
      notes.add(
          "%s is %d and %d at the top; the latter is used, as transformers does"
              .formatted(name, inside, top));
    }
    Integer given = top != null ? top : inside;
    if (given == null) {
      taken.add(name + " " + longest);
    }
    int original = given != null ? given : longest;
    Double factor = rope.number("factor");
    if (factor == null) {
      if (!rope.names("factor")) {
        throw new InvalidInputException(
            "%s is missing among %s; add it, or null for max_position_embeddings / original_max_position_embeddings"
                .formatted(rope.named("factor"), Listing.of(rope.all())));
      }
      factor = (double) longest / original;
      taken.add(rope.named("factor") + " " + factor);
    }
    Double attentionFactor = rope.number("attention_factor");
    Double scale = rope.number("mscale");
    Double scaleAll = rope.number("mscale_all_dim");
    if (attentionFactor == null
        && scale != null
        && scaleAll != null
        && scale != 0
        && scaleAll != 0) {
      attentionFactor = yarnScale(factor, scale) / yarnScale(factor, scaleAll);
    }
    Boolean truncate = rope.flag("truncate");
    if (truncate == null && rope.names("truncate")) {
      throw new InvalidInputException(rope.named("truncate") + " must be true or false, not null");
    }
    return new RopeScaling.Yarn(
        factor,
        original,
        orElse(rope.number("beta_fast"), 32),
        orElse(rope.number("beta_slow"), 1),
        attentionFactor,
        truncate == null || truncate);
  }

  /// As the reference has it: 0 counts as absent.
  private static double orElse(@Nullable Double value, double otherwise) {
    return value == null || value == 0 ? otherwise : value;
  }

  private static double yarnScale(double factor, double scale) {
    return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
  }

  // ---------------------------------------------------------------- what is not computed

  private void requireSilu() {
    String activation = word("hidden_act", "silu");
    if (!activation.equals("silu") && !activation.equals("swish")) { // two names of one function
      throw new InvalidInputException(
          "hidden_act %s is not known; only silu is".formatted(Listing.quoted(activation)));
    }
  }

  /// Where `is_causal` is there and not true, null too, `transformers` lets tokens see later ones.
  private void requireCausal() {
    if (keys.names("is_causal") && !flag("is_causal", false)) {
      throw new InvalidInputException(
          "is_causal is %s: attention to later tokens is not computed; use a model without it"
              .formatted(keys.has("is_causal") ? "false" : "null"));
    }
  }

  /// What each layer is: as `layer_types` says, else every `full_attention_interval`-th of a hybrid
  /// is attention, and all of another model are.
  private List<String> kinds(int layers) {
    List<String> kinds = keys.words("layer_types");
    int interval =
        type.isHybrid()
            ? Objects.requireNonNullElse(keys.integer("full_attention_interval"), 4)
            : 1;
    if (interval < 1) {
      throw new InvalidInputException(
          "full_attention_interval must be positive, not %d".formatted(interval));
    }
    if (kinds == null) {
      return type.isHybrid()
          ? IntStream.rangeClosed(1, layers)
              .mapToObj(layer -> layer % interval == 0 ? "full_attention" : LINEAR)
              .toList()
          : List.of();
    }
    for (String kind : kinds) {
      if (!kind.equals("full_attention")
          && !kind.equals("attention")
          && !(type.isHybrid() && kind.equals(LINEAR))) {
        throw new InvalidInputException(
            "layer type %s is not known; only full_attention%s is"
                .formatted(Listing.quoted(kind), type.isHybrid() ? " or " + LINEAR : ""));
      }
    }
    if (kinds.size() != layers) {
      throw new InvalidInputException(
          "layer_types names %d layers where num_hidden_layers is %d; correct one"
              .formatted(kinds.size(), layers));
    }
    return kinds;
  }

  private MixerConfig deltaNet(int hiddenSize, double epsilon) {
    Boolean gated = keys.flag("attn_output_gate");
    if (gated != null && !gated) {
      throw new InvalidInputException(
          "attn_output_gate is false, but %s always gates attention; remove it"
              .formatted(type.word()));
    }
    int keyHeads = size("linear_num_key_heads", 16);
    int valueHeads = size("linear_num_value_heads", 32);
    int keyWidth = size("linear_key_head_dim", 128);
    int valueWidth = size("linear_value_head_dim", 128);
    int convolution = size("linear_conv_kernel_dim", 4);
    return new MixerConfig.DeltaNet(
        new GatedDeltaNetConfig(
            hiddenSize,
            new DeltaHeads(keyHeads, valueHeads, keyWidth, valueWidth),
            convolution,
            epsilon));
  }

  /// `qwen3` has windows in the layers from `max_window_layers` on, unless `layer_types` says
  /// otherwise; `qwen3_moe` has them in all.
  private void refuseWindows(int layers, List<String> kinds) {
    boolean used = flag("use_sliding_window", false);
    Integer window =
        keys.names("sliding_window") ? keys.integer("sliding_window") : Integer.valueOf(4096);
    int first = Objects.requireNonNullElse(keys.integer("max_window_layers"), 28);
    boolean inAny = type == Type.QWEN3_MOE || (kinds.isEmpty() && first < layers);
    if (used && window != null && inAny) {
      throw new InvalidInputException(
          "use_sliding_window is true with sliding_window %d%s, which Sluice does not compute; only full attention is"
              .formatted(
                  window,
                  type == Type.QWEN3_MOE
                      ? ""
                      : " from layer max_window_layers %d on".formatted(first)));
    }
  }

  private void tellWhatActsElsewhere() {
    List<String> architectures = keys.words("architectures");
    if (architectures != null && !ARCHITECTURES.containsAll(architectures)) {
      notes.add(
          "architectures names %s; Sluice computes the logits of the next token"
              .formatted(Listing.of(architectures)));
    }
    if (keys.has("auto_map")) {
      notes.add("auto_map names code that comes with the model; Sluice does not run it");
    }
    JsonNode newer = keys.value("dtype");
    JsonNode older = keys.value("torch_dtype");
    if (newer != null && older != null && !newer.equals(older)) {
      notes.add(
          "dtype is %s and torch_dtype is %s; Sluice uses neither, it reads what the weights are"
              .formatted(Printable.brief(newer, 40), Printable.brief(older, 40)));
    }
  }

  private void refuseOrTellTheRest(boolean own) {
    List<String> unknown = new ArrayList<>();
    for (var field : keys.left().entrySet()) {
      String key = field.getKey();
      JsonNode value = field.getValue();
      boolean isForeign = !own && ConfigNames.OWN.contains(key);
      if (isForeign && !ConfigNames.isOff(value)) {
        throw new InvalidInputException(
            "%s is %s, which is read with model_type sluice alone; change model_type or remove it"
                .formatted(key, Printable.brief(value, 60)));
      }
      if (ConfigNames.isRefused(key, value)) {
        throw refused(key, value);
      }
      if (isDropout(key)) {
        if (!value.isNumber() || value.numberValue().doubleValue() != 0) {
          notes.add(
              "%s %s acts in training alone, where Sluice drops nothing"
                  .formatted(Printable.brief(key, 60), Printable.brief(value, 40)));
        }
      } else if (!isForeign && !ConfigNames.isHarmless(key) && !ConfigNames.isJudged(key)) {
        unknown.add(withNear(key, keys));
      }
    }
    if (!unknown.isEmpty()) {
      notes.add(
          "not used, since %s does not have %s: %s"
              .formatted(
                  type.word(), unknown.size() == 1 ? "it" : "them", Listing.ofWords(unknown)));
    }
  }

  private static boolean isDropout(String key) {
    return key.endsWith("dropout") || key.endsWith("dropout_prob") || key.endsWith("_pdrop");
  }

  private static String withNear(String key, ConfigKeys keys) {
    String near = ConfigNames.near(key);
    return Listing.quoted(key)
        + (near == null || near.equals(key) || keys.has(near) ? "" : " (near " + near + ")");
  }

  private static InvalidInputException refused(String key, JsonNode value) {
    String shown = Printable.brief(value, 100);
    return new InvalidInputException(
        switch (key) {
          case "quantization_config", "compression_config" ->
              "%s %s says that the weights are quantized, which Sluice does not read; take the model before that, or dequantize it"
                  .formatted(key, shown);
          case "text_config", "vision_config", "audio_config", "thinker_config" ->
              "%s makes it a composite model, which Sluice does not read; save the text part by itself"
                  .formatted(key);
          default ->
              "%s is %s, which Sluice does not compute; use a model without it"
                  .formatted(key, shown);
        });
  }

  // ---------------------------------------------------------------- values

  /// @param otherwise what `transformers` takes where the key is absent; null if it must be given
  private int size(String key, @Nullable Integer otherwise) {
    Integer value = keys.integer(key);
    if (value != null) {
      return value;
    }
    if (otherwise == null) {
      throw missing(key);
    }
    taken.add(key + " " + otherwise);
    return otherwise;
  }

  private double number(String key, double otherwise, boolean tell) {
    Double value = keys.number(key);
    if (value == null && tell) {
      taken.add(key + " " + otherwise);
    }
    return value == null ? otherwise : value;
  }

  private boolean flag(String key, boolean otherwise) {
    return Objects.requireNonNullElse(keys.flag(key), otherwise);
  }

  private String word(String key, String otherwise) {
    return Objects.requireNonNullElse(keys.word(key), otherwise);
  }

  private InvalidInputException missing(String key) {
    return new InvalidInputException(
        "%s is missing among %s; add it".formatted(key, Listing.of(keys.all())));
  }
}
