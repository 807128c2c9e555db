package dev.sluice.pages;

import dev.sluice.report.Axis;
import dev.sluice.report.BarChart;
import dev.sluice.report.HeatMaps;
import dev.sluice.report.Histograms;
import dev.sluice.report.LineChart;
import dev.sluice.sink.SinkReport;
import dev.sluice.study.Arm;
import dev.sluice.study.Comparisons;
import dev.sluice.study.Study;
import dev.sluice.study.Variant;
import dev.sluice.training.RunMetrics;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.function.ToIntFunction;
import org.jspecify.annotations.Nullable;

/// The pictures of a study's report. Lines are means over the seeds that all lines of a picture
/// have, and maps are of one seed, wherever there is such a seed; the caption says which.
public final class StudyFigures {
  private final Study study;
  private final Path directory;
  private final Comparisons comparisons;
  private final TrialRecords records;
  private final Comparisons.Point point;
  private final Comparisons.Shown shown;
  private @Nullable SequencedMap<String, SinkReport> sinks;

  public StudyFigures(Study study, Path directory, Comparisons comparisons) {
    this(study, directory, comparisons, TrialRecords.OF_FINISHED);
  }

  public StudyFigures(Study study, Path directory, Comparisons comparisons, TrialRecords records) {
    this.study = study;
    this.records = records;
    this.directory = directory;
    this.comparisons = comparisons;
    this.point = comparisons.shownPoint();
    this.shown = comparisons.finished(arms(point.settings()));
  }

  private List<Arm> arms(Map<String, String> settings) {
    return study.variants().stream().map(variant -> new Arm(variant, settings)).toList();
  }

  /// The point of the grid whose models are shown.
  public Comparisons.Point point() {
    return point;
  }

  /// What was measured of one model of each variant at the shown point; empty before any is done.
  public SequencedMap<String, SinkReport> sinks() {
    var read = sinks;
    if (read == null) {
      read = new LinkedHashMap<>();
      for (var one : shown.trials().entrySet()) {
        var first = one.getValue().getFirst();
        Path trial = Study.directory(directory, one.getKey(), first.seed());
        read.put(one.getKey().variant().name(), first.sinks(trial));
      }
      sinks = read;
    }
    return read;
  }

  public boolean hasGates() {
    return sinks().values().stream().anyMatch(report -> !report.gateStatistics().gates().isEmpty());
  }

  /// Whose models are shown: `seed 1`, or without a common seed `seed 1 of plain, seed 2 of gated`.
  public String whose() {
    return shown.seeds().isEmpty()
        ? String.join(
            ", ",
            shown.trials().entrySet().stream()
                .map(
                    one ->
                        "seed %d of %s"
                            .formatted(
                                one.getValue().getFirst().seed(), one.getKey().variant().name()))
                .toList())
        : "seed " + shown.seeds().getFirst();
  }

  // ---------------------------------------------------------------- lines

  /// Loss over learning rates.
  public LineChart sweep() {
    var swept = comparisons.sweep();
    List<LineChart.Series> series = new ArrayList<>();
    for (Variant variant : study.variants()) {
      List<double[]> points = new ArrayList<>();
      swept
          .trials()
          .forEach(
              (arm, trials) -> {
                if (arm.variant().equals(variant)) {
                  var losses =
                      trials.stream().mapToDouble(Comparisons::boundedLoss).summaryStatistics();
                  String rate = arm.point().getOrDefault(Comparisons.LEARNING_RATE, "NaN");
                  points.add(
                      new double[] {
                        Double.parseDouble(rate),
                        losses.getAverage(),
                        losses.getMin(),
                        losses.getMax()
                      });
                }
              });
      points.sort(Comparator.comparingDouble(one -> one[0]));
      if (!points.isEmpty()) {
        series.add(
            LineChart.Series.of(variant.name(), column(points, 0), column(points, 1))
                .withBand(column(points, 2), column(points, 3)));
      }
    }
    return new LineChart(
        "Loss and learning rate",
        "Held-out loss at the end; line: mean over %s; band: lowest to highest seed. A diverged trial counts with the loss of %s."
            .formatted(
                over(swept),
                study.base().start().isGiven()
                    ? "a model that knows nothing, ln(vocabulary)"
                    : "a new model"),
        Axis.logarithmic("learning rate"),
        Axis.linear("nats per token"),
        series);
  }

