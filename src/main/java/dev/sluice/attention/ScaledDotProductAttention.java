package dev.sluice.attention;

import dev.sluice.operations.ComposedAttention;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.FirstTokenShare;
import dev.sluice.operations.Operations;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `softmax(q kᵀ / √H + causal mask) v`, gated where a gate is given: over whole sequences, or over
/// what a cache holds of each row.
final class ScaledDotProductAttention {
  private ScaledDotProductAttention() {}

  /// Attends; the last query stands at the last key. What a probe wants the weights of is computed
  /// by the definition, [ComposedAttention]; nothing else holds all weights at once, but where
  /// gradients are recorded through the definition.
  ///
  /// @param qBTNH queries
  /// @param kBTMH keys
  /// @param vBTMH values
  /// @param sinksN float32, or null for plain softmax
  /// @param gateLogits as in [Operations#sigmoidGate], or null for no gate
  /// @param window as in [Positions#window]
  /// @param documents of which a token sees its own alone; null where each row is one document. Not
  ///   with a past, which is one document
  /// @param past the keys and values before these, which takes these up; null when there are none.
  ///   Its rows may have different lengths, and each is attended as if it were alone; but for a
  ///   probe, which is given the weights of all at once, they must have one length
  /// @return `[B, T, N, H]`
  static Tensor attend(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      @Nullable DocumentStarts documents,
      @Nullable Past past,
      int layer,
      Probe probe) {
    var operations = Operations.of(qBTNH);
    boolean watched = probe.wantsAttention(layer);
    if (past == null && !watched && probe.wantsFirstTokenShare(layer)) {
      var both =
          operations.attentionWithFirstToken(
              qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, documents);
      probe.firstTokenShare(layer, both.shareBTN());
      return both.yBTNH();
    }
    if (past == null && !watched) {
      return operations.attention(qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, documents);
    }
    if (past != null && !watched) {
      return attendCached(qBTNH, kBTMH, vBTMH, sinksN, gateLogits, window, past, layer, probe);
    }
    var yBTNH =
        past == null
            ? attendWatched(qBTNH, kBTMH, vBTMH, sinksN, window, documents, layer, probe)
            : attendCachedWatched(qBTNH, kBTMH, vBTMH, sinksN, window, past, layer, probe);
    return gateLogits == null ? yBTNH : operations.sigmoidGate(yBTNH, gateLogits);
  }

  /// Attends over the tokens of each row and those before. A row before which nothing stands is a
  /// whole sequence, whose keys are there as they are, and with their gradients; but where tokens
  /// go one by one without gradients, each has the bits that it has after others.
  private static Tensor attendCached(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      int window,
      Past past,
      int layer,
      Probe probe) {
    long queries = qBTNH.size(1);
    int[] before = past.lengths();
    boolean recorded = FusedOp.recording(List.of(qBTNH, kBTMH, vBTMH), List.of());
    var kSMH = new ArrayList<Tensor>();
    var vSMH = new ArrayList<Tensor>();
    var shares = new ArrayList<Tensor>();
    for (int row = 0; row < before.length; row++) {
      var ownKeys = Past.row(kBTMH, row);
      var ownValues = Past.row(vBTMH, row);
      var keys = past.keys(layer, row, ownKeys.transpose(1, 2));
      var values = past.values(layer, row, ownValues.transpose(1, 2));
      if (probe.wantsFirstTokenShare(layer)) {
        var ownQueries = Past.row(qBTNH, row);
        shares.add(FirstTokenShare.after(ownQueries, keys.transpose(1, 2), sinksN, window));
      }
      boolean isOneByOne = !recorded && Operations.attendsOneByOne(qBTNH, queries);
      boolean whole = before[row] == 0 && !isOneByOne;
      kSMH.add(whole ? ownKeys : lastSeen(keys.transpose(1, 2), queries, window));
      vSMH.add(whole ? ownValues : lastSeen(values.transpose(1, 2), queries, window));
    }
    if (!shares.isEmpty()) {
      probe.firstTokenShare(layer, Tensor.concatenate(shares, 0));
    }
    return Operations.of(qBTNH).cachedAttention(qBTNH, kSMH, vSMH, sinksN, gateLogits, window);
  }

  /// Those keys or values that the last queries see.
  private static Tensor lastSeen(Tensor tensorBSMH, long queries, int window) {
    long keys = tensorBSMH.size(1);
    long seen = window == 0 ? keys : Math.min(keys, window + queries - 1);
    return seen == keys ? tensorBSMH : tensorBSMH.narrow(1, keys - seen, seen);
  }

  /// Attends over all rows' tokens and those before, at once; who watches sees all keys, also those
  /// that a window hides.
  private static Tensor attendCachedWatched(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      int window,
      Past past,
      int layer,
      Probe probe) {
    if (Arrays.stream(past.lengths()).distinct().count() > 1) {
      throw new IllegalStateException(
          "attention over sequences of %s tokens has no weights of one shape; watch them one by one"
              .formatted(Arrays.toString(past.lengths())));
    }
    var kBMSH = past.byRow(row -> past.keys(layer, row, Past.row(kBTMH, row).transpose(1, 2)));
    var vBMSH = past.byRow(row -> past.values(layer, row, Past.row(vBTMH, row).transpose(1, 2)));
    return attendWatched(
        qBTNH, kBMSH.transpose(1, 2), vBMSH.transpose(1, 2), sinksN, window, null, layer, probe);
  }

  private static Tensor attendWatched(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents,
      int layer,
      Probe probe) {
    return ComposedAttention.watched(
        qBTNH,
        kBSMH,
        vBSMH,
        sinksN,
        window,
        documents,
        (first, weights) -> probe.attention(layer, first, weights));
  }
}
