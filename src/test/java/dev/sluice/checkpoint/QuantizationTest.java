package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

class QuantizationTest {
  /// One matrix of four bits in three packings, made by their rules; all numbers of F8_E4M3 as
  /// PyTorch has them; blocks of MXFP4 as `transformers` 5.18 unpacks them.
  private static final JsonNode GOLDEN =
      JsonMapper.shared().readTree(TestData.GOLDEN.resolve("quantized/published.json").toFile());

  @TempDir Path directory;

  private static Quantization quantization(String json) {
    return Quantization.of(JsonMapper.shared().readTree(json));
  }

  private static Entry entry(String name, ElementType type, byte[] bytes, Long... shape) {
    return new Entry(name, type, List.of(shape), MemorySegment.ofArray(bytes));
  }

  private static Entry words(String name, JsonNode hex, Long... shape) {
    var bytes = ByteBuffer.allocate(4 * hex.size()).order(ByteOrder.LITTLE_ENDIAN);
    hex.forEach(word -> bytes.putInt(Integer.parseUnsignedInt(word.asString(), 16)));
    return entry(name, ElementType.INT32, bytes.array(), shape);
  }

  private static byte[] bytes(float... numbers) {
    var bytes = ByteBuffer.allocate(4 * numbers.length).order(ByteOrder.LITTLE_ENDIAN);
    for (float number : numbers) {
      bytes.putFloat(number);
    }
    return bytes.array();
  }

  private static Entry floats(String name, float[] numbers, Long... shape) {
    return entry(name, ElementType.FLOAT32, bytes(numbers), shape);
  }

  private static float[] flat(JsonNode rows) {
    List<Float> all = new ArrayList<>();
    rows.forEach(
        row -> {
          if (row.isArray()) {
            row.forEach(each -> all.add(each.floatValue()));
          } else {
            all.add(row.floatValue());
          }
        });
    float[] flat = new float[all.size()];
    for (int i = 0; i < flat.length; i++) {
      flat[i] = all.get(i);
    }
    return flat;
  }

  /// `[out, groups]` turned round.
  private static float[] byGroup(float[] scales, int results) {
    int groups = scales.length / results;
    float[] turned = new float[scales.length];
    for (int i = 0; i < scales.length; i++) {
      turned[i % groups * results + i / groups] = scales[i];
    }
    return turned;
  }

  private Entry restored(Quantization by, Entry... parts) {
    SequencedMap<String, Entry> entries = new LinkedHashMap<>();
    for (var part : parts) {
      entries.put(part.name(), part);
    }
    var matrices = by.take(entries, directory, new ArrayList<>());
    assertEquals(List.of(), List.copyOf(entries.keySet()));
    assertEquals(1, matrices.size());
    var matrix = matrices.firstEntry().getValue();
    assertEquals(matrix.shape(), matrix.restored().shape());
    return matrix.restored();
  }

  private static float[] numbers(Entry entry) {
    return entry.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
  }

  // ---------------------------------------------------------------- packings

  @Test
  void threePackingsAreOneMatrix() {
    float[] scales = flat(GOLDEN.get("scales_out_by_group"));
    float[] asymmetric = flat(GOLDEN.get("asymmetric_weight"));
    var awq = GOLDEN.get("awq_gemm");
    assertArrayEquals(
        asymmetric,
        numbers(
            restored(
                quantization("{\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemm\"}"),
                words("x.qweight", awq.get("qweight"), 32L, 2L),
                words("x.qzeros", awq.get("qzeros"), 2L, 2L),
                floats("x.scales", byGroup(scales, 16), 2L, 16L))));
    var gptq = GOLDEN.get("gptq");
    assertArrayEquals(
        asymmetric,
        numbers(
            restored(
                quantization("{\"quant_method\": \"gptq\", \"bits\": 4}"),
                words("x.qweight", gptq.get("qweight"), 4L, 16L),
                words("x.qzeros", gptq.get("qzeros"), 2L, 2L),
                floats("x.scales", byGroup(scales, 16), 2L, 16L))));
    assertArrayEquals(
        flat(GOLDEN.get("symmetric_weight")),
        numbers(
            restored(
                packed(),
                words(
                    "x.weight_packed",
                    GOLDEN.get("compressed_tensors").get("weight_packed"),
                    16L,
                    4L),
                floats("x.weight_scale", scales, 16L, 2L),
                shape(16, 32))));
  }

