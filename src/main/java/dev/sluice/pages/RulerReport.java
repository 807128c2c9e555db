package dev.sluice.pages;

import dev.sluice.report.Cell;
import dev.sluice.report.HeatMaps;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.ruler.RulerMode;
import dev.sluice.ruler.RulerTask;
import dev.sluice.ruler.TaskScore;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;

/// What `sluice ruler` shows: tables for the terminal, and a page with the same tables and maps.
public record RulerReport(RulerResult result) {
  /// Tables for the terminal: scores, lengths, differences.
  public List<Table> tables() {
    List<Table> tables = new ArrayList<>();
    for (var model : result.models()) {
      tables.add(scores(model));
      tables.add(lengths(model));
    }
    result.models().stream().skip(1).map(this::differences).forEach(tables::add);
    return tables;
  }

  /// The result in a few lines.
  public List<String> summary() {
    List<String> lines = new ArrayList<>();
    for (var model : result.models()) {
      lines.add(
          "%s: %s (mean of the tasks that fit, by length; %s)."
              .formatted(
                  model.name(),
                  result.lengths().stream()
                      .map(
                          length ->
                              "%s at %s (%d of 13 tasks)"
                                  .formatted(
                                      number(model.mean(result.mode(), length)),
                                      Numbers.count(length),
                                      model.at(length).count()))
                      .collect(Collectors.joining(", ")),
                  scale()));
    }
    return lines;
  }

  private String scale() {
    return switch (result.mode()) {
      case NVIDIA -> "as NVIDIA scores, of 100";
      case LM_EVAL -> "as lm-evaluation-harness's port scores, of 1";
    };
  }

  private Table scores(RulerResult.Model model) {
    var table = byTask("RULER, mode %s: %s".formatted(result.mode().word(), model.name()));
    for (var task : result.tasks()) {
      table = table.row(row(task, model, score -> Cell.of(withInterval(score))));
    }
    List<Cell> means = new ArrayList<>();
    means.add(Cell.of("mean of tasks"));
    for (int length : result.lengths()) {
      means.add(Cell.of(number(model.mean(result.mode(), length))));
    }
    return table
        .row(means)
        .footnote(
            "Scores are %s, with Wilson's 95 %% interval in brackets; – where a task does not fit. A mean over other tasks is not comparable."
                .formatted(scale()));
  }

  private Table lengths(RulerResult.Model model) {
    var table =
        byTask("Mean tokens used, those for the answer included: %s".formatted(model.name()));
    for (var task : result.tasks()) {
      table = table.row(row(task, model, score -> Cell.of(Math.round(score.meanLength()))));
    }
    return table.footnote(
        "The length asked for is an upper bound; samples shrink by whole steps until they fit.");
  }

  private Table differences(RulerResult.Model model) {
    var table =
        byTask("%s minus %s, paired".formatted(model.name(), result.models().getFirst().name()));
    for (var task : result.tasks()) {
      table =
          table.row(
              row(
                  task,
                  model,
                  score ->
                      result
                          .difference(score)
                          .map(
                              difference ->
                                  Cell.of(
                                      "%s ± %s"
                                          .formatted(
                                              number(unit() * difference.mean()),
                                              number(unit() * difference.halfWidth()))))
                          .orElseGet(Cell::missing)));
    }
    return table.footnote(
        "Differences on the same prompts, with the 95 % interval by Student's t, which is 0 where"
            + " all pairs are equal; – where the prompts are not the same, as with another"
            + " tokenizer.");
  }

  private Table byTask(String title) {
    List<String> columns = new ArrayList<>(List.of("task"));
    result.lengths().forEach(length -> columns.add(Numbers.count(length)));
    return Table.titled(title).columns(columns.toArray(String[]::new));
  }

  private List<Cell> row(RulerTask task, RulerResult.Model model, Function<TaskScore, Cell> cell) {
    List<Cell> cells = new ArrayList<>();
    cells.add(Cell.of(task.word()));
    for (int length : result.lengths()) {
      cells.add(model.score(task, length).map(cell).orElseGet(Cell::missing));
    }
    return cells;
  }

  private String withInterval(TaskScore score) {
    String nulls =
        score.nulls() == 0
            ? ""
            : ", %d of %d empty".formatted(score.nulls(), score.samples().size());
    return "%s [%s, %s]%s"
        .formatted(
            number(score.total(result.mode())),
            number(unit() * score.low()),
            number(unit() * score.high()),
            nulls);
  }

  private double unit() {
    return result.mode() == RulerMode.NVIDIA ? 100 : 1;
  }

  private String number(double value) {
    return Numbers.fixed(value, result.mode() == RulerMode.NVIDIA ? 1 : 3);
  }

  /// The page.
  public HtmlReport page(String commandLine) {
    var page =
        HtmlReport.titled("RULER: " + names())
            .written(Instant.now())
            .command(commandLine)
            .manifest(result.manifestJson());
    summary().forEach(page::summary);
    result.notes().forEach(page::summary);
    page.section("Scores");
    result.models().forEach(model -> page.table(scores(model)));
    if (result.models().size() > 1) {
      page.section("Differences");
      result.models().stream().skip(1).map(this::differences).forEach(page::table);
    }
    if (result.hasNeedles()) {
      page.section("Needles by length and depth").figure(depthMaps());
      result.models().forEach(model -> page.table(depths(model)));
    }
    page.section("Lengths");
    result.models().forEach(model -> page.table(lengths(model)));
    return page;
  }

  private String names() {
    return result.models().stream().map(RulerResult.Model::name).collect(Collectors.joining(", "));
  }

  private HeatMaps depthMaps() {
    var lengths = result.lengths();
    return new HeatMaps(
        "Share of needles found",
        "Rows: the needle's depth in the prompt, in %%, from the beginning. Columns: the lengths asked for, %s tokens. All needle tasks together; blank where no needle lay."
            .formatted(lengths.stream().map(Numbers::count).collect(Collectors.joining(", "))),
        new HeatMaps.Side("depth in %", 100 / RulerResult.DEPTHS),
        HeatMaps.Side.of("length, in the caption's order"),
        HeatMaps.ColourScale.LINEAR,
        result.models().stream()
            .map(
                model -> {
                  float[][] values = new float[RulerResult.DEPTHS][lengths.size()];
                  for (int depth = 0; depth < values.length; depth++) {
                    for (int i = 0; i < lengths.size(); i++) {
                      values[depth][i] = (float) model.found(lengths.get(i), depth).share();
                    }
                  }
                  return HeatMaps.Panel.of(model.name(), values);
                })
            .toList());
  }

  private Table depths(RulerResult.Model model) {
    List<String> columns = new ArrayList<>(List.of("depth"));
    result.lengths().forEach(length -> columns.add(Numbers.count(length)));
    var table =
        Table.titled("Needles found of those asked for: " + model.name())
            .columns(columns.toArray(String[]::new));
    for (int depth = 0; depth < RulerResult.DEPTHS; depth++) {
      Cell[] cells = new Cell[columns.size()];
      Arrays.fill(cells, Cell.missing());
      cells[0] =
          Cell.of(
              "%d to %d %%"
                  .formatted(
                      100 * depth / RulerResult.DEPTHS, 100 * (depth + 1) / RulerResult.DEPTHS));
      for (int i = 0; i < result.lengths().size(); i++) {
        var found = model.found(result.lengths().get(i), depth);
        if (found.needles() > 0) {
          cells[i + 1] = Cell.of("%d of %d".formatted(found.found(), found.needles()));
        }
      }
      table = table.row(cells);
    }
    return table;
  }
}
