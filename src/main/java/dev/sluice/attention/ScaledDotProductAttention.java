package dev.sluice.attention;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;

/// `softmax(q kᵀ / √H + causal mask) v` in float32.
final class ScaledDotProductAttention {
  private ScaledDotProductAttention() {}

  /// Attends; the last query stands at the last key.
  ///
  /// libtorch's fused operation does the work, always in float32: its bfloat16 path on the CPU is a
  /// hundred times slower. When the probe wants the weights, the definition does.
  ///
  /// @param qBNTH queries
  /// @param kBMSH keys, S ≥ T
  /// @param vBMSH values
  /// @return `[B, N, T, H]`
  static Tensor attend(Tensor qBNTH, Tensor kBMSH, Tensor vBMSH, int layer, Probe probe) {
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
