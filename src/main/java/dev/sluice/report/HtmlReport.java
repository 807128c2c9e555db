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
import java.util.HashMap;
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

  /// The part that says how it stands.
  static final String STATE = "state";

  private sealed interface Block {
    record Heading(String text, int number) implements Block {}

    record Prose(String text) implements Block {}

    record Tabular(Table table) implements Block {}

    record Drawn(Figure figure) implements Block {}
  }

  /// A piece of the page that is replaced as a whole when it changes.
  ///
  /// @param name by which it is known again; each is on the page once
  /// @param inHeader whether it stands above the first section's line
  record Part(String name, boolean inHeader, String html) {}

  /// How it stands with what the report is of, while that goes on.
  public enum State {
    /// It makes progress.
    ACTIVE,
    DONE,
    /// It does not go on by itself.
    STOPPED,
    /// Something must be seen to.
    TROUBLED
  }

  private final String title;
  private final List<String> summary = new ArrayList<>();
  private final List<Block> blocks = new ArrayList<>();
  private final List<Block.Heading> headings = new ArrayList<>();
  private String state = "";
  private String progress = "";
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

  /// How it stands, in a sentence that changes seldom.
  public HtmlReport state(State kind, String sentence) {
    state =
        "<p class=\"state\" data-state=\"%s\"><i></i><span>%s</span></p>\n"
            .formatted(kind.name().toLowerCase(Locale.ROOT), prose(sentence, true));
    return this;
  }

  /// How much of something is done.
  ///
  /// @param share from 0 to 1
  /// @param words the same in words, with what may change at every step
  public HtmlReport progress(double share, String words) {
    progress =
        "<progress max=\"1\" value=\"%s\" aria-label=\"Progress\"></progress>\n<p class=\"done\">%s</p>\n"
            .formatted(Numbers.fixed(Math.clamp(share, 0, 1), 4), prose(words, true));
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
    return html(parts(Integer.MAX_VALUE), hasCharts(), null);
  }

  private boolean hasCharts() {
    return blocks.stream()
        .anyMatch(
            b ->
                b instanceof Block.Drawn(var figure)
                    && (figure instanceof LineChart || figure instanceof BarChart));
  }

  /// What makes a page one that asks a server for news.
  ///
  /// @param session of the server
  /// @param revision of the parts on the page
  record Live(String session, long revision) {}

  /// @param live null for a page that stays as it is
  String html(List<Part> parts, boolean needsECharts, @Nullable Live live) {
    var scripts = scripts(needsECharts, live != null);
    var page = new StringBuilder(scripts.stream().mapToInt(String::length).sum() + 100_000);
    page.append(
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta http-equiv="Content-Security-Policy" content="%s">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <meta name="generator" content="Sluice">
        <link rel="icon" href="data:,">
        <title>%s</title>
        <style>
        %s</style>
        </head>
        <body%s>
        """
            .formatted(
                policy(scripts, live != null),
                escape(title),
                own("report.css"),
                live == null
                    ? ""
                    : " data-session=\"%s\" data-revision=\"%d\""
                        .formatted(live.session(), live.revision())));
    page.append("<header>\n");
    append(page, parts, true, live != null);
    page.append("</header>\n<main>\n");
    if (parts.stream().anyMatch(part -> part.name().startsWith("figure "))) {
      page.append("<noscript><p class=\"note\">The figures are drawn by JavaScript, which is ")
          .append("switched off; the text and the tables are complete.</p></noscript>\n");
    }
    append(page, parts, false, live != null);
    page.append("</main>\n");
    footer(page, needsECharts);
    scripts.forEach(script -> page.append("<script>").append(script).append("</script>\n"));
    page.append("</body>\n</html>\n");
    return page.toString();
  }

  private static void append(StringBuilder page, List<Part> parts, boolean header, boolean live) {
    for (Part part : parts) {
      if (part.inHeader() != header) {
        continue;
      }
      if (!live) {
        page.append(part.html());
        continue;
      }
      page.append("<div data-part=\"")
          .append(escape(part.name()))
          .append(part.name().equals(STATE) ? "\" role=\"status\">\n" : "\">\n")
          .append(part.html())
          .append("</div>\n");
    }
  }

  private static List<String> scripts(boolean withECharts, boolean live) {
    List<String> scripts = new ArrayList<>();
    if (withECharts) {
      scripts.add(webJar("dist/echarts.min.js"));
    }
    scripts.add(own("report.js"));
    if (live) {
      scripts.add(own("live.js"));
    }
    return scripts;
  }

  /// What the page may do: run these scripts and, if it is live, ask its own server.
  private static String policy(List<String> scripts, boolean live) {
    return "default-src 'none'; script-src %s; style-src 'unsafe-inline'; img-src data: blob:;%s base-uri 'none'; form-action 'none'"
        .formatted(
            String.join(" ", scripts.stream().map(HtmlReport::hash).toList()),
            live ? " connect-src 'self';" : "");
  }

  /// The policy of every live page, for the header of the answer.
  static String livePolicy() {
    return policy(scripts(true, true), true) + "; frame-ancestors 'none'";
  }

  /// The page in pieces, in order.
  ///
  /// @param points that a line has at most, or a few more
  List<Part> parts(int points) {
    List<Part> parts = new ArrayList<>();
    addHeader(parts);
    Map<String, Integer> colours = new LinkedHashMap<>();
    Map<String, Integer> names = new HashMap<>();
    int figures = 0;
    for (Block block : blocks) {
      var html = new StringBuilder();
      String name =
          switch (block) {
            case Block.Heading(String text, int number) -> {
              html.append("<h2 id=\"section-%d\">".formatted(number))
                  .append(prose(text, false))
                  .append("</h2>\n");
              yield "heading " + text;
            }
            case Block.Prose(String text) -> {
              html.append("<p>").append(prose(text, true)).append("</p>\n");
              yield "prose";
            }
            case Block.Tabular(Table table) -> {
              TableHtml.append(html, table);
              yield "table " + table.caption();
            }
            case Block.Drawn(Figure figure) -> {
              var drawn = figure instanceof LineChart lines ? lines.thinned(points) : figure;
              FigureHtml.append(html, drawn, ++figures, colours);
              yield "figure " + figure.title();
            }
          };
      int before = names.merge(name, 1, Integer::sum) - 1;
      parts.add(new Part(before == 0 ? name : name + " " + before, false, html.toString()));
    }
    return parts;
  }

  private void addHeader(List<Part> parts) {
    var top = new StringBuilder();
    top.append("<p class=\"brand\">").append(MARK).append("Sluice</p>\n");
    top.append("<h1>").append(prose(title, false)).append("</h1>\n");
    if (!date.isEmpty()) {
      top.append("<p class=\"date\">").append(date).append("</p>\n");
    }
    if (!command.isEmpty()) {
      top.append("<pre class=\"command\" aria-label=\"Command line\"><code>")
          .append(escape(command))
          .append("</code></pre>\n");
    }
    if (!manifest.isEmpty()) {
      top.append("<details class=\"manifest\"><summary>Manifest</summary><pre><code>")
          .append(escape(manifest))
          .append("</code></pre></details>\n");
    }
    parts.add(new Part("top", true, top.toString()));
    if (!state.isEmpty()) {
      parts.add(new Part(STATE, true, state));
    }
    if (!progress.isEmpty()) {
      parts.add(new Part("progress", true, progress));
    }
    if (!summary.isEmpty()) {
      var words = new StringBuilder("<section class=\"summary\" aria-label=\"Summary\">\n");
      summary.forEach(p -> words.append("<p>").append(prose(p, true)).append("</p>\n"));
      parts.add(new Part("summary", true, words.append("</section>\n").toString()));
    }
    if (headings.size() > 2) {
      var list = new StringBuilder("<nav aria-label=\"Sections\"><ol>\n");
      for (Block.Heading heading : headings) {
        list.append("<li><a href=\"#section-%d\">".formatted(heading.number()))
            .append(prose(heading.text(), false))
            .append("</a></li>\n");
      }
      parts.add(new Part("sections", true, list.append("</ol></nav>\n").toString()));
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
