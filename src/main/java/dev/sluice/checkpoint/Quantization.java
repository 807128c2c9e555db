package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.files.JsonFile;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import java.util.Set;
import java.util.function.IntUnaryOperator;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// How the matrices of a published checkpoint are stored in few bits, as `quantization_config` of its
/// `config.json` says; which matrices are is told by their tensors. They become float32.
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
  private static final List<String> KNOWN =
      List.of("fp8", "compressed-tensors", "awq", "gptq", "mxfp4");

  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /// Which result a number of a word of `awq` belongs to.
  private static final int[] AWQ_ORDER = {0, 2, 4, 6, 1, 3, 5, 7};

  private static final float[] E2M1 = {
    0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0f, -0.5f, -1, -1.5f, -2, -3, -4, -6
  };

  /// What numbers of eight bits are worth: four of exponent, three of mantissa, no infinity.
  private static final float[] E4M3 = new float[256];

  static {
    for (int i = 0; i < 256; i++) {
      int exponent = i >> 3 & 15;
      int mantissa = i & 7;
      float value =
          (i & 0x7F) == 0x7F
              ? Float.NaN
              : exponent == 0 ? Math.scalb(mantissa, -9) : Math.scalb(8 + mantissa, exponent - 10);
      E4M3[i] = i > 127 ? -value : value;
    }
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

  /// A matrix that is made when it is asked for.
  ///
  /// @param name as `transformers` has it
  /// @param parts the stored tensors that it is made of, in the order that its method has
  /// @param shape of the matrix
  record Matrix(String name, List<@Nullable Entry> parts, List<Long> shape, Quantization by) {
    /// Its numbers, in memory that is freed when nothing refers to it.
    Entry restored() {
      long count = shape.stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
      var data = Arena.ofAuto().allocate(Math.multiplyExact(count, Float.BYTES), 64);
      switch (by.method) {
        case "fp8", "compressed-tensors" -> {
          if (by.bits == 4 && part(0).type() == ElementType.INT32) {
            by.packed(this, data);
          } else {
            by.scaled(this, data);
          }
        }
        case "awq" -> by.awq(this, data);
        case "gptq" -> by.gptq(this, data);
        default -> mxfp4(this, data);
      }
      return new Entry(name, ElementType.FLOAT32, shape, data);
    }

    private Entry part(int i) {
      Entry part = parts.get(i);
      if (part == null) {
        throw new IllegalStateException(name + " lacks part " + i);
      }
      return part;
    }

    private long last(int fromBehind) {
      return shape.get(shape.size() - fromBehind);
    }
  }

  /// Takes the parts of quantized matrices out of the tensors of a checkpoint.
  ///
  /// @param notes what is to be told
  SequencedMap<String, Matrix> take(
      SequencedMap<String, Entry> entries, Path directory, List<String> notes) {
    SequencedMap<String, Matrix> matrices = new LinkedHashMap<>();
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
        if (entries.containsKey(matrix.name) || matrices.put(matrix.name, matrix) != null) {
          throw new InvalidInputException(
              "the weights in %s hold %s twice, quantized and not; fetch the checkpoint again"
                  .formatted(directory, Listing.quoted(matrix.name)));
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

  private static Matrix matrix(
      String name,
      List<String> parts,
      SequencedMap<String, Entry> entries,
      List<Long> shape,
      Quantization by) {
    List<@Nullable Entry> found = new ArrayList<>();
    parts.forEach(part -> found.add(entries.remove(part)));
    return new Matrix(name, found, shape, by);
  }

  private @Nullable Matrix scaledBy(
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

  private Matrix packed(String name, SequencedMap<String, Entry> entries, Path directory) {
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

  private @Nullable Matrix words(String name, SequencedMap<String, Entry> entries, Path directory) {
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

  private @Nullable Matrix blocks(
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

  // ---------------------------------------------------------------- numbers

  /// A tensor of scales as float32.
  private static float[] numbers(Entry entry) {
    if (!entry.type().isFloatingPoint()) {
      throw new InvalidInputException(
          "%s has the type %s where scales are floating-point numbers; fetch the checkpoint again"
              .formatted(Listing.quoted(entry.name()), entry.type().safetensorsName()));
    }
    long count = entry.shape().stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
    float[] numbers = new float[Math.toIntExact(count)];
    var copied = Arena.ofAuto().allocate(Math.max(1, count) * Float.BYTES, Float.BYTES);
    Float32Copy.copy(entry.data(), entry.type(), copied.asSlice(0, count * Float.BYTES));
    MemorySegment.copy(copied, FLOAT, 0, numbers, 0, numbers.length);
    return numbers;
  }

  /// Which group an input belongs to: as a list says, or one after the other.
  private static IntUnaryOperator groups(@Nullable Entry list, long inputs, long groups) {
    long each = inputs / groups;
    if (list == null) {
      return input -> (int) (input / each);
    }
    int[] given = new int[(int) inputs];
    boolean fits = list.type() == ElementType.INT32 && list.shape().equals(List.of(inputs));
    for (int i = 0; fits && i < given.length; i++) {
      given[i] = list.data().get(INT, i * 4L);
      fits = given[i] >= 0 && given[i] < groups;
    }
    if (!fits) {
      throw new InvalidInputException(
          "%s does not give a group from 0 to %d for each of %d inputs; fetch the checkpoint again"
              .formatted(Listing.quoted(list.name()), groups - 1, inputs));
    }
    return input -> given[input];
  }

  private static void rows(long rows, Threads.Part part) {
    Threads.split(rows, 64, part);
  }

  private void scaled(Matrix of, MemorySegment to) {
    Entry entry = of.part(0);
    Entry scale = of.part(1);
    float[] scales = numbers(scale);
    long rows = of.last(2);
    long columns = of.last(1);
    long all = of.shape.stream().limit(of.shape.size() - 2L).reduce(1L, Math::multiplyExact) * rows;
    boolean byBlock = blockRows > 0 && scales.length != 1;
    long down = byBlock ? Math.ceilDiv(rows, blockRows) : 1;
    long across = byBlock ? Math.ceilDiv(columns, blockColumns) : 1;
    if (scales.length != 1 && scales.length != (byBlock ? all / rows * down * across : all)) {
      throw new InvalidInputException(
          "%s has the shape %s, which is no scale for all of %s nor for each %s; fetch the checkpoint again"
              .formatted(
                  Listing.quoted(scale.name()),
                  scale.shape(),
                  of.shape,
                  byBlock ? "block of %d by %d".formatted(blockRows, blockColumns) : "row"));
    }
    if (entry.type() != ElementType.UINT8) {
      throw new InvalidInputException(
          "%s has the type %s beside a scale, where F8_E4M3 belongs; fetch the checkpoint again"
              .formatted(Listing.quoted(entry.name()), entry.type().safetensorsName()));
    }
    rows(
        all,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            long first = byBlock ? (row / rows * down + row % rows / blockRows) * across : row;
            for (long i = 0; i < columns; i++) {
              long scaleAt = scales.length == 1 ? 0 : byBlock ? first + i / blockColumns : first;
              long at = row * columns + i;
              float value = E4M3[entry.data().get(ValueLayout.JAVA_BYTE, at) & 0xFF];
              to.set(FLOAT, at * 4, value * scales[(int) scaleAt]);
            }
          }
        });
  }

  private void packed(Matrix of, MemorySegment to) {
    var words = of.part(0).data();
    float[] scales = numbers(of.part(1));
    long inputs = of.last(1);
    long results = of.last(2);
    int groups = Math.toIntExact(of.part(1).shape().get(1));
    var group = groups(of.parts.get(3), inputs, groups);
    Entry zeros = of.parts.get(2);
    if (zeros != null
        && (zeros.type() != ElementType.INT32
            || !zeros.shape().equals(List.of(Math.ceilDiv(results, 8L), (long) groups)))) {
      throw new InvalidInputException(
          "%s has the shape %s where %s by %d zeros are packed in eights; fetch the checkpoint again"
              .formatted(Listing.quoted(zeros.name()), zeros.shape(), results, groups));
    }
    rows(
        results,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (int i = 0; i < inputs; i++) {
              int q = words.get(INT, (row * inputs + i) / 8 * 4) >>> (i % 8 * 4) & 15;
              int at = group.applyAsInt(i);
              int zero =
                  zeros == null
                      ? 8
                      : zeros.data().get(INT, (row / 8 * groups + at) * 4) >>> ((int) (row % 8) * 4)
                          & 15;
              to.set(FLOAT, (row * inputs + i) * 4, (q - zero) * scales[(int) row * groups + at]);
            }
          }
        });
  }

  private void awq(Matrix of, MemorySegment to) {
    var words = of.part(0).data();
    float[] scales = numbers(of.part(1));
    var zeros = of.part(2).data();
    long results = of.last(2);
    long inputs = of.last(1);
    long each = inputs / of.part(1).shape().get(0);
    int[] place = new int[8]; // where in its word a result stands
    for (int k = 0; k < 8; k++) {
      place[AWQ_ORDER[k]] = k;
    }
    rows(
        results,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            int shift = 4 * place[(int) (row % 8)];
            for (long i = 0; i < inputs; i++) {
              long group = i / each;
              int q = words.get(INT, (i * results + row) / 8 * 4) >>> shift & 15;
              int zero = zeros.get(INT, (group * results + row) / 8 * 4) >>> shift & 15;
              to.set(
                  FLOAT,
                  (row * inputs + i) * 4,
                  (q - zero) * scales[(int) (group * results + row)]);
            }
          }
        });
  }

  private void gptq(Matrix of, MemorySegment to) {
    var words = of.part(0).data();
    float[] scales = numbers(of.part(1));
    var zeros = of.part(2).data();
    long results = of.last(2);
    long inputs = of.last(1);
    int perWord = 32 / bits;
    int mask = (1 << bits) - 1;
    var group = groups(of.parts.get(3), inputs, of.part(1).shape().get(0));
    rows(
        results,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (int i = 0; i < inputs; i++) {
              int at = group.applyAsInt(i);
              int q =
                  words.get(INT, (i / perWord * results + row) * 4) >>> (i % perWord * bits) & mask;
              int zero =
                  zeros.get(INT, (at * results + row) / perWord * 4)
                          >>> ((int) (row % perWord) * bits)
                      & mask;
              to.set(
                  FLOAT,
                  (row * inputs + i) * 4,
                  (q - zero - (isShifted ? 1 : 0)) * scales[(int) (at * results + row)]);
            }
          }
        });
  }

  /// Rows of blocks become columns, as `transformers` turns them (`convert_moe_packed_tensors`).
  private static void mxfp4(Matrix of, MemorySegment to) {
    var blocks = of.part(0).data();
    var scales = of.part(1).data();
    long rows = of.shape.get(2);
    long columns = of.shape.get(1);
    rows(
        of.shape.get(0) * rows,
        (from, end) -> {
          for (long row = from; row < end; row++) {
            for (long i = 0; i < columns; i++) {
              long block = row * (columns / 32) + i / 32;
              int bytes = blocks.get(ValueLayout.JAVA_BYTE, block * 16 + i % 32 / 2) & 0xFF;
              int exponent = scales.get(ValueLayout.JAVA_BYTE, block) & 0xFF;
              float value = E2M1[i % 2 == 0 ? bytes & 15 : bytes >> 4];
              to.set(
                  FLOAT,
                  ((row / rows * columns + i) * rows + row % rows) * 4,
                  exponent == 255 ? Float.NaN : Math.scalb(value, exponent - 127));
            }
          }
        });
  }

  /// What is to be told of it.
  String words() {
    return "the weights are quantized as %s stores them (%d bits); they are computed with as float32"
        .formatted(method, bits);
  }
}
