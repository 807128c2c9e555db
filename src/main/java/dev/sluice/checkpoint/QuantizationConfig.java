package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// Reads a `quantization_config`. Each of its keys is followed, or says again what the tensors say,
/// or is told where others compute something that Sluice does not, or is refused. A key that is not
/// known is told.
///
/// Which matrices are quantized is told by their tensors alone, so that lists of modules
/// (`modules_to_not_convert`, `ignore`, `targets`) decide nothing.
final class QuantizationConfig {
  private static final String FP8 = "fp8";
  private static final String COMPRESSED = "compressed-tensors";
  private static final String AWQ = "awq";
  private static final String GPTQ = "gptq";
  private static final String MXFP4 = "mxfp4";

  /// The methods that are read.
  private static final List<String> KNOWN = List.of(FP8, COMPRESSED, AWQ, GPTQ, MXFP4);

  /// Keys of each method that change no number of the weights: how they were found, with which
  /// kernels others compute, and which modules have them.
  private static final Map<String, Set<String>> HARMLESS =
      Map.of(
          FP8,
          Set.of("modules_to_not_convert", "ignored_layers", "scale_fmt", "dequantize"),
          COMPRESSED,
          Set.of("ignore", "quantization_status", "global_compression_ratio", "version"),
          AWQ,
          Set.of(
              "modules_to_not_convert",
              "backend",
              "do_fuse",
              "fuse_max_seq_len",
              "modules_to_fuse",
              "exllama_config"),
          GPTQ,
          Set.of(
              "modules_to_not_convert",
              "damp_percent",
              "damp_auto_increment",
              "true_sequential",
              "static_groups",
              "mse",
              "lm_head",
              "meta",
              "quantizer",
              "model_name_or_path",
              "model_file_base_name",
              "model_seqlen",
              "tokenizer",
              "dataset",
              "batch_size",
              "pad_token_id",
              "block_name_to_quantize",
              "module_name_preceding_first_block",
              "modules_in_block_to_quantize",
              "cache_block_outputs",
              "max_input_length",
              "use_cuda_fp16",
              "use_exllama",
              "disable_exllama",
              "exllama_config",
              "backend"),
          MXFP4,
          Set.of("modules_to_not_convert", "dequantize"));

  /// The same of the `weights` of a group of `compressed-tensors`.
  private static final Set<String> HARMLESS_OF_WEIGHTS =
      Set.of("observer", "observer_kwargs", "scale_dtype", "zp_dtype");

  private final JsonNode value;
  private final String method;
  private final Set<String> unknown = new LinkedHashSet<>();
  private final List<String> notes = new ArrayList<>();

  /// The keys that were looked at.
  private final Set<String> seen = new LinkedHashSet<>();

  private QuantizationConfig(JsonNode value) {
    this.value = value;
    this.method = value.path("quant_method").asString("");
  }

  /// What a value of `quantization_config` asks for.
  ///
  /// @throws InvalidInputException if it is not known here
  static Quantization read(JsonNode value) {
    return new QuantizationConfig(value).read();
  }

  private Quantization read() {
    seen.add("quant_method");
    var found =
        switch (method) {
          case FP8 -> fp8();
          case COMPRESSED -> compressed();
          case AWQ -> awq();
          case GPTQ -> gptq();
          case MXFP4 -> new Quantization(method, 4, 0, 0, false, Quantization.Said.NOTHING);
          default ->
              throw new InvalidInputException(
                  "quantization_config %s says that the weights are quantized in a way that Sluice does not read; it reads the quant_method %s; take another form of the model, or the model before that"
                      .formatted(Printable.brief(value, 100), String.join(", ", KNOWN)));
        };
    seen.addAll(HARMLESS.getOrDefault(method, Set.of()));
    tellUnknown(value, seen);
    if (!unknown.isEmpty()) {
      notes.add(
          "quantization_config has %s, which Sluice does not know and does not use"
              .formatted(Listing.of(unknown)));
    }
    return found.with(notes);
  }

  private void tellUnknown(JsonNode object, Set<String> known) {
    for (var field : object.properties()) {
      JsonNode given = field.getValue();
      boolean saysNothing = given.isNull() || (given.isContainer() && given.isEmpty());
      if (!known.contains(field.getKey()) && !saysNothing) {
        unknown.add(field.getKey());
      }
    }
  }