  private static Entry shape(long... sides) {
    var bytes = ByteBuffer.allocate(8 * sides.length).order(ByteOrder.LITTLE_ENDIAN);
    LongStream.of(sides).forEach(bytes::putLong);
    return entry("x.weight_shape", ElementType.INT64, bytes.array(), (long) sides.length);
  }

  private static Quantization packed() {
    return packed("");
  }

  /// @param more keys of the weights
  private static Quantization packed(String more) {
    return quantization(
        compressed("pack-quantized", "\"num_bits\": 4, \"type\": \"int\"" + more, ""));
  }

  /// @param weights keys of the weights of the group
  /// @param more keys beside the group
  private static String compressed(String format, String weights, String more) {
    return ("{\"quant_method\": \"compressed-tensors\", \"format\": \"%s\", \"config_groups\":"
            + " {\"group_0\": {\"weights\": {%s}}}%s}")
        .formatted(format, weights, more);
  }

  /// Groups in another order than the inputs, zeros as they are, and zeros of compressed-tensors,
  /// which are packed along the results.
  @Test
  void groupsAndZerosMayBeGiven() {
    byte[] four = {0x10, 0x32, 0x54, 0x76, 0x10, 0x32, 0x54, 0x76}; // 0 … 7 twice, along inputs
    byte[] groups =
        ByteBuffer.allocate(32)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putInt(1)
            .putInt(0)
            .putInt(1)
            .putInt(0)
            .putInt(0)
            .putInt(0)
            .putInt(1)
            .putInt(1)
            .array();
    byte[] eightByOne = new byte[32];
    for (int i = 0; i < 8; i++) {
      System.arraycopy(four, 0, eightByOne, 4 * i, 4);
    }
    var second =
        quantization(
            "{\"quant_method\": \"gptq\", \"bits\": 4, \"checkpoint_format\": \"gptq_v2\"}");
    float[] found =
        numbers(
            restored(
                second,
                entry("x.qweight", ElementType.INT32, eightByOne, 1L, 8L),
                entry(
                    "x.qzeros",
                    ElementType.INT32,
                    new byte[] {0, 0, 0, 0, 0x11, 0x11, 0x11, 0x11},
                    2L,
                    1L),
                floats(
                    "x.scales",
                    new float[] {1, 1, 1, 1, 1, 1, 1, 1, 10, 10, 10, 10, 10, 10, 10, 10},
                    2L,
                    8L),
                entry("x.g_idx", ElementType.INT32, groups, 8L)));
    assertArrayEquals(new float[] {-10, 1, 10, 3, 4, 5, 50, 60}, Arrays.copyOf(found, 8));

    found =
        numbers(
            restored(
                packed(),
                entry("x.weight_packed", ElementType.INT32, four, 2L, 1L),
                floats("x.weight_scale", new float[] {1, 2}, 2L, 1L),
                entry(
                    "x.weight_zero_point", ElementType.INT32, new byte[] {0x53, 0, 0, 0}, 1L, 1L)));
    assertArrayEquals(new float[] {-3, -2, -1, 0, 1, 2, 3, 4, -10, -8, -6, -4, -2, 0, 2, 4}, found);

    found =
        numbers(
            restored(
                quantization("{\"quant_method\": \"gptq\", \"bits\": 8}"),
                entry(
                    "x.qweight",
                    ElementType.INT32,
                    new byte[] {1, 2, 3, 4, 5, 6, 7, (byte) 255, 0, 0, 0, 0, 0, 0, 0, 0},
                    1L,
                    4L),
                entry("x.qzeros", ElementType.INT32, new byte[] {0, 4, 0, 0}, 1L, 1L),
                floats("x.scales", new float[] {1, 1, 1, 1}, 1L, 4L)));
    assertArrayEquals(new float[] {0, 1, 2, 3, 0, 1, 2, 250}, Arrays.copyOf(found, 8));
  }

