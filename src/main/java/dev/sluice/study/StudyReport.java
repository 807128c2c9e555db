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
import dev.sluice.statistics.Statistics;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// What a study says: sentences, tables, and a page with pictures.
public final class StudyReport {
  /// The grid's setting that is swept.
  private static final String LEARNING_RATE = "learning_rate";

  private final Study study;
  private final Path directory;
  private final List<TrialResult> results;
  private final List<Comparison> comparisons;

  /// @param results of the trials that are done
  public StudyReport(Study study, Path directory, List<TrialResult> results) {
    this.study = study;
    this.directory = directory;
    this.results = List.copyOf(results);
    this.comparisons = comparisons();
  }

  // ---------------------------------------------------------------- statistics

  /// An arm against the baseline at the same point of the grid.
  ///
  /// @param differences of held-out bits per byte, arm minus baseline, one for each seed that both
  ///   finished
  /// @param relative mean difference over the baseline's mean
  /// @param corrected p-value of no difference, with Holm's correction over all comparisons; NaN
  ///   for fewer than two pairs
  @SuppressWarnings("ArrayRecordComponent")
  private record Comparison(Arm arm, double[] differences, double relative, double corrected) {
    double mean() {
      return Statistics.mean(differences);
    }

    double half() {
      return Statistics.interval95(differences);
    }

    boolean shown() {
      return corrected <= 0.05;
    }

    String interval() {
      return "95 %% interval %s to %s"
          .formatted(signed(mean() - half(), 4), signed(mean() + half(), 4));
    }
  }

  private List<Comparison> comparisons() {
    var arms = study.arms().stream().filter(arm -> !arm.equals(study.baseline(arm))).toList();
    List<double[]> differences = new ArrayList<>();
    for (Arm arm : arms) {
      differences.add(differences(arm, TrialResult::bitsPerByte));
    }
    double[] corrected =
        Statistics.holm(differences.stream().mapToDouble(Statistics::pValue).toArray());
    List<Comparison> comparisons = new ArrayList<>();
    for (int i = 0; i < arms.size(); i++) {
      double[] baseline = values(finished(study.baseline(arms.get(i))), TrialResult::bitsPerByte);
      comparisons.add(
          new Comparison(
              arms.get(i),
              differences.get(i),
              Statistics.mean(differences.get(i)) / Statistics.mean(baseline),
              corrected[i]));
    }
    return comparisons;
  }

  /// Arm minus baseline for each seed that both finished.
  private double[] differences(Arm arm, ToDoubleFunction<TrialResult> value) {
    List<TrialResult> a = new ArrayList<>();
    List<TrialResult> b = new ArrayList<>();
    for (long seed : study.seeds()) {
      var ofBaseline = finished(study.baseline(arm), seed);
      var ofArm = finished(arm, seed);
      if (ofBaseline.isPresent() && ofArm.isPresent()) {
        a.add(ofBaseline.get());
        b.add(ofArm.get());
      }
    }
    return Statistics.differences(values(b, value), values(a, value));
  }

  // ---------------------------------------------------------------- words

