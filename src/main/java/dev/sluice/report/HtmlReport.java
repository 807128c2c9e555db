package dev.sluice.report;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.sluice.Printable;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;

/// A report as one HTML file that needs nothing else: no network, no file beside it. Write it down
/// in the order in which it is read:
///
///     HtmlReport.titled("Does a head-wise gate help?")
///         .written(Instant.now())
///         .command("sluice study dense --seeds 5")
///         .manifest(manifest)
///         .summary("The gate lowers the loss by 0.012 ± 0.004 over 5 seeds.")
///         .section("Loss")
///         .prose("Both arms of a pair see the same data in the same order.")
///         .table(table)
///         .figure(chart)
///         .writeTo(path);
///
/// All text is data: it is escaped, and only `code` between backticks is set apart. The page's
/// Content-Security-Policy allows exactly the scripts written here, by their hashes, and no
/// connection anywhere. Apache ECharts draws lines and bars and travels in the file.
///
/// Not thread-safe.
public final class HtmlReport {
  private static final String ECHARTS = "META-INF/resources/_static/echarts/6.0.0/";
  private static final DateTimeFormatter DATE =
      DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm 'UTC'", Locale.ROOT).withZone(ZoneOffset.UTC);
  private static final JsonMapper JSON = JsonMapper.shared();

  /// A gate half raised in its frame, water below.
  private static final String MARK =
      """
      <svg viewBox="0 0 16 16" aria-hidden="true"><path d="M2 1v14M14 1v14M2 1.5h12" fill="none" \
      stroke="currentColor" stroke-width="1.6"/><path d="M4 4h8v4.5H4z" fill="currentColor"/>\
      <path d="M4 12.2q2-1.6 4 0t4 0" fill="none" stroke="currentColor" stroke-width="1.6"/></svg>\
      """;

  private sealed interface Block {
    record Heading(String text, int number) implements Block {}

    record Prose(String text) implements Block {}

    record Tabular(Table table) implements Block {}

    record Drawn(Figure figure) implements Block {}
  }

  private final String title;
  private final List<String> summary = new ArrayList<>();
  private final List<Block> blocks = new ArrayList<>();
  private final List<Block.Heading> headings = new ArrayList<>();
  private String date = "";
  private String command = "";
  private String manifest = "";

  private HtmlReport(String title) {
    this.title = title;
  }

  public static HtmlReport titled(String title) {
    return new HtmlReport(title);
  }

  /// When the report was made.
  public HtmlReport written(Instant when) {
    date =
        "<time datetime=\"%s\">%s</time>"
            .formatted(when.truncatedTo(ChronoUnit.SECONDS), DATE.format(when));
    return this;
  }

  /// The command line that made the report.
  public HtmlReport command(String commandLine) {
    command = commandLine;
    return this;
  }

  /// Where the numbers come from, shown folded.
  public HtmlReport manifest(Map<String, ?> manifest) {
    this.manifest = JSON.writerWithDefaultPrettyPrinter().writeValueAsString(manifest);
    return this;
  }

  /// The same from JSON text; text that is not JSON is shown as it is.
  public HtmlReport manifest(String json) {
    try {
      manifest = JSON.readTree(json).toPrettyString();
    } catch (JacksonException e) {
      manifest = json;
    }
    return this;
  }

  /// A paragraph of the summary, which stands above everything: the result in words.
  public HtmlReport summary(String paragraph) {
    summary.add(paragraph);
    return this;
  }

  /// Starts a section; what is added next belongs to it.
  public HtmlReport section(String heading) {
    var block = new Block.Heading(heading, headings.size() + 1);
    headings.add(block);
    blocks.add(block);
    return this;
  }

  public HtmlReport prose(String paragraph) {
    blocks.add(new Block.Prose(paragraph));
    return this;
  }

  public HtmlReport table(Table table) {
    blocks.add(new Block.Tabular(table));
    return this;
  }

  public HtmlReport figure(Figure figure) {
    blocks.add(new Block.Drawn(figure));
    return this;
  }

  /// Writes the report whole, so that a reader never sees half of it.
  public void writeTo(Path file) throws IOException {
    WholeFile.write(file, html());
  }

