package dev.sluice.pages;

import dev.sluice.report.HeatMaps;
import dev.sluice.report.Histograms;
import dev.sluice.sink.AttentionMap;
import dev.sluice.sink.GateStatistics.LayerGate;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/// What figures show of layers. Layers count from 0 everywhere: on pages, in tables, in JSON and in
/// the names of weights.
final class LayerFigures {
  /// What every page says of it.
  static final String COUNTED =
      "Layers and blocks count from 0, as in the names of the weights (`model.layers.0`).";

  private LayerFigures() {}

  /// `layer 3`.
  static String name(int layer) {
    return "layer " + layer;
  }

  /// `0`, `1`, …
  static List<String> numbers(int layers) {
    return IntStream.range(0, layers).mapToObj(String::valueOf).toList();
  }

  /// The cells of a map on and below the diagonal.
  static float[][] cells(AttentionMap.Layer layer) {
    int side = layer.cells().size();
    float[][] cells = new float[side][side];
    for (int row = 0; row < side; row++) {
      for (int column = 0; column < side; column++) {
        cells[row][column] = column > row ? Float.NaN : layer.cells().get(row).get(column);
      }
    }
    return cells;
  }

  /// A row for each layer and a column for each head, the same for every panel; what a layer or
  /// model does not have stays blank.
  ///
  /// @param layers of the deepest model
  /// @param panels by name, values of heads by layer
  static HeatMaps byHead(
      String title, String caption, int layers, Map<String, Map<Integer, List<Double>>> panels) {
    int heads =
        panels.values().stream()
            .flatMap(panel -> panel.values().stream())
            .mapToInt(List::size)
            .max()
            .orElse(1);
    return new HeatMaps(
        title,
        caption,
        HeatMaps.Side.of("layer"),
        HeatMaps.Side.of("head"),
        HeatMaps.ColourScale.LINEAR,
        panels.entrySet().stream()
            .map(
                panel -> HeatMaps.Panel.of(panel.getKey(), matrix(layers, heads, panel.getValue())))
            .toList());
  }

  private static float[][] matrix(int layers, int heads, Map<Integer, List<Double>> values) {
    float[][] matrix = new float[layers][heads];
    for (float[] row : matrix) {
      Arrays.fill(row, Float.NaN);
    }
    values.forEach(
        (layer, ofHeads) -> {
          for (int head = 0; head < ofHeads.size(); head++) {
            matrix[layer][head] = ofHeads.get(head).floatValue();
          }
        });
    return matrix;
  }

  /// Scores of gates from 0 to 1, a panel for each layer.
  static Histograms gateScores(String caption, int layers, List<Histograms.Arm> arms) {
    return new Histograms(
        "Gate scores",
        caption,
        "score",
        0,
        1,
        IntStream.range(0, layers).mapToObj(LayerFigures::name).toList(),
        arms);
  }

  /// Counts by layer and bin, of all gates of a layer together.
  static double[][] counts(int layers, List<LayerGate> gates) {
    double[][] counts = new double[layers][0];
    for (var gate : gates) {
      double[] one = gate.scores().histogram().stream().mapToDouble(Long::doubleValue).toArray();
      double[] before = counts[gate.layer()];
      for (int bin = 0; bin < before.length; bin++) {
        one[bin] += before[bin];
      }
      counts[gate.layer()] = one;
    }
    return counts;
  }
}
