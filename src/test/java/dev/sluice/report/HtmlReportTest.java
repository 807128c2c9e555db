package dev.sluice.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.xml.parsers.DocumentBuilderFactory;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.w3c.dom.Document;
import org.xml.sax.InputSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class HtmlReportTest {
  private static final String EVIL = "</script><script>alert('\"1\"')</script><!--&\u2028\u0007";
  private static final double[] X = {1, 2, 3};
  private static final double[] BROKEN = {
    Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY
  };

  private static HtmlReport everything() {
    return HtmlReport.titled("Report " + EVIL)
        .written(Instant.parse("2026-02-03T14:05:11.5Z"))
        .command("sluice study " + EVIL)
        .manifest(Map.of("seed " + EVIL, EVIL))
        .summary("It helps, `a<b` " + EVIL)
        .section("One " + EVIL)
        .prose("Prose " + EVIL)
        .table(
            Table.titled("Table " + EVIL)
                .columns("arm " + EVIL, "loss")
                .row(Cell.of(EVIL), Cell.interval(2.1342, 0.0121))
                .row(Cell.of("broken"), Cell.interval(Double.NaN, Double.POSITIVE_INFINITY))
                .row(Cell.of("none"), Cell.missing())
                .footnote(EVIL))
        .section("Two")
        .figure(
            new LineChart(
                "Lines " + EVIL,
                EVIL,
                Axis.logarithmic("step " + EVIL),
                Axis.linear("loss"),
                List.of(
                    LineChart.Series.of("ungated", X, BROKEN),
                    LineChart.Series.of(EVIL, X, X).withBand(BROKEN, X))))
        .figure(
            new BarChart(
                "Bars",
                EVIL,
                "layer",
                List.of("0", "1", EVIL),
                Axis.linear("share"),
                List.of(
                    BarChart.Arm.of(EVIL, X).withErrors(BROKEN),
                    BarChart.Arm.of("ungated", BROKEN)),
                List.of(
                    new BarChart.Reference("floor " + EVIL, 0.0133),
                    new BarChart.Reference("nowhere", Double.NaN))))
        .section("Three")
        .figure(
            new Histograms(
                "Gates",
                EVIL,
                "score " + EVIL,
                0,
                1,
                List.of("Layer 0", EVIL),
                List.of(new Histograms.Arm(EVIL, new double[][] {X, BROKEN}))))
        .figure(
            HeatMaps.attention(
                "Maps",
                EVIL,
                4,
                List.of(
                    HeatMaps.Panel.of(EVIL, new float[][] {{1, Float.NaN}, {0.5f, 0.25f}}),
                    HeatMaps.Panel.of("empty", new float[][] {{Float.NaN}}))));
  }

  private static final String HTML = everything().html();

  @Test
  void onlyTheTwoScriptsOfThePageRunAndThePolicyNamesTheirHashes() throws Exception {
    Matcher script = Pattern.compile("<script>(.*?)</script>", Pattern.DOTALL).matcher(HTML);
    List<String> scripts = new ArrayList<>();
    while (script.find()) {
      scripts.add(script.group(1));
    }
    assertEquals(2, scripts.size());
    for (String text : scripts) {
      byte[] hash =
          MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
      String named = "'sha256-" + Base64.getEncoder().encodeToString(hash) + "'";
      assertTrue(HTML.contains(named), named);
      // A browser turns carriage returns into line feeds, and then the hash would not agree.
      assertFalse(text.contains("\r"));
    }
  }

  @Test
  void dataCannotBecomeMarkup() {
    String page = withoutScripts();
    assertFalse(page.contains("<script>alert"), "unescaped data");
    assertFalse(page.contains("<!--&"), "unescaped data");
    assertTrue(page.contains("<code>a&lt;b</code>"));
  }

  @Test
  void nothingIsLoadedFromElsewhere() {
    String page = withoutScripts();
    assertTrue(page.contains("default-src 'none'"));
    // All that refers to something refers to this page, or to the empty icon.
    Matcher reference =
        Pattern.compile("(?:src|href|action|data|poster|srcset)=\"([^\"]*)\"").matcher(page);
    while (reference.find()) {
      String target = reference.group(1);
      assertTrue(target.startsWith("#") || target.equals("data:,"), target);
    }
    assertFalse(Pattern.compile("@import|url\\(").matcher(page).find());
    String script = HTML.substring(HTML.lastIndexOf("<script>"));
    assertFalse(
        Pattern.compile("fetch\\(|XMLHttpRequest|import\\(|https://").matcher(script).find());
  }

  @Test
  void thePageParsesAndNamesItsParts() throws Exception {
    Document page = parse();
    assertEquals(1, page.getElementsByTagName("h1").getLength());
    assertEquals(3, page.getElementsByTagName("h2").getLength());
    assertEquals(4, page.getElementsByTagName("figure").getLength());
    assertEquals(4, page.getElementsByTagName("figcaption").getLength());
    assertTrue(
        HTML.contains("<time datetime=\"2026-02-03T14:05:11Z\">2026-02-03 14:05 UTC</time>"));
    assertEquals(count("role=\"img\" aria-label=\""), 4);
    assertTrue(HTML.contains("<th scope=\"col\" class=\"number\">loss</th>"));
    assertTrue(
        HTML.contains(
            "<td class=\"number\" data-value=\"2.1342\">2.134 <span class=\"interval\">±"
                + " 0.012</span>"));
    assertTrue(HTML.contains("Apache ECharts"));
    assertTrue(HTML.contains("TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION"));
  }

  @Test
  void whatIsNotFiniteIsNullInTheDataAndCountedInTheCaption() {
    List<JsonNode> figures = figures();
    assertEquals(4, figures.size());
    JsonNode lines = figures.get(0).get("series");
    assertTrue(lines.get(0).get("mean").get(0).isNull());
    assertTrue(lines.get(1).get("low").get(1).isNull());
    assertEquals(EVIL.replace('\u2028', '\uFFFD'), lines.get(1).get("name").stringValue());
    assertEquals(1, figures.get(1).get("references").size());
    assertEquals(3, count("3 values are not finite and left blank"));
  }

  @Test
  void anArmKeepsItsColour() {
    List<JsonNode> figures = figures();
    int ungated = figures.get(0).get("series").get(0).get("colour").intValue();
    int evil = figures.get(0).get("series").get(1).get("colour").intValue();
    assertEquals(ungated, figures.get(1).get("series").get(1).get("colour").intValue());
    assertEquals(evil, figures.get(1).get("series").get(0).get("colour").intValue());
    assertEquals(evil, figures.get(2).get("series").get(0).get("colour").intValue());
  }

  @Test
  void isWrittenWholeAndReplacesWhatWasThere(@TempDir Path folder) throws Exception {
    Path file = folder.resolve("report.html");
    Files.writeString(file, "old");
    HtmlReport.titled("Half a pair: \ud83d").manifest("not JSON {").writeTo(file);
    String page = Files.readString(file);
    assertTrue(page.startsWith("<!DOCTYPE html>") && page.endsWith("</html>\n"));
    assertTrue(page.contains("not JSON {"));
    // Without a chart the library stays at home.
    assertTrue(page.length() < 100_000);
    try (var files = Files.list(folder)) {
      assertEquals(List.of(file), files.toList());
    }
    assertTrue(HTML.length() < 2_000_000);
  }

  @Test
  void figuresRefuseWhatDoesNotFit() {
    assertThrows(
        IllegalArgumentException.class, () -> LineChart.Series.of("s", X, Arrays.copyOf(X, 2)));
    assertThrows(IllegalArgumentException.class, () -> new HeatMaps.Panel("p", 2, 2, new float[3]));
    assertThrows(
        IllegalArgumentException.class, () -> HeatMaps.Panel.of("p", new float[][] {{1, 2}, {1}}));
    assertThrows(
        IllegalArgumentException.class,
        () -> new Histograms("t", "c", "v", 1, 1, List.of(), List.of()));
  }

  private static String withoutScripts() {
    return HTML.replaceAll("(?s)<script>.*?</script>", "");
  }

  private static int count(String text) {
    return HTML.split(Pattern.quote(text), -1).length - 1;
  }

  private static List<JsonNode> figures() {
    Matcher data =
        Pattern.compile("<script type=\"application/json\">(.*?)</script>", Pattern.DOTALL)
            .matcher(HTML);
    List<JsonNode> figures = new ArrayList<>();
    while (data.find()) {
      figures.add(JsonMapper.shared().readTree(data.group(1)));
    }
    return figures;
  }

  /// Stricter than HTML asks: void elements closed, the rest must be well-formed XML.
  private static Document parse() throws Exception {
    String page =
        withoutScripts()
            .replaceFirst("<!DOCTYPE html>\n", "")
            .replaceAll("<(meta|link)([^>]*)>", "<$1$2/>")
            .replaceAll("(?s)<script type=\"application/json\">.*?</script>", "")
            .replaceAll("(?s)<style>.*?</style>", "");
    return DocumentBuilderFactory.newInstance()
        .newDocumentBuilder()
        .parse(new InputSource(new StringReader(page)));
  }
}
