package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.RopeScaling;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufMetadata;
import dev.sluice.gguf.GgufTensor;
import dev.sluice.kernel.WeightFormat;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalDouble;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Makes the `config.json` that a model would have out of the metadata of its GGUF file, so that
/// the model's family reads it. Where a key is absent, what llama.cpp v0.5.0 takes is taken, and
/// told.
final class GgufConfig {
  private static final JsonMapper JSON = JsonMapper.shared();

  /// What every file says that has no effect on the model.
  private static final List<String> PASSED =
      List.of("general.", "tokenizer.", "quantize.", "split.");

  /// How far two numbers of float32 that mean the same may be apart, as a share.
  private static final double NEAR = 1e-5;

  /// Of llama.cpp's `llama_expert_gating_func_type`.
  private static final long SIGMOID = 2;

  private final Path path;
  private final GgufFile file;
  private final GgufMetadata metadata;
  private final GgufArchitecture architecture;
  private final int layers;
  private final ObjectNode json = JSON.createObjectNode();
  private final List<String> notes = new ArrayList<>();

  private GgufConfig(GgufFile file, GgufArchitecture architecture) {
    this.path = file.path();
    this.file = file;
    this.metadata = file.metadata();
    this.architecture = architecture;
    this.layers = layers();
  }

  /// The architecture, once it is known to be one that is read.
  static GgufArchitecture architecture(GgufFile file) {
    String type = file.metadata().text("general.type");
    if (type != null && !type.equals("model")) {
      throw new InvalidInputException(
          "%s holds a part of general.type %s and not a model; name the file of the model itself"
              .formatted(file.path(), Listing.quoted(type)));
    }
    String word = file.metadata().text("general.architecture");
    var architecture = GgufArchitecture.named(word);
    if (architecture == null) {
      throw new InvalidInputException(
          "%s %s; Sluice reads %s"
              .formatted(
                  file.path(),
                  word == null
                      ? "does not say its general.architecture"
                      : "is of the architecture " + Listing.quoted(word),
                  String.join(", ", GgufArchitecture.words())));
    }
    return architecture;
  }

  /// The model that a file holds.
  static ModelConfig read(GgufFile file) {
    var config = new GgufConfig(file, architecture(file));
    try {
      config.fill();
      var model = ConfigReader.read(config.json);
      List<String> notes = new ArrayList<>(config.notes);
      notes.addAll(model.notes());
      return new ModelConfig(
          model.decoder(),
          model.family(),
          model.packing(),
          notes.stream().map(note -> Printable.line(file.path() + ": " + note)).toList());
    } catch (InvalidInputException e) {
      String message = String.valueOf(e.getMessage());
      throw message.startsWith(file.path().toString())
          ? e
          : new InvalidInputException(
              "%s: its metadata as a config.json: %s".formatted(file.path(), message), e);
    }
  }

  // ---------------------------------------------------------------- keys

  private String key(String key) {
    return architecture.word() + "." + key;
  }

  private InvalidInputException missing(String key) {
    return new InvalidInputException(
        "%s has no metadata key '%s'; fetch it again or convert the model anew"
            .formatted(path, key(key)));
  }

  private InvalidInputException wrong(String key, Object value, String must) {
    return new InvalidInputException(
        "%s: the metadata key '%s' is %s and %s; fetch the file again or convert the model anew"
            .formatted(path, key(key), Printable.brief(value, 60), must));
  }

  /// A number of things, one value or a list of which all are alike, but for those that are 0.
  private @Nullable Integer size(String key) {
    Long value;
    if (metadata.isList(key(key))) {
      long[] all = metadata.wholes(key(key));
      long[] distinct =
          Arrays.stream(all == null ? new long[0] : all)
              .filter(each -> each != 0)
              .distinct()
              .toArray();
      if (distinct.length != 1) {
        throw wrong(key, Arrays.toString(all), "layers that differ in it are not known here");
      }
      value = distinct[0];
    } else {
      value = metadata.whole(key(key));
    }
    if (value == null) {
      return null;
    }
    if (value > Integer.MAX_VALUE) {
      throw wrong(key, value, "no model has as many");
    }
    return Math.toIntExact(value);
  }

