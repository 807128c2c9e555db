package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
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
import java.util.Objects;
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

  /// Gradients of logits that are held at a time, unless the vocabulary is too large for it.
  private static final long HELD = 1 << 23;

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
    requireInVocabulary(targets, leaf.size(0));
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
          : new NextTokenLoss(total, scope.keep(one(means[0])), scope.keep(one(means[1])));
    }
  }

  private static Tensor one(double value) {
    return Tensor.of(new float[] {(float) value}, 1);
  }

  /// The kernel would read another token's logits, or beyond all of them.
  private static void requireInVocabulary(Tensor targets, long vocabulary) {
    for (long target : targets.longs()) {
      if (target < 0 || target >= vocabulary) {
        throw new IllegalArgumentException(
            "the target " + target + " is outside the vocabulary of " + vocabulary);
      }
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
    long width = x.size(-1);
    long tokens = x.elements() / width;
    long vocabulary = head.size(0);
    boolean bfloat16 = x.type() == ElementType.BFLOAT16;
    var states = Matrix.of(x);
    var weight = Matrix.of(head);
    var losses = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
    var logSums = Tensor.uninitialized(x, ElementType.FLOAT32, tokens);
    var dx = recording ? Tensor.uninitialized(x, x.type(), x.shape()) : x;
    var dHead =
        recording && leaf.requiresGradient()
            ? Tensor.uninitialized(leaf, leaf.type(), leaf.shape())
            : leaf;
    var loss = losses.memory();
    var logSum = logSums.memory();
    var target = targets.memory();
    var dStates = Matrix.of(dx);
    long most = Math.max(HELD / vocabulary, 2 * BLOCK * Threads.count()); // work for every thread
    long held = Math.min(most, Math.ceilDiv(tokens, BLOCK) * BLOCK);
    for (long start = 0; start < tokens; start += held) {
      long end = Math.min(tokens, start + held);
      long first = start;
      var dLogits =
          Matrix.of(
              Scratch.numbers("dLogits", recording ? held * vocabulary : 0, bfloat16),
              end - start,
              vocabulary);
      Threads.split(
          Math.ceilDiv(end - start, BLOCK),
          1,
          (fromBlock, toBlock) -> {
            var logits = Scratch.numbers("logits", BLOCK * vocabulary, false);
            for (long block = fromBlock; block < toBlock; block++) {
              long from = first + block * BLOCK;
              long to = Math.min(end, from + BLOCK);
              MatrixProduct.multiply(
                  states.rows(from, to),
                  weight.transposed(),
                  Matrix.of(logits, to - from, vocabulary),
                  false);
              var gradients = dLogits.rows(from - first, to - first);
              Kernels.FASTEST.crossEntropy(
                  logits.memory(),
                  target.asSlice(8 * from),
                  loss.asSlice(4 * from),
                  logSum.asSlice(4 * from),
                  recording ? gradients.elements().from(gradients.start()) : null,
                  1.0 / tokens,
                  zWeight,
                  Math.toIntExact(vocabulary),
                  0,
                  to - from);
              if (recording) {
                MatrixProduct.multiply(gradients, weight, dStates.rows(from, to), false);
              }
            }
          });
      if (dHead != leaf) {
        MatrixProduct.split(
            dLogits.transposed(), states.rows(start, end), Matrix.of(dHead), start > 0);
      }
    }
    means[0] = mean(losses, DoubleUnaryOperator.identity());
    means[1] = zWeight == 0 ? 0 : zWeight * mean(logSums, sum -> sum * sum);
    return new FusedOp.Forward(
        List.of(one(means[0] + means[1])),
        recording ? List.of(dx, dHead) : List.of(),
        upstreams -> {
          double scale = Objects.requireNonNull(upstreams.getFirst()).item();
          if (dHead != leaf) {
            FusedOp.gradientOf(
                leaf,
                (sum, add) -> {
                  if (add) {
                    sum.addInPlace(dHead, scale);
                  } else {
                    sum.copyFrom(dHead).scaleInPlace(scale);
                  }
                });
          }
          return new Tensor[] {scale == 1 ? dx : dx.scaleInPlace(scale)};
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
