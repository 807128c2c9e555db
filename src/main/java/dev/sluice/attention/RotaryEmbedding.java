package dev.sluice.attention;

import dev.sluice.tensor.Device;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;

/// Rotary position embedding on the first R of H dimensions, in half-split pairs (i, i + R/2) as in
/// Qwen3.
///
/// With angle θ_p,i = p · inv_i: `y_i = x_i cos θ − x_{i+R/2} sin θ`, `y_{i+R/2} = x_{i+R/2} cos θ
/// + x_i sin θ`.
public final class RotaryEmbedding {
  private final float[] inverseFrequencies;
  private final double attentionFactor;

  public RotaryEmbedding(Rotary rotary, int headSize) {
    this.inverseFrequencies =
        rotary.scaling().inverseFrequencies(rotary.theta(), rotary.dimensions(headSize));
    this.attentionFactor = rotary.scaling().scale();
  }

  /// Cosines and sines of `tokens` positions from `start`, each `[T, 1, R/2]`.
  public Rotation rotation(int start, int tokens, Device device) {
    int half = inverseFrequencies.length;
    float[] cos = new float[tokens * half];
    float[] sin = new float[tokens * half];
    for (int t = 0; t < tokens; t++) {
      for (int i = 0; i < half; i++) {
        float angle = (start + t) * inverseFrequencies[i]; // a float32 product, as in the reference
        cos[t * half + i] = (float) (Math.cos(angle) * attentionFactor);
        sin[t * half + i] = (float) (Math.sin(angle) * attentionFactor);
      }
    }
    return new Rotation(
        Tensor.of(cos, tokens, 1, half).to(device), Tensor.of(sin, tokens, 1, half).to(device));
  }

  /// The rotation of consecutive positions.
  public record Rotation(Tensor cosines, Tensor sines) {
    /// Rotates queries or keys `[B, T, heads, H]`.
    public Tensor rotate(Tensor xBTNH) {
      long half = cosines.size(-1);
      long width = xBTNH.size(-1);
      var first = xBTNH.narrow(-1, 0, half);
      var second = xBTNH.narrow(-1, half, half);
      var parts = new ArrayList<Tensor>();
      parts.add(first.times(cosines).minus(second.times(sines)));
      parts.add(second.times(cosines).plus(first.times(sines)));
      if (2 * half < width) {
        parts.add(xBTNH.narrow(-1, 2 * half, width - 2 * half));
      }
      return Tensor.concatenate(parts, -1);
    }
  }
}
