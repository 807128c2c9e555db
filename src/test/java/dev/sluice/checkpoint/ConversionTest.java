package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.SwitchHead;
import dev.sluice.checkpoint.Conversion.Wanted;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.Trees;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.CancellationException;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Isolated;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

@Isolated("measures what the whole process takes")
class ConversionTest {
  private static final Path CHECKPOINTS = Path.of("src/test/resources/checkpoints");

  private static final Conversion.Listener SILENT =
      new Conversion.Listener() {
        @Override
        public void advanced(String doing, long done, long total) {
          assertTrue(done <= total, doing);
        }

        @Override
        public boolean isStopping() {
          return false;
        }
      };

  @TempDir private Path directory;

  // ---------------------------------------------------------------- packings

  /// From each packing into each, and back: the same bytes. Six query heads share two key/value
  /// heads, so that no two packings are the same.
  @ParameterizedTest
  @ValueSource(strings = {"sdpa-elementwise", "sdpa-headwise", "none"})
  void everyPackingLeadsToEveryOther(String gate) throws IOException {
    Map<GatePacking, Path> first = new HashMap<>();
    Path source = write("source", paper(gate));
    for (var packing : GatePacking.values()) {
      first.put(packing, directory.resolve("first-" + packing));
      convert(source, first.get(packing), packing, null);
    }
    assertSameWeights(source, first.get(GatePacking.KEY_VALUE_GROUP));
    for (var from : GatePacking.values()) {
      for (var to : GatePacking.values()) {
        Path target = directory.resolve(from + "-" + to);
        var result = convert(first.get(from), target, to, null);
        assertEquals(0.0, result.difference());
        assertSameWeights(first.get(to), target);
        boolean differs =
            gate.equals("none")
                ? (from == GatePacking.MEGATRON_QKV) != (to == GatePacking.MEGATRON_QKV)
                : from != to;
        assertEquals(!differs, haveSameWeights(first.get(from), target), from + " " + to);
      }
    }
  }

  /// Row by row, from the definition: per key/value head its queries, its gate, its key, its value.
  @ParameterizedTest
  @CsvSource({"sdpa-elementwise,16", "sdpa-headwise,1", "none,0"})
  void megatronsRowsStandGroupByGroup(String gate, int gateRows) throws IOException {
    Path source = write("source", paper(gate));
    Path separate = directory.resolve("separate");
    Path target = directory.resolve("target");
    convert(source, separate, GatePacking.SEPARATE, null);
    convert(source, target, GatePacking.MEGATRON_QKV, null);
    try (var apart = SafetensorsDirectory.open(separate);
        var together = SafetensorsDirectory.open(target)) {
      for (int layer = 0; layer < 2; layer++) {
        String before = "model.layers." + layer + ".self_attn.";
        List<float[]> expected = new ArrayList<>();
        for (int group = 0; group < 2; group++) {
          add(expected, apart.entry(before + "q_proj.weight"), group * 3 * 16, 3 * 16);
          if (gateRows > 0) {
            var rows = apart.entry(before + gateName(apart, before));
            add(expected, rows, group * 3 * gateRows, 3 * gateRows);
          }
          add(expected, apart.entry(before + "k_proj.weight"), group * 16, 16);
          add(expected, apart.entry(before + "v_proj.weight"), group * 16, 16);
        }
        List<float[]> found = new ArrayList<>();
        var stored = together.entry(before + "linear_qkv.weight");
        assertEquals(List.of((long) expected.size(), 48L), stored.shape());
        add(found, stored, 0, expected.size());
        for (int row = 0; row < expected.size(); row++) {
          assertArrayEquals(expected.get(row), found.get(row), "row " + row);
        }
      }
    }
  }

  private static String gateName(SafetensorsDirectory files, String before) {
    return files.names().stream()
        .filter(name -> name.startsWith(before) && name.contains("gate"))
        .findFirst()
        .orElseThrow()
        .substring(before.length());
  }

