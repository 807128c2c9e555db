package dev.sluice.pages;

import dev.sluice.report.HeatMaps;
import dev.sluice.report.Histograms;
import dev.sluice.report.HtmlReport;
import dev.sluice.sink.AttentionMap;
import dev.sluice.sink.SinkReport;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.IntStream;

/// Pictures of what was measured of one or several models, side by side.
public final class SinkFigures {
  /// Of one model; they stand beside each other.
  private static final int MOST_LAYERS = 9;

  private static final String EACH_CELL =
      "Each cell is the mean weight of %d × %d query–key pairs.";

  private SinkFigures() {}

  /// Adds all pictures to the page's section.
  ///
  /// @param sinks by the models' names
  /// @param seen what was measured on, for captions: `on a held-out window after step 40`
  public static void add(HtmlReport page, SequencedMap<String, SinkReport> sinks, String seen) {
    if (sinks.size() == 1) {
      page.figure(layersOf(sinks.firstEntry().getKey(), sinks.firstEntry().getValue()));
    } else {
      attentionMaps(sinks).forEach(page::figure);
    }
    page.figure(firstTokenByHead(sinks, "Mean over queries but the first 4, %s.".formatted(seen)));
    if (sinks.values().stream().anyMatch(report -> !report.gateStatistics().gates().isEmpty())) {
      page.figure(
          gateHistograms(
              sinks,
              "Scores of all tokens %s; 0 is closed, 1 is open, a new gate starts near ½."
                  .formatted(seen)));
    }
  }

  /// Attention maps of one model's layers beside each other.
  private static HeatMaps layersOf(String name, SinkReport report) {
    var map = report.attentionMap();
    var layers = spread(map.layers(), MOST_LAYERS);
    int step = Math.max(1, map.tokens() / layers.getFirst().cells().size());
    return HeatMaps.attention(
        "Attention by layer",
        name
            + ". "
            + EACH_CELL.formatted(step, step)
            + (layers.size() < map.layers().size() ? " Not all layers are shown." : ""),
        step,
        layers.stream()
            .map(
                layer ->
                    HeatMaps.Panel.of(LayerFigures.name(layer.layer()), LayerFigures.cells(layer)))
            .toList());
  }

  /// At most so many, from the first to the last.
  private static <T> List<T> spread(List<T> all, int most) {
    int count = Math.min(most, all.size());
    return IntStream.range(0, count)
        .mapToObj(i -> all.get(count == 1 ? 0 : i * (all.size() - 1) / (count - 1)))
        .toList();
  }

  /// Attention maps of at most four layers that have attention in all models, from the first to the
  /// last.
  static List<HeatMaps> attentionMaps(SequencedMap<String, SinkReport> sinks) {
    var common = new TreeSet<Integer>();
    sinks.values().stream().findFirst().ifPresent(one -> common.addAll(attentionLayers(one)));
    sinks.values().forEach(one -> common.retainAll(attentionLayers(one)));
    return spread(List.copyOf(common), 4).stream()
        .map(layer -> attentionMap(sinks, layer))
        .toList();
  }

  private static List<Integer> attentionLayers(SinkReport report) {
    return report.attentionMap().layers().stream().map(AttentionMap.Layer::layer).toList();
  }

  static HeatMaps attentionMap(SequencedMap<String, SinkReport> sinks, int layer) {
    List<HeatMaps.Panel> panels = new ArrayList<>();
    int step = 1;
    for (var sink : sinks.entrySet()) {
      var map = sink.getValue().attentionMap();
      for (var one : map.layers()) {
        if (one.layer() == layer) {
          step = Math.max(1, map.tokens() / one.cells().size());
          panels.add(HeatMaps.Panel.of(sink.getKey(), LayerFigures.cells(one)));
        }
      }
    }
    return HeatMaps.attention(
        "Attention, " + LayerFigures.name(layer), EACH_CELL.formatted(step, step), step, panels);
  }

  static HeatMaps firstTokenByHead(SequencedMap<String, SinkReport> sinks, String caption) {
    var panels = new LinkedHashMap<String, Map<Integer, List<Double>>>();
    sinks.forEach(
        (name, report) -> {
          var heads = new TreeMap<Integer, List<Double>>();
          report
              .firstTokenAttention()
              .layers()
              .forEach(layer -> heads.put(layer.layer(), layer.headsExcluding()));
          panels.put(name, heads);
        });
    return LayerFigures.byHead(
        "Attention to the first token, by head", caption, layers(sinks), panels);
  }

  static Histograms gateHistograms(SequencedMap<String, SinkReport> sinks, String caption) {
    List<Histograms.Arm> arms = new ArrayList<>();
    sinks.forEach(
        (name, report) -> {
          var gates = report.gateStatistics().gates();
          if (!gates.isEmpty()) {
            arms.add(new Histograms.Arm(name, LayerFigures.counts(layers(sinks), gates)));
          }
        });
    return LayerFigures.gateScores(caption, layers(sinks), arms);
  }

  /// Of the deepest model.
  static int layers(Map<String, SinkReport> sinks) {
    return sinks.values().stream().mapToInt(SinkReport::layers).max().orElse(0);
  }
}
