package dev.sluice.report;

import java.util.ArrayList;
import java.util.List;

/// A table as data: a caption, named columns, rows of cells, footnotes. Immutable; each method
/// returns a table with one thing more.
///
///     Table.titled("Validation loss").columns("arm", "seeds", "loss")
///         .row(Cell.of("head-wise"), Cell.of(5), Cell.interval(2.134, 0.012))
///         .footnote("Half-widths are 95 % intervals over seeds.");
public record Table(
    String caption, List<String> columns, List<List<Cell>> rows, List<String> footnotes) {
  public Table {
    columns = List.copyOf(columns);
    rows = rows.stream().map(List::copyOf).toList();
    footnotes = List.copyOf(footnotes);
    for (List<Cell> row : rows) {
      if (row.size() != columns.size()) {
        throw new IllegalArgumentException(
            "a row of table \"%s\" has %d cells for %d columns: %s"
                .formatted(caption, row.size(), columns.size(), row));
      }
    }
  }

  public static Table titled(String caption) {
    return new Table(caption, List.of(), List.of(), List.of());
  }

  public Table columns(String... names) {
    return new Table(caption, List.of(names), rows, footnotes);
  }

  public Table row(Cell... cells) {
    return row(List.of(cells));
  }

  public Table row(List<Cell> cells) {
    return new Table(caption, columns, with(rows, cells), footnotes);
  }

  public Table footnote(String footnote) {
    return new Table(caption, columns, rows, with(footnotes, footnote));
  }

  /// What the cell shows. The intervals of a column share their decimals, so that they line up: as
  /// many as the narrowest of them needs.
  String text(int column, Cell cell) {
    return switch (cell) {
      case Cell.Words(String text) -> text;
      case Cell.Quantity(_, String text) -> text;
      case Cell.Interval(double mean, double halfWidth) -> {
        int decimals = decimals(column);
        yield Numbers.estimate(mean, decimals) + " ± " + Numbers.estimate(halfWidth, decimals);
      }
      case Cell.Missing _ -> "–";
    };
  }

  private int decimals(int column) {
    return rows.stream()
        .map(row -> row.get(column))
        .mapToInt(
            cell ->
                cell instanceof Cell.Interval interval && Double.isFinite(interval.halfWidth())
                    ? Numbers.decimals(interval.halfWidth())
                    : -1)
        .filter(decimals -> decimals >= 0)
        .max()
        .orElse(3);
  }

  /// Whether a column holds numbers only (missing ones allowed) and is therefore aligned right.
  boolean isNumeric(int column) {
    boolean any = false;
    for (List<Cell> row : rows) {
      switch (row.get(column)) {
        case Cell.Words _ -> {
          return false;
        }
        case Cell.Quantity _, Cell.Interval _ -> any = true;
        case Cell.Missing _ -> {}
      }
    }
    return any;
  }

  private static <T> List<T> with(List<T> list, T last) {
    List<T> longer = new ArrayList<>(list);
    longer.add(last);
    return longer;
  }
}
