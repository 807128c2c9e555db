package dev.sluice.operations;

import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.Launcher.Grid;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/// [NextTokenLoss] by blocks of tokens: libtorch's products, and kernels that make a block's loss
/// of its logits and put their gradient in their place. As on the CPU the gradients of hidden
/// states and output matrix are computed along with the loss, and scaled in the backward pass.
///
/// Logits are rounded to the product's type, as the definition's are. Targets are not read back to
/// be checked: one outside the vocabulary makes the loss NaN.
final class CudaLoss {
  /// Logits that are held at a time.
  private static final long HELD = 1 << 27;

  private CudaLoss() {}

  static boolean fits(Tensor hidden, Weight head, ElementType type) {
    return KernelOperands.areNumbers(hidden)
        && KernelOperands.isNumbers(type)
        && head.leaf().type() == ElementType.FLOAT32
        && hidden.elements() > 0;
  }

  /// @param zLoss the z-loss's weight
  static NextTokenLoss apply(
      Launcher launcher,
      Tensor hidden,
      Weight head,
      Tensor targets,
      ElementType type,
      double zLoss) {
    var x = hidden.to(type).contiguous();
    var leaf = head.leaf();
    boolean recording = FusedOp.recording(List.of(x), List.of(leaf));
    try (var scope = Scope.open()) {
      var results =
          FusedOp.apply(
              "logits and loss",
              List.of(x),
              List.of(leaf),
              () ->
                  new Call(
                          launcher,
                          x,
                          leaf,
                          head.of(type),
                          targets.contiguous(),
                          recording,
                          (float) zLoss)
                      .forward());
      var total = scope.keep(results.getFirst());
      return zLoss == 0
          ? new NextTokenLoss(total, total, null)
          : new NextTokenLoss(
              total, scope.keep(results.get(1).detach()), scope.keep(results.get(2).detach()));
    }
  }

  /// @param leaf the output matrix that takes the gradient
  /// @param head the same in x's type
  private record Call(
      Launcher launcher,
      Tensor x,
      Tensor leaf,
      Tensor head,
      Tensor targets,
      boolean recording,
      float zLoss) {
    private FusedOp.Forward forward() {
      long width = x.size(-1);
      long tokens = x.elements() / width;
      long vocabulary = head.size(0);
      var states = x.reshape(tokens, width);
      var ids = targets.reshape(tokens);
      var losses = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
      var logSums = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
      var dx = recording ? Tensor.uninitialized(x, x.type(), x.shape()) : x;
      var dHead =
          recording && leaf.requiresGradient()
              ? Tensor.uninitialized(leaf, leaf.type(), leaf.shape())
              : leaf;
      var dStates = dx.reshape(tokens, width);
      long block = Math.clamp(HELD / vocabulary, 1, tokens);
      for (long from = 0; from < tokens; from += block) {
        try (var _ = Scope.open()) {
          long rows = Math.min(block, tokens - from);
          var some = states.narrow(0, from, rows);
          var logits = some.linear(head);
          lossOf(
              logits,
              ids.narrow(0, from, rows),
              losses.narrow(0, from, rows),
              logSums.narrow(0, from, rows),
              1.0f / tokens);
          if (recording) { // the logits are their gradient now
            dStates.narrow(0, from, rows).copyFrom(logits.matmul(head));
          }
          if (dHead != leaf) {
            var product = logits.transpose(0, 1).matmul(some);
            if (from == 0) {
              dHead.copyFrom(product);
            } else {
              dHead.addInPlace(product, 1);
            }
          }
        }
      }
      return new FusedOp.Forward(
          means(losses, logSums),
          recording ? List.of(dx, dHead) : List.of(),
          upstreams -> gradients(dx, dHead, Objects.requireNonNull(upstreams.getFirst())));
    }

    private void lossOf(Tensor logits, Tensor ids, Tensor losses, Tensor logSums, float scale) {
      int vocabulary = Math.toIntExact(logits.size(1));
      boolean inPacks = KernelOperands.inPacks(vocabulary, logits);
      launcher.launch(
          KernelFamily.LOSS.kernel("cross_entropy", logits.type()),
          new Grid(
              logits.size(0),
              KernelOperands.threadsOfRow(vocabulary, inPacks, 512),
              64 * Float.BYTES),
          logits,
          ids,
          losses,
          logSums,
          vocabulary,
          scale,
          zLoss,
          KernelOperands.flag(recording),
          KernelOperands.flag(inPacks));
    }

    /// What is minimised; where there is a z-loss, both parts of it too.
    private List<Tensor> means(Tensor losses, Tensor logSums) {
      var crossEntropy = losses.mean(0);
      if (zLoss == 0) {
        return List.of(crossEntropy);
      }
      var zMean = logSums.square().mean(0).times(zLoss);
      var all = new ArrayList<Tensor>();
      all.add(crossEntropy.plus(zMean));
      all.add(crossEntropy);
      all.add(zMean);
      return all;
    }

    /// @param factor ∂L/∂ of what was minimised, on the device
    private Tensor[] gradients(Tensor dx, Tensor dHead, Tensor factor) {
      if (dHead != leaf) {
        FusedOp.gradientOf(
            leaf,
            (sum, add) ->
                launcher.launch(
                    KernelFamily.LOSS.kernel("scaled_sum"),
                    Grid.of(sum.elements()),
                    sum,
                    dHead,
                    factor,
                    sum.elements(),
                    KernelOperands.flag(add)));
      }
      launcher.launch(
          KernelFamily.LOSS.kernel("scaled", dx.type()),
          Grid.of(dx.elements()),
          dx,
          factor,
          dx.elements());
      return new Tensor[] {dx};
    }
  }
}