  private static void add(List<float[]> rows, Entry entry, int from, int count) {
    for (int row = from; row < from + count; row++) {
      rows.add(
          entry.data().asSlice(row * 48L * 4, 48L * 4).toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
    }
  }

  /// What no other family can say keeps its packing and its gates.
  @ParameterizedTest
  @ValueSource(strings = {"sdpa-headwise-sigmoid*2.0", "value-headwise", "sdpa-elementwise-shared"})
  void modelsOfOurOwnAreConvertedToo(String gate) throws IOException {
    Path source = write("source", paper(gate));
    Path target = directory.resolve("target");
    var result = convert(source, target, GatePacking.MEGATRON_QKV, null);
    assertEquals("sluice", result.to().modelType());
    assertEquals(0.0, result.difference());
    assertSameWeights(source, back(target, GatePacking.SEPARATE));
  }

  /// Experts of keys and values have more rows than a group has place for.
  @Test
  void switchedHeadsHaveNoPlaceInAGroup() throws IOException {
    var switching = AttentionVariant.PLAIN.with(new SwitchHead(true, 4, 2));
    Path source = write("source", paper("none").with(switching));
    String sentence = "rows where gate_packing megatron_qkv has place for 32";
    var asked =
        assertThrows(
            InvalidInputException.class,
            () -> convert(source, directory.resolve("t"), GatePacking.MEGATRON_QKV, null));
    assertTrue(asked.getMessage().contains(sentence), asked.getMessage());
    assertUntouched("t");
  }

  /// Among layers of another kind those of attention alone are packed.
  @ParameterizedTest
  @EnumSource(GatePacking.class)
  void ourOwnHybridsAreConvertedToo(GatePacking packing) throws IOException {
    Path source =
        hybrid(
            "source",
            "{\"model_type\": \"sluice\","
                + LINEAR
                    .replace("\"partial_rotary_factor\": 0.25", "\"rope_theta\": 50000.0")
                    .replace("\"rope_theta\": 50000.0,", "")
                + """
                "intermediate_size": 40, "gates": ["sdpa-elementwise"], "layer_types":
                ["linear_attention", "full_attention", "linear_attention", "full_attention"]}
                """);
    Path target = directory.resolve("target");
    assertEquals(0.0, convert(source, target, packing, null).difference());
    assertEquals(packing == GatePacking.SEPARATE, haveSameWeights(source, target));
    assertSameWeights(source, back(target, GatePacking.SEPARATE));
  }

  @Test
  void aPackingThatAFamilyDoesNotHaveIsRefused() throws IOException {
    Path source = hybrid("source", NEXT);
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> convert(source, directory.resolve("t"), GatePacking.MEGATRON_QKV, null));
    assertTrue(
        e.getMessage().contains("qwen3_next stores its gates as query_head, not as megatron_qkv"),
        e.getMessage());
    assertUntouched("t");
  }

  // ---------------------------------------------------------------- families

  private static final String LINEAR =
      """
      "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6,
      "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97, "max_position_embeddings": 128,
      "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "linear_num_key_heads": 2,
      "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12,
      "linear_conv_kernel_dim": 4, "initializer_range": 0.1, "eos_token_id": [7, 9],
      "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0,
        "partial_rotary_factor": 0.25},
      """;

  private static final String NEXT =
      "{\"model_type\": \"qwen3_next\","
          + LINEAR
          + """
          "moe_intermediate_size": 24, "shared_expert_intermediate_size": 20, "num_experts": 6,
          "num_experts_per_tok": 2, "norm_topk_prob": true, "decoder_sparse_step": 1,
          "mlp_only_layers": [1], "intermediate_size": 40}
          """;

  private static final String DENSE =
      "{\"model_type\": \"qwen3_5_text\"," + LINEAR + "\"intermediate_size\": 40}";

  private static final String MIXTURE =
      "{\"model_type\": \"qwen3_5_moe_text\","
          + LINEAR
          + """
          "moe_intermediate_size": 24, "shared_expert_intermediate_size": 20, "num_experts": 6,
          "num_experts_per_tok": 2}
          """;

  @ParameterizedTest
  @ValueSource(strings = {NEXT, DENSE, MIXTURE})
  void hybridsKeepTheirBytes(String json) throws IOException {
    Path source = hybrid("source", json);
    Files.writeString(
        source.resolve("config.json"),
        Files.readString(source.resolve("config.json"))
            .replaceFirst("\\{", "{\"use_cache\": true,"));
    Path target = directory.resolve("target");
    var result = convert(source, target, null, null);
    assertEquals(0.0, result.difference());
    assertSameWeights(source, target);
    String written = Files.readString(target.resolve("config.json"));
    assertTrue(written.contains("\"eos_token_id\" : [ 7, 9 ]"), written);
    assertTrue(written.contains("\"use_cache\" : true"), written);
  }

