package dev.sluice.decoder;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// `silu(gate) ⊙ up`, the feed-forward's inner activation, as one operation.
final class SwiGlu {
  private static final long GRAIN = 1 << 14;

  private SwiGlu() {}

  /// The definition.
  static Tensor composed(Tensor gate, Tensor up) {
    return gate.silu().times(up);
  }

  /// The same in one pass over memory, forwards and backwards.
  static Tensor apply(Tensor gate, Tensor up) {
    if (!gate.isOnCpu()) {
      return composed(gate, up);
    }
    return FusedOp.apply(
        List.of(gate, up),
        List.of(gate, up),
        () -> {
          var out = Tensor.uninitialized(gate, gate.type(), gate.shape());
          var gates = gate.numbers();
          var ups = up.numbers();
          var outs = out.numbers();
          Threads.split(
              gate.elements(),
              GRAIN,
              (from, to) -> Kernels.FASTEST.swiGlu(gates, ups, outs, from, to));
          return out;
        },
        upstream -> {
          var dGate = Tensor.uninitialized(gate, gate.type(), gate.shape());
          var dUp = Tensor.uninitialized(up, up.type(), up.shape());
          var dOut = upstream.numbers();
          var gates = gate.numbers();
          var ups = up.numbers();
          var dGates = dGate.numbers();
          var dUps = dUp.numbers();
          Threads.split(
              gate.elements(),
              GRAIN,
              (from, to) ->
                  Kernels.FASTEST.swiGluBackward(dOut, gates, ups, dGates, dUps, from, to));
          return new Tensor[] {dGate, dUp};
        });
  }
}
