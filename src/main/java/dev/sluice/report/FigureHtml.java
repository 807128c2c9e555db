package dev.sluice.report;

import static dev.sluice.report.HtmlReport.escape;
import static dev.sluice.report.HtmlReport.json;
import static dev.sluice.report.HtmlReport.prose;

import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/// A [Figure] as HTML: an element with its data as JSON, which the page's script draws.
final class FigureHtml {
  /// As many as the style sheet has.
  private static final int COLOURS = 8;

  private FigureHtml() {}

  static void append(StringBuilder page, Figure figure, int number, Map<String, Integer> colours) {
    page.append("<figure id=\"figure-%d\" data-kind=\"%s\">\n".formatted(number, kind(figure)))
        .append("<p class=\"title\">")
        .append(prose(figure.title(), true))
        .append("</p>\n<div class=\"drawing\" role=\"img\" aria-label=\"")
        .append(escape(spoken(figure)))
        .append("\"></div>\n<script type=\"application/json\">")
        .append(json(data(figure, colours)))
        .append("</script>\n<figcaption><b>Figure ")
        .append(number)
        .append(".</b> ")
        .append(prose(figure.caption(), true));
    long blanks = blanks(figure);
    if (blanks > 0) {
      page.append(" <span class=\"blanks\">")
          .append(Numbers.count(blanks))
          .append(blanks == 1 ? " value is" : " values are")
          .append(" not finite and left blank.</span>");
    }
    page.append("</figcaption>\n");
    Table values = values(figure);
    if (!values.rows().isEmpty()) {
      page.append("<details class=\"values\"><summary>Values</summary>\n");
      TableHtml.append(page, values);
      page.append("</details>\n");
    }
    page.append("</figure>\n");
  }

  private static String kind(Figure figure) {
    return switch (figure) {
      case LineChart _ -> "lines";
      case BarChart _ -> "bars";
      case Histograms _ -> "histograms";
      case HeatMaps _ -> "heatmaps";
    };
  }

  private static String spoken(Figure figure) {
    return switch (figure) {
      case LineChart c ->
          "Line chart: %s. %s over %s. Lines: %s."
              .formatted(
                  c.title(),
                  c.y().name(),
                  c.x().name(),
                  names(c.series().stream().map(LineChart.Series::name).toList()));
      case BarChart c ->
          "Bar chart: %s. %s by %s. Arms: %s."
              .formatted(
                  c.title(),
                  c.y().name(),
                  c.categoryName(),
                  names(c.arms().stream().map(BarChart.Arm::name).toList()));
      case Histograms h ->
          "Histograms: %s. %s in %d panels. Arms: %s."
              .formatted(
                  h.title(),
                  h.valueName(),
                  h.panels().size(),
                  names(h.arms().stream().map(Histograms.Arm::name).toList()));
      case HeatMaps h ->
          "Heat maps: %s. %s by %s. Panels: %s."
              .formatted(
                  h.title(),
                  h.rows().name(),
                  h.columns().name(),
                  names(h.panels().stream().map(HeatMaps.Panel::title).toList()));
    };
  }

  private static Map<String, Object> data(Figure figure, Map<String, Integer> colours) {
    Map<String, Object> data = new LinkedHashMap<>();
    switch (figure) {
      case LineChart c -> {
        data.put("x", axis(c.x()));
        data.put("y", axis(c.y()));
        data.put(
            "series",
            c.series().stream()
                .map(
                    s -> {
                      Map<String, Object> series = line(s, colours);
                      series.put("x", numbers(s.x()));
                      series.put("mean", numbers(s.mean()));
                      putIfPresent(series, "low", s.low());
                      putIfPresent(series, "high", s.high());
                      return series;
                    })
                .toList());
      }
      case BarChart c -> {
        data.put("x", Map.of("name", c.categoryName()));
        data.put("y", axis(c.y()));
        data.put("categories", c.categories());
        data.put(
            "series",
            c.arms().stream()
                .map(
                    a -> {
                      Map<String, Object> arm = arm(a.name(), colours);
                      arm.put("mean", numbers(a.values()));
                      putIfPresent(arm, "errors", a.errors());
                      return arm;
                    })
                .toList());
        data.put(
            "references",
            c.references().stream()
                .filter(r -> Double.isFinite(r.value()))
                .map(r -> Map.of("name", r.name(), "value", r.value()))
                .toList());
      }
      case Histograms h -> {
        data.put("x", Map.of("name", h.valueName(), "low", h.low(), "high", h.high()));
        data.put("panels", h.panels());
        data.put(
            "series",
            h.arms().stream()
                .map(
                    a -> {
                      Map<String, Object> arm = arm(a.name(), colours);
                      arm.put("counts", Arrays.stream(a.counts()).map(c -> numbers(c)).toList());
                      return arm;
                    })
                .toList());
      }
      case HeatMaps h -> {
        data.put("rows", Map.of("name", h.rows().name(), "step", h.rows().step()));
        data.put("columns", Map.of("name", h.columns().name(), "step", h.columns().step()));
        data.put("scale", h.scale().name().toLowerCase(Locale.ROOT));
        data.put("panels", h.panels().stream().map(FigureHtml::panel).toList());
      }
    }
    return data;
  }

