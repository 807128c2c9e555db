package dev.sluice.training;

import dev.sluice.operations.Precision;
import dev.sluice.settings.Setting;
import dev.sluice.tensor.Device;

/// What computes, and in which numbers.
public record ComputingSettings(
    @Setting(
            initial = "float32",
            help = "float32, or bfloat16 (matrix products; weights and the rest stay float32).")
        String precision,
    @Setting(initial = "auto", help = "cpu, cuda, cuda:INDEX or auto.") String device) {
  public Precision precisionOf() {
    return Precision.parse(precision);
  }

  public Device deviceOf() {
    return Device.parse(device);
  }
}
