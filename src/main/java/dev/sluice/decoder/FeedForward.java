package dev.sluice.decoder;

import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// SwiGLU: `down(silu(gate x) ⊙ up x)`.
final class FeedForward {
  private final Precision precision;
  private final Tensor gate;
  private final Tensor up;
  private final Tensor down;

  FeedForward(Precision precision, Parameters parameters, String prefix) {
    this.precision = precision;
    this.gate = parameters.get(prefix + "gate_proj.weight");
    this.up = parameters.get(prefix + "up_proj.weight");
    this.down = parameters.get(prefix + "down_proj.weight");
  }

  Tensor forward(Tensor xBTD) {
    var inner = precision.linear(xBTD, List.of(gate, up));
    return precision.linear(new SwiGlu(inner.getFirst(), inner.getLast()), down);
  }
}
