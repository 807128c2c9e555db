package dev.sluice.tensor;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// libtorch's flash attention, which holds no attention weights: on CUDA in bfloat16 with windows
/// and sequences of different lengths, on the CPU for whole sequences. Both take grouped heads as
/// they are.
///
/// What a backward pass takes is not only what the forward pass gave: the kernels compute `dS = P ⊙
/// (dy vᵀ − Σ dy ⊙ y)` with `P = exp(S − LSE)` from the y and the LSE that they are handed.
public final class FlashAttention {
  private static final NamedOperation CUDA = NamedOperation.of("_flash_attention_forward");
  private static final NamedOperation CUDA_BACKWARD =
      NamedOperation.of("_flash_attention_backward");
  private static final NamedOperation CPU =
      NamedOperation.of("_scaled_dot_product_flash_attention_for_cpu");
  private static final NamedOperation CPU_BACKWARD =
      NamedOperation.of("_scaled_dot_product_flash_attention_for_cpu_backward");

  /// The most numbers of a head that CUDA's kernels take; they want a multiple of [#WIDTHS].
  private static final int MOST_WIDTH = 256;

  private static final int WIDTHS = 8;

  /// What [#backward] adds to each head where it is given something to add to the sums.
  public static final int ROOM_FOR_SUM = WIDTHS;

  private FlashAttention() {}

  /// Which keys a query sees besides that none is after it.
  ///
  /// @param window how many, its own included; 0 for all before it
  /// @param bounds where in all rows one after the other a sequence begins, and behind them the
  ///   number of tokens, int32; null where each row is one
  /// @param longest tokens of the longest sequence
  public record Seen(int window, @Nullable Tensor bounds, long longest) {
    public Seen {
      window = window >= longest ? 0 : window;
    }

    /// Whether it sees all that stand before it in its row.
    public boolean isAllBefore() {
      return bounds == null && window == 0;
    }
  }

  /// What attention gives.
  ///
  /// @param logSumExpBTN float32, without a gradient
  /// @param random what a backward pass is to be given of the state of random numbers, which nobody
  ///   draws
  public record Attended(Tensor yBTNH, Tensor logSumExpBTN, List<Tensor> random) {}

  /// Whether there is a kernel for this.
  ///
  /// @param more numbers that are to be added to each head
  public static boolean takes(Tensor qBTNH, Seen seen, int more) {
    return qBTNH.isOnCpu()
        ? seen.isAllBefore() && isForCpu(qBTNH.type())
        : qBTNH.type() == ElementType.BFLOAT16 && padded(qBTNH.size(3) + more) <= MOST_WIDTH;
  }

  private static boolean isForCpu(ElementType type) {
    return type == ElementType.FLOAT32 || type == ElementType.BFLOAT16;
  }

  private static long padded(long width) {
    return Math.ceilDiv(width, WIDTHS) * WIDTHS;
  }

  /// Attends over whole sequences. Where gradients are recorded and a query sees all before it,
  /// libtorch records that of y; for all else there is [#backward].
  ///
  /// @param qBTNH queries
  /// @param kBTMH keys of the same type, N a multiple of M
  public static Attended forward(Tensor qBTNH, Tensor kBTMH, Tensor vBTMH, Seen seen) {
    double scale = scale(qBTNH);
    if (qBTNH.isOnCpu()) {
      var both =
          BlasThreads.withOne(
              () ->
                  CPU.call(
                      qBTNH.transpose(1, 2),
                      kBTMH.transpose(1, 2),
                      vBTMH.transpose(1, 2),
                      0.0,
                      true,
                      null,
                      scale));
      return new Attended(both.get(0).transpose(1, 2), both.get(1).transpose(1, 2), List.of());
    }
    long width = qBTNH.size(3);
    long more = padded(width) - width;
    var results =
        CUDA.call(
            rows(wider(qBTNH, more), seen),
            rows(wider(kBTMH, more), seen),
            rows(wider(vBTMH, more), seen),
            seen.bounds(),
            seen.bounds(),
            seen.longest(),
            seen.longest(),
            0.0,
            true,
            false,
            scale,
            seen.window() == 0 ? null : Long.valueOf(seen.window() - 1L),
            seen.window() == 0 ? null : Long.valueOf(0),
            null,
            null,
            null,
            null);
    var y = results.get(0).reshape(qBTNH.size(0), qBTNH.size(1), qBTNH.size(2), padded(width));
    return new Attended(
        more == 0 ? y : y.narrow(3, 0, width),
        ofRows(results.get(1), qBTNH, seen),
        results.subList(2, 4));
  }

