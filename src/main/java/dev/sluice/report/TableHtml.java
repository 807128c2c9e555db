package dev.sluice.report;

import static dev.sluice.report.HtmlReport.escape;
import static dev.sluice.report.HtmlReport.prose;

import java.util.List;

/// A [Table] as HTML. The page's script makes the headers sort; without it the table is complete.
final class TableHtml {
  private TableHtml() {}

  static void append(StringBuilder page, Table table) {
    page.append("<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"")
        .append(escape(table.caption().isBlank() ? "Table" : table.caption()))
        .append("\">\n<table>\n");
    if (!table.caption().isBlank()) {
      page.append("<caption>").append(prose(table.caption(), true)).append("</caption>\n");
    }
    page.append("<thead><tr>");
    for (int c = 0; c < table.columns().size(); c++) {
      page.append(table.isNumeric(c) ? "<th scope=\"col\" class=\"number\">" : "<th scope=\"col\">")
          .append(prose(table.columns().get(c), true))
          .append("</th>");
    }
    page.append("</tr></thead>\n<tbody>\n");
    for (List<Cell> row : table.rows()) {
      page.append("<tr>");
      for (int c = 0; c < row.size(); c++) {
        boolean heads = c == 0;
        page.append(heads ? "<th scope=\"row\"" : "<td");
        cell(page, row.get(c), table.text(c, row.get(c)), table.isNumeric(c));
        page.append(heads ? "</th>" : "</td>");
      }
      page.append("</tr>\n");
    }
    page.append("</tbody>\n</table>\n</div>\n");
    for (String footnote : table.footnotes()) {
      page.append("<p class=\"note\">").append(prose(footnote, true)).append("</p>\n");
    }
  }

  private static void cell(StringBuilder page, Cell cell, String text, boolean numeric) {
    String numberClass = numeric ? " class=\"number\"" : "";
    switch (cell) {
      case Cell.Words _ -> page.append(">").append(prose(text, true));
      case Cell.Quantity(double value, _) ->
          page.append(numberClass).append(sortKey(value)).append(">").append(escape(text));
      case Cell.Interval(double mean, _) ->
          page.append(numberClass)
              .append(sortKey(mean))
              .append(">")
              .append(text.replaceFirst(" (±.*)$", " <span class=\"interval\">$1</span>"));
      case Cell.Missing _ ->
          page.append(numberClass).append(" aria-label=\"no value\">").append(text);
    }
  }

  private static String sortKey(double value) {
    return " data-value=\"" + value + "\"";
  }
}
