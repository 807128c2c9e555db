package dev.sluice.report;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.report.HtmlReport.State;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class LiveReportTest {
  private static HtmlReport page(String summary, String... sections) {
    var page =
        HtmlReport.titled("Page").state(State.ACTIVE, "It `goes` on.").progress(0.5, "Half.");
    page.summary(summary);
    for (String section : sections) {
      page.section(section).prose("Of " + section);
    }
    return page;
  }

  private static JsonNode news(LiveReport live, long after) {
    return JsonMapper.shared().readTree(live.changes(after));
  }

  private static List<String> changed(LiveReport live, long after) {
    return List.copyOf(news(live, after).get("changed").propertyNames());
  }

  @Test
  void onlyWhatIsNewIsTold() {
    var live = new LiveReport();
    live.show(page("One", "A", "B", "C"));
    live.show(page("One", "A", "B", "C"));
    assertEquals(1, news(live, 1).get("revision").intValue());
    assertEquals(List.of(), changed(live, 1));
    live.show(page("Two", "A", "B", "C"));
    assertEquals(List.of("summary"), changed(live, 1));
    live.trouble("Gone.");
    assertEquals(List.of("summary", "state"), changed(live, 1).reversed());
    assertEquals(List.of("state"), changed(live, 2));
    assertTrue(news(live, 2).get("changed").get("state").stringValue().contains("troubled"));
    // A page of another server, which has more revisions than there were.
    assertEquals(news(live, 0).get("changed"), news(live, 99).get("changed"));
  }

  @Test
  void partsThatGoAreNamedNoMore() {
    var live = new LiveReport();
    live.show(page("One", "A", "B"));
    live.show(page("One", "B"));
    var parts = news(live, 1).get("parts");
    assertFalse(parts.has("heading A"));
    assertTrue(parts.has("heading B") && !parts.get("heading B").booleanValue());
    assertTrue(parts.get("state").booleanValue());
  }

  @Test
  void theSameNameTwiceIsTwoParts() {
    var live = new LiveReport();
    live.show(page("One", "A", "A"));
    assertTrue(news(live, 0).get("parts").has("heading A 1"));
  }

  @Test
  void aThinnedLineKeepsItsEndsPeaksAndGaps() {
    double[] x = new double[100_000];
    double[] y = new double[x.length];
    for (int i = 0; i < x.length; i++) {
      x[i] = i;
      y[i] = Math.sin(i * 0.01);
    }
    y[54_321] = 9;
    y[12_345] = -9;
    y[777] = Double.NaN;
    var line = LineChart.Series.of("a", x, y);
    var thin = line.thinned(3000);
    assertTrue(thin.x().length <= 3010, () -> String.valueOf(thin.x().length));
    assertEquals(0, thin.x()[0]);
    assertEquals(99_999, thin.x()[thin.x().length - 1]);
    assertEquals(9, Arrays.stream(thin.mean()).filter(Double::isFinite).max().orElseThrow());
    assertEquals(-9, Arrays.stream(thin.mean()).filter(Double::isFinite).min().orElseThrow());
    assertEquals(1, Arrays.stream(thin.mean()).filter(Double::isNaN).count());
    assertArrayEquals(thin.x(), Arrays.stream(thin.x()).sorted().distinct().toArray());
    assertSame(line, line.thinned(100_000));
  }
}
