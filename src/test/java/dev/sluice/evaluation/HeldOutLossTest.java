package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class HeldOutLossTest {
  private static final List<long[]> WINDOWS =
      List.of(
          TinyDecoders.tokens(9, 1),
          TinyDecoders.tokens(9, 2),
          TinyDecoders.tokens(9, 3),
          TinyDecoders.tokens(4, 4));

  @Test
  void lossIsTheMeanNegativeLogarithmOfTheNextTokensProbability() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      double nats = 0;
      for (long[] window : WINDOWS) {
        nats += definition(decoder, window);
      }
      for (int batchSize : new int[] {1, 2, 8}) {
        var loss = HeldOutLoss.measure(decoder, WINDOWS, 50, batchSize);
        assertEquals(8 + 8 + 8 + 3, loss.tokens());
        assertEquals(nats, loss.totalNats(), 1e-5 * nats);
        assertEquals(nats / 27, loss.nats(), 1e-5);
        assertEquals(Math.exp(nats / 27), loss.perplexity(), 1e-4 * loss.perplexity());
        assertEquals(nats / (Math.log(2) * 50), loss.bitsPerByte(), 1e-5);
      }
    }
  }

  private static double definition(Decoder decoder, long[] window) {
    int tokens = window.length - 1;
    float[] logits;
    try (var _ = Scope.withoutGradient()) {
      var ids = Tensor.of(Arrays.copyOf(window, tokens), 1, tokens);
      logits = decoder.logits(decoder.hiddenStates(ids, null, Probe.NONE)).floats();
    }
    int vocabulary = TinyDecoders.VOCABULARY;
    double nats = 0;
    for (int t = 0; t < tokens; t++) {
      double sum = 0;
      for (int id = 0; id < vocabulary; id++) {
        sum += Math.exp(logits[t * vocabulary + id]);
      }
      nats += Math.log(sum) - logits[t * vocabulary + (int) window[t + 1]];
    }
    return nats;
  }

  @Test
  void lossAgreesWithTheDecoders() {
    try (var decoder = TinyDecoders.random();
        var _ = Scope.withoutGradient()) {
      long[] window = WINDOWS.getFirst();
      double expected =
          decoder
              .loss(
                  Tensor.of(Arrays.copyOf(window, 8), 1, 8),
                  Tensor.of(Arrays.copyOfRange(window, 1, 9), 1, 8))
              .item();
      assertEquals(expected, HeldOutLoss.measure(decoder, List.of(window), 8).nats(), 1e-5);
    }
  }

  @Test
  void indifferentModelNeedsTheLogarithmOfTheVocabulary() {
    try (var decoder = TinyDecoders.random()) {
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("lm_head.weight").fill(0);
      }
      var loss = HeldOutLoss.measure(decoder, WINDOWS, 27);
      assertEquals(Math.log(TinyDecoders.VOCABULARY), loss.nats(), 1e-12);
      assertEquals(TinyDecoders.VOCABULARY, loss.perplexity(), 1e-10);
      assertEquals(Math.log(TinyDecoders.VOCABULARY) / Math.log(2), loss.bitsPerByte(), 1e-12);
    }
  }

  @Test
  void measuringTwiceGivesTheSameBitsAndLeavesNoGradient() {
    try (var decoder = TinyDecoders.random(Gate.SDPA_HEADWISE)) {
      assertEquals(
          HeldOutLoss.measure(decoder, WINDOWS, 50), HeldOutLoss.measure(decoder, WINDOWS, 50));
      decoder
          .parameters()
          .all()
          .forEach((name, parameter) -> assertEquals(null, parameter.gradient(), name));
    }
  }

  @Test
  void divergedModelHasNoNumber() {
    try (var decoder = TinyDecoders.random()) {
      try (var _ = Scope.withoutGradient()) {
        decoder.parameters().get("lm_head.weight").fill(Double.NaN);
      }
      assertTrue(Double.isNaN(HeldOutLoss.measure(decoder, WINDOWS, 27).nats()));
    }
  }

  @Test
  void whatCannotBeMeasuredIsRefused() {
    try (var decoder = TinyDecoders.random()) {
      refuses("no held-out windows", () -> HeldOutLoss.measure(decoder, List.of(), 1));
      refuses("has 1 tokens", () -> HeldOutLoss.measure(decoder, List.of(new long[] {1}), 1));
      refuses("bytes, not 0", () -> HeldOutLoss.measure(decoder, WINDOWS, 0));
      refuses("batch size", () -> HeldOutLoss.measure(decoder, WINDOWS, 1, 0));
      refuses("token id 19", () -> HeldOutLoss.measure(decoder, List.of(new long[] {1, 19}), 1));
      refuses("token id -1", () -> HeldOutLoss.measure(decoder, List.of(new long[] {-1, 1}), 1));
    }
  }

  private static void refuses(String words, Runnable measuring) {
    var refusal = assertThrows(InvalidInputException.class, measuring::run);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }
}
