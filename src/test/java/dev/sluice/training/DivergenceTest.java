package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class DivergenceTest {
  private static boolean after(Divergence divergence, int steps, double loss) {
    boolean diverged = false;
    for (int i = 0; i < steps; i++) {
      diverged |= divergence.after(loss);
    }
    return diverged;
  }

  @Test
  void aNewModelIsComparedWithItsFirstStep() {
    var divergence = new Divergence(0);
    assertFalse(after(divergence, 1, 5.5));
    assertFalse(after(divergence, Divergence.WINDOW - 2, 6));
    assertTrue(after(divergence, 1, 6));
  }

  /// Noise around where a trained model stands is no divergence; to forget everything is.
  @Test
  void aTrainedModelIsComparedWithOneThatKnowsNothing() {
    var divergence = new Divergence(Math.log(256));
    assertFalse(after(divergence, 1, 1.80));
    assertFalse(after(divergence, 2 * Divergence.WINDOW, 1.81));
    assertTrue(after(divergence, Divergence.WINDOW, 5.6));
  }
}
