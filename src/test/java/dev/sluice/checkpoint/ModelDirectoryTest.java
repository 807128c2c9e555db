package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.SdpaNonlinearity;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.attention.SwitchHead;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.Granularity;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import dev.sluice.training.RunConfig;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

class ModelDirectoryTest {
  private static final Path GOLDEN = TestData.GOLDEN;

  @TempDir private Path directory;

  /// What the reference saved, loaded and saved again, is the same file: packing and unpacking are
  /// inverse, and nothing is reordered.
  @ParameterizedTest
  @ValueSource(
      strings = {"paper-baseline", "paper-headwise", "paper-elementwise", "qwen3", "qwen3-yarn"})
  void savesTheReferencesBytes(String name) throws Exception {
    Path original = GOLDEN.resolve(name);
    assertTrue(Files.isDirectory(original), "missing: " + original);
    try (var decoder = load(original)) {
      ModelDirectory.write(directory, decoder);
    }
    assertSameFile(original.resolve("model.safetensors"), directory.resolve("model.safetensors"));
    Path again = Files.createDirectory(directory.resolve("again"));
    try (var decoder = load(directory)) {
      ModelDirectory.write(again, decoder);
    }
    assertSameFile(directory.resolve("config.json"), again.resolve("config.json"));
    assertSameFile(directory.resolve("model.safetensors"), again.resolve("model.safetensors"));
  }

