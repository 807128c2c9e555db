package dev.sluice.decoder;

import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// SwiGLU: `down(silu(gate x) ⊙ up x)`.
final class DenseFeedForward implements FeedForward {
  private final Precision precision;
  private final SwiGlu.Weights weights;

  DenseFeedForward(Precision precision, Parameters parameters, String prefix) {
    this.precision = precision;
    this.weights = SwiGlu.Weights.of(parameters, prefix);
  }

  @Override
  public Tensor forward(Tensor xBTD, @Nullable ExpertLoad load) {
    return SwiGlu.apply(xBTD, weights, precision);
  }
}