  private static double[] column(List<double[]> rows, int column) {
    return rows.stream().mapToDouble(row -> row[column]).toArray();
  }

  private static String over(Comparisons.Shown shown) {
    return shown.seeds().isEmpty()
        ? "each line's own seeds, since none is common to all, so that lines cannot be compared"
        : StudyReport.seeds(shown.seeds());
  }

  /// Curves of the models at the shown point.
  public LineChart curves(String title, String field, String unit) {
    return curves(title, point.settings(), field, unit, 0);
  }

  /// Curves of the models at a point of the grid.
  ///
  /// @param smoothing weight of the past in a moving average
  public LineChart curves(
      String title, Map<String, String> settings, String field, String unit, double smoothing) {
    var there = comparisons.finished(arms(settings));
    List<LineChart.Series> series = new ArrayList<>();
    there
        .trials()
        .forEach(
            (arm, trials) -> {
              var curves =
                  trials.stream()
                      .map(result -> Study.directory(directory, arm, result.seed()))
                      .map(trial -> smoothed(records.finished(trial).curve(field), smoothing))
                      .toList();
              band(arm.variant().name(), curves).ifPresent(series::add);
            });
    var unfinished = unfinished(settings, field, smoothing);
    series.addAll(unfinished);
    return new LineChart(
        settings.isEmpty() ? title : title + ", " + StudyReport.describe(settings),
        ((there.trials().isEmpty()
                    ? ""
                    : "Line: mean over %s; band: lowest to highest seed.".formatted(over(there)))
                + (unfinished.isEmpty() ? "" : " Dashed: a trial that is not done, by itself.")
                + (smoothing > 0
                    ? " Smoothed: moving average with weight " + smoothing + " on the past."
                    : ""))
            .strip(),
        Axis.linear("step"),
        Axis.linear(unit),
        series);
  }

  private List<LineChart.Series> unfinished(
      Map<String, String> settings, String field, double smoothing) {
    List<LineChart.Series> series = new ArrayList<>();
    for (Arm arm : arms(settings)) {
      for (var trial : records.unfinished(arm).entrySet()) {
        var curve = smoothed(trial.getValue().curve(field), smoothing);
        if (curve.steps().length > 0) {
          String name = arm.variant().name();
          series.add(
              LineChart.Series.of(name + ", seed " + trial.getKey(), curve.steps(), curve.values())
                  .ofArm(name));
        }
      }
    }
    return series;
  }

  private static RunMetrics.Curve smoothed(RunMetrics.Curve curve, double smoothing) {
    double[] values = curve.values().clone();
    for (int i = 1; i < values.length; i++) {
      values[i] = smoothing * values[i - 1] + (1 - smoothing) * values[i];
    }
    return new RunMetrics.Curve(curve.steps(), values);
  }

  /// The mean of curves, and around it the lowest and the highest, at the steps that all of them
  /// have; empty where there are none.
  public static Optional<LineChart.Series> band(String name, List<RunMetrics.Curve> curves) {
    List<Map<Double, Double>> all = new ArrayList<>();
    for (var curve : curves) {
      var values = new TreeMap<Double, Double>();
      for (int i = 0; i < curve.steps().length; i++) {
        values.put(curve.steps()[i], curve.values()[i]);
      }
      all.add(values);
    }
    double[] steps =
        all.getFirst().keySet().stream()
            .filter(step -> all.stream().allMatch(values -> values.containsKey(step)))
            .mapToDouble(step -> step)
            .toArray();
    if (steps.length == 0) {
      return Optional.empty();
    }
    var there =
        Arrays.stream(steps)
            .mapToObj(
                step -> all.stream().mapToDouble(values -> values.get(step)).summaryStatistics())
            .toList();
    var line =
        LineChart.Series.of(
            name, steps, there.stream().mapToDouble(one -> one.getAverage()).toArray());
    return Optional.of(
        curves.size() == 1
            ? line
            : line.withBand(
                there.stream().mapToDouble(one -> one.getMin()).toArray(),
                there.stream().mapToDouble(one -> one.getMax()).toArray()));
  }

