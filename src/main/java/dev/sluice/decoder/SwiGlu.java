package dev.sluice.decoder;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.RecomputedInput;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// `silu(gate) ⊙ up`, the feed-forward's inner activation.
///
/// @param gate `[…, F]`
/// @param up of the same shape and element type
record SwiGlu(Tensor gate, Tensor up) implements RecomputedInput {
  @Override
  public String name() {
    return "SwiGLU";
  }

  @Override
  public List<Tensor> inputs() {
    return List.of(gate, up);
  }

  @Override
  public Tensor composed() {
    return gate.silu().times(up);
  }

  @Override
  public void forward(Floats out, long from, long to) {
    long width = gate.size(-1);
    Kernels.FASTEST.swiGlu(
        gate.numbers().from(from * width),
        up.numbers().from(from * width),
        out,
        0,
        (to - from) * width);
  }

  @Override
  public void backward(Floats upstream, Floats out, List<Floats> gradients, long from, long to) {
    long width = gate.size(-1);
    Kernels.FASTEST.swiGluBackward(
        upstream,
        gate.numbers().from(from * width),
        up.numbers().from(from * width),
        out,
        gradients.getFirst().from(from * width),
        gradients.getLast().from(from * width),
        0,
        (to - from) * width);
  }
}