  @Test
  void numbersOfEightBitsAreThoseOfPyTorch() {
    byte[] all = new byte[256];
    float[] wanted = new float[256];
    for (int i = 0; i < 256; i++) {
      all[i] = (byte) i;
      JsonNode value = GOLDEN.get("e4m3").get(i);
      wanted[i] = value.isNull() ? Float.NaN : value.floatValue();
    }
    assertArrayEquals(
        wanted,
        numbers(
            restored(
                quantization("{\"quant_method\": \"fp8\", \"weight_block_size\": null}"),
                entry("x.weight", ElementType.UINT8, all, 2L, 128L),
                floats("x.weight_scale_inv", new float[] {1}, 1L))));
  }

  /// Blocks of 2 by 4, of which the last ones are cut; a scale for a row; matrices of experts.
  @Test
  void scalesAreOfBlocksOfRowsOrOfAll() {
    byte[] ones = new byte[3 * 6];
    Arrays.fill(ones, (byte) 0x38); // 1
    float[] found =
        numbers(
            restored(
                quantization("{\"quant_method\": \"fp8\", \"weight_block_size\": [2, 4]}"),
                entry("x.weight", ElementType.UINT8, ones, 3L, 6L),
                floats("x.weight_scale_inv", new float[] {1, 2, 3, 4}, 2L, 2L)));
    assertArrayEquals(new float[] {1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4}, found);
    found =
        numbers(
            restored(
                quantization("{\"quant_method\": \"fp8\", \"weight_block_size\": [2, 4]}"),
                entry("x.gate_up_proj", ElementType.UINT8, ones, 3L, 2L, 3L),
                floats("x.gate_up_proj_scale_inv", new float[] {1, 2, 3}, 3L, 1L, 1L)));
    assertArrayEquals(new float[] {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3}, found);
    var byRow =
        quantization(
            "{\"quant_method\": \"compressed-tensors\", \"format\": \"float-quantized\","
                + " \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 8, \"type\":"
                + " \"float\"}}}}");
    found =
        numbers(
            restored(
                byRow,
                entry("x.weight", ElementType.UINT8, ones, 3L, 6L),
                floats("x.weight_scale", new float[] {1, 2, 3}, 3L, 1L)));
    assertEquals(3, found[17]);
    assertEquals(2, found[6]);
  }

  @Test
  void blocksOfMxfp4AreTurnedAsTransformersTurnsThem() {
    var golden = GOLDEN.get("mxfp4");
    assertArrayEquals(
        flat(golden.get("values")),
        numbers(
            restored(
                quantization("{\"quant_method\": \"mxfp4\"}"),
                entry(
                    "x.down_proj_blocks",
                    ElementType.UINT8,
                    HexFormat.of().parseHex(golden.get("blocks").asString()),
                    2L,
                    3L,
                    2L,
                    16L),
                entry(
                    "x.down_proj_scales",
                    ElementType.UINT8,
                    HexFormat.of().parseHex(golden.get("scales").asString()),
                    2L,
                    3L,
                    2L))));
  }

  // ---------------------------------------------------------------- models

