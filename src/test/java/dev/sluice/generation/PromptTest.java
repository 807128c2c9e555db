package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

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
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// Answers to prompts with a cache against those without.
class PromptTest {
  private static final int HIDDEN = 32;
  private static final int VOCABULARY = 50;
  private static final int[] NO_TURNS = {};

  /// How many tokens a hit leaves to be read: the fewest, and around a chunk of the delta rule.
  private static final int[] REMAINDERS = {1, 2, 63, 64, 65};

  private enum Model {
    PLAIN,
    GATED,
    WINDOWS,
    HYBRID;

    Decoder decoder(Precision precision) {
      var norm = new RmsNorm(1e-6);
      var feedForward = new FeedForwardConfig(HIDDEN, 48, Experts.NONE);
      var attention =
          new LayerConfig(
              new AttentionConfig(
                      HIDDEN, 4, 2, 8, true, norm, new Rotary(1e4, new RopeScaling.None()))
                  .with(this == PLAIN ? List.of() : List.of(Gate.SDPA_ELEMENTWISE)),
              feedForward,
              ResidualVariant.PLAIN);
      var deltaNet =
          new LayerConfig(
              new MixerConfig.DeltaNet(
                  new GatedDeltaNetConfig(HIDDEN, new DeltaHeads(2, 4, 8, 8), 4, 1e-6)),
              feedForward,
              ResidualVariant.PLAIN);
      var layers =
          this == HYBRID ? List.of(deltaNet, attention, deltaNet) : List.of(attention, attention);
      var config = new DecoderConfig(VOCABULARY, HIDDEN, layers, 512, norm, false, 0.3, 1);
      return Decoder.initialize(
          this == WINDOWS
              ? config.mapAttention(each -> each.with(each.positions().withWindow(40)))
              : config,
          precision,
          Device.CPU,
          5);
    }
  }

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  private static int[] tokens(int count, long seed) {
    return new SplittableRandom(seed).ints(count, 0, VOCABULARY).toArray();
  }

  private static int[] joined(int[] first, int... second) {
    int[] both = Arrays.copyOf(first, first.length + second.length);
    System.arraycopy(second, 0, both, first.length, second.length);
    return both;
  }

  /// An answer with the logits from which each token was chosen.
  private record Answer(Generation generation, List<float[]> logits) {
    void expect(Answer same, String what) {
      assertEquals(generation.tokens(), same.generation.tokens(), what);
      for (int i = 0; i < logits.size(); i++) {
        assertArrayEquals(logits.get(i), same.logits.get(i), what);
      }
    }
  }

  private static Answer answer(Generator generator, Prompt prompt, int tokens) {
    var logits = new ArrayList<float[]>();
    var generation =
        generator
            .generate(
                prompt,
                new Choice(Sampler.GREEDY),
                tokens,
                Set.of(),
                1,
                (_, _, all) -> logits.add(all))
            .getFirst();
    return new Answer(generation, logits);
  }

  /// A text that goes on in another way after some tokens.
  private static int[] otherwise(int[] ids, int from) {
    int[] other = joined(Arrays.copyOf(ids, from), tokens(7, 2));
    other[from] = (ids[from] + 1) % VOCABULARY;
    return other;
  }

  private static Answer without(Generator generator, int[] ids, int... turns) {
    return answer(generator, new Prompt(ids, turns, null, Reuse.EXACT), 2);
  }

  private static Answer with(
      Generator generator, PrefixCache cache, Reuse reuse, int[] ids, int... turns) {
    return answer(generator, new Prompt(ids, turns, cache, reuse), 2);
  }

  /// What is read after a hit has the bits that it has when all is read, whatever was cached
  /// before.
  @ParameterizedTest
  @EnumSource(Model.class)
  void hitIsMissBitForBit(Model model) {
    int[] ids = tokens(140, 1);
    var precisions =
        model == Model.HYBRID
            ? new Precision[] {Precision.FLOAT32, Precision.BFLOAT16}
            : new Precision[] {Precision.FLOAT32};
    for (var precision : precisions) {
      try (var decoder = model.decoder(precision);
          var shared = new PrefixCache("", 1 << 24)) {
        var generator = new Generator(decoder, 64);
        with(generator, shared, Reuse.LONGEST, Arrays.copyOf(ids, 130), 40);
        for (int remainder : REMAINDERS) {
          String what = precision + " with " + remainder + " left";
          int turn = ids.length - remainder;
          var miss = without(generator, ids, turn);
          try (var cache = new PrefixCache("", 1 << 24)) {
            int[] other = otherwise(ids, turn);
            with(generator, cache, Reuse.LONGEST, other, turn);
            var hit = with(generator, cache, Reuse.EXACT, ids, turn);
            assertEquals(turn, hit.generation.cachedTokens(), what);
            miss.expect(hit, what);
            // The same prompt again: one token is left.
            var again = with(generator, cache, Reuse.LONGEST, ids, turn);
            assertEquals(ids.length - 1, again.generation.cachedTokens(), what);
            miss.expect(again, what);
          }
          // Among what is cut elsewhere.
          miss.expect(with(generator, shared, Reuse.EXACT, ids, turn), what);
        }
      }
    }
  }

