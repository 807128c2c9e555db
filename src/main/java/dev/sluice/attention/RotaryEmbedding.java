package dev.sluice.attention;

import dev.sluice.operations.Rotation;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// Rotary position embedding on the first R of H dimensions, in half-split pairs (i, i + R/2) as in
/// Qwen3.
///
/// With angle θ_p,i = p · inv_i: `y_i = x_i cos θ − x_{i+R/2} sin θ`, `y_{i+R/2} = x_{i+R/2} cos θ
/// + x_i sin θ`.
public final class RotaryEmbedding implements AutoCloseable {
  private final Rotary rotary;
  private final int headSize;
  private final float[] inverseFrequencies;
  private final double attentionFactor;

  /// Of the longest whole sequence so far; shorter ones are its beginning, unless the scaling
  /// depends on their length.
  private @Nullable Rotation kept;

  public RotaryEmbedding(Rotary rotary, int headSize) {
    this.rotary = rotary;
    this.headSize = headSize;
    this.inverseFrequencies = rotary.inverseFrequencies(headSize, 1);
    this.attentionFactor = rotary.scaling().scale();
  }

  /// The rotation of `tokens` positions from `start`, the same in each row of a batch.
  public Rotation rotation(int start, int tokens, Device device) {
    return rotation(new int[] {start}, tokens, device);
  }

  /// The rotation of `tokens` positions. That of whole sequences is kept, so that a device is given
  /// it once.
  ///
  /// @param starts the first position of each row of a batch, or one for all
  public Rotation rotation(int[] starts, int tokens, Device device) {
    if (Arrays.stream(starts).anyMatch(start -> start != 0) || tokens == 0) {
      return made(starts, tokens, device);
    }
    return ofWholeSequences(tokens, device);
  }

  private synchronized Rotation ofWholeSequences(int tokens, Device device) {
    var there = kept;
    boolean fits =
        there != null
            && there.cosines().device().equals(device)
            && (rotary.scaling().dependsOnLength()
                ? there.cosines().size(1) == tokens
                : there.cosines().size(1) >= tokens);
    if (there == null || !fits) {
      close();
      there = made(new int[1], tokens, device);
      there.cosines().retain();
      there.sines().retain();
      kept = there;
    }
    return new Rotation(there.cosines().narrow(1, 0, tokens), there.sines().narrow(1, 0, tokens));
  }

  /// Forgets what is kept; what was given stays.
  @Override
  public synchronized void close() {
    if (kept != null) {
      kept.cosines().close();
      kept.sines().close();
      kept = null;
    }
  }

  private Rotation made(int[] starts, int tokens, Device device) {
    boolean alike = Arrays.stream(starts).distinct().count() == 1;
    int rows = alike ? 1 : starts.length;
    int half = inverseFrequencies.length;
    float[] cos = new float[rows * tokens * half];
    float[] sin = new float[rows * tokens * half];
    for (int row = 0; row < rows; row++) {
      float[] frequencies =
          rotary.scaling().dependsOnLength()
              ? rotary.inverseFrequencies(headSize, starts[row] + tokens)
              : inverseFrequencies;
      for (int token = 0; token < tokens; token++) {
        int p = row * tokens + token;
        for (int i = 0; i < half; i++) {
          float angle = (starts[row] + token) * frequencies[i]; // float32, as in the reference
          cos[p * half + i] = (float) (Math.cos(angle) * attentionFactor);
          sin[p * half + i] = (float) (Math.sin(angle) * attentionFactor);
        }
      }
    }
    return new Rotation(
        Tensor.of(cos, rows, tokens, 1, half).to(device),
        Tensor.of(sin, rows, tokens, 1, half).to(device));
  }
}
