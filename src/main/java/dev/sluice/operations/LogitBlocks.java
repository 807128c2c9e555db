package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import java.util.List;
import java.util.Objects;
import java.util.function.DoubleSupplier;
import org.jspecify.annotations.Nullable;

/// One pass over all tokens of a loss whose logits exist for a block of tokens at a time, with the
/// gradients of hidden states and output matrix, which are computed along with the loss and scaled
/// in the backward pass.
///
/// @param x hidden states `[…, D]`
/// @param leaf the output matrix that takes the gradient, `[V, D]`
/// @param head the same in the element type of `x`
/// @param recording whether there are gradients
record LogitBlocks(Tensor x, Tensor leaf, Tensor head, boolean recording) {
  /// Gradients of logits that are held at a time, unless the vocabulary is too large for it.
  private static final long HELD = 1 << 23;

  /// Computes the logits and the loss of some tokens.
  @FunctionalInterface
  interface Block {
    /// @param gradients takes those of the logits of the tokens `from … to`; null for none
    void compute(long from, long to, @Nullable Floats gradients);
  }

  /// The kernels would read another token's logits, or beyond all of them.
  ///
  /// @param none a target that stands for none; 0 where every token has one
  static void requireTargets(Tensor targets, long vocabulary, long none) {
    for (long target : targets.longs()) {
      if (target != none && (target < 0 || target >= vocabulary)) {
        throw new IllegalArgumentException(
            "the target " + target + " is outside the vocabulary of " + vocabulary);
      }
    }
  }

  /// A scalar in float32.
  static Tensor one(double value) {
    return Tensor.of(new float[] {(float) value}, 1);
  }

  /// @param size tokens of a block
  /// @param total the loss, when all blocks are computed
  FusedOp.Forward forward(long size, Block block, DoubleSupplier total) {
    long tokens = x.elements() / x.size(-1);
    long vocabulary = head.size(0);
    var dx = recording ? Tensor.uninitialized(x, x.type(), x.shape()) : x;
    var dHead =
        recording && leaf.requiresGradient()
            ? Tensor.uninitialized(leaf, leaf.type(), leaf.shape())
            : leaf;
    var states = Matrix.of(x);
    var weight = Matrix.of(head);
    var dStates = Matrix.of(dx);
    long most = Math.max(HELD / vocabulary, 2 * size * Threads.count()); // work for every thread
    long held = Math.min(most, Math.ceilDiv(tokens, size) * size);
    for (long start = 0; start < tokens; start += held) {
      long first = start;
      long end = Math.min(tokens, start + held);
      var dLogits =
          Matrix.of(
              Scratch.numbers(
                  "dLogits", recording ? held * vocabulary : 0, x.type() == ElementType.BFLOAT16),
              end - start,
              vocabulary);
      Threads.split(
          Math.ceilDiv(end - start, size),
          1,
          (fromBlock, toBlock) -> {
            for (long each = fromBlock; each < toBlock; each++) {
              long from = first + each * size;
              long to = Math.min(end, from + size);
              var gradients = dLogits.rows(from - first, to - first);
              block.compute(
                  from, to, recording ? gradients.elements().from(gradients.start()) : null);
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
    return new FusedOp.Forward(
        List.of(one(total.getAsDouble())),
        recording ? List.of(dx, dHead) : List.of(),
        upstreams -> gradients(dx, dHead, Objects.requireNonNull(upstreams.getFirst()).item()));
  }

  private Tensor[] gradients(Tensor dx, Tensor dHead, double scale) {
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
  }
}