  /// A reference checkpoint whose matrices of attention are F8_E4M3, with scales.
  private Path model(String weights) throws IOException {
    Path golden = TestData.GOLDEN.resolve("qwen3");
    Path model = Files.createDirectories(directory.resolve("model"));
    var config =
        (ObjectNode) JsonMapper.shared().readTree(golden.resolve(ModelConfig.FILE).toFile());
    config.set("quantization_config", JsonMapper.shared().readTree(weights));
    Files.writeString(model.resolve(ModelConfig.FILE), config.toString());
    var header = JsonMapper.shared().createObjectNode();
    var data = new ByteArrayOutputStream();
    try (var file = SafetensorsFile.open(golden.resolve("model.safetensors"))) {
      for (var entry : file.entries()) {
        boolean isQuantized = entry.name().contains("self_attn") && entry.shape().size() == 2;
        byte[] bytes = entry.data().toArray(ValueLayout.JAVA_BYTE);
        if (isQuantized) {
          long blocks =
              Math.ceilDiv(entry.shape().get(0), 32L) * Math.ceilDiv(entry.shape().get(1), 32L);
          float[] scales = new float[(int) blocks];
          Arrays.fill(scales, 0.5f);
          add(
              header,
              data,
              entry.name() + "_scale_inv",
              "F32",
              bytes(scales),
              Math.ceilDiv(entry.shape().get(0), 32L),
              Math.ceilDiv(entry.shape().get(1), 32L));
          bytes = Arrays.copyOf(bytes, bytes.length / 4);
          for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) (i % 64 | (i % 2 == 0 ? 0 : 0x80));
          }
        }
        add(
            header,
            data,
            entry.name(),
            isQuantized ? "F8_E4M3" : entry.type().safetensorsName(),
            bytes,
            entry.shape().toArray(Long[]::new));
      }
    }
    byte[] json = header.toString().getBytes(StandardCharsets.UTF_8);
    var out = new ByteArrayOutputStream();
    out.writeBytes(
        ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(json.length).array());
    out.writeBytes(json);
    out.writeBytes(data.toByteArray());
    Files.write(model.resolve("model.safetensors"), out.toByteArray());
    return model;
  }

  private static void add(
      ObjectNode header,
      ByteArrayOutputStream data,
      String name,
      String type,
      byte[] bytes,
      Long... shape) {
    var entry = header.putObject(name).put("dtype", type);
    var sides = entry.putArray("shape");
    Arrays.stream(shape).forEach(sides::add);
    entry.putArray("data_offsets").add(data.size()).add(data.size() + bytes.length);
    data.writeBytes(bytes);
  }

  private static final String FP8 =
      "{\"quant_method\": \"fp8\", \"fmt\": \"e4m3\", \"weight_block_size\": [32, 32],"
          + " \"activation_scheme\": \"dynamic\"}";

  @Test
  void aModelOfFewBitsIsReadAsTheModelOfItsNumbers() throws IOException {
    Path model = model(FP8);
    try (var _ = Scope.open()) {
      var opened = ModelDirectory.open(model, Precision.FLOAT32, Device.CPU, false);
      assertTrue(
          opened.notes().toString().contains("the weights are quantized as fp8 stores them"),
          opened.notes()::toString);
      float[] queries =
          opened.decoder().parameters().get("model.layers.1.self_attn.q_proj.weight").floats();
      for (int i = 0; i < queries.length; i++) {
        JsonNode value = GOLDEN.get("e4m3").get(i % 64 | (i % 2 == 0 ? 0 : 0x80));
        assertEquals(value.floatValue() * 0.5f, queries[i], "number " + i);
      }
      try (var inPlace = ModelDirectory.openInPlace(model, Precision.FLOAT32).decoder()) {
        assertArrayEquals(
            queries, inPlace.parameters().get("model.layers.1.self_attn.q_proj.weight").floats());
      }
      opened.decoder().close();
    }
    assertRefused(
        "are quantized, and a model directory is not written anew",
        () -> {
          try {
            Conversion.convert(
                model,
                directory.resolve("target"),
                new Conversion.Wanted(null, null, 1 << 30, false),
                new Conversion.Listener() {
                  @Override
                  public void advanced(String doing, long done, long total) {}

                  @Override
                  public boolean isStopping() {
                    return false;
                  }
                });
          } catch (IOException e) {
            throw new IllegalStateException(e);
          }
        });
  }

  /// Without what the configuration says, numbers of eight bits mean nothing.
  @Test
  void withoutItsConfigurationSuchAModelIsRefused() throws IOException {
    Path model = model(FP8);
    Path config = model.resolve(ModelConfig.FILE);
    var json = (ObjectNode) JsonMapper.shared().readTree(config.toFile());
    json.remove("quantization_config");
    Files.writeString(config, json.toString());
    assertRefused(
        "has dtype F8_E4M3",
        () -> ModelDirectory.load(model, Precision.FLOAT32, Device.CPU, false).close());
    json.set("quantization_config", JsonMapper.shared().readTree("{\"quant_method\": \"mxfp4\"}"));
    Files.writeString(config, json.toString());
    assertRefused(
        "has dtype F8_E4M3",
        () -> ModelDirectory.load(model, Precision.FLOAT32, Device.CPU, false).close());
  }

  // ---------------------------------------------------------------- faults

  private static void assertRefused(String words, Runnable reading) {
    String message =
        String.valueOf(assertThrows(InvalidInputException.class, reading::run).getMessage());
    assertNull(Fuzz.wrong(message));
    assertTrue(message.contains(words), message);
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "{\"quant_method\": \"bitsandbytes\"}|it reads the quant_method fp8, compressed-tensors",
        "{}|it reads the quant_method fp8",
        "{\"quant_method\": \"gptq\", \"bits\": 3}|bits 3, and only 4 and 8 is read",
        "{\"quant_method\": \"awq\", \"bits\": 4, \"version\": \"gemv\"}|version \"gemv\"",
        "{\"quant_method\": \"fp8\", \"fmt\": \"e5m2\"}|fmt \"e5m2\"",
        "{\"quant_method\": \"fp8\", \"weight_block_size\": [128]}|must be two positive numbers",
        "{\"quant_method\": \"fp8\", \"weight_block_size\": [0, 128]}|must be two positive",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"int-quantized\"}|format",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\"}|config_groups",
        "{\"quant_method\": \"compressed-tensors\", \"format\": \"pack-quantized\","
            + " \"config_groups\": {\"g\": {\"weights\": {\"num_bits\": 2}}}}|only floats of 8"
            + " bits",
        "{\"quant_method\": \"fp8\", \"activation_scheme\": \"none\"}|activation_scheme \"none\"",
        "{\"quant_method\": \"awq\", \"bits\": 4, \"zero_point\": false}|zero_point false, and only"
            + " true is read",
        "{\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 0}|group_size 0, and must be",
        "{\"quant_method\": \"gptq\", \"bits\": 4, \"is_marlin_format\": true}|is_marlin_format"
            + " true",
        "{\"quant_method\": \"gptq\", \"bits\": 4, \"pack_dtype\": \"int64\"}|pack_dtype \"int64\"",
        "{\"quant_method\": \"gptq\", \"bits\": 4, \"format\": \"gptq_v2\", \"checkpoint_format\":"
            + " \"gptq\"}|format \"gptq_v2\", and checkpoint_format is gptq",
        "{\"quant_method\": \"gptq\", \"bits\": 4, \"dynamic\": {\"+:x\": {\"bits\": 8}}}|one form"
            + " for all matrices",
      })
  void whatIsNotKnownIsRefused(String config, String words) {
    assertRefused(words, () -> quantization(config));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\"strategy\": \"tensor_group\"|the strategy of weights in a config_group \"tensor_group\"",
        "\"symmetric\": 1|symmetric of weights in a config_group 1",
        "\"actorder\": \"other\"|actorder of weights in a config_group \"other\"",
        "\"dynamic\": true|dynamic of weights in a config_group true",
        "\"block_structure\": [2, 2]|only floats of 8 bits are read in blocks",
        "\"group_size\": 0|group_size 0, and must be a positive whole number",
      })
  void whatIsNotKnownOfAGroupIsRefused(String weights, String words) {
    assertRefused(words, () -> packed(", " + weights));
  }

  @Test
  void rotationsBesideTheWeightsAreRefused() {
    String floats = "\"num_bits\": 8, \"type\": \"float\"";
    for (String none : List.of("null", "{}", "{\"config_groups\": {}}")) {
      quantization(compressed("float-quantized", floats, ", \"transform_config\": " + none));
    }
    assertRefused(
        "transform_config {\"config_groups\":{\"u\":",
        () ->
            quantization(
                compressed(
                    "float-quantized",
                    floats,
                    ", \"transform_config\": {\"config_groups\": {\"u\": {\"type\":"
                        + " \"hadamard\"}}}")));
    assertRefused(
        "block_structure not given, and strategy is block",
        () ->
            quantization(compressed("float-quantized", floats + ", \"strategy\": \"block\"", "")));
  }

  @Test
  void whatOthersComputeAndUnknownKeysAreTold() {
    assertEquals(
        List.of(
            "the weights are quantized as compressed-tensors stores them (4 bits)",
            "kv_cache_scheme asks for keys and values of few bits; Sluice does not round them for"
                + " it",
            "quantization_config has 'wieghts', 'rotation', which Sluice does not know and does not"
                + " use"),
        quantization(
                compressed(
                    "pack-quantized",
                    "\"num_bits\": 4, \"type\": \"int\", \"observer\": \"mse\", \"wieghts\": 1",
                    ", \"kv_cache_scheme\": {\"num_bits\": 8}, \"ignore\": [\"re:.*gate\"],"
                        + " \"rotation\": true"))
            .notes());
    assertTrue(
        quantization(FP8)
            .notes()
            .contains(
                "activation_scheme asks for activations of few bits; Sluice does not round them"));
  }

  /// What the configuration says that the tensors say too.
  @Test
  void tensorsAndConfigurationMustAgree() {
    var words = entry("x.weight_packed", ElementType.INT32, new byte[32], 2L, 4L);
    var scales = floats("x.weight_scale", new float[2], 2L, 1L);
    var zeros = entry("x.weight_zero_point", ElementType.INT32, new byte[4], 1L, 1L);
    String agrees = ", \"group_size\": 32, \"symmetric\": true, \"strategy\": \"group\"";
    restored(packed(agrees), words, scales, shape(2, 32));
    restored(packed(", \"symmetric\": false, \"strategy\": \"channel\""), words, scales, zeros);
    assertRefused(
        "hold no 'x.weight_zero_point', which quantization_config with symmetric false calls for",
        () -> restored(packed(", \"symmetric\": false"), words, scales));
    assertRefused(
        "hold 'x.weight_zero_point', where quantization_config says symmetric true",
        () -> restored(packed(agrees), words, scales, zeros));
    assertRefused(
        "says [7, 7] where the packed words are of a matrix of [2, 32]",
        () -> restored(packed(), words, scales, shape(7, 7)));
    assertRefused(
        "says nothing in two whole numbers where",
        () -> restored(packed(), words, scales, shape(2, 32, 1)));
    assertRefused(
        "'x.weight_scale' in %s has the shape [2, 1], which gives groups of 32 inputs, where quantization_config says group_size 16"
            .formatted(directory),
        () -> restored(packed(", \"group_size\": 16"), words, scales));
    assertRefused(
        "[2, 4] words and [2, 0] scales",
        () -> restored(packed(), words, floats("x.weight_scale", new float[0], 2L, 0L)));
    assertRefused(
        "says one scale for each row",
        () ->
            restored(
                packed(", \"group_size\": -1"),
                words,
                floats("x.weight_scale", new float[4], 2L, 2L)));
    assertRefused(
        "hold no 'x.weight_g_idx', which quantization_config with actorder calls for",
        () -> restored(packed(", \"actorder\": \"group\""), words, scales));
  }

  @Test
  void tensorsOfGptqAndItsConfigurationMustAgree() {
    var words = entry("x.qweight", ElementType.INT32, new byte[32], 1L, 8L);
    var zeros = entry("x.qzeros", ElementType.INT32, new byte[] {0x77, 0x77, 0x77, 0x77}, 1L, 1L);
    var scales = floats("x.scales", new float[8], 1L, 8L);
    String gptq = "{\"quant_method\": \"gptq\", \"bits\": 4, \"sym\": true, ";
    restored(
        quantization(gptq + "\"desc_act\": false, \"group_size\": 128}"), words, zeros, scales);
    assertRefused(
        "'x.qzeros' holds a zero point of 7 where quantization_config says sym true, which is 8",
        () ->
            restored(
                quantization(gptq + "\"checkpoint_format\": \"gptq_v2\"}"), words, zeros, scales));
    assertRefused(
        "hold no 'x.g_idx', which quantization_config with desc_act true calls for",
        () -> restored(quantization(gptq + "\"desc_act\": true}"), words, zeros, scales));
    assertRefused(
        "which gives groups of 8 inputs, where quantization_config says group_size 4",
        () -> restored(quantization(gptq + "\"group_size\": 4}"), words, zeros, scales));
  }

  @Test
  void aMissingScaleIsNamed() {
    var numbers = entry("x.weight", ElementType.UINT8, new byte[4], 2L, 2L);
    assertRefused(
        "hold 'x.weight' in F8_E4M3 but no 'x.weight_scale_inv', the scale that the method fp8 has",
        () -> restored(quantization(FP8), numbers));
    assertRefused(
        "hold 'x.weight' in F8_E4M3 but no 'x.weight_scale', the scale",
        () ->
            restored(
                quantization(
                    compressed("float-quantized", "\"num_bits\": 8, \"type\": \"float\"", "")),
                numbers));
  }

  @Test
  void partsThatDoNotFitAreRefused() {
    var awq = quantization("{\"quant_method\": \"awq\", \"bits\": 4}");
    var words = entry("x.qweight", ElementType.INT32, new byte[64], 8L, 2L);
    assertRefused("hold no 'x.scales'", () -> restored(awq, words));
    assertRefused(
        "do not fit one another as awq stores them",
        () ->
            restored(
                awq,
                words,
                floats("x.scales", new float[16], 2L, 8L),
                entry("x.qzeros", ElementType.INT32, new byte[16], 2L, 2L)));
    var fp8 = quantization(FP8);
    assertRefused(
        "is no scale for all of [2, 2] nor for each block of 32 by 32",
        () ->
            restored(
                fp8,
                entry("x.weight", ElementType.UINT8, new byte[4], 2L, 2L),
                floats("x.weight_scale_inv", new float[2], 2L)));
    assertRefused(
        "has the shape [2, 3], which is no scale for all of [96, 64] nor for each block of 32 by"
            + " 32, where [3, 2] belongs",
        () ->
            restored(
                fp8,
                entry("x.weight", ElementType.UINT8, new byte[96 * 64], 96L, 64L),
                floats("x.weight_scale_inv", new float[6], 2L, 3L)));
    assertRefused(
        "has the type F32 beside a scale",
        () ->
            restored(
                fp8,
                floats("x.weight", new float[4], 2L, 2L),
                floats("x.weight_scale_inv", new float[1], 1L)));
    assertRefused(
        "does not give a group from 0 to 0",
        () ->
            restored(
                quantization("{\"quant_method\": \"gptq\", \"bits\": 4}"),
                entry("x.qweight", ElementType.INT32, new byte[32], 1L, 8L),
                entry("x.qzeros", ElementType.INT32, new byte[4], 1L, 1L),
                floats("x.scales", new float[8], 1L, 8L),
                entry("x.g_idx", ElementType.INT32, new byte[] {5, 0, 0, 0}, 1L)));
    assertRefused(
        "do not fit one another as mxfp4",
        () ->
            restored(
                quantization("{\"quant_method\": \"mxfp4\"}"),
                entry("x_blocks", ElementType.UINT8, new byte[16], 1L, 1L, 1L, 16L),
                entry("x_scales", ElementType.UINT8, new byte[2], 1L, 1L, 2L)));
    assertNull(Quantization.at(directory));
  }
}