  /// The script draws a line in the colour of its number modulo that of the colours, and dashes it
  /// where the colours are used again.
  private static Map<String, Object> line(LineChart.Series series, Map<String, Integer> colours) {
    var line = arm(series.name(), series.arm(), colours);
    if (!series.name().equals(series.arm()) && line.get("colour") instanceof Integer colour) {
      line.put("colour", colour % COLOURS + COLOURS);
    }
    return line;
  }

  private static Map<String, Object> arm(String name, Map<String, Integer> colours) {
    return arm(name, name, colours);
  }

  private static Map<String, Object> arm(String name, String whose, Map<String, Integer> colours) {
    int colour = colours.computeIfAbsent(whose, _ -> colours.size());
    Map<String, Object> arm = new LinkedHashMap<>();
    arm.put("name", name);
    arm.put("colour", colour);
    return arm;
  }

  private static Map<String, Object> axis(Axis axis) {
    return Map.of("name", axis.name(), "logarithmic", axis.logarithmic());
  }

  /// A matrix as little-endian floats in base 64: exact, NaN included, and a third of the digits.
  private static Map<String, Object> panel(HeatMaps.Panel panel) {
    var bytes = ByteBuffer.allocate(4 * panel.values().length).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asFloatBuffer().put(panel.values());
    return Map.of(
        "title", panel.title(),
        "rows", panel.rows(),
        "columns", panel.columns(),
        "values", Base64.getEncoder().encodeToString(bytes.array()));
  }

  private static void putIfPresent(
      Map<String, Object> data, String key, double @Nullable [] values) {
    if (values != null) {
      data.put(key, numbers(values));
    }
  }

  /// Seven significant digits, more than any figure shows; null for what JSON cannot say.
  private static List<@Nullable Number> numbers(double[] values) {
    List<@Nullable Number> numbers = new ArrayList<>(values.length);
    for (double value : values) {
      if (!Double.isFinite(value)) {
        numbers.add(null);
      } else if (value == Math.rint(value) && Math.abs(value) < 1e15) {
        numbers.add((long) value);
      } else {
        numbers.add(new BigDecimal(value).round(new MathContext(7)).doubleValue());
      }
    }
    return numbers;
  }

  private static long blanks(Figure figure) {
    return switch (figure) {
      case LineChart c -> c.series().stream().mapToLong(s -> blanks(s.mean())).sum();
      case BarChart c -> c.arms().stream().mapToLong(a -> blanks(a.values())).sum();
      case Histograms h ->
          h.arms().stream()
              .flatMap(a -> Arrays.stream(a.counts()))
              .mapToLong(FigureHtml::blanks)
              .sum();
      // A causal map is NaN above its diagonal on purpose.
      case HeatMaps _ -> 0;
    };
  }

  private static long blanks(double[] values) {
    return Arrays.stream(values).filter(v -> !Double.isFinite(v)).count();
  }

  /// The figure as numbers, for those who cannot see it or want to copy: all of a bar chart, the
  /// ends of lines. Histograms and maps have too many.
  private static Table values(Figure figure) {
    return switch (figure) {
      case LineChart c -> ends(c);
      case BarChart c -> groups(c);
      case Histograms _, HeatMaps _ -> Table.titled("");
    };
  }

  private static Table ends(LineChart chart) {
    Table table = Table.titled("").columns("line", "first", "lowest", "highest", "last");
    for (LineChart.Series s : chart.series()) {
      double[] finite = Arrays.stream(s.mean()).filter(Double::isFinite).toArray();
      table =
          finite.length == 0
              ? table.row(
                  Cell.of(s.name()), Cell.missing(), Cell.missing(), Cell.missing(), Cell.missing())
              : table.row(
                  Cell.of(s.name()),
                  Cell.significant(finite[0], 5),
                  Cell.significant(Arrays.stream(finite).min().orElseThrow(), 5),
                  Cell.significant(Arrays.stream(finite).max().orElseThrow(), 5),
                  Cell.significant(finite[finite.length - 1], 5));
    }
    return table;
  }

  private static Table groups(BarChart chart) {
    List<String> columns = new ArrayList<>();
    columns.add(chart.categoryName());
    chart.arms().forEach(arm -> columns.add(arm.name()));
    Table table = Table.titled("").columns(columns.toArray(String[]::new));
    for (int i = 0; i < chart.categories().size(); i++) {
      List<Cell> row = new ArrayList<>();
      row.add(Cell.of(chart.categories().get(i)));
      for (BarChart.Arm arm : chart.arms()) {
        double[] errors = arm.errors();
        row.add(
            errors == null || !Double.isFinite(arm.values()[i])
                ? Cell.significant(arm.values()[i], 4)
                : Cell.interval(arm.values()[i], errors[i]));
      }
      table = table.row(row);
    }
    for (BarChart.Reference reference : chart.references()) {
      table =
          table.footnote(reference.name() + ": " + Numbers.significant(reference.value(), 4) + ".");
    }
    return table;
  }

  private static String names(List<String> names) {
    return names.stream().collect(Collectors.joining(", "));
  }
}
