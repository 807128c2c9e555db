package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Random;
import java.util.SequencedMap;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Matrices of published checkpoints in as many bits as they have there.
class QuantizedMatrixTest {
  /// What others write, with the format that holds it.
  private enum Written {
    AWQ_128(WeightFormat.I4_128, "{\"quant_method\": \"awq\", \"bits\": 4}", 128),
    AWQ_64(WeightFormat.I4_64, "{\"quant_method\": \"awq\", \"bits\": 4}", 64),
    AWQ_32(WeightFormat.I4_32, "{\"quant_method\": \"awq\", \"bits\": 4}", 32),
    GPTQ(WeightFormat.I4_64, "{\"quant_method\": \"gptq\", \"bits\": 4}", 64),
    GPTQ_SYMMETRIC(WeightFormat.Q4_0, "{\"quant_method\": \"gptq\", \"bits\": 4}", 128),
    GPTQ_OF_8_BITS(WeightFormat.Q8_0, "{\"quant_method\": \"gptq\", \"bits\": 8}", 64),
    PACKED(WeightFormat.Q4_0, compressed("pack", "int", 4), 32),
    PACKED_WITH_ZEROS(WeightFormat.I4_128, compressed("pack", "int", 4), 128),
    PACKED_OF_FLOAT32(WeightFormat.I4_64, compressed("pack", "int", 4), 64),
    FP8_IN_BLOCKS(WeightFormat.E4M3, "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\"}", 128),
    FP8_BY_ROW(WeightFormat.E4M3, compressed("float", "float", 8), 0),
    FP8_BY_TENSOR(WeightFormat.E4M3, compressed("float", "float", 8), 0),
    MXFP4(WeightFormat.MXFP4, "{\"quant_method\": \"mxfp4\"}", 32);

    final WeightFormat format;
    final String config;

    /// Inputs of a group; of `fp8`, rows and columns of a block.
    final int group;

    Written(WeightFormat format, String config, int group) {
      this.format = format;
      this.config = config;
      this.group = group;
    }

    private static String compressed(String format, String type, int bits) {
      return ("{\"quant_method\": \"compressed-tensors\", \"format\": \"%s-quantized\","
              + " \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": %d, \"type\": \"%s\"}}}}")
          .formatted(format, bits, type);
    }

    Quantization quantization() {
      return Quantization.of(JsonMapper.shared().readTree(config));
    }
  }

  /// A tensor as safetensors has it, whose types are more than ours.
  private record Part(String name, String type, byte[] bytes, List<Long> shape) {
    Entry entry() {
      var as =
          switch (type) {
            case "F8_E4M3", "U8" -> ElementType.UINT8;
            case "I32" -> ElementType.INT32;
            case "I64" -> ElementType.INT64;
            case "F16" -> ElementType.FLOAT16;
            case "BF16" -> ElementType.BFLOAT16;
            default -> ElementType.FLOAT32;
          };
      return new Entry(name, as, shape, MemorySegment.ofArray(bytes));
    }
  }

  @TempDir Path directory;

  private final Random random = new Random(5);

  // ---------------------------------------------------------------- what others write

  private Part bytes(String name, String type, int bytesEach, long... shape) {
    byte[] bytes = new byte[(int) (LongStream.of(shape).reduce(1, (a, b) -> a * b) * bytesEach)];
    random.nextBytes(bytes);
    return new Part(name, type, bytes, LongStream.of(shape).boxed().toList());
  }

  private Part filled(String name, int value, long... shape) {
    var part = bytes(name, "I32", 4, shape);
    Arrays.fill(part.bytes, (byte) value);
    return part;
  }

  /// Scales of a type, such that numbers become some hundredths.
  private Part scales(String name, String type, double size, long... shape) {
    var part = bytes(name, type, type.equals("F32") ? 4 : 2, shape);
    var buffer = ByteBuffer.wrap(part.bytes).order(ByteOrder.LITTLE_ENDIAN);
    while (buffer.hasRemaining()) {
      float scale = (float) (size * (0.5 + random.nextDouble()));
      switch (type) {
        case "F16" -> buffer.putShort(Float.floatToFloat16(scale));
        case "BF16" -> buffer.putShort((short) (Float.floatToRawIntBits(scale) >>> 16));
        default -> buffer.putFloat(scale);
      }
    }
    return part;
  }