  private int need(String key) {
    Integer size = size(key);
    if (size == null) {
      throw missing(key);
    }
    return size;
  }

  private int orElse(String key, int otherwise) {
    Integer size = size(key);
    if (size == null) {
      notes.add("not given, and taken as llama.cpp does: %s %d".formatted(key(key), otherwise));
    }
    return size == null ? otherwise : size;
  }

  private double number(String key, double otherwise) {
    Double number = metadata.number(key(key));
    return number == null ? otherwise : number;
  }

  /// One value for each layer, from a list that may go on with the layers of further tokens, or
  /// from a single value.
  private int @Nullable [] each(String key) {
    if (!metadata.has(key(key))) {
      return null;
    }
    if (!metadata.isList(key(key))) {
      int[] each = new int[layers];
      Arrays.fill(each, need(key));
      return each;
    }
    long[] all = metadata.wholes(key(key));
    if (all == null || all.length < layers) {
      throw wrong(
          key, Arrays.toString(all), "must have a value for each of %d layers".formatted(layers));
    }
    return Arrays.stream(all, 0, layers).mapToInt(Math::toIntExact).toArray();
  }

  private boolean @Nullable [] flags(String key) {
    boolean[] all = metadata.isList(key(key)) ? metadata.flags(key(key)) : null;
    if (all != null && all.length < layers) {
      throw wrong(
          key, Arrays.toString(all), "must have a value for each of %d layers".formatted(layers));
    }
    return all;
  }

  private boolean has(int layer, String name) {
    return file.tensors().containsKey("blk." + layer + "." + name);
  }

  /// The layers of the model itself: the file may hold more, which predict further tokens.
  private int layers() {
    Long blocks = metadata.whole(key("block_count"));
    if (blocks == null) {
      throw missing("block_count");
    }
    Long more = metadata.whole(key("nextn_predict_layers"));
    long count = blocks - (more == null ? 0 : more);
    if (count < 1 || count > file.tensors().size()) {
      throw wrong(
          "block_count",
          blocks,
          "%d of them predict further tokens, while the file holds %d tensors"
              .formatted(more == null ? 0 : more, file.tensors().size()));
    }
    return (int) count;
  }

  // ---------------------------------------------------------------- what all have

  private void fill() {
    json.put("model_type", architecture.modelType());
    var embedding = file.tensors().get("token_embd.weight");
    if (embedding == null || embedding.shape().size() != 2) {
      throw new InvalidInputException(
          "%s holds no matrix 'token_embd.weight'; fetch it again".formatted(path));
    }
    vocabulary(embedding);
    json.put("hidden_size", need("embedding_length"));
    json.put("num_hidden_layers", layers);
    json.put("max_position_embeddings", need("context_length"));
    json.put("rms_norm_eps", epsilon());
    json.put("tie_word_embeddings", !file.tensors().containsKey("output.weight"));
    heads();
    requireCausal();
    switch (architecture) {
      case QWEN3 -> {
        json.put("intermediate_size", need("feed_forward_length"));
        rotary(1);
      }
      case QWEN3_MOE -> {
        mixture();
        json.put("norm_topk_prob", true);
        sparseLayers();
        rotary(1);
      }
      case QWEN3_NEXT, QWEN35, QWEN35_MOE -> hybrid();
      case AFMOE -> afmoe();
      case GPT_OSS -> gptOss();
      case LAGUNA -> laguna();
      case STEP35 -> step35();
    }
    tellWhatIsLeft();
  }

