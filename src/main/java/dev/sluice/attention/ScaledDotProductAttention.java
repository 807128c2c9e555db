package dev.sluice.attention;

import dev.sluice.operations.ComposedAttention;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.operations.Operations;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
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
  ///   Its rows may have different lengths, so each is attended by itself, as if it were alone; but
  ///   for a probe, which is given the weights of all at once, they must have one length
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
    Tensor yBTNH;
    if (past == null) {
      yBTNH = attendWatched(qBTNH, kBTMH, vBTMH, sinksN, window, documents, layer, probe);
    } else if (watched) {
      yBTNH = attendCachedWatched(qBTNH, kBTMH, vBTMH, sinksN, window, past, layer, probe);
    } else {
      yBTNH =
          past.byRow(row -> attendCached(qBTNH, kBTMH, vBTMH, sinksN, window, past, row, layer));
    }
    return gateLogits == null ? yBTNH : operations.sigmoidGate(yBTNH, gateLogits);
  }

  /// Attends over one row's tokens and those before.
  private static Tensor attendCached(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      int window,
      Past past,
      int row,
      int layer) {
    var query = Past.row(qBTNH, row).to(ElementType.FLOAT32);
    var kBSMH =
        lastSeen(
            past.keys(layer, row, Past.row(kBTMH, row).transpose(1, 2)).transpose(1, 2),
            query.size(1),
            window);
    var vBSMH =
        lastSeen(
            past.values(layer, row, Past.row(vBTMH, row).transpose(1, 2)).transpose(1, 2),
            query.size(1),
            window);
    return Operations.of(query).cachedAttention(query, kBSMH, vBSMH, sinksN, window);
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
