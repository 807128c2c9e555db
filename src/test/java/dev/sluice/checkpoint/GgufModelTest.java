package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufWriter;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import dev.sluice.tokenizer.GgufTokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.function.BiConsumer;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

class GgufModelTest {
  /// Qwen3.5 with two value heads to a key head, its matrices in Q8_0, written by the Python
  /// package `gguf` 0.19.0; beside it what `transformers` 5.18 computes from the same numbers, and
  /// ids of the library of its tokenizer.
  private static final Path DRAFTS = Path.of("src/test/resources/mtp");

  private static final Path MINI = TestData.GOLDEN.resolve("gguf/qwen35-mini.gguf");

  /// What llama.cpp v0.5.0's own conversion (`convert_hf_to_gguf.py`) writes of a layer of the same
  /// checkpoint: the names; their numbers were compared when this was written, to the bit.
  private static final Map<String, List<String>> NAMES =
      Map.ofEntries(
          Map.entry(
              "qwen3",
              List.of(
                  "blk.2",
                  "attn_k attn_k_norm attn_norm attn_output attn_q attn_q_norm attn_v ffn_down"
                      + " ffn_gate ffn_norm ffn_up")),
          Map.entry(
              "../checkpoints/mixture-of-transformers-5",
              List.of(
                  "blk.1",
                  "attn_k attn_k_norm attn_norm attn_output attn_q attn_q_norm attn_v ffn_down_exps"
                      + " ffn_gate_exps ffn_gate_inp ffn_norm ffn_up_exps")),
          Map.entry(
              "qwen3-next",
              List.of(
                  "blk.0",
                  "attn_gate attn_norm attn_qkv ffn_down_exps ffn_down_shexp ffn_gate_exps"
                      + " ffn_gate_inp ffn_gate_inp_shexp ffn_gate_shexp ffn_up_exps ffn_up_shexp"
                      + " post_attention_norm ssm_a ssm_ba ssm_conv1d ssm_dt.bias ssm_norm"
                      + " ssm_out")),
          Map.entry(
              "qwen3.5",
              List.of(
                  "blk.0",
                  "attn_gate attn_norm attn_qkv ffn_down ffn_gate ffn_up post_attention_norm ssm_a"
                      + " ssm_alpha ssm_beta ssm_conv1d ssm_dt.bias ssm_norm ssm_out")),
          Map.entry(
              "qwen3.5-moe",
              List.of(
                  "blk.3",
                  "attn_k attn_k_norm attn_norm attn_output attn_q attn_q_norm attn_v ffn_down_exps"
                      + " ffn_down_shexp ffn_gate_exps ffn_gate_inp ffn_gate_inp_shexp"
                      + " ffn_gate_shexp ffn_up_exps ffn_up_shexp post_attention_norm")),
          Map.entry(
              "gpt-oss",
              List.of(
                  "blk.1",
                  "attn_k attn_k.bias attn_norm attn_output attn_output.bias attn_q attn_q.bias"
                      + " attn_sinks attn_v attn_v.bias ffn_down_exps ffn_down_exps.bias"
                      + " ffn_gate_exps ffn_gate_exps.bias ffn_gate_inp ffn_gate_inp.bias"
                      + " ffn_up_exps ffn_up_exps.bias post_attention_norm")),
          Map.entry(
              "laguna",
              List.of(
                  "blk.1",
                  "attn_gate attn_k attn_k_norm attn_norm attn_output attn_q attn_q_norm attn_v"
                      + " exp_probs_b.bias ffn_down_exps ffn_down_shexp ffn_gate_exps ffn_gate_inp"
                      + " ffn_gate_shexp ffn_norm ffn_up_exps ffn_up_shexp")));

  @TempDir Path directory;

  private static ModelDirectory.Opened open(Path path) {
    return ModelDirectory.open(path, Precision.FLOAT32, Device.CPU, false);
  }

