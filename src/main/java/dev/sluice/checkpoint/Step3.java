package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.Biases;
import dev.sluice.attention.Positions;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.ConfigReader.RotaryDefaults;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.Glu;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.Router;
import dev.sluice.decoder.SharedExpert;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.RmsNorm;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.IntFunction;
import java.util.function.IntUnaryOperator;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import tools.jackson.databind.JsonNode;

/// Step-3.5 and the text part of Step-3.7 (`configuration_step3p7.py`, `modeling_step3p7.py`): a
/// headwise gate with a matrix of its own, zero-centred norms, windows in some layers, which have
/// heads and a rotation of their own, and experts chosen by sigmoids, some clamped. They are read,
/// not written.
final class Step3 implements Family {
  private static final String TEXT = "step3p5";
  private static final String WHOLE = "step3p7";

  private static final Pattern EXPERT =
      Pattern.compile("mlp\\.experts\\.(?<expert>\\d+)\\.(?<part>\\w+_proj)\\.weight");

  /// Our names within a layer, and theirs.
  private static final List<List<String>> NAMES =
      List.of(
          List.of(ModelDirectory.GATE, "self_attn.g_proj.weight"),
          List.of("mlp.gate.weight", "moe.gate.weight"),
          List.of("mlp.gate.e_score_correction_bias", "moe.router_bias"),
          List.of("mlp.shared_expert.", "share_expert."));

  @Override
  public Set<String> modelTypes() {
    return Set.of(TEXT, WHOLE);
  }

  @Override
  public Set<String> architectures() {
    return Set.of("Step3p5ForCausalLM", "Step3p7ForConditionalGeneration");
  }

  @Override
  public Set<String> skipped() {
    return Set.of(
        "vision_model.",
        "model.vision_model.",
        "vit_large_projector.",
        "model.vit_large_projector.");
  }

  @Override
  public Set<String> keys() {
    return Set.of(
        "intermediate_size",
        "moe_intermediate_size",
        "share_expert_dim",
        "share_expert_dims",
        "n_routed_experts",
        "moe_num_experts",
        "num_experts",
        "num_local_experts",
        "num_experts_per_tok",
        "moe_top_k",
        "num_attention_groups",
        "layer_types",
        "mlp_layer_types",
        "moe_layers_enum",
        "sliding_window",
        "num_sliding_attention_heads",
        "attention_other_setting",
        "per_layer_config",
        "moe_router_scaling_factor",
        "swiglu_limits",
        "swiglu_limits_shared",
        "partial_rotary_factors",
        "query_pre_attn_scalar",
        "num_nextn_predict_layers",
        "attention_bias");
  }

  // ---------------------------------------------------------------- reading

  @Override
  public ModelConfig read(ConfigReader config) {
    if (!config.type().equals(WHOLE)) {
      return config.model(text(config), this, GatePacking.SEPARATE);
    }
    var _ = config.keys().value("vision_config");
    var _ = config.keys().integer("image_token_id");
    var _ = config.keys().flag("projector_bias");
    config.note("the model's text part alone is read; it sees no images");
    var decoder = text(config.within("text_config", TEXT));
    Boolean tied = config.keys().flag("tie_word_embeddings");
    config.finish();
    return config.model(
        tied == null ? decoder : decoder.withTieWordEmbeddings(tied), this, GatePacking.SEPARATE);
  }

