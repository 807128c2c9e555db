package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Attention's result together with the share of its attention that each query gives to the first
/// token of what it may see: of its row, or of its document.
///
/// The share is one column of the attention weights, `exp(q·k₀ / √H − LSE)` with the log-sum-exp of
/// the query's scores; no other weights are made for it. A window hides the first token from later
/// queries, whose share is then 0.
///
/// @param yBTNH as [Operations#attention] gives it
/// @param shareBTN float32, with gradients
public record FirstTokenShare(Tensor yBTNH, Tensor shareBTN) {
  /// The definition: the column of all attention weights. A backward pass holds all of them.
  static FirstTokenShare composed(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    var columns = new ArrayList<Tensor>();
    long keys = kBTMH.size(1);
    var y =
        ComposedAttention.watched(
            qBTNH,
            kBTMH,
            vBTMH,
            sinksN,
            window,
            documents,
            (first, weightsBNRS) -> {
              var column =
                  documents == null
                      ? weightsBNRS.narrow(3, 0, 1)
                      : weightsBNRS
                          .times(firstKeys(documents, weightsBNRS, first))
                          .mean(3)
                          .times((double) keys);
              columns.add(column.retain()); // beyond the block's scope
            });
    var shareBNT1 = Tensor.concatenate(columns, 2);
    columns.forEach(Tensor::close);
    var shareBTN = shareBNT1.reshape(qBTNH.size(0), qBTNH.size(2), qBTNH.size(1)).transpose(1, 2);
    return new FirstTokenShare(
        gateLogits == null ? y : SigmoidGate.composed(y, gateLogits), shareBTN);
  }

  /// `[B, 1, R, S]`: one where the key begins the query's document, else zero.
  private static Tensor firstKeys(DocumentStarts documents, Tensor weightsBNRS, int first) {
    int rows = Math.toIntExact(weightsBNRS.size(0));
    int queries = Math.toIntExact(weightsBNRS.size(2));
    int keys = Math.toIntExact(weightsBNRS.size(3));
    float[] ones = new float[rows * queries * keys];
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < queries; i++) {
        ones[(row * queries + i) * keys + documents.start(row, first + i)] = 1;
      }
    }
    return Tensor.of(ones, rows, 1, queries, keys).to(weightsBNRS.device());
  }

  /// The share `[1, T, N]` of the last T of S tokens, by the definition of the weights, without
  /// attention's result.
  ///
  /// @param kBSMH of one row, all of them, also those that a window hides
  public static Tensor after(Tensor qBTNH, Tensor kBSMH, @Nullable Tensor sinksN, int window) {
    long queries = qBTNH.size(1);
    long heads = qBTNH.size(2);
    long width = qBTNH.size(3);
    long keys = kBSMH.size(1);
    long shared = kBSMH.size(2);
    long group = heads / shared;
    try (var scope = Scope.open()) {
      var qMRH = // the queries of all heads that share a key, R = T · group
          qBTNH
              .to(ElementType.FLOAT32)
              .reshape(queries, shared, group * width)
              .transpose(0, 1)
              .reshape(shared, queries * group, width);
      var kMSH = kBSMH.to(ElementType.FLOAT32).reshape(keys, shared, width).transpose(0, 1);
      var scores =
          qMRH.matmul(kMSH.transpose(1, 2))
              .times(1 / Math.sqrt((double) width))
              .reshape(shared, queries, group, keys);
      if (queries > 1 || window > 0) {
        var maskTS = ComposedAttention.mask(qBTNH.transpose(1, 2), keys, window, keys - queries);
        scores = scores.plus(maskTS.reshape(1, queries, 1, keys));
      }
      if (sinksN != null) {
        var sinks =
            Tensor.uninitialized(scores, ElementType.FLOAT32, shared, queries, group, 1)
                .fill(0)
                .plus(sinksN.reshape(shared, 1, group, 1));
        scores = Tensor.concatenate(List.of(sinks, scores), 3);
      }
      var firstMTG1 = scores.softmax(-1).narrow(3, sinksN == null ? 0 : 1, 1);
      return scope.keep(
          firstMTG1.reshape(shared, queries, group).transpose(0, 1).reshape(1, queries, heads));
    }
  }

  /// The same over the fused attention, without all weights.
  static FirstTokenShare apply(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents) {
    boolean apart = sinksN != null; // the sinks take their part before the gate
    var attended =
        CausalAttention.inTiles(qBTNH, kBTMH, vBTMH, apart ? null : gateLogits, window, documents);
    var shareBTN = share(qBTNH, kBTMH, attended.logSumExpBTN(), window, documents);
    if (sinksN == null) {
      return new FirstTokenShare(attended.yBTNH(), shareBTN);
    }
    var y = CausalAttention.drained(attended, sinksN);
    return new FirstTokenShare(
        gateLogits == null ? y : SigmoidGate.apply(y, gateLogits),
        shareBTN.times(attended.logSumExpBTN().minus(sinksN).sigmoid()));
  }

  /// The same over a device's attention, whose log-sum-exp has the sinks in it, before a gate.
  static FirstTokenShare fromLogSumExp(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents) {
    var attended = LibtorchAttention.withLogSumExp(qBTNH, kBTMH, vBTMH, sinksN, window, documents);
    return new FirstTokenShare(
        attended.getFirst(), share(qBTNH, kBTMH, attended.getLast(), window, documents));
  }

  private static Tensor share(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor logSumExpBTN,
      int window,
      @Nullable DocumentStarts documents) {
    long batch = qBTNH.size(0);
    long tokens = qBTNH.size(1);
    long heads = qBTNH.size(2);
    long width = qBTNH.size(3);
    long shared = kBTMH.size(2);
    var first = documents == null ? kBTMH.narrow(1, 0, 1) : firstOfDocuments(kBTMH, documents);
    var k = first.to(ElementType.FLOAT32).reshape(batch, first.size(1), shared, 1, width);
    var q = qBTNH.to(ElementType.FLOAT32).reshape(batch, tokens, shared, heads / shared, width);
    var scores = q.times(k).mean(4).reshape(batch, tokens, heads).times(Math.sqrt((double) width));
    var logarithms = scores.minus(logSumExpBTN);
    if (window == 0 || window >= tokens) {
      return logarithms.exp();
    }
    var seenBT1 = seen(batch, tokens, window, documents).to(qBTNH.device());
    return logarithms.times(seenBT1).exp().times(seenBT1); // a hidden score may be of any size
  }

  /// The key at which each token's document begins.
  private static Tensor firstOfDocuments(Tensor kBTMH, DocumentStarts documents) {
    long batch = kBTMH.size(0);
    long tokens = kBTMH.size(1);
    long[] at = new long[Math.toIntExact(batch * tokens)];
    for (int i = 0; i < at.length; i++) {
      at[i] = i / tokens * tokens + documents.all()[i];
    }
    return kBTMH
        .reshape(batch * tokens, kBTMH.size(2) * kBTMH.size(3))
        .rows(Tensor.of(at, at.length).to(kBTMH.device()))
        .reshape(kBTMH.shape());
  }

  /// `[B, T, 1]`: one where the window reaches the first token, else zero.
  private static Tensor seen(
      long batch, long tokens, int window, @Nullable DocumentStarts documents) {
    float[] seen = new float[Math.toIntExact(batch * tokens)];
    for (int i = 0; i < seen.length; i++) {
      int start = documents == null ? 0 : documents.all()[i];
      seen[i] = i % tokens - start < window ? 1 : 0;
    }
    return Tensor.of(seen, batch, tokens, 1);
  }
}
