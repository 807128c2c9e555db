package dev.sluice.cuda;

import dev.sluice.tensor.Device;
import java.util.List;

/// What tests of kernels run them on: with `-Dsluice.test.device=cuda` a card, else the CPU.
public final class TestedCard {
  public static final Device DEVICE = Device.parse(System.getProperty("sluice.test.device", "cpu"));

  private static final List<Launcher> LAUNCHERS =
      isACard()
          ? List.of(new DriverLauncher())
          : List.of(new EmulatedLauncher(false), new EmulatedLauncher(true));

  private TestedCard() {}

  public static boolean isACard() {
    return DEVICE.kind() == Device.Kind.CUDA;
  }

  /// The ways to start kernels, of which none may give another bit.
  public static List<Launcher> launchers() {
    return LAUNCHERS;
  }

  public static void assumeThatItRuns() {
    if (!isACard()) {
      EmulatedLauncher.assumeThatItRuns();
    }
  }
}