  private static DecoderConfig text(ConfigReader config) {
    var keys = config.keys();
    int vocabSize = config.size("vocab_size", 128_815);
    int hiddenSize = config.size("hidden_size", 4096);
    int width = config.size("intermediate_size", 11_264);
    int expertWidth = config.size("moe_intermediate_size", 1280);
    int layers = config.layers(45);
    int heads = config.size("num_attention_heads", 64);
    int keyValueHeads = first(config, 8, "num_attention_groups", "num_key_value_heads");
    int headDim = config.size("head_dim", 128);
    int longest = config.longest(128_000);
    var norm = new RmsNorm(config.epsilon(1e-5), true);
    boolean tied = config.flag("tie_word_embeddings", false);
    double range = config.number("initializer_range", 0.02);
    int count =
        first(
            config, 288, "moe_num_experts", "n_routed_experts", "num_local_experts", "num_experts");
    int perToken = first(config, 8, "moe_top_k", "num_experts_per_tok");
    int shared = first(config, 1280, "share_expert_dims", "share_expert_dim");
    Double scalar = keys.number("query_pre_attn_scalar");
    if (scalar != null && scalar != headDim) {
      throw new InvalidInputException(
          "query_pre_attn_scalar is %s, which Sluice does not compute; only head_dim, %d, is"
              .formatted(scalar, headDim));
    }
    int more = Objects.requireNonNullElse(keys.integer("num_nextn_predict_layers"), 0);
    List<String> kinds =
        cut(
            config,
            "layer_types",
            layers,
            more,
            List.of(ConfigReader.FULL, ConfigReader.SLIDING),
            _ -> ConfigReader.FULL);
    Set<Integer> enumerated = enumerated(keys, layers);
    List<String> forms =
        cut(
            config,
            "mlp_layer_types",
            layers,
            more,
            List.of("dense", "sparse"),
            layer -> enumerated.contains(layer) ? "sparse" : "dense");
    var limits = numbers(config, "swiglu_limits", layers, more, 0);
    var sharedLimits = numbers(config, "swiglu_limits_shared", layers, more, 0);
    int window = config.window(kinds, null);
    IntUnaryOperator headsOf = heads(config, kinds, heads);
    Map<String, Rotary> rotary = rotary(config, kinds, layers, more, longest);
    boolean biases = config.flag("attention_bias", false);
    double scale = config.number("moe_router_scaling_factor", 1);
    config.finish();
    var router =
        new Router(Router.Score.SIGMOID, new Router.Weighting.Shares(0), scale, false, true, 0);
    return ConfigReader.decoder(
        vocabSize,
        layers,
        layer ->
            new LayerConfig(
                new AttentionConfig(
                        hiddenSize,
                        headsOf.applyAsInt(layer),
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
                    .with(List.of(Gate.SDPA_HEADWISE)),
                forms.get(layer).equals("sparse")
                    ? new FeedForwardConfig(
                        hiddenSize,
                        expertWidth,
                        glu(limits.get(layer)),
                        false,
                        new Experts(
                            count,
                            perToken,
                            router,
                            new SharedExpert(shared, false, glu(sharedLimits.get(layer))),
                            0,
                            0))
                    : new FeedForwardConfig(
                        hiddenSize, width, glu(sharedLimits.get(layer)), false, Experts.NONE),
                ResidualVariant.PLAIN),
        longest,
        norm,
        tied,
        range);
  }

  /// One fact under several names, of which the first that is there counts.
  private static int first(ConfigReader config, int otherwise, String... names) {
    Integer found = null;
    for (String name : names) {
      Integer value = config.keys().integer(name);
      found = found == null ? value : found;
    }
    if (found == null) {
      config.taken(names[names.length - 1] + " " + otherwise);
    }
    return found == null ? otherwise : found;
  }

  /// 0 means that nothing is clamped.
  private static Glu glu(double limit) {
    return limit == 0 ? new Glu.Swish() : new Glu.ClampedFactors(limit);
  }

  /// Words of a list that may go on with the layers that predict further tokens, which are not
  /// read.
  private static List<String> cut(
      ConfigReader config,
      String key,
      int layers,
      int more,
      List<String> known,
      IntFunction<String> otherwise) {
    List<String> words = config.keys().words(key);
    boolean longer = words != null && more > 0 && words.size() == layers + more;
    return longer
        ? config.kinds(key, layers + more, known, otherwise).subList(0, layers)
        : config.kinds(key, layers, known, otherwise);
  }

  private static List<Double> numbers(
      ConfigReader config, String key, int layers, int more, double otherwise) {
    JsonNode given = config.keys().value(key);
    if (given == null) {
      return Collections.nCopies(Math.max(0, layers), otherwise);
    }
    List<Double> numbers = new ArrayList<>();
    for (JsonNode each : given) {
      if (each.isNumber() || each.isNull()) {
        numbers.add(each.isNull() ? otherwise : each.numberValue().doubleValue());
      }
    }
    boolean fits = numbers.size() == layers || (more > 0 && numbers.size() == layers + more);
    if (!given.isArray() || numbers.size() != given.size() || !fits) {
      throw new InvalidInputException(
          "%s must be a list of %d numbers, not %s"
              .formatted(key, layers, Printable.brief(given, 60)));
    }
    return numbers.subList(0, layers);
  }

  /// The layers with experts where `mlp_layer_types` says nothing: as `moe_layers_enum` says, or
  /// all from the fourth on.
  private static Set<Integer> enumerated(ConfigKeys keys, int layers) {
    JsonNode given = keys.value("moe_layers_enum");
    Set<Integer> sparse = new HashSet<>();
    if (given == null) {
      for (int layer = 3; layer < Math.min(layers, 1 << 20); layer++) {
        sparse.add(layer);
      }
      return sparse;
    }
    List<String> words = new ArrayList<>();
    if (given.isString()) {
      words.addAll(List.of(given.stringValue().split(",")));
    } else {
      given.forEach(each -> words.add(each.asString("")));
    }
    try {
      words.stream()
          .filter(word -> !word.isBlank())
          .forEach(word -> sparse.add(Integer.valueOf(word.strip())));
    } catch (NumberFormatException _) {
      throw keys.wrong("moe_layers_enum", "numbers of layers with commas between", given);
    }
    return sparse;
  }

  /// Layers with a window may have another number of heads.
  private static IntUnaryOperator heads(ConfigReader config, List<String> kinds, int heads) {
    Integer sliding = config.keys().integer("num_sliding_attention_heads");
    ConfigKeys other = config.keys().object("attention_other_setting");
    if (other != null) {
      Integer older = other.integer("num_attention_heads");
      sliding = sliding == null ? older : sliding;
    }
    int ofSliding = sliding == null ? heads : sliding;
    IntUnaryOperator all =
        layer -> kinds.get(layer).equals(ConfigReader.SLIDING) ? ofSliding : heads;
    ConfigKeys each = config.keys().object("per_layer_config");
    if (each == null) {
      return all;
    }
    Map<Integer, Integer> given = new HashMap<>();
    for (String layer : each.all()) {
      var one = each.object(layer);
      Integer count = one == null ? null : one.integer("num_attention_heads");
      if (one == null || count == null || !one.left().isEmpty() || !layer.matches("\\d{1,6}")) {
        throw new InvalidInputException(
            "per_layer_config.%s must say num_attention_heads and nothing else"
                .formatted(Printable.brief(layer, 40)));
      }
      given.put(Integer.valueOf(layer), count);
    }
    return layer -> given.getOrDefault(layer, heads);
  }

  /// One object for each kind of layer, or lists with a number for each layer, of which those of a
  /// kind agree.
  private static Map<String, Rotary> rotary(
      ConfigReader config, List<String> kinds, int layers, int more, int longest) {
    var keys = config.keys();
    Map<String, Rotary> rotary = new HashMap<>();
    ConfigKeys parameters = keys.object("rope_parameters");
    JsonNode theta = keys.value("rope_theta");
    JsonNode shares = keys.value("partial_rotary_factors");
    boolean byKind = parameters != null && kinds.stream().distinct().allMatch(parameters::has);
    if (byKind) {
      for (String kind : new HashSet<>(kinds)) {
        rotary.put(kind, config.rotary(kind, longest, new RotaryDefaults(10_000, 1.0, false)));
      }
      return rotary;
    }
    List<Double> thetas =
        theta == null || theta.isNumber()
            ? Collections.nCopies(
                layers, theta == null ? 10_000 : theta.numberValue().doubleValue())
            : numbers(config, "rope_theta", layers, more, 10_000);
    List<Double> share =
        shares == null
            ? Collections.nCopies(layers, 1.0)
            : numbers(config, "partial_rotary_factors", layers, more, 1);
    ConfigKeys scaling = keys.object("rope_scaling");
    for (int layer = 0; layer < layers; layer++) {
      var plain = new Rotary(thetas.get(layer), new RopeScaling.None(), share.get(layer));
      var before = rotary.putIfAbsent(kinds.get(layer), plain);
      if (before != null && !before.equals(plain)) {
        throw new InvalidInputException(
            "rope_theta or partial_rotary_factors differ among layers of %s, which Sluice does not compute"
                .formatted(kinds.get(layer)));
      }
    }
    Rotary full = rotary.get(ConfigReader.FULL);
    if (scaling != null && full != null) {
      rotary.put(ConfigReader.FULL, config.scaled(scaling, full, longest));
    }
    return rotary;
  }

  // ---------------------------------------------------------------- weights

  @Override
  public List<Placement> places(ModelConfig model, Parameter parameter) {
    Matcher expert = EXPERT.matcher(parameter.part());
    if (!expert.matches()) {
      return Placement.usual(model, parameter, parameter.renamed(NAMES));
    }
    long experts = model.decoder().layers().get(parameter.layer()).feedForward().experts().count();
    long[] shape = parameter.spec().shape();
    long first = Long.parseLong(expert.group("expert")) * shape[0] * shape[1];
    return List.of(
        new Placement(
            parameter.beside("moe." + expert.group("part") + ".weight"),
            new long[] {experts, shape[0], shape[1]},
            1,
            _ -> first,
            1,
            ""));
  }
}
