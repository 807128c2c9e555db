package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// The head that drafts, against `src/test/resources/mtp`: `reference.py` there says how it was
/// made, and `mixtures.py` how those with experts were.
class MultiTokenPredictionTest {
  private static final Path MTP = Path.of("src/test/resources/mtp");

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  private static ModelDirectory.Opened open(Path model) {
    return ModelDirectory.openInPlace(
        model, Precision.FLOAT32, null, true, Conversion.Listener.NOBODY);
  }

  private static float[] numbers(JsonNode list) {
    float[] numbers = new float[list.size()];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = list.get(i).floatValue();
    }
    return numbers;
  }

  @ParameterizedTest
  @CsvSource({
    "checkpoint, reference.json",
    "model.gguf, reference.json",
    "qwen3-next, qwen3-next/reference.json",
    "qwen3.5-moe, qwen3.5-moe/reference.json"
  })
  void headIsThatOfTheReference(String model, String answers) {
    var reference = new JsonMapper().readTree(MTP.resolve(answers));
    long[] ids = reference.get("ids").valueStream().mapToLong(JsonNode::longValue).toArray();
    try (var decoder = open(MTP.resolve(model)).decoder();
        var state = new SequenceState(1, ids.length);
        var _ = Scope.withoutGradient()) {
      var head = new MultiTokenPrediction(decoder);
      int count = ids.length - 1;
      float[] given = numbers(reference.get("hidden"));
      assertArrayEquals(
          given,
          decoder
              .hiddenStates(Tensor.of(ids, 1, ids.length), null, Probe.NONE)
              .narrow(1, 0, count)
              .floats(),
          2e-5f);
      var hidden = Tensor.of(given, 1, count, decoder.config().hiddenSize());
      var following = Tensor.of(Arrays.copyOfRange(ids, 1, ids.length), 1, count);
      var ahead = head.hiddenStates(hidden, following, null);
      float[] expected = numbers(reference.get("ahead"));
      assertArrayEquals(expected, ahead.floats(), 1e-5f);
      assertArrayEquals(
          numbers(reference.get("logits")),
          decoder.logits(ahead.narrow(1, count - 1, 1)).floats(),
          5e-5f);

      var past = state.past(state.take());
      var pieces = new ArrayList<Tensor>();
      for (int from = 0, size = 1; from < count; from += size, size = Math.min(2, count - from)) {
        pieces.add(
            head.hiddenStates(hidden.narrow(1, from, size), following.narrow(1, from, size), past));
      }
      assertArrayEquals(expected, Tensor.concatenate(pieces, 1).floats(), 1e-5f);
    }
  }

  /// Who does not ask for it gets the model alone, and is told.
  @ParameterizedTest
  @ValueSource(strings = {"checkpoint", "model.gguf", "qwen3-next", "qwen3.5-moe"})
  void headIsPassedOverUnlessWanted(String model) {
    var opened = ModelDirectory.openInPlace(MTP.resolve(model), Precision.FLOAT32);
    try (var decoder = opened.decoder()) {
      assertNull(decoder.parameters().findWeight("mtp.fc.weight"));
      assertEquals(2, decoder.config().layers().size());
      assertEquals(1, opened.notes().stream().filter(note -> note.contains("not read")).count());
    }
    var wanted = open(MTP.resolve(model));
    try (var decoder = wanted.decoder()) {
      assertEquals(2, decoder.config().layers().size());
      assertTrue(wanted.notes().stream().noneMatch(note -> note.contains("not read")));
    }
  }

  @Test
  void modelsWithoutHeadAreRefused() {
    for (String without : new String[] {"qwen3.5", "qwen3", "gguf/qwen35-mini.gguf"}) {
      var refusal =
          assertThrows(InvalidInputException.class, () -> open(TestData.GOLDEN.resolve(without)));
      assertTrue(refusal.getMessage().contains("leave out --speculate"), refusal.getMessage());
    }
  }
}
