package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// [SigmoidGate] by kernels, together with the transposition that stands before it.
final class CudaGate {
  private CudaGate() {}

  static boolean fits(Tensor yBTNH, Tensor logits) {
    return yBTNH.shape().length == 4
        && KernelOperands.areNumbers(yBTNH, logits)
        && yBTNH.elements() > 0
        && yBTNH.elements() <= Integer.MAX_VALUE;
  }

  /// @param yBTNH of which heads may lie in any order, as attention leaves them
  static Tensor apply(Launcher launcher, Tensor yBTNH, Tensor logits) {
    var y = isTransposed(yBTNH) ? yBTNH : yBTNH.contiguous();
    var z = logits.contiguous();
    var gate = new Call(launcher, y, z);
    return FusedOp.apply("gate", List.of(y, z), List.of(y, z), gate::forward, gate::backward);
  }

  /// Whether it is a view of contiguous `[B, N, T, H]`.
  private static boolean isTransposed(Tensor yBTNH) {
    var yBNTH = yBTNH.transpose(1, 2);
    return yBNTH.contiguous() == yBNTH;
  }

  /// @param z contiguous
  private record Call(Launcher launcher, Tensor y, Tensor z) {
    private int rows() {
      return Math.toIntExact(y.elements() / y.size(3));
    }

    private boolean elementwise() {
      return z.elements() == y.elements();
    }

    private Tensor forward() {
      var out = Tensor.uninitialized(y, z.type(), y.shape());
      boolean inPacks = KernelOperands.inPacks(y.size(3), y, out, elementwise() ? z : null);
      launcher.launch(
          KernelFamily.GATE.kernel("gate_forward", y.type(), z.type()),
          ofPieces(inPacks),
          y,
          z,
          out,
          Math.toIntExact(y.size(1)),
          Math.toIntExact(y.size(2)),
          y.stride(0),
          y.stride(1),
          y.stride(2),
          rows(),
          Math.toIntExact(y.size(3)),
          KernelOperands.flag(elementwise()),
          KernelOperands.flag(inPacks));
      return out;
    }

    private Tensor[] backward(Tensor upstream) {
      var dy = likeY();
      var dz = Tensor.uninitialized(z, z.type(), z.shape());
      int width = Math.toIntExact(y.size(3));
      int tokens = Math.toIntExact(y.size(1));
      int heads = Math.toIntExact(y.size(2));
      if (elementwise()) {
        boolean inPacks = KernelOperands.inPacks(width, upstream, y, z, dy, dz);
        launcher.launch(
            KernelFamily.GATE.kernel("gate_backward_elementwise", y.type(), z.type()),
            ofPieces(inPacks),
            upstream,
            y,
            z,
            dy,
            dz,
            tokens,
            heads,
            y.stride(0),
            y.stride(1),
            y.stride(2),
            rows(),
            width,
            KernelOperands.flag(inPacks));
      } else {
        boolean inPacks = KernelOperands.inPacks(width, upstream, y, dy);
        int lanes = KernelOperands.lanes(inPacks ? width / KernelOperands.PACK : width);
        launcher.launch(
            KernelFamily.GATE.kernel("gate_backward_headwise", y.type(), z.type()),
            Grid.of((long) rows() * lanes),
            upstream,
            y,
            z,
            dy,
            dz,
            tokens,
            heads,
            y.stride(0),
            y.stride(1),
            y.stride(2),
            rows(),
            width,
            lanes,
            KernelOperands.flag(inPacks));
      }
      return new Tensor[] {dy, dz};
    }

    private Grid ofPieces(boolean inPacks) {
      return Grid.of(y.elements() / (inPacks ? KernelOperands.PACK : 1));
    }

    /// Memory that lies as y does.
    private Tensor likeY() {
      if (y.contiguous() == y) {
        return Tensor.uninitialized(y, y.type(), y.shape());
      }
      return Tensor.uninitialized(y, y.type(), y.size(0), y.size(2), y.size(1), y.size(3))
          .transpose(1, 2);
    }
  }
}
