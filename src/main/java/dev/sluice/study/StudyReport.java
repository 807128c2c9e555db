package dev.sluice.study;

import dev.sluice.report.Axis;
import dev.sluice.report.BarChart;
import dev.sluice.report.Cell;
import dev.sluice.report.HeatMaps;
import dev.sluice.report.Histograms;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;

/// What a study says: sentences, a table, and a page with pictures.
public final class StudyReport {
  private final Study study;
  private final Path directory;
  private final List<TrialResult> results;

  /// @param results of the trials that are done
  public StudyReport(Study study, Path directory, List<TrialResult> results) {
    this.study = study;
    this.directory = directory;
    this.results = List.copyOf(results);
  }

  // ---------------------------------------------------------------- words

  /// What can and what cannot be concluded, baseline against each variant.
  public List<String> sentences() {
    List<String> sentences = new ArrayList<>();
    String baseline = study.gates().getFirst();
    for (String gate : study.gates().subList(1, study.gates().size())) {
      sentences.add(comparison(baseline, gate));
    }
    sinks().values().stream()
        .flatMap(sink -> sink.warnings().stream())
        .distinct()
        .forEach(sentences::add);
    for (String gate : study.gates()) {
      long diverged = find(gate).stream().filter(TrialResult::diverged).count();
      if (diverged > 0) {
        sentences.add(
            "%s: %d of %d trials diverged; means and pairs leave them out, so they speak of the survivors only."
                .formatted(gate, diverged, find(gate).size()));
      }
    }
    sentences.add(
        ("Each model trained on %s tokens. The paper's effects are of models with billions of"
             + " parameters and hundreds of billions of tokens; in small models the effect of a"
             + " gate is often smaller than the noise between seeds, and attention sinks are only"
             + " beginning to form.")
            .formatted(Numbers.count(tokensPerTrial())));
    return sentences;
  }

  private long tokensPerTrial() {
    var base = study.base();
    return (long) base.steps()
        * base.batchSize()
        * base.sequenceLength()
        * base.gradientAccumulation();
  }

  private String comparison(String baseline, String gate) {
    List<TrialResult> a = new ArrayList<>();
    List<TrialResult> b = new ArrayList<>();
    for (long seed : study.seeds()) {
      var ofBaseline = find(baseline, seed);
      var ofGate = find(gate, seed);
      if (!ofBaseline.isEmpty() && !ofGate.isEmpty()) {
        a.addAll(ofBaseline);
        b.addAll(ofGate);
      }
    }
    int pairs = a.size();
    if (pairs == 0) {
      return gate
          + ": no pair of finished trials with "
          + baseline
          + " yet, so nothing can be said.";
    }
    double[] differences =
        Statistics.differences(
            values(b, TrialResult::bitsPerByte), values(a, TrialResult::bitsPerByte));
    double mean = Statistics.mean(differences);
    String what =
        "%s against %s: held-out loss %s by %s bits per byte on average over %d paired seed%s (%s)."
            .formatted(
                gate,
                baseline,
                mean < 0 ? "lower" : "higher",
                Numbers.fixed(Math.abs(mean), 4),
                pairs,
                pairs == 1 ? "" : "s",
                signed(differences));
    return what + " " + verdict(differences);
  }

  private static String verdict(double[] differences) {
    if (differences.length < 2) {
      return "From one seed nothing can be concluded.";
    }
    double half = Statistics.interval95(differences);
    double mean = Statistics.mean(differences);
    boolean shown = Math.abs(mean) > half;
    String interval =
        "95 %% interval of the difference %s to %s"
            .formatted(
                String.format(Locale.ROOT, "%+.4f", mean - half),
                String.format(Locale.ROOT, "%+.4f", mean + half));
    if (!shown) {
      return "No difference shown: the " + interval + " includes zero" + few(differences) + ".";
    }
    return "The " + interval + " excludes zero" + few(differences) + ".";
  }

  private static String few(double[] differences) {
    return differences.length < 5
        ? " (with %d seeds it is wide and rests on a guess of the noise; use --seeds 5 or more to decide)"
            .formatted(differences.length)
        : "";
  }

  private static String signed(double[] differences) {
    return String.join(
        ", ",
        Arrays.stream(differences)
            .mapToObj(difference -> String.format(Locale.ROOT, "%+.4f", difference))
            .toList());
  }

  // ---------------------------------------------------------------- table