  private void vocabulary(GgufTensor embedding) {
    int rows = Math.toIntExact(Math.min(embedding.shape().getFirst(), Integer.MAX_VALUE));
    Integer said = size("vocab_size");
    if (said != null && said != rows) {
      throw wrong("vocab_size", said, "token_embd.weight has %d rows".formatted(rows));
    }
    json.put("vocab_size", rows);
  }

  private double epsilon() {
    Double epsilon = metadata.number(key("attention.layer_norm_rms_epsilon"));
    if (epsilon == null) {
      throw missing("attention.layer_norm_rms_epsilon");
    }
    return epsilon;
  }

  private void heads() {
    boolean differ =
        architecture == GgufArchitecture.LAGUNA || architecture == GgufArchitecture.STEP35;
    if (!differ) {
      json.put("num_attention_heads", need("attention.head_count"));
    }
    if (architecture != GgufArchitecture.STEP35) {
      Integer keyValue = size("attention.head_count_kv");
      json.put("num_key_value_heads", keyValue == null ? need("attention.head_count") : keyValue);
    }
    json.put("head_dim", headDim());
  }

  private int headDim() {
    Integer length = size("attention.key_length");
    Integer values = size("attention.value_length");
    if (length == null) {
      length = need("embedding_length") / Math.max(1, need("attention.head_count"));
    }
    if (values != null && !values.equals(length)) {
      throw wrong(
          "attention.value_length",
          values,
          "heads of keys have %d, which must be equal".formatted(length));
    }
    return length;
  }

  private void requireCausal() {
    Boolean causal = metadata.flag(key("attention.causal"));
    if (causal != null && !causal) {
      throw wrong("attention.causal", false, "attention to later tokens is not computed");
    }
  }

  // ---------------------------------------------------------------- rotation

  /// @param share of a head that turns where nothing is said
  private void rotary(double share) {
    fill(json.putObject("rope_parameters"), "", share, true);
  }

  /// @param kind empty, or `_swa` for layers with a window
  /// @param isScaled whether the frequencies may be stretched
  private void fill(ObjectNode rope, String kind, double share, boolean isScaled) {
    double base = number("rope.freq_base", 10_000);
    rope.put("rope_theta", kind.isEmpty() ? base : number("rope.freq_base" + kind, base));
    Integer turned = size("rope.dimension_count" + kind);
    double given = turned == null ? share : (double) turned / headDim();
    boolean isWhole =
        architecture == GgufArchitecture.QWEN3
            || architecture == GgufArchitecture.QWEN3_MOE
            || architecture == GgufArchitecture.GPT_OSS
            || architecture == GgufArchitecture.AFMOE;
    if (!isWhole) {
      rope.put("partial_rotary_factor", given);
    } else if (given != 1) {
      throw wrong(
          "rope.dimension_count" + kind,
          turned == null ? "absent" : turned,
          "the whole head of %d turns in such a model".formatted(headDim()));
    }
    String type = isScaled ? scalingType() : "none";
    double times = number("rope.scaling.attn_factor", 1);
    if (isScaled && times != 1 && !type.equals("yarn")) {
      throw wrong("rope.scaling.attn_factor", times, "only 1 is computed without YaRN");
    }
    switch (type) {
      case "none" -> rope.put("rope_type", "default");
      case "linear" -> {
        rope.put("rope_type", "linear");
        rope.put("factor", scalingFactor());
      }
      case "yarn" -> {
        double factor = scalingFactor();
        rope.put("rope_type", "yarn");
        rope.put("factor", factor);
        rope.put("original_max_position_embeddings", need("rope.scaling.original_context_length"));
        rope.put("beta_fast", number("rope.scaling.yarn_beta_fast", 32));
        rope.put("beta_slow", number("rope.scaling.yarn_beta_slow", 1));
        attentionFactor(factor, times).ifPresent(own -> rope.put("attention_factor", own));
        if (number("rope.scaling.yarn_ext_factor", 1) != 1) {
          throw wrong(
              "rope.scaling.yarn_ext_factor",
              number("rope.scaling.yarn_ext_factor", 1),
              "only 1 is computed");
        }
        if (architecture == GgufArchitecture.GPT_OSS) {
          rope.put("truncate", false);
        }
      }
      default ->
          throw wrong("rope.scaling.type", type, "only none, linear and yarn are known here");
    }
  }

