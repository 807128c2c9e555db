package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.function.DoubleUnaryOperator;
import org.jspecify.annotations.Nullable;

/// Mean next-token cross-entropy straight from hidden states: logits exist for a block of tokens at
/// a time. Where gradients are recorded they are computed along with the loss, while the block's
/// logits are there, and scaled in the backward pass.
///
/// With a weight w the z-loss `w · mean (ln Σ e^l)²` is added, which keeps the logits of all tokens
/// from drifting away together (PaLM, arXiv 2204.02311, section 5; arXiv 2309.14322, section
/// 3.1.2).
///
/// @param total what is to be minimised: both together; the only one with a gradient, unless it is
///   the cross-entropy itself
/// @param crossEntropy mean of all tokens, in nats
/// @param zLoss what was added, or null for nothing
public record NextTokenLoss(Tensor total, Tensor crossEntropy, @Nullable Tensor zLoss) {
  /// Tokens whose logits a thread holds at a time.
  private static final long BLOCK = 64;

  /// The definition.
  ///
  /// @param type in which the product is computed
  /// @param weight w
  static NextTokenLoss composed(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double weight) {
    var rows = hidden.reshape(-1, hidden.size(-1));
    var logits = rows.to(type).linear(head.recorded(type)).to(ElementType.FLOAT32);
    return ofLogits(logits, targets.reshape(-1), weight);
  }

  /// The definition, in the logits' element type.
  static NextTokenLoss ofLogits(Tensor logits, Tensor targets, double weight) {
    var crossEntropy = logits.crossEntropy(targets);
    if (weight == 0) {
      return new NextTokenLoss(crossEntropy, crossEntropy, null);
    }
    var zLoss = logits.logSumExp(-1).square().mean().times(weight);
    return new NextTokenLoss(crossEntropy.plus(zLoss), crossEntropy.detach(), zLoss.detach());
  }

  /// @param hidden `[…, D]`
  /// @param head `[V, D]`
  /// @param targets token ids, int64, as many as hidden states
  /// @param weight w
  static NextTokenLoss apply(
      Tensor hidden, Weight head, Tensor targets, ElementType type, double weight) {
    var x = hidden.to(type).contiguous();
    var leaf = head.leaf();
    LogitBlocks.requireTargets(targets, leaf.size(0), 0);
    boolean recording = FusedOp.recording(List.of(x), List.of(leaf));
    try (var scope = Scope.open()) {
      double[] means = new double[2];
      var total =
          scope.keep(
              FusedOp.apply(
                      "logits and loss",
                      List.of(x),
                      List.of(leaf),
                      () ->
                          forward(
                              x,
                              leaf,
                              head.of(type),
                              targets.contiguous(),
                              recording,
                              weight,
                              means))
                  .getFirst());
      return weight == 0
          ? new NextTokenLoss(total, total, null)
          : new NextTokenLoss(
              total, scope.keep(LogitBlocks.one(means[0])), scope.keep(LogitBlocks.one(means[1])));
    }
  }

  /// @param means takes the cross-entropy and the z-loss
  private static FusedOp.Forward forward(
      Tensor x,
      Tensor leaf,
      Tensor head,
      Tensor targets,
      boolean recording,
      double zWeight,
      double[] means) {
    long tokens = x.elements() / x.size(-1);
    long vocabulary = head.size(0);
    var states = Matrix.of(x);
    var weight = Matrix.of(head);
    var losses = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
    var logSums = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
    var loss = losses.memory();
    var logSum = logSums.memory();
    var target = targets.memory();
    return new LogitBlocks(x, leaf, head, recording)
        .forward(
            BLOCK,
            (from, to, gradients) -> {
              var logits = Scratch.numbers("logits", BLOCK * vocabulary, false);
              MatrixProduct.multiply(
                  states.rows(from, to),
                  weight.transposed(),
                  Matrix.of(logits, to - from, vocabulary),
                  false);
              Kernels.FASTEST.crossEntropy(
                  logits.memory(),
                  target.asSlice(8 * from),
                  loss.asSlice(4 * from),
                  logSum.asSlice(4 * from),
                  gradients,
                  1.0 / tokens,
                  zWeight,
                  Math.toIntExact(vocabulary),
                  0,
                  to - from);
            },
            () -> {
              means[0] = mean(losses, DoubleUnaryOperator.identity());
              means[1] = zWeight == 0 ? 0 : zWeight * mean(logSums, sum -> sum * sum);
              return means[0] + means[1];
            });
  }

  private static double mean(Tensor rows, DoubleUnaryOperator of) {
    double sum = 0;
    var memory = rows.memory();
    for (long i = 0; i < rows.elements(); i++) {
      sum += of.applyAsDouble(memory.getAtIndex(ValueLayout.JAVA_FLOAT, i));
    }
    return sum / rows.elements();
  }
}
