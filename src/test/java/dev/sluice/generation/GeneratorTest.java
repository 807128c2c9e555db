package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GeneratorTest {
  private static final int[] PROMPT = {3, 1, 4, 1, 5};

  @ParameterizedTest
  @ValueSource(strings = {"none", "sdpa-headwise", "sdpa-elementwise"})
  void cacheChangesNoToken(String gate) {
    Gate[] gates = gate.equals("none") ? new Gate[0] : new Gate[] {Gate.parse(gate)};
    try (var decoder = TinyDecoders.random(gates)) {
      var generator = new Generator(decoder);
      Set<Integer> seen = new HashSet<>();
      for (int[] prompt : new int[][] {{7}, {18, 2}, PROMPT}) {
        int[] expected = generator.greedyWithoutCache(prompt, 30);
        var generation = generator.generate(prompt, Sampler.GREEDY, 30, Set.of());
        assertArrayEquals(expected, generation.ids());
        assertEquals(Ending.LENGTH, generation.ending());
        seen.addAll(generation.tokens());
      }
      assertTrue(seen.size() > 4, "too dull to tell anything: " + seen);
    }
  }

  /// The twelve greedy tokens that the reference implementations answer.
  @ParameterizedTest
  @ValueSource(
      strings = {"paper-baseline", "paper-headwise", "paper-elementwise", "qwen3", "qwen3-yarn"})
  void referenceModelsContinueLikeTheReference(String model) {
    var directory = TestData.GOLDEN.resolve(model);
    try (var file = SafetensorsFile.open(directory.resolve("golden.safetensors"));
        var decoder = ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false)) {
      int promptTokens = Integer.parseInt(file.metadata().get("prompt_tokens"));
      int[][] texts = rows(file.entry("input_ids"));
      int[][] expected = rows(file.entry("greedy"));
      var generator = new Generator(decoder);
      for (int row = 0; row < texts.length; row++) {
        int[] prompt = Arrays.copyOf(texts[row], promptTokens);
        var generation = generator.generate(prompt, Sampler.GREEDY, expected[row].length, Set.of());
        assertArrayEquals(expected[row], generation.ids());
        assertArrayEquals(
            expected[row], generator.greedyWithoutCache(prompt, expected[row].length));
      }
    }
  }

  private static int[][] rows(SafetensorsFile.Entry entry) {
    int columns = Math.toIntExact(entry.shape().getLast());
    int[][] rows = new int[Math.toIntExact(entry.shape().getFirst())][columns];
    for (int i = 0; i < rows.length * columns; i++) {
      rows[i / columns][i % columns] =
          (int) entry.data().getAtIndex(ValueLayout.JAVA_LONG_UNALIGNED, i);
    }
    return rows;
  }

  @Test
  void oneCandidateIsGreedy() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      var generator = new Generator(decoder);
      var greedy = generator.generate(PROMPT, Sampler.GREEDY, 20, Set.of());
      assertEquals(greedy, generator.generate(PROMPT, new Sampler(1, 1, 1, 9), 20, Set.of()));
      assertEquals(greedy, generator.generate(PROMPT, new Sampler(1, 0, 1e-9, 9), 20, Set.of()));
    }
  }

  @Test
  void seedDecidesTheText() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      var generator = new Generator(decoder);
      var text = generator.generate(PROMPT, new Sampler(2, 0, 1, 1), 40, Set.of());
      assertEquals(text, generator.generate(PROMPT, new Sampler(2, 0, 1, 1), 40, Set.of()));
      assertNotEquals(text, generator.generate(PROMPT, new Sampler(2, 0, 1, 2), 40, Set.of()));
    }
  }

  @Test
  void stopTokenEndsTheTextAndIsNotPartOfIt() {
    try (var decoder = TinyDecoders.random()) {
      var generator = new Generator(decoder);
      List<Integer> free = generator.generate(PROMPT, Sampler.GREEDY, 20, Set.of()).tokens();
      int stop = free.get(6);
      var stopped = generator.generate(PROMPT, Sampler.GREEDY, 20, Set.of(stop));
      assertEquals(free.subList(0, free.indexOf(stop)), stopped.tokens());
      assertEquals(Ending.STOP_TOKEN, stopped.ending());
    }
  }

  @Test
  void callerSeesEveryTokenAndMayEndTheText() {
    try (var decoder = TinyDecoders.random()) {
      var generator = new Generator(decoder);
      List<Integer> seen = new ArrayList<>();
      var all = generator.generate(PROMPT, Sampler.GREEDY, 9, Set.of(), seen::add);
      assertEquals(all.tokens(), seen);
      seen.clear();
      var ended =
          generator.generate(
              PROMPT,
              Sampler.GREEDY,
              9,
              Set.of(),
              token -> {
                seen.add(token);
                return seen.size() < 4;
              });
      assertEquals(all.tokens().subList(0, 4), ended.tokens());
      assertEquals(seen, ended.tokens());
      assertEquals(Ending.CALLER, ended.ending());
    }
  }

  @Test
  void contextMayBeFilledButNotExceeded() {
    try (var decoder = TinyDecoders.random()) {
      var generator = new Generator(decoder);
      int room = TinyDecoders.CONTEXT - PROMPT.length;
      assertEquals(
          room, generator.generate(PROMPT, Sampler.GREEDY, room, Set.of()).tokens().size());
      refuses(
          "5 prompt tokens and 124 new ones exceed the model's context of 128",
          () -> generator.generate(PROMPT, Sampler.GREEDY, room + 1, Set.of()));
      refuses(
          "exceed", () -> generator.generate(PROMPT, Sampler.GREEDY, Integer.MAX_VALUE, Set.of()));
    }
  }

  @Test
  void whatCannotBeContinuedIsRefused() {
    try (var decoder = TinyDecoders.random()) {
      var generator = new Generator(decoder);
      refuses("no tokens", () -> generator.generate(new int[0], Sampler.GREEDY, 1, Set.of()));
      refuses("at least 1", () -> generator.generate(PROMPT, Sampler.GREEDY, 0, Set.of()));
      refuses("token id 99", () -> generator.generate(new int[] {99}, Sampler.GREEDY, 1, Set.of()));
    }
  }

  @Test
  void logitsThatAreNoNumbersEndInOneSentence() {
    try (var decoder = TinyDecoders.random()) {
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("model.norm.weight").fill(Double.NaN);
      }
      refuses(
          "token id 0 is NaN",
          () -> new Generator(decoder).generate(PROMPT, Sampler.GREEDY, 1, Set.of()));
    }
  }

  private static void refuses(String words, Runnable generation) {
    var refusal = assertThrows(InvalidInputException.class, generation::run);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }

  /// Also over Gated DeltaNet, whose state passes from piece to piece.
  @ParameterizedTest
  @ValueSource(strings = {"paper-headwise", "qwen3", "qwen3-next", "qwen3.5"})
  void readingAPromptInPiecesChangesNoToken(String model) {
    try (var decoder =
        ModelDirectory.load(TestData.GOLDEN.resolve(model), Precision.FLOAT32, Device.CPU, false)) {
      int[] prompt = new SplittableRandom(3).ints(23, 0, decoder.config().vocabSize()).toArray();
      var expected = new Generator(decoder).generate(prompt, Sampler.GREEDY, 12, Set.of());
      for (int piece : new int[] {1, 4, 7, 22}) {
        assertEquals(
            expected,
            new Generator(decoder, piece).generate(prompt, Sampler.GREEDY, 12, Set.of()),
            "pieces of " + piece);
      }
    }
  }
}