  private static byte[] withoutNan(byte[] bytes) {
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (bytes[i] & 0x7F) == 0x7F ? 0 : bytes[i];
    }
    return bytes;
  }

  /// The tensors of a matrix with any numbers.
  ///
  /// @param name ends with `weight`, or is that of experts
  private List<Part> parts(Written as, String name, long rows, long inputs) {
    String base = name.substring(0, Math.max(0, name.length() - "weight".length()));
    long groups = as.group == 0 ? 1 : Math.ceilDiv(inputs, as.group);
    return switch (as) {
      case AWQ_128, AWQ_64, AWQ_32 ->
          List.of(
              bytes(base + "qweight", "I32", 4, inputs, rows / 8),
              bytes(base + "qzeros", "I32", 4, groups, rows / 8),
              scales(base + "scales", "F16", 0.03, groups, rows));
      case GPTQ, GPTQ_SYMMETRIC ->
          List.of(
              bytes(base + "qweight", "I32", 4, inputs / 8, rows),
              as == Written.GPTQ
                  ? bytes(base + "qzeros", "I32", 4, groups, rows / 8)
                  : filled(base + "qzeros", 0x77, groups, rows / 8),
              scales(base + "scales", "F16", 0.03, groups, rows),
              inOrder(base + "g_idx", (int) inputs, as.group));
      case GPTQ_OF_8_BITS ->
          List.of(
              bytes(base + "qweight", "I32", 4, inputs / 4, rows),
              filled(base + "qzeros", 127, groups, rows / 4),
              scales(base + "scales", "BF16", 0.002, groups, rows));
      case PACKED, PACKED_WITH_ZEROS, PACKED_OF_FLOAT32 -> {
        var all =
            new ArrayList<>(
                List.of(
                    bytes(name + "_packed", "I32", 4, rows, inputs / 8),
                    scales(
                        name + "_scale",
                        as == Written.PACKED_OF_FLOAT32 ? "F32" : "BF16",
                        0.03,
                        rows,
                        groups),
                    shape(name + "_shape", rows, inputs)));
        if (as == Written.PACKED_WITH_ZEROS) {
          all.add(bytes(name + "_zero_point", "I32", 4, rows / 8, groups));
        }
        yield all;
      }
      case FP8_IN_BLOCKS, FP8_BY_ROW, FP8_BY_TENSOR -> {
        var numbers = bytes(name, "F8_E4M3", 1, rows, inputs);
        withoutNan(numbers.bytes);
        yield List.of(
            numbers,
            switch (as) {
              case FP8_IN_BLOCKS ->
                  scales(name + "_scale_inv", "F32", 0.001, Math.ceilDiv(rows, 128), groups);
              case FP8_BY_ROW -> scales(name + "_scale", "BF16", 0.001, rows, 1);
              default -> scales(name + "_scale", "F32", 0.001, 1);
            });
      }
      case MXFP4 -> throw new IllegalArgumentException("experts alone");
    };
  }

  private Part shape(String name, long rows, long inputs) {
    var part = bytes(name, "I64", 8, 2);
    ByteBuffer.wrap(part.bytes).order(ByteOrder.LITTLE_ENDIAN).putLong(rows).putLong(inputs);
    return part;
  }

  private static Part inOrder(String name, int inputs, int group) {
    return list(name, IntStream.range(0, inputs).map(i -> i / group).toArray());
  }

  private static Part list(String name, int[] numbers) {
    var bytes = ByteBuffer.allocate(4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    for (int each : numbers) {
      bytes.putInt(each);
    }
    return new Part(name, "I32", bytes.array(), List.of((long) numbers.length));
  }

  /// Experts of gpt-oss: `[experts, results, inputs]` in blocks.
  private List<Part> experts(String name, long experts, long results, long inputs) {
    var exponents = bytes(name + "_scales", "U8", 1, experts, results, inputs / 32);
    for (int i = 0; i < exponents.bytes.length; i++) {
      exponents.bytes[i] = (byte) (120 + random.nextInt(4));
    }
    return List.of(bytes(name + "_blocks", "U8", 1, experts, results, inputs / 32, 16), exponents);
  }

  // ---------------------------------------------------------------- numbers

  private QuantizedMatrix matrix(Written as, List<Part> parts) {
    SequencedMap<String, Entry> entries = new LinkedHashMap<>();
    parts.forEach(part -> entries.put(part.name, part.entry()));
    var matrices = as.quantization().take(entries, directory, new ArrayList<>());
    assertEquals(1, matrices.size());
    return matrices.firstEntry().getValue();
  }

  /// The numbers of some rows, as they are kept.
  private static float[] numbers(QuantizedMatrix.Kept kept) {
    var matrix = Objects.requireNonNull(kept.matrix(), kept.why());
    var out = Arena.ofAuto().allocate(matrix.rows() * matrix.columns() * 4, 4);
    Kernels.FASTEST.dequantize(matrix, 0, matrix.rows(), Floats.float32(out));
    return out.toArray(ValueLayout.JAVA_FLOAT);
  }

  /// To the bit, in any order of rows, and those alone that were asked for.
  @ParameterizedTest
  @EnumSource(mode = EnumSource.Mode.EXCLUDE, names = "MXFP4")
  void keptNumbersAreTheRestoredOnes(Written as) {
    for (long inputs : new long[] {128, 384}) {
      int rows = 136;
      var matrix = matrix(as, parts(as, "x.weight", rows, inputs));
      float[] all = matrix.restored().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
      long[][] choices = {LongStream.range(0, rows).toArray(), {135}, {7, 3, 131, 130, 3}};
      for (long[] chosen : choices) {
        try (var copies = new PackedMatrices(Precision.FLOAT32)) {
          var kept = matrix.kept(chosen, copies);
          assertEquals(as.format, Objects.requireNonNull(kept.matrix(), kept.why()).format());
          float[] found = numbers(kept);
          for (int r = 0; r < chosen.length; r++) {
            assertArrayEquals(
                Arrays.copyOfRange(
                    all, (int) (chosen[r] * inputs), (int) ((chosen[r] + 1) * inputs)),
                Arrays.copyOfRange(found, (int) (r * inputs), (int) ((r + 1) * inputs)),
                "row " + chosen[r]);
          }
        }
      }
    }
  }

  /// Rows stand last in what is restored; a zero may lose its sign, which no sum shows.
  @Test
  void keptExpertsAreTheRestoredOnesTurned() {
    var matrix = matrix(Written.MXFP4, experts("x.down_proj", 3, 5, 96));
    assertTrue(matrix.isTurned());
    assertEquals(List.of(3L, 96L, 5L), matrix.shape());
    float[] all = matrix.restored().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    try (var copies = new PackedMatrices(Precision.FLOAT32)) {
      long[] rows = {14, 0, 6};
      float[] found = numbers(matrix.kept(rows, copies));
      for (int r = 0; r < rows.length; r++) {
        for (int i = 0; i < 96; i++) {
          float wanted = all[(int) ((rows[r] / 5 * 96 + i) * 5 + rows[r] % 5)];
          assertEquals(wanted + 0f, found[r * 96 + i] + 0f);
        }
      }
    }
  }

  /// Experts whose matrices are one tensor, with a scale for each block of each.
  @Test
  void expertsOfE4m3HaveScalesOfTheirOwn() {
    var numbers = bytes("x.gate_up_proj", "F8_E4M3", 1, 3, 130, 192);
    withoutNan(numbers.bytes);
    var matrix =
        matrix(
            Written.FP8_IN_BLOCKS,
            List.of(numbers, scales("x.gate_up_proj_scale_inv", "F32", 1, 3, 2, 2)));
    float[] all = matrix.restored().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
    try (var copies = new PackedMatrices(Precision.FLOAT32)) {
      var kept = matrix.kept(LongStream.range(0, 3 * 130).toArray(), copies);
      assertArrayEquals(all, numbers(kept));
    }
  }

  private void assertExpanded(String why, Written as, List<Part> parts) {
    var matrix = matrix(as, parts);
    try (var copies = new PackedMatrices(Precision.FLOAT32)) {
      var kept = matrix.kept(new long[] {0, 1}, copies);
      assertNull(kept.matrix());
      assertTrue(kept.why().contains(why), kept.why());
    }
  }

  private static List<Part> with(List<Part> parts, Part other) {
    var all = new ArrayList<>(parts);
    all.removeIf(part -> part.name.equals(other.name));
    all.add(other);
    return all;
  }

  @Test
  void whatNoFormatHoldsIsNamed() {
    var gptq = parts(Written.GPTQ, "x.weight", 16, 128);
    int[] turns = IntStream.range(0, 128).map(i -> i % 2).toArray();
    assertExpanded("(act-order)", Written.GPTQ, with(gptq, list("x.g_idx", turns)));
    assertExpanded(
        "zero point is 128",
        Written.GPTQ_OF_8_BITS,
        with(parts(Written.GPTQ_OF_8_BITS, "x.weight", 16, 64), filled("x.qzeros", 126, 1, 4)));
    assertExpanded(
        "group of 16 inputs is no whole blocks of 32",
        Written.PACKED,
        with(parts(Written.PACKED, "x.weight", 16, 64), scales("x.weight_scale", "F16", 1, 16, 4)));
    var infinite = scales("x.weight_scale", "F16", 1, 16, 2);
    infinite.bytes[0] = 0;
    infinite.bytes[1] = 0x7C;
    assertExpanded(
        "a scale is NaN, infinite",
        Written.PACKED,
        with(parts(Written.PACKED, "x.weight", 16, 64), infinite));
    assertExpanded(
        "96 inputs, of which 96 share a scale, are no whole blocks of 64",
        Written.FP8_BY_ROW,
        parts(Written.FP8_BY_ROW, "x.weight", 16, 96));
    var fp8 = parts(Written.FP8_BY_ROW, "x.weight", 16, 64);
    fp8.getFirst().bytes[70] = -1;
    assertExpanded("a number or a scale is NaN", Written.FP8_BY_ROW, fp8);
    var experts = experts("x.down_proj", 1, 2, 32);
    experts.get(1).bytes[1] = -1;
    assertExpanded("a scale is NaN", Written.MXFP4, experts);
  }

  /// A scale in float32 needs all of its bits, a group of 96 inputs three blocks.
  @Test
  void groupsOfOtherSizesAreKeptInBlocksThatDivideThem() {
    for (int inputs : new int[] {96, 160, 192, 640}) {
      var parts =
          List.of(
              bytes("x.weight_packed", "I32", 4, 8, inputs / 8),
              scales("x.weight_scale", "F32", 0.1, 8, 1),
              bytes("x.weight_zero_point", "I32", 4, 1, 1));
      var matrix = matrix(Written.PACKED, parts);
      try (var copies = new PackedMatrices(Precision.FLOAT32)) {
        var kept = matrix.kept(LongStream.range(0, 8).toArray(), copies);
        assertArrayEquals(
            matrix.restored().data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED), numbers(kept));
        assertEquals(
            inputs == 640
                ? WeightFormat.I4_128
                : inputs == 192 ? WeightFormat.I4_64 : WeightFormat.I4_32,
            Objects.requireNonNull(kept.matrix()).format());
      }
    }
  }

  // ---------------------------------------------------------------- models

  /// A small model with random weights, of which the matrices of the layers (of gpt-oss those of
  /// the experts) are as others write them.
  private Path model(Written as) throws IOException {
    boolean isGptOss = as == Written.MXFP4;
    Path model = Files.createTempDirectory(directory, "model");
    Path file = model.resolve(ModelConfig.FILE);
    Path golden = TestData.GOLDEN.resolve(isGptOss ? "gpt-oss" : "qwen3");
    var config = (ObjectNode) JsonMapper.shared().readTree(golden.resolve("config.json").toFile());
    config.put("hidden_size", isGptOss ? 64 : 128);
    config.put("intermediate_size", isGptOss ? 96 : 256);
    config.put("num_attention_heads", 4).put("head_dim", 32).put("initializer_range", 0.1);
    Files.writeString(file, config.toString());
    var weights = model.resolve("model.safetensors");
    try (var decoder =
        Decoder.initialize(ModelConfig.read(model).decoder(), Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(model, decoder);
    }
    List<Part> parts = new ArrayList<>();
    try (var plain = SafetensorsFile.open(weights)) {
      for (var entry : plain.entries()) {
        long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
        if (isGptOss && entry.name().matches(".*experts\\.(gate_up|down)_proj")) {
          parts.addAll(experts(entry.name(), shape[0], shape[2], shape[1]));
        } else if (!isGptOss && entry.name().endsWith("_proj.weight")) {
          parts.addAll(parts(as, entry.name(), shape[0], shape[1]));
        } else {
          byte[] bytes = entry.data().toArray(ValueLayout.JAVA_BYTE);
          parts.add(new Part(entry.name(), "F32", bytes, entry.shape()));
        }
      }
    }
    write(weights, parts);
    config = (ObjectNode) JsonMapper.shared().readTree(file.toFile());
    config.set("quantization_config", JsonMapper.shared().readTree(as.config));
    Files.writeString(file, config.toString());
    return model;
  }

  private static void write(Path file, List<Part> parts) throws IOException {
    var header = JsonMapper.shared().createObjectNode();
    var data = new ByteArrayOutputStream();
    for (var part : parts) {
      var entry = header.putObject(part.name).put("dtype", part.type);
      var shape = entry.putArray("shape");
      part.shape.forEach(shape::add);
      entry.putArray("data_offsets").add(data.size()).add(data.size() + part.bytes.length);
      data.writeBytes(part.bytes);
    }
    byte[] json = header.toString().getBytes(StandardCharsets.UTF_8);
    var out = new ByteArrayOutputStream();
    out.writeBytes(
        ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).array());
    out.writeBytes(json);
    out.writeBytes(data.toByteArray());
    Files.write(file, out.toByteArray());
  }

  private static float[] logits(Decoder decoder, long... ids) {
    return decoder
        .logits(decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE))
        .floats();
  }

  private static boolean isQuantized(Weight weight) {
    return weight.stored() != null && weight.stored().format() != WeightFormat.F32;
  }

  /// Opened in place, a model is that of the float32 numbers: the numbers to the bit, logits within
  /// what products leave out, the tokens that follow; and it takes hardly more memory than its
  /// file.
  @ParameterizedTest
  @EnumSource
  void aModelIsThatOfItsNumbersInFewBits(Written as) throws IOException {
    Path model = model(as);
    long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % 90).toArray();
    int[] prompt = {3, 1, 4, 1, 5};
    var opened = ModelDirectory.openInPlace(model, Precision.FLOAT32);
    try (var _ = Scope.open();
        var expanded = ModelDirectory.load(model, Precision.FLOAT32, Device.CPU, false);
        var inPlace = opened.decoder()) {
      int quantized = 0;
      long bytes = 0;
      for (var weight : inPlace.parameters().weights().values()) {
        if (isQuantized(weight)) {
          quantized++;
          assertEquals(as.format, weight.stored().format(), weight.name());
        }
        var stored = weight.stored();
        bytes += stored == null ? 4 * weight.spec().elements() : stored.bytes();
      }
      String note =
          "quantized matrices stay in as many bits as they have: %d as %s"
              .formatted(quantized, as.format.word());
      assertTrue(opened.notes().contains(note), opened.notes()::toString);
      assertEquals(as == Written.MXFP4 ? 4 * 5 * 3 : 3 * 7, quantized);
      long file = Files.size(model.resolve("model.safetensors"));
      assertTrue(bytes <= 1.1 * file, "%d bytes of a file of %d".formatted(bytes, file));

      for (long[] tokens : List.of(Arrays.copyOf(ids, 3), ids)) {
        float[] expected = logits(expanded, tokens);
        double size = 0;
        for (float logit : expected) {
          size = Math.max(size, Math.abs(logit));
        }
        // 16 bits of inputs for a few tokens, and for any number with weights in strips; as much is
        // left out of products in halves
        boolean inStrips = as.format == WeightFormat.Q4_0 || as.format == WeightFormat.Q8_0;
        boolean inHalves = MatrixProduct.hasBfloat16Units();
        float allowed = (float) ((tokens.length == 3 || inStrips || inHalves ? 3e-4 : 1e-4) * size);
        assertArrayEquals(expected, logits(inPlace, tokens), allowed);
      }
      var tokens = new Generator(inPlace).generate(prompt, Sampler.GREEDY, 30, Set.of());
      assertArrayEquals(new Generator(expanded).greedyWithoutCache(prompt, 30), tokens.ids());
      for (var weight : inPlace.parameters().weights().values()) { // which makes them float32
        float[] wanted = expanded.parameters().get(weight.name()).floats();
        float[] found = weight.leaf().floats();
        for (int i = 0; as == Written.MXFP4 && i < wanted.length; i++) {
          wanted[i] += 0f;
          found[i] += 0f;
        }
        assertArrayEquals(wanted, found, weight.name());
      }
    }
  }

  // ---------------------------------------------------------------- mixtures and hybrids

  /// A published mixture: what its small one is made of, and how its names begin.
  private enum Mixture {
    QWEN3_MOE("qwen3", "model.", false),
    QWEN3_NEXT("qwen3-next", "model.", true),
    /// The text part of a model that sees.
    QWEN3_5_MOE("qwen3.5-moe", "model.language_model.", true);

    final String golden;
    final String base;

    /// Whether it has layers of Gated DeltaNet, a shared expert, and a head that drafts tokens.
    final boolean isHybrid;

    Mixture(String golden, String base, boolean isHybrid) {
      this.golden = golden;
      this.base = base;
      this.isHybrid = isHybrid;
    }

    /// Experts are 192 wide, so that of matrices in blocks of 128 rows the second half begins
    /// within a block.
    ObjectNode config() {
      var config = TinyCheckpoints.config(golden);
      config.put("hidden_size", 128).put("num_attention_heads", 4).put("head_dim", 32);
      config.put("initializer_range", 0.1).put("num_hidden_layers", 2);
      config.put("num_experts", 3).put("num_experts_per_tok", 2).put("moe_intermediate_size", 192);
      if (!isHybrid) {
        config.put("model_type", "qwen3_moe").remove("layer_types");
        config.putArray("architectures").add("Qwen3MoeForCausalLM");
        return config;
      }
      config.put("shared_expert_intermediate_size", 64).put("linear_num_value_heads", 8);
      config.put("linear_key_head_dim", 16).put("linear_value_head_dim", 16);
      config.putArray("layer_types").add("linear_attention").add("full_attention");
      if (this == QWEN3_NEXT) {
        return config;
      }
      var whole = JsonMapper.shared().createObjectNode().put("model_type", "qwen3_5_moe");
      whole.putArray("architectures").add("Qwen3_5MoeForConditionalGeneration");
      return whole.set("text_config", config);
    }
  }

  /// What is never quantized.
  private static final String UNQUANTIZED =
      "embed_tokens|lm_head|norm|mlp\\.(shared_expert_)?gate\\.|conv1d|A_log|dt_bias";

  /// Mostly left too: Gated DeltaNet, and how the head that drafts begins.
  private static final String MOSTLY_LEFT = "linear_attn|mtp\\.fc";

  private static boolean isQuantized(String name, boolean all) {
    return !name.matches(".*(" + UNQUANTIZED + ").*")
        && (all || !name.matches(".*(" + MOSTLY_LEFT + ").*"));
  }

  /// The experts of a layer together, of E4M3 with a scale for each block of each expert, and their
  /// numbers.
  private Part experts8(String name, long[] shape, List<Part> parts) {
    var stored = bytes(name, "F8_E4M3", 1, shape);
    withoutNan(stored.bytes);
    int down = (int) Math.ceilDiv(shape[1], 128);
    int across = (int) Math.ceilDiv(shape[2], 128);
    var scales = scales(name + "_scale_inv", "F32", 0.001, shape[0], down, across);
    parts.addAll(List.of(stored, scales));
    var scale = ByteBuffer.wrap(scales.bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
    var numbers = ByteBuffer.allocate(4 * stored.bytes.length).order(ByteOrder.LITTLE_ENDIAN);
    int at = 0;
    for (int expert = 0; expert < shape[0]; expert++) {
      for (int row = 0; row < shape[1]; row++) {
        for (int i = 0; i < shape[2]; i++) {
          float factor = scale.get((expert * down + row / 128) * across + i / 128);
          numbers.putFloat(Floats.ofE4m3(stored.bytes[at++]) * factor);
        }
      }
    }
    return new Part(name, "F32", numbers.array(), stored.shape);
  }

  /// Writes a mixture as a publisher does, and the same with float32 numbers in their place.
  private void write(
      Mixture mixture, Written as, boolean all, boolean together, Path few, Path plain)
      throws IOException {
    var config = mixture.config();
    Files.writeString(plain.resolve(ModelConfig.FILE), config.toString());
    config.set("quantization_config", JsonMapper.shared().readTree(as.config));
    Files.writeString(few.resolve(ModelConfig.FILE), config.toString());
    List<Part> parts = new ArrayList<>();
    List<Part> numbers = new ArrayList<>();
    try (var _ = Scope.open()) {
      TinyCheckpoints.weights(ModelConfig.read(plain), together, mixture.isHybrid)
          .forEach(
              (own, tensor) -> {
                String name = own.replaceFirst("^model\\.", mixture.base);
                long[] shape = tensor.shape();
                List<Long> dimensions = LongStream.of(shape).boxed().toList();
                if (isQuantized(name, all) && shape.length == 3) {
                  numbers.add(experts8(name, shape, parts));
                } else if (isQuantized(name, all)) {
                  var stored = parts(as, name, shape[0], shape[1]);
                  parts.addAll(stored);
                  byte[] restored =
                      matrix(as, stored).restored().data().toArray(ValueLayout.JAVA_BYTE);
                  numbers.add(new Part(name, "F32", restored, dimensions));
                } else {
                  byte[] bytes = tensor.memory().toArray(ValueLayout.JAVA_BYTE);
                  parts.add(new Part(name, "F32", bytes, dimensions));
                  numbers.add(parts.getLast());
                }
              });
    }
    write(few.resolve("model.safetensors"), parts);
    write(plain.resolve("model.safetensors"), numbers);
  }

  /// Each weight of a published mixture, its head that drafts included, has the format and the
  /// numbers that belong there; what is told is what happened.
  @ParameterizedTest
  @CsvSource({
    "QWEN3_MOE, FP8_IN_BLOCKS, false, false",
    "QWEN3_MOE, AWQ_64, false, false",
    "QWEN3_MOE, GPTQ, false, false",
    "QWEN3_MOE, PACKED, false, false",
    "QWEN3_NEXT, FP8_IN_BLOCKS, true, false",
    "QWEN3_NEXT, AWQ_64, false, false",
    "QWEN3_NEXT, GPTQ, true, false",
    "QWEN3_NEXT, PACKED, false, false",
    "QWEN3_5_MOE, FP8_IN_BLOCKS, false, true",
    "QWEN3_5_MOE, AWQ_64, true, false",
    "QWEN3_5_MOE, GPTQ, false, false",
    "QWEN3_5_MOE, PACKED, true, false"
  })
  void mixturesAreThoseOfTheirNumbers(Mixture mixture, Written as, boolean all, boolean together)
      throws IOException {
    Path few = Files.createTempDirectory(directory, "few");
    Path plain = Files.createTempDirectory(directory, "plain");
    write(mixture, as, all, together, few, plain);
    long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % 90).toArray();
    boolean drafts = mixture.isHybrid;
    try (var _ = Scope.open();
        var expected = inPlace(plain, drafts).decoder();
        var numbers = ModelDirectory.load(plain, Precision.FLOAT32, Device.CPU, false);
        var expanded = ModelDirectory.load(few, Precision.FLOAT32, Device.CPU, false)) {
      var opened = inPlace(few, drafts);
      try (var decoder = opened.decoder()) {
        float[] logits = logits(numbers, ids);
        assertArrayEquals(logits, logits(expanded, ids));
        double size = 0;
        for (float logit : logits) {
          size = Math.max(size, Math.abs(logit));
        }
        assertArrayEquals(logits, logits(decoder, ids), (float) (3e-4 * size));

        int quantized = 0;
        for (var weight : decoder.parameters().weights().values()) {
          boolean isQuantized = isQuantized(weight.name(), all);
          quantized += isQuantized ? 1 : 0;
          var stored = weight.stored();
          assertEquals(
              isQuantized ? as.format : WeightFormat.F32,
              stored == null ? WeightFormat.F32 : stored.format(),
              weight.name());
          assertArrayEquals(
              expected.parameters().weight(weight.name()).leaf().floats(),
              weight.leaf().floats(),
              weight.name());
        }
        assertEquals(
            expected.parameters().weights().keySet(), decoder.parameters().weights().keySet());
        var told =
            opened.notes().stream()
                .filter(note -> note.contains("quantized matrices") || note.contains("not read"))
                .toList();
        assertEquals(
            List.of(
                "quantized matrices stay in as many bits as they have: %d as %s"
                    .formatted(quantized, as.format.word())),
            told);
      }
    }
  }

  private static ModelDirectory.Opened inPlace(Path model, boolean drafts) {
    return ModelDirectory.openInPlace(
        model, Precision.FLOAT32, null, drafts, Conversion.Listener.NOBODY);
  }

  /// What is rounded as it is read comes from the float32 numbers, as ever.
  @Test
  void roundingGoesOnAsItDid() throws IOException {
    Path model = model(Written.AWQ_128);
    var opened =
        ModelDirectory.openInPlace(
            model, Precision.FLOAT32, "q8_0", false, Conversion.Listener.NOBODY);
    try (var decoder = opened.decoder()) {
      assertTrue(
          opened.notes().contains("21 quantized matrices are read as float32 numbers"),
          opened.notes()::toString);
      for (var weight : decoder.parameters().weights().values()) {
        if (weight.name().endsWith("_proj.weight")) {
          assertEquals(
              WeightFormat.Q8_0, Objects.requireNonNull(weight.stored()).format(), weight.name());
        }
      }
    }
  }

  /// One matrix of a model that no format holds becomes float32, and that is told.
  @Test
  void aMatrixWithGroupsOutOfOrderBecomesFloat32() throws IOException {
    Path model =
        changed(
            Written.GPTQ,
            ".mlp.down_proj.g_idx",
            part -> {
              var groups = ByteBuffer.wrap(part).order(ByteOrder.LITTLE_ENDIAN);
              groups.putInt(0, 3).putInt(4 * 255, 0);
            });
    var opened = ModelDirectory.openInPlace(model, Precision.FLOAT32);
    try (var inPlace = opened.decoder()) {
      assertTrue(
          opened.notes().stream()
              .anyMatch(note -> note.startsWith("3 quantized matrices become float32, since")),
          opened.notes()::toString);
      var down = inPlace.parameters().weight("model.layers.1.mlp.down_proj.weight");
      assertEquals(WeightFormat.F32, Objects.requireNonNull(down.stored()).format());
    }
  }

  private interface Change {
    void apply(byte[] bytes);
  }

  /// A model with some bytes of all tensors of a kind changed.
  private Path changed(Written as, String suffix, Change change) throws IOException {
    Path model = model(as);
    Path file = model.resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    int start = 8 + (int) ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).getLong(0);
    var header =
        JsonMapper.shared().readTree(new String(bytes, 8, start - 8, StandardCharsets.UTF_8));
    int found = 0;
    for (Map.Entry<String, JsonNode> field : header.properties()) {
      if (field.getKey().endsWith(suffix)) {
        var offsets = field.getValue().get("data_offsets");
        int from = start + offsets.get(0).asInt();
        int to = start + offsets.get(1).asInt();
        byte[] part = Arrays.copyOfRange(bytes, from, to);
        change.apply(part);
        System.arraycopy(part, 0, bytes, from, part.length);
        found++;
      }
    }
    assertTrue(found > 0, suffix);
    Files.write(file, bytes);
    return model;
  }

  private static void assertRefused(Path model, String words) {
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> ModelDirectory.openInPlace(model, Precision.FLOAT32).decoder().close());
    String message = String.valueOf(e.getMessage());
    assertNull(Fuzz.wrong(message));
    assertTrue(message.contains(words), message);
  }

  /// The same sentences as of float32, with the place of the number.
  @Test
  void whatIsNoNumberIsRefusedInPlaceToo() throws IOException {
    assertRefused(
        changed(Written.FP8_BY_ROW, "layers.1.mlp.up_proj.weight", part -> part[3 * 128 + 5] = 127),
        "is NaN or infinite at [3, 5]");
    assertRefused(
        changed(
            Written.FP8_IN_BLOCKS,
            "up_proj.weight_scale_inv",
            part -> Arrays.fill(part, (byte) -1)),
        "is NaN or infinite at [0, 0]");
    assertRefused(
        changed(Written.AWQ_128, "layers.2.mlp.up_proj.scales", part -> part[1] = 0x7E),
        "is NaN or infinite at [0, 0]");
    assertRefused(
        changed(Written.GPTQ, "layers.0.mlp.up_proj.g_idx", part -> part[3] = 1),
        "does not give a group from 0 to 1");
    assertRefused(
        changed(Written.MXFP4, "layers.3.mlp.experts.down_proj_scales", part -> part[0] = -1),
        "is NaN or infinite at [0, 0, 0]");
  }

  @Test
  void filesThatAreCutOrLieAreRefusedInPlaceToo() throws IOException {
    Path model = model(Written.AWQ_64);
    Path file = model.resolve("model.safetensors");
    byte[] bytes = Files.readAllBytes(file);
    Files.write(file, Arrays.copyOf(bytes, bytes.length - 100));
    var cut =
        assertThrows(
            InvalidInputException.class,
            () -> ModelDirectory.openInPlace(model, Precision.FLOAT32).decoder().close());
    assertNull(Fuzz.wrong(String.valueOf(cut.getMessage())));
    Files.write(file, bytes);
    Path config = model.resolve(ModelConfig.FILE);
    var json = (ObjectNode) JsonMapper.shared().readTree(config.toFile());
    json.put("intermediate_size", 128);
    Files.writeString(config, json.toString());
    assertRefused(model, "has the shape [256, 128] where config.json calls for [128, 128]");
  }
}
