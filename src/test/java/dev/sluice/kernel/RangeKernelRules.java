package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.ALL;
import static dev.sluice.kernel.KernelNumbers.FAST;

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
  default void allKernelsFollowTheFormula() {
    each(c -> ALL.forEach(c::followsTheFormula));
  }

  @Test
  default void fastKernelsEqualTheDefinition() {
    each(c -> FAST.forEach(c::equalsTheDefinition));
  }

  @Test
  default void onlyTheRangeIsWritten() {
    each(c -> ALL.forEach(c::writesItsRangeOnly));
  }

  @Test
  default void splitDoesNotChangeABit() {
    each(c -> ALL.forEach(c::splitDoesNotChangeABit));
  }
}
