package dev.sluice.pages;

import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Axis;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.NewestSinks;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;

/// The page of a single training run.
public final class RunReport {
  /// Rows of the table of what happened.
  private static final int NEWEST = 25;

  private RunReport() {}

  /// Writes `report.html` into the run directory.
  public static Path write(Path directory, RunConfig config) throws IOException {
    var record = RunRecord.read(directory, config);
    var page =
        page(record)
            .written(Instant.now())
            .manifest(Files.readString(directory.resolve(RunManifest.FILE_NAME)));
    if (record.metrics().curve("held_out_bits_per_byte").values().length == 0) {
      page.summary("No held-out loss of this run is a number.");
    }
    Path file = directory.resolve("report.html");
    page.writeTo(file);
    return file;
  }

  /// The page of a run that has begun: what there is of it so far.
  public static HtmlReport page(RunRecord record) {
    var metrics = record.metrics();
    var report =
        HtmlReport.titled("Training run " + record.directory().getFileName())
            .command("sluice " + String.join(" ", record.manifest().commandLine()));
    summary(report, record);
    report
        .section("Loss")
        .figure(
            curve(
                "Training loss",
                "Mean next-token loss of each step's sequences, before its update.",
                Axis.linear("nats per token"),
                record,
                metrics.curve("loss")))
        .figure(
            curve(
                "Held-out loss",
                "On text that training never saw.",
                Axis.linear("bits per byte"),
                record,
                metrics.curve("held_out_bits_per_byte")));
    sinks(report, record);
    report
        .section("Stability and speed")
        .figure(
            curve(
                "Gradient norm",
                "Global norm before clipping.",
                Axis.logarithmic("norm"),
                record,
                metrics.curve("gradient_norm")))
        .figure(
            curve(
                "Learning rate",
                "Of each step's update.",
                Axis.linear("learning rate"),
                record,
                metrics.curve("learning_rate")))
        .figure(
            curve(
                "Speed",
                "Tokens of a step by its duration, without evaluation and saving.",
                Axis.linear("tokens per second"),
                record,
                record.timings().curve("tokens_per_second")));
    report.section("What happened").table(happened(record));
    return report;
  }

  private static void summary(HtmlReport report, RunRecord record) {
    var heldOut = record.metrics().curve("held_out_bits_per_byte");
    if (heldOut.values().length > 0) {
      report.summary(
          "After %.0f steps the held-out loss is %s bits per byte."
              .formatted(last(heldOut.steps()), Numbers.fixed(last(heldOut.values()), 4)));
    }
    var attention = record.metrics().curve("first_token_attention");
    var activation = record.metrics().curve("largest_activation");
    if (attention.values().length > 0 && activation.values().length > 0) {
      var gate = record.metrics().curve("mean_gate_score");
      report.summary(
          "Then the first token gets %s of the attention%s, and the largest activation is %s%s."
              .formatted(
                  Numbers.percent(last(attention.values()), 2),
                  record
                      .sinks()
                      .map(
                          newest ->
                              " (uniform attention: "
                                  + Numbers.percent(
                                      newest.sinks().firstTokenAttention().uniformFloorExcluding(),
                                      2)
                                  + ")")
                      .orElse(""),
                  Numbers.significant(last(activation.values()), 4),
                  gate.values().length == 0
                      ? ""
                      : "; the mean gate score is " + Numbers.fixed(last(gate.values()), 3)));
    }
  }

  private static double last(double[] values) {
    return values[values.length - 1];
  }

  /// Windows that are too short to measure on leave no curves.
  private static void sinks(HtmlReport report, RunRecord record) {
    var metrics = record.metrics();
    var attention = metrics.curve("first_token_attention");
    if (attention.steps().length > 0) {
      report
          .section("Attention sinks")
          .figure(
              curve(
                  "Attention to the first token",
                  "Mean over layers, heads and queries but the first 4, on a held-out window.",
                  Axis.linear("share of attention"),
                  record,
                  attention))
          .figure(
              curve(
                  "Largest activation",
                  "Largest |x| of the residual stream after any block, on the same window.",
                  Axis.linear("largest |x|"),
                  record,
                  metrics.curve("largest_activation")));
      var gate = metrics.curve("mean_gate_score");
      if (gate.steps().length > 0) {
        report.figure(
            curve(
                "Mean gate score",
                "Mean over all gates, on the same window.",
                Axis.linear("score"),
                record,
                gate));
      }
    }
    record.sinks().ifPresent(newest -> maps(report, record, newest));
  }

  private static void maps(HtmlReport report, RunRecord record, NewestSinks newest) {
    report
        .section("Where attention goes")
        .prose(
            "After step %d, on a held-out window, mean over heads. A bright first column is an attention sink. %s"
                .formatted(newest.step(), LayerFigures.COUNTED));
    var sinks = new LinkedHashMap<String, SinkReport>();
    sinks.put(record.config().gateNames(), newest.sinks());
    SinkFigures.add(report, sinks, "on a held-out window after step " + newest.step());
  }

  private record Happening(double step, String what) {}

  /// Evaluations, saved checkpoints and what the guard did, the newest first.
  private static Table happened(RunRecord record) {
    List<Happening> all = new ArrayList<>();
    var heldOut = record.metrics().curve("held_out_bits_per_byte");
    for (int i = 0; i < heldOut.steps().length; i++) {
      all.add(
          new Happening(
              heldOut.steps()[i],
              "Evaluated: %s bits per byte held out."
                  .formatted(Numbers.fixed(heldOut.values()[i], 4))));
    }
    var saved = record.timings().curve("save_seconds");
    for (int i = 0; i < saved.steps().length; i++) {
      all.add(
          new Happening(
              saved.steps()[i],
              "Checkpoint saved, in %s."
                  .formatted(
                      Numbers.duration(Duration.ofMillis(Math.round(1e3 * saved.values()[i]))))));
    }
    record.events().forEach(event -> all.add(new Happening(event.step(), event.what() + ".")));
    all.sort(Comparator.comparingDouble(Happening::step));
    var table =
        Table.titled("Evaluations, checkpoints and events, the newest first")
            .columns("step", "what");
    for (Happening one : all.reversed().subList(0, Math.min(NEWEST, all.size()))) {
      table = table.row(Cell.of((long) one.step()), Cell.of(one.what()));
    }
    return all.size() <= NEWEST
        ? table
        : table.footnote("%d earlier ones are not shown.".formatted(all.size() - NEWEST));
  }

  private static LineChart curve(
      String title, String caption, Axis axis, RunRecord record, RunMetrics.Curve curve) {
    return new LineChart(
        title,
        caption,
        Axis.linear("step"),
        axis,
        List.of(LineChart.Series.of(record.config().gateNames(), curve.steps(), curve.values())));
  }
}
