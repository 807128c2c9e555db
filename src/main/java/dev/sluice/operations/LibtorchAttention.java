package dev.sluice.operations;

import dev.sluice.tensor.FlashAttention;
import dev.sluice.tensor.FlashAttention.Attended;
import dev.sluice.tensor.FlashAttention.Seen;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Attention on a device, whose memory grows with the tokens and not with their square:
/// [FlashAttention] where libtorch has a kernel, for whole sequences, else [AttentionBlocks].
///
/// Sinks need no kernel of their own. With LSE' = ln(exp LSE + exp s) the weights of the keys are
/// P' = exp(S − LSE'), the result y' is y · exp(LSE − LSE'), and the backward pass is that of
/// attention without sinks which is handed y' and LSE': `dS = P' ⊙ (dy vᵀ − Σ dy ⊙ y')`. What the
/// loss depends on LSE' by is taken from that sum. The sink's own gradient is `−Σ exp(s − LSE') ·
/// (Σ dy ⊙ y' − dLSE')`, over all tokens.
final class LibtorchAttention {
  private LibtorchAttention() {}

  /// @param kBTMH keys; there may be more of them than queries, the last of which stands at the
  ///   last
  /// @param sinksN float32, or null for plain softmax
  /// @param window 0 for none
  /// @param documents of which a query sees its own alone, or null
  /// @return `[B, T, N, H]`, of the queries' type
  static Tensor apply(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents) {
    var seen = seen(kBTMH, window, documents);
    return sinksN == null && seen.isAllBefore() && flashTakes(qBTNH, kBTMH, seen, 0)
        ? FlashAttention.forward(qBTNH, kBTMH, vBTMH, seen).yBTNH() // recorded by libtorch
        : differentiated(qBTNH, kBTMH, vBTMH, sinksN, seen, documents, 0).getFirst();
  }

  /// The same and the log-sum-exp of the scores and the sink, `[B, T, N]`, with gradients.
  static List<Tensor> withLogSumExp(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents) {
    var seen = seen(kBTMH, window, documents);
    return differentiated(
        qBTNH, kBTMH, vBTMH, sinksN, seen, documents, FlashAttention.ROOM_FOR_SUM);
  }

  private static Seen seen(Tensor kBSMH, int window, @Nullable DocumentStarts documents) {
    if (documents == null) {
      return new Seen(window, null, kBSMH.size(1));
    }
    documents.requireShape(kBSMH);
    return new Seen(window, documents.bounds(kBSMH.device()), documents.longest());
  }

  /// Not where queries come after a cache.
  private static boolean flashTakes(Tensor qBTNH, Tensor kBSMH, Seen seen, int more) {
    return qBTNH.size(1) == kBSMH.size(1)
        && qBTNH.type() == kBSMH.type()
        && FlashAttention.takes(qBTNH, seen, more);
  }

  /// @param more numbers that the backward pass adds to each head
  private static List<Tensor> differentiated(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      Seen seen,
      @Nullable DocumentStarts documents,
      int more) {
    var inputs = new ArrayList<>(List.of(qBTNH, kBTMH, vBTMH));
    if (sinksN != null) {
      inputs.add(sinksN);
    }
    var blocks =
        flashTakes(qBTNH, kBTMH, seen, more)
            ? null
            : new AttentionBlocks(qBTNH, kBTMH, vBTMH, seen.window(), documents);
    return FusedOp.apply(
        "attention",
        inputs,
        List.of(),
        () -> {
          var plain =
              blocks == null ? FlashAttention.forward(qBTNH, kBTMH, vBTMH, seen) : blocks.forward();
          var attended = sinksN == null ? plain : drained(plain, sinksN);
          var saved = new ArrayList<>(inputs);
          saved.addAll(attended.random());
          if (seen.bounds() != null) {
            saved.add(seen.bounds());
          }
          var y = attended.yBTNH().unlinked();
          var logSumExp = attended.logSumExpBTN().unlinked();
          var kept = new Attended(y.detach(), logSumExp.detach(), attended.random());
          saved.add(kept.yBTNH());
          saved.add(kept.logSumExpBTN());
          return new FusedOp.Forward(
              List.of(y, logSumExp),
              saved,
              upstreams -> {
                var given = upstreams.getFirst();
                var dy = given == null ? zerosLike(kept.yBTNH()) : given;
                var dLogSumExp = upstreams.getLast();
                var added = dLogSumExp == null ? null : dLogSumExp.times(-1);
                var gradients =
                    new ArrayList<>(
                        blocks == null
                            ? FlashAttention.backward(dy, qBTNH, kBTMH, vBTMH, kept, added, seen)
                            : blocks.backward(dy, kept, added));
                if (sinksN != null) {
                  gradients.add(ofSinks(dy, kept, added, sinksN));
                }
                return gradients.toArray(Tensor[]::new);
              });
        });
  }

  private static Attended drained(Attended plain, Tensor sinksN) {
    var before = plain.logSumExpBTN();
    var after = before.plus(sinksN.minus(before).softplus());
    var y = plain.yBTNH();
    var left = before.minus(after).exp().reshape(y.size(0), y.size(1), y.size(2), 1);
    return new Attended(y.wide().times(left).to(y.type()), after, plain.random());
  }

  private static Tensor ofSinks(
      Tensor dyBTNH, Attended attended, @Nullable Tensor addedBTN, Tensor sinksN) {
    var sums = dyBTNH.wide().times(attended.yBTNH().wide()).sum(3);
    var sumsBTN = sums.reshape(dyBTNH.size(0), dyBTNH.size(1), dyBTNH.size(2));
    var ofSink = sinksN.minus(attended.logSumExpBTN()).exp();
    return ofSink
        .times(addedBTN == null ? sumsBTN : sumsBTN.plus(addedBTN))
        .reshape(-1, sinksN.elements())
        .sum(0)
        .reshape(sinksN.shape())
        .times(-1)
        .to(sinksN.type());
  }

  private static Tensor zerosLike(Tensor x) {
    return Tensor.uninitialized(x, x.type(), x.shape()).fill(0);
  }
}