  /// What can and what cannot be concluded, baseline against each variant.
  public List<String> sentences() {
    List<String> sentences = new ArrayList<>();
    if (comparisons.size() <= 4) {
      comparisons.forEach(comparison -> sentences.add(comparison(comparison)));
    } else {
      sentences.addAll(manyComparisons());
    }
    power().ifPresent(sentences::add);
    sentences.addAll(sensitivities());
    sinks().values().stream()
        .flatMap(sink -> sink.warnings().stream())
        .distinct()
        .forEach(sentences::add);
    for (Arm arm : study.arms()) {
      var all = find(arm);
      long diverged = all.stream().filter(TrialResult::diverged).count();
      if (diverged > 0) {
        sentences.add(
            "%s: %d of %d trials diverged; means and pairs leave them out, so they speak of the survivors only."
                .formatted(arm.name(), diverged, all.size()));
      }
    }
    int missing = study.arms().size() * study.seeds().size() - results.size();
    if (missing > 0) {
      sentences.add(missing + " of the study's trials are not done yet.");
    }
    sentences.add(
        ("Each model trained on %s tokens. The paper's effects are of models with billions of"
                + " parameters and hundreds of billions of tokens; in small models the effect of a"
                + " gate is often smaller than the noise between seeds, and attention sinks are"
                + " only beginning to form.")
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

  private String comparison(Comparison c) {
    String baseline = study.baseline(c.arm).name();
    int pairs = c.differences.length;
    if (pairs == 0) {
      return c.arm.name()
          + ": no pair of finished trials with "
          + baseline
          + " yet, so nothing can be said.";
    }
    String what =
        "%s against %s: held-out loss %s by %s bits per byte on average over %d paired seed%s (%s)."
            .formatted(
                c.arm.name(),
                baseline,
                c.mean() < 0 ? "lower" : "higher",
                Numbers.fixed(Math.abs(c.mean()), 4),
                pairs,
                pairs == 1 ? "" : "s",
                String.join(
                    ", ",
                    Arrays.stream(c.differences).mapToObj(value -> signed(value, 4)).toList()));
    return what + " " + verdict(c);
  }

  private String verdict(Comparison c) {
    int pairs = c.differences.length;
    if (pairs < 2) {
      return "From one seed nothing can be concluded.";
    }
    String few =
        pairs < 5
            ? " (with %d seeds it is wide and rests on a guess of the noise; use --seeds 5 or more to decide)"
                .formatted(pairs)
            : "";
    String test =
        "%s%s".formatted(p(c.corrected), comparisons.size() > 1 ? " after correction" : "");
    return c.shown()
        ? "The difference is shown: %s, %s%s.".formatted(c.interval(), test, few)
        : "No difference shown: %s, %s%s.".formatted(c.interval(), test, few);
  }

  private List<String> manyComparisons() {
    List<String> sentences = new ArrayList<>();
    var shown = comparisons.stream().filter(Comparison::shown).toList();
    String how =
        "paired t-tests over %d seeds at 5 %%, with Holm's correction for %d comparisons"
            .formatted(study.seeds().size(), comparisons.size());
    sentences.add(
        shown.isEmpty()
            ? "No variant is shown to differ from %s (%s), which does not say that none does."
                .formatted(study.variants().getFirst().name(), how)
            : "%d of %d comparisons show a difference to %s in held-out loss (%s): %s."
                .formatted(
                    shown.size(),
                    comparisons.size(),
                    study.variants().getFirst().name(),
                    how,
                    String.join(
                        "; ",
                        shown.stream()
                            .map(
                                c ->
                                    "%s %s bits per byte (%s)"
                                        .formatted(c.arm.name(), signed(c.mean(), 4), c.interval()))
                            .toList())));
    if (!shown.isEmpty() && shown.size() < comparisons.size()) {
      sentences.add("Of the others no difference is shown, which does not say that there is none.");
    }
    return sentences;
  }

  /// What the study could have seen.
  private Optional<String> power() {
    var deviations =
        comparisons.stream()
            .filter(c -> c.differences.length >= 2)
            .mapToDouble(c -> Statistics.standardDeviation(c.differences))
            .toArray();
    if (deviations.length == 0) {
      return Optional.empty();
    }
    double deviation = Statistics.median(deviations);
    int seeds = study.seeds().size();
    return Optional.of(
        ("Differences between paired seeds scatter with a standard deviation of %s bits per byte:"
                + " one comparison over %d seeds would show a true difference of %s in four of five"
                + " such studies, over %d seeds one of %s.")
            .formatted(
                Numbers.fixed(deviation, 4),
                seeds,
                Numbers.fixed(Statistics.detectable(deviation, seeds), 4),
                4 * seeds,
                Numbers.fixed(Statistics.detectable(deviation, 4 * seeds), 4)));
  }

  // ---------------------------------------------------------------- learning rates

  /// The mean over the learning rates of what a variant's loss, at most that of a new model, is
  /// above its best: learning-rate sensitivity (arXiv 2309.14322, section 2.2), in nats, one for
  /// each seed of which all trials are done.
  private double[] sensitivity(Variant variant) {
    List<Double> all = new ArrayList<>();
    for (long seed : study.seeds()) {
      var losses =
          study.arms().stream()
              .filter(arm -> arm.variant().equals(variant))
              .flatMap(arm -> find(arm).stream())
              .filter(result -> result.seed() == seed)
              .mapToDouble(StudyReport::boundedLoss)
              .toArray();
      long points = study.arms().stream().filter(arm -> arm.variant().equals(variant)).count();
      if (losses.length == points) {
        double best = Arrays.stream(losses).min().orElseThrow();
        all.add(Statistics.mean(losses) - best);
      }
    }
    return all.stream().mapToDouble(Double::doubleValue).toArray();
  }

  /// Held-out loss, at most that of a new model, which stands for a diverged one.
  private static double boundedLoss(TrialResult result) {
    return result.diverged()
        ? result.initialLoss()
        : Math.min(result.heldOutLoss(), result.initialLoss());
  }

  private boolean sweepsLearningRates() {
    return study.grid().size() == 1
        && study.grid().getOrDefault(LEARNING_RATE, List.of()).size() > 1;
  }

  private List<String> sensitivities() {
    List<String> sentences = new ArrayList<>();
    if (!sweepsLearningRates()) {
      return sentences;
    }
    var baseline = study.variants().getFirst();
    double[] ofBaseline = sensitivity(baseline);
    for (Variant variant : study.variants()) {
      double[] values = sensitivity(variant);
      if (values.length == 0) {
        continue;
      }
      boolean paired = values.length == ofBaseline.length && !variant.equals(baseline);
      double[] differences = paired ? Statistics.differences(values, ofBaseline) : new double[0];
      sentences.add(
          "%s: learning-rate sensitivity %s nats over %d seed%s%s."
              .formatted(
                  variant.name(),
                  Numbers.fixed(Statistics.mean(values), 3),
                  values.length,
                  values.length == 1 ? "" : "s",
                  differences.length < 2
                      ? ""
                      : ", %s against %s (95 %% interval %s to %s, %s)"
                          .formatted(
                              signed(Statistics.mean(differences), 3),
                              baseline.name(),
                              signed(
                                  Statistics.mean(differences) - Statistics.interval95(differences),
                                  3),
                              signed(
                                  Statistics.mean(differences) + Statistics.interval95(differences),
                                  3),
                              p(Statistics.pValue(differences)))));
    }
    return sentences;
  }

  private LineChart sweep() {
    List<LineChart.Series> series = new ArrayList<>();
    for (Variant variant : study.variants()) {
      List<double[]> points = new ArrayList<>();
      for (Arm arm : study.arms()) {
        var all = find(arm);
        if (arm.variant().equals(variant) && !all.isEmpty()) {
          var losses = all.stream().mapToDouble(StudyReport::boundedLoss).summaryStatistics();
          points.add(
              new double[] {
                Double.parseDouble(arm.point().getOrDefault(LEARNING_RATE, "NaN")),
                losses.getAverage(),
                losses.getMin(),
                losses.getMax()
              });
        }
      }
      if (!points.isEmpty()) {
        series.add(
            LineChart.Series.of(variant.name(), column(points, 0), column(points, 1))
                .withBand(column(points, 2), column(points, 3)));
      }
    }
    return new LineChart(
        "Loss and learning rate",
        "Held-out loss at the end; line: mean over seeds; band: lowest to highest seed. A diverged"
            + " trial counts with the loss of a new model.",
        Axis.logarithmic("learning rate"),
        Axis.linear("nats per token"),
        series);
  }

  private static double[] column(List<double[]> rows, int column) {
    return rows.stream().mapToDouble(row -> row[column]).toArray();
  }

  // ---------------------------------------------------------------- tables

  /// Losses and what the trained models do, a row per variant and point of the grid.
  public List<Table> tables() {
    return List.of(losses(), behaviour());
  }

  private Table losses() {
    boolean published = study.variants().stream().anyMatch(variant -> variant.published() > 0);
    var columns = armColumns();
    columns.addAll(List.of("bits per byte", "difference, 95 %", "change", "p, corrected"));
    if (published) {
      columns.addAll(List.of("paper's perplexity", "paper's change of loss"));
    }
    columns.addAll(List.of("parameters", "tokens/s"));
    var table =
        Table.titled(
                "Held-out loss, mean ± standard deviation over %d seed%s"
                    .formatted(study.seeds().size(), study.seeds().size() == 1 ? "" : "s"))
            .columns(columns.toArray(String[]::new));
    for (Arm arm : study.arms()) {
      var all = find(arm);
      if (all.isEmpty()) {
        continue;
      }
      var done = finished(arm);
      var comparison = comparisons.stream().filter(c -> c.arm.equals(arm)).findFirst().orElse(null);
      var row = armCells(arm);
      row.add(spread(done, TrialResult::bitsPerByte, 4));
      row.addAll(difference(comparison));
      if (published) {
        row.addAll(published(arm.variant()));
      }
      row.add(done.isEmpty() ? Cell.missing() : Cell.of(done.getFirst().parameters()));
      row.add(Cell.of(Math.round(Statistics.mean(values(all, TrialResult::tokensPerSecond)))));
      table = table.row(row);
    }
    table =
        table.footnote(
            "Difference: to %s of the same seed, mean with the half-width of its 95 %% interval. p:"
                    .formatted(study.variants().getFirst().name())
                + " paired t-test with Holm's correction over all rows.");
    return published
        ? table.footnote(
            "The paper's numbers are of far larger models (arXiv 2505.06708) and come without"
                + " intervals; its change is that of the logarithm of the perplexity.")
        : table;
  }

  private static List<Cell> difference(@Nullable Comparison c) {
    if (c == null || c.differences.length == 0) {
      return List.of(Cell.missing(), Cell.missing(), Cell.missing());
    }
    return List.of(
        c.differences.length < 2
            ? new Cell.Quantity(c.mean(), signed(c.mean(), 4))
            : Cell.interval(c.mean(), c.half()),
        new Cell.Quantity(c.relative, signed(100 * c.relative, 2) + " %"),
        Double.isNaN(c.corrected)
            ? Cell.missing()
            : new Cell.Quantity(c.corrected, probability(c.corrected)));
  }

  private List<Cell> published(Variant variant) {
    double baseline = study.variants().getFirst().published();
    if (!(variant.published() > 0) || !(baseline > 0)) {
      return List.of(Cell.missing(), Cell.missing());
    }
    double change = Math.log(variant.published()) / Math.log(baseline) - 1;
    return List.of(
        Cell.of(variant.published(), 3),
        change == 0 ? Cell.missing() : new Cell.Quantity(change, signed(100 * change, 2) + " %"));
  }

  private Table behaviour() {
    var columns = armColumns();
    columns.addAll(
        List.of(
            "first-token attention",
            "uniform",
            "sink rate",
            "largest |x|",
            "mean gate",
            "spikes",
            "diverged"));
    var table =
        Table.titled("Attention, activations and stability, mean ± standard deviation over seeds")
            .columns(columns.toArray(String[]::new));
    for (Arm arm : study.arms()) {
      var all = find(arm);
      if (all.isEmpty()) {
        continue;
      }
      var done = finished(arm);
      boolean gated = done.stream().anyMatch(result -> result.meanGate() != null);
      var row = armCells(arm);
      row.addAll(
          List.of(
              spread(done, TrialResult::firstTokenAttention, 4),
              done.isEmpty() ? Cell.missing() : Cell.of(done.getFirst().uniformFloor(), 4),
              spread(done, TrialResult::sinkRate, 3),
              spread(done, TrialResult::largestActivation, 1),
              gated
                  ? spread(
                      done, result -> result.meanGate() == null ? Double.NaN : result.meanGate(), 3)
                  : Cell.missing(),
              Cell.of(Statistics.mean(values(all, TrialResult::spikes)), 1),
              Cell.of(all.size() - (long) done.size())));
      table = table.row(row);
    }
    return table
        .footnote(
            "First-token attention: mean over layers, heads and queries but the first 4; uniform is"
                + " what attention without preferences would give. Sink rate: share of heads that"
                + " give the first token more than 30 %.")
        .footnote(
            "Largest |x|: the largest activation of the residual stream after any block. Spikes:"
                + " events of the training loss at least "
                + TrialResult.SPIKE
                + " nats above the median of the 101 steps around, per trial.");
  }

  /// Headers of what says which arm a row is about: the variant and the grid's settings.
  private List<String> armColumns() {
    var columns = new ArrayList<>(List.of("variant"));
    study.grid().keySet().forEach(setting -> columns.add(setting.replace('_', ' ')));
    return columns;
  }

  private List<Cell> armCells(Arm arm) {
    String name = arm.variant().name();
    var cells =
        new ArrayList<>(
            List.of(Cell.of(finished(arm).isEmpty() ? name + " (all diverged)" : name)));
    study.grid().keySet().forEach(key -> cells.add(value(arm.point().getOrDefault(key, ""))));
    return cells;
  }

  /// A setting's value, which is sorted as a number where it is one.
  private static Cell value(String value) {
    try {
      return new Cell.Quantity(Double.parseDouble(value), value);
    } catch (NumberFormatException _) {
      return Cell.of(value);
    }
  }

  private static Cell spread(
      List<TrialResult> arm, ToDoubleFunction<TrialResult> value, int decimals) {
    double[] values = values(arm, value);
    return switch (values.length) {
      case 0 -> Cell.missing();
      case 1 -> Cell.of(values[0], decimals);
      default -> Cell.interval(Statistics.mean(values), Statistics.standardDeviation(values));
    };
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
    tables().forEach(page::table);
    if (sweepsLearningRates()) {
      page.section("Learning rates").figure(sweep());
    }
    page.section("Loss");
    for (var point : points()) {
      page.figure(curves("Training loss", point, "loss", "nats per token", 0.9))
          .figure(curves("Held-out loss", point, "held_out_bits_per_byte", "bits per byte", 0));
    }
    Map<String, SinkReport> sinks = sinks();
    if (sinks.isEmpty()) {
      return write(page);
    }
    page.section("Where attention goes")
        .prose(
            "Attention of the first seed's models on the first held-out window, mean over heads. A"
                + " bright first column is an attention sink. Compare the panels of one layer: the"
                + " colour scale is the same."
                + (study.grid().isEmpty()
                    ? ""
                    : " Of the grid, the point is shown at which the baseline is best: "
                        + describe(shownPoint())
                        + "."));
    for (int layer : shownLayers(sinks)) {
      page.figure(attentionMaps(sinks, layer));
    }
    page.figure(sinkMaps(sinks)).figure(firstTokenBars(sinks)).figure(activationBars(sinks));
    page.section("How sinks grow during training")
        .figure(
            curves(
                "Attention to the first token",
                shownPoint(),
                "first_token_attention",
                "share of attention",
                0))
        .figure(curves("Largest activation", shownPoint(), "largest_activation", "largest |x|", 0));
    if (sinks.values().stream().anyMatch(report -> !report.gateStatistics().gates().isEmpty())) {
      page.section("What the gates do").figure(gateHistograms(sinks));
      gateMaps(sinks).ifPresent(page::figure);
      page.figure(
          curves("Mean gate score", shownPoint(), "mean_gate_score", "mean over all gates", 0));
    }
    return write(page);
  }

  private Path write(HtmlReport page) throws IOException {
    Path file = directory.resolve("report.html");
    page.writeTo(file);
    return file;
  }

  private List<Map<String, String>> points() {
    return study.arms().stream().map(Arm::point).distinct().toList();
  }

  private static String describe(Map<String, String> point) {
    return String.join(
        ", ", point.entrySet().stream().map(one -> one.getKey() + " " + one.getValue()).toList());
  }

  /// The point of the grid at which the baseline's loss is lowest.
  private Map<String, String> shownPoint() {
    Map<String, String> best = points().getFirst();
    double lowest = Double.POSITIVE_INFINITY;
    for (var point : points()) {
      double loss =
          Statistics.mean(
              values(
                  finished(new Arm(study.variants().getFirst(), point)), TrialResult::bitsPerByte));
      if (loss < lowest) {
        best = point;
        lowest = loss;
      }
    }
    return best;
  }

  private LineChart curves(
      String title, Map<String, String> point, String field, String unit, double smoothing) {
    List<LineChart.Series> series = new ArrayList<>();
    for (Variant variant : study.variants()) {
      var arm = new Arm(variant, point);
      List<RunMetrics.Curve> curves = new ArrayList<>();
      for (var result : finished(arm)) {
        var curve = RunMetrics.read(trial(arm, result.seed()).directory()).curve(field);
        if (curve.steps().length > 0) {
          curves.add(smoothed(curve, smoothing));
        }
      }
      if (!curves.isEmpty()) {
        series.add(band(variant.name(), curves));
      }
    }
    return new LineChart(
        point.isEmpty() ? title : title + ", " + describe(point),
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

  /// The first finished seed's measurements of each variant, at the shown point of the grid.
  private Map<String, SinkReport> sinks() {
    var sinks = new LinkedHashMap<String, SinkReport>();
    var point = shownPoint();
    for (Variant variant : study.variants()) {
      var arm = new Arm(variant, point);
      finished(arm).stream()
          .findFirst()
          .ifPresent(
              result ->
                  sinks.put(
                      variant.name(),
                      SinkReport.read(
                          trial(arm, result.seed()).directory().resolve(TrialResult.SINKS))));
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

  private static HeatMaps sinkMaps(Map<String, SinkReport> sinks) {
    return byHead(
        "Attention to the first token, by head",
        "Mean over queries but the first 4, first seed.",
        sinks,
        report ->
            report.firstTokenAttention().layers().stream()
                .map(layer -> layer.headsExcluding())
                .toList());
  }

  private static Optional<HeatMaps> gateMaps(Map<String, SinkReport> sinks) {
    var gated = new LinkedHashMap<String, SinkReport>();
    sinks.forEach(
        (name, report) -> {
          if (!gateMeans(report).isEmpty()) {
            gated.put(name, report);
          }
        });
    return gated.isEmpty()
        ? Optional.empty()
        : Optional.of(
            byHead(
                "Gate scores, by head",
                "Mean score of the gate after attention over all held-out tokens, first seed.",
                gated,
                StudyReport::gateMeans));
  }

  /// A layer's row of heads each; empty for a model without a gate after attention.
  private static List<List<Double>> gateMeans(SinkReport report) {
    return report.gateStatistics().gates().stream()
        .filter(gate -> !gate.heads().isEmpty())
        .map(gate -> gate.heads().stream().map(scores -> scores.mean()).toList())
        .toList();
  }

  private static HeatMaps byHead(
      String title,
      String caption,
      Map<String, SinkReport> sinks,
      Function<SinkReport, List<List<Double>>> values) {
    List<HeatMaps.Panel> panels = new ArrayList<>();
    sinks.forEach(
        (name, report) -> {
          var rows = values.apply(report);
          float[][] matrix = new float[rows.size()][];
          for (int row = 0; row < matrix.length; row++) {
            matrix[row] = new float[rows.get(row).size()];
            for (int column = 0; column < matrix[row].length; column++) {
              matrix[row][column] = rows.get(row).get(column).floatValue();
            }
          }
          panels.add(HeatMaps.Panel.of(name, matrix));
        });
    return new HeatMaps(
        title,
        caption,
        HeatMaps.Side.of("layer"),
        HeatMaps.Side.of("head"),
        HeatMaps.ColourScale.LINEAR,
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
        bars(
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
        bars(
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

  private static List<BarChart.Arm> bars(
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

  private Trial trial(Arm arm, long seed) {
    return study.trials(directory).stream()
        .filter(trial -> trial.arm().equals(arm) && trial.seed() == seed)
        .findFirst()
        .orElseThrow();
  }

  private List<TrialResult> find(Arm arm) {
    return results.stream()
        .filter(
            result ->
                result.variant().equals(arm.variant().name()) && result.point().equals(arm.point()))
        .toList();
  }

  private Optional<TrialResult> finished(Arm arm, long seed) {
    return finished(arm).stream().filter(result -> result.seed() == seed).findFirst();
  }

  private List<TrialResult> finished(Arm arm) {
    return find(arm).stream().filter(result -> !result.diverged()).toList();
  }

  private static double[] values(List<TrialResult> results, ToDoubleFunction<TrialResult> value) {
    return results.stream().mapToDouble(value).toArray();
  }

  private static String signed(double value, int decimals) {
    return String.format(Locale.ROOT, "%+." + decimals + "f", value);
  }

  private static String p(double p) {
    return p < 0.001 ? "p < 0.001" : "p = " + Numbers.fixed(p, 3);
  }

  private static String probability(double p) {
    return p < 0.001 ? "< 0.001" : Numbers.fixed(p, 3);
  }
}