  // ---------------------------------------------------------------- attention

  public List<HeatMaps> attentionMaps() {
    return SinkFigures.attentionMaps(sinks());
  }

  /// The attention map of the layer in which a head gives the first token most, in any model.
  public Optional<HeatMaps> strongestMap() {
    return sinks().values().stream()
        .flatMap(report -> report.firstTokenAttention().layers().stream())
        .max(
            Comparator.comparingDouble(
                layer ->
                    layer.headsExcluding().stream().mapToDouble(share -> share).max().orElse(0)))
        .map(layer -> SinkFigures.attentionMap(sinks(), layer.layer()));
  }

  public HeatMaps sinkMaps() {
    return SinkFigures.firstTokenByHead(
        sinks(), "Mean over queries but the first 4, %s.".formatted(whose()));
  }

  /// Where a model has a gate after attention.
  public Optional<HeatMaps> gateMaps() {
    var panels = new LinkedHashMap<String, Map<Integer, List<Double>>>();
    sinks()
        .forEach(
            (name, report) -> {
              var heads = new TreeMap<Integer, List<Double>>();
              for (var gate : report.gateStatistics().gates()) {
                if (!gate.heads().isEmpty()) {
                  heads.put(
                      gate.layer(), gate.heads().stream().map(scores -> scores.mean()).toList());
                }
              }
              if (!heads.isEmpty()) {
                panels.put(name, heads);
              }
            });
    return panels.isEmpty()
        ? Optional.empty()
        : Optional.of(
            LayerFigures.byHead(
                "Gate scores, by head",
                "Mean score of the gate after attention over all held-out tokens, %s."
                    .formatted(whose()),
                layers(),
                panels));
  }

  // ---------------------------------------------------------------- bars

  public BarChart firstTokenBars() {
    double floor =
        sinks().values().stream()
            .mapToDouble(report -> report.firstTokenAttention().uniformFloorExcluding())
            .findFirst()
            .orElse(Double.NaN);
    return new BarChart(
        "Attention to the first token",
        "Mean over heads and queries but the first 4, %s.".formatted(whose()),
        "layer",
        LayerFigures.numbers(layers()),
        Axis.linear("share of attention"),
        bars(
            report ->
                byLayer(
                    report.firstTokenAttention().layers(),
                    layer -> layer.layer(),
                    layer -> layer.meanExcluding())),
        List.of(new BarChart.Reference("uniform attention", floor)));
  }

  public BarChart activationBars() {
    return new BarChart(
        "Largest activation",
        "Largest |x| of the residual stream after each block, %s.".formatted(whose()),
        "layer",
        LayerFigures.numbers(layers()),
        Axis.linear("largest |x|"),
        bars(
            report -> {
              var residuals = report.massiveActivation().residuals();
              return residuals.subList(1, residuals.size() - 1).stream()
                  .mapToDouble(residual -> residual.maximum())
                  .toArray();
            }),
        List.of());
  }

  /// What a model does not have has no bar.
  private List<BarChart.Arm> bars(Function<SinkReport, double[]> values) {
    return sinks().entrySet().stream()
        .map(
            sink -> {
              double[] there = values.apply(sink.getValue());
              double[] all = Arrays.copyOf(there, layers());
              Arrays.fill(all, there.length, all.length, Double.NaN);
              return BarChart.Arm.of(sink.getKey(), all);
            })
        .toList();
  }

  private <T> double[] byLayer(List<T> some, ToIntFunction<T> layer, ToDoubleFunction<T> value) {
    double[] all = new double[layers()];
    Arrays.fill(all, Double.NaN);
    some.forEach(one -> all[layer.applyAsInt(one)] = value.applyAsDouble(one));
    return all;
  }

  /// Of the deepest model.
  private int layers() {
    return SinkFigures.layers(sinks());
  }

  public Histograms gateHistograms() {
    return SinkFigures.gateHistograms(
        sinks(),
        "Scores over all held-out tokens, %s; 0 is closed, 1 is open, a new gate starts near ½."
            .formatted(whose()));
  }
}
