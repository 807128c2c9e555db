package dev.sluice.attention;

import dev.sluice.gate.SigmoidGate;
import dev.sluice.probe.Probe;
import dev.sluice.state.Past;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `softmax(q kᵀ / √H + causal mask) v`, gated where a gate is given, and which way of computing it
/// is taken.
///
/// With a sink s per head, `exp(s)` joins the softmax's denominator. With a window w the mask hides
/// all but the last w of the keys that causality leaves.
final class ScaledDotProductAttention {
  /// Attention weights that are made explicit at a time.
  private static final long MOST_WEIGHTS = 1 << 24;

  private ScaledDotProductAttention() {}

  /// Attends; the last query stands at the last key.
  ///
  /// Three ways lead there. No way holds all weights at once, but where gradients are recorded
  /// through the definition.
  ///
  /// - [CausalAttention] on the CPU: whole sequences without a cache; several tokens over a cache,
  ///   in float32, where others stand before them or where there are sinks.
  /// - libtorch's fused operation, where it needs no mask: single tokens over a cache, the first
  ///   tokens of a cache, whole sequences on another device; all without sinks, and within the
  ///   window. In float32, as its bfloat16 path on the CPU is tens of times slower.
  /// - The definition, a block of queries at a time: what is left, what records gradients over a
  ///   cache with a mask, and all that a probe wants the weights of.
  ///
  /// @param qBTNH queries
  /// @param kBTMH keys
  /// @param vBTMH values
  /// @param sinksN float32, or null for plain softmax
  /// @param gateLogits as in [SigmoidGate#composed], or null for no gate
  /// @param window as in [Positions#window]
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
      @Nullable Past past,
      int layer,
      Probe probe) {
    boolean inTiles = qBTNH.isOnCpu() && !probe.wantsAttention(layer);
    Tensor yBTNH;
    if (past != null && probe.wantsAttention(layer)) {
      yBTNH = attendWatched(qBTNH, kBTMH, vBTMH, sinksN, window, past, layer, probe);
    } else if (past != null) {
      yBTNH =
          past.byRow(
              row ->
                  attendCached(
                      qBTNH, kBTMH, vBTMH, sinksN, window, past, row, inTiles, layer, probe));
    } else if (!inTiles) {
      yBTNH = withoutTiles(qBTNH, kBTMH, vBTMH, sinksN, window, layer, probe);
    } else if (sinksN != null) {
      yBTNH = drained(CausalAttention.apply(qBTNH, kBTMH, vBTMH, null, window), sinksN);
    } else {
      return CausalAttention.apply(qBTNH, kBTMH, vBTMH, gateLogits, window).yBTNH();
    }
    return gateLogits == null ? yBTNH : SigmoidGate.apply(yBTNH, gateLogits);
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
      boolean inTiles,
      int layer,
      Probe probe) {
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
    long keys = kBSMH.size(1);
    boolean maskless = sinksN == null && query.size(1) == keys && within(window, keys);
    if (!inTiles
        || maskless
        || query.size(1) == 1
        || FusedOp.recording(List.of(query), List.of())) {
      return withoutTiles(query, kBSMH, vBSMH, sinksN, window, layer, probe);
    }
    var attended = CausalAttention.applyCached(query, kBSMH, vBSMH, window);
    return sinksN == null ? attended.yBTNH() : drained(attended, sinksN);
  }

  /// Whether a window hides none of so many keys from the last query.
  private static boolean within(int window, long keys) {
    return window == 0 || keys <= window;
  }

  /// Those keys or values that the last queries see.
  private static Tensor lastSeen(Tensor tensorBSMH, long queries, int window) {
    long keys = tensorBSMH.size(1);
    long seen = window == 0 ? keys : Math.min(keys, window + queries - 1);
    return seen == keys ? tensorBSMH : tensorBSMH.narrow(1, keys - seen, seen);
  }

  /// Attends over all rows' tokens and those before, at once; who watches sees all keys, also those
  /// that a window hides.
  private static Tensor attendWatched(
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
    return withoutTiles(
        qBTNH, kBMSH.transpose(1, 2), vBMSH.transpose(1, 2), sinksN, window, layer, probe);
  }

  private static Tensor withoutTiles(
      Tensor qBTNH,
      Tensor kBSMH,
      Tensor vBSMH,
      @Nullable Tensor sinksN,
      int window,
      int layer,
      Probe probe) {
    var query = qBTNH.to(ElementType.FLOAT32).transpose(1, 2);
    var key = kBSMH.to(ElementType.FLOAT32).transpose(1, 2);
    var value = vBSMH.to(ElementType.FLOAT32).transpose(1, 2);
    return attendTransposed(query, key, value, sinksN, window, layer, probe).transpose(1, 2);
  }

  /// What the sinks leave of attention without them: y · σ(LSE − s), since exp(LSE) / (exp(LSE) +
  /// exp(s)) of the weight stays with the keys.
  private static Tensor drained(CausalAttention.Attended attended, Tensor sinksN) {
    var y = attended.yBTNH();
    var logSumExpBTN =
        attended.logSumExpBMTG().transpose(1, 2).reshape(y.size(0), y.size(1), y.size(2));
    return SigmoidGate.apply(y, logSumExpBTN.minus(sinksN)).to(y.type());
  }

  private static Tensor attendTransposed(
      Tensor qBNTH,
      Tensor kBMSH,
      Tensor vBMSH,
      @Nullable Tensor sinksN,
      int window,
      int layer,
      Probe probe) {
    long queries = qBNTH.size(2);
    long keys = kBMSH.size(2);
    boolean maskless = (queries == keys || queries == 1) && within(window, keys);
    if (sinksN == null && !probe.wantsAttention(layer) && maskless) {
      return qBNTH.scaledDotProductAttention(kBMSH, vBMSH, queries > 1);
    }
    long group = qBNTH.size(1) / kBMSH.size(1);
    var kBNSH = kBMSH.repeatInterleave(group, 1);
    var vBNSH = vBMSH.repeatInterleave(group, 1);
    long block = Math.max(16, MOST_WEIGHTS / (qBNTH.size(0) * qBNTH.size(1) * keys));
    var outputs = new ArrayList<Tensor>();
    for (long first = 0; first < queries; first += block) {
      try (var scope = Scope.open()) {
        long rows = Math.min(block, queries - first);
        long before = keys - queries + first;
        boolean all = window == 0 || probe.wantsAttention(layer);
        long start = all ? 0 : Math.max(0, before + 1 - window);
        long seen = all ? keys : before + rows - start;
        var weights =
            weights(
                qBNTH.narrow(2, first, rows),
                kBNSH.narrow(2, start, seen),
                sinksN,
                window,
                before - start);
        probe.attention(layer, Math.toIntExact(first), weights);
        outputs.add(scope.keep(weights.matmul(vBNSH.narrow(2, start, seen))));
      }
    }
    return Tensor.concatenate(outputs, 2);
  }

  /// The definition of the attention weights, `[B, N, R, S]`.
  ///
  /// @param before keys that stand before the first query's own
  private static Tensor weights(
      Tensor qBNRH, Tensor kBNSH, @Nullable Tensor sinksN, int window, long before) {
    long keys = kBNSH.size(2);
    var scores =
        qBNRH
            .matmul(kBNSH.transpose(2, 3))
            .times(1 / Math.sqrt((double) qBNRH.size(3)))
            .plus(mask(qBNRH, keys, window, before));
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
  private static Tensor mask(Tensor qBNRH, long keys, int window, long before) {
    var later = hidden(qBNRH, keys).keepUpperTriangle(before + 1);
    return window == 0 ? later : later.plus(hidden(qBNRH, keys).keepLowerTriangle(before - window));
  }

  private static Tensor hidden(Tensor qBNRH, long keys) {
    return Tensor.uninitialized(qBNRH, ElementType.FLOAT32, qBNRH.size(2), keys)
        .fill(Double.NEGATIVE_INFINITY);
  }
}
