package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.watch.Chromium;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.DoubleStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// The server's page in a real browser, where one is installed.
class PageTest {
  private static final String ANSWERS =
      "document.querySelectorAll('article.assistant[aria-busy=false]').length";
  private static final String LAST = "[...document.querySelectorAll('article.assistant')].at(-1)";
  private static final String CELLS = LAST + ".querySelectorAll('.cell').length";
  private static final String FOOTER = LAST + ".querySelector('footer').textContent";
  private static final String VALUES =
      "[..." + LAST + ".querySelectorAll('.cell')].map(c => c.dataset.value).join()";

  /// Of text to what it stands on, by WCAG 2.
  private static final String CONTRAST =
      """
      (() => {
        const light = color => {
          const part = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
          const [r, g, b] = color.match(/[\\d.]+/g).map(Number);
          return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
        };
        const under = e => {
          const color = getComputedStyle(e).backgroundColor;
          return color === 'rgba(0, 0, 0, 0)' ? under(e.parentElement) : color;
        };
        return Math.min(...[...document.querySelectorAll('h1,h2,p,label,summary,button:enabled,footer,.cell,output')]
          .map(e => [light(getComputedStyle(e).color), light(under(e))].sort((a, b) => b - a))
          .map(([high, low]) => (high + 0.05) / (low + 0.05))) >= 4.5;
      })()\
      """;

  @TempDir private Path directory;

  private static String select(String name, String value) {
    return "(s => { s.value = '%s'; s.dispatchEvent(new Event('change', { bubbles: true })); })(%s.querySelector('select[aria-label=%s]'))"
        .formatted(value, LAST, name);
  }

  private static String values(JsonNode watched, String pointer) {
    var values = new StringBuilder();
    for (var token : watched) {
      values.append(values.isEmpty() ? "" : ",").append(token.at(pointer).asDouble());
    }
    return values.toString();
  }