  /// Where no type is given and a factor is, llama.cpp takes it for linear (`llama-model.cpp`).
  private String scalingType() {
    String type = metadata.text(key("rope.scaling.type"));
    if (type != null) {
      return type;
    }
    double factor = factorOrOne();
    if (factor == 1) {
      return "none";
    }
    notes.add(
        "rope.scaling.type is not given, and taken as llama.cpp does: linear, by %s"
            .formatted(factor));
    return "linear";
  }

  /// What YaRN multiplies cosines and sines with. llama.cpp takes 0.1 ln s + 1, times what
  /// `attn_factor` says (`llama-context.cpp`); its converter puts a checkpoint's own number into
  /// `yarn_attn_factor`, of which it then takes no notice.
  ///
  /// @param factor s
  /// @param times `attn_factor`
  /// @return empty for 0.1 ln s + 1
  private OptionalDouble attentionFactor(double factor, double times) {
    double usual = RopeScaling.Yarn.usualAttentionFactor(factor);
    Double own = metadata.number(key("rope.scaling.yarn_attn_factor"));
    if (own == null) {
      return times == 1 ? OptionalDouble.empty() : OptionalDouble.of(usual * times);
    }
    boolean agree = Math.abs(own - usual * times) <= NEAR * own;
    if (times != 1 && !agree) {
      throw wrong(
          "rope.scaling.yarn_attn_factor",
          own,
          "rope.scaling.attn_factor %s says %s".formatted(times, usual * times));
    }
    if (!agree) {
      notes.add(
          "rope.scaling.yarn_attn_factor %s is taken, as the checkpoint's own; llama.cpp reads it not and takes %s"
              .formatted(own, usual));
    }
    return OptionalDouble.of(own);
  }

  /// An older key for the factor is read as llama.cpp does.
  private double factorOrOne() {
    Double factor = metadata.number(key("rope.scaling.factor"));
    Double older = metadata.number(key("rope.scale_linear"));
    Double given = factor != null ? factor : older;
    return given == null || given == 0 ? 1 : given;
  }

  private double scalingFactor() {
    if (!metadata.has(key("rope.scaling.factor")) && !metadata.has(key("rope.scale_linear"))) {
      throw missing("rope.scaling.factor");
    }
    return factorOrOne();
  }

  // ---------------------------------------------------------------- layers

  private void layerTypes(boolean[] isOther, String other) {
    var types = json.putArray("layer_types");
    for (int layer = 0; layer < layers; layer++) {
      types.add(isOther[layer] ? other : ConfigReader.FULL);
    }
  }

  /// Which layers have a window: as a list says, or all but every so-manieth.
  ///
  /// @param every where nothing is said
  /// @param fullFirst whether a group begins with the layer that has none
  private boolean[] sliding(int every, boolean fullFirst) {
    boolean[] given = flags("attention.sliding_window_pattern");
    if (given != null) {
      return given;
    }
    Integer said = size("attention.sliding_window_pattern");
    int period = said == null ? every : said;
    boolean[] sliding = new boolean[layers];
    for (int layer = 0; layer < layers; layer++) {
      sliding[layer] =
          period > 1 && (fullFirst ? layer % period != 0 : layer % period < period - 1);
    }
    return sliding;
  }

  private void windows(int every, boolean fullFirst) {
    Integer window = size("attention.sliding_window");
    boolean[] sliding = sliding(every, fullFirst);
    layerTypes(window == null || window == 0 ? new boolean[layers] : sliding, ConfigReader.SLIDING);
    if (window != null && window > 0) {
      json.put("sliding_window", window);
    }
  }

