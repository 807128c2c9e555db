package dev.sluice.pages;

import dev.sluice.gate.Gate;
import dev.sluice.report.Axis;
import dev.sluice.report.BarChart;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.retrofit.Measured;
import dev.sluice.retrofit.RetrofitResult;
import dev.sluice.retrofit.Rounding;
import dev.sluice.sink.FirstTokenAttention;
import dev.sluice.sink.GateStatistics.LayerGate;
import dev.sluice.sink.MassiveActivation.Residual;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.RunMetrics;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SequencedMap;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;

/// What is shown of a retrofit: what moved, gates by layer, attention before and after, what
/// rounding costs.
public final class RetrofitReport {
  private final RetrofitResult result;

  /// @param result of the retrofit
  public RetrofitReport(RetrofitResult result) {
    this.result = result;
  }

  // ---------------------------------------------------------------- tables

  /// For the terminal.
  public List<Table> tables() {
    var tables = new ArrayList<>(List.of(movedTable()));
    if (!gates().isEmpty()) {
      tables.add(gateTable());
    }
    tables.add(roundingTable());
    return tables;
  }

  private Table models(String caption, String what) {
    List<String> columns = new ArrayList<>(List.of(what));
    result.models().forEach(model -> columns.add(model.name()));
    return Table.titled(caption).columns(columns.toArray(String[]::new));
  }

  private Table with(Table table, String what, Function<Measured, Cell> cell) {
    List<Cell> row = new ArrayList<>(List.of(Cell.of(what)));
    result.models().forEach(model -> row.add(cell.apply(model)));
    return table.row(row);
  }

  private Table movedTable() {
    var table = models("What moved", "measure, on held-out text");
    table = with(table, "loss, nats per token", model -> Cell.of(model.loss().nats(), 4));
    table = with(table, "loss, bits per byte", model -> Cell.of(model.loss().bitsPerByte(), 4));
    table =
        with(
            table,
            "divergence from before, nats per token",
            model -> model.parentKl() == null ? Cell.missing() : Cell.of(model.parentKl(), 4));
    table =
        with(
            table,
            "first-token attention, without the first 4 queries",
            model -> Cell.of(attention(model).meanExcluding(), 4));
    table =
        with(
            table,
            "the same of uniform attention",
            model -> Cell.of(attention(model).uniformFloorExcluding(), 4));
    table = with(table, "sink rate", model -> Cell.percent(attention(model).sinkRate(), 1));
    table =
        with(
            table,
            "largest activation after a block",
            model -> Cell.significant(model.sinks().massiveActivation().largest(), 4));
    table =
        with(
            table,
            "mean of the blocks' largest (M-Act)",
            model -> Cell.significant(model.sinks().massiveActivation().meanBlockMaximum(), 4));
    table = with(table, "gate score, mean", model -> gateMean(model, g -> g.scores().mean()));
    return with(
            table,
            "gate scores below 0.1",
            model -> {
              var cell = gateMean(model, gate -> gate.scores().belowTenth());
              return cell instanceof Cell.Quantity(double share, _) ? Cell.percent(share, 1) : cell;
            })
        .footnote(
            "before: %s; after: %d steps, gate %s%s."
                .formatted(
                    result.before().checkpoint(),
                    result.steps(),
                    Gate.names(result.gates()),
                    result.control() == null ? "" : "; control: the same without the gate"));
  }

  private static Cell gateMean(Measured model, ToDoubleFunction<LayerGate> of) {
    var mean = model.sinks().gateStatistics().gates().stream().mapToDouble(of).average();
    return mean.isPresent() ? Cell.of(mean.getAsDouble(), 4) : Cell.missing();
  }

  private Table gateTable() {
    var table =
        Table.titled("Gates by layer, after")
            .columns(
                "layer",
                "gate",
                "mean",
                "deviation",
                "least",
                "most",
                "below 0.1",
                "below 0.5",
                "first token",
                "moved");
    for (var gate : gates()) {
      var scores = gate.scores();
      table =
          table.row(
              Cell.of(gate.layer()),
              Cell.of(gate.position()),
              Cell.of(scores.mean(), 4),
              Cell.of(scores.standardDeviation(), 4),
              Cell.of(scores.minimum(), 4),
              Cell.of(scores.maximum(), 4),
              Cell.percent(scores.belowTenth(), 1),
              Cell.percent(scores.belowHalf(), 1),
              Cell.of(scores.firstTokenMean(), 4),
              Cell.of(result.moved(gate), 4));
    }
    return table.footnote(
        "moved: root mean square distance from the score that does nothing, which is 1 for a gate"
            + " that multiplies and 0 for one that adds.");
  }

