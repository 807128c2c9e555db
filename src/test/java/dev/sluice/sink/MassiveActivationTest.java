package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class MassiveActivationTest {
  @Test
  void decoderIsMeasuredByDefinition() {
    List<long[]> windows = List.of(TinyDecoders.tokens(30, 1), TinyDecoders.tokens(7, 2));
    try (var decoder = TinyDecoders.random()) {
      var measured = new MassiveActivation();
      var observed =
          windows.stream().map(window -> Observed.watch(decoder, measured, window)).toList();
      var result = measured.result();
      assertEquals(TinyDecoders.LAYERS + 2, result.residuals().size());
      double blocks = 0;
      for (int index = 0; index < TinyDecoders.LAYERS + 2; index++) {
        double maximum = -1;
        int channel = -1;
        int token = -1;
        double medians = 0;
        for (Observed window : observed) {
          var x = window.residuals.get(index);
          for (int t = 0; t < x.size(1); t++) {
            for (int d = 0; d < x.size(2); d++) {
              if (Math.abs(x.at(0, t, d)) > maximum) {
                maximum = Math.abs(x.at(0, t, d));
                channel = d;
                token = t;
              }
            }
          }
          medians += sortedMedian(x.values());
        }
        var residual = result.residuals().get(index);
        assertEquals(index, residual.index());
        assertEquals(maximum, residual.maximum());
        assertEquals(channel, residual.channel());
        assertEquals(token, residual.token());
        assertEquals(medians / 2, residual.median(), 1e-12);
        assertEquals(maximum / (medians / 2), residual.ratio(), 1e-9);
        assertFalse(residual.massive());
        blocks += index >= 1 && index <= TinyDecoders.LAYERS ? maximum : 0;
      }
      assertEquals(blocks / TinyDecoders.LAYERS, result.meanBlockMaximum(), 1e-9);
    }
  }

  private static float sortedMedian(float[] values) {
    float[] sorted = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      sorted[i] = Math.abs(values[i]);
    }
    Arrays.sort(sorted);
    return sorted[(sorted.length - 1) / 2];
  }

  @Test
  void medianIsThatOfTheSortedValues() {
    var random = new SplittableRandom(1);
    for (int count = 1; count < 200; count++) {
      float[] values = new float[count];
      for (int i = 0; i < count; i++) {
        values[i] =
            random.nextInt(5) == 0
                ? random.nextInt(3)
                : (float) Math.exp(random.nextGaussian() * 20);
      }
      assertEquals(sortedMedian(values), MassiveActivation.median(values));
    }
  }

  @Test
  void massiveActivationIsFound() {
    var measured = new MassiveActivation();
    try (var _ = Scope.open()) {
      float[] quiet = new float[2 * 3 * 5];
      Arrays.fill(quiet, -0.25f);
      float[] loud = quiet.clone();
      loud[1 * 15 + 2 * 5 + 4] = -900;
      measured.residual(0, Tensor.of(quiet, 2, 3, 5));
      measured.residual(1, Tensor.of(loud, 2, 3, 5));
      measured.residual(2, Tensor.of(quiet, 2, 3, 5));
      measured.residual(3, Tensor.of(quiet, 2, 3, 5));
    }
    var result = measured.result();
    assertEquals(
        new MassiveActivation.Residual(1, 900, 4, 2, 0.25, 3600, true, List.of(4)),
        result.residuals().get(1));
    assertFalse(result.residuals().get(2).massive());
    assertEquals((900 + 0.25) / 2, result.meanBlockMaximum());
    assertEquals(new MassiveActivation.Plateau(0, 0), result.plateau());
    assertEquals(900, result.largest());
  }

  @Test
  void plateauIsTheRunAroundThePeak() {
    double[] peaks = {0.25, 400, 850, 1000, 950, 899, 990, 3000};
    var measured = new MassiveActivation();
    try (var _ = Scope.open()) {
      for (int index = 0; index < peaks.length; index++) {
        float[] x = new float[4 * 8];
        Arrays.fill(x, 0.125f);
        x[3] = (float) peaks[index];
        measured.residual(index, Tensor.of(x, 1, 4, 8));
      }
    }
    // blocks 0 to 5; the embedding and the final norm are none
    assertEquals(new MassiveActivation.Plateau(2, 3), measured.result().plateau());
    assertEquals(1000, measured.result().largest());
  }

  @Test
  void noPlateauWithoutMassiveActivations() {
    var measured = new MassiveActivation();
    try (var _ = Scope.open()) {
      for (int index = 0; index < 4; index++) {
        measured.residual(index, Tensor.of(new float[] {1, -90, 1, 1}, 1, 2, 2));
      }
    }
    assertNull(measured.result().plateau());
  }

  @Test
  void outlierChannelsAreLargeForEveryTokenButNotOnlyForTheFirst() {
    var random = new SplittableRandom(5);
    int tokens = 20;
    int channels = 30;
    var measured = new MassiveActivation();
    try (var _ = Scope.open()) {
      for (int index = 0; index < 3; index++) {
        float[] x = new float[2 * tokens * channels];
        for (int i = 0; i < x.length; i++) {
          x[i] = (float) (random.nextDouble() - 0.5);
          int token = i / channels % tokens;
          if (i % channels == 7 && token == 0) {
            x[i] = 2000; // massive, but of one token
          }
          if (index == 1 && i % channels == 3) {
            x[i] = 5 * (random.nextBoolean() ? 1 : -1);
          }
          if (index == 1 && i % channels == 21) {
            x[i] = 8;
          }
        }
        measured.residual(index, Tensor.of(x, 2, tokens, channels));
      }
    }
    var residuals = measured.result().residuals();
    assertEquals(List.of(), residuals.get(0).outlierChannels());
    assertEquals(List.of(21, 3), residuals.get(1).outlierChannels());
    assertTrue(residuals.get(1).massive());
  }

  @Test
  void valuesThatAreNoNumbersAreRefused() {
    try (var _ = Scope.open()) {
      for (float broken : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
        var refusal =
            assertThrows(
                InvalidInputException.class,
                () ->
                    new MassiveActivation()
                        .residual(3, Tensor.of(new float[] {1, broken}, 1, 1, 2)));
        assertTrue(refusal.getMessage().contains("index 3 hold " + broken), refusal.getMessage());
      }
    }
  }
}
