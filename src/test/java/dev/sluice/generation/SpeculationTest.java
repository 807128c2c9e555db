package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.TinyCheckpoints;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.json.JsonMapper;

/// Texts with drafts against texts without: each token, each logit and each number that is kept,
/// bit for bit.
class SpeculationTest {
  private static final Path MTP = Path.of("src/test/resources/mtp");
  private static final Path CHECKPOINT = MTP.resolve("checkpoint");
  private static final int[] PROMPT = {3, 17, 0, 22, 9, 9, 4, 13, 1};

  /// Tokens that may come, so few that a random head is right now and then.
  private static final Set<Integer> FEW = Set.of(2, 5, 19);

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  private static Decoder open(Path directory, Precision precision) {
    // the numbers of this model are in no blocks
    return open(directory, precision, precision == Precision.INT8 ? "q8_0" : null);
  }

  private static Decoder open(Path directory, Precision precision, @Nullable String weights) {
    assumeTrue(
        precision != Precision.INT8 || MachineProducts.here() != null, "needs AVX-512 with VNNI");
    return ModelDirectory.openInPlace(
            directory, precision, weights, true, Conversion.Listener.NOBODY)
        .decoder();
  }

  // ---------------------------------------------------------------- two positions at once

  /// All that a model keeps of a sequence.
  private static List<float[]> kept(Decoder decoder, SequenceState state, Slot slot) {
    var past = state.past(slot);
    past.begin(1, 0);
    List<float[]> kept = new ArrayList<>();
    var layers = decoder.config().layers();
    var like = Tensor.zeros(ElementType.FLOAT32, 1);
    for (int layer = 0; layer < layers.size(); layer++) {
      switch (layers.get(layer).mixer()) {
        case MixerConfig.SoftmaxAttention(var attention) -> {
          var none =
              Tensor.zeros(
                  ElementType.FLOAT32, 1, attention.keyValueHeads(), 0, attention.headDim());
          kept.add(past.keys(layer, 0, none).floats());
          kept.add(past.values(layer, 0, none).floats());
        }
        case MixerConfig.DeltaNet(var net) -> {
          var heads = net.heads();
          var type = decoder.precision().elementType();
          kept.add(
              past.recurrent(
                      layer,
                      "convolution",
                      like,
                      type,
                      net.convolutionWidth() - 1,
                      heads.channels())
                  .getFirst()
                  .floats());
          kept.add(
              past.recurrent(
                      layer,
                      "memory",
                      like,
                      ElementType.FLOAT32,
                      heads.valueHeads(),
                      heads.keyWidth(),
                      heads.valueWidth())
                  .getFirst()
                  .floats());
        }
      }
    }
    past.advance(0);
    return kept;
  }

