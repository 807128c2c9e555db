package dev.sluice.operations;

import dev.sluice.cuda.DriverLauncher;
import dev.sluice.cuda.KernelFamily;
import java.util.EnumSet;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Who computes on a card: for [Operations#of], which asks where a tensor is.
final class DeviceOperations {
  private static Set<KernelFamily> leftOut = Set.of();
  private static @Nullable Operations onCuda;

  private DeviceOperations() {}

  static synchronized void leaveOut(Set<KernelFamily> families) {
    leftOut = Set.copyOf(families);
    onCuda = null;
  }

  /// The driver is loaded when it is first wanted: there is none where nothing is on a card.
  static synchronized Operations onCuda() {
    var chosen = onCuda;
    if (chosen == null) {
      var families = EnumSet.allOf(KernelFamily.class);
      families.removeAll(leftOut);
      chosen =
          families.isEmpty()
              ? Operations.LIBTORCH
              : new CudaOperations(new DriverLauncher(), families);
      onCuda = chosen;
    }
    return chosen;
  }
}
