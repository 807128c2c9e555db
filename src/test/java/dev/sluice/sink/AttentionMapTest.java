package dev.sluice.sink;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Random;
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
  void blocksOfQueriesAddUp() {
    var random = new Random(1);
    float[] weights = new float[2 * 100 * 100];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = random.nextFloat();
    }
    var whole = new AttentionMap();
    var cut = new AttentionMap();
    try (var _ = Scope.open()) {
      var all = Tensor.of(weights, 1, 2, 100, 100);
      whole.attention(0, 0, all);
      cut.attention(0, 0, all.narrow(2, 0, 31));
      assertEquals(0, cut.result().layers().size(), "half a map");
      cut.attention(0, 31, all.narrow(2, 31, 69));
    }
    var expected = whole.result().layers().getFirst().cells();
    var cells = cut.result().layers().getFirst().cells();
    for (int r = 0; r < 64; r++) {
      for (int c = 0; c < 64; c++) {
        assertEquals(expected.get(r).get(c), cells.get(r).get(c), 1e-6);
      }
    }
  }

  @Test
  void weightsThatAreNoNumbersAreRefused() {
    try (var _ = Scope.open()) {
      float[] broken = {1, 0, 0.5f, Float.NaN};
      assertThrows(
          InvalidInputException.class,
          () -> new AttentionMap().attention(0, 0, Tensor.of(broken, 1, 1, 2, 2)));
    }
  }
}