  private static void assertSame(List<float[]> expected, List<float[]> found, String what) {
    assertEquals(expected.size(), found.size());
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), found.get(i), what + " " + i);
    }
  }

  /// Two tokens at once leave what one after the other leave; the second taken back, what the first
  /// leaves.
  @ParameterizedTest
  @CsvSource({
    "qwen3-next, FLOAT32",
    "qwen3-next, BFLOAT16",
    "qwen3.5, FLOAT32",
    "qwen3.5-moe, FLOAT32"
  })
  void twoAtOnceAreOneAfterTheOther(String model, Precision precision) {
    twoAtOnceAreOneAfterTheOther(
        ModelDirectory.openInPlace(TestData.GOLDEN.resolve(model), precision).decoder());
  }

  /// Libtorch computes the last of many numbers in another way than the first, and 16 heads of two
  /// tokens are many.
  @Test
  void ofManyHeadsToo(@TempDir Path directory) throws IOException {
    var norm = new RmsNorm(1e-6);
    var feedForward = new FeedForwardConfig(16, 24, Experts.NONE);
    var deltaNet = new GatedDeltaNetConfig(16, new DeltaHeads(2, 16, 4, 4), 4, 1e-6);
    var attention =
        new AttentionConfig(16, 4, 2, 8, true, norm, new Rotary(1e4, new RopeScaling.None()))
            .with(List.of(Gate.SDPA_ELEMENTWISE));
    var layers =
        List.of(
            new LayerConfig(new MixerConfig.DeltaNet(deltaNet), feedForward, ResidualVariant.PLAIN),
            new LayerConfig(attention, feedForward, ResidualVariant.PLAIN));
    var config = new DecoderConfig(100, 16, layers, 64, norm, false, 0.5, 1);
    try (var made = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3)) {
      ModelDirectory.write(directory, made);
    }
    twoAtOnceAreOneAfterTheOther(
        ModelDirectory.openInPlace(directory, Precision.FLOAT32).decoder());
  }

  private static void twoAtOnceAreOneAfterTheOther(Decoder decoder) {
    try (decoder;
        var alone = new SequenceState(1, 40);
        var twice = new SequenceState(1, 40);
        var _ = Scope.withoutGradient()) {
      var random = new SplittableRandom(7);
      var one = alone.take();
      var two = twice.take();
      long[] prompt = random.longs(13, 0, 90).toArray();
      decoder.hiddenStates(Tensor.of(prompt, 1, 13), alone.past(one), Probe.NONE);
      decoder.hiddenStates(Tensor.of(prompt, 1, 13), twice.past(two), Probe.NONE);
      for (int i = 0; i < 6; i++) {
        long[] both = random.longs(2, 0, 90).toArray();
        var hidden = decoder.hiddenStates(Tensor.of(both, 1, 2), twice.tentative(two), Probe.NONE);
        var logits = decoder.logits(hidden);
        boolean right = random.nextBoolean();
        for (int t = 0; t < (right ? 2 : 1); t++) {
          var single =
              decoder.hiddenStates(
                  Tensor.of(new long[] {both[t]}, 1, 1), alone.past(one), Probe.NONE);
          String what = "step " + i + ", position " + t;
          assertArrayEquals(single.floats(), hidden.narrow(1, t, 1).floats(), what);
          assertArrayEquals(decoder.logits(single).floats(), logits.narrow(1, t, 1).floats(), what);
        }
        if (!right) {
          twice.retract(two);
        }
        assertEquals(one.length(), two.length());
        assertSame(kept(decoder, alone, one), kept(decoder, twice, two), "after step " + i);
      }
    }
  }

  // ---------------------------------------------------------------- texts

  /// A text with all that its listener heard.
  private record Text(Generation generation, List<float[]> logits) {
    void expect(Text same, String what) {
      assertEquals(generation.tokens(), same.generation.tokens(), what);
      assertEquals(generation.ending(), same.generation.ending(), what);
      assertEquals(generation.cachedTokens(), same.generation.cachedTokens(), what);
      assertSame(logits, same.logits, what);
    }
  }

  private static Text text(
      Generator generator, Prompt prompt, Choice choice, int most, Set<Integer> stops, int wanted) {
    List<float[]> logits = new ArrayList<>();
    var generation =
        generator
            .generate(
                prompt,
                choice,
                most,
                stops,
                1,
                (_, _, all) -> {
                  logits.add(all.clone());
                  return logits.size() < wanted;
                })
            .getFirst();
    return new Text(generation, logits);
  }

  private static LogitAdjustments fewTokens(Decoder decoder) {
    return new LogitAdjustments(
        1.1,
        0.1,
        0.2,
        IntStream.range(0, decoder.config().vocabSize())
            .boxed()
            .filter(id -> !FEW.contains(id))
            .collect(Collectors.toMap(id -> id, _ -> Double.NEGATIVE_INFINITY)));
  }

  @ParameterizedTest
  @EnumSource(Precision.class)
  void textsAreTheSame(Precision precision) {
    assertTextsAreTheSame(open(CHECKPOINT, precision), 0, 1.2);
  }

  /// Heads with experts, each by itself and all in one tensor.
  @ParameterizedTest
  @ValueSource(strings = {"qwen3-next", "qwen3.5-moe"})
  void textsOfMixturesAreTheSame(String model) {
    assertTextsAreTheSame(open(MTP.resolve(model), Precision.FLOAT32), 0, 1.2);
  }

  /// The same with weights of four bits, whose products have kernels of their own.
  @ParameterizedTest
  @CsvSource({"qwen3-next, false, FLOAT32", "qwen3.5-moe, true, INT8"})
  void textsOfMixturesInBlocksAreTheSame(
      String model, boolean together, Precision precision, @TempDir Path directory)
      throws IOException {
    TinyCheckpoints.write(directory, TinyCheckpoints.wholeBlocks(model), together, true);
    var decoder = open(directory, precision, "q4_k");
    for (String name : List.of("mtp.fc", "model.layers.2.mlp.experts.3.down_proj")) {
      var stored = decoder.parameters().weight(name + ".weight").stored();
      assertEquals(WeightFormat.Q4_K, Objects.requireNonNull(stored).format(), name);
    }
    assertTextsAreTheSame(decoder, 1.2);
  }

  private static void assertTextsAreTheSame(Decoder opened, double... temperatures) {
    try (var decoder = opened) {
      var plain = new Generator(decoder, 4);
      var drafting = new Generator(decoder, 4, new MultiTokenPrediction(decoder));
      int drafted = 0;
      int accepted = 0;
      for (var adjustments : List.of(LogitAdjustments.NONE, fewTokens(decoder))) {
        for (double temperature : temperatures) {
          var choice = new Choice(new Sampler(temperature, 0, 0.95, 3), adjustments);
          for (int most : new int[] {1, 2, 3, 25}) {
            var expected = text(plain, Prompt.of(PROMPT), choice, most, Set.of(), 99);
            var found = text(drafting, Prompt.of(PROMPT), choice, most, Set.of(), 99);
            expected.expect(found, most + " tokens");
            drafted += found.generation.drafted();
            accepted += found.generation.accepted();
            assertEquals(0, expected.generation.drafted());
          }
          for (int end = 1; end < 5; end++) {
            var caller = text(plain, Prompt.of(PROMPT), choice, 9, Set.of(), end);
            caller.expect(
                text(drafting, Prompt.of(PROMPT), choice, 9, Set.of(), end), "stopped at " + end);
            var stops = Set.of(caller.generation.tokens().getLast());
            text(plain, Prompt.of(PROMPT), choice, 9, stops, 99)
                .expect(text(drafting, Prompt.of(PROMPT), choice, 9, stops, 99), "stop token");
          }
        }
      }
      assertTrue(accepted > 5 && drafted - accepted > 10, accepted + " of " + drafted);
    }
  }

  /// A restriction that counts what it is told.
  private static final class Alternating implements Restriction {
    private final List<Integer> heard = new ArrayList<>();

    @Override
    public void restrict(float[] logits) {
      for (int id = 0; id < logits.length; id++) {
        if (!FEW.contains(id) || (!heard.isEmpty() && heard.getLast() == id)) {
          logits[id] = Float.NEGATIVE_INFINITY;
        }
      }
    }

    @Override
    public void chosen(int token) {
      heard.add(token);
    }
  }

  @Test
  void restrictionsHearEachTokenOnce() {
    try (var decoder = open(CHECKPOINT, Precision.FLOAT32)) {
      var heard = new ArrayList<List<Integer>>();
      for (var head : new MultiTokenPrediction[] {null, new MultiTokenPrediction(decoder)}) {
        var restriction = new Alternating();
        var choice = new Choice(Sampler.GREEDY, LogitAdjustments.NONE, _ -> restriction);
        var text =
            text(new Generator(decoder, 4, head), Prompt.of(PROMPT), choice, 50, Set.of(), 99);
        assertEquals(text.generation.tokens(), restriction.heard);
        heard.add(restriction.heard);
        assertTrue(head == null || text.generation.accepted() > 3);
      }
      assertEquals(heard.getFirst(), heard.getLast());
    }
  }

  /// What one of them has read, the other goes on from, and both leave the same.
  @Test
  void cachesAreTheSame() {
    try (var decoder = open(CHECKPOINT, Precision.FLOAT32)) {
      var choice = new Choice(Sampler.GREEDY, fewTokens(decoder));
      var head = new MultiTokenPrediction(decoder);
      List<Text> texts = new ArrayList<>();
      for (var drafts : new MultiTokenPrediction[] {null, head}) {
        var generator = new Generator(decoder, 4, drafts);
        try (var cache = new PrefixCache("", 1 << 24)) {
          var prompt = new Prompt(PROMPT, new int[] {5}, cache, Reuse.LONGEST);
          var first = text(generator, prompt, choice, 12, Set.of(), 99);
          int[] longer =
              IntStream.concat(
                      IntStream.of(PROMPT),
                      IntStream.concat(
                          IntStream.of(first.generation.ids()), IntStream.of(4, 8, 15)))
                  .toArray();
          texts.add(first);
          texts.add(
              text(
                  generator,
                  new Prompt(longer, new int[] {5}, cache, Reuse.LONGEST),
                  choice,
                  12,
                  Set.of(),
                  99));
        }
      }
      texts.get(0).expect(texts.get(2), "first turn");
      texts.get(1).expect(texts.get(3), "second turn");
      assertTrue(texts.get(3).generation.cachedTokens() > PROMPT.length);
      assertTrue(texts.get(3).generation.accepted() > 0);
    }
  }

  @Test
  void severalTextsAreRefused() {
    try (var decoder = open(CHECKPOINT, Precision.FLOAT32)) {
      var generator = new Generator(decoder, 4, new MultiTokenPrediction(decoder));
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () ->
                  generator.generate(
                      Prompt.of(PROMPT),
                      new Choice(Sampler.GREEDY),
                      3,
                      Set.of(),
                      2,
                      (_, _, _) -> true));
      assertTrue(refusal.getMessage().startsWith("2 texts at once"), refusal.getMessage());
    }
  }

  // ---------------------------------------------------------------- heads that know

  /// A copy of the checkpoint with other numbers.
  private static Path changed(Path directory, Consumer<Map<String, FloatBuffer>> change)
      throws IOException {
    var bytes =
        ByteBuffer.wrap(Files.readAllBytes(CHECKPOINT.resolve("model.safetensors")))
            .order(ByteOrder.LITTLE_ENDIAN);
    int header = Math.toIntExact(bytes.getLong(0));
    var json =
        new JsonMapper().readTree(new String(bytes.array(), 8, header, StandardCharsets.UTF_8));
    Map<String, FloatBuffer> tensors = new HashMap<>();
    json.forEachEntry(
        (name, entry) -> {
          var offsets = entry.get("data_offsets");
          if (offsets != null) {
            int begin = offsets.get(0).intValue();
            tensors.put(
                name,
                bytes
                    .slice(8 + header + begin, offsets.get(1).intValue() - begin)
                    .order(ByteOrder.LITTLE_ENDIAN)
                    .asFloatBuffer());
          }
        });
    change.accept(tensors);
    Files.write(directory.resolve("model.safetensors"), bytes.array());
    Files.copy(CHECKPOINT.resolve("config.json"), directory.resolve("config.json"));
    return directory;
  }

  private static void fill(FloatBuffer tensor, float value) {
    for (int i = 0; i < tensor.capacity(); i++) {
      tensor.put(i, value);
    }
  }

  /// A model whose next token depends on the last one alone, since its layers add nothing, and a
  /// head that computes the same, or the opposite.
  @ParameterizedTest
  @CsvSource({"1", "-1"})
  void headsThatAreAlwaysOrNeverRight(int sign, @TempDir Path directory) throws IOException {
    var path =
        changed(
            directory,
            tensors -> {
              tensors.forEach(
                  (name, tensor) -> {
                    if (name.matches(".*\\.(o_proj|out_proj|down_proj)\\.weight|mtp\\.pre.*")) {
                      fill(tensor, 0);
                    }
                  });
              tensors.get("mtp.norm.weight").put(0, tensors.get("model.norm.weight"), 0, 32);
              var projection = tensors.get("mtp.fc.weight");
              fill(projection, 0);
              for (int i = 0; i < 32; i++) {
                projection.put(i * 64 + i, sign);
              }
            });
    try (var decoder = open(path, Precision.FLOAT32)) {
      var drafting = new Generator(decoder, 4, new MultiTokenPrediction(decoder));
      var choice = new Choice(Sampler.GREEDY);
      var expected = text(new Generator(decoder, 4), Prompt.of(PROMPT), choice, 41, Set.of(), 99);
      var found = text(drafting, Prompt.of(PROMPT), choice, 41, Set.of(), 99);
      expected.expect(found, "all right or wrong");
      assertEquals(sign > 0 ? 20 : 39, found.generation.drafted());
      assertEquals(sign > 0 ? 20 : 0, found.generation.accepted());
    }
  }
}
