package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.gate.Gate;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Precision;
import java.util.List;
import org.junit.jupiter.api.Test;

class DecodersTest {
  /// Counts of the released checkpoints; nothing is allocated for them.
  @Test
  void releasedModelsHaveTheirPublishedSizes() {
    assertEquals(1_720_837_120L, Decoders.PAPER_1B_BASELINE.parameterCount());
    assertEquals(1_721_754_624L, Decoders.PAPER_1B_GATE_HEADWISE.parameterCount());
    assertEquals(1_728_177_152L, Decoders.PAPER_1B_GATE_ELEMENTWISE.parameterCount());
  }

  @Test
  void theFortyEightLayerModelHasTheSizeOfItsShape() {
    // by hand: embedding, then per layer q, k, v, o, two head norms, three feed-forward matrices,
    // two norms; final norm
    long layer = 1536L * 2048 * 2 + 1536L * 1024 * 2 + 2 * 128 + 3L * 1536 * 4608 + 2 * 1536;
    assertEquals(152_064L * 1536 + 48 * layer + 1536, Decoders.PAPER_DENSE_48.parameterCount());
  }

  @Test
  void matchingParametersPaysForTheGate() {
    for (Gate gate : List.of(Gate.SDPA_ELEMENTWISE, Gate.SDPA_HEADWISE)) {
      var matched =
          Decoders.SMALL.with(List.of(gate)).matchingParameters(Decoders.SMALL.parameterCount(), 1);
      double off =
          Math.abs(matched.parameterCount() - Decoders.SMALL.parameterCount())
              / (double) Decoders.SMALL.parameterCount();
      assertTrue(off < 1e-3, gate.name() + " is off by " + off);
    }
    assertThrows(InvalidInputException.class, () -> Decoders.SMALL.matchingParameters(1000, 1));
  }

  /// Twins start alike wherever they have the same parameter.
  @Test
  void aGateDoesNotChangeTheOtherWeights() {
    try (var plain = Decoder.initialize(Decoders.TINY, Precision.FLOAT32, Device.CPU, 5);
        var gated =
            Decoder.initialize(
                Decoders.TINY.with(List.of(Gate.SDPA_HEADWISE)),
                Precision.FLOAT32,
                Device.CPU,
                5)) {
      for (var parameter : plain.parameters().all().entrySet()) {
        assertArrayEquals(
            parameter.getValue().floats(),
            gated.parameters().get(parameter.getKey()).floats(),
            parameter.getKey());
      }
    }
  }
}