  /// Experts stay together or apart, as they were.
  @Test
  void mixturesKeepTheirBytes() throws IOException {
    Path together = directory.resolve("together");
    convert(CHECKPOINTS.resolve("mixture-fused-tied-compiled"), together, null, null);
    Path apart = hybrid("apart", QWEN3_MIXTURE);
    Path ofTransformers = CHECKPOINTS.resolve("mixture-of-transformers-5");
    for (Path source : List.of(together, apart, ofTransformers)) {
      Path target = directory.resolve("target-" + source.getFileName());
      assertEquals(0.0, convert(source, target, null, null).difference());
      assertSameWeights(source, target);
    }
    try (var files = SafetensorsDirectory.open(together)) {
      assertTrue(files.names().stream().anyMatch(name -> name.endsWith("experts.gate_up_proj")));
    }
    try (var files = SafetensorsDirectory.open(apart)) {
      assertTrue(files.names().stream().anyMatch(name -> name.contains("experts.5.up_proj")));
    }
  }

  private static final String QWEN3_MIXTURE =
      """
      {"model_type": "qwen3_moe", "hidden_size": 48, "num_hidden_layers": 3,
       "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 97,
       "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
       "moe_intermediate_size": 24, "num_experts": 6, "num_experts_per_tok": 2,
       "norm_topk_prob": true, "mlp_only_layers": [0], "intermediate_size": 40,
       "tie_word_embeddings": true}
      """;

