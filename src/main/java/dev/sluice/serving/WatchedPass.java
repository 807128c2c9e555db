package dev.sluice.serving;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;

/// Watches a pass of the last tokens of some texts, and changes no bit of it.
final class WatchedPass implements Probe {
  private final int layers;
  private final float[][] shares; // by row and layer
  private final Map<String, float[][]> scores = new TreeMap<>();

  /// @param rows texts of the pass
  WatchedPass(int layers, int rows) {
    this.layers = layers;
    this.shares = unseen(rows);
  }

  private float[][] unseen(int rows) {
    float[][] values = new float[rows][layers];
    for (float[] row : values) {
      Arrays.fill(row, Float.NaN);
    }
    return values;
  }

  @Override
  public boolean wantsFirstTokenShare(int layer) {
    return true;
  }

  @Override
  public void firstTokenShare(int layer, Tensor shareBTN) {
    take(layer, shareBTN, shares);
  }

  @Override
  public boolean wantsGateScores(int layer) {
    return true;
  }

  @Override
  public void gate(int layer, String position, Tensor scoresBTNH) {
    take(layer, scoresBTNH, scores.computeIfAbsent(position, _ -> unseen(shares.length)));
  }

  /// The mean of the last token of each row; one row stands for all where they have the same.
  private static void take(int layer, Tensor values, float[][] into) {
    int rows = Math.toIntExact(values.size(0));
    float[] last = values.narrow(1, values.size(1) - 1, 1).floats();
    int each = last.length / rows;
    for (int row = 0; row < into.length; row++) {
      double sum = 0;
      for (int i = 0; i < each; i++) {
        sum += last[(rows == 1 ? 0 : row) * each + i];
      }
      into[row][layer] = (float) (sum / each);
    }
  }

  /// What was seen of a text.
  TokenWatch of(int row) {
    Map<String, float[]> own = new TreeMap<>();
    scores.forEach((position, values) -> own.put(position, values[row]));
    return new TokenWatch(shares[row], own);
  }
}
