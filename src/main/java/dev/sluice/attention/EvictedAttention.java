package dev.sluice.attention;

import dev.sluice.probe.KeptKeys;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Attention over whole sequences as if a cache had kept the first and the last keys alone: each
/// token's keys and values are those of a pass in which the tokens before it had evicted ones too.
///
/// A cache that numbers its keys anew turns the last W as they stand, since only distances count,
/// and the first F as 0 … F − 1 before a query at F + W − 1. So there is one softmax over two sets
/// of scores: of queries turned by their own place with the keys in the window, and of queries
/// turned by their place in the cache with the first keys. It is computed a block of queries at a
/// time, T · (F + W) and not T².
final class EvictedAttention {
  private static final long BLOCK = 256;

  private EvictedAttention() {}

  /// @param qBTNH queries turned by their own place
  /// @param atEndBTNH queries turned by their place in the cache
  /// @param kBTMH keys turned by their own place
  /// @param sinksN float32, or null for plain softmax
  /// @return `[B, T, N, H]` of the queries' element type
  static Tensor attend(
      Tensor qBTNH,
      Tensor atEndBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      KeptKeys kept) {
    try (var scope = Scope.open()) {
      double scale = 1 / Math.sqrt((double) qBTNH.size(3));
      long group = qBTNH.size(2) / kBTMH.size(2);
      var query = qBTNH.transpose(1, 2).to(ElementType.FLOAT32).times(scale);
      var atEnd = atEndBTNH.transpose(1, 2).to(ElementType.FLOAT32).times(scale);
      var key = kBTMH.transpose(1, 2).to(ElementType.FLOAT32).repeatInterleave(group, 1);
      var value = vBTMH.transpose(1, 2).to(ElementType.FLOAT32).repeatInterleave(group, 1);
      long tokens = query.size(2);
      long first = Math.min(kept.first(), tokens);
      List<Tensor> outputs = new ArrayList<>();
      for (long from = 0; from < tokens; from += BLOCK) {
        long rows = Math.min(BLOCK, tokens - from);
        long start = Math.clamp(from - kept.last() + 1, first, Math.max(first, from + rows - 1));
        long seen = Math.max(0, from + rows - start);
        List<Tensor> scores = new ArrayList<>();
        List<Tensor> values = new ArrayList<>();
        if (first > 0) {
          scores.add(masked(atEnd.narrow(2, from, rows), key.narrow(2, 0, first), from, 0, tokens));
          values.add(value.narrow(2, 0, first));
        }
        if (seen > 0) {
          scores.add(
              masked(
                  query.narrow(2, from, rows),
                  key.narrow(2, start, seen),
                  from,
                  start,
                  kept.last()));
          values.add(value.narrow(2, start, seen));
        }
        outputs.add(scope.keep(weighted(scores, values, sinksN)));
      }
      return scope.keep(Tensor.concatenate(outputs, 2).transpose(1, 2).to(qBTNH.type()));
    }
  }

  private static Tensor weighted(
      List<Tensor> scores, List<Tensor> values, @Nullable Tensor sinksN) {
    try (var scope = Scope.open()) {
      var all = new ArrayList<>(scores);
      if (sinksN != null) {
        var like = scores.getFirst().narrow(3, 0, 1);
        all.add(like.times(0).plus(sinksN.reshape(1, sinksN.elements(), 1, 1)));
      }
      var weights = Tensor.concatenate(all, 3).softmax(3);
      var keys = Tensor.concatenate(values, 2);
      return scope.keep(weights.narrow(3, 0, keys.size(2)).matmul(keys));
    }
  }

  /// Scores of queries from `from` on with keys from `start` on, −∞ where a key comes after the
  /// query, or more than `last` − 1 before it.
  private static Tensor masked(Tensor query, Tensor key, long from, long start, long last) {
    int rows = Math.toIntExact(query.size(2));
    int columns = Math.toIntExact(key.size(2));
    float[] mask = new float[rows * columns];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        long behind = from + i - start - j;
        mask[i * columns + j] = behind < 0 || behind >= last ? Float.NEGATIVE_INFINITY : 0;
      }
    }
    return query
        .matmul(key.transpose(2, 3))
        .plus(Tensor.of(mask, 1, 1, rows, columns).to(query.device()));
  }
}
