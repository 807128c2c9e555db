package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.files.JsonFile;
import dev.sluice.tensor.ElementType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// How the matrices of a published checkpoint are stored in few bits, as `quantization_config` of its
/// `config.json` says; which matrices are is told by their tensors, and each is a [QuantizedMatrix].
///
///     fp8                 weight F8_E4M3, weight_scale_inv: a number for each block
///     compressed-tensors  weight F8_E4M3, weight_scale: one, or one for each row or block; or
///                         weight_packed I32, weight_scale: four bits, one for each group of inputs
///     awq                 qweight, qzeros, scales: four bits, words run along the results
///     gptq                qweight, qzeros, scales, g_idx: four or eight bits, words run along inputs
///     mxfp4               _blocks, _scales: numbers of four bits, 32 share a power of two
///
/// @param method as `quant_method` has it
/// @param bits of a number
/// @param blockRows of a block with a scale of its own; 0 where a row or all of a matrix has one
/// @param blockColumns likewise
/// @param isShifted whether stored zeros of `gptq` are one too small
record Quantization(String method, int bits, long blockRows, long blockColumns, boolean isShifted) {
  /// What the tensors of a quantized matrix are called where a plain one is `weight`.
  private static final Set<String> PARTS =
      Set.of(
          "weight_scale_inv",
          "weight_scale",
          "weight_packed",
          "weight_zero_point",
          "weight_g_idx",
          "weight_shape",
          "qweight",
          "qzeros",
          "scales",
          "g_idx",
          "input_scale",
          "activation_scale");

  private static final List<String> KNOWN =
      List.of("fp8", "compressed-tensors", "awq", "gptq", "mxfp4");

  // ---------------------------------------------------------------- what the configuration says

  /// The one of a model directory, or null where its weights are plain.
  static @Nullable Quantization at(Path directory) {
    Path file = directory.resolve(ModelConfig.FILE);
    if (!Files.exists(file)) {
      return null;
    }
    var json = JsonFile.object(file, JsonFile.SMALL, "fetch it again");
    for (JsonNode part : List.of(json, json.path("text_config"))) {
      JsonNode value = part.path("quantization_config");
      if (!value.isMissingNode() && !ConfigNames.isOff(value)) {
        return of(value);
      }
    }
    return null;
  }

  /// What a value of `quantization_config` asks for.
  ///
  /// @throws InvalidInputException if it is not known here
  static Quantization of(JsonNode value) {
    String method = value.path("quant_method").asString("");
    return switch (method) {
      case "fp8" -> fp8(value);
      case "compressed-tensors" -> compressed(value);
      case "awq" -> {
        require(value, "bits", Set.of("4"));
        require(value, "version", Set.of("gemm", ""));
        yield new Quantization(method, 4, 0, 0, false);
      }
      case "gptq" -> {
        require(value, "bits", Set.of("4", "8"));
        require(value, "checkpoint_format", Set.of("gptq", "gptq_v2", ""));
        boolean second = value.path("checkpoint_format").asString("").equals("gptq_v2");
        yield new Quantization(method, value.path("bits").asInt(), 0, 0, !second);
      }
      case "mxfp4" -> new Quantization(method, 4, 0, 0, false);
      default ->
          throw new InvalidInputException(
              "quantization_config %s says that the weights are quantized in a way that Sluice does not read; it reads the quant_method %s; take another form of the model, or the model before that"
                  .formatted(Printable.brief(value, 100), String.join(", ", KNOWN)));
    };
  }

  private static Quantization fp8(JsonNode value) {
    require(value, "fmt", Set.of("e4m3", ""));
    JsonNode sides = value.path("weight_block_size");
    return sides.isMissingNode()
        ? new Quantization("fp8", 8, 128, 128, false)
        : blocks("fp8", 8, "weight_block_size", sides);
  }

  /// Scales for blocks of two sides; null for none, then all of a matrix or each row has one.
  private static Quantization blocks(String method, int bits, String key, JsonNode sides) {
    if (sides.isMissingNode() || sides.isNull()) {
      return new Quantization(method, bits, 0, 0, false);
    }
    boolean fits = sides.size() == 2;
    for (JsonNode side : sides) {
      fits &= side.isInt() && side.asInt() > 0;
    }
    if (!sides.isArray() || !fits) {
      throw wrong(key, sides, "must be two positive numbers");
    }
    return new Quantization(method, bits, sides.get(0).asInt(), sides.get(1).asInt(), false);
  }