  private void mixture() {
    json.put("num_experts", need("expert_count"));
    json.put("num_experts_per_tok", need("expert_used_count"));
    Integer width = size("expert_feed_forward_length");
    json.put("moe_intermediate_size", width == null ? widthOfExperts() : width);
    Integer dense = size("feed_forward_length");
    if (dense != null && dense > 0) {
      json.put("intermediate_size", dense);
    }
  }

  /// From the tensors, which say it too.
  private int widthOfExperts() {
    for (var tensor : file.tensors().values()) {
      if (tensor.name().endsWith(".ffn_gate_exps.weight") && tensor.shape().size() == 3) {
        return Math.toIntExact(tensor.shape().get(1));
      }
    }
    throw missing("expert_feed_forward_length");
  }

  /// The layers that have no experts among those that have.
  private void sparseLayers() {
    var dense = json.putArray("mlp_only_layers");
    IntStream.range(0, layers)
        .filter(layer -> !has(layer, "ffn_gate_inp.weight"))
        .forEach(dense::add);
  }

  private void hybrid() {
    if (architecture == GgufArchitecture.QWEN35) {
      json.put("intermediate_size", need("feed_forward_length"));
    } else {
      mixture();
      Integer shared = size("expert_shared_feed_forward_length");
      if (shared == null) {
        throw missing("expert_shared_feed_forward_length");
      }
      json.put("shared_expert_intermediate_size", shared);
      if (architecture == GgufArchitecture.QWEN3_NEXT) {
        json.put("norm_topk_prob", true);
        sparseLayers();
      } else {
        json.remove("intermediate_size"); // its layers all have experts
      }
    }
    int valueHeads = need("ssm.time_step_rank");
    int inner = need("ssm.inner_size");
    if (valueHeads < 1 || inner % valueHeads != 0) {
      throw wrong(
          "ssm.inner_size",
          inner,
          "must be a multiple of ssm.time_step_rank %d".formatted(valueHeads));
    }
    json.put("linear_conv_kernel_dim", need("ssm.conv_kernel"));
    json.put("linear_num_key_heads", need("ssm.group_count"));
    json.put("linear_num_value_heads", valueHeads);
    json.put("linear_key_head_dim", need("ssm.state_size"));
    json.put("linear_value_head_dim", inner / valueHeads);
    boolean[] recurrent = flags("attention.recurrent_layers");
    Integer interval = size("full_attention_interval");
    if (recurrent == null) {
      int every = interval == null ? orElse("full_attention_interval", 4) : interval;
      if (every < 1) {
        throw wrong("full_attention_interval", every, "must be positive");
      }
      recurrent = new boolean[layers];
      for (int layer = 0; layer < layers; layer++) {
        recurrent[layer] = (layer + 1) % every != 0;
      }
    }
    layerTypes(recurrent, ConfigReader.LINEAR);
    rotary(1);
    metadata.pass(key("rope.dimension_sections")); // of text all are the same
    if (Boolean.FALSE.equals(metadata.flag(key("ssm.v_head_reordered")))) {
      throw wrong("ssm.v_head_reordered", false, "only files with reordered heads are read");
    }
  }

  private void requireSigmoid() {
    Long function = metadata.whole(key("expert_gating_func"));
    if (function != null && function != SIGMOID) {
      throw wrong("expert_gating_func", function, "only 2, a sigmoid, is known in such a model");
    }
  }

  private void requireShares() {
    Boolean shares = metadata.flag(key("expert_weights_norm"));
    if (shares == null) {
      notes.add(
          "%s is not given; the chosen experts' weights are made to sum to one, as in every such model"
              .formatted(key("expert_weights_norm")));
    } else if (!shares) {
      throw wrong("expert_weights_norm", false, "only true is computed");
    }
  }

