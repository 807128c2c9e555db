package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.operations.Precision;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Tensor;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// One gated linear unit that all tokens go through: `down(glu(gate x, up x))`.
final class DenseFeedForward implements FeedForward {
  private final GatedUnits unit;

  DenseFeedForward(
      FeedForwardConfig config, Precision precision, Parameters parameters, String prefix) {
    this.unit =
        new GatedUnits(config.glu(), config.biases(), precision, parameters, List.of(prefix));
  }

  @Override
  public Tensor forward(Tensor xBTD, @Nullable ExpertLoad load, Probe probe) {
    return unit.forward(xBTD, probe);
  }

  @Override
  public @Nullable Floats write(TokenSteps steps, Floats x) {
    return unit.write(steps, x);
  }
}