  private static float[] logits(Decoder decoder, long... ids) {
    return decoder
        .logits(decoder.hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE))
        .floats();
  }

  /// A reference checkpoint, with a setting changed.
  private Path checkpoint(String name, String key, String value) throws IOException {
    Path golden = TestData.GOLDEN.resolve(name);
    if (key.isEmpty()) {
      return golden;
    }
    Path changed = Files.createDirectory(directory.resolve("changed-" + name));
    Files.copy(golden.resolve("model.safetensors"), changed.resolve("model.safetensors"));
    var json = (ObjectNode) JsonMapper.shared().readTree(golden.resolve(ModelConfig.FILE).toFile());
    json.set(key, JsonMapper.shared().readTree(value));
    Files.writeString(changed.resolve(ModelConfig.FILE), json.toString());
    return changed;
  }

  private Path written(Path source, WeightFormat format) throws IOException {
    Path target = directory.resolve(source.getFileName() + "-" + format.word() + ".gguf");
    GgufConversion.toFile(source, target, format, false, Conversion.Listener.NOBODY);
    return target;
  }

  // ---------------------------------------------------------------- others' files

  @Test
  void aFileOfTheReferenceGivesItsLogits() {
    JsonNode golden =
        JsonMapper.shared().readTree(MINI.resolveSibling("qwen35-mini.json").toFile());
    // logits of up to 20; transformers sums in another order
    requireLogits(MINI, golden.get("ids"), golden.get("logits"), 2e-4);
  }

  /// Models with random weights that llama.cpp's own converter wrote (`reference.py` beside them),
  /// which wrote no tokenizer, and what `transformers` computes.
  @ParameterizedTest
  @ValueSource(
      strings = {"qwen3moe", "qwen3next", "qwen35moe", "afmoe", "gpt-oss", "laguna", "step35"})
  void aFileOfLlamaCppsConverterGivesTheModelsLogits(String word) {
    JsonNode golden =
        JsonMapper.shared().readTree(MINI.resolveSibling("written-by-llama.cpp.json").toFile());
    Path file = MINI.resolveSibling(word + ".gguf");
    requireLogits(file, golden.get("ids"), golden.get("logits").get(word), 1e-5);
  }

  private static void requireLogits(Path file, JsonNode tokens, JsonNode wanted, double allowed) {
    long[] ids = new long[tokens.size()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = tokens.get(i).asLong();
    }
    try (var _ = Scope.open()) {
      var model = open(file);
      assertEquals(List.of(), model.notes());
      float[] logits = logits(model.decoder(), ids);
      int rows = logits.length / ids.length;
      assertEquals(3, wanted.size());
      for (var row : wanted.properties()) {
        int place = Integer.parseInt(row.getKey());
        assertEquals(rows, row.getValue().size());
        for (int i = 0; i < rows; i++) {
          assertEquals(
              row.getValue().get(i).floatValue(),
              logits[place * rows + i],
              allowed,
              "place " + place);
        }
      }
      assertRunsInPlace(file, model.decoder(), ids);
    }
  }

  // ---------------------------------------------------------------- both ways

  @ParameterizedTest
  @CsvSource({
    "qwen3, '', ''",
    "qwen3-yarn, '', ''",
    "qwen3-yarn, rope_parameters, '{\"factor\": 4.0, \"original_max_position_embeddings\": 64,"
        + " \"rope_theta\": 10000.0, \"rope_type\": \"yarn\", \"attention_factor\": 1.1217511}'",
    "qwen3-next, '', ''",
    "qwen3.5, '', ''",
    "qwen3.5, partial_rotary_factor, 1.0",
    "qwen3.5-moe, '', ''",
    "afmoe, layer_types, '[\"sliding_attention\", \"sliding_attention\", \"sliding_attention\","
        + " \"full_attention\", \"sliding_attention\"]'",
    "gpt-oss, '', ''",
    "laguna, '', ''",
    "laguna-element, moe_router_logit_softcapping, 0",
    "step3.7, '', ''",
    "../checkpoints/mixture-of-transformers-5, '', ''"
  })
  void aModelWrittenIsTheModelRead(String name, String key, String value) throws IOException {
    Path source = checkpoint(name, key, value);
    Path target = written(source, WeightFormat.F32);
    requireNames(target, NAMES.getOrDefault(name, List.of()));
    try (var _ = Scope.open()) {
      var before = open(source).decoder();
      var after = open(target);
      assertEquals(
          GgufDescription.computed(before.config()),
          GgufDescription.computed(after.decoder().config()));
      before
          .parameters()
          .all()
          .forEach(
              (parameter, tensor) ->
                  // w + 1 and −exp(w) are rounded to float32
                  assertArrayEquals(
                      tensor.floats(),
                      after.decoder().parameters().get(parameter).floats(),
                      3e-7f,
                      parameter));
      int known = Math.min(90, before.config().vocabSize());
      long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % known).toArray();
      assertArrayEquals(logits(before, ids), logits(after.decoder(), ids), 2e-5f);
      assertRunsInPlace(target, after.decoder(), ids);
    }
  }

  /// As `conversion/step3.py` of llama.cpp computes them: kept, mixed and divided by 4, and ones
  /// for the pairs that turn only in layers with a window.
  @Test
  void factorsOfRotaryFrequenciesAreWritten() throws IOException {
    JsonNode config =
        JsonMapper.shared()
            .readTree(TestData.GOLDEN.resolve("step3.7").resolve(ModelConfig.FILE).toFile());
    var text = (ObjectNode) config.get("text_config");
    text.withObject("/rope_parameters/full_attention")
        .put("rope_type", "llama3")
        .put("rope_theta", 1e4)
        .put("factor", 4)
        .put("original_max_position_embeddings", 1024)
        .put("low_freq_factor", 1)
        .put("high_freq_factor", 8);
    Path source = checkpoint("step3.7", "text_config", text.toString());
    long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % 90).toArray();
    Path target = written(source, WeightFormat.F32);
    Path again = written(target, WeightFormat.Q8_0);
    float[] factors = {1, 1, 3.1498756f, 4, 1, 1, 1, 1};
    for (Path each : List.of(target, again)) {
      try (var file = GgufFile.open(each)) {
        assertArrayEquals(factors, numbers(file).get("rope_freqs.weight"), each.toString());
      }
    }
    try (var _ = Scope.open()) {
      float[] expected = logits(open(source).decoder(), ids);
      assertArrayEquals(expected, logits(open(target).decoder(), ids), 2e-5f);
      float[] other = logits(open(checkpoint("step3.7", "", "")).decoder(), ids);
      assertFalse(Arrays.equals(expected, other));
    }
  }

  /// What is computed with weights where the file is mapped is what is computed with their numbers,
  /// of a few tokens and of many. A mixture of experts may choose others at a tie. Where weights
  /// stand in blocks, the inputs of products with a few tokens have 16 bits, and those with many at
  /// least as many.
  private static void assertRunsInPlace(Path gguf, Decoder decoder, long... ids) {
    try (var inPlace = ModelDirectory.openInPlace(gguf, Precision.FLOAT32).decoder()) {
      assertTrue(inPlace.parameters().weights().values().stream().anyMatch(Weight::isStored));
      long[] few = Arrays.copyOf(ids, 3);
      boolean blocks =
          inPlace.parameters().weights().values().stream()
              .map(Weight::stored)
              .anyMatch(stored -> stored != null && stored.format().blockLength() > 1);
      for (long[] tokens : List.of(few, ids)) {
        double allowed = !blocks ? 2e-5 : tokens == few ? 3e-4 : 1e-4;
        float[] expected = logits(decoder, tokens);
        double size = 0;
        for (float logit : expected) {
          size = Math.max(size, Math.abs(logit));
        }
        assertArrayEquals(expected, logits(inPlace, tokens), (float) (allowed * size));
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void weightsOfFewBitsAreMultipliedWhereTheyLie(String word) throws IOException {
    var format = WeightFormat.valueOf(word);
    Path target = written(checkpoint("qwen3.5", "", ""), format);
    try (var _ = Scope.open()) {
      long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % 90).toArray();
      assertRunsInPlace(target, open(target).decoder(), ids);
    }
  }

  /// Weights that are rounded as they are read are those that a conversion writes, but where the
  /// file's own format has a tensor apart.
  @ParameterizedTest
  @ValueSource(strings = {"Q8_0", "Q4_0"})
  void matricesRoundedOnLoadAreThoseOfAFile(String word) throws IOException {
    var format = WeightFormat.valueOf(word);
    Path source = checkpoint("qwen3.5", "", "");
    Path target = written(source, format);
    long[] ids = LongStream.range(0, 20).map(i -> (7 * i * i + 5) % 90).toArray();
    try (var ofFile = ModelDirectory.openInPlace(target, Precision.FLOAT32).decoder();
        var rounded =
            ModelDirectory.openInPlace(
                    source, Precision.FLOAT32, format.word(), false, Conversion.Listener.NOBODY)
                .decoder();
        var again =
            ModelDirectory.openInPlace(
                    target, Precision.FLOAT32, "q8_0", false, Conversion.Listener.NOBODY)
                .decoder();
        var numbers = ModelDirectory.load(target, Precision.FLOAT32, Device.CPU, false)) {
      int compared = 0;
      for (var weight : rounded.parameters().weights().values()) {
        var other = ofFile.parameters().weight(weight.name());
        if (weight.stored() != null && isRounded(weight)) {
          assertEquals(other.stored().format(), weight.stored().format(), weight.name());
          if (!weight.name().endsWith("out_proj.weight")) { // heads of 16, blocks of two
            float[] its = numbers.parameters().weight(weight.name()).leaf().floats();
            assertArrayEquals(its, weight.leaf().floats(), weight.name());
          }
          compared++;
        }
      }
      assertTrue(compared > 10, compared + " matrices");
      for (var weight : again.parameters().weights().values()) {
        var other = ofFile.parameters().weight(weight.name());
        if (isRounded(weight)) {
          assertArrayEquals(
              other.leaf().floats(), weight.leaf().floats(), weight.name() + " has few bits");
        }
      }
      var unrounded = open(source).decoder();
      assertFalse(Arrays.equals(logits(unrounded, ids), logits(rounded, ids)));
    }
    for (String bad : List.of("q5_0", "q9", "")) {
      assertThrows(
          InvalidInputException.class,
          () ->
              ModelDirectory.openInPlace(
                  source, Precision.FLOAT32, bad, false, Conversion.Listener.NOBODY));
    }
  }

  /// Whether a matrix is one that rounding takes.
  private static boolean isRounded(Weight weight) {
    return weight.name().matches(".*(embed_tokens|lm_head)\\.weight")
        || weight.spec().maps().length > 0;
  }

  private static void requireNames(Path gguf, List<String> wanted) {
    try (var file = GgufFile.open(gguf)) {
      for (int i = 0; i < wanted.size(); i += 2) {
        String block = wanted.get(i) + ".";
        assertEquals(
            new TreeSet<>(Arrays.asList(wanted.get(i + 1).split(" "))),
            file.tensors().keySet().stream()
                .filter(each -> each.startsWith(block))
                .map(each -> each.substring(block.length()).replaceAll("\\.weight$", ""))
                .collect(Collectors.toCollection(TreeSet::new)));
      }
    }
  }

  @Test
  void matricesAreOfFewBitsAndTheRestIsNot() throws IOException {
    Path target = directory.resolve("small.gguf");
    var result =
        GgufConversion.toFile(MINI, target, WeightFormat.Q4_0, true, Conversion.Listener.NOBODY);

    try (var file = GgufFile.open(target)) {
      file.tensors()
          .forEach(
              (name, tensor) -> {
                var wanted =
                    name.equals("token_embd.weight")
                        ? WeightFormat.Q8_0 // rows of 32 are no blocks of Q6_K
                        : tensor.shape().size() == 1 || name.contains("conv1d")
                            ? WeightFormat.F32
                            : WeightFormat.Q4_0;
                assertEquals(wanted, tensor.format(), name);
              });
      assertEquals(2, file.metadata().whole("general.file_type")); // as llama.cpp has it
    }
    assertEquals("qwen35", result.architecture());
    double error = Objects.requireNonNull(result.errors().get(WeightFormat.Q4_0));
    assertTrue(error > 0.05 && error < 0.15, () -> "" + error);
    assertTrue(Objects.requireNonNull(result.errors().get(WeightFormat.F32)) < 1e-6);
    assertTrue(Objects.requireNonNull(result.difference()) > 0);
    assertTrue(result.notes().toString().contains("1 tensors are stored as q8_0"));
    try (var _ = Scope.open()) {
      assertEquals(32, open(target).decoder().config().hiddenSize());
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"F16", "BF16", "Q8_0"})
  void aModelOfFewBitsIsTheModelOfItsNumbers(String word) throws IOException {
    var format = WeightFormat.valueOf(word);
    Path target = written(checkpoint("qwen3.5", "", ""), format);
    try (var model = GgufModel.open(target);
        var _ = Scope.open()) {
      var reader = model.reader();
      reader
          .decoder()
          .parameters()
          .forEach(
              (name, spec) -> {
                var stored = reader.stored(Parameter.of(name, spec));
                if (stored.isParameter(Parameter.of(name, spec))) {
                  float[] plain = new float[(int) spec.elements()];
                  stored.format().dequantize(stored.tensor().data(), 0, plain.length, plain, 0);
                  assertArrayEquals(plain, reader.read(Parameter.of(name, spec)).floats(), name);
                }
              });
      for (String name :
          List.of("linear_attn.out_proj.weight", "linear_attn.A_log", "input_layernorm.weight")) {
        var parameter = parameter(model, "model.layers.0." + name);
        assertFalse(reader.stored(parameter).isParameter(parameter), name);
      }
      var parameter = parameter(model, "model.layers.3.self_attn.o_proj.weight");
      assertTrue(reader.stored(parameter).isParameter(parameter));
    }
  }

  /// With as many value heads as key heads no head stands elsewhere, so that matrices can be read
  /// where they lie.
  @Test
  void headsThatAreNoFewerStayWhereTheyAre() {
    Path golden = TestData.GOLDEN.resolve("qwen3.5").resolve(ModelConfig.FILE);
    var json = (ObjectNode) JsonMapper.shared().readTree(golden.toFile());
    json.put("linear_num_key_heads", 4);
    var model = ConfigReader.read(json);
    model
        .decoder()
        .parameters()
        .forEach(
            (name, spec) -> {
              if (name.startsWith("model.layers.0.linear_attn.")) {
                var places = GgufPlace.of(GgufArchitecture.QWEN35, model, Parameter.of(name, spec));
                assertTrue(places.getFirst().place().isWhole(spec.elements()), name);
              }
            });
  }

  private static Parameter parameter(GgufModel model, String name) {
    return Parameter.of(
        name, Objects.requireNonNull(model.config().decoder().parameters().get(name)));
  }

  @Test
  void aFileBecomesADirectoryThatTransformersReads() throws IOException {
    Path target = directory.resolve("directory");
    var notes = GgufConversion.toDirectory(MINI, target);

    assertEquals(List.of(), notes);
    assertTrue(Files.exists(target.resolve("tokenizer.json")));
    try (var _ = Scope.open()) {
      var before = open(MINI).decoder();
      var after = open(target).decoder();
      assertArrayEquals(logits(before, 1, 2, 3), logits(after, 1, 2, 3));
    }
    assertThrows(InvalidInputException.class, () -> GgufConversion.toDirectory(MINI, target));
  }

  /// All tokens that end a text do so on the other side, too.
  @Test
  void endTokensAreKept() throws IOException {
    Path folder = directory.resolve("several");
    GgufConversion.toDirectory(MINI, folder);
    Path said = folder.resolve("generation_config.json");
    int own;
    try (var file = GgufFile.open(MINI)) {
      own = GgufTokenizer.endings(file).iterator().next();
    }
    Files.writeString(said, "{\"eos_token_id\": [%d, 5, -1, 7, 9]}".formatted(own));
    Path file = directory.resolve("several.gguf");
    var result =
        GgufConversion.toFile(folder, file, WeightFormat.F32, false, Conversion.Listener.NOBODY);
    try (var written = GgufFile.open(file)) {
      assertEquals(Set.of(own, 5, 7), GgufTokenizer.endings(written));
    }
    assertTrue(result.notes().toString().contains("so [9] end none in it"), result::toString);
    assertTrue(
        result.notes().toString().contains("has the eos_token_id -1, which is none of"),
        result::toString);
    Path back = directory.resolve("back");
    GgufConversion.toDirectory(file, back);
    assertEquals(
        "{\"eos_token_id\":[%d,5,7]}\n".formatted(own),
        Files.readString(back.resolve("generation_config.json")));
  }

  /// A conversion that was killed cleans up nothing, and the next one says what it left.
  @Test
  void whatAKilledConversionLeftIsTold() throws IOException {
    String left = "..again.gguf.0123456789abcdef.partial.0123456789abcdef.partial";
    Files.createFile(directory.resolve(left));
    Files.createFile(directory.resolve(".other.gguf.0123456789abcdef.partial"));
    var result =
        GgufConversion.toFile(
            MINI,
            directory.resolve("again.gguf"),
            WeightFormat.F32,
            false,
            Conversion.Listener.NOBODY);
    assertTrue(
        result.notes().stream()
            .anyMatch(note -> note.startsWith(directory.resolve(left) + " is of another")),
        () -> result.notes().toString());
    assertFalse(result.notes().toString().contains(".other"), () -> result.notes().toString());
  }

  @Test
  void aConversionThatIsStoppedLeavesNothing() throws IOException {
    var stopping =
        new Conversion.Listener() {
          @Override
          public void advanced(String doing, long done, long total) {}

          @Override
          public boolean isStopping() {
            return true;
          }
        };
    Path target = directory.resolve("never.gguf");

    assertThrows(
        CancellationException.class,
        () -> GgufConversion.toFile(MINI, target, WeightFormat.F32, true, stopping));
    try (var left = Files.list(directory)) {
      assertEquals(0, left.count());
    }
  }

  // ---------------------------------------------------------------- other forms

  /// Tensors of a file as float32, by their names.
  private static Map<String, float[]> numbers(GgufFile file) {
    Map<String, float[]> numbers = new LinkedHashMap<>();
    file.tensors()
        .forEach(
            (name, tensor) -> {
              float[] each = new float[Math.toIntExact(tensor.elements())];
              tensor.format().dequantize(tensor.data(), 0, each.length, each, 0);
              numbers.put(name, each);
            });
    return numbers;
  }

  private static float[] joined(float[]... parts) {
    int length = Arrays.stream(parts).mapToInt(part -> part.length).sum();
    float[] all = new float[length];
    int at = 0;
    for (float[] part : parts) {
      System.arraycopy(part, 0, all, at, part.length);
      at += part.length;
    }
    return all;
  }

  /// Some files have queries, keys and values in one tensor, gates and inputs of experts in one,
  /// and older ones of Qwen3-Next the projections of a DeltaNet layer as `transformers` has them.
  @Test
  void tensorsThatFilesFuseAreReadAsTheirParts() throws IOException {
    Path source = checkpoint("qwen3-next", "", "");
    Path plain = written(source, WeightFormat.F32);
    Path fused = directory.resolve("fused.gguf");
    try (var file = GgufFile.open(plain);
        var files = SafetensorsDirectory.open(source)) {
      var numbers = numbers(file);
      Map<String, List<Long>> shapes = new LinkedHashMap<>();
      file.tensors().forEach((name, tensor) -> shapes.put(name, tensor.shape()));
      for (int layer = 0; layer < 4; layer++) {
        String block = "blk." + layer + ".";
        long experts = shapes.get(block + "ffn_gate_exps.weight").get(0);
        float[] gates = Objects.requireNonNull(numbers.remove(block + "ffn_gate_exps.weight"));
        float[] inputs = Objects.requireNonNull(numbers.remove(block + "ffn_up_exps.weight"));
        int each = gates.length / (int) experts;
        float[][] parts = new float[2 * (int) experts][];
        for (int e = 0; e < experts; e++) {
          parts[2 * e] = Arrays.copyOfRange(gates, e * each, (e + 1) * each);
          parts[2 * e + 1] = Arrays.copyOfRange(inputs, e * each, (e + 1) * each);
        }
        var shape = shapes.get(block + "ffn_gate_exps.weight");
        numbers.put(block + "ffn_gate_up_exps.weight", joined(parts));
        shapes.put(
            block + "ffn_gate_up_exps.weight", List.of(experts, 2 * shape.get(1), shape.get(2)));
        if (layer == 3) {
          float[] all =
              joined(
                  Objects.requireNonNull(numbers.remove(block + "attn_q.weight")),
                  Objects.requireNonNull(numbers.remove(block + "attn_k.weight")),
                  Objects.requireNonNull(numbers.remove(block + "attn_v.weight")));
          numbers.put(block + "attn_qkv.weight", all);
          shapes.put(block + "attn_qkv.weight", List.of(all.length / 48L, 48L));
        } else {
          numbers.remove(block + "attn_qkv.weight");
          numbers.remove(block + "attn_gate.weight");
          var stored = files.entry("model.layers." + layer + ".linear_attn.in_proj_qkvz.weight");
          float[] all = stored.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
          numbers.put(block + "ssm_in.weight", all);
          shapes.put(block + "ssm_in.weight", stored.shape());
        }
      }
      var writer = new GgufWriter();
      var model = ModelConfig.read(source).decoder();
      GgufDescription.general(GgufArchitecture.QWEN3_NEXT, "fused", 0, writer);
      GgufDescription.write(GgufArchitecture.QWEN3_NEXT, model, false, writer);
      writer.write(
          fused,
          numbers.keySet().stream()
              .map(name -> new GgufWriter.Planned(name, WeightFormat.F32, shapes.get(name)))
              .toList(),
          (planned, out) -> out.write(MemorySegment.ofArray(numbers.get(planned.name()))));
    }
    try (var _ = Scope.open()) {
      var one = open(plain).decoder();
      var other = open(fused);
      assertEquals(List.of(), other.notes());
      one.parameters()
          .all()
          .forEach(
              (name, tensor) ->
                  assertArrayEquals(
                      tensor.floats(), other.decoder().parameters().get(name).floats(), name));
    }
  }

  @Test
  void aDamagedModelIsReadOrRefused() throws IOException {
    byte[] good = Files.readAllBytes(MINI);
    int header = 2000; // before the tokens
    var outcome =
        Fuzz.run(
            "GgufModel",
            Fuzz.inputs() / 5,
            mutations -> {
              byte[] changed = good.clone();
              byte[] start = mutations.bytes(Arrays.copyOf(good, header));
              System.arraycopy(start, 0, changed, 0, Math.min(header, start.length));
              return changed;
            },
            input -> {
              Path path = Files.write(directory.resolve("damaged.gguf"), input);
              try (var _ = Scope.open()) {
                open(path).decoder().close();
              }
            });

    assertTrue(outcome.refused() > 10, outcome::toString);
  }

  // ---------------------------------------------------------------- which file

  @Test
  void aDirectoryStandsForTheOneModelInIt() throws IOException {
    assertNull(GgufModel.at(directory));
    Path model = Files.copy(MINI, directory.resolve("model.gguf"));
    Files.copy(MINI, directory.resolve("mmproj-model.gguf"));
    Files.copy(MINI, directory.resolve("other-00002-of-00002.gguf"));
    assertEquals(model, GgufModel.at(directory));
    assertEquals(model, GgufModel.at(model));
    Files.copy(MINI, directory.resolve("z.gguf"));
    assertEquals(
        directory + " holds 2 models, 'model.gguf', 'z.gguf'; name one of them",
        message(() -> GgufModel.at(directory)));
    Files.writeString(directory.resolve(ModelConfig.FILE), "{}");
    assertNull(GgufModel.at(directory));
  }

  private static String message(Runnable reading) {
    return String.valueOf(assertThrows(InvalidInputException.class, reading::run).getMessage());
  }

  // ---------------------------------------------------------------- faults

  /// The mini model with metadata and tensors as `change` has them.
  private Path changed(BiConsumer<GgufWriter, List<GgufWriter.Planned>> change, Set<String> without)
      throws IOException {
    Path target = directory.resolve("changed.gguf");
    try (var file = GgufFile.open(MINI)) {
      var metadata = file.metadata();
      var writer = new GgufWriter();
      for (String key : metadata.keys()) {
        if (without.contains(key) || key.startsWith("tokenizer.")) {
          continue;
        }
        if (metadata.isList(key)) {
          writer.wholes(
              key,
              Arrays.stream(Objects.requireNonNull(metadata.wholes(key)))
                  .mapToInt(Math::toIntExact)
                  .toArray());
        } else if (key.equals("general.architecture") || key.equals("general.name")) {
          writer.text(key, Objects.requireNonNull(metadata.text(key)));
        } else if (key.contains("rope.freq_base") || key.contains("epsilon")) {
          writer.number(key, Objects.requireNonNull(metadata.number(key)));
        } else {
          writer.whole(key, Objects.requireNonNull(metadata.whole(key)));
        }
      }
      List<GgufWriter.Planned> tensors =
          file.tensors().values().stream()
              .filter(tensor -> !without.contains(tensor.name()))
              .map(tensor -> new GgufWriter.Planned(tensor.name(), tensor.format(), tensor.shape()))
              .collect(Collectors.toList());
      change.accept(writer, tensors);
      writer.write(
          target,
          tensors,
          (planned, out) -> {
            var tensor = file.tensors().get(planned.name());
            byte[] bytes = new byte[Math.toIntExact(planned.bytes())];
            out.write(
                tensor != null && tensor.data().byteSize() == bytes.length
                    ? tensor.data()
                    : MemorySegment.ofArray(bytes));
          });
    }
    return target;
  }

  private void refuses(
      String words, BiConsumer<GgufWriter, List<GgufWriter.Planned>> change, String... without)
      throws IOException {
    Path path = changed(change, Set.of(without));
    try (var _ = Scope.open()) {
      String message = message(() -> open(path).decoder().close());
      assertNull(Fuzz.wrong(message));
      assertTrue(message.contains(words), message);
      assertTrue(message.contains(path.toString()), message);
    }
  }

  @Test
  void whatNoModelSaysIsRefused() throws IOException {
    refuses("does not say its general.architecture", (_, _) -> {}, "general.architecture");
    refuses(
        "is of the architecture 'llama'; Sluice reads qwen3, qwen3moe",
        (to, _) -> to.text("general.architecture", "llama"),
        "general.architecture");
    refuses("a part of general.type 'mmproj'", (to, _) -> to.text("general.type", "mmproj"));
    refuses("no metadata key 'qwen35.block_count'", (_, _) -> {}, "qwen35.block_count");
    refuses(
        "'qwen35.block_count' is 4000000000",
        (to, _) -> to.whole("qwen35.block_count", 4_000_000_000L),
        "qwen35.block_count");
    refuses(
        "'qwen35.embedding_length' is a text",
        (to, _) -> to.text("qwen35.embedding_length", "32"),
        "qwen35.embedding_length");
    refuses(
        "'qwen35.rope.scaling.type' is longrope",
        (to, _) -> to.text("qwen35.rope.scaling.type", "longrope"));
    refuses(
        "'qwen35.attention.value_length' is 8",
        (to, _) -> to.whole("qwen35.attention.value_length", 8),
        "qwen35.attention.value_length");
    refuses(
        "'qwen35.ssm.inner_size' is 65",
        (to, _) -> to.whole("qwen35.ssm.inner_size", 65),
        "qwen35.ssm.inner_size");
    refuses(
        "'qwen35.vocab_size' is 5",
        (to, _) -> to.whole("qwen35.vocab_size", 5),
        "qwen35.vocab_size");
    refuses("no matrix 'token_embd.weight'", (_, _) -> {}, "token_embd.weight");
  }

  @Test
  void tensorsThatAreMissingOrOfAnotherModelAreNamed() throws IOException {
    refuses("holds no tensor 'blk.0.ssm_out.weight'", (_, _) -> {}, "blk.0.ssm_out.weight");
    refuses(
        "'blk.1.ffn_up.weight' in " + directory.resolve("changed.gguf") + " has the shape [64, 64]",
        (_, tensors) ->
            tensors.replaceAll(
                each ->
                    each.name().equals("blk.1.ffn_up.weight")
                        ? new GgufWriter.Planned(each.name(), each.format(), List.of(64L, 64L))
                        : each));
    refuses(
        "holds 'blk.0.attn_rot_embd.weight'",
        (_, tensors) ->
            tensors.add(
                new GgufWriter.Planned(
                    "blk.0.attn_rot_embd.weight", WeightFormat.F32, List.of(2L))));
    refuses(
        "holds 'rope_freqs.weight'",
        (_, tensors) ->
            tensors.add(
                new GgufWriter.Planned("rope_freqs.weight", WeightFormat.F32, List.of(2L))));
    refuses(
        "is not below zero, as −exp(A_log) is, at [0]",
        (_, tensors) ->
            tensors.replaceAll(
                each ->
                    each.name().equals("blk.0.ssm_a")
                        ? new GgufWriter.Planned(each.name(), WeightFormat.F16, each.shape())
                        : each));
  }

  private Rotary rotary(BiConsumer<GgufWriter, List<GgufWriter.Planned>> change, String... without)
      throws IOException {
    try (var _ = Scope.open();
        var decoder = open(changed(change, Set.of(without))).decoder()) {
      return decoder.config().layers().stream()
          .flatMap(layer -> layer.attention().stream())
          .findFirst()
          .orElseThrow()
          .positions()
          .rotary()
          .orElseThrow();
    }
  }

  /// Nothing said is what llama.cpp takes then, and all of a head turns where its width is named.
  @Test
  void rotationsAreThoseOfLlamaCpp() throws IOException {
    String share = "qwen35.rope.dimension_count";
    assertEquals(1, rotary((_, _) -> {}, share).share());
    assertEquals(1, rotary((to, _) -> to.whole(share, headDim()), share).share());
    assertEquals(0.5, rotary((to, _) -> to.whole(share, headDim() / 2), share).share());

    String scaling = "qwen35.rope.scaling.";
    assertEquals(
        new RopeScaling.Linear(4),
        rotary((to, _) -> to.number("qwen35.rope.scale_linear", 4)).scaling());
    refuses(
        "'qwen35.rope.scaling.attn_factor' is 1.5 and only 1 is computed without YaRN",
        (to, _) -> to.number(scaling + "attn_factor", 1.5));
    double usual = 0.1 * Math.log(4) + 1;
    assertEquals(1.5 * usual, attentionFactor("attn_factor", 1.5), 1e-6);
    assertEquals(1.5, attentionFactor("yarn_attn_factor", 1.5), 1e-6);
    refuses(
        "'qwen35.rope.scaling.yarn_attn_factor' is 1.5",
        (to, _) -> {
          yarn(to);
          to.number(scaling + "attn_factor", 2).number(scaling + "yarn_attn_factor", 1.5);
        });
  }

  private static int headDim() {
    try (var file = GgufFile.open(MINI)) {
      return Math.toIntExact(
          Objects.requireNonNull(file.metadata().whole("qwen35.attention.key_length")));
    }
  }

  private static void yarn(GgufWriter to) {
    to.text("qwen35.rope.scaling.type", "yarn").number("qwen35.rope.scaling.factor", 4);
    to.whole("qwen35.rope.scaling.original_context_length", 64);
  }

  private double attentionFactor(String key, double value) throws IOException {
    var scaling =
        rotary(
                (to, _) -> {
                  yarn(to);
                  to.number("qwen35.rope.scaling." + key, value);
                })
            .scaling();
    return Objects.requireNonNull(((RopeScaling.Yarn) scaling).attentionFactor());
  }

  /// Blocks behind the model's own are no drafts where nobody says that they are.
  @Test
  void aModelWithMoreBlocksThanItSaysIsRefused() throws IOException {
    refuses("holds 'blk.1.", (to, _) -> to.whole("qwen35.block_count", 1), "qwen35.block_count");
  }

  @Test
  void whatIsNotUsedIsTold() throws IOException {
    Path path =
        changed(
            (to, tensors) -> {
              to.whole("qwen35.block_count", 3).whole("qwen35.nextn_predict_layers", 1);
              to.whole("qwen35.brightness", 3).text("elsewhere.key", "x");
              tensors.add(
                  new GgufWriter.Planned(
                      "blk.2.nextn.enorm.weight", WeightFormat.F32, List.of(32L)));
            },
            Set.of("qwen35.block_count"));
    try (var _ = Scope.open()) {
      String notes = open(path).notes().toString();
      assertTrue(notes.contains("metadata that are not used: 'qwen35.brightness'"), notes);
      assertTrue(notes.contains("'elsewhere.key'"), notes);
      assertTrue(notes.contains("1 tensors that predict further tokens"), notes);
    }
  }

  /// The head that drafts tokens goes along, from a directory and from a file, under the names that
  /// llama.cpp has for it.
  @ParameterizedTest
  @ValueSource(strings = {"checkpoint", "model.gguf"})
  void theHeadThatDraftsIsWritten(String name) throws IOException {
    Path source = DRAFTS.resolve(name);
    Path target = directory.resolve("drafts.gguf");
    var result =
        GgufConversion.toFile(source, target, WeightFormat.F32, true, Conversion.Listener.NOBODY);
    assertTrue(result.notes().toString().contains("head that drafts"), result.notes().toString());
    assertFalse(result.notes().toString().contains("not read"), result.notes().toString());
    assertArrayEquals(drafted(source), drafted(target), 1e-4f);
    try (var file = GgufFile.open(target);
        var reference = GgufFile.open(DRAFTS.resolve("model.gguf"))) {
      assertEquals(reference.tensors().keySet(), file.tensors().keySet());
      for (String key : List.of("qwen35.block_count", "qwen35.nextn_predict_layers")) {
        assertEquals(reference.metadata().whole(key), file.metadata().whole(key), key);
      }
    }
  }

  private static float[] drafted(Path path) {
    try (var _ = Scope.withoutGradient();
        var decoder =
            ModelDirectory.openInPlace(
                    path, Precision.FLOAT32, null, true, Conversion.Listener.NOBODY)
                .decoder()) {
      var hidden =
          decoder.hiddenStates(Tensor.of(new long[] {3, 17, 0, 22}, 1, 4), null, Probe.NONE);
      var following = Tensor.of(new long[] {17, 0, 22, 9}, 1, 4);
      return new MultiTokenPrediction(decoder).hiddenStates(hidden, following, null).floats();
    }
  }

  /// A head with more than is computed here stays out, and is told.
  @Test
  void anotherHeadIsNotTheHead() throws IOException {
    Path path =
        changed(
            (to, tensors) -> {
              to.whole("qwen35.block_count", 3).whole("qwen35.nextn_predict_layers", 1);
              for (String name : List.of("eh_proj", "embed_tokens")) {
                tensors.add(
                    new GgufWriter.Planned(
                        "blk.2.nextn." + name + ".weight", WeightFormat.F32, List.of(32L, 64L)));
              }
            },
            Set.of("qwen35.block_count"));
    try (var model = GgufModel.open(path);
        var known = GgufModel.open(DRAFTS.resolve("model.gguf"))) {
      assertFalse(model.hasKnownHead());
      assertTrue(known.hasKnownHead());
    }
  }

  @ParameterizedTest
  @CsvSource({
    "paper-headwise, '', '', 'has no place for'",
    "afmoe, '', '', 'turns in all layers of an afmoe model but every fourth'",
    "laguna-element, '', '', 'does not say all that the model is'",
    "qwen3, rope_parameters, '{\"rope_type\": \"dynamic\", \"factor\": 2.0, \"rope_theta\":"
        + " 10000.0}', 'the model turns by'"
  })
  void whatLlamaCppWouldComputeOtherwiseIsNotWritten(
      String name, String key, String value, String words) throws IOException {
    Path source = checkpoint(name, key, value);
    Path target = directory.resolve("x.gguf");
    String message =
        message(
            () -> {
              try {
                GgufConversion.toFile(
                    source, target, WeightFormat.F32, false, Conversion.Listener.NOBODY);
              } catch (IOException e) {
                throw new IllegalStateException(e);
              }
            });
    assertTrue(message.contains(words), message);
    assertFalse(Files.exists(target));
  }

  /// What llama.cpp v0.5.0's own conversion finds for the published tokenizer of an architecture's
  /// models (`conversion/base.py`, `get_vocab_base_pre`).
  private static String splitter(GgufArchitecture architecture) {
    return switch (architecture) {
      case QWEN3, QWEN3_MOE, QWEN3_NEXT -> "qwen2";
      case QWEN35, QWEN35_MOE -> "qwen35";
      case AFMOE -> "afmoe";
      case GPT_OSS -> "gpt-4o";
      case LAGUNA -> "laguna";
      case STEP35 -> "deepseek-v3";
    };
  }

  @ParameterizedTest
  @EnumSource(GgufArchitecture.class)
  void aFileOfEveryArchitectureBringsItsTokenizer(GgufArchitecture architecture)
      throws IOException {
    Path path = directory.resolve("tokens.gguf");
    new GgufWriter()
        .text("general.architecture", architecture.word())
        .text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", splitter(architecture))
        .texts("tokenizer.ggml.tokens", List.of("a", "b", "ab", "1"))
        .texts("tokenizer.ggml.merges", List.of("a b"))
        .write(path, List.of(), (_, _) -> {});
    assertArrayEquals(new int[] {2, 3, 0, 2}, Tokenizers.load(path.toString()).encode("ab1aab"));
  }

  @Test
  void placesAreChosenWithCare() throws IOException {
    Path there = Files.writeString(directory.resolve("there.gguf"), "x", StandardCharsets.UTF_8);
    assertTrue(message(() -> GgufConversion.requirePlace(there)).contains("exists already"));
    assertTrue(
        message(() -> GgufConversion.requirePlace(directory.resolve("model.bin")))
            .contains("does not end with .gguf"));
    assertTrue(
        message(() -> GgufConversion.requirePlace(directory.resolve("a/b.gguf")))
            .contains("is no directory"));
    assertEquals("x", Files.readString(there));
  }
}
