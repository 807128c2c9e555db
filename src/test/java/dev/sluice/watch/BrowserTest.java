package dev.sluice.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/// The page in a real browser, where one is installed.
@Execution(ExecutionMode.CONCURRENT)
class BrowserTest {
  private static final String LOSS =
      "document.querySelector('[data-part=\"figure Training loss\"]')";
  private static final String CHART =
      "echarts.getInstanceByDom(" + LOSS + ".querySelector('.chart'))";
  private static final String POINTS = CHART + ".getOption().series[0].data.length";
  private static final String STATE = "document.querySelector('.state').textContent.trim()";
  private static final String LOST = "document.querySelector('.lost').textContent === ''";

  @TempDir private Path directory;

  @Test
  void thePageGrowsWithTheRunAndOutlivesWhatBefallsIt() throws Exception {
    var program = Chromium.installed();
    assumeTrue(program.isPresent(), "no Chromium is installed, so no browser opens the page");
    var run = RunFolder.begin(directory.resolve("run"), 40);
    run.steps(1, 20);
    var server = new WatchServer(Watched.in(run.path()), 0);
    var address = server.address();
    try (var browser = new Chromium(program.get())) {
      browser.open(address);
      assertEquals("20", browser.evaluate(POINTS));
      assertEquals("0.5", browser.evaluate("document.querySelector('progress').value"));
      String path = LOSS + ".querySelector('svg path[stroke-width=\"2\"]').getAttribute('d')";
      String before = browser.evaluate(path);

      // What the reader did stays: an opened table, a sorted one, a chart that was zoomed.
      browser.evaluate(CHART + ".dispatchAction({ type: 'dataZoom', start: 25, end: 75 })");
      browser.evaluate(LOSS + ".querySelector('details.values').open = true");
      browser.evaluate("document.querySelector('[data-part^=\"table\"] th button').click()");
      browser.evaluate("document.body.dataset.mine = 'not reloaded'");
      run.steps(21, 30);
      browser.await(POINTS, "30");
      assertEquals("0.75", browser.evaluate("document.querySelector('progress').value"));
      assertNotEquals(before, browser.evaluate(path));
      assertEquals("true", browser.evaluate(LOSS + ".querySelector('details.values').open"));
      assertEquals(
          "ascending",
          browser.evaluate(
              "document.querySelector('[data-part^=\"table\"] th').getAttribute('aria-sort')"));
      assertEquals("25", browser.evaluate(CHART + ".getOption().dataZoom[0].start"));
      assertEquals("not reloaded", browser.evaluate("document.body.dataset.mine"));
      assertTrue(
          browser
              .evaluate(LOSS + ".querySelector('.values').textContent")
              .contains("3.0667")); // the loss of step 30

      // A run that goes back, and one that is away for a while.
      run.cutAfter(12);
      browser.await(POINTS, "12");
      Path away = directory.resolve("away");
      Files.move(run.path(), away);
      browser.await(STATE + ".includes('not there any more')", "true");
      assertEquals("12", browser.evaluate(POINTS));
      Files.move(away, run.path());
      run.steps(13, 18);
      browser.await(POINTS, "18");

      browser.prefer("dark");
      browser.await("getComputedStyle(document.body).backgroundColor", "rgb(18, 23, 26)");
      assertEquals(List.of(), browser.complaints());

      // A server that ends and begins again.
      server.close();
      browser.await(LOST, "false");
      browser.complaints(); // that nobody answered
      server = new WatchServer(Watched.in(run.path()), address.getPort());
      browser.await("document.body.dataset.mine", "undefined");
      browser.await(
          LOST + " && document.readyState === 'complete' && " + POINTS + " === 18", "true");
      for (String request : browser.requests()) {
        assertTrue(request.startsWith(address.toString()) || request.equals("data:,"), request);
      }
    } finally {
      server.close();
    }
  }
}