  /// Why passes have to be the same: a text in other pieces has other bits.
  @Test
  void otherPassesHaveOtherBits() {
    int[] ids = tokens(150, 1);
    try (var decoder = Model.HYBRID.decoder(Precision.FLOAT32)) {
      var generator = new Generator(decoder, 64);
      boolean same =
          Arrays.equals(
              without(generator, ids, 33).logits.getFirst(),
              without(generator, ids, 50).logits.getFirst());
      assertFalse(same);
    }
  }

  /// The same with weights that stay in blocks, inputs of a byte, keys and values of 16 bits, and a
  /// cache that was saved and loaded: of few rows and many, products, attention and the delta rule
  /// take other ways there than with weights of float32.
  @ParameterizedTest
  @CsvSource({
    "qwen3.5, q8_0, FLOAT32, FLOAT32",
    "qwen3.5, q4_0, FLOAT32, BFLOAT16",
    "qwen3.5, q4_k, INT8, FLOAT32",
    "qwen3.5, , BFLOAT16, BFLOAT16",
    "qwen3.5-moe, q8_0, INT8, BFLOAT16",
    "qwen3.5-moe, q4_0, FLOAT32, FLOAT32",
    "qwen3.5-moe, q4_k, FLOAT32, BFLOAT16"
  })
  void storedWeightsToo(
      String model,
      @Nullable String weights,
      Precision precision,
      ElementType keysAndValues,
      @TempDir Path directory)
      throws IOException {
    assumeTrue(
        precision != Precision.INT8 || MachineProducts.here() != null, "needs AVX-512 with VNNI");
    TinyCheckpoints.write(directory, TinyCheckpoints.wholeBlocks(model), true, false);
    int[] ids = tokens(140, 3);
    try (var decoder =
        ModelDirectory.openInPlace(directory, precision, weights, false, Conversion.Listener.NOBODY)
            .decoder()) {
      decoder.keepKeysAndValuesIn(keysAndValues);
      var generator = new Generator(decoder, 64);
      for (int remainder : REMAINDERS) {
        Path saved = directory.resolve("saved" + remainder);
        String what = remainder + " left";
        int turn = ids.length - remainder;
        var miss = without(generator, ids, turn);
        try (var cache = new PrefixCache("", 1 << 24)) {
          with(generator, cache, Reuse.LONGEST, otherwise(ids, turn), turn);
          cache.save(saved);
          var hit = with(generator, cache, Reuse.EXACT, ids, turn);
          assertEquals(turn, hit.generation.cachedTokens(), what);
          miss.expect(hit, what);
          var again = with(generator, cache, Reuse.LONGEST, ids, turn);
          assertEquals(ids.length - 1, again.generation.cachedTokens(), what);
          miss.expect(again, what + ", again");
        }
        try (var loaded = generator.loadPrefixes(saved, "", 1 << 24)) {
          var hit = with(generator, loaded, Reuse.EXACT, ids, turn);
          assertEquals(turn, hit.generation.cachedTokens(), what);
          miss.expect(hit, what + ", saved and loaded");
        }
      }
    }
  }