  /// The whole page.
  public String html() {
    boolean needsECharts =
        blocks.stream()
            .anyMatch(
                b ->
                    b instanceof Block.Drawn(var figure)
                        && (figure instanceof LineChart || figure instanceof BarChart));
    String script = own("report.js");
    String echarts = needsECharts ? webJar("dist/echarts.min.js") : "";
    var page = new StringBuilder(echarts.length() + 100_000);
    page.append(
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
        script-src %s %s; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; \
        form-action 'none'">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="generator" content="Sluice">
        <link rel="icon" href="data:,">
        <title>%s</title>
        <style>
        %s</style>
        </head>
        <body>
        """
            .formatted(hash(echarts), hash(script), escape(title), own("report.css")));
    header(page);
    page.append("<main>\n");
    body(page);
    page.append("</main>\n");
    footer(page, needsECharts);
    if (needsECharts) {
      page.append("<script>").append(echarts).append("</script>\n");
    }
    page.append("<script>").append(script).append("</script>\n</body>\n</html>\n");
    return page.toString();
  }

  private void header(StringBuilder page) {
    page.append("<header>\n<p class=\"brand\">").append(MARK).append("Sluice</p>\n");
    page.append("<h1>").append(prose(title, false)).append("</h1>\n");
    if (!date.isEmpty()) {
      page.append("<p class=\"date\">").append(date).append("</p>\n");
    }
    if (!command.isEmpty()) {
      page.append("<pre class=\"command\" aria-label=\"Command line\"><code>")
          .append(escape(command))
          .append("</code></pre>\n");
    }
    if (!manifest.isEmpty()) {
      page.append("<details class=\"manifest\"><summary>Manifest</summary><pre><code>")
          .append(escape(manifest))
          .append("</code></pre></details>\n");
    }
    if (!summary.isEmpty()) {
      page.append("<section class=\"summary\" aria-label=\"Summary\">\n");
      summary.forEach(p -> page.append("<p>").append(prose(p, true)).append("</p>\n"));
      page.append("</section>\n");
    }
    if (headings.size() > 2) {
      page.append("<nav aria-label=\"Sections\"><ol>\n");
      for (Block.Heading heading : headings) {
        page.append("<li><a href=\"#section-%d\">".formatted(heading.number()))
            .append(prose(heading.text(), false))
            .append("</a></li>\n");
      }
      page.append("</ol></nav>\n");
    }
    page.append("</header>\n");
  }

  private void body(StringBuilder page) {
    boolean draws = blocks.stream().anyMatch(Block.Drawn.class::isInstance);
    if (draws) {
      page.append("<noscript><p class=\"note\">The figures are drawn by JavaScript, which is ")
          .append("switched off; the text and the tables are complete.</p></noscript>\n");
    }
    Map<String, Integer> colours = new LinkedHashMap<>();
    int figures = 0;
    for (Block block : blocks) {
      switch (block) {
        case Block.Heading(String text, int number) ->
            page.append("<h2 id=\"section-%d\">".formatted(number))
                .append(prose(text, false))
                .append("</h2>\n");
        case Block.Prose(String text) ->
            page.append("<p>").append(prose(text, true)).append("</p>\n");
        case Block.Tabular(Table table) -> TableHtml.append(page, table);
        case Block.Drawn(Figure figure) -> FigureHtml.append(page, figure, ++figures, colours);
      }
    }
  }

  private static void footer(StringBuilder page, boolean withECharts) {
    page.append("<footer>\n<p>Written by Sluice, gated attention for the JVM (Apache-2.0).");
    if (withECharts) {
      page.append(" Charts by Apache ECharts, copyright The Apache Software Foundation ")
          .append("(Apache-2.0), which travels in this file.</p>\n")
          .append("<details><summary>Notice and licence of Apache ECharts</summary><pre>")
          .append(escape(webJar("NOTICE").strip() + "\n\n" + webJar("LICENSE").strip()))
          .append("\n\n")
          .append(escape(webJar("licenses/LICENSE-d3").strip()))
          .append("</pre></details>\n");
    } else {
      page.append("</p>\n");
    }
    page.append("</footer>\n");
  }

  /// Escapes, and where `code` is allowed sets what stands between backticks apart.
  static String prose(String text, boolean code) {
    String escaped = escape(text);
    return code ? escaped.replaceAll("`([^`\n]+)`", "<code>$1</code>") : escaped;
  }

  /// Text for an element or a quoted attribute, made [Printable].
  static String escape(String unclean) {
    String text = Printable.lines(unclean);
    var out = new StringBuilder(text.length() + 16);
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      switch (c) {
        case '&' -> out.append("&amp;");
        case '<' -> out.append("&lt;");
        case '>' -> out.append("&gt;");
        case '"' -> out.append("&quot;");
        case '\'' -> out.append("&#39;");
        default -> out.append(c);
      }
    }
    return out.toString();
  }

  /// JSON for a script element: no `<`, so that nothing in it can end the element.
  static String json(Object value) {
    return Printable.lines(JSON.writeValueAsString(value)).replace("<", "\\u003c");
  }

  private static String hash(String script) {
    byte[] digest = Sha256.digest().digest(script.getBytes(UTF_8));
    return "'sha256-" + Base64.getEncoder().encodeToString(digest) + "'";
  }

  private static String own(String name) {
    return read(HtmlReport.class.getResourceAsStream(name), name);
  }

  private static String webJar(String name) {
    ClassLoader loader = HtmlReport.class.getClassLoader();
    return read(loader.getResourceAsStream(ECHARTS + name), ECHARTS + name);
  }

  private static String read(@Nullable InputStream resource, String name) {
    if (resource == null) {
      throw new IllegalStateException("not on the class path: " + name);
    }
    try (resource) {
      return new String(resource.readAllBytes(), UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException("cannot read " + name, e);
    }
  }
}
