package dev.sluice.attention;

import dev.sluice.gate.SigmoidGate;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `softmax(q kᵀ / √H + causal mask) v`, gated where a gate is given, and which way of computing it
/// is taken.
///
/// With a sink s per head, `exp(s)` joins the softmax's denominator.
final class ScaledDotProductAttention {
  /// Attention weights that are made explicit at a time.
  private static final long MOST_WEIGHTS = 1 << 24;

  private ScaledDotProductAttention() {}

  /// Attends; the last query stands at the last key.
  ///
  /// Whole sequences on the CPU go through [CausalAttention]. With tokens before these, libtorch's
  /// fused operation does the work, in float32: its bfloat16 path on the CPU is tens of times
  /// slower. When the probe wants the weights, or sinks take a share of them there, the definition
  /// does, a block of queries at a time. [CausalAttention] gates on its way, all others afterwards.
  ///
  /// @param qBTNH queries
  /// @param kBTMH keys
  /// @param vBTMH values
  /// @param sinksN float32, or null for plain softmax
  /// @param gateLogits as in [SigmoidGate#composed], or null for no gate
  /// @param past the keys and values before these, which takes these up; null when there are none
  /// @return `[B, T, N, H]`
  static Tensor attend(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable Tensor gateLogits,
      @Nullable KeyValueCache past,
      int layer,
      Probe probe) {
    Tensor yBTNH;
    if (past != null || !qBTNH.isOnCpu() || probe.wantsAttention(layer)) {
      yBTNH = withoutTiles(qBTNH, kBTMH, vBTMH, sinksN, past, layer, probe);
    } else if (sinksN != null) {
      yBTNH = drained(CausalAttention.apply(qBTNH, kBTMH, vBTMH, null), sinksN);
    } else {
      return CausalAttention.apply(qBTNH, kBTMH, vBTMH, gateLogits).yBTNH();
    }
    return gateLogits == null ? yBTNH : SigmoidGate.apply(yBTNH, gateLogits);
  }

  private static Tensor withoutTiles(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable Tensor sinksN,
      @Nullable KeyValueCache past,
      int layer,
      Probe probe) {
    var qBNTH = qBTNH.to(ElementType.FLOAT32).transpose(1, 2);
    var kBMSH = kBTMH.to(ElementType.FLOAT32).transpose(1, 2);
    var vBMSH = vBTMH.to(ElementType.FLOAT32).transpose(1, 2);
    if (past != null) {
      kBMSH = past.keys(layer, kBMSH);
      vBMSH = past.values(layer, vBMSH);
    }
    return attendTransposed(qBNTH, kBMSH, vBMSH, sinksN, layer, probe).transpose(1, 2);
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
      Tensor qBNTH, Tensor kBMSH, Tensor vBMSH, @Nullable Tensor sinksN, int layer, Probe probe) {
    long queries = qBNTH.size(2);
    long keys = kBMSH.size(2);
    if (sinksN == null && !probe.wantsAttention(layer)) {
      return queries == keys || queries == 1
          ? qBNTH.scaledDotProductAttention(kBMSH, vBMSH, null, queries > 1)
          : qBNTH.scaledDotProductAttention(
              kBMSH, vBMSH, causalMask(qBNTH, keys, keys - queries), false);
    }
    long group = qBNTH.size(1) / kBMSH.size(1);
    var kBNSH = kBMSH.repeatInterleave(group, 1);
    var vBNSH = vBMSH.repeatInterleave(group, 1);
    long block = Math.max(16, MOST_WEIGHTS / (qBNTH.size(0) * qBNTH.size(1) * keys));
    var outputs = new ArrayList<Tensor>();
    for (long first = 0; first < queries; first += block) {
      try (var scope = Scope.open()) {
        var qBNRH = qBNTH.narrow(2, first, Math.min(block, queries - first));
        var weights = weights(qBNRH, kBNSH, sinksN, keys - queries + first);
        probe.attention(layer, Math.toIntExact(first), weights);
        outputs.add(scope.keep(weights.matmul(vBNSH)));
      }
    }
    return Tensor.concatenate(outputs, 2);
  }

  /// The definition of the attention weights, `[B, N, R, S]`.
  ///
  /// @param before keys that stand before the first query's own
  private static Tensor weights(Tensor qBNRH, Tensor kBNSH, @Nullable Tensor sinksN, long before) {
    long keys = kBNSH.size(2);
    var scores =
        qBNRH
            .matmul(kBNSH.transpose(2, 3))
            .times(1 / Math.sqrt((double) qBNRH.size(3)))
            .plus(causalMask(qBNRH, keys, before));
    if (sinksN == null) {
      return scores.softmax(-1);
    }
    var sinkScores = scores.narrow(3, 0, 1).times(0).plus(sinksN.reshape(1, qBNRH.size(1), 1, 1));
    return Tensor.concatenate(List.of(scores, sinkScores), 3).softmax(-1).narrow(3, 0, keys);
  }

  /// `[R, S]`: 0 where query i may see key j, that is j ≤ before + i, else −∞.
  private static Tensor causalMask(Tensor qBNRH, long keys, long before) {
    int queries = Math.toIntExact(qBNRH.size(2));
    int width = Math.toIntExact(keys);
    float[] mask = new float[queries * width];
    for (int i = 0; i < queries; i++) {
      int visible = Math.toIntExact(before) + i + 1;
      Arrays.fill(mask, i * width + visible, (i + 1) * width, Float.NEGATIVE_INFINITY);
    }
    return Tensor.of(mask, queries, width).to(qBNRH.device());
  }
}