  /// The same of the other families that are written, each in its own form; what it then reads is
  /// the same model.
  @ParameterizedTest
  @ValueSource(strings = {"qwen3-next", "qwen3.5", "qwen3.5-moe", "afmoe", "gpt-oss"})
  void savesTheReferencesBytesInItsOwnForm(String name) throws Exception {
    Path original = GOLDEN.resolve(name);
    var opened = ModelDirectory.open(original, Precision.FLOAT32, Device.CPU, false);
    try (var _ = opened.decoder()) {
      ModelDirectory.write(directory, opened);
    }
    assertSameFile(original.resolve("model.safetensors"), directory.resolve("model.safetensors"));
    var again = ModelConfig.read(directory);
    assertEquals(opened.config().decoder(), again.decoder());
    assertEquals(List.of(), again.notes());
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "sdpa-elementwise",
        "sdpa-headwise",
        "value-headwise",
        "query-elementwise",
        "dense-elementwise",
        "sdpa-elementwise-shared-additive-silu",
        "sdpa-headwise-input-independent",
        "sdpa-headwise-first*12",
        "sdpa-elementwise-rank*5",
        "value-headwise-from-value",
        "sdpa-elementwise-from-output",
        "sdpa-elementwise-bias*10.0",
        "sdpa-headwise-sigmoid*2.0-zero-init"
      })
  void everyGateSurvivesAndSaysWhatItIs(String gate) throws Exception {
    var config = tiny(Gate.parse(gate));
    float[] logits;
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(directory, decoder);
      logits = logits(decoder);
    }
    assertEquals(config, ModelConfig.read(directory).decoder());
    try (var decoder = load(directory)) {
      assertArrayEquals(logits, logits(decoder));
      assertRunsInPlace(directory, decoder);
    }
    boolean paper = gate.equals("sdpa-elementwise") || gate.equals("sdpa-headwise");
    String json = Files.readString(directory.resolve("config.json"));
    assertTrue(json.contains(paper ? "\"qwen3\"" : "\"sluice\""), json);
    assertTrue(paper || json.contains('"' + gate + '"'), json);
  }

  /// The same for what a model may have besides gates.
  @Test
  void everyVariantSurvivesAndSaysWhatItIs() throws Exception {
    var plain = tiny(Gate.SDPA_ELEMENTWISE);
    var variants = AttentionVariant.PLAIN;
    var configs =
        List.of(
            plain.with(variants.with(SoftmaxSink.LEARNED)),
            plain.with(variants.with(SoftmaxSink.OFF_BY_ONE)),
            plain.with(variants.withExclusive(true)),
            plain.with(variants.with(new SwitchHead(true, 4, 2))),
            plain.with(List.of()).with(variants.with(SdpaNonlinearity.RMS_NORM)),
            plain.with(List.of()).with(variants.with(SdpaNonlinearity.SILU)),
            plain.with(new ResidualVariant(true, 0, 0)),
            plain.with(new ResidualVariant(false, 0.25, 0)),
            plain.with(List.of()).with(new ResidualVariant(false, 0, 4)));
    for (var config : configs) {
      Path place = Files.createDirectory(directory.resolve("v" + configs.indexOf(config)));
      float[] logits;
      try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
        ModelDirectory.write(place, decoder);
        logits = logits(decoder);
      }
      assertEquals(config, ModelConfig.read(place).decoder());
      try (var decoder = load(place)) {
        assertArrayEquals(logits, logits(decoder));
      }
      assertTrue(Files.readString(place.resolve("config.json")).contains("\"sluice\""));
    }
  }

  /// Hybrids and windows as settings make them.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "gdn,attention sdpa-headwise 0 sluice",
        "gdn,sliding,gdn,attention none 5 sluice",
        "sliding,attention sdpa-elementwise 6 qwen3",
        "attention none 7 qwen3",
        "gdn none 0 sluice"
      })
  void everyPatternSurvives(String words) throws Exception {
    String[] word = words.split(" ");
    var settings =
        Map.of(
            "layers_pattern",
            word[0],
            "gate",
            word[1],
            "sliding_window",
            word[2],
            "hidden_size",
            "32",
            "intermediate_size",
            "40",
            "head_dim",
            "8");
    var config = RunConfig.from(null, settings).decoder(101);
    float[] logits;
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(directory, decoder);
      logits = logits(decoder);
    }
    var read = ModelConfig.read(directory);
    assertEquals(config, read.decoder());
    assertEquals(List.of(), read.notes());
    try (var decoder = load(directory)) {
      assertArrayEquals(logits, logits(decoder));
      assertRunsInPlace(directory, decoder);
    }
    String json = Files.readString(directory.resolve("config.json"));
    assertTrue(json.contains("\"model_type\" : \"" + word[3] + "\""), json);
  }

  /// All packings of the same weights are the same model; mixed up, they are not.
  @ParameterizedTest
  @EnumSource(Granularity.class)
  void packingsAgree(Granularity granularity) throws Exception {
    var config = tiny(Gate.SDPA_ELEMENTWISE.with(granularity));
    var perHead = new ModelConfig(config, new Qwen3(), GatePacking.QUERY_HEAD);
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3);
        var _ = Scope.withoutGradient()) {
      // row by row, from the definition of the packing: head j is [H query rows | its gate rows]
      List<SafetensorsFile.Entry> entries = new ArrayList<>();
      int gateRows = granularity == Granularity.HEADWISE ? 1 : config.attention().headDim();
      for (var parameter : decoder.parameters().all().entrySet()) {
        String name = parameter.getKey();
        if (name.contains(".gates.")) {
          continue;
        }
        var tensor = parameter.getValue().detach();
        if (name.endsWith("q_proj.weight")) {
          var gate = decoder.parameters().get(name.replace("q_proj.weight", "gates.sdpa.weight"));
          List<Tensor> rows = new ArrayList<>();
          for (int head = 0; head < config.attention().attentionHeads(); head++) {
            rows.add(
                tensor.narrow(
                    0, (long) head * config.attention().headDim(), config.attention().headDim()));
            rows.add(gate.detach().narrow(0, (long) head * gateRows, gateRows));
          }
          tensor = Tensor.concatenate(rows, 0);
        }
        entries.add(
            new SafetensorsFile.Entry(
                name,
                ElementType.FLOAT32,
                Arrays.stream(tensor.shape()).boxed().toList(),
                tensor.memory()));
      }
      perHead.write(directory, null);
      SafetensorsWriter.write(directory.resolve("model.safetensors"), Map.of(), entries);
      try (var loaded = load(directory)) {
        assertArrayEquals(logits(decoder), logits(loaded));
        assertRunsInPlace(directory, loaded);
      }
      new ModelConfig(config, new Qwen3(), GatePacking.KEY_VALUE_GROUP).write(directory, null);
      try (var loaded = load(directory)) {
        assertTrue(!Arrays.equals(logits(decoder), logits(loaded)), "packings must differ");
      }
    }
  }

  @Test
  void anAmbiguousShapeNamesTheChoices() throws Exception {
    try (var decoder =
        Decoder.initialize(tiny(Gate.SDPA_ELEMENTWISE), Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(directory, decoder);
    }
    Path file = directory.resolve("config.json");
    Files.writeString(
        file,
        Files.readString(file)
            .replace(
                "\"elementwise_attn_output_gate\" : true",
                "\"elementwise_attn_output_gate\" : false"));
    var e = assertThrows(InvalidInputException.class, () -> load(directory).close());
    assertTrue(e.getMessage().contains("key_value_group or query_head"), e.getMessage());
    assertTrue(
        e.getMessage().contains("[192, 48]") && e.getMessage().contains("[96, 48]"),
        e.getMessage());
  }

  /// The packing of one gate at another position is refused by name, not read wrongly.
  @Test
  void onlyTheGateAfterAttentionIsPacked() {
    var config = tiny(Gate.SDPA_ELEMENTWISE.with(GatePosition.VALUE));
    assertEquals(GatePacking.SEPARATE, ModelConfig.of(config).packing());
  }

  private static DecoderConfig tiny(Gate gate) {
    var tiny = Decoders.TINY;
    return DecoderConfig.uniform(
        101,
        48,
        80,
        2,
        6,
        2,
        16,
        tiny.maxPositionEmbeddings(),
        tiny.attention().positions().rotary().orElseThrow().theta(),
        tiny.attention().positions().rotary().orElseThrow().scaling(),
        tiny.norm().epsilon(),
        true,
        true,
        0.2,
        List.of(gate));
  }

  private static Decoder load(Path directory) {
    return ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false);
  }

  private static float[] logits(Decoder decoder) {
    return logits(decoder, 5, 3, 99, 0, 7, 7, 12, 41);
  }

  private static float[] logits(Decoder decoder, long... tokens) {
    try (var _ = Scope.withoutGradient()) {
      var ids = Tensor.of(tokens, 1, tokens.length);
      return decoder.logits(decoder.hiddenStates(ids, null, Probe.NONE)).floats();
    }
  }

  /// The model whose matrices stay in the file is the same one, whether it takes few tokens at a
  /// time or many.
  private static void assertRunsInPlace(Path directory, Decoder decoder) {
    long[] many = LongStream.range(0, 37).map(i -> i * i % 101).toArray();
    try (var inPlace = ModelDirectory.openInPlace(directory, Precision.FLOAT32).decoder()) {
      assertTrue(inPlace.parameters().weights().values().stream().anyMatch(Weight::isStored));
      assertArrayEquals(logits(decoder), logits(inPlace), 1e-5f);
      assertArrayEquals(logits(decoder, many), logits(inPlace, many), 1e-5f);
      assertThrows(IllegalStateException.class, () -> inPlace.parameters().all());
    }
  }

  private static void assertSameFile(Path expected, Path actual) throws Exception {
    assertEquals(-1, Files.mismatch(expected, actual), actual + " differs from " + expected);
  }
}
