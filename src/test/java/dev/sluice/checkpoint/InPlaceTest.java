package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufWriter;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Predicate;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A model that is opened to run has each matrix in its file's own format, wherever its rows and
/// columns stand there, once in memory at most, and is the model that is read as float32.
class InPlaceTest {
  @TempDir Path directory;

  // ---------------------------------------------------------------- models

  /// A model of a family with random weights, whose matrices are whole blocks of any format.
  private Path model(String family, int keyHeads, int valueHeads) throws IOException {
    Path golden = TestData.GOLDEN.resolve(family).resolve(ModelConfig.FILE);
    var json = (ObjectNode) JsonMapper.shared().readTree(golden.toFile());
    json.put("hidden_size", 256).put("intermediate_size", 256).put("head_dim", 64);
    json.put("linear_num_key_heads", keyHeads).put("linear_num_value_heads", valueHeads);
    json.put("linear_key_head_dim", 128).put("linear_value_head_dim", 128);
    json.put("initializer_range", 0.15);
    if (json.has("num_experts")) {
      json.put("num_experts", 2).put("num_experts_per_tok", 2); // so that no expert is chosen
      json.put("moe_intermediate_size", 256).put("shared_expert_intermediate_size", 256);
    }
    var config = ConfigReader.read(json);
    Path target = Files.createDirectory(directory.resolve(family));
    try (var _ = Scope.open();
        var decoder = Decoder.initialize(config.decoder(), Precision.FLOAT32, Device.CPU, 7)) {
      ModelDirectory.write(target, new ModelDirectory.Opened(decoder, config, List.of()));
    }
    return target;
  }

  private Path gguf(Path source, WeightFormat format) throws IOException {
    Path target = directory.resolve(source.getFileName() + "-" + format.word() + ".gguf");
    GgufConversion.toFile(source, target, format, false, Conversion.Listener.NOBODY);
    return target;
  }

  private Path ofType(Path source, ElementType type, @Nullable GatePacking packing)
      throws IOException {
    Path target = directory.resolve(source.getFileName() + "-" + type.safetensorsName());
    if (packing != null) {
      var wanted = new Conversion.Wanted(packing, type, Long.MAX_VALUE, false);
      Conversion.convert(source, target, wanted, Conversion.Listener.NOBODY);
      return target;
    }
    Files.createDirectory(target); // families that are only read, too
    Files.copy(source.resolve(ModelConfig.FILE), target.resolve(ModelConfig.FILE));
    try (var files = SafetensorsDirectory.open(source)) {
      List<Entry> rounded = new ArrayList<>();
      for (var entry : files.entries()) {
        assertEquals(ElementType.FLOAT32, entry.type(), entry.name());
        var to = MemorySegment.ofArray(new byte[(int) entry.data().byteSize() / 2]);
        Float32Rounding.copy(entry.data(), to, type);
        rounded.add(new Entry(entry.name(), type, entry.shape(), to));
      }
      SafetensorsWriter.write(
          target.resolve(SafetensorsDirectory.SINGLE), Map.of("format", "pt"), rounded);
    }
    return target;
  }

  /// As older files of Qwen3-Next have it: the projections of a DeltaNet layer in one matrix, key
  /// head by key head.
  private Path packedByKeyHeads(Path plain) throws IOException {
    Path target = directory.resolve("packed.gguf");
    try (var model = GgufModel.open(plain)) {
      var decoder = model.config().decoder();
      Map<String, GgufWriter.Planned> planned = new LinkedHashMap<>();
      Map<String, MemorySegment> blocks = new LinkedHashMap<>();
      model
          .file()
          .tensors()
          .forEach(
              (name, tensor) -> {
                planned.put(name, new GgufWriter.Planned(name, tensor.format(), tensor.shape()));
                blocks.put(name, tensor.data());
              });
      for (int layer = 0; layer < decoder.layers().size(); layer++) {
        if (decoder.layers().get(layer).mixer() instanceof MixerConfig.DeltaNet(var net)) {
          String block = "blk." + layer + ".";
          var format = planned.get(block + "attn_qkv.weight").format();
          long row = format.bytes(net.hiddenSize());
          var qkv = DeltaPacking.rows(net.heads(), "in_proj_qkv.weight");
          var z = DeltaPacking.rows(net.heads(), "in_proj_z.weight");
          var all = MemorySegment.ofArray(new byte[Math.toIntExact(qkv.of() * row)]);
          put(qkv, Objects.requireNonNull(blocks.remove(block + "attn_qkv.weight")), row, all);
          put(z, Objects.requireNonNull(blocks.remove(block + "attn_gate.weight")), row, all);
          planned
              .keySet()
              .removeAll(List.of(block + "attn_qkv.weight", block + "attn_gate.weight"));
          String name = block + "ssm_in.weight";
          long[] shape = {qkv.of(), net.hiddenSize()};
          planned.put(
              name, new GgufWriter.Planned(name, format, LongStream.of(shape).boxed().toList()));
          blocks.put(name, all);
        }
      }
      var writer = new GgufWriter();
      GgufDescription.general(GgufArchitecture.QWEN3_NEXT, "packed", 0, writer);
      GgufDescription.write(GgufArchitecture.QWEN3_NEXT, decoder, false, writer);
      writer.write(
          target,
          List.copyOf(planned.values()),
          (each, out) -> out.write(Objects.requireNonNull(blocks.get(each.name()))));
    }
    return target;
  }