  private void afmoe() {
    mixture();
    requireSigmoid();
    requireShares();
    json.put("num_dense_layers", orElse("leading_dense_block_count", 0));
    json.put("num_shared_experts", need("expert_shared_count"));
    json.put("route_scale", number("expert_weights_scale", 1));
    json.put("mup_enabled", true); // llama.cpp knows no other
    windows(4, false);
    rotary(1);
    Double swa = metadata.number(key("rope.freq_base_swa"));
    if (swa != null && swa != number("rope.freq_base", 10_000)) {
      json.withObject("/rope_parameters")
          .put("rope_theta", swa); // layers without a window do not turn
    }
  }

  private void gptOss() {
    mixture();
    json.put("intermediate_size", json.path("moe_intermediate_size").asInt());
    json.remove("moe_intermediate_size");
    json.put("num_local_experts", json.path("num_experts").asInt());
    json.remove("num_experts");
    json.put("attention_bias", has(0, "attn_q.bias"));
    windows(2, false);
    rotary(1);
  }

  private void laguna() {
    mixture();
    requireSigmoid();
    requireShares();
    int[] heads = each("attention.head_count");
    if (heads == null) {
      throw missing("attention.head_count");
    }
    json.put("num_attention_heads", heads[0]);
    var each = json.putArray("num_attention_heads_per_layer");
    Arrays.stream(heads).forEach(each::add);
    json.put("shared_expert_intermediate_size", need("expert_shared_feed_forward_length"));
    size("expert_shared_count");
    json.put("moe_routed_scaling_factor", number("expert_weights_scale", 1));
    int dense = orElse("leading_dense_block_count", 0);
    var forms = json.putArray("mlp_layer_types");
    IntStream.range(0, layers).forEach(layer -> forms.add(layer < dense ? "dense" : "sparse"));
    windows(4, true);
    gating(heads[0]);
    byKind();
  }

  private void gating(int heads) {
    var gate = file.tensors().get("blk.0.attn_gate.weight");
    long rows = gate == null || gate.shape().isEmpty() ? heads : gate.shape().getFirst();
    json.put("gating", rows == heads ? "per-head" : "per-element");
  }

  private void byKind() {
    var rope = json.putObject("rope_parameters");
    fill(rope.putObject(ConfigReader.FULL), "", 1, true);
    if (json.has("sliding_window")) {
      windowed(rope);
    }
  }

  /// Layers with a window, of whose heads as much turns as the file says of the others where it
  /// says nothing of theirs (`llama-model.cpp`).
  private void windowed(ObjectNode rope) {
    Integer turned = size("rope.dimension_count");
    double share = turned == null ? 1 : (double) turned / headDim();
    fill(rope.putObject(ConfigReader.SLIDING), "_swa", share, false);
  }

  private void step35() {
    int[] heads = each("attention.head_count");
    int[] keyValue = each("attention.head_count_kv");
    if (heads == null || keyValue == null) {
      throw missing("attention.head_count");
    }
    var groups = new TreeSet<>(Arrays.stream(keyValue).boxed().toList());
    if (groups.size() != 1) {
      throw wrong("attention.head_count_kv", groups, "layers that differ in it are not known here");
    }
    json.put("num_attention_groups", groups.getFirst());
    json.put("moe_num_experts", need("expert_count"));
    json.put("moe_top_k", need("expert_used_count"));
    json.put("intermediate_size", need("feed_forward_length"));
    json.put("moe_intermediate_size", need("expert_feed_forward_length"));
    json.put("share_expert_dim", need("expert_shared_feed_forward_length"));
    json.put("moe_router_scaling_factor", number("expert_weights_scale", 1));
    requireSigmoid();
    requireShares();
    size("leading_dense_block_count"); // the tensors say which layers have experts
    size("moe_every_n_layers");
    var forms = json.putArray("mlp_layer_types");
    IntStream.range(0, layers)
        .forEach(layer -> forms.add(has(layer, "ffn_gate_inp.weight") ? "sparse" : "dense"));
    clamps("swiglu_clamp_exp", "swiglu_limits");
    clamps("swiglu_clamp_shexp", "swiglu_limits_shared");
    boolean[] sliding = flags("attention.sliding_window_pattern");
    if (sliding == null) {
      throw missing("attention.sliding_window_pattern");
    }
    windows(1, false);
    json.put("num_attention_heads", heads[0]);
    var each = json.putObject("per_layer_config");
    for (int layer = 0; layer < layers; layer++) {
      if (heads[layer] != heads[0]) {
        each.putObject(String.valueOf(layer)).put("num_attention_heads", heads[layer]);
      }
    }
    var rope = json.putObject("rope_parameters");
    fill(rope.putObject(ConfigReader.FULL), "", 1, true);
    // llama.cpp halves what the key says (`step35.cpp`)
    var full = rope.withObject("/" + ConfigReader.FULL);
    double share = full.path("partial_rotary_factor").asDouble(1) / 2;
    full.put("partial_rotary_factor", share);
    String stretch = full.path("rope_type").asString("");
    if (!stretch.equals("default")) { // llama.cpp stretches layers with a window too
      throw wrong("rope.scaling.type", stretch, "layers with a window are not stretched here");
    }
    rotaryFactors(full, (int) (headDim() * share) / 2);
    windowed(rope);
  }

