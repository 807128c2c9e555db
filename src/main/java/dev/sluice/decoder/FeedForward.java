package dev.sluice.decoder;

import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;

/// SwiGLU: `down(silu(gate x) ⊙ up x)`.
final class FeedForward {
  private final Precision precision;
  private final SwiGlu.Weights weights;

  FeedForward(Precision precision, Parameters parameters, String prefix) {
    this.precision = precision;
    this.weights =
        new SwiGlu.Weights(
            parameters.get(prefix + "gate_proj.weight"),
            parameters.get(prefix + "up_proj.weight"),
            parameters.get(prefix + "down_proj.weight"));
  }

  Tensor forward(Tensor xBTD) {
    return SwiGlu.apply(xBTD, weights, precision);
  }
}
