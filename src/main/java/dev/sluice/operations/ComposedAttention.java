package dev.sluice.operations;

import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The definition of attention, `softmax(q kᵀ / √H + causal mask) v` in float32. The last of T
/// queries stands at the last of S keys.
///
/// With a sink s per head, `exp(s)` joins the softmax's denominator. With a window w the mask hides
/// all but the last w of the keys that causality leaves. With a mask of documents it hides those of
/// other documents than the query's too.
///
/// Where no mask is needed, libtorch's fused operation computes it: single tokens over a cache, and
/// whole sequences; all of one document, without sinks, and within the window. In float32, as its
/// bfloat16 path on the CPU is tens of times slower. All else is computed a block of queries at a
/// time, so that only a backward pass holds all weights at once.
public final class ComposedAttention {
  /// Attention weights that are made explicit at a time.
  private static final long MOST_WEIGHTS = 1 << 24;

  /// Takes the attention weights of a block of queries.
  @FunctionalInterface
  public interface Watcher {
    /// @param first the block's first query
    /// @param weightsBNRS of R queries, with all S keys
    void weights(int first, Tensor weightsBNRS);
  }

  private ComposedAttention() {}

  /// Attends on any device, and shows the weights on the way.
  ///
  /// @param sinksN float32, or null for plain softmax
  /// @param window 0 for none
  /// @param documents of which a query sees its own alone, T = S; or null
  /// @return `[B, T, N, H]`, float32
  public static Tensor watched(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents,
      Watcher watcher) {
    return attend(qBTNH, kBSMH, vBSMH, sinksN, window, documents, watcher);
  }

  /// Attends; as [#watched] without a watcher.
  static Tensor apply(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents) {
    return attend(qBTNH, kBSMH, vBSMH, sinksN, window, documents, null);
  }

  /// Whether these queries see all keys that causality leaves, and no sink takes part.
  static boolean needsNoMask(
      long queries,
      long keys,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents) {
    boolean within = documents == null && (window == 0 || keys <= window);
    return sinksN == null && (queries == keys || queries == 1) && within;
  }

  private static Tensor attend(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents,
      @Nullable Watcher watcher) {
    if (documents != null) {
      documents.requireShape(qBTNH);
      documents.requireShape(kBSMH);
    }
    var query = qBTNH.to(ElementType.FLOAT32).transpose(1, 2);
    var key = kBSMH.to(ElementType.FLOAT32).transpose(1, 2);
    var value = vBSMH.to(ElementType.FLOAT32).transpose(1, 2);
    long queries = query.size(2);
    boolean maskless = needsNoMask(queries, key.size(2), sinksN, window, documents);
    var yBNTH =
        watcher == null && maskless
            ? query.scaledDotProductAttention(key, value, queries > 1)
            : inBlocks(query, key, value, sinksN, window, documents, watcher);
    return yBNTH.transpose(1, 2);
  }

  private static Tensor inBlocks(
      Tensor qBNTH,
      Tensor kBMSH,
      Tensor vBMSH,
      @Nullable Tensor sinksN,
      int window,
      @Nullable DocumentStarts documents,
      @Nullable Watcher watcher) {
    long queries = qBNTH.size(2);
    long keys = kBMSH.size(2);
    long group = qBNTH.size(1) / kBMSH.size(1);
    var kBNSH = kBMSH.repeatInterleave(group, 1);
    var vBNSH = vBMSH.repeatInterleave(group, 1);
    long block = Math.max(16, MOST_WEIGHTS / (qBNTH.size(0) * qBNTH.size(1) * keys));
    var startsBT = documents == null ? null : documents.numbers(qBNTH.device());
    var outputs = new ArrayList<Tensor>();
    for (long first = 0; first < queries; first += block) {
      try (var scope = Scope.open()) {
        long rows = Math.min(block, queries - first);
        long before = keys - queries + first;
        boolean all = (window == 0 && documents == null) || watcher != null;
        long start = all ? 0 : firstSeen(before, window, documents);
        long seen = all ? keys : before + rows - start;
        var weights =
            weights(
                qBNTH.narrow(2, first, rows),
                kBNSH.narrow(2, start, seen),
                sinksN,
                window,
                before - start,
                startsBT == null
                    ? null
                    : otherDocuments(startsBT.narrow(1, first, rows), start, seen));
        if (watcher != null) {
          watcher.weights(Math.toIntExact(first), weights);
        }
        outputs.add(scope.keep(weights.matmul(vBNSH.narrow(2, start, seen))));
      }
    }
    return Tensor.concatenate(outputs, 2);
  }

  /// The first key that any query of a block sees.
  ///
  /// @param before keys that stand before the first query's own
  private static long firstSeen(long before, int window, @Nullable DocumentStarts documents) {
    long inWindow = window == 0 ? 0 : Math.max(0, before + 1 - window);
    return documents == null ? inWindow : Math.max(inWindow, documents.earliest(before));
  }

  /// The definition of the attention weights, `[B, N, R, S]`.
  ///
  /// @param before keys that stand before the first query's own
  /// @param otherDocumentsB1RS joins the mask; null where all are one document
  private static Tensor weights(
      Tensor qBNRH,
      Tensor kBNSH,
      @Nullable Tensor sinksN,
      int window,
      long before,
      @Nullable Tensor otherDocumentsB1RS) {
    long keys = kBNSH.size(2);
    var mask = mask(qBNRH, keys, window, before);
    var scores =
        qBNRH
            .matmul(kBNSH.transpose(2, 3))
            .times(1 / Math.sqrt((double) qBNRH.size(3)))
            .plus(otherDocumentsB1RS == null ? mask : mask.plus(otherDocumentsB1RS));
    if (sinksN == null) {
      return scores.softmax(-1);
    }
    var sinkScores =
        Tensor.uninitialized(
                scores, ElementType.FLOAT32, scores.size(0), scores.size(1), scores.size(2), 1)
            .fill(0)
            .plus(sinksN.reshape(1, scores.size(1), 1, 1));
    return Tensor.concatenate(List.of(scores, sinkScores), 3).softmax(-1).narrow(3, 0, keys);
  }

  /// `[R, S]`: 0 where query i may see key j, that is before + i − window < j ≤ before + i, else
  /// −∞.
  static Tensor mask(Tensor qBNRH, long keys, int window, long before) {
    var later = hidden(qBNRH, keys).keepUpperTriangle(before + 1);
    return window == 0 ? later : later.plus(hidden(qBNRH, keys).keepLowerTriangle(before - window));
  }

  /// `[B, 1, R, S]`: 0 where the key is not before the query's document, else −∞.
  ///
  /// @param startsBR of the queries' documents
  /// @param first the first of S keys
  private static Tensor otherDocuments(Tensor startsBR, long first, long keys) {
    float[] places = new float[Math.toIntExact(keys)];
    for (int j = 0; j < places.length; j++) {
      places[j] = first + j;
    }
    var keysS = Tensor.of(places, keys).to(startsBR.device());
    var hidden = // 1 or 0
        startsBR.reshape(startsBR.size(0), 1, startsBR.size(1), 1).minus(keysS).clamp(0, 1);
    return hidden.times(-1).dividedBy(hidden.times(-1).plus(1));
  }

  private static Tensor hidden(Tensor qBNRH, long keys) {
    return Tensor.uninitialized(qBNRH, ElementType.FLOAT32, qBNRH.size(2), keys)
        .fill(Double.NEGATIVE_INFINITY);
  }
}
