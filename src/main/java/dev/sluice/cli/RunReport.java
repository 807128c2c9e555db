package dev.sluice.cli;

import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Axis;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.List;

/// The page of a single training run.
final class RunReport {
  private RunReport() {}

  /// Writes `report.html` into the run directory.
  static Path write(Path directory, RunConfig config) throws IOException {
    var metrics = RunMetrics.read(directory);
    var loss = metrics.curve("loss");
    var heldOut = metrics.curve("held_out_bits_per_byte");
    var norm = metrics.curve("gradient_norm");
    double last = heldOut.values()[heldOut.values().length - 1];
    Path page = directory.resolve("report.html");
    HtmlReport.titled("Training run " + directory.getFileName())
        .written(Instant.now())
        .command(
            config.gate().equals("none") ? "sluice train" : "sluice train --gate " + config.gate())
        .manifest(Files.readString(directory.resolve(RunManifest.FILE_NAME)))
        .summary(
            "After %d steps the held-out loss is %s bits per byte."
                .formatted(config.steps(), Numbers.fixed(last, 4)))
        .section("Loss")
        .figure(
            new LineChart(
                "Training loss",
                "Mean next-token loss of each step's sequences, before its update.",
                Axis.linear("step"),
                Axis.linear("nats per token"),
                List.of(LineChart.Series.of(config.gate(), loss.steps(), loss.values()))))
        .figure(
            new LineChart(
                "Held-out loss",
                "On text that training never saw.",
                Axis.linear("step"),
                Axis.linear("bits per byte"),
                List.of(LineChart.Series.of(config.gate(), heldOut.steps(), heldOut.values()))))
        .section("Stability")
        .figure(
            new LineChart(
                "Gradient norm",
                "Global norm before clipping.",
                Axis.linear("step"),
                Axis.logarithmic("norm"),
                List.of(LineChart.Series.of(config.gate(), norm.steps(), norm.values()))))
        .writeTo(page);
    return page;
  }
}