  /// The gradients of queries, keys and values.
  ///
  /// @param dyBTNH of y, of its type
  /// @param attended whose y Σ dy ⊙ y is taken from, and whose log-sum-exp the weights are computed
  ///   from again
  /// @param addedBTN added to Σ dy ⊙ y, or null
  public static List<Tensor> backward(
      Tensor dyBTNH,
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      Attended attended,
      @Nullable Tensor addedBTN,
      Seen seen) {
    if (addedBTN != null) {
      // heads that are wider by numbers of which dy ⊙ y sees one, and the scores and dy vᵀ none
      return backward(
              Tensor.concatenate(List.of(dyBTNH, first(addedBTN, dyBTNH)), 3),
              wider(qBTNH, WIDTHS),
              wider(kBTMH, WIDTHS),
              wider(vBTMH, WIDTHS),
              new Attended(
                  Tensor.concatenate(
                      List.of(attended.yBTNH(), first(ones(addedBTN), attended.yBTNH())), 3),
                  attended.logSumExpBTN(),
                  attended.random()),
              scale(qBTNH),
              seen)
          .stream()
          .map(gradient -> gradient.narrow(3, 0, qBTNH.size(3)))
          .toList();
    }
    return backward(dyBTNH, qBTNH, kBTMH, vBTMH, attended, scale(qBTNH), seen);
  }

  private static List<Tensor> backward(
      Tensor dyBTNH,
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      Attended attended,
      double scale,
      Seen seen) {
    if (qBTNH.isOnCpu()) {
      return BlasThreads.withOne(
              () ->
                  CPU_BACKWARD.call(
                      dyBTNH.transpose(1, 2),
                      qBTNH.transpose(1, 2),
                      kBTMH.transpose(1, 2),
                      vBTMH.transpose(1, 2),
                      attended.yBTNH().transpose(1, 2),
                      attended.logSumExpBTN().transpose(1, 2),
                      0.0,
                      true,
                      null,
                      scale))
          .stream()
          .map(gradient -> gradient.transpose(1, 2))
          .toList();
    }
    long width = qBTNH.size(3);
    long more = padded(width) - width;
    var logSumExp =
        seen.bounds() == null
            ? attended.logSumExpBTN().transpose(1, 2).contiguous()
            : attended.logSumExpBTN().reshape(-1, qBTNH.size(2)).transpose(0, 1).contiguous();
    var bounds = seen.bounds() == null ? NamedOperation.UNDEFINED : seen.bounds();
    var gradients =
        CUDA_BACKWARD.call(
            rows(wider(dyBTNH, more), seen),
            rows(wider(qBTNH, more), seen),
            rows(wider(kBTMH, more), seen),
            rows(wider(vBTMH, more), seen),
            rows(wider(attended.yBTNH(), more), seen),
            logSumExp,
            bounds,
            bounds,
            seen.longest(),
            seen.longest(),
            0.0,
            true,
            attended.random().get(0),
            attended.random().get(1),
            scale,
            seen.window() == 0 ? null : Long.valueOf(seen.window() - 1L),
            seen.window() == 0 ? null : Long.valueOf(0));
    return List.of(
        narrowed(gradients.get(0), qBTNH),
        narrowed(gradients.get(1), kBTMH),
        narrowed(gradients.get(2), vBTMH));
  }

  private static Tensor narrowed(Tensor gradient, Tensor of) {
    var wide = gradient.reshape(of.size(0), of.size(1), of.size(2), gradient.size(-1));
    return wide.size(3) == of.size(3) ? wide : wide.narrow(3, 0, of.size(3));
  }

  private static double scale(Tensor qBTNH) {
    return 1 / Math.sqrt((double) qBTNH.size(3));
  }

  /// All rows one after the other where their sequences have bounds.
  private static Tensor rows(Tensor xBTNH, Seen seen) {
    return seen.bounds() == null ? xBTNH : xBTNH.reshape(-1, xBTNH.size(2), xBTNH.size(3));
  }

  /// `[B, N, T]`, or `[N, B · T]` where sequences have bounds, as `[B, T, N]`.
  private static Tensor ofRows(Tensor logSumExp, Tensor qBTNH, Seen seen) {
    return seen.bounds() == null
        ? logSumExp.transpose(1, 2)
        : logSumExp.transpose(0, 1).reshape(qBTNH.size(0), qBTNH.size(1), qBTNH.size(2));
  }

  private static Tensor wider(Tensor xBTNH, long more) {
    return more == 0 ? xBTNH : Tensor.concatenate(List.of(xBTNH, zeros(xBTNH, more)), 3);
  }

  private static Tensor zeros(Tensor xBTNH, long width) {
    return Tensor.uninitialized(
            xBTNH, xBTNH.type(), xBTNH.size(0), xBTNH.size(1), xBTNH.size(2), width)
        .fill(0);
  }

  private static Tensor ones(Tensor x) {
    return Tensor.uninitialized(x, x.type(), x.shape()).fill(1);
  }

  /// `[B, T, N, 8]` whose first number is that one, the others being zero.
  private static Tensor first(Tensor xBTN, Tensor like) {
    var all = zeros(like, WIDTHS);
    all.narrow(3, 0, 1).copyFrom(xBTN.reshape(xBTN.size(0), xBTN.size(1), xBTN.size(2), 1));
    return all;
  }
}
