package dev.sluice.report;

import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// A [Table] laid out for a terminal of `width` columns: ruled above, below the header and at the
/// end, numbers to the right. Where the table is too wide, words and headers are wrapped; numbers
/// never are, so a table with many numeric columns can be wider than asked.
///
/// Texts are [Printable], since a token or a file name must not be able to steer the terminal, and
/// a cell shows at most [#LONGEST_CELL] characters.
public record TextTable(Table table, int width) {
  private static final int GAP = 2;
  private static final int LONGEST_CELL = 300;

  /// Narrower than this, wrapped words are harder to read than a line that is too long.
  private static final int NARROWEST = 20;

  public TextTable {
    if (width < 1) {
      throw new IllegalArgumentException("the width of a text table must be positive: " + width);
    }
  }

  public static TextTable of(Table table) {
    return new TextTable(table, 100);
  }

  @Override
  public String toString() {
    int columns = table.columns().size();
    List<List<String>> rows = table.rows().stream().map(this::texts).toList();
    var widths = new int[columns];
    var narrowest = new int[columns];
    var isNumeric = new boolean[columns];
    for (int c = 0; c < columns; c++) {
      int column = c;
      isNumeric[c] = table.isNumeric(c);
      String header = clean(table.columns().get(c));
      int cells = rows.stream().mapToInt(row -> length(row.get(column))).max().orElse(0);
      widths[c] = Math.max(length(header), cells);
      int longestWord =
          Arrays.stream(header.split(" ", -1)).mapToInt(TextTable::length).max().orElse(0);
      narrowest[c] = isNumeric[c] ? Math.max(longestWord, cells) : Math.min(widths[c], NARROWEST);
    }
    narrow(widths, narrowest, isNumeric);
    int total = Math.max(1, Arrays.stream(widths).sum() + GAP * Math.max(0, columns - 1));
    String rule = "─".repeat(total) + "\n";

    var out = new StringBuilder();
    if (!table.caption().isBlank()) {
      wrap(Printable.line(table.caption()), Math.max(total, width))
          .forEach(l -> out.append(l).append('\n'));
    }
    out.append(rule);
    row(out, table.columns().stream().map(TextTable::clean).toList(), widths, isNumeric, true);
    out.append(rule);
    for (List<String> row : rows) {
      row(out, row, widths, isNumeric, false);
    }
    out.append(rule);
    for (String footnote : table.footnotes()) {
      wrap(Printable.line(footnote), Math.min(Math.max(total, 60), width))
          .forEach(line -> out.append(line).append('\n'));
    }
    return out.toString();
  }

  /// Takes width until the table fits or none is left to take: first from the headers above
  /// numbers, each at once as far as its words allow, then from the widest words, evenly.
  private void narrow(int[] widths, int[] narrowest, boolean[] isNumeric) {
    int excess = Arrays.stream(widths).sum() + GAP * (widths.length - 1) - width;
    while (excess > 0) {
      int widest = -1;
      for (int c = 0; c < widths.length; c++) {
        if (widths[c] > narrowest[c]
            && (widest < 0
                || (isNumeric[c] == isNumeric[widest]
                    ? widths[c] > widths[widest]
                    : isNumeric[c]))) {
          widest = c;
        }
      }
      if (widest < 0) {
        return;
      }
      int taken = isNumeric[widest] ? widths[widest] - narrowest[widest] : 1;
      widths[widest] -= taken;
      excess -= taken;
    }
  }

  private List<String> texts(List<Cell> row) {
    List<String> texts = new ArrayList<>();
    for (int c = 0; c < row.size(); c++) {
      texts.add(clean(table.text(c, row.get(c))));
    }
    return texts;
  }

  /// Headers stand on the rule below them, cells hang from the top of their row.
  private static void row(
      StringBuilder out, List<String> texts, int[] widths, boolean[] right, boolean isHeader) {
    List<List<String>> cells = new ArrayList<>();
    int height = 1;
    for (int c = 0; c < widths.length; c++) {
      List<String> lines = wrap(texts.get(c), widths[c]);
      cells.add(lines);
      height = Math.max(height, lines.size());
    }
    for (int line = 0; line < height; line++) {
      var text = new StringBuilder();
      for (int c = 0; c < widths.length; c++) {
        List<String> lines = cells.get(c);
        int shown = isHeader ? line - (height - lines.size()) : line;
        String cell = shown >= 0 && shown < lines.size() ? lines.get(shown) : "";
        String padding = " ".repeat(Math.max(0, widths[c] - length(cell)));
        text.append(c == 0 ? "" : " ".repeat(GAP));
        text.append(right[c] ? padding + cell : cell + padding);
      }
      out.append(text.toString().stripTrailing()).append('\n');
    }
  }

  private static List<String> wrap(String text, int width) {
    List<String> lines = new ArrayList<>();
    var line = new StringBuilder();
    for (String word : text.strip().split(" +", -1)) {
      if (!line.isEmpty() && length(line) + 1 + length(word) > width) {
        lines.add(line.toString());
        line.setLength(0);
      }
      line.append(line.isEmpty() ? "" : " ");
      // A word longer than the column, such as a path, is cut.
      String rest = word;
      while (length(line) + length(rest) > width && TextWidth.end(rest, width) < rest.length()) {
        int cut = TextWidth.end(rest, width);
        lines.add(rest.substring(0, cut));
        rest = rest.substring(cut);
      }
      line.append(rest);
    }
    lines.add(line.toString());
    return lines;
  }

  private static String clean(String text) {
    return Printable.brief(text, LONGEST_CELL);
  }

  private static int length(CharSequence text) {
    return TextWidth.of(text);
  }
}