  /// Whatever was put around a model comes off, and the target needs no word about its names.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "base-names-old-yarn",
        "head-alone-windows-unused",
        "mixture-fused-tied-compiled",
        "tied-but-different",
        "yarn-length-at-the-top-in-shards"
      })
  void whatIsReadIsConverted(String name) throws IOException {
    Path target = directory.resolve("target");
    var result = convert(CHECKPOINTS.resolve(name), target, null, null);
    assertEquals(0.0, result.difference());
    try (var again = ModelDirectory.open(target, Precision.FLOAT32, Device.CPU, false).decoder()) {
      assertNotNull(again);
    }
    assertTrue(ModelDirectory.open(target, Precision.FLOAT32, Device.CPU, false).notes().isEmpty());
  }

  /// Where some layers have no experts, the target says which.
  @Test
  void layersWithoutExpertsStayWithout() throws IOException {
    Path source = hybrid("source", QWEN3_MIXTURE);
    Path target = directory.resolve("target");
    convert(source, target, GatePacking.MEGATRON_QKV, null);
    assertEquals(ModelConfig.read(source).decoder(), ModelConfig.read(target).decoder());
  }

  /// A model that sees becomes the one of its text part.
  @Test
  void theTextPartIsWhatIsWritten() throws IOException {
    Path text = hybrid("text", DENSE);
    Path source = Files.createDirectory(directory.resolve("source"));
    Files.writeString(
        source.resolve("config.json"),
        "{\"model_type\": \"qwen3_5\", \"image_token_id\": 5, \"vision_config\": {\"depth\": 2},"
            + " \"text_config\": "
            + DENSE
            + "}");
    try (var files = SafetensorsDirectory.open(text);
        var _ = Scope.open()) {
      List<Entry> entries = new ArrayList<>();
      for (var entry : files.entries()) {
        String name = entry.name().replaceFirst("^model\\.", "model.language_model.");
        entries.add(new Entry(name, entry.type(), entry.shape(), entry.data()));
      }
      var seen = Tensor.zeros(ElementType.FLOAT32, 3, 3);
      entries.add(new Entry("model.visual.x", ElementType.FLOAT32, List.of(3L, 3L), seen.memory()));
      SafetensorsWriter.write(source.resolve("model.safetensors"), Map.of(), entries);
    }
    Path target = directory.resolve("target");
    var result = convert(source, target, null, null);
    assertEquals("qwen3_5_text", result.to().modelType());
    assertSameWeights(text, target);
    assertNoted(result, "model_type qwen3_5 becomes qwen3_5_text");
    assertNoted(result, "'model.visual.x'");
    String written = Files.readString(target.resolve("config.json"));
    assertTrue(written.contains("\"eos_token_id\" : [ 7, 9 ]"), written);
    assertFalse(written.contains("vision_config"), written);
  }

  // ---------------------------------------------------------------- types

  /// Each number is what libtorch rounds it to.
  @ParameterizedTest
  @EnumSource(names = {"BFLOAT16", "FLOAT16"})
  void numbersAreRoundedToTheNearest(ElementType type) throws IOException {
    Path source = write("source", paper("sdpa-elementwise"));
    Path target = directory.resolve("target");
    var result = convert(source, target, null, type);
    assertTrue(result.isRounded());
    double difference = Objects.requireNonNull(result.difference());
    double mirrored = Objects.requireNonNull(result.mirrored());
    assertTrue(
        difference > 0 && difference < 3 * mirrored && mirrored < 3 * difference,
        difference + " and " + mirrored);
    assertEquals(result.from().bytes(), 2 * result.to().bytes());
    String word = type == ElementType.BFLOAT16 ? "bfloat16" : "float16";
    assertEquals(List.of(word), result.to().types());
    assertTrue(
        Files.readString(target.resolve("config.json"))
            .contains("\"torch_dtype\" : \"" + word + "\""));
    try (var from = SafetensorsDirectory.open(source);
        var to = SafetensorsDirectory.open(target);
        var _ = Scope.open()) {
      assertEquals(from.names(), to.names());
      for (var entry : from.entries()) {
        var rounded = to.entry(entry.name());
        long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
        var expected = Tensor.of(entry.data(), ElementType.FLOAT32, shape).to(type);
        assertEquals(type, rounded.type());
        assertEquals(-1, expected.memory().mismatch(rounded.data()), entry.name());
      }
    }
    // once rounded, all further types keep every number
    var wide = convert(target, directory.resolve("wide"), null, ElementType.FLOAT32);
    assertFalse(wide.isRounded());
    assertEquals(0.0, wide.difference());
    assertNull(wide.mirrored());
    assertSameWeights(target, back(directory.resolve("wide"), null, type));
  }

  @Test
  void roundingTiesGoToEvenAndLargeNumbersBecomeInfinite() {
    try (var _ = Scope.open()) {
      float[] numbers = {
        1 + 0x1p-8f, 1 + 3 * 0x1p-8f, -1 - 0x1p-8f, 0x1p-130f, -0f, Float.MAX_VALUE, 65520f, 65519f
      };
      for (var type : List.of(ElementType.BFLOAT16, ElementType.FLOAT16)) {
        var from = Tensor.of(numbers, numbers.length);
        var to = Tensor.zeros(type, numbers.length);
        Float32Rounding.copy(from.memory(), to.memory(), type);
        assertEquals(-1, from.to(type).memory().mismatch(to.memory()), type.toString());
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"70000,FLOAT16", "3.4e38,BFLOAT16"})
  void aNumberThatIsTooLargeIsRefusedByName(float number, ElementType type) throws IOException {
    Path source = write("source", paper("none"));
    change(source, "model.layers.1.mlp.up_proj.weight", number);
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> convert(source, directory.resolve("target"), null, type));
    assertTrue(e.getMessage().contains("'model.layers.1.mlp.up_proj.weight'"), e.getMessage());
    assertTrue(e.getMessage().contains("[0, 3]"), e.getMessage());
    assertUntouched("target");
  }

  /// Without a type each tensor keeps its own, and what is made of two is wide enough for both.
  @Test
  void mixedTypesAreKeptAndTold() throws IOException {
    Path wide = write("wide", paper("sdpa-headwise"));
    Path source = directory.resolve("source");
    convert(wide, source, null, ElementType.BFLOAT16);
    retype(source, "model.norm.weight", ElementType.FLOAT32);
    retype(source, "model.layers.0.self_attn.k_proj.weight", ElementType.FLOAT32);
    Path target = directory.resolve("target");
    var result = convert(source, target, GatePacking.MEGATRON_QKV, null);
    assertNoted(result, "bfloat16, float32");
    assertFalse(result.isRounded());
    assertEquals(0.0, result.difference());
    try (var files = SafetensorsDirectory.open(target)) {
      assertEquals(ElementType.FLOAT32, files.entry("model.norm.weight").type());
      String before = "model.layers.";
      String after = ".self_attn.linear_qkv.weight";
      assertEquals(ElementType.FLOAT32, files.entry(before + 0 + after).type());
      assertEquals(ElementType.BFLOAT16, files.entry(before + 1 + after).type());
    }
    assertTrue(Files.readString(target.resolve("config.json")).contains("\"bfloat16\""));
    Path same = directory.resolve("same");
    convert(source, same, null, null);
    assertSameWeights(source, same);
  }

  @Test
  void numbersOfFloat64AreRoundedOnlyWhereThatIsAskedFor() throws IOException {
    Path source = write("source", paper("none"));
    retype(source, "model.norm.weight", ElementType.FLOAT64);
    var e =
        assertThrows(
            InvalidInputException.class, () -> convert(source, directory.resolve("t"), null, null));
    assertTrue(e.getMessage().contains("'model.norm.weight' is stored as F64"), e.getMessage());
    var result = convert(source, directory.resolve("t"), null, ElementType.FLOAT32);
    assertNoted(result, "F64 are rounded to float32");
    assertEquals(List.of("float32"), result.to().types());
  }

  // ---------------------------------------------------------------- shards

  @Test
  void filesHoldWhatTheyMay() throws IOException {
    Path source = write("source", paper("sdpa-elementwise"));
    Path target = directory.resolve("target");
    long most = 20_000;
    var result = Conversion.convert(source, target, new Wanted(null, null, most, true), SILENT);
    int files = result.to().files();
    assertTrue(files > 3);
    assertFalse(Files.exists(target.resolve("model.safetensors")));
    int found = 0;
    for (int i = 1; i <= files; i++) {
      String name = "model-%05d-of-%05d.safetensors".formatted(i, files);
      try (var shard = SafetensorsFile.open(target.resolve(name))) {
        long bytes = shard.entries().stream().mapToLong(entry -> entry.data().byteSize()).sum();
        assertTrue(bytes <= most || shard.entries().size() == 1, name + " " + bytes);
        assertEquals(Map.of("format", "pt"), shard.metadata());
        found += shard.entries().size();
      }
    }
    assertEquals(result.to().tensors(), found);
    String index = Files.readString(target.resolve("model.safetensors.index.json"));
    assertTrue(index.contains("\"total_size\" : " + result.to().bytes()), index);
    // in the order of names, as transformers has it, and one file again is the same file
    assertTrue(index.indexOf("model.embed_tokens") < index.indexOf("model.layers.0.input"), index);
    assertSameWeights(source, back(target, null));
  }

  /// A tensor that is larger than a file gets one, whatever stands around it.
  @Test
  void theSmallestFilesHoldOneTensor() throws IOException {
    Path source = write("source", paper("none"));
    var result =
        Conversion.convert(
            source, directory.resolve("target"), new Wanted(null, null, 1, false), SILENT);
    assertEquals(result.to().tensors(), result.to().files());
    assertNull(result.difference());
  }

  // ---------------------------------------------------------------- what goes along

  @Test
  void theTokenizerGoesAlongAndWhatStaysIsTold() throws IOException {
    Path source = write("source", paper("none"));
    Files.writeString(source.resolve("tokenizer.json"), "{\"a\": 1}");
    Files.writeString(source.resolve("generation_config.json"), "{}");
    Files.writeString(source.resolve("README.md"), "x");
    Files.writeString(source.resolve("model-old.safetensors"), "x");
    Files.createDirectory(source.resolve("vocab.json"));
    Path target = directory.resolve("target");
    var result = convert(source, target, null, null);
    assertEquals("{\"a\": 1}", Files.readString(target.resolve("tokenizer.json")));
    assertTrue(Files.exists(target.resolve("generation_config.json")));
    assertNoted(result, "'README.md', 'model-old.safetensors', 'vocab.json'");
    assertEquals(
        List.of("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
        names(target));
  }

  // ---------------------------------------------------------------- whole or not at all

  @Test
  void anEmptyDirectoryIsFilled() throws IOException {
    Path target = Files.createDirectory(directory.resolve("target"));
    convert(write("source", paper("none")), target, null, null);
    assertEquals(List.of("config.json", "model.safetensors"), names(target));
  }

  @Test
  void otherPlacesAreRefused() throws IOException {
    Path source = write("source", paper("none"));
    Path full = Files.createDirectory(directory.resolve("full"));
    Files.writeString(full.resolve("kept.txt"), "x");
    Path file = Files.writeString(directory.resolve("file"), "x");
    Path link = Files.createSymbolicLink(directory.resolve("link"), Path.of("nowhere"));
    Path toSource = Files.createSymbolicLink(directory.resolve("to-source"), source);
    for (Path target :
        List.of(
            source,
            source.resolve("within"),
            source.resolve("deep/er"),
            source.resolve("../source/within"),
            toSource,
            toSource.resolve("within"),
            directory,
            full,
            file,
            file.resolve("below"),
            link,
            link.resolve("below"))) {
      var before = names(source);
      var e = assertThrows(InvalidInputException.class, () -> convert(source, target, null, null));
      assertTrue(e.getMessage().contains("; name"), e.getMessage());
      assertEquals(before, names(source));
      assertEquals(List.of("file", "full", "link", "source", "to-source"), names(directory));
    }
    assertEquals("x", Files.readString(full.resolve("kept.txt")));
  }

  /// Whenever it is stopped, nothing stays.
  @Test
  void stoppedAnywhereItLeavesNothing() throws IOException {
    Path source = write("source", paper("sdpa-headwise"));
    int[] asked = {0};
    Conversion.convert(source, directory.resolve("all"), wanted(null, null), stopping(asked, -1));
    int all = asked[0];
    for (int stop = 1; stop <= all; stop += 7) {
      int at = stop;
      assertThrows(
          CancellationException.class,
          () ->
              Conversion.convert(
                  source,
                  directory.resolve("target"),
                  wanted(null, null),
                  stopping(new int[] {0}, at)));
      assertUntouched("target");
    }
  }

  private static Conversion.Listener stopping(int[] asked, int at) {
    return new Conversion.Listener() {
      @Override
      public void advanced(String doing, long done, long total) {}

      @Override
      public boolean isStopping() {
        return ++asked[0] == at;
      }
    };
  }

  @Test
  void badWeightsLeaveNothing() throws IOException {
    Path source = write("source", paper("none"));
    change(source, "model.norm.weight", Float.NaN);
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> convert(source, directory.resolve("target"), null, null));
    assertTrue(e.getMessage().contains("'model.norm.weight'"), e.getMessage());
    assertUntouched("target");
  }

  /// One that was killed may have left something; it is named and stays.
  @Test
  void whatAnotherLeftIsTold() throws IOException {
    Path source = write("source", paper("none"));
    Path left = Files.createDirectory(directory.resolve(".target.0123456789abcdef.partial"));
    var result = convert(source, directory.resolve("target"), null, null);
    assertNoted(result, left.getFileName().toString());
    assertTrue(Files.exists(left));
  }

  // ---------------------------------------------------------------- memory

  /// While 96 matrices of 2 MB are converted no more than a few of them are in memory.
  @Test
  @EnabledOnOs(OS.LINUX)
  void onlyAFewTensorsAreInMemoryAtATime() throws IOException {
    var config =
        DecoderConfig.uniform(
            64,
            512,
            1024,
            24,
            8,
            2,
            64,
            64,
            10_000,
            new RopeScaling.None(),
            1e-6,
            true,
            true,
            0.02,
            List.of(Gate.SDPA_ELEMENTWISE));
    Path source = write("source", config);
    long[] grown = new long[2];
    long before = anonymousBytes();
    var listener =
        new Conversion.Listener() {
          @Override
          public void advanced(String doing, long done, long total) {
            if (doing.equals("writing") || doing.equals("comparing")) {
              grown[0] = Math.max(grown[0], nativeBytes() - before);
            }
            grown[1] = total;
          }

          @Override
          public boolean isStopping() {
            return false;
          }
        };
    var wanted = new Wanted(GatePacking.MEGATRON_QKV, ElementType.BFLOAT16, 1L << 24, false);
    Conversion.convert(source, directory.resolve("target"), wanted, listener);
    long model = grown[1] / 3;
    assertTrue(model > 200_000_000, () -> "the model has " + model);
    assertTrue(grown[0] < 64_000_000, () -> "grew by " + grown[0] + " of " + model);
  }

  private static long nativeBytes() {
    try {
      return anonymousBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// Resident memory without mapped files.
  private static long anonymousBytes() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("RssAnon:")) {
        return Long.parseLong(line.replaceAll("\\D+", "")) * 1024;
      }
    }
    throw new IOException("no RssAnon");
  }

  // ---------------------------------------------------------------- models

  private static DecoderConfig paper(String gate) {
    return DecoderConfig.uniform(
        101,
        48,
        80,
        2,
        6,
        2,
        16,
        128,
        10_000,
        new RopeScaling.None(),
        1e-6,
        true,
        true,
        0.2,
        gate.equals("none") ? List.of() : List.of(Gate.parse(gate)));
  }

  private Path write(String name, DecoderConfig config) throws IOException {
    Path place = Files.createDirectories(directory.resolve(name));
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(place, decoder);
    }
    return place;
  }

  /// A random model of what a configuration says, which is kept as it is written.
  private Path hybrid(String name, String json) throws IOException {
    Path said = Files.createDirectories(directory.resolve("said"));
    Files.writeString(said.resolve("config.json"), json);
    var config = ModelConfig.read(said);
    Path place = Files.createDirectories(directory.resolve(name));
    try (var decoder = Decoder.initialize(config.decoder(), Precision.FLOAT32, Device.CPU, 3);
        var _ = Scope.withoutGradient()) {
      SafetensorsWriter.write(
          place.resolve("model.safetensors"),
          Map.of("format", "pt"),
          ModelDirectory.entries(
              "", ModelDirectory.packed(decoder.parameters(), config, Set.of())));
    }
    Files.writeString(place.resolve("config.json"), json);
    Trees.remove(said);
    return place;
  }

  private static Wanted wanted(@Nullable GatePacking packing, @Nullable ElementType type) {
    return new Wanted(packing, type, Conversion.USUAL_SHARD, true);
  }

  private static Conversion.Result convert(
      Path source, Path target, @Nullable GatePacking packing, @Nullable ElementType type)
      throws IOException {
    return Conversion.convert(source, target, wanted(packing, type), SILENT);
  }

  private Path back(Path target, @Nullable GatePacking packing) throws IOException {
    return back(target, packing, null);
  }

  private Path back(Path target, @Nullable GatePacking packing, @Nullable ElementType type)
      throws IOException {
    Path back = directory.resolve("back");
    convert(target, back, packing, type);
    return back;
  }

  /// Changes the fourth number of a tensor.
  private static void change(Path model, String name, float number) throws IOException {
    rewrite(
        model,
        entry -> {
          if (!entry.name().equals(name)) {
            return entry;
          }
          var data = entry.data();
          var copy = Tensor.zeros(entry.type(), data.byteSize() / 4).memory().copyFrom(data);
          copy.set(ValueLayout.JAVA_FLOAT, 12, number);
          return new Entry(name, entry.type(), entry.shape(), copy);
        });
  }

  private static void retype(Path model, String name, ElementType type) throws IOException {
    rewrite(
        model,
        entry -> {
          if (!entry.name().equals(name)) {
            return entry;
          }
          long[] shape = entry.shape().stream().mapToLong(Long::longValue).toArray();
          var tensor = Tensor.of(entry.data(), entry.type(), shape).to(type);
          return new Entry(name, type, entry.shape(), tensor.memory());
        });
  }

  private static void rewrite(Path model, UnaryOperator<Entry> change) throws IOException {
    Path file = model.resolve("model.safetensors");
    Path changed = model.resolve("changed");
    try (var files = SafetensorsFile.open(file);
        var _ = Scope.open()) {
      SafetensorsWriter.write(
          changed, files.metadata(), files.entries().stream().map(change).toList());
    }
    Files.delete(file);
    Files.move(changed, file);
  }

  // ---------------------------------------------------------------- comparing

  private static boolean haveSameWeights(Path one, Path other) throws IOException {
    return Files.mismatch(one.resolve("model.safetensors"), other.resolve("model.safetensors")) < 0;
  }

  private static void assertSameWeights(Path expected, Path actual) throws IOException {
    assertTrue(haveSameWeights(expected, actual), actual + " differs from " + expected);
  }

  private static void assertNoted(Conversion.Result result, String words) {
    assertTrue(
        result.notes().stream().anyMatch(note -> note.contains(words)), result.notes().toString());
  }

  /// No target, and nothing beside it.
  private void assertUntouched(String target) {
    assertFalse(Files.exists(directory.resolve(target)));
    assertTrue(
        Trees.children(directory).stream()
            .noneMatch(child -> String.valueOf(child.getFileName()).startsWith(".")),
        Trees.children(directory).toString());
  }

  private static List<String> names(Path directory) {
    return Trees.children(directory).stream()
        .map(child -> String.valueOf(child.getFileName()))
        .toList();
  }
}