  // ---------------------------------------------------------------- methods

  private Quantization fp8() {
    require("fmt", Set.of("e4m3", "float8_e4m3fn", ""));
    require("activation_scheme", Set.of("dynamic", "static", ""));
    tellActivations(at("activation_scheme"), "activation_scheme");
    JsonNode sides = at("weight_block_size");
    return sides.isMissingNode()
        ? new Quantization(FP8, 8, 128, 128, false, Quantization.Said.NOTHING)
        : blocks(8, "weight_block_size", sides, Quantization.Said.NOTHING);
  }

  private Quantization awq() {
    require("bits", Set.of("4"));
    require("version", Set.of("gemm", ""));
    require("zero_point", Set.of("true", ""));
    var said = new Quantization.Said(groupSize(at("group_size")), null, false);
    return new Quantization(AWQ, 4, 0, 0, false, said);
  }

  private Quantization gptq() {
    require("bits", Set.of("4", "8"));
    var forms = Set.of("gptq", "gptq_v2", "");
    require("checkpoint_format", forms);
    require("format", forms);
    require("is_marlin_format", Set.of("false", ""));
    require("pack_dtype", Set.of("int32", ""));
    require("desc_act", Set.of("true", "false", ""));
    require("sym", Set.of("true", "false", ""));
    String older = word(at("format"));
    String form = word(at("checkpoint_format"));
    if (!form.isEmpty() && !older.isEmpty() && !form.equals(older)) {
      throw wrong("format", at("format"), "checkpoint_format is " + form);
    }
    for (var rule : at("dynamic").properties()) {
      if (!rule.getKey().startsWith("-") && !ConfigNames.isOff(rule.getValue())) {
        throw wrong("dynamic", value.path("dynamic"), "one form for all matrices is read");
      }
    }
    var said =
        new Quantization.Said(
            groupSize(at("group_size")), flag(at("sym")), word(at("desc_act")).equals("true"));
    boolean second = form.equals("gptq_v2") || older.equals("gptq_v2");
    return new Quantization(GPTQ, at("bits").asInt(), 0, 0, !second, said);
  }

  private Quantization compressed() {
    require("format", Set.of("float-quantized", "pack-quantized", "mixed-precision"));
    JsonNode sparsity = at("sparsity_config");
    if (!sparsity.path("format").asString("dense").equals("dense")) {
      throw wrong("sparsity_config", sparsity, "only dense weights are read");
    }
    JsonNode transform = at("transform_config");
    if (!isOff(transform) && !ConfigNames.isOff(transform.path("config_groups"))) {
      throw wrong(
          "transform_config", transform, "no rotation of what is multiplied is computed here");
    }
    JsonNode cache = at("kv_cache_scheme");
    if (!isOff(cache)) {
      notes.add(
          "kv_cache_scheme asks for keys and values of few bits; Sluice does not round them for"
              + " it");
    }
    Quantization found = null;
    for (JsonNode each : at("config_groups")) {
      var group = group(each);
      var other = found == null ? group : found;
      var nothing = Quantization.Said.NOTHING;
      if (!other.with(nothing).equals(group.with(nothing))) {
        throw wrong("config_groups", at("config_groups"), "groups that differ are not read");
      }
      // of groups that differ in the rest, the tensors tell which is which
      found = other.equals(group) ? group : group.with(nothing);
    }
    if (found == null) {
      throw wrong("config_groups", at("config_groups"), "must say how weights are stored");
    }
    return found;
  }

