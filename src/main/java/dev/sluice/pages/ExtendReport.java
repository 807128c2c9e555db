package dev.sluice.pages;

import dev.sluice.report.Axis;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/// What is shown of a longer context: the loss within the context that the model was trained with
/// and beyond it.
public record ExtendReport(ExtendResult result) {
  /// Points of a line.
  private static final int POINTS = 64;

  /// That a model's context became shorter, if it did.
  ///
  /// @param ropeScaling as it was given
  public static Optional<String> shortened(int before, int context, String ropeScaling) {
    return context >= before
        ? Optional.empty()
        : Optional.of(
            "The model had a context of %d tokens, and has %d now%s."
                .formatted(
                    before,
                    context,
                    ropeScaling.contains("*")
                        ? ": a factor of rope_scaling counts from what it was trained with, not"
                            + " from what it has"
                        : ""));
  }

  /// What the numbers say.
  public List<String> sentences() {
    List<String> sentences = new ArrayList<>();
    sentences.add(
        "The context is %d tokens, %s times the %d that the model was trained with%s."
            .formatted(
                result.context(),
                Numbers.significant((double) result.context() / result.trained(), 3),
                result.trained(),
                result.steps() == 0
                    ? "; no weight changed"
                    : ", after %d steps of training".formatted(result.steps())));
    String scaling = String.valueOf(result.manifest().config().get("rope_scaling"));
    shortened(result.before(), result.context(), scaling).ifPresent(sentences::add);
    if (result.models().isEmpty()) {
      sentences.add(
          "No text was given (--data), so nothing was measured: whether the model is any good"
              + " beyond its old context is not known.");
      return sentences;
    }
    int[] ends = result.ends();
    if (ends.length > 1) {
      int beyond = ends[0];
      var first = result.models().getFirst().loss();
      var last = result.models().getLast().loss();
      int all = result.measured();
      sentences.add(
          "Beyond the old context the loss is %s nats per token, where it was %s; within it %s, where it was %s."
              .formatted(
                  Numbers.fixed(last.mean(beyond, all), 4),
                  Numbers.fixed(first.mean(beyond, all), 4),
                  Numbers.fixed(last.mean(0, beyond), 4),
                  Numbers.fixed(first.mean(0, beyond), 4)));
      double gain = last.mean(0, beyond) - last.mean(beyond, all);
      sentences.add(
          Double.isNaN(gain)
              ? "The model answers with numbers that are not finite."
              : gain > 0
                  ? "Tokens beyond the old context are predicted better than those within it, by %s nats: the model uses what stands further back, or the text is easier there."
                      .formatted(Numbers.fixed(gain, 4))
                  : "Tokens beyond the old context are predicted no better than those within it (%s nats worse): more context does not help this model here."
                      .formatted(Numbers.fixed(-gain, 4)));
    } else {
      sentences.add(
          "The windows that were measured are no longer than the old context, so nothing is said of"
              + " what lies beyond; give a longer text.");
    }
    return sentences;
  }

  /// For the terminal; empty where nothing was measured.
  public Optional<Table> table() {
    if (result.models().isEmpty()) {
      return Optional.empty();
    }
    List<String> columns = new ArrayList<>(List.of("model", "positions"));
    int from = 0;
    for (int end : result.ends()) {
      columns.add("tokens %d to %d".formatted(from + 1, end));
      from = end;
    }
    var table =
        Table.titled("Loss by place in the window, nats per token")
            .columns(columns.toArray(String[]::new));
    for (var model : result.models()) {
      List<Cell> row = new ArrayList<>(List.of(Cell.of(model.name()), Cell.of(model.positions())));
      from = 0;
      for (int end : result.ends()) {
        row.add(Cell.of(model.loss().mean(from, end), 4));
        from = end;
      }
      table = table.row(row);
    }
    int windows = result.models().getFirst().loss().windows();
    return Optional.of(
        table.footnote(
            "Each token from all before it, on %d window%s of %d tokens of held-out text, the same for all."
                .formatted(windows, windows == 1 ? "" : "s", result.measured())));
  }

  /// The page.
  public HtmlReport page(String commandLine) {
    var page =
        HtmlReport.titled("A longer context")
            .written(Instant.now())
            .command(commandLine)
            .manifest(result.manifestJson());
    sentences().forEach(page::summary);
    table().ifPresent(table -> page.section("Loss by place").table(table).figure(lines()));
    return page;
  }

  private LineChart lines() {
    int length = result.measured();
    int points = Math.min(POINTS, length);
    List<LineChart.Series> series = new ArrayList<>();
    for (var model : result.models()) {
      double[] at = new double[points];
      double[] loss = new double[points];
      for (int i = 0; i < points; i++) {
        int from = Math.toIntExact((long) i * length / points);
        int to = Math.toIntExact((i + 1L) * length / points);
        at[i] = (from + to) / 2.0;
        loss[i] = model.loss().mean(from, to);
      }
      series.add(LineChart.Series.of(model.name(), at, loss));
    }
    return new LineChart(
        "Loss by place in the window",
        "Means over pieces of the window. The model was trained with %d tokens."
            .formatted(result.trained()),
        Axis.linear("tokens before"),
        Axis.linear("nats per token"),
        series);
  }
}
