package dev.sluice.attention;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// `softmax(q kᵀ / √H + causal mask) v`, and which way of computing it is taken.
final class ScaledDotProductAttention {
  private ScaledDotProductAttention() {}

  /// Attends; the last query stands at the last key.
  ///
  /// Whole sequences on the CPU go through [CausalAttention]. With tokens before these, libtorch's
  /// fused operation does the work, in float32: its bfloat16 path on the CPU is tens of times
  /// slower. When the probe wants the weights, the definition does.
  ///
  /// @param qBTNH queries
  /// @param kBTMH keys
  /// @param vBTMH values
  /// @param past the keys and values before these, which takes these up; null when there are none
  /// @return `[B, T, N, H]`
  static Tensor attend(
      Tensor qBTNH,
      Tensor kBTMH,
      Tensor vBTMH,
      @Nullable KeyValueCache past,
      int layer,
      Probe probe) {
    if (past == null && qBTNH.isOnCpu() && !probe.wantsAttention(layer)) {
      return CausalAttention.apply(qBTNH, kBTMH, vBTMH).yBTNH();
    }
    var qBNTH = qBTNH.to(ElementType.FLOAT32).transpose(1, 2);
    var kBMSH = kBTMH.to(ElementType.FLOAT32).transpose(1, 2);
    var vBMSH = vBTMH.to(ElementType.FLOAT32).transpose(1, 2);
    if (past != null) {
      kBMSH = past.keys(layer, kBMSH);
      vBMSH = past.values(layer, vBMSH);
    }
    return attendTransposed(qBNTH, kBMSH, vBMSH, layer, probe).transpose(1, 2);
  }

  private static Tensor attendTransposed(
      Tensor qBNTH, Tensor kBMSH, Tensor vBMSH, int layer, Probe probe) {
    long queries = qBNTH.size(2);
    long keys = kBMSH.size(2);
    if (!probe.wantsAttention(layer)) {
      return queries == keys || queries == 1
          ? qBNTH.scaledDotProductAttention(kBMSH, vBMSH, null, queries > 1)
          : qBNTH.scaledDotProductAttention(kBMSH, vBMSH, causalMask(qBNTH, keys), false);
    }
    var weights = weights(qBNTH, kBMSH);
    probe.attention(layer, weights);
    return weights.matmul(vBMSH.repeatInterleave(qBNTH.size(1) / vBMSH.size(1), 1));
  }

  /// The definition of the attention weights, `[B, N, T, S]`.
  private static Tensor weights(Tensor qBNTH, Tensor kBMSH) {
    var kBNSH = kBMSH.repeatInterleave(qBNTH.size(1) / kBMSH.size(1), 1);
    var scores = qBNTH.matmul(kBNSH.transpose(2, 3)).times(1 / Math.sqrt((double) qBNTH.size(3)));
    return scores.plus(causalMask(qBNTH, kBMSH.size(2))).softmax(-1);
  }

  /// `[T, S]`: 0 where query i may see key j, that is j ≤ S − T + i, else −∞.
  private static Tensor causalMask(Tensor qBNTH, long keys) {
    int queries = Math.toIntExact(qBNTH.size(2));
    int width = Math.toIntExact(keys);
    float[] mask = new float[queries * width];
    for (int i = 0; i < queries; i++) {
      int visible = width - queries + i + 1;
      Arrays.fill(mask, i * width + visible, (i + 1) * width, Float.NEGATIVE_INFINITY);
    }
    return Tensor.of(mask, queries, width).to(qBNTH.device());
  }
}