  /// With the longest beginning an answer is not read again, and the bits are those of a program
  /// that went on from it; without, they are those of the prompt.
  @ParameterizedTest
  @EnumSource(Model.class)
  void aConversationGoesOn(Model model, @TempDir Path directory) throws IOException {
    try (var decoder = model.decoder(Precision.FLOAT32);
        var cache = new PrefixCache("", 1 << 24);
        var exact = new PrefixCache("", 1 << 24)) {
      var generator = new Generator(decoder);
      int[] first = tokens(70, 4);
      var asked = new Prompt(first, new int[] {10, 60}, cache, Reuse.LONGEST);
      var answer = answer(generator, asked, 5).generation;
      with(generator, exact, Reuse.EXACT, first, 10, 60);
      int[] told = joined(first, answer.ids());
      int[] second = joined(told, tokens(40, 5));
      int[] turns = {10, 60, told.length + 2, second.length - 4};
      int read = told.length - 1; // the last token of an answer is chosen and not read
      cache.save(directory.resolve("saved"));

      var longest = with(generator, cache, Reuse.LONGEST, second, turns);
      assertEquals(read, longest.generation.cachedTokens());
      assertArrayEquals(
          goingOn(decoder, second, read, turns[2], turns[3]), longest.logits.getFirst());
      try (var loaded = generator.loadPrefixes(directory.resolve("saved"), "", 1 << 24)) {
        var afterRestart = with(generator, loaded, Reuse.LONGEST, second, turns);
        assertEquals(read, afterRestart.generation.cachedTokens());
        longest.expect(afterRestart, "after a restart");
      }
      var fromPrompt = with(generator, exact, Reuse.EXACT, second, turns);
      assertEquals(60, fromPrompt.generation.cachedTokens());
      without(generator, second, turns).expect(fromPrompt, "exact");

      // The answer was shortened before it was told again.
      int[] edited = joined(Arrays.copyOf(told, 71), tokens(20, 6));
      assertEquals(
          model == Model.HYBRID ? 69 : 71 + common(told, edited, 71),
          with(generator, cache, Reuse.LONGEST, edited, 10, 60).generation.cachedTokens());
    }
  }

  /// How many tokens more two texts have in common.
  private static int common(int[] one, int[] other, int from) {
    int at = from;
    while (at < Math.min(one.length, other.length) && one[at] == other[at]) {
      at++;
    }
    return at - from;
  }

  /// The logits after a text that begins with a prompt of 70 tokens in turns and its answer.
  private static float[] goingOn(Decoder decoder, int[] ids, int read, int... turns) {
    int[] ends = {10, 60, 69};
    for (int end = 70; end <= read; end++) {
      ends = joined(ends, end);
    }
    ends = joined(joined(ends, turns), ids.length - 1, ids.length);
    try (var state = new SequenceState(1, ids.length);
        var _ = Scope.withoutGradient()) {
      var past = state.past(state.take());
      Tensor hidden = null;
      int from = 0;
      for (int end : ends) {
        long[] piece = Arrays.stream(ids, from, end).asLongStream().toArray();
        hidden = decoder.hiddenStates(Tensor.of(piece, 1, piece.length), past, Probe.NONE);
        from = end;
      }
      return decoder.logits(Objects.requireNonNull(hidden)).floats();
    }
  }

  /// Passes end before turns, before the last token and after a piece.
  @Test
  void passesDependOnThePromptAlone() {
    assertArrayEquals(new int[] {}, ends(1, 8));
    assertArrayEquals(new int[] {1}, ends(2, 8));
    assertArrayEquals(new int[] {8, 9}, ends(10, 8));
    assertArrayEquals(new int[] {8, 16}, ends(17, 8));
    assertArrayEquals(new int[] {3, 11, 12, 15}, ends(16, 8, 12, 3, 3, 16, 40, 0, -7));
    assertArrayEquals(new int[] {15}, ends(16, 2048, 15));
    assertArrayEquals(new int[] {8, 16}, Prompt.of(new int[20]).ends(8));
    assertArrayEquals(new int[] {8}, Prompt.of(new int[16]).ends(8));
    assertArrayEquals(new int[] {}, Prompt.of(new int[8]).ends(8));
  }

  private static int[] ends(int tokens, int piece, int... turns) {
    return new Prompt(new int[tokens], turns, null, Reuse.EXACT).ends(piece);
  }

  /// Several answers share what was read, and each is kept.
  @Test
  void severalAnswers() {
    try (var decoder = Model.HYBRID.decoder(Precision.FLOAT32);
        var cache = new PrefixCache("", 1 << 24)) {
      var generator = new Generator(decoder);
      int[] ids = tokens(20, 8);
      var answers =
          generator.generate(
              new Prompt(ids, NO_TURNS, cache, Reuse.LONGEST),
              new Choice(new Sampler(1, 0, 1, 3)),
              6,
              Set.of(),
              3,
              (_, _, _) -> true);
      for (var each : answers) {
        int[] told = joined(ids, each.ids());
        int cached = with(generator, cache, Reuse.LONGEST, told).generation.cachedTokens();
        assertEquals(told.length - 1, cached);
      }
      assertTrue(cache.bytes() > 0);
    }
  }
}