  /// Factors of the frequencies of layers without a window.
  ///
  /// @param pairs how many elements of their heads turn, in pairs
  private void rotaryFactors(ObjectNode full, int pairs) {
    var tensor = file.tensors().get(GgufPlace.ROTARY_FACTORS);
    if (tensor == null) {
      return;
    }
    if (tensor.format() != WeightFormat.F32 || tensor.elements() < pairs) {
      throw new InvalidInputException(
          "the tensor %s in %s has %d numbers of the format %s where at least %d of f32 are needed; fetch the file again or convert the model anew"
              .formatted(
                  Listing.quoted(tensor.name()),
                  path,
                  tensor.elements(),
                  tensor.format().word(),
                  pairs));
    }
    float[] factors = new float[pairs];
    tensor.format().dequantize(tensor.data(), 0, pairs, factors, 0);
    List<Double> all = new ArrayList<>();
    for (float factor : factors) {
      all.add((double) factor);
    }
    if (all.stream().allMatch(each -> each == 1)) {
      return;
    }
    String type = full.path("rope_type").asString();
    if (!type.equals("default")) {
      throw wrong(
          "rope.scaling.type",
          type,
          "the factors of %s are not computed with it".formatted(GgufPlace.ROTARY_FACTORS));
    }
    ConfigWriter.longRope(full, new RopeScaling.Factors(all));
  }

  private void clamps(String key, String name) {
    double[] all;
    if (metadata.isList(key(key))) {
      all = metadata.numbers(key(key));
    } else {
      Double one = metadata.number(key(key));
      all = one == null ? null : IntStream.range(0, layers).mapToDouble(_ -> one).toArray();
    }
    if (all == null) {
      return;
    }
    if (all.length < layers) {
      throw wrong(
          key, Arrays.toString(all), "must have a value for each of %d layers".formatted(layers));
    }
    var limits = json.putArray(name);
    Arrays.stream(all, 0, layers).forEach(limits::add);
  }

  // ---------------------------------------------------------------- what is left

  private void tellWhatIsLeft() {
    Integer groups = size("expert_group_count");
    if (groups != null && groups > 1) {
      throw wrong("expert_group_count", groups, "experts in groups are not computed");
    }
    metadata.pass(key("expert_group_used_count"));
    var own = metadata.left(architecture.word() + ".");
    if (!own.isEmpty()) {
      notes.add("metadata that are not used: " + Listing.of(own));
    }
    var others =
        metadata.left("").stream()
            .filter(key -> !own.contains(key) && PASSED.stream().noneMatch(key::startsWith))
            .toList();
    if (!others.isEmpty()) {
      notes.add("metadata of none of its concerns, which are not used: " + Listing.of(others));
    }
  }
}
