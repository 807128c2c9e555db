package dev.sluice.pages;

import dev.sluice.evaluation.Metric;
import dev.sluice.evaluation.PairedDifference;
import dev.sluice.report.Axis;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/// What `sluice evaluate` shows: tables for the terminal, and a page with the same tables and
/// curves over the checkpoints of a run.
public record EvaluationReport(EvaluationResult result) {
  /// The tables for the terminal.
  public List<Table> tables() {
    return Stream.of(List.of(values()), differences(), evictions(), groups(0))
        .flatMap(List::stream)
        .toList();
  }

  private Table values() {
    var columns = new ArrayList<>(List.of("task", "rows", "examples", "metric"));
    result.models().forEach(model -> columns.add(model.name()));
    var table = Table.titled("Results").columns(columns.toArray(String[]::new));
    var tasks = result.tasks();
    boolean withoutError = false;
    for (int task = 0; task < tasks.size(); task++) {
      for (var metric : tasks.get(task).metrics()) {
        List<Cell> row = new ArrayList<>();
        row.add(Cell.of(tasks.get(task).name()));
        row.add(Cell.of(rows(task)));
        row.add(Cell.of((long) tasks.get(task).fewShot().examples()));
        row.add(Cell.of(metric.word() + (metric.higherIsBetter() ? " ↑" : " ↓")));
        for (var model : result.models()) {
          var value = model.results().get(task).value(metric);
          withoutError |= value.standardError().isEmpty();
          row.add(Cell.of(text(value)));
        }
        table = table.row(row);
      }
    }
    table = table.footnote("± is one standard error. ↑ more is better, ↓ less is better.");
    return withoutError
        ? table.footnote("A rate over all words or bytes has no standard error here.")
        : table;
  }

  private int rows(int task) {
    return result.models().getFirst().results().get(task).data().documents().size();
  }

  private static String text(Metric.Value value) {
    return value.standardError().isPresent()
        ? Numbers.interval(value.value(), value.standardError().getAsDouble())
        : Numbers.significant(value.value(), 5);
  }

  /// Of every model after the first from the first.
  private List<Table> differences() {
    if (result.models().size() < 2) {
      return List.of();
    }
    String first = result.models().getFirst().name();
    var table =
        Table.titled("Differences from " + first + ", over the same rows")
            .columns("task", "metric", "model", "difference", "95 % interval", "p", "verdict");
    var tasks = result.tasks();
    for (int task = 0; task < tasks.size(); task++) {
      for (var metric : tasks.get(task).metrics()) {
        for (int model = 1; model < result.models().size(); model++) {
          var difference = result.difference(model, task, metric);
          table =
              table.row(
                  Cell.of(tasks.get(task).name()),
                  Cell.of(metric.word()),
                  Cell.of(result.models().get(model).name()),
                  Cell.significant(difference.difference(), 3),
                  Double.isNaN(difference.low())
                      ? Cell.missing() // one row has no interval
                      : Cell.of(
                          "%s … %s"
                              .formatted(
                                  Numbers.significant(difference.low(), 3),
                                  Numbers.significant(difference.high(), 3))),
                  Double.isNaN(difference.pValue())
                      ? Cell.missing()
                      : Cell.of(difference.pValue(), 4),
                  Cell.of(verdict(metric, difference)));
        }
      }
    }
    return List.of(
        table
            .footnote(
                "Accuracies: McNemar's exact p decides, at most %s; beside it Agresti and Min's interval, an approximation. Others: the interval decides, of a bootstrap over rows, the same for both models, or with fewer than %d rows Student's of the jackknife."
                    .formatted(PairedDifference.LEVEL, PairedDifference.BOOTSTRAPPED_ROWS))
            .footnote(
                "Fewer than %d rows have no verdict: a coin gives so few one sign in more than 5 %% of cases."
                    .formatted(PairedDifference.FEWEST_ROWS))
            .footnote("Nothing is corrected for the number of comparisons."));
  }

  private static String verdict(Metric metric, PairedDifference difference) {
    if (!difference.isTested()) {
      return "too few rows";
    }
    if (!difference.isShown()) {
      return "no difference shown";
    }
    return difference.difference() > 0 == metric.higherIsBetter() ? "better" : "worse";
  }

  private List<Table> evictions() {
    if (result.models().stream().allMatch(model -> model.evictions().isEmpty())) {
      return List.of();
    }
    var table =
        Table.titled("Eviction: the loss when a cache keeps few keys")
            .columns("task", "model", "keys kept", "tokens", "perplexity", "× all keys");
    for (var model : result.models()) {
      Map<String, Double> whole = new LinkedHashMap<>();
      model.evictions().stream()
          .filter(each -> each.loss().kept().equals("all"))
          .forEach(each -> whole.put(each.task(), each.loss().perplexity()));
      for (var each : model.evictions()) {
        double perplexity = each.loss().perplexity();
        table =
            table.row(
                Cell.of(each.task()),
                Cell.of(model.name()),
                Cell.of(each.loss().kept()),
                Cell.of(each.loss().tokens()),
                Cell.significant(perplexity, 4),
                Cell.significant(perplexity / whole.getOrDefault(each.task(), Double.NaN), 4));
      }
    }
    return List.of(
        table.footnote(
            "Perplexity of the tokens that come after the smaller caches are full. Positions are"
                + " those in the cache, numbered anew after every eviction, as in StreamingLLM"
                + " (arXiv 2309.17453). A model that does not lean on its first tokens loses little"
                + " when they are given up."));
  }