  private Quantization group(JsonNode group) {
    requireIn(
        group,
        "format",
        Set.of("float-quantized", "pack-quantized", ""),
        "the format of a config_group");
    tellUnknown(
        group, Set.of("targets", "format", "weights", "input_activations", "output_activations"));
    tellActivations(group.path("input_activations"), "input_activations");
    tellActivations(group.path("output_activations"), "output_activations");
    JsonNode weights = group.path("weights");
    int bits = weights.path("num_bits").asInt(0);
    boolean isFloat = weights.path("type").asString("").equals("float");
    if (bits != (isFloat ? 8 : 4)) {
      throw wrong(
          "config_groups", weights, "only floats of 8 bits and whole numbers of 4 are read");
    }
    String in = "of weights in a config_group";
    requireIn(
        weights,
        "strategy",
        isFloat ? Set.of("tensor", "channel", "block", "") : Set.of("group", "channel", ""),
        "the strategy " + in);
    requireIn(weights, "dynamic", Set.of("false", ""), "dynamic " + in);
    requireIn(
        weights,
        "symmetric",
        isFloat ? Set.of("true", "") : Set.of("true", "false", ""),
        "symmetric " + in);
    requireIn(
        weights,
        "actorder",
        isFloat
            ? Set.of("false", "")
            : Set.of("group", "dynamic", "weight", "static", "true", "false", ""),
        "actorder " + in);
    tellUnknown(weights, known());
    String strategy = word(weights.path("strategy"));
    JsonNode sides = weights.path("block_structure");
    if (isFloat) {
      if (strategy.equals("block") != (sides.isArray() && !strategy.isEmpty())) {
        throw wrong("block_structure", sides, "strategy is " + strategy);
      }
      return blocks(bits, "block_structure", sides, Quantization.Said.NOTHING);
    }
    if (!isOff(sides)) {
      throw wrong("block_structure", sides, "only floats of 8 bits are read in blocks");
    }
    int size = groupSize(weights.path("group_size"));
    var said =
        new Quantization.Said(
            strategy.equals("channel") ? Quantization.Said.WHOLE_ROW : size,
            flag(weights.path("symmetric")),
            Set.of("group", "dynamic", "true").contains(word(weights.path("actorder"))));
    return new Quantization(COMPRESSED, bits, 0, 0, false, said);
  }

  /// Keys of `weights` that are followed or harmless.
  private static Set<String> known() {
    Set<String> known = new LinkedHashSet<>(HARMLESS_OF_WEIGHTS);
    known.addAll(
        Set.of(
            "num_bits",
            "type",
            "symmetric",
            "strategy",
            "group_size",
            "block_structure",
            "dynamic",
            "actorder"));
    return known;
  }

  /// Scales for blocks of two sides; null for none, then all of a matrix or each row has one.
  private Quantization blocks(int bits, String key, JsonNode sides, Quantization.Said said) {
    if (sides.isMissingNode() || sides.isNull()) {
      return new Quantization(method, bits, 0, 0, false, said);
    }
    boolean fits = sides.size() == 2;
    for (JsonNode side : sides) {
      fits &= side.isInt() && side.asInt() > 0;
    }
    if (!sides.isArray() || !fits) {
      throw wrong(key, sides, "must be two positive numbers");
    }
    return new Quantization(method, bits, sides.get(0).asInt(), sides.get(1).asInt(), false, said);
  }

  private void tellActivations(JsonNode scheme, String key) {
    if (!isOff(scheme)) {
      notes.add("%s asks for activations of few bits; Sluice does not round them".formatted(key));
    }
  }

  // ---------------------------------------------------------------- values

  private JsonNode at(String key) {
    seen.add(key);
    return value.path(key);
  }

  private static boolean isOff(JsonNode found) {
    return found.isMissingNode() || ConfigNames.isOff(found);
  }

  private int groupSize(JsonNode size) {
    if (size.isMissingNode() || size.isNull()) {
      return 0;
    }
    if (!size.isInt() || (size.asInt() < 1 && size.asInt() != Quantization.Said.WHOLE_ROW)) {
      throw wrong("group_size", size, "must be a positive whole number, or -1 for a whole row");
    }
    return size.asInt();
  }

  private static @Nullable Boolean flag(JsonNode flag) {
    return flag.isBoolean() ? (Boolean) flag.asBoolean() : null;
  }

  private static String word(JsonNode found) {
    return found.isNull() ? "" : found.asString("");
  }

  private void require(String key, Set<String> known) {
    seen.add(key);
    requireIn(value, key, known, key);
  }

  /// @param called what the key is called in a message
  private static void requireIn(JsonNode object, String key, Set<String> known, String called) {
    JsonNode found = object.path(key);
    if (found.isContainer() || !known.contains(word(found))) {
      throw wrong(
          called,
          found,
          "only %s is read"
              .formatted(
                  String.join(
                      " and ", known.stream().filter(each -> !each.isEmpty()).sorted().toList())));
    }
  }

  private static InvalidInputException wrong(String key, JsonNode found, String must) {
    return new InvalidInputException(
        "quantization_config has %s %s, and %s; take another form of the model"
            .formatted(
                key, found.isMissingNode() ? "not given" : Printable.brief(found, 80), must));
  }
}