  private Table roundingTable() {
    var table = models("What rounding costs", "held-out loss, nats per token");
    table = with(table, "nothing rounded", model -> Cell.of(model.loss().nats(), 4));
    for (Rounding rounding : Rounding.values()) {
      table =
          with(
              table,
              rounding.words(),
              model ->
                  Cell.of(
                      "%s (%s)"
                          .formatted(
                              Numbers.fixed(model.loss().nats() + model.damage(rounding), 4),
                              signed(model.damage(rounding)))));
    }
    return table.footnote(
        "Symmetric, to the nearest step of the largest |x| of a group; weights: all matrices in the"
            + " layers but short convolutions; activations: the inputs of the layers' products."
            + " Embedding, output matrix and norms stay as they are.");
  }

  private static String signed(double value) {
    return String.format(Locale.ROOT, "%+.4f", value);
  }

  private Table layerTable() {
    List<String> columns = new ArrayList<>(List.of("layer"));
    for (var model : result.models()) {
      columns.add("first-token attention, " + model.name());
      columns.add("largest activation, " + model.name());
    }
    var table = Table.titled("By layer").columns(columns.toArray(String[]::new));
    for (int layer = 0; layer < result.before().sinks().layers(); layer++) {
      int at = layer;
      List<Cell> row = new ArrayList<>(List.of(Cell.of(layer)));
      for (var model : result.models()) {
        row.add(
            attention(model).layers().stream()
                .filter(each -> each.layer() == at)
                .findFirst()
                .map(each -> Cell.of(each.meanExcluding(), 4))
                .orElse(Cell.missing()));
        row.add(Cell.significant(residuals(model).get(layer + 1).maximum(), 4));
      }
      table = table.row(row);
    }
    return table;
  }

  // ---------------------------------------------------------------- page

  /// The page.
  ///
  /// @param metrics of the training
  public HtmlReport page(String commandLine, RunMetrics metrics) {
    var page =
        HtmlReport.titled("Retrofit: " + Gate.names(result.gates()))
            .written(Instant.now())
            .command(commandLine)
            .manifest(result.manifestJson());
    result.sentences().forEach(page::summary);
    page.section("What moved").prose(LayerFigures.COUNTED).table(movedTable()).table(layerTable());
    page.section("Training");
    for (var chart : charts(metrics)) {
      page.figure(chart);
    }
    if (!gates().isEmpty()) {
      page.section("Gates")
          .table(gateTable())
          .figure(
              SinkFigures.gateHistograms(
                  sinks(),
                  "Scores on held-out text; scores above 1, which a gate 2σ has, are counted in the"
                      + " last bin."));
    }
    page.section("Attention before and after");
    SinkFigures.attentionMaps(sinks()).forEach(page::figure);
    page.figure(
        SinkFigures.firstTokenByHead(sinks(), "Mean over queries but the first 4, held-out text."));
    page.section("Activations").figure(activations());
    page.section("Rounding").table(roundingTable());
    return page;
  }

  private List<LineChart> charts(RunMetrics metrics) {
    Map<String, String> shown = new LinkedHashMap<>();
    shown.put("loss", "Next-token loss of the batch, nats");
    shown.put("held_out_loss", "Held-out loss, nats");
    shown.put("parent_kl", "Divergence from the model that it began as, nats");
    shown.put("first_token_share", "Attention on the first token in the batch");
    shown.put("activation_excess", "What activations exceed the limit by");
    List<LineChart> charts = new ArrayList<>();
    shown.forEach(
        (name, title) -> {
          var curve = metrics.curve(name);
          if (curve.values().length > 1) {
            charts.add(
                new LineChart(
                    title,
                    "",
                    Axis.linear("step"),
                    Axis.linear(name),
                    List.of(LineChart.Series.of(name, curve.steps(), curve.values()))));
          }
        });
    return charts;
  }

  private BarChart activations() {
    var blocks = residuals(result.before());
    return new BarChart(
        "Largest activations",
        "Largest |x| of the residual stream after each block.",
        "after block",
        LayerFigures.numbers(blocks.size() - 2),
        Axis.logarithmic("|x|"),
        result.models().stream()
            .map(
                model ->
                    BarChart.Arm.of(
                        model.name(),
                        residuals(model).subList(1, blocks.size() - 1).stream()
                            .mapToDouble(Residual::maximum)
                            .toArray()))
            .toList(),
        List.of());
  }

  // ---------------------------------------------------------------- numbers

  private SequencedMap<String, SinkReport> sinks() {
    var sinks = new LinkedHashMap<String, SinkReport>();
    result.models().forEach(model -> sinks.put(model.name(), model.sinks()));
    return sinks;
  }

  private List<LayerGate> gates() {
    return result.after().sinks().gateStatistics().gates();
  }

  private static FirstTokenAttention.Result attention(Measured model) {
    return model.sinks().firstTokenAttention();
  }

  private static List<Residual> residuals(Measured model) {
    return model.sinks().massiveActivation().residuals();
  }
}
