package dev.sluice.operations;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Kernels;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.MatrixProduct;
import dev.sluice.tensor.MatrixProduct.Matrix;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Scratch;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The next-token loss together with the divergence from another model's answers, straight from
/// hidden states of both: `a · CE + b · KL + z`. Logits exist for a few tokens at a time, as in
/// [NextTokenLoss].
///
/// With p the other model's probabilities and q this model's, KL is the mean over all tokens of `Σ
/// p (ln p − ln q)`, whose gradient by this model's logits is `q − p`; the other way round it is `Σ
/// q (ln q − ln p)`, with the gradient `q (ln q − ln p − KL)`.
///
/// A token whose target is [#NO_TARGET] counts in KL and in the z-loss and not in CE: such as the
/// last one of a text.
///
/// @param total what is to be minimised; the only one with a gradient
/// @param crossEntropy mean of all tokens that have a target, in nats
/// @param divergence KL, in nats
/// @param zLoss what was added of it, or null for nothing
public record DistilledLoss(
    Tensor total, Tensor crossEntropy, Tensor divergence, @Nullable Tensor zLoss) {
  /// In the place of a target: nobody knows which token follows.
  public static final long NO_TARGET = -100; // libtorch's word for it

  /// Which distribution the divergence takes its mean over.
  public enum Direction {
    /// KL(other‖this): this model is to cover all that the other one finds likely.
    FROM_OTHER,
    /// KL(this‖other): this model is to find likely only what the other one does.
    FROM_THIS
  }

  /// The other model's answers to the same tokens; no gradient goes there.
  ///
  /// @param hidden `[…, D′]`, as many as this model's
  /// @param head `[V, D′]`
  public record Teacher(Tensor hidden, Weight head) {}

  /// What the parts count.
  ///
  /// @param crossEntropy a
  /// @param divergence b
  /// @param zLoss weight of the z-loss, 0 for none
  public record Shares(double crossEntropy, double divergence, Direction direction, double zLoss) {}

  /// Numbers of logits that a thread holds at a time of each kind.
  private static final long AT_ONCE = 1 << 22;

  private static final long MOST_ROWS = 64;

  // of what a forward pass sums up
  private static final int CROSS_ENTROPY = 0;
  private static final int DIVERGENCE = 1;
  private static final int SQUARED_LOG_SUM = 2;

  /// The definition.
  static DistilledLoss composed(
      Tensor hidden,
      Weight head,
      Tensor targets,
      Teacher teacher,
      ElementType type,
      Shares shares) {
    var rows = hidden.reshape(-1, hidden.size(-1)).to(type);
    var theirs = teacher.hidden.reshape(-1, teacher.hidden.size(-1)).to(type);
    return ofLogits(
        rows.linear(head.recorded(type)).wide(),
        theirs.linear(teacher.head.of(type)).wide().detach(),
        targets.reshape(-1),
        shares);
  }

  /// The definition, in the logits' element type.
  static DistilledLoss ofLogits(
      Tensor logits, Tensor teacherLogits, Tensor targets, Shares shares) {
    long tokens = targets.elements();
    var logSum = logits.logSumExp(-1);
    var logQ = logits.minus(logSum.reshape(tokens, 1));
    var logP = teacherLogits.minus(teacherLogits.logSumExp(-1).reshape(tokens, 1));
    var crossEntropy = logits.crossEntropy(targets);
    var divergence =
        switch (shares.direction) {
          case FROM_OTHER -> logP.exp().times(logP.minus(logQ)).sum().times(1.0 / tokens);
          case FROM_THIS -> logQ.exp().times(logQ.minus(logP)).sum().times(1.0 / tokens);
        };
    var total = crossEntropy.times(shares.crossEntropy).plus(divergence.times(shares.divergence));
    if (shares.zLoss == 0) {
      return new DistilledLoss(total, crossEntropy.detach(), divergence.detach(), null);
    }
    var zLoss = logSum.square().mean().times(shares.zLoss);
    return new DistilledLoss(
        total.plus(zLoss), crossEntropy.detach(), divergence.detach(), zLoss.detach());
  }

  /// @param hidden `[…, D]`
  /// @param head `[V, D]`
  /// @param targets token ids, int64, as many as hidden states
  static DistilledLoss apply(
      Tensor hidden,
      Weight head,
      Tensor targets,
      Teacher teacher,
      ElementType type,
      Shares shares) {
    var x = hidden.to(type).contiguous();
    var leaf = head.leaf();
    LogitBlocks.requireTargets(targets, leaf.size(0), NO_TARGET);
    boolean recording = FusedOp.recording(List.of(x), List.of(leaf));
    try (var scope = Scope.open()) {
      double[] sums = new double[3];
      var pass =
          new Pass(
              x,
              leaf,
              head.of(type),
              teacher.hidden.detach().to(type).contiguous(),
              teacher.head.of(type).detach(),
              targets.longs(),
              recording,
              shares);
      var total =
          scope.keep(
              FusedOp.apply(
                      "logits and distilled loss",
                      List.of(x),
                      List.of(leaf),
                      () -> pass.forward(sums))
                  .getFirst());
      return new DistilledLoss(
          total,
          scope.keep(LogitBlocks.one(sums[CROSS_ENTROPY])),
          scope.keep(LogitBlocks.one(sums[DIVERGENCE])),
          shares.zLoss == 0
              ? null
              : scope.keep(LogitBlocks.one(shares.zLoss * sums[SQUARED_LOG_SUM])));
    }
  }

  /// One pass over all tokens.
  private record Pass(
      Tensor x,
      Tensor leaf,
      Tensor head,
      Tensor theirs,
      Tensor theirHead,
      long[] targets,
      boolean recording,
      Shares shares) {
    /// @param means takes the cross-entropy, the divergence, and the mean of squared log-sums
    FusedOp.Forward forward(double[] means) {
      long tokens = x.elements() / x.size(-1);
      long block = Math.clamp(AT_ONCE / head.size(0), 8, MOST_ROWS);
      // At least one, so that nothing is divided by zero.
      double known =
          Math.max(1, Arrays.stream(targets).filter(target -> target != NO_TARGET).count());
      double[][] ofToken = new double[Math.toIntExact(tokens)][];
      return new LogitBlocks(x, leaf, head, recording)
          .forward(
              block,
              (from, to, gradients) -> rows(from, to, known, gradients, ofToken),
              () -> {
                for (double[] one : ofToken) {
                  means[CROSS_ENTROPY] += one[CROSS_ENTROPY] / known;
                  means[DIVERGENCE] += one[DIVERGENCE] / tokens;
                  means[SQUARED_LOG_SUM] += one[SQUARED_LOG_SUM] / tokens;
                }
                return shares.crossEntropy * means[CROSS_ENTROPY]
                    + shares.divergence * means[DIVERGENCE]
                    + shares.zLoss * means[SQUARED_LOG_SUM];
              });
    }

    /// The parts of the tokens `from … to`, and the gradient of their logits.
    ///
    /// @param known how many tokens have a target
    private void rows(
        long from, long to, double known, @Nullable Floats gradients, double[][] ofToken) {
      long count = to - from;
      long vocabulary = head.size(0);
      var logSums = Scratch.numbers("logSums", count, false).memory();
      var theirLogSums = Scratch.numbers("their logSums", count, false).memory();
      var ours = probabilities("", Matrix.of(x).rows(from, to), Matrix.of(head), from, to, logSums);
      var others =
          probabilities(
              "their ",
              Matrix.of(theirs).rows(from, to),
              Matrix.of(theirHead),
              from,
              to,
              theirLogSums);
      boolean fromOther = shares.direction == Direction.FROM_OTHER;
      double tokens = ofToken.length;
      for (long row = 0; row < count; row++) {
        long at = row * vocabulary;
        long wanted = targets[Math.toIntExact(from + row)];
        double ofCrossEntropy = wanted == NO_TARGET ? 0 : shares.crossEntropy / known;
        long target = at + Math.max(0, wanted);
        double logSum = logSums.getAtIndex(ValueLayout.JAVA_FLOAT, row);
        double theirLogSum = theirLogSums.getAtIndex(ValueLayout.JAVA_FLOAT, row);
        double divergence = 0;
        for (long i = at; i < at + vocabulary; i++) {
          double logRatio = ours.logarithm(i, logSum) - others.logarithm(i, theirLogSum);
          divergence +=
              fromOther
                  ? -others.probability(i, target) * logRatio
                  : ours.probability(i, target) * logRatio;
        }
        ofToken[Math.toIntExact(from + row)] =
            new double[] {
              wanted == NO_TARGET ? 0 : -ours.logarithm(target, logSum), divergence, logSum * logSum
            };
        double ofLogSum = 2 * shares.zLoss * logSum;
        for (long i = at; gradients != null && i < at + vocabulary; i++) {
          double q = ours.probability(i, target);
          double ofDivergence =
              fromOther
                  ? ours.lessOne(i) - others.lessOne(i)
                  : q * (ours.logarithm(i, logSum) - others.logarithm(i, theirLogSum) - divergence);
          double gradient =
              ofCrossEntropy * ours.lessOne(i)
                  + (shares.divergence * ofDivergence + (ofLogSum == 0 ? 0 : ofLogSum * q))
                      / tokens;
          ours.softmax.memory().setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) gradient);
        }
      }
      if (gradients != null) {
        Kernels.FASTEST.copy(ours.softmax, gradients, 0, count * vocabulary);
      }
    }

    /// Logits of rows and their softmax; the cross-entropy's kernel gives the softmax less one at
    /// the target, which is 0 where there is none.
    private record Softmax(MemorySegment logits, Floats softmax) {
      /// Of the softmax, the target's less one.
      double lessOne(long i) {
        return softmax.memory().getAtIndex(ValueLayout.JAVA_FLOAT, i);
      }

      double probability(long i, long target) {
        return i == target ? lessOne(i) + 1 : lessOne(i);
      }

      double logarithm(long i, double logSum) {
        return logits.getAtIndex(ValueLayout.JAVA_FLOAT, i) - logSum;
      }
    }

    private Softmax probabilities(
        String whose, Matrix rows, Matrix weight, long from, long to, MemorySegment logSums) {
      long count = to - from;
      long vocabulary = head.size(0);
      var logits = Scratch.numbers(whose + "logits", count * vocabulary, false);
      var lessOne = Scratch.numbers(whose + "softmax", count * vocabulary, false);
      var losses = Scratch.numbers(whose + "losses", count, false);
      long[] any = Arrays.copyOfRange(targets, Math.toIntExact(from), Math.toIntExact(to));
      Arrays.setAll(any, row -> Math.max(0, any[row]));
      MatrixProduct.multiply(
          rows, weight.transposed(), Matrix.of(logits, count, vocabulary), false);
      Kernels.FASTEST.crossEntropy(
          logits.memory(),
          MemorySegment.ofArray(any),
          losses.memory(),
          logSums,
          lessOne,
          1,
          0,
          Math.toIntExact(vocabulary),
          0,
          count);
      return new Softmax(logits.memory(), lessOne);
    }
  }
}
