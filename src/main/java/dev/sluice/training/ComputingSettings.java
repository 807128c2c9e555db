package dev.sluice.training;

import dev.sluice.decoder.Recompute;
import dev.sluice.operations.Precision;
import dev.sluice.settings.Setting;
import dev.sluice.tensor.Device;

/// What computes, and in which numbers.
public record ComputingSettings(
    @Setting(
            initial = "float32",
            help = "float32, or bfloat16 (matrix products; weights and the rest stay float32).")
        String precision,
    @Setting(initial = "auto", help = "cpu, cuda, cuda:INDEX or auto.") String device,
    @Setting(
            initial = "none",
            help =
                "none, or blocks: keep of a block what goes in, and compute it again for its"
                    + " backward pass; less memory, a third more work, the same bits.")
        String recompute) {
  public Precision precisionOf() {
    return Precision.parse(precision);
  }

  public Recompute recomputeOf() {
    return Recompute.parse(recompute);
  }

  public Device deviceOf() {
    return Device.parse(device);
  }
}
