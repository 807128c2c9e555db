package dev.sluice.pages;

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
public final class RunReport {
  private RunReport() {}

  /// Writes `report.html` into the run directory.
  public static Path write(Path directory, RunConfig config) throws IOException {
    var metrics = RunMetrics.read(directory);
    var heldOut = metrics.curve("held_out_bits_per_byte");
    var manifest = RunManifest.read(directory.resolve(RunManifest.FILE_NAME));
    Path page = directory.resolve("report.html");
    var report =
        HtmlReport.titled("Training run " + directory.getFileName())
            .written(Instant.now())
            .command("sluice " + String.join(" ", manifest.commandLine()))
            .manifest(Files.readString(directory.resolve(RunManifest.FILE_NAME)))
            .summary(
                heldOut.values().length == 0
                    ? "No held-out loss of this run is a number."
                    : "After %.0f steps the held-out loss is %s bits per byte."
                        .formatted(
                            heldOut.steps()[heldOut.steps().length - 1],
                            Numbers.fixed(heldOut.values()[heldOut.values().length - 1], 4)))
            .section("Loss")
            .figure(
                curve(
                    "Training loss",
                    "Mean next-token loss of each step's sequences, before its update.",
                    Axis.linear("nats per token"),
                    config,
                    metrics.curve("loss")))
            .figure(
                curve(
                    "Held-out loss",
                    "On text that training never saw.",
                    Axis.linear("bits per byte"),
                    config,
                    heldOut))
            .section("Stability")
            .figure(
                curve(
                    "Gradient norm",
                    "Global norm before clipping.",
                    Axis.logarithmic("norm"),
                    config,
                    metrics.curve("gradient_norm")));
    sinks(report, config, metrics);
    report.writeTo(page);
    return page;
  }

  /// Windows that are too short to measure on leave no curves.
  private static void sinks(HtmlReport report, RunConfig config, RunMetrics metrics) {
    var attention = metrics.curve("first_token_attention");
    if (attention.steps().length == 0) {
      return;
    }
    report
        .section("Attention sinks")
        .figure(
            curve(
                "Attention to the first token",
                "Mean over layers, heads and queries but the first 4, on a held-out window.",
                Axis.linear("share of attention"),
                config,
                attention))
        .figure(
            curve(
                "Largest activation",
                "Largest |x| of the residual stream after any block, on the same window.",
                Axis.linear("largest |x|"),
                config,
                metrics.curve("largest_activation")));
    var gate = metrics.curve("mean_gate_score");
    if (gate.steps().length > 0) {
      report.figure(
          curve(
              "Mean gate score",
              "Mean over all gates, on the same window.",
              Axis.linear("score"),
              config,
              gate));
    }
  }

  private static LineChart curve(
      String title, String caption, Axis axis, RunConfig config, RunMetrics.Curve curve) {
    return new LineChart(
        title,
        caption,
        Axis.linear("step"),
        axis,
        List.of(LineChart.Series.of(config.gateNames(), curve.steps(), curve.values())));
  }
}
