package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.tensor.RmsNorm;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.function.IntPredicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// Reads a `config.json` as `transformers` 5.18 does: its defaults for what is absent, its choice
/// among what contradicts itself. Every key is used, or known to have no effect, or told; what asks
/// for another computation is refused.
final class ConfigReader {
  /// Keys that are read for every family.
  static final Set<String> COMMON =
      Set.of(
          "architectures",
          "model_type",
          "vocab_size",
          "hidden_size",
          "num_hidden_layers",
          "num_attention_heads",
          "num_key_value_heads",
          "head_dim",
          "max_position_embeddings",
          "original_max_position_embeddings",
          "hidden_act",
          "rms_norm_eps",
          "rope_theta",
          "rope_scaling",
          "rope_parameters",
          "tie_word_embeddings",
          "initializer_range",
          "attention_dropout",
          "is_causal",
          "dtype",
          "torch_dtype",
          "auto_map");

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
          Stream.concat(
                  YARN.stream(),
                  Stream.of(
                      "rope_type",
                      "type",
                      "rope_theta",
                      "low_freq_factor",
                      "high_freq_factor",
                      "short_factor",
                      "long_factor"))
              .toList());

  /// More than any model has; a configuration that asks for more is refused by its count.
  private static final int MOST_LAYERS = 1 << 20;

  static final String FULL = "full_attention";
  static final String LINEAR = "linear_attention";
  static final String SLIDING = "sliding_attention";

  private final ConfigKeys keys;
  private final String type;

  /// What the user has to know.
  private final List<String> notes;

  /// Keys that are absent, and what stands for them.
  private final List<String> taken;

  private ConfigReader(ConfigKeys keys, String type, List<String> notes, List<String> taken) {
    this.keys = keys;
    this.type = type;
    this.notes = notes;
    this.taken = taken;
  }

  /// What a whole file says.
  static ModelConfig read(ObjectNode json) {
    var keys = new ConfigKeys(json, "");
    var reader = new ConfigReader(keys, "", new ArrayList<>(), new ArrayList<>());
    try {
      String type = keys.word("model_type");
      Family family = type == null ? null : Families.of(type);
      if (type == null || family == null) {
        throw unknown(type, keys);
      }
      return family.read(new ConfigReader(keys, type, reader.notes, reader.taken));
    } catch (InvalidInputException e) {
      throw explained(e, keys, reader.taken);
    }
  }

  private static InvalidInputException unknown(@Nullable String type, ConfigKeys keys) {
    String wayOut =
        "Sluice reads model_type " + String.join(", ", Families.all(Family::modelTypes));
    if (keys.has("text_config")) {
      wayOut += "; its text_config makes it a composite model: save the text part by itself";
    }
    return new InvalidInputException(
        type == null
            ? "model_type is missing among %s; %s".formatted(Listing.of(keys.all()), wayOut)
            : "unknown architecture %s; %s".formatted(Listing.quoted(type), wayOut));
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

  /// The word of `model_type`.
  String type() {
    return type;
  }

  ConfigKeys keys() {
    return keys;
  }

  void note(String note) {
    notes.add(note);
  }

  /// Tells that a key is absent, and what stands for it.
  void taken(String what) {
    taken.add(what);
  }

  /// Refuses another value than the one that is computed; absent is right.
  void require(String key, boolean value) {
    Boolean given = keys.flag(key);
    if (given != null && given != value) {
      throw new InvalidInputException(
          "%s is %s, which Sluice does not compute; only %s is"
              .formatted(keys.named(key), given, value));
    }
  }

  /// The same of a word.
  void require(String key, String value) {
    String given = keys.word(key);
    if (given != null && !given.equals(value)) {
      throw new InvalidInputException(
          "%s is %s, which Sluice does not compute; only %s is"
              .formatted(keys.named(key), Listing.quoted(given), value));
    }
  }

  /// The reader of an object within, which is a configuration itself.
  ///
  /// @param type the word of `model_type` that it must have, or none
  ConfigReader within(String key, String type) {
    var object = keys.object(key);
    if (object == null) {
      throw missing(key);
    }
    String word = object.word("model_type");
    if (word != null && !word.equals(type)) {
      throw new InvalidInputException(
          "%s is %s where model_type %s calls for %s"
              .formatted(object.named("model_type"), Listing.quoted(word), this.type, type));
    }
    return new ConfigReader(object, type, notes, taken);
  }

  /// The model once all is read, with all that is to be told.
  ModelConfig model(DecoderConfig decoder, Family family, GatePacking packing) {
    if (!taken.isEmpty()) {
      notes.addFirst("not given, and taken as transformers does: " + String.join(", ", taken));
    }
    return new ModelConfig(decoder, family, packing, notes);
  }

  // ---------------------------------------------------------------- rotary embedding

  /// What a family takes where its rotary keys are absent.
  ///
  /// @param share of a head that turns; null where a family has none but the whole
  /// @param sections whether positions may have several dimensions, which for text are all the same
  record RotaryDefaults(double theta, @Nullable Double share, boolean sections) {
    static final RotaryDefaults WHOLE = new RotaryDefaults(10_000, null, false);

    private double shareOr(@Nullable Double given) {
      return given != null ? given : share != null ? share : 1;
    }
  }

  /// `rope_scaling` wins over `rope_parameters` as a whole; a base within them over one at the top
  /// (`modeling_rope_utils.py`, `convert_rope_params_to_dict`).
  Rotary rotary(int longest, RotaryDefaults defaults) {
    Double top = keys.number("rope_theta");
    double share =
        defaults.shareOr(defaults.share == null ? null : keys.number("partial_rotary_factor"));
    ConfigKeys scaling = keys.object("rope_scaling");
    ConfigKeys parameters = keys.object("rope_parameters");
    Integer original = keys.integer("original_max_position_embeddings");
    boolean isScaled = scaling != null && !scaling.isEmpty();
    boolean hasParameters = parameters != null && !parameters.isEmpty();
    ConfigKeys chosen = isScaled ? scaling : hasParameters ? parameters : null;
    if (chosen == null) {
      return new Rotary(
          top != null ? top : defaultTheta(defaults, taken), new RopeScaling.None(), share);
    }
    var rope = new Rope(top, share, original, longest, defaults);
    var used = rotary(chosen, rope, notes, taken);
    if (isScaled && hasParameters && !used.equals(quietly(parameters, rope))) {
      notes.add(
          "rope_scaling %s and rope_parameters %s differ; the former is used with rope_theta %s, as transformers does"
              .formatted(scaling, parameters, used.theta()));
    }
    return used;
  }

  /// A rotation whose frequencies an object stretches.
  Rotary scaled(ConfigKeys object, Rotary plain, int longest) {
    return rotary(
        object,
        new Rope(
            plain.theta(),
            plain.share(),
            null,
            longest,
            new RotaryDefaults(plain.theta(), plain.share(), false)),
        notes,
        taken);
  }

  /// What stands around the object of a rotary embedding.
  ///
  /// @param top the base at the top
  /// @param original the length at the top
  record Rope(
      @Nullable Double top,
      double share,
      @Nullable Integer original,
      int longest,
      RotaryDefaults defaults) {}

  /// What would be used if it were alone, or null where it would be refused.
  private static @Nullable Rotary quietly(@Nullable ConfigKeys parameters, Rope rope) {
    try {
      return rotary(Objects.requireNonNull(parameters), rope, new ArrayList<>(), new ArrayList<>());
    } catch (InvalidInputException _) {
      return null;
    }
  }

  private static double defaultTheta(RotaryDefaults defaults, List<String> taken) {
    taken.add("rope_theta " + shown(defaults.theta));
    return defaults.theta;
  }

  /// How the layers of a kind turn, where `rope_parameters` has an object for each kind.
  ///
  /// @param defaults of the kind, where there is no `rope_parameters` at all
  Rotary rotary(String kind, int longest, RotaryDefaults defaults) {
    var parameters = keys.object("rope_parameters");
    if (parameters == null || parameters.isEmpty()) {
      return new Rotary(
          defaultTheta(defaults, taken), new RopeScaling.None(), defaults.shareOr(null));
    }
    var object = parameters.object(kind);
    if (object == null) {
      throw new InvalidInputException(
          "rope_parameters.%s is missing among %s; add it"
              .formatted(kind, Listing.of(parameters.all())));
    }
    // within such an object the whole head turns where nothing is said
    return rotary(object, new Rope(null, 1, null, longest, defaults), notes, taken);
  }

  private static Rotary rotary(
      ConfigKeys object, Rope around, List<String> notes, List<String> taken) {
    Double inside = object.number("rope_theta");
    if (inside != null && around.top != null && !inside.equals(around.top)) {
      notes.add(
          "rope_theta is %s in %s and %s at the top; the former is used, as transformers does"
              .formatted(inside, object.named("rope_theta"), around.top));
    }
    double theta =
        inside != null
            ? inside
            : around.top != null ? around.top : defaultTheta(around.defaults, taken);
    String newer = object.word("rope_type");
    String older = object.word("type");
    if (newer != null && older != null && !newer.equals(older)) {
      notes.add(
          "%s is %s and %s is %s; the former is used, as transformers does"
              .formatted(object.named("rope_type"), newer, object.named("type"), older));
    }
    String kind = newer != null ? newer : older != null ? older : "default";
    Double part = object.number("partial_rotary_factor");
    if (around.defaults.share
        != null) { // of text alone, all three positions of a token are the same
      var _ = object.value("mrope_section");
      var _ = object.value("mrope_interleaved");
    } else if (part != null && part != 1) {
      throw new InvalidInputException(
          "%s is %s, which Sluice does not compute; only 1 is"
              .formatted(object.named("partial_rotary_factor"), part));
    }
    var scaling =
        switch (kind) {
          case "default" -> {
            var idle = YARN.stream().filter(object::has).map(object::named).toList();
            if (!idle.isEmpty()) {
              notes.add(
                  "%s: without effect, since the rope type is default"
                      .formatted(String.join(", ", idle)));
            }
            yield new RopeScaling.None();
          }
          case "yarn" -> yarn(object, around.original, around.longest, notes, taken);
          case "linear" -> new RopeScaling.Linear(factor(object));
          case "dynamic" -> new RopeScaling.Dynamic(factor(object), around.longest);
          case "llama3" -> llama3(object);
          case "longrope" -> longRope(object);
          default ->
              throw new InvalidInputException(
                  "rope type %s is not known; only default, linear, dynamic, yarn, llama3 and longrope are"
                      .formatted(Listing.quoted(kind)));
        };
    for (String key : object.left().keySet()) {
      String near = ConfigNames.near(key, ROPE_KEYS);
      throw new InvalidInputException(
          "%s is not known%s; remove it if the model does not need it"
              .formatted(
                  Printable.brief(object.named(key), 80),
                  near == null ? "" : " (near " + near + ")"));
    }
    return new Rotary(
        theta, scaling, around.defaults.share != null && part != null ? part : around.share);
  }

  /// Of the types that have nothing else.
  private static double factor(ConfigKeys rope) {
    Double factor = rope.number("factor");
    if (factor == null) {
      throw new InvalidInputException(
          "%s is missing among %s; add it".formatted(rope.named("factor"), Listing.of(rope.all())));
    }
    return factor;
  }

  private static RopeScaling llama3(ConfigKeys rope) {
    for (String key :
        List.of(
            "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor")) {
      if (!rope.has(key)) {
        throw new InvalidInputException(
            "%s is missing among %s; add it".formatted(rope.named(key), Listing.of(rope.all())));
      }
    }
    return new RopeScaling.Llama3(
        orElse(rope.number("factor"), 0),
        Objects.requireNonNull(rope.integer("original_max_position_embeddings")),
        orElse(rope.number("low_freq_factor"), 0),
        orElse(rope.number("high_freq_factor"), 0));
  }

  /// LongRoPE whose texts all have the same factors; its context has no effect then.
  private static RopeScaling longRope(ConfigKeys rope) {
    var _ = rope.integer("original_max_position_embeddings");
    JsonNode factors = rope.value("long_factor");
    if (factors == null || !factors.equals(rope.value("short_factor"))) {
      throw new InvalidInputException(
          "%s and %s must be the same list of numbers; Sluice does not compute others for short texts"
              .formatted(rope.named("long_factor"), rope.named("short_factor")));
    }
    Double scale = rope.number("attention_factor");
    if (scale == null || scale != 1) {
      throw new InvalidInputException(
          "%s is %s, which Sluice does not compute for rope type longrope; only 1 is"
              .formatted(rope.named("attention_factor"), scale == null ? "not given" : scale));
    }
    List<Double> numbers = new ArrayList<>();
    for (JsonNode each : factors) {
      if (!each.isNumber()) {
        throw new InvalidInputException(
            "%s must be a list of numbers, not %s"
                .formatted(rope.named("long_factor"), Printable.brief(factors, 60)));
      }
      numbers.add(each.numberValue().doubleValue());
    }
    return new RopeScaling.Factors(numbers);
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

  // ---------------------------------------------------------------- layers

  /// A model of layers that need not be alike; of too many none is made.
  static DecoderConfig decoder(
      int vocabSize,
      int layers,
      IntFunction<LayerConfig> layer,
      int longest,
      RmsNorm norm,
      boolean tied,
      double initializerRange) {
    var uniform =
        DecoderConfig.uniform(
            vocabSize, layers, layer.apply(0), longest, norm, tied, initializerRange);
    return uniform.withLayers(IntStream.range(0, layers).mapToObj(layer).toList());
  }

  /// `num_hidden_layers`.
  int layers(@Nullable Integer otherwise) {
    return requirePositive("num_hidden_layers", size("num_hidden_layers", otherwise));
  }

  private static int requirePositive(String key, int value) {
    if (value < 1) {
      throw new InvalidInputException("%s must be positive, not %d".formatted(key, value));
    }
    return value;
  }

  /// Every how many layers one is of another kind.
  int interval(String key, int otherwise) {
    return requirePositive(key, Objects.requireNonNullElse(keys.integer(key), otherwise));
  }

  /// `max_position_embeddings`.
  int longest() {
    return longest(32_768);
  }

  /// The same of a family with another default.
  int longest(int otherwise) {
    return Objects.requireNonNullElse(keys.integer("max_position_embeddings"), otherwise);
  }

  /// `rms_norm_eps`.
  double epsilon(double otherwise) {
    Double value = keys.number("rms_norm_eps");
    if (value == null) {
      taken.add("rms_norm_eps " + otherwise);
    }
    return value == null ? otherwise : value;
  }

  /// How many routed experts a layer has: `num_local_experts`, or `num_experts`.
  ///
  /// @param otherwise of the family where none is given
  int expertCount(@Nullable Integer otherwise) {
    Integer local = keys.integer("num_local_experts");
    Integer named = keys.integer("num_experts");
    if (local != null && named != null && !local.equals(named)) {
      note(
          "num_local_experts is %d and num_experts is %d; the former is used, as transformers does"
              .formatted(local, named));
    }
    return local != null ? local : size("num_experts", otherwise);
  }

  /// The experts of Qwen's mixtures, chosen by a softmax.
  ///
  /// @param count of the family where none is given
  /// @param perToken the same
  /// @param normalised whether the family lets the chosen experts' weights sum to one where
  ///   `norm_topk_prob` says nothing
  Experts experts(
      @Nullable Integer count,
      @Nullable Integer perToken,
      SharedExpert shared,
      boolean normalised) {
    boolean shares = flag("norm_topk_prob", normalised);
    if (!keys.has("norm_topk_prob") && !normalised) {
      taken.add("norm_topk_prob false");
    }
    return new Experts(
        expertCount(count),
        size("num_experts_per_tok", perToken),
        shares ? Router.SOFTMAX : Router.SOFTMAX.asScored(),
        shared,
        number("router_aux_loss_coef", 1e-3),
        number("router_z_loss_coef", 0));
  }

  /// Which layers have experts (`modeling_qwen3_moe.py`, `Qwen3MoeDecoderLayer`): every
  /// `decoder_sparse_step`-th that is not among `mlp_only_layers`.
  IntPredicate sparseLayers() {
    int every = interval("decoder_sparse_step", 1);
    Set<Integer> dense = new HashSet<>();
    JsonNode named = keys.value("mlp_only_layers");
    if (named != null) {
      for (JsonNode layer : named) {
        if (layer.isIntegralNumber() && layer.canConvertToInt()) {
          dense.add(layer.asInt());
        }
      }
      if (!named.isArray() || dense.size() < named.size()) {
        throw keys.wrong("mlp_only_layers", "a list of numbers of layers, each once", named);
      }
    }
    return layer -> !dense.contains(layer) && (layer + 1) % every == 0;
  }

  /// The layers without experts among those with them; `intermediate_size` is read only where there
  /// are any.
  FeedForwardConfig dense(int hiddenSize, int layers, IntPredicate isSparse, int otherwise) {
    boolean any = !IntStream.range(0, layers).allMatch(isSparse);
    Integer width = keys.integer("intermediate_size");
    return new FeedForwardConfig(
        hiddenSize,
        any ? size("intermediate_size", otherwise) : width != null && width > 0 ? width : otherwise,
        Experts.NONE);
  }

  /// `sliding_window` of models that have layers with one.
  int window(List<String> kinds, @Nullable Integer otherwise) {
    if (kinds.stream().noneMatch(SLIDING::equals)) {
      var _ = keys.integer("sliding_window"); // of no layer
      return 0;
    }
    if (keys.names("sliding_window") && !keys.has("sliding_window")) {
      throw new InvalidInputException(
          "sliding_window is null, but layers are called %s; give the window".formatted(SLIDING));
    }
    return requirePositive("sliding_window", size("sliding_window", otherwise));
  }

  /// Gated DeltaNet (`configuration_qwen3_next.py`, `configuration_qwen3_5.py`).
  MixerConfig deltaNet(int hiddenSize, RmsNorm norm) {
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
            norm.epsilon()));
  }

  // ---------------------------------------------------------------- what is not computed

  /// Called once all that a family uses is read: refuses or tells what is left.
  void finish() {
    requireSilu();
    requireCausal();
    tellWhatActsElsewhere();
    refuseOrTell(type.equals(Sluice.TYPE));
  }

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

  /// What each layer is: as `layer_types` says; empty where it says nothing.
  ///
  /// @param known the words that a family has
  List<String> layerTypes(int layers, List<String> known) {
    return keys.has("layer_types") ? kinds("layer_types", layers, known, _ -> "") : List.of();
  }

  /// The same of a family that says what a layer is where nothing is given.
  List<String> layerTypes(int layers, List<String> known, IntFunction<String> otherwise) {
    return kinds("layer_types", layers, known, otherwise);
  }

  /// The words of a list with one for each layer.
  List<String> kinds(String key, int layers, List<String> known, IntFunction<String> otherwise) {
    List<String> kinds = keys.words(key);
    if (kinds == null) {
      return IntStream.range(0, Math.min(layers, MOST_LAYERS)).mapToObj(otherwise).toList();
    }
    for (String kind : kinds) {
      if (!known.contains(kind)) {
        throw new InvalidInputException(
            "%s %s is not known; only %s is"
                .formatted(
                    key.equals("layer_types") ? "layer type" : "a layer of " + key,
                    Listing.quoted(kind),
                    String.join(
                        " or ",
                        known.stream().filter(each -> !each.equals("attention")).toList())));
      }
    }
    if (kinds.size() != layers) {
      throw new InvalidInputException(
          "%s names %d layers where num_hidden_layers is %d; correct one"
              .formatted(key, kinds.size(), layers));
    }
    return kinds;
  }

  private void tellWhatActsElsewhere() {
    List<String> architectures = keys.words("architectures");
    if (architectures != null && !Families.all(Family::architectures).containsAll(architectures)) {
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

  private void refuseOrTell(boolean own) {
    List<String> unknown = new ArrayList<>();
    for (var field : keys.left().entrySet()) {
      String key = field.getKey();
      JsonNode value = field.getValue();
      boolean isForeign = !own && Sluice.OWN.contains(key);
      if (isForeign && !ConfigNames.isOff(value)) {
        throw new InvalidInputException(
            "%s is %s, which is read with model_type sluice alone; change model_type or remove it"
                .formatted(key, Printable.brief(value, 60)));
      }
      if (ConfigNames.isRefused(key, value)) {
        if (!key.equals("quantization_config")) {
          throw refused(key, value);
        }
        notes.addAll(Quantization.of(value).notes());
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
              .formatted(type, unknown.size() == 1 ? "it" : "them", Listing.ofWords(unknown)));
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
          case "compression_config" ->
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
  int size(String key, @Nullable Integer otherwise) {
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

  double number(String key, double otherwise) {
    Double value = keys.number(key);
    return value == null ? otherwise : value;
  }

  boolean flag(String key, boolean otherwise) {
    return Objects.requireNonNullElse(keys.flag(key), otherwise);
  }

  String word(String key, String otherwise) {
    return Objects.requireNonNullElse(keys.word(key), otherwise);
  }

  InvalidInputException missing(String key) {
    return new InvalidInputException(
        "%s is missing among %s; add it".formatted(key, Listing.of(keys.all())));
  }

  private static String shown(double number) {
    return number == Math.rint(number) && Math.abs(number) < 1e15
        ? Long.toString((long) number)
        : Double.toString(number);
  }
}
