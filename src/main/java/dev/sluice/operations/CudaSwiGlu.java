package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.List;

/// The activation of [SwiGlu] between libtorch's products, `silu(gate) ⊙ up`, by kernels.
final class CudaSwiGlu {
  private CudaSwiGlu() {}

  /// @param gate float32 or bfloat16, not empty
  /// @param up of the same type and shape
  static Tensor apply(Launcher launcher, Tensor gate, Tensor up) {
    var g = gate.contiguous();
    var u = up.contiguous();
    return FusedOp.apply(
        "feed-forward activation",
        List.of(g, u),
        List.of(g, u),
        () -> {
          var out = Tensor.uninitialized(g, g.type(), g.shape());
          boolean inPacks = KernelOperands.inPacks(g.elements(), g, u, out);
          launcher.launch(
              KernelFamily.SWIGLU.kernel("swiglu", g.type()),
              grid(g, inPacks),
              g,
              u,
              out,
              g.elements(),
              KernelOperands.flag(inPacks));
          return out;
        },
        upstream -> {
          var dGate = Tensor.uninitialized(g, g.type(), g.shape());
          var dUp = Tensor.uninitialized(g, g.type(), g.shape());
          boolean inPacks = KernelOperands.inPacks(g.elements(), upstream, g, u, dGate, dUp);
          launcher.launch(
              KernelFamily.SWIGLU.kernel("swiglu_backward", g.type()),
              grid(g, inPacks),
              upstream,
              g,
              u,
              dGate,
              dUp,
              g.elements(),
              KernelOperands.flag(inPacks));
          return new Tensor[] {dGate, dUp};
        });
  }

  private static Grid grid(Tensor gate, boolean inPacks) {
    return Grid.of(gate.elements() / (inPacks ? KernelOperands.PACK : 1));
  }
}
