package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// y′ = y ⊙ σ(z) as one operation: the multiplicative sigmoid gate, elementwise or headwise. On
/// attention's output the fused attention computes the same on its way.
final class SigmoidGate {
  private static final long GRAIN =
      1 << 14; // elements below which a second thread costs more than it saves

  private SigmoidGate() {}

  /// The definition. The result has the element type of `logits`.
  ///
  /// @param yBTNH what is gated
  /// @param logits `[B, T, N, H]` (elementwise) or `[B, T, N]` (headwise)
  static Tensor composed(Tensor yBTNH, Tensor logits) {
    var z = logits.type().bytes() < 4 ? logits.to(ElementType.FLOAT32) : logits;
    var scores = z.sigmoid();
    boolean headwise = logits.shape().length == 3;
    return yBTNH
        .times(
            headwise ? scores.reshape(logits.size(0), logits.size(1), logits.size(2), 1) : scores)
        .to(logits.type());
  }

  /// The same in one pass over memory, forwards and backwards; for another element type than
  /// float32 and bfloat16 the definition. The result has the element type of `logits`.
  static Tensor apply(Tensor yBTNH, Tensor logits) {
    if (!fusable(yBTNH.type()) || !fusable(logits.type())) {
      return composed(yBTNH, logits);
    }
    var y = yBTNH.contiguous();
    var z = logits.contiguous();
    int width = Math.toIntExact(y.elements() / z.elements());
    return FusedOp.apply(
        "gate",
        List.of(y, z),
        List.of(y, z),
        () -> {
          var out = Tensor.uninitialized(y, z.type(), y.shape());
          split(
              z.elements(),
              width,
              (from, to) ->
                  Kernels.FASTEST.sigmoidGate(floats(y), floats(z), floats(out), width, from, to));
          return out;
        },
        upstream -> {
          var dy = Tensor.uninitialized(y, y.type(), y.shape());
          var dz = Tensor.uninitialized(z, z.type(), z.shape());
          split(
              z.elements(),
              width,
              (from, to) ->
                  Kernels.FASTEST.sigmoidGateBackward(
                      floats(upstream),
                      floats(y),
                      floats(z),
                      floats(dy),
                      floats(dz),
                      width,
                      from,
                      to));
          return new Tensor[] {dy, dz};
        });
  }

  private static void split(long rows, int width, Threads.Part part) {
    Threads.split(rows, Math.max(1, GRAIN / width), part);
  }

  private static boolean fusable(ElementType type) {
    return type == ElementType.FLOAT32 || type == ElementType.BFLOAT16;
  }

  private static Floats floats(Tensor tensor) {
    return new Floats(tensor.memory(), tensor.type() == ElementType.BFLOAT16);
  }
}
