package dev.sluice.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.report.LiveReport;
import dev.sluice.study.Matching;
import dev.sluice.study.Shard;
import dev.sluice.study.SmallStudy;
import dev.sluice.study.Study;
import dev.sluice.study.Variant;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WatchedStudyTest {
  @TempDir private Path directory;
  private final AtomicInteger steps = new AtomicInteger();
  private String during = "";

  private static String shown(Watched watched) {
    var live = new LiveReport();
    try {
      live.show(watched.page());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    String page = live.html();
    return page.substring(page.indexOf("<body"), page.indexOf("<footer>"));
  }

  @Test
  void trialsAreShownBeforeAndAfterTheyAreDone() throws Exception {
    var study =
        new Study(
            SmallStudy.CONFIG,
            Matching.NONE,
            List.of(Variant.ofGate("none"), Variant.ofGate("sdpa-elementwise")),
            Map.of(),
            Study.seeds(1, 2));
    var origin = new TrainingRun.Origin("test", List.of("study"));
    var listener =
        new TrainingRun.Listener() {
          @Override
          public void stepped(Trainer.Step step, double tokensPerSecond) {
            if (steps.incrementAndGet() == 5) {
              during = shown(Watched.in(directory)); // the first trial after its step 5
            }
          }
        };
    var results = study.run(directory, Shard.ALL, origin, _ -> listener, () -> steps.get() >= 10);
    assertEquals(1, results.size());

    assertTrue(during.contains("Training none, seed 1."), during);
    assertTrue(during.contains("0 of 4 trials done, 5 of 24 steps (21 %)"), during);
    assertTrue(during.contains("none, seed 1, step 3"), "maps of the first trial");
    assertTrue(during.contains("not begun"), during);
    assertFalse(during.contains("so nothing can be said"), during);

    var watched = Watched.in(directory);
    String stopped = shown(watched);
    assertTrue(stopped.contains("Stopped with 1 of 4 trials done; <code>./sluice study"), stopped);
    assertTrue(stopped.contains("1 of 4 trials done, 10 of 24 steps"), stopped);
    assertTrue(stopped.contains("<td>stopped</td>"), stopped);
    // Beside the finished baseline the other one's curve, dashed in a colour of its own.
    assertTrue(stopped.contains("\"name\":\"sdpa-elementwise, seed 1\",\"colour\":9"));
    assertTrue(stopped.contains("sdpa-elementwise, seed 1, step 3"), stopped);

    var _ = study.run(directory, Shard.ALL, origin, _ -> listener, () -> false);
    String done = shown(watched);
    assertTrue(done.contains("Finished: all 4 trials are done."), done);
    assertTrue(done.contains("4 of 4 trials done, 24 of 24 steps (100 %)."), done);
    assertFalse(done.contains("Dashed"), done);
    assertTrue(done.contains("Gate scores"), done);
  }
}