  @Test
  void oneTalksWithTheModelAndSeesWhatItDid() throws Exception {
    var program = Chromium.installed();
    assumeTrue(program.isPresent(), "no Chromium is installed, so no browser opens the page");
    try (var test = new TestServer(directory);
        var server = test.server(test.engine(2, 4, null), null, TestServer.limits());
        var browser = new Chromium(program.get())) {
      browser.open(server.address());
      browser.await("document.querySelector('#model').textContent", "tiny/model");
      browser.type("so it was the whale");
      browser.press("Enter");
      browser.await(ANSWERS, "1");
      var choice =
          test.ask(
                  server,
                  "/v1/chat/completions",
                  "{\"messages\":[{\"role\":\"user\",\"content\":\"so it was the"
                      + " whale\"}],\"sluice_watch\":true}")
              .at("/choices/0");
      var watched = choice.path("sluice_watch");
      assertEquals(
          choice.at("/message/content").asString(),
          browser.evaluate(LAST + ".querySelector('p').textContent"));
      assertEquals(String.valueOf(watched.size()), browser.evaluate(CELLS));
      String footer = browser.evaluate(FOOTER);
      assertTrue(
          footer.startsWith(watched.size() + " tokens, ") && footer.contains("tokens/s"), footer);
      assertEquals("question", browser.evaluate("document.activeElement.id"));

      // Layer 0 has no attention; the mean is that of layer 1 alone.
      String layers =
          "[..."
              + LAST
              + ".querySelectorAll('select')].map(s => [...s.options].map(o =>"
              + " o.text).join('|')).join('; ')";
      assertEquals(
          "First-token attention|Gate score (sdpa); mean over layers|layer 1",
          browser.evaluate(layers));
      assertEquals(values(watched, "/first_token_attention/1"), browser.evaluate(VALUES));
      browser.evaluate(select("Measure", "Gate score (sdpa)"));
      browser.evaluate(select("Layer", "1"));
      assertEquals(values(watched, "/gate_scores/sdpa/1"), browser.evaluate(VALUES));
      String color = "getComputedStyle(%s.querySelectorAll('.cell')[%d]).borderBottomColor";
      assertNotEquals(
          browser.evaluate(color.formatted(LAST, 0)), browser.evaluate(color.formatted(LAST, 1)));
      String scale =
          "[..." + LAST + ".querySelectorAll('.scale span')].map(s => s.textContent).join()";
      double[] scores = new double[watched.size()];
      for (int i = 0; i < scores.length; i++) {
        scores[i] = watched.get(i).at("/gate_scores/sdpa/1").asDouble();
      }
      var range = DoubleStream.of(scores).summaryStatistics();
      assertEquals(
          String.format(Locale.ROOT, "%.3f,%.3f", range.getMin(), range.getMax()),
          browser.evaluate(scale));

      // By keyboard alone.
      browser.evaluate(LAST + ".querySelector('.cell').focus()");
      browser.press("ArrowRight");
      String told = browser.evaluate(LAST + ".querySelector('output').textContent");
      assertTrue(told.contains(", token 2: ") && told.contains("(layer 1)"), told);
      assertEquals(told, browser.evaluate("document.activeElement.getAttribute('aria-label')"));
      browser.press("End");
      assertEquals(
          "1", browser.evaluate("document.querySelectorAll('.cell[aria-selected=true]').length"));
      assertEquals(
          "0",
          browser.evaluate(
              "[...document.querySelectorAll('input,select,textarea')].filter(e => !e.labels.length"
                  + " && !e.ariaLabel).length"));

      // Thoughts are folded, and what was chosen to be shown stays.
      browser.evaluate("document.querySelector('#thinking').value = 'true'");
      ask(browser, "and the sea");
      browser.await(ANSWERS, "2");
      assertEquals("false", browser.evaluate(LAST + ".querySelector('details.folded').open"));
      assertEquals("Gate score (sdpa)", browser.evaluate(LAST + ".querySelector('select').value"));
      for (String scheme : List.of("dark", "light")) {
        browser.prefer(scheme);
        assertEquals("true", browser.evaluate(CONTRAST), scheme);
      }

      // Without watching.
      browser.evaluate("document.querySelector('#thinking').value = ''");
      browser.evaluate("document.querySelector('#watch').click()");
      ask(browser, "no strip");
      browser.await(ANSWERS, "3");
      assertEquals("0", browser.evaluate(CELLS));

      // What the server refuses is said.
      browser.evaluate("document.querySelector('#watch').click()");
      assertEquals(List.of(), browser.complaints());
      browser.evaluate("document.querySelector('#most').value = 5000");
      ask(browser, "too much");
      browser.await("document.querySelector('[role=alert]').textContent.includes('4096')", "true");
      browser.complaints(); // that it was refused
      browser.evaluate("document.querySelector('#new').click()");
      assertEquals("0", browser.evaluate("document.querySelectorAll('article').length"));
      assertEquals(List.of(), browser.complaints());
      for (String request : browser.requests()) {
        assertTrue(
            request.startsWith(server.address().toString()) || request.equals("data:,"), request);
      }
    }
  }

  @Test
  void anAnswerIsStopped() throws Exception {
    var program = Chromium.installed();
    assumeTrue(program.isPresent(), "no Chromium is installed, so no browser opens the page");
    try (var test = new TestServer(directory);
        var server =
            test.server(test.endlessModel(), test.engine(1, 1, null), null, TestServer.limits());
        var browser = new Chromium(program.get())) {
      browser.open(server.address());
      browser.await("document.querySelector('#model').textContent", "tiny/model");
      browser.evaluate("document.querySelector('#most').value = 4000");
      ask(browser, "so it was the whale");
      browser.await(CELLS + " > 2", "true");
      browser.evaluate("document.querySelector('#stop').click()");
      browser.await(ANSWERS, "1");
      assertEquals(
          browser.evaluate("'Stopped after ' + " + CELLS + " + ' tokens.'"),
          browser.evaluate(FOOTER));
      assertEquals(List.of(), browser.complaints());
    }
  }

  private static void ask(Chromium browser, String question) throws Exception {
    browser.evaluate("document.querySelector('#question').focus()");
    browser.type(question);
    browser.press("Enter");
  }
}