  /// One row per variant.
  public Table table() {
    var table =
        Table.titled(
                "Held-out text, mean ± standard deviation over %d seed%s"
                    .formatted(study.seeds().size(), study.seeds().size() == 1 ? "" : "s"))
            .columns(
                "gate",
                "bits per byte",
                "first-token attention",
                "uniform",
                "largest |x|",
                "mean gate",
                "tokens/s",
                "parameters");
    for (String gate : study.gates()) {
      var arm = finished(gate);
      if (arm.isEmpty()) {
        if (!find(gate).isEmpty()) {
          table = table.row(diverged(gate));
        }
        continue;
      }
      long diverged = find(gate).stream().filter(TrialResult::diverged).count();
      table =
          table.row(
              Cell.of(gate + (diverged == 0 ? "" : " (" + diverged + " diverged)")),
              spread(arm, TrialResult::bitsPerByte, 4),
              spread(arm, TrialResult::firstTokenAttention, 4),
              Cell.of(arm.getFirst().uniformFloor(), 4),
              spread(arm, TrialResult::largestActivation, 1),
              arm.getFirst().meanGate() == null
                  ? Cell.missing()
                  : spread(
                      arm, result -> result.meanGate() == null ? Double.NaN : result.meanGate(), 3),
              Cell.of(Math.round(Statistics.mean(values(arm, TrialResult::tokensPerSecond)))),
              Cell.of(arm.getFirst().parameters()));
    }
    return table
        .footnote(
            "First-token attention: mean over layers, heads and queries but the first 4; uniform is"
                + " what attention without preferences would give.")
        .footnote("Largest |x|: the largest activation of the residual stream after any block.");
  }

  private static List<Cell> diverged(String gate) {
    List<Cell> row = new ArrayList<>(Collections.nCopies(8, Cell.missing()));
    row.set(0, Cell.of(gate + " (all diverged)"));
    return row;
  }

  private static Cell spread(
      List<TrialResult> arm, ToDoubleFunction<TrialResult> value, int decimals) {
    double[] values = values(arm, value);
    return values.length < 2
        ? Cell.of(values[0], decimals)
        : Cell.interval(Statistics.mean(values), Statistics.standardDeviation(values));
  }

  // ---------------------------------------------------------------- page

  /// Writes `report.html` into the study's directory.
  ///
  /// @param command as the user gave it
  /// @param manifest what the report carries about its making
  public Path writePage(String command, Map<String, Object> manifest) throws IOException {
    var page =
        HtmlReport.titled("Does a gate help?")
            .written(Instant.now())
            .command(command)
            .manifest(manifest);
    sentences().forEach(page::summary);
    page.table(table());
    page.section("Loss")
        .figure(curves("Training loss", "loss", "nats per token", 0.9))
        .figure(curves("Held-out loss", "held_out_bits_per_byte", "bits per byte", 0));
    Map<String, SinkReport> sinks = sinks();
    page.section("Where attention goes")
        .prose(
            "Attention of the first seed's models on the first held-out window, mean over heads. A"
                + " bright first column is an attention sink. Compare the panels of one layer: the"
                + " colour scale is the same.");
    for (int layer : shownLayers(sinks)) {
      page.figure(attentionMaps(sinks, layer));
    }
    page.figure(firstTokenBars(sinks)).figure(activationBars(sinks));
    if (sinks.values().stream().anyMatch(report -> !report.gateStatistics().gates().isEmpty())) {
      page.section("What the gates do").figure(gateHistograms(sinks));
    }
    Path file = directory.resolve("report.html");
    page.writeTo(file);
    return file;
  }

  private LineChart curves(String title, String field, String unit, double smoothing) {
    List<LineChart.Series> series = new ArrayList<>();
    for (String gate : study.gates()) {
      List<RunMetrics.Curve> curves = new ArrayList<>();
      for (var result : finished(gate)) {
        curves.add(
            smoothed(
                RunMetrics.read(trial(gate, result.seed()).directory()).curve(field), smoothing));
      }
      if (!curves.isEmpty()) {
        series.add(band(gate, curves));
      }
    }
    return new LineChart(
        title,
        "Line: mean over seeds; band: lowest to highest seed."
            + (smoothing > 0
                ? " Smoothed: moving average with weight " + smoothing + " on the past."
                : ""),
        Axis.linear("step"),
        Axis.linear(unit),
        series);
  }

  private static RunMetrics.Curve smoothed(RunMetrics.Curve curve, double smoothing) {
    double[] values = curve.values().clone();
    for (int i = 1; i < values.length; i++) {
      values[i] = smoothing * values[i - 1] + (1 - smoothing) * values[i];
    }
    return new RunMetrics.Curve(curve.steps(), values);
  }

  private static LineChart.Series band(String name, List<RunMetrics.Curve> curves) {
    double[] steps = curves.getFirst().steps();
    double[] mean = new double[steps.length];
    double[] low = new double[steps.length];
    double[] high = new double[steps.length];
    for (int i = 0; i < steps.length; i++) {
      int at = i;
      var there = curves.stream().mapToDouble(curve -> curve.values()[at]).summaryStatistics();
      mean[i] = there.getAverage();
      low[i] = there.getMin();
      high[i] = there.getMax();
    }
    var line = LineChart.Series.of(name, steps, mean);
    return curves.size() > 1 ? line.withBand(low, high) : line;
  }

  /// The first finished seed's measurements of each variant.
  private Map<String, SinkReport> sinks() {
    var sinks = new LinkedHashMap<String, SinkReport>();
    for (String gate : study.gates()) {
      finished(gate).stream()
          .findFirst()
          .ifPresent(
              result ->
                  sinks.put(
                      gate,
                      SinkReport.read(
                          trial(gate, result.seed()).directory().resolve(TrialResult.SINKS))));
    }
    return sinks;
  }

