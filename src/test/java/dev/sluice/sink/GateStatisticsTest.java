package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GatePosition;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class GateStatisticsTest {
  private static final List<long[]> WINDOWS =
      List.of(TinyDecoders.tokens(21, 1), TinyDecoders.tokens(13, 2));
  private static final int TOKENS = 34;

  /// The columns: the gate, scores per token, heads that are reported apart.
  @ParameterizedTest
  @CsvSource({
    "sdpa-headwise, 4, 4",
    "sdpa-elementwise, 32, 4",
    "sdpa-elementwise-shared, 8, 1",
    "sdpa-headwise-shared, 1, 1",
    "sdpa-elementwise-silu, 32, 4",
    "value-headwise, 2, 0",
    "dense-elementwise, 16, 0",
    "query-elementwise, 32, 0"
  })
  void decoderIsMeasuredByDefinition(String gate, int scoresPerToken, int heads) {
    try (var decoder = TinyDecoders.random(Gate.parse(gate))) {
      var measured = new GateStatistics();
      var observed =
          WINDOWS.stream().map(window -> Observed.watch(decoder, measured, window)).toList();
      var result = measured.result();
      assertEquals(TinyDecoders.LAYERS, result.gates().size());
      for (int layer = 0; layer < TinyDecoders.LAYERS; layer++) {
        var found = result.gates().get(layer);
        assertEquals(layer, found.layer());
        assertTrue(gate.startsWith(found.position()));
        expect(observed, layer, -1, found.scores());
        assertEquals((long) TOKENS * scoresPerToken, total(found.scores()));
        assertEquals(heads, found.heads().size());
        for (int head = 0; head < heads; head++) {
          expect(observed, layer, head, found.heads().get(head));
          assertEquals((long) TOKENS * scoresPerToken / heads, total(found.heads().get(head)));
        }
      }
    }
  }

  private static long total(GateStatistics.Scores scores) {
    long sum = scores.histogram().stream().mapToLong(Long::longValue).sum();
    assertEquals(scores.count(), sum);
    return sum;
  }

  private static void expect(
      List<Observed> windows, int layer, int onlyHead, GateStatistics.Scores found) {
    long count = 0;
    double sum = 0;
    double minimum = Double.POSITIVE_INFINITY;
    double maximum = Double.NEGATIVE_INFINITY;
    double tenth = 0;
    double half = 0;
    double first = 0;
    long firstCount = 0;
    long outside = 0;
    long[] histogram = new long[50];
    for (Observed window : windows) {
      var scores = window.gates.get(layer);
      for (int t = 0; t < scores.size(1); t++) {
        for (int n = 0; n < scores.size(2); n++) {
          for (int h = 0; h < scores.size(3); h++) {
            if (onlyHead >= 0 && n != onlyHead) {
              continue;
            }
            float score = scores.at(0, t, n, h);
            count++;
            sum += score;
            minimum = Math.min(minimum, score);
            maximum = Math.max(maximum, score);
            tenth += score < 0.1f ? 1 : 0;
            half += score < 0.5f ? 1 : 0;
            outside += score < 0 || score > 1 ? 1 : 0;
            histogram[score <= 0 ? 0 : score >= 1 ? 49 : (int) (score * 50.0)]++;
            if (t == 0) {
              first += score;
              firstCount++;
            }
          }
        }
      }
    }
    double squares = 0;
    for (Observed window : windows) {
      var scores = window.gates.get(layer);
      for (int t = 0; t < scores.size(1); t++) {
        for (int n = 0; n < scores.size(2); n++) {
          for (int h = 0; h < scores.size(3); h++) {
            if (onlyHead < 0 || n == onlyHead) {
              squares += Math.pow(scores.at(0, t, n, h) - sum / count, 2);
            }
          }
        }
      }
    }
    assertEquals(sum / count, found.mean(), 1e-9);
    assertEquals(Math.sqrt(squares / count), found.standardDeviation(), 1e-9);
    assertEquals(minimum, found.minimum());
    assertEquals(maximum, found.maximum());
    assertEquals(tenth / count, found.belowTenth(), 1e-12);
    assertEquals(half / count, found.belowHalf(), 1e-12);
    assertEquals(first / firstCount, found.firstTokenMean(), 1e-9);
    assertEquals((sum - first) / (count - firstCount), found.otherTokensMean(), 1e-9);
    assertEquals(outside, found.outside());
    assertArrayEquals(histogram, found.histogram().stream().mapToLong(Long::longValue).toArray());
  }

  @Test
  void outputsAreMeasuredBeforeAndAfterTheGate() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      var measured = new GateStatistics();
      var observed =
          WINDOWS.stream().map(window -> Observed.watch(decoder, measured, window)).toList();
      for (var output : measured.result().outputs()) {
        int layer = output.layer();
        expectSizes(
            observed.stream().map(window -> window.before.get(layer)).toList(), output.before());
        expectSizes(
            observed.stream().map(window -> window.after.get(layer)).toList(), output.after());
        assertTrue(output.after().mean() < output.before().mean());
      }
    }
  }

  private static void expectSizes(
      List<Observed.Values> outputs, GateStatistics.Magnitude magnitude) {
    double sum = 0;
    double maximum = 0;
    double hundredth = 0;
    double thousandth = 0;
    long count = 0;
    for (var output : outputs) {
      for (float value : output.values()) {
        sum += Math.abs(value);
        maximum = Math.max(maximum, Math.abs(value));
        hundredth += Math.abs(value) < 1e-2f ? 1 : 0;
        thousandth += Math.abs(value) < 1e-3f ? 1 : 0;
        count++;
      }
    }
    assertEquals(sum / count, magnitude.mean(), 1e-9);
    assertEquals(maximum, magnitude.maximum());
    assertEquals(hundredth / count, magnitude.belowHundredth(), 1e-12);
    assertEquals(thousandth / count, magnitude.belowThousandth(), 1e-12);
  }

  @Test
  void gateWithoutInputCountsOncePerToken() {
    try (var decoder = TinyDecoders.random(Gate.parse("sdpa-headwise-input-independent"))) {
      var measured = new GateStatistics();
      Observed.watch(decoder, measured, TinyDecoders.tokens(10, 1), TinyDecoders.tokens(10, 2));
      var scores = measured.result().gates().getFirst().scores();
      // Its logits start at zero.
      assertEquals(2 * 10 * 4, total(scores));
      assertEquals(0.5, scores.mean());
      assertEquals(0, scores.standardDeviation());
      assertEquals(0.5, scores.firstTokenMean());
      assertEquals(0.5, scores.otherTokensMean());
      assertEquals(80, scores.histogram().get(25));
    }
  }

  @Test
  void severalGatesAreKeptApart() {
    try (var decoder =
        TinyDecoders.random(Gate.SDPA_HEADWISE, Gate.SDPA_HEADWISE.with(GatePosition.VALUE))) {
      var measured = new GateStatistics();
      Observed.watch(decoder, measured, TinyDecoders.tokens(10, 1));
      var result = measured.result();
      assertEquals(
          List.of("value", "sdpa", "value", "sdpa", "value", "sdpa"),
          result.gates().stream().map(GateStatistics.LayerGate::position).toList());
      assertEquals(
          result.gates().stream()
                  .filter(gate -> gate.position().equals("sdpa"))
                  .mapToDouble(gate -> gate.scores().mean())
                  .sum()
              / 3,
          result.meanScore(GatePosition.SDPA_OUTPUT),
          1e-12);
      var refusal =
          assertThrows(InvalidInputException.class, () -> result.meanScore(GatePosition.KEY));
      assertTrue(refusal.getMessage().contains("'key'"), refusal.getMessage());
    }
  }

  @Test
  void modelWithoutGatesHasOutputsOnly() {
    try (var decoder = TinyDecoders.random()) {
      var measured = new GateStatistics();
      Observed.watch(decoder, measured, TinyDecoders.tokens(10, 1));
      assertEquals(List.of(), measured.result().gates());
      for (var output : measured.result().outputs()) {
        assertEquals(output.before(), output.after());
      }
    }
  }

  @Test
  void binsAndBoundsAreHalfOpen() {
    var measured = new GateStatistics();
    try (var _ = Scope.open()) {
      float[] scores = {-0.5f, 0, 0.0199f, 0.02f, 0.1f, 0.5f, 0.98f, 1, 1.5f, 3e38f};
      measured.residual(0, Tensor.of(new float[10], 1, 10, 1));
      measured.gate(0, "sdpa", Tensor.of(scores, 1, 10, 1, 1));
    }
    var scores = measured.result().gates().getFirst().scores();
    assertEquals(4, scores.histogram().get(0)); // 0.02f is a little less than 0.02
    assertEquals(4, scores.histogram().get(49)); // 0.98f is a little more than 0.98
    assertEquals(3, scores.outside());
    assertEquals(0.4, scores.belowTenth());
    assertEquals(0.5, scores.belowHalf());
  }

  @Test
  void scoresThatAreNoNumbersAreRefused() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("model.layers.1.self_attn.gates.sdpa.weight").fill(Double.NaN);
      }
      var refusal =
          assertThrows(
              InvalidInputException.class,
              () -> Observed.watch(decoder, new GateStatistics(), TinyDecoders.tokens(10, 1)));
      assertTrue(
          refusal.getMessage().contains("gate scores of layer 1 hold NaN"), refusal.getMessage());
    }
  }
}
