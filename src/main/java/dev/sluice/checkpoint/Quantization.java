package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.files.JsonFile;
import dev.sluice.tensor.ElementType;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.Stream;
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
/// @param said what the tensors say too
/// @param told what is to be told of the configuration besides, in sentences
record Quantization(
    String method,
    int bits,
    long blockRows,
    long blockColumns,
    boolean isShifted,
    Said said,
    List<String> told) {
  /// What scales of activations, and of keys and values in a cache, are called.
  private static final Set<String> OF_ACTIVATIONS =
      Set.of("input_scale", "activation_scale", "output_scale", "k_scale", "v_scale");

  /// What the tensors of a quantized matrix are called where a plain one is `weight`.
  private static final Set<String> PARTS =
      Stream.concat(
              OF_ACTIVATIONS.stream(),
              Stream.of(
                  "weight_scale_inv",
                  "weight_scale",
                  "weight_packed",
                  "weight_zero_point",
                  "weight_g_idx",
                  "weight_shape",
                  "qweight",
                  "qzeros",
                  "scales",
                  "g_idx"))
          .collect(Collectors.toUnmodifiableSet());

  /// What the configuration says that the tensors say too, in which they must agree.
  ///
  /// @param groupSize inputs that share a scale, or [#WHOLE_ROW]; 0 where that is not said
  /// @param isSymmetric whether all zero points are the middle; null where that is not said
  /// @param isOrdered whether a list says which group an input belongs to
  record Said(int groupSize, @Nullable Boolean isSymmetric, boolean isOrdered) {
    static final int WHOLE_ROW = -1;

    static final Said NOTHING = new Said(0, null, false);
  }

  Quantization(
      String method, int bits, long blockRows, long blockColumns, boolean isShifted, Said said) {
    this(method, bits, blockRows, blockColumns, isShifted, said, List.of());
  }

  Quantization {
    told = List.copyOf(told);
  }

  /// The same, whatever the configuration says besides of what the tensors say.
  Quantization with(Said other) {
    return new Quantization(method, bits, blockRows, blockColumns, isShifted, other, told);
  }

  /// The same with what else is to be told of the configuration, in sentences.
  Quantization with(List<String> sentences) {
    return new Quantization(
        method,
        bits,
        blockRows,
        blockColumns,
        isShifted,
        said,
        sentences.stream().distinct().toList());
  }

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
    return QuantizationConfig.read(value);
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
      if (OF_ACTIVATIONS.contains(name.substring(name.lastIndexOf('.') + 1))) {
        entries.remove(name);
        ofActivations.add(name);
      }
    }
    for (String name : List.copyOf(entries.keySet())) {
      var matrix =
          switch (method) {
            case "fp8" -> scaledBy(scaleSuffix(), name, entries);
            case "compressed-tensors" ->
                name.endsWith(".weight_packed")
                    ? packed(name, entries, directory)
                    : scaledBy(scaleSuffix(), name, entries);
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
    requireScales(entries.values(), directory);
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

  /// What a name of numbers of F8_E4M3 and that of their scales differ in.
  private String scaleSuffix() {
    return method.equals("fp8") ? "_scale_inv" : "_scale";
  }

  /// Refuses numbers of F8_E4M3 that are left without their scales: they are entries of bytes,
  /// which no parameter is.
  private void requireScales(Collection<Entry> left, Path directory) {
    for (var entry : left) {
      if (takesFloat8() && entry.type() == ElementType.UINT8 && entry.shape().size() >= 2) {
        throw new InvalidInputException(
            "the weights in %s hold %s in F8_E4M3 but no %s, the scale that the method %s has for it; fetch the checkpoint again"
                .formatted(
                    directory,
                    Listing.quoted(entry.name()),
                    Listing.quoted(entry.name() + scaleSuffix()),
                    method));
      }
    }
  }

  private InvalidInputException misfit(Path directory, String name, String why) {
    return new InvalidInputException(
        "the tensors of %s in %s do not fit one another as %s stores them: %s; fetch the checkpoint again"
            .formatted(Listing.quoted(name), directory, method, why));
  }

  private Entry need(SequencedMap<String, Entry> entries, String name, Path directory) {
    return need(entries, name, directory, "of the method " + method);
  }

  /// @param why what the configuration has that calls for it
  private static Entry need(
      SequencedMap<String, Entry> entries, String name, Path directory, String why) {
    Entry entry = entries.get(name);
    if (entry == null) {
      throw new InvalidInputException(
          "the weights in %s hold no %s, which quantization_config %s calls for; fetch the checkpoint again"
              .formatted(directory, Listing.quoted(name), why));
    }
    return entry;
  }

  /// Refuses scales of groups of another size than the configuration has.
  private void requireGroups(Entry scales, long groups, long inputs, Path directory) {
    int size = said.groupSize;
    long wanted = size == Said.WHOLE_ROW || size == 0 ? 1 : Math.ceilDiv(inputs, (long) size);
    if (size != 0 && groups != wanted) {
      throw new InvalidInputException(
          "%s in %s has the shape %s, which gives groups of %d inputs, where quantization_config says %s; fetch the checkpoint again"
              .formatted(
                  Listing.quoted(scales.name()),
                  directory,
                  scales.shape(),
                  inputs / groups,
                  size == Said.WHOLE_ROW ? "one scale for each row" : "group_size " + size));
    }
  }

  /// Refuses zero points where there are to be none, and their absence where there are to be some.
  private void requireZeros(SequencedMap<String, Entry> entries, String name, Path directory) {
    if (Boolean.FALSE.equals(said.isSymmetric)) {
      need(entries, name, directory, "with symmetric false");
    } else if (Boolean.TRUE.equals(said.isSymmetric) && entries.containsKey(name)) {
      throw new InvalidInputException(
          "the weights in %s hold %s, where quantization_config says symmetric true, without zero points; fetch the checkpoint again"
              .formatted(directory, Listing.quoted(name)));
    }
  }

  private void requireOrder(SequencedMap<String, Entry> entries, String name, Path directory) {
    if (said.isOrdered) {
      need(
          entries, name, directory, method.equals("gptq") ? "with desc_act true" : "with actorder");
    }
  }

  /// Refuses a stored shape that is another than that of the packed words.
  private static void requireShape(@Nullable Entry stored, List<Long> shape, Path directory) {
    if (stored == null) {
      return;
    }
    boolean isLong = stored.type() == ElementType.INT64;
    boolean fits =
        (isLong || stored.type() == ElementType.INT32)
            && stored.shape().equals(List.of((long) shape.size()));
    List<Long> found = new ArrayList<>();
    for (int i = 0; fits && i < shape.size(); i++) {
      found.add(
          isLong
              ? stored.data().get(QuantizedMatrix.LONG, i * (long) Long.BYTES)
              : stored.data().get(QuantizedMatrix.INT, i * (long) Integer.BYTES));
    }
    if (!found.equals(shape)) {
      throw new InvalidInputException(
          "%s in %s says %s where the packed words are of a matrix of %s; fetch the checkpoint again"
              .formatted(
                  Listing.quoted(stored.name()),
                  directory,
                  fits ? found : "nothing in two whole numbers",
                  shape));
    }
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
            && scale.shape().get(1) > 0
            && words.shape().get(1) * 8 % scale.shape().get(1) == 0;
    if (!fits) {
      throw misfit(directory, base, words.shape() + " words and " + scale.shape() + " scales");
    }
    var shape = List.of(words.shape().get(0), words.shape().get(1) * 8);
    requireShape(entries.get(base + "_shape"), shape, directory);
    requireGroups(scale, scale.shape().get(1), shape.get(1), directory);
    requireZeros(entries, base + "_zero_point", directory);
    requireOrder(entries, base + "_g_idx", directory);
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
    requireGroups(scales, scales.shape().get(0), inputs, directory);
    requireOrder(entries, base + "g_idx", directory);
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

  /// What is to be told of it, in sentences.
  List<String> notes() {
    List<String> notes = new ArrayList<>();
    notes.add("the weights are quantized as %s stores them (%d bits)".formatted(method, bits));
    notes.addAll(told);
    return notes;
  }
}
