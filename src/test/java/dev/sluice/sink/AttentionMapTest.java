package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class AttentionMapTest {
  @ParameterizedTest
  @ValueSource(ints = {1, 7, 64, 65, 100, 128})
  void cellsAreMeansOverHeadsQueriesAndKeys(int tokens) {
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      var measured = new AttentionMap();
      var observed = Observed.watch(decoder, measured, TinyDecoders.tokens(tokens, 1));
      Observed.watch(decoder, measured, TinyDecoders.tokens(tokens, 2)); // not looked at
      var result = measured.result();
      assertEquals(tokens, result.tokens());
      assertEquals(TinyDecoders.LAYERS, result.layers().size());
      int side = Math.min(tokens, 64);
      for (var layer : result.layers()) {
        assertEquals(side, layer.cells().size());
        for (int r = 0; r < side; r++) {
          assertEquals(side, layer.cells().get(r).size());
          double row = 0;
          for (int c = 0; c < side; c++) {
            float cell = layer.cells().get(r).get(c);
            assertEquals(cell(observed.attention.get(layer.layer()), r, c, side), cell, 1e-6);
            row += cell * ((c + 1) * tokens / side - c * tokens / side);
          }
          assertEquals(1, row, 1e-5);
        }
      }
    }
  }

  private static double cell(Observed.Values weights, int row, int column, int side) {
    int tokens = weights.size(2);
    double sum = 0;
    int count = 0;
    for (int n = 0; n < weights.size(1); n++) {
      for (int i = row * tokens / side; i < (row + 1) * tokens / side; i++) {
        for (int j = column * tokens / side; j < (column + 1) * tokens / side; j++) {
          sum += weights.at(0, n, i, j);
          count++;
        }
      }
    }
    return sum / count;
  }

  @Test
  void weightsThatAreNoNumbersAreRefused() {
    try (var _ = Scope.open()) {
      float[] broken = {1, 0, 0.5f, Float.NaN};
      assertThrows(
          InvalidInputException.class,
          () -> new AttentionMap().attention(0, Tensor.of(broken, 1, 1, 2, 2)));
    }
  }
}