  /// @param most groups of a task with more have no table here; 0 for tasks with any
  private List<Table> groups(int most) {
    List<Table> tables = new ArrayList<>();
    var tasks = result.tasks();
    for (int task = 0; task < tasks.size(); task++) {
      for (var metric : tasks.get(task).metrics()) {
        var names = new LinkedHashSet<String>();
        int at = task;
        result
            .models()
            .forEach(model -> names.addAll(model.results().get(at).groups(metric).keySet()));
        if (names.isEmpty() || names.size() > most) {
          continue;
        }
        var columns = new ArrayList<>(List.of("group"));
        result.models().forEach(model -> columns.add(model.name()));
        var table =
            Table.titled(tasks.get(task).name() + ": " + metric.word() + " by group")
                .columns(columns.toArray(String[]::new));
        for (String name : names) {
          List<Cell> row = new ArrayList<>(List.of(Cell.of(name)));
          for (var model : result.models()) {
            var value = model.results().get(task).groups(metric).get(name);
            row.add(value == null ? Cell.missing() : Cell.of(text(value)));
          }
          table = table.row(row);
        }
        tables.add(table);
      }
    }
    return tables;
  }

  /// What a reader must know of how the models were asked, and of the rows.
  public List<String> notes() {
    List<String> notes = new ArrayList<>(result.notes());
    for (var model : result.models()) {
      for (var each : model.results()) {
        int[] cut = each.cutRows();
        if (cut.length > 0) {
          notes.add(
              "%s: %d of the %d rows of %s do not fit into the model's context and lost their start (the first is row %d)."
                  .formatted(
                      model.name(),
                      cut.length,
                      each.data().documents().size(),
                      each.data().task().name(),
                      cut[0]));
        }
      }
    }
    return notes;
  }

  /// The page.
  public HtmlReport page(String commandLine) {
    var page =
        HtmlReport.titled(
                "Evaluation of "
                    + String.join(
                        ", ", result.models().stream().map(EvaluationResult.Model::name).toList()))
            .written(Instant.now())
            .command(commandLine)
            .manifest(result.manifestJson());
    notes().forEach(page::summary);
    page.section("Results").table(values());
    if (result.models().size() > 1) {
      page.section("Differences");
      differences().forEach(page::table);
    }
    var curves = curves();
    if (!curves.isEmpty()) {
      page.section("Over training");
      curves.forEach(page::figure);
    }
    var evictions = evictions();
    if (!evictions.isEmpty()) {
      page.section("Eviction");
      evictions.forEach(page::table);
    }
    var groups = groups(Integer.MAX_VALUE);
    if (!groups.isEmpty()) {
      page.section("Groups");
      groups.forEach(page::table);
    }
    return page;
  }

  /// Each metric over the steps of the runs of which there are several checkpoints.
  private List<LineChart> curves() {
    Map<String, List<Integer>> byRun = new LinkedHashMap<>();
    for (int i = 0; i < result.models().size(); i++) {
      var model = result.models().get(i);
      if (model.step().isPresent() && !model.run().isEmpty()) {
        byRun.computeIfAbsent(model.run(), _ -> new ArrayList<>()).add(i);
      }
    }
    byRun.values().removeIf(models -> models.size() < 2);
    if (byRun.isEmpty()) {
      return List.of();
    }
    List<LineChart> charts = new ArrayList<>();
    var tasks = result.tasks();
    for (int task = 0; task < tasks.size(); task++) {
      for (var metric : tasks.get(task).metrics()) {
        List<LineChart.Series> series = new ArrayList<>();
        for (var run : byRun.entrySet()) {
          series.add(series(run.getKey(), run.getValue(), task, metric));
        }
        charts.add(
            new LineChart(
                tasks.get(task).name() + ": " + metric.word(),
                "The value at each checkpoint; a band is one standard error to each side.",
                Axis.linear("step"),
                Axis.linear(metric.word()),
                series));
      }
    }
    return charts;
  }

  private LineChart.Series series(String run, List<Integer> models, int task, Metric metric) {
    var sorted =
        models.stream()
            .map(result.models()::get)
            .sorted(Comparator.comparingLong(model -> model.step().orElseThrow()))
            .toList();
    var values = sorted.stream().map(model -> model.results().get(task).value(metric)).toList();
    double[] x = sorted.stream().mapToDouble(model -> model.step().orElseThrow()).toArray();
    double[] mean = values.stream().mapToDouble(Metric.Value::value).toArray();
    var line = LineChart.Series.of(run, x, mean);
    if (values.stream().anyMatch(value -> value.standardError().isEmpty())) {
      return line;
    }
    double[] low =
        values.stream().mapToDouble(v -> v.value() - v.standardError().orElse(0)).toArray();
    double[] high =
        values.stream().mapToDouble(v -> v.value() + v.standardError().orElse(0)).toArray();
    return line.withBand(low, high);
  }
}
