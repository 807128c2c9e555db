package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;

import java.lang.foreign.Arena;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/// What holds for every kernel that works on a range.
interface RangeKernelRules {
  /// The kernels with all their inputs.
  List<KernelCase> cases(Arena arena);

  private void each(Consumer<KernelCase> rule) {
    try (var arena = Arena.ofConfined()) {
      cases(arena).forEach(rule);
    }
  }

  @Test
  default void bothKernelsFollowTheFormula() {
    each(
        c -> {
          c.followsTheFormula(SCALAR);
          c.followsTheFormula(VECTOR);
        });
  }

  @Test
  default void vectorKernelsEqualTheDefinition() {
    each(KernelCase::vectorKernelEqualsTheDefinition);
  }

  @Test
  default void onlyTheRangeIsWritten() {
    each(
        c -> {
          c.writesItsRangeOnly(SCALAR);
          c.writesItsRangeOnly(VECTOR);
        });
  }

  @Test
  default void splitDoesNotChangeABit() {
    each(
        c -> {
          c.splitDoesNotChangeABit(SCALAR);
          c.splitDoesNotChangeABit(VECTOR);
        });
  }
}