  /// At most four layers from the first to the last.
  private static int[] shownLayers(Map<String, SinkReport> sinks) {
    int layers =
        sinks.values().stream()
            .mapToInt(report -> report.attentionMap().layers().size())
            .min()
            .orElse(0);
    int shown = Math.min(4, layers);
    return IntStream.range(0, shown)
        .map(i -> shown == 1 ? 0 : i * (layers - 1) / (shown - 1))
        .toArray();
  }

  private static HeatMaps attentionMaps(Map<String, SinkReport> sinks, int layer) {
    List<HeatMaps.Panel> panels = new ArrayList<>();
    int step = 1;
    for (var sink : sinks.entrySet()) {
      var map = sink.getValue().attentionMap();
      var cells = map.layers().get(layer).cells();
      step = Math.max(1, map.tokens() / cells.size());
      float[][] values = new float[cells.size()][];
      for (int row = 0; row < values.length; row++) {
        values[row] = new float[cells.get(row).size()];
        for (int column = 0; column < values[row].length; column++) {
          values[row][column] = column > row ? Float.NaN : cells.get(row).get(column);
        }
      }
      panels.add(HeatMaps.Panel.of(sink.getKey(), values));
    }
    return HeatMaps.attention(
        "Attention, layer " + (layer + 1),
        "Each cell is the mean weight of " + step + " × " + step + " query–key pairs.",
        step,
        panels);
  }

  private static BarChart firstTokenBars(Map<String, SinkReport> sinks) {
    double floor =
        sinks.values().stream()
            .mapToDouble(report -> report.firstTokenAttention().uniformFloorExcluding())
            .findFirst()
            .orElse(Double.NaN);
    return new BarChart(
        "Attention to the first token",
        "Mean over heads and queries but the first 4, first seed.",
        "layer",
        layerNames(sinks),
        Axis.linear("share of attention"),
        arms(
            sinks,
            report ->
                report.firstTokenAttention().layers().stream()
                    .mapToDouble(layer -> layer.meanExcluding())
                    .toArray()),
        List.of(new BarChart.Reference("uniform attention", floor)));
  }

  private static BarChart activationBars(Map<String, SinkReport> sinks) {
    return new BarChart(
        "Largest activation",
        "Largest |x| of the residual stream after each block, first seed.",
        "layer",
        layerNames(sinks),
        Axis.linear("largest |x|"),
        arms(
            sinks,
            report -> {
              int layers = report.firstTokenAttention().layers().size();
              return report.massiveActivation().residuals().stream()
                  .filter(residual -> residual.index() >= 1 && residual.index() <= layers)
                  .mapToDouble(residual -> residual.maximum())
                  .toArray();
            }),
        List.of());
  }

  private static List<BarChart.Arm> arms(
      Map<String, SinkReport> sinks, Function<SinkReport, double[]> values) {
    return sinks.entrySet().stream()
        .map(sink -> BarChart.Arm.of(sink.getKey(), values.apply(sink.getValue())))
        .toList();
  }

  private static List<String> layerNames(Map<String, SinkReport> sinks) {
    int layers =
        sinks.values().stream()
            .mapToInt(report -> report.firstTokenAttention().layers().size())
            .max()
            .orElse(0);
    return IntStream.rangeClosed(1, layers).mapToObj(String::valueOf).toList();
  }

  private static Histograms gateHistograms(Map<String, SinkReport> sinks) {
    var names = layerNames(sinks);
    List<Histograms.Arm> arms = new ArrayList<>();
    for (var sink : sinks.entrySet()) {
      var gates = sink.getValue().gateStatistics().gates();
      if (gates.isEmpty()) {
        continue;
      }
      double[][] counts = new double[names.size()][0];
      for (var gate : gates) {
        counts[gate.layer()] =
            gate.scores().histogram().stream().mapToDouble(Long::doubleValue).toArray();
      }
      arms.add(new Histograms.Arm(sink.getKey(), counts));
    }
    return new Histograms(
        "Gate scores",
        "Scores over all held-out tokens of the first seed's model; 0 is closed, 1 is open, a new"
            + " gate starts near ½.",
        "score",
        0,
        1,
        names.stream().map(name -> "layer " + name).toList(),
        arms);
  }

  // ---------------------------------------------------------------- results

  private Trial trial(String gate, long seed) {
    return study.trials(directory).stream()
        .filter(trial -> trial.gate().equals(gate) && trial.seed() == seed)
        .findFirst()
        .orElseThrow();
  }

  private List<TrialResult> find(String gate) {
    return results.stream().filter(result -> result.gate().equals(gate)).toList();
  }

  private List<TrialResult> find(String gate, long seed) {
    return finished(gate).stream().filter(result -> result.seed() == seed).toList();
  }

  private List<TrialResult> finished(String gate) {
    return find(gate).stream().filter(result -> !result.diverged()).toList();
  }

  private static double[] values(List<TrialResult> results, ToDoubleFunction<TrialResult> value) {
    return results.stream().mapToDouble(value).toArray();
  }
}
