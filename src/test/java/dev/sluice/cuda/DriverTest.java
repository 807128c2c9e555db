package dev.sluice.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

class DriverTest {
  /// Where there is no driver one sentence says so; where there is one it is loaded.
  @Test
  void aMissingDriverIsSaid() {
    try {
      Driver.load();
    } catch (InvalidInputException e) {
      assertEquals(1, e.getMessage().lines().count());
      assertTrue(
          e.getMessage().startsWith("libcuda.so.1 cannot be loaded")
              || e.getMessage().startsWith("CUDA's driver cannot be initialised: "),
          e.getMessage());
    }
  }

  /// On a card alone: a kernel runs after what libtorch has started, and before what it starts next.
  @Test
  void kernelsRunInOrderWithLibtorchs() {
    Assumptions.assumeTrue(TestedCard.isACard(), "only with -Dsluice.test.device=cuda");
    try (var _ = Scope.withoutGradient()) {
      var x = Tensor.zeros(ElementType.FLOAT32, 1 << 20).to(TestedCard.DEVICE);
      var factor = Tensor.of(new float[] {2}, 1).to(TestedCard.DEVICE);
      var launcher = new DriverLauncher();
      x.fill(1);
      for (int i = 0; i < 20; i++) {
        launcher.launch(
            KernelFamily.LOSS.kernel("scaled", ElementType.FLOAT32),
            Launcher.Grid.of(x.elements()),
            x,
            factor,
            x.elements());
        x.addInPlace(x, -0.5);
      }
      assertEquals(1, x.max().item());
    }
  }

  @Test
  void gridsThatNoCardRunsAreRefused() {
    for (var grid :
        new long[][] {{0, 32, 0}, {1L << 31, 32, 0}, {1, 33, 0}, {1, 2048, 0}, {1, 32, 1 << 16}}) {
      assertThrows(
          IllegalArgumentException.class,
          () -> new Launcher.Grid(grid[0], (int) grid[1], (int) grid[2]));
    }
  }
}