  private static void put(DeltaPacking.Rows rows, MemorySegment from, long row, MemorySegment to) {
    for (int i = 0; i < rows.rows().length; i++) {
      MemorySegment.copy(from, i * row, to, rows.rows()[i] * row, row);
    }
  }

  // ---------------------------------------------------------------- what is asserted

  private static float[] logits(Decoder decoder, long... ids) {
    return decoder
        .logits(decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE))
        .floats();
  }

  /// The logits of the same tokens, read one by one after the first few.
  private static float[] oneByOne(Decoder decoder, long... ids) {
    List<Float> all = new ArrayList<>();
    try (var state = new SequenceState(1, ids.length)) {
      var past = state.past(state.take());
      int prompt = 5;
      for (int at = 0; at < ids.length; at += at == 0 ? prompt : 1) {
        long[] some = Arrays.copyOfRange(ids, at, at == 0 ? prompt : at + 1);
        var hidden = decoder.hiddenStates(Tensor.of(some, 1, some.length), past, Probe.NONE);
        for (float logit : decoder.logits(hidden).floats()) {
          all.add(logit);
        }
      }
    }
    float[] logits = new float[all.size()];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = all.get(i);
    }
    return logits;
  }

  private static void assertClose(float[] expected, float[] actual, double share) {
    double size = 0;
    for (float logit : expected) {
      size = Math.max(size, Math.abs(logit));
    }
    assertTrue(size > 0.1, "logits of " + size);
    assertArrayEquals(expected, actual, (float) (share * size));
  }

  private static ParameterReader reader(GgufModel model) {
    return model.readerInPlace(false);
  }

  /// Opens a model to run and compares it with its reader's numbers, which are the file's, and with
  /// the model that is read as float32.
  ///
  /// @param copied which matrices may be copies in the order of rows
  private static void assertRunsInPlace(
      Path path, ParameterReader reader, Predicate<String> copied) {
    long[] ids = LongStream.range(0, 24).map(i -> (7 * i * i + 5) % 90).toArray();
    try (var _ = Scope.withoutGradient();
        var decoder = ModelDirectory.open(path, Precision.FLOAT32, Device.CPU, false).decoder();
        var inPlace = ModelDirectory.openInPlace(path, Precision.FLOAT32).decoder()) {
      boolean blocks = false;
      int matrices = 0;
      for (var weight : inPlace.parameters().weights().values()) {
        if (!weight.spec().isMatrix()) {
          continue;
        }
        var stored = Objects.requireNonNull(weight.stored(), weight.name());
        var parameter = Parameter.of(weight.name(), weight.spec());
        assertEquals(reader.format(parameter), stored.format(), weight.name());
        assertTrue(
            stored.data().isMapped()
                || stored.order() == StoredMatrix.Order.STRIPS
                || copied.test(weight.name()),
            weight.name() + " is a copy");
        assertArrayEquals(reader.read(parameter).floats(), weight.leaf().floats(), weight.name());
        blocks |= stored.format().blockLength() > 1;
        matrices++;
      }
      assertTrue(matrices > 10, matrices + " matrices");
      float[] expected = logits(decoder, ids);
      // products with blocks take 16 bits of their inputs; heads in another order give others
      double share = blocks ? 1e-3 : 1e-4;
      assertClose(expected, logits(inPlace, ids), share);
      assertClose(expected, oneByOne(inPlace, ids), share);
    }
  }

  // ---------------------------------------------------------------- Gated DeltaNet

  /// Files have the value heads of a key head apart, and the model runs with them so: nothing is
  /// moved, in no format.
  @ParameterizedTest
  @CsvSource({
    "1, F32", "2, F32", "2, BF16", "1, Q8_0", "2, Q8_0", "3, Q8_0", "2, Q4_0", "1, Q4_K", "2, Q4_K",
    "3, Q4_K", "2, Q6_K"
  })
  void valueHeadsStayInTheFilesOrder(int group, WeightFormat format) throws IOException {
    Path path = gguf(model("qwen3.5", 2, 2 * group), format);
    try (var model = GgufModel.open(path);
        var _ = Scope.open()) {
      assertRunsInPlace(path, reader(model), _ -> false);
      var heads = new DeltaHeads(2, 2 * group, 128, 128);
      assertEquals(heads, heads(model.reader().decoder()));
      assertEquals(heads.with(DeltaHeads.Order.APART), heads(reader(model).decoder()));
    }
  }

  private static DeltaHeads heads(DecoderConfig decoder) {
    return decoder.layers().getFirst().mixer() instanceof MixerConfig.DeltaNet(var net)
        ? net.heads()
        : new DeltaHeads(1, 1, 1, 1);
  }

  @Test
  void aMixtureWithValueHeadsApart() throws IOException {
    Path path = gguf(model("qwen3.5-moe", 2, 4), WeightFormat.Q4_K);
    try (var model = GgufModel.open(path);
        var _ = Scope.open()) {
      assertRunsInPlace(path, reader(model), _ -> false);
    }
  }

  /// Queries, keys and values of a layer are copied out of the matrix of all projections, in its
  /// format; gates stand there in rows equally far apart.
  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void projectionsOfKeyHeadsAreTakenApart(WeightFormat format) throws IOException {
    Path plain = gguf(model("qwen3-next", 2, 4), format);
    Path packed = packedByKeyHeads(plain);
    try (var _ = Scope.open();
        var one = GgufModel.open(plain);
        var other = GgufModel.open(packed)) {
      assertRunsInPlace(plain, reader(one), _ -> false);
      assertRunsInPlace(packed, reader(other), name -> name.endsWith("in_proj_qkv.weight"));
      try (var decoder = ModelDirectory.openInPlace(plain, Precision.FLOAT32).decoder();
          var again = ModelDirectory.openInPlace(packed, Precision.FLOAT32).decoder()) {
        assertArrayEquals(logits(decoder, 5, 3, 88, 7), logits(again, 5, 3, 88, 7));
      }
    }
  }

  // ---------------------------------------------------------------- all families

  /// Weights of 16 bits stay so in every family and packing, routers and headwise gates too.
  @ParameterizedTest
  @CsvSource({
    "paper-baseline,",
    "paper-headwise,",
    "paper-elementwise,",
    "paper-elementwise, MEGATRON_QKV",
    "paper-headwise, MEGATRON_QKV",
    "paper-headwise, QUERY_HEAD",
    "qwen3,",
    "qwen3-next,",
    "qwen3.5,",
    "qwen3.5-moe,",
    "afmoe,",
    "gpt-oss,",
    "laguna,",
    "laguna-element,",
    "step3.7,"
  })
  void sixteenBitsStaySixteen(String name, @Nullable GatePacking packing) throws IOException {
    for (var type : List.of(ElementType.BFLOAT16, ElementType.FLOAT16)) {
      Path path = ofType(TestData.GOLDEN.resolve(name), type, packing);
      try (var files = SafetensorsDirectory.open(path);
          var _ = Scope.open()) {
        var config = ModelConfig.read(path);
        var reader = new WeightReader(path, config, StoredWeights.of(files, config));
        // experts of gpt-oss have a result's weights apart
        assertRunsInPlace(
            path,
            reader,
            weight ->
                weight.endsWith("in_proj_qkv.weight")
                    || (name.equals("gpt-oss") && weight.contains(".experts.")));
        reader
            .parameters()
            .forEach(
                (weight, spec) -> {
                  if (spec.isMatrix()) {
                    assertEquals(
                        type == ElementType.BFLOAT16 ? WeightFormat.BF16 : WeightFormat.F16,
                        reader.format(Parameter.of(weight, spec)),
                        weight);
                  }
                });
      }
    }
  }

  // ---------------------------------------------------------------- rounding

  private static Decoder rounded(Path path, String weights) {
    return ModelDirectory.openInPlace(
            path, Precision.FLOAT32, weights, false, Conversion.Listener.NOBODY)
        .decoder();
  }

  /// What has few bits already stays, wherever its rows stand.
  @Test
  void roundingLeavesWhatHasFewerBits() throws IOException {
    Path apart = gguf(model("qwen3.5", 2, 4), WeightFormat.Q4_0);
    Path packed = packedByKeyHeads(gguf(model("qwen3-next", 2, 4), WeightFormat.Q4_K));
    for (Path path : List.of(apart, packed)) {
      try (var file = GgufFile.open(path);
          var as = ModelDirectory.openInPlace(path, Precision.FLOAT32).decoder();
          var decoder = rounded(path, "q8_0")) {
        assertTrue(file.tensors().size() > 10);
        for (var weight : decoder.parameters().weights().values()) {
          if (weight.spec().isMatrix()) {
            var stored = Objects.requireNonNull(as.parameters().weight(weight.name()).stored());
            assertEquals(
                stored.format(), Objects.requireNonNull(weight.stored()).format(), weight.name());
          }
        }
        assertArrayEquals(logits(as, 5, 3, 88, 7), logits(decoder, 5, 3, 88, 7));
      }
    }
  }

  /// Blocks of 32 lie within a head, so that rounding gives the same numbers in either order.
  @Test
  void roundingOfHeadsApartIsThatOfHeadsTogether() throws IOException {
    Path source = model("qwen3.5", 2, 6);
    Path path = gguf(source, WeightFormat.F32);
    try (var _ = Scope.open();
        var together = rounded(source, "q8_0");
        var apart = rounded(path, "q8_0")) {
      assertEquals(DeltaHeads.Order.TOGETHER, heads(together.config()).order());
      assertEquals(DeltaHeads.Order.APART, heads(apart.config()).order());
      long[] ids = {5, 3, 88, 7, 7, 12, 41};
      // sums have another order, and inputs of products 16 bits
      assertClose(logits(together, ids), logits(apart, ids), 1e-3);
    }
  }

  /// A copy in which the numbers of one matrix are multiplied.
  private Path times(Path source, String name, float factor) throws IOException {
    Path target = Files.createDirectory(directory.resolve("times-" + factor));
    Files.copy(source.resolve(ModelConfig.FILE), target.resolve(ModelConfig.FILE));
    try (var files = SafetensorsDirectory.open(source)) {
      List<Entry> entries = new ArrayList<>();
      for (var entry : files.entries()) {
        byte[] bytes = entry.data().toArray(ValueLayout.JAVA_BYTE);
        var numbers = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; entry.name().equals(name) && i < bytes.length; i += Float.BYTES) {
          numbers.putFloat(i, numbers.getFloat(i) * factor);
        }
        entries.add(
            new Entry(entry.name(), entry.type(), entry.shape(), MemorySegment.ofArray(bytes)));
      }
      SafetensorsWriter.write(
          target.resolve(SafetensorsDirectory.SINGLE), Map.of("format", "pt"), entries);
    }
    return target;
  }

  private static void assertRefused(String words, Executable reading) {
    String message =
        String.valueOf(assertThrows(InvalidInputException.class, reading).getMessage());
    assertNull(Fuzz.wrong(message));
    assertTrue(message.contains(words), message);
  }

  /// Scales of half precision hold neither: the numbers would be zero or infinite.
  @Test
  void numbersThatAFormatDoesNotHoldAreRefused() throws IOException {
    String name = "model.layers.0.mlp.up_proj.weight";
    Path source = model("qwen3.5", 2, 2);
    Path small = times(source, name, 0x1p-26f);
    Path large = times(source, name, 0x1p28f);
    for (var format :
        List.of(
            WeightFormat.F16,
            WeightFormat.Q8_0,
            WeightFormat.Q4_0,
            WeightFormat.Q4_K,
            WeightFormat.Q6_K)) {
      String word = format.word();
      String tooSmall =
          "the numbers of the tensor '%s' are too small for %s: rounded to it they are off by 100 %% of their size; choose bf16 or f32"
              .formatted(name, word);
      assertRefused(tooSmall, () -> rounded(small, word).close());
      assertRefused(tooSmall, () -> gguf(small, format));
      if (format != WeightFormat.Q6_K) { // whose numbers reach further
        String tooLarge = "which is too large for %s; choose bf16 or f32".formatted(word);
        for (String words : List.of("the tensor '%s' holds ".formatted(name), tooLarge)) {
          assertRefused(words, () -> rounded(large, word).close());
          assertRefused(words, () -> gguf(large, format));
        }
      }
    }
    rounded(small, "bf16").close();
    rounded(large, "bf16").close();
    assertTrue(Files.exists(gguf(small, WeightFormat.BF16)));
  }

  // ---------------------------------------------------------------- numbers of 8 bits

  private static final Path TRAINED = Path.of("samples/tiny-qwen35.gguf");

  /// What is multiplied with blocks keeps a byte, in matrices of every kind that have them, and
  /// logits stay near those that they are without.
  @Test
  void int8RoundsWhatBlocksAreMultipliedWith() throws IOException {
    assumeTrue(MachineProducts.here() != null, "needs AVX-512 with VNNI");
    Path mixture = gguf(model("qwen3.5-moe", 2, 4), WeightFormat.Q4_K);
    long[] ids = LongStream.range(0, 24).map(i -> (7 * i * i + 5) % 90).toArray();
    for (Path path : List.of(TRAINED, mixture)) {
      try (var _ = Scope.withoutGradient();
          var usual = ModelDirectory.openInPlace(path, Precision.FLOAT32).decoder();
          var int8 = ModelDirectory.openInPlace(path, Precision.INT8).decoder()) {
        assertEquals(Precision.INT8, int8.precision());
        assertInBytes(int8);
        float[] expected = logits(usual, ids);
        float[] found = logits(int8, ids);
        assertFalse(Arrays.equals(expected, found));
        if (path.equals(TRAINED)) { // random weights take any difference further
          assertClose(expected, found, 0.02);
        }
      }
    }
    try (var rounded =
        ModelDirectory.openInPlace(
                model("qwen3.5", 2, 2), Precision.INT8, "q8_0", false, Conversion.Listener.NOBODY)
            .decoder()) {
      assertInBytes(rounded);
    }
  }

  private static void assertInBytes(Decoder decoder) {
    int inBytes = 0;
    for (var weight : decoder.parameters().weights().values()) {
      var stored = weight.stored();
      if (stored != null) {
        boolean inBlocks = MachineProducts.roundsInputs(stored.format());
        assertEquals(inBlocks ? 1 : 2, stored.digits(), weight.name());
        inBytes += inBlocks ? 1 : 0;
      }
    }
    assertTrue(inBytes > 10, inBytes + " matrices");
  }

  @Test
  void int8IsForBlocks() throws IOException {
    assumeTrue(MachineProducts.here() != null, "needs AVX-512 with VNNI");
    Path numbers = ofType(model("qwen3.5", 2, 2), ElementType.BFLOAT16, null);
    var refused =
        assertThrows(
            InvalidInputException.class, () -> ModelDirectory.openInPlace(numbers, Precision.INT8));
    assertTrue(String.valueOf(refused.getMessage()).contains("--weights q8_0"), refused::toString);
    assertThrows(
        IllegalArgumentException.class,
        () -> ModelDirectory.open(TRAINED, Precision.INT8, Device.CPU, false));
  }

  // ---------------------------------------------------------------- what is refused

  /// By a router's number that is none, experts would be chosen.
  @Test
  void aNumberOfARouterThatIsNoneIsNamed() throws IOException {
    Path file = gguf(model("qwen3.5-moe", 2, 4), WeightFormat.Q8_0);
    byte[] all = Files.readAllBytes(file);
    byte[] router;
    try (var opened = GgufFile.open(file)) {
      var tensor = Objects.requireNonNull(opened.tensors().get("blk.1.ffn_gate_inp.weight"));
      assertEquals(WeightFormat.F32, tensor.format());
      router = tensor.data().toArray(ValueLayout.JAVA_BYTE);
    }
    int at = 0;
    while (!Arrays.equals(all, at, at + router.length, router, 0, router.length)) {
      at++;
    }
    MemorySegment.ofArray(all).set(ValueLayout.JAVA_FLOAT_UNALIGNED, at + 12, Float.NaN);
    Files.write(file, all);
    var e =
        assertThrows(
            InvalidInputException.class, () -> ModelDirectory.openInPlace(file, Precision.FLOAT32));
    assertTrue(
        String.valueOf(e.getMessage())
            .contains("NaN or infinite at [0, 3] of model.layers.1.mlp.gate.weight"),
        e.getMessage());
  }
}