  private static Quantization compressed(JsonNode value) {
    require(value, "format", Set.of("float-quantized", "pack-quantized", "mixed-precision"));
    String sparsity = value.path("sparsity_config").path("format").asString("dense");
    if (!sparsity.equals("dense")) {
      throw wrong("sparsity_config", value.path("sparsity_config"), "only dense weights are read");
    }
    Quantization found = null;
    for (JsonNode each : value.path("config_groups")) {
      JsonNode weights = each.path("weights");
      int bits = weights.path("num_bits").asInt(0);
      boolean isFloat = weights.path("type").asString("").equals("float");
      if (bits != (isFloat ? 8 : 4)) {
        throw wrong(
            "config_groups", weights, "only floats of 8 bits and whole numbers of 4 are read");
      }
      var group =
          blocks("compressed-tensors", bits, "block_structure", weights.path("block_structure"));
      if (found != null && !found.equals(group)) {
        throw wrong(
            "config_groups", value.path("config_groups"), "groups that differ are not read");
      }
      found = group;
    }
    if (found == null) {
      throw wrong("config_groups", value.path("config_groups"), "must say how weights are stored");
    }
    return found;
  }

  private static void require(JsonNode value, String key, Set<String> known) {
    JsonNode found = value.path(key);
    String word = found.isNull() ? "" : found.asString("");
    if (!known.contains(word)) {
      throw wrong(
          key,
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

  /// Whether tensors of F8_E4M3 mean something with it.
  boolean takesFloat8() {
    return method.equals("fp8") || method.equals("compressed-tensors");
  }

  // ---------------------------------------------------------------- which matrices

  /// The name of the matrix that a tensor is a part of, or else the tensor's own.
  static String matrixOf(String name) {
    int last = name.lastIndexOf('.') + 1;
    return PARTS.contains(name.substring(last)) ? name.substring(0, last) + "weight" : name;
  }

  /// Takes the parts of quantized matrices out of the tensors of a checkpoint.
  ///
  /// @param notes what is to be told
  SequencedMap<String, QuantizedMatrix> take(
      SequencedMap<String, Entry> entries, Path directory, List<String> notes) {
    SequencedMap<String, QuantizedMatrix> matrices = new LinkedHashMap<>();
    List<String> ofActivations = new ArrayList<>();
    for (String name : List.copyOf(entries.keySet())) {
      if (name.endsWith(".input_scale") || name.endsWith(".activation_scale")) {
        entries.remove(name);
        ofActivations.add(name);
      }
    }
    for (String name : List.copyOf(entries.keySet())) {
      var matrix =
          switch (method) {
            case "fp8" -> scaledBy("_scale_inv", name, entries);
            case "compressed-tensors" ->
                name.endsWith(".weight_packed")
                    ? packed(name, entries, directory)
                    : scaledBy("_scale", name, entries);
            case "awq", "gptq" -> words(name, entries, directory);
            default -> blocks(name, entries, directory);
          };
      if (matrix != null) {
        if (entries.containsKey(matrix.name()) || matrices.put(matrix.name(), matrix) != null) {
          throw new InvalidInputException(
              "the weights in %s hold %s twice, quantized and not; fetch the checkpoint again"
                  .formatted(directory, Listing.quoted(matrix.name())));
        }
      }
    }
    if (!ofActivations.isEmpty()) {
      notes.add(
          "the weights in %s hold %s, scales of activations, which Sluice does not round"
              .formatted(directory, Listing.of(ofActivations)));
    }
    return matrices;
  }

  private static QuantizedMatrix matrix(
      String name,
      List<String> parts,
      SequencedMap<String, Entry> entries,
      List<Long> shape,
      Quantization by) {
    List<@Nullable Entry> found = new ArrayList<>();
    parts.forEach(part -> found.add(entries.remove(part)));
    return new QuantizedMatrix(name, found, shape, by);
  }

  private @Nullable QuantizedMatrix scaledBy(
      String suffix, String name, SequencedMap<String, Entry> entries) {
    Entry entry = entries.get(name);
    Entry scale = entries.get(name + suffix);
    return entry == null || scale == null || entry.shape().size() < 2
        ? null
        : matrix(name, List.of(name, name + suffix), entries, entry.shape(), this);
  }

  private InvalidInputException misfit(Path directory, String name, String why) {
    return new InvalidInputException(
        "the tensors of %s in %s do not fit one another as %s stores them: %s; fetch the checkpoint again"
            .formatted(Listing.quoted(name), directory, method, why));
  }

  private Entry need(SequencedMap<String, Entry> entries, String name, Path directory) {
    Entry entry = entries.get(name);
    if (entry == null) {
      throw new InvalidInputException(
          "the weights in %s hold no %s, which quantization_config of the method %s calls for; fetch the checkpoint again"
              .formatted(directory, Listing.quoted(name), method));
    }
    return entry;
  }

  private QuantizedMatrix packed(String name, SequencedMap<String, Entry> entries, Path directory) {
    String base = name.substring(0, name.length() - "_packed".length());
    Entry words = need(entries, name, directory);
    Entry scale = need(entries, base + "_scale", directory);
    boolean fits =
        words.type() == ElementType.INT32
            && words.shape().size() == 2
            && scale.shape().size() == 2
            && scale.shape().get(0).equals(words.shape().get(0))
            && words.shape().get(1) * 8 % scale.shape().get(1) == 0;
    if (!fits) {
      throw misfit(directory, base, words.shape() + " words and " + scale.shape() + " scales");
    }
    var shape = List.of(words.shape().get(0), words.shape().get(1) * 8);
    return matrix(
        base,
        List.of(name, base + "_scale", base + "_zero_point", base + "_g_idx", base + "_shape"),
        entries,
        shape,
        this);
  }

  private @Nullable QuantizedMatrix words(
      String name, SequencedMap<String, Entry> entries, Path directory) {
    if (!name.endsWith(".qweight")) {
      return null;
    }
    String base = name.substring(0, name.length() - "qweight".length());
    int perWord = 32 / bits;
    Entry words = need(entries, name, directory);
    Entry scales = need(entries, base + "scales", directory);
    Entry zeros = need(entries, base + "qzeros", directory);
    boolean isAwq = method.equals("awq");
    boolean areMatrices =
        words.type() == ElementType.INT32
            && zeros.type() == ElementType.INT32
            && words.shape().size() == 2
            && scales.shape().size() == 2
            && zeros.shape().size() == 2;
    long inputs = areMatrices ? words.shape().get(0) * (isAwq ? 1 : perWord) : 0;
    long results = areMatrices ? words.shape().get(1) * (isAwq ? perWord : 1) : 0;
    boolean fits =
        areMatrices
            && scales.shape().get(1) == results
            && scales.shape().get(0) > 0
            && inputs % scales.shape().get(0) == 0
            && zeros.shape().equals(List.of(scales.shape().get(0), results / perWord));
    if (!fits) {
      throw misfit(
          directory,
          base,
          "%s words, %s scales and %s zeros"
              .formatted(words.shape(), scales.shape(), zeros.shape()));
    }
    return matrix(
        base + "weight",
        List.of(name, base + "scales", base + "qzeros", base + "g_idx"),
        entries,
        List.of(results, inputs),
        this);
  }

  private @Nullable QuantizedMatrix blocks(
      String name, SequencedMap<String, Entry> entries, Path directory) {
    if (!name.endsWith("_blocks")) {
      return null;
    }
    String base = name.substring(0, name.length() - "_blocks".length());
    Entry blocks = need(entries, name, directory);
    Entry scales = need(entries, base + "_scales", directory);
    boolean fits =
        blocks.type() == ElementType.UINT8
            && scales.type() == ElementType.UINT8
            && blocks.shape().size() == 4
            && blocks.shape().get(3) == 16
            && scales.shape().equals(blocks.shape().subList(0, 3));
    if (!fits) {
      throw misfit(directory, base, blocks.shape() + " blocks and " + scales.shape() + " scales");
    }
    var shape = List.of(blocks.shape().get(0), blocks.shape().get(2) * 32, blocks.shape().get(1));
    return matrix(base, List.of(name, base + "_scales"), entries, shape, this);
  }

  /// What is to be told of it.
  String words() {
    return "the weights are quantized as %s stores them (%d bits)".formatted(method, bits);
  }
}
