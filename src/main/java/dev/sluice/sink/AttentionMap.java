package dev.sluice.sink;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/// The first sequence's attention weights of every layer, averaged over heads and shrunk to at most
/// [#CELLS] × [#CELLS] cells, as heat maps show them.
///
/// A cell is the mean over its queries and keys, masked ones included. Cell r of c covers the
/// tokens ⌊rT/c⌋ … ⌊(r+1)T/c⌋ − 1; a cell's mean times its number of keys, summed along a row, is
/// 1.
public final class AttentionMap implements Probe {
  /// The most cells along a side.
  public static final int CELLS = 64;

  private final TreeMap<Integer, Layer> layers = new TreeMap<>();
  private int tokens;

  /// The cells of the layer that is under way.
  private float[] pooled = {};

  /// Has seen nothing yet.
  public AttentionMap() {}

  /// @param cells a row per group of queries, a column per group of keys
  public record Layer(int layer, List<List<Float>> cells) {
    public Layer {
      cells = cells.stream().map(List::copyOf).toList();
    }
  }

  /// @param tokens length of the sequence
  public record Result(int tokens, List<Layer> layers) {
    public Result {
      layers = List.copyOf(layers);
    }
  }

  @Override
  public boolean wantsAttention(int layer) {
    return !layers.containsKey(layer);
  }

  @Override
  public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
    int queries = Math.toIntExact(weightsBNRS.size(2));
    tokens = Math.toIntExact(weightsBNRS.size(3));
    int side = Math.min(CELLS, tokens);
    if (firstQuery == 0) {
      pooled = new float[side * side];
    }
    if (firstQuery + queries > tokens || pooled.length != side * side) {
      throw new IllegalArgumentException("a whole sequence is needed, not " + weightsBNRS);
    }
    var poolingST = pooling(side, tokens).to(weightsBNRS.device());
    var meanRS = weightsBNRS.narrow(0, 0, 1).mean(1).reshape(queries, tokens);
    float[] block =
        poolingST
            .narrow(1, firstQuery, queries)
            .matmul(meanRS.matmul(poolingST.transpose(0, 1)))
            .floats();
    for (int i = 0; i < pooled.length; i++) {
      pooled[i] += NotFinite.require(block[i], "the attention weights of layer", layer);
    }
    if (firstQuery + queries == tokens) {
      layers.put(layer, new Layer(layer, rows(pooled, side)));
    }
  }

  private static List<List<Float>> rows(float[] cells, int side) {
    List<List<Float>> rows = new ArrayList<>();
    for (int row = 0; row < side; row++) {
      List<Float> one = new ArrayList<>();
      for (int column = 0; column < side; column++) {
        one.add(cells[row * side + column]);
      }
      rows.add(one);
    }
    return rows;
  }

  /// `[cells, T]`: row r is the mean over the tokens of cell r.
  private static Tensor pooling(int cells, int tokens) {
    float[] weights = new float[cells * tokens];
    for (int cell = 0; cell < cells; cell++) {
      int begin = Math.toIntExact((long) cell * tokens / cells);
      int end = Math.toIntExact((cell + 1L) * tokens / cells);
      for (int token = begin; token < end; token++) {
        weights[cell * tokens + token] = 1f / (end - begin);
      }
    }
    return Tensor.of(weights, cells, tokens);
  }

  /// What was seen of the first sequence.
  public Result result() {
    return new Result(tokens, List.copyOf(layers.values()));
  }
}
