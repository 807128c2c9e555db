package dev.sluice.operations;

import dev.sluice.cuda.DriverLauncher;
import dev.sluice.cuda.KernelFamily;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Who computes on a card: for [Operations#of], which asks where a tensor is.
final class DeviceOperations {
  private static Set<KernelFamily> used = Set.of();
  private static @Nullable Operations onCuda;

  private DeviceOperations() {}

  static synchronized void use(Set<KernelFamily> families) {
    used = Set.copyOf(families);
    onCuda = null;
  }

  /// The driver is loaded when it is first wanted: there is none where nothing is on a card.
  static synchronized Operations onCuda() {
    var chosen = onCuda;
    if (chosen == null) {
      chosen =
          used.isEmpty() ? Operations.LIBTORCH : new CudaOperations(new DriverLauncher(), used);
      onCuda = chosen;
    }
    return chosen;
  }
}
