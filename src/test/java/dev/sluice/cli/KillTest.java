package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/// One run is killed again and again at random instants (SIGKILL) and resumed; in the end it is
/// what it would have been undisturbed. `-Dkills=500` kills more often than the usual 50.
@EnabledOnOs(OS.LINUX)
class KillTest {
  private static final int KILLS = Integer.getInteger("kills", 50);
  private static final int STEPS = 30 * KILLS;
  private static final int SAVE_EVERY = 2;

  @TempDir Path directory;

  @Test
  void killedAnywhereItGoesOnFromAWholeCheckpointToTheSameEnd() throws Exception {
    Path data = Cli.text(directory.resolve("log.txt"));
    Path undisturbed = directory.resolve("undisturbed");
    Cli.run(Cli.tiny(data, undisturbed, settings("--save-every", STEPS))).succeeded();

    Path run = directory.resolve("run");
    var random = new Random(20);
    int insideSaves = 0;
    int mostLost = 0;
    int kills = 0;
    while (kills < KILLS) {
      long before = lastStep(run);
      var process =
          kills == 0
              ? start(Cli.tiny(data, run, settings("--save-every", SAVE_EVERY)))
              : start("train", "--resume", run);
      // Every fourth time at any instant since the start of the process, else after a step.
      boolean anyInstant = kills % 4 == 3;
      if (!anyInstant) {
        awaitStepAfter(process, run, before);
      }
      Thread.sleep(random.nextInt(anyInstant ? 1500 : 120));
      assertTrue(process.isAlive(), () -> SluiceProcess.read(errors()));
      process.destroyForcibly();
      assertTrue(process.waitFor(60, TimeUnit.SECONDS));
      kills++;

      Path checkpoints = run.resolve("checkpoints");
      insideSaves += partials(checkpoints) > 0 ? 1 : 0;
      var latest = CheckpointDirectory.latest(checkpoints);
      if (latest.isPresent()) {
        CheckpointDirectory.verify(latest.get());
        mostLost =
            Math.max(
                mostLost,
                (int) (lastStep(run) - CheckpointDirectory.step(latest.get()).orElseThrow()));
      }
    }
    Cli.run("train", "--resume", run).succeeded();

    assertEquals(result(undisturbed), result(run));
    assertEquals(0, partials(run.resolve("checkpoints")));
    // A save begins after SAVE_EVERY steps, and the next waits for it.
    assertTrue(mostLost <= 2 * SAVE_EVERY, "lost " + mostLost + " steps");
    assertTrue(insideSaves > KILLS / 10, insideSaves + " of " + kills + " kills inside a save");
    System.out.printf(
        "%d kills, %d of them inside a save; at most %d steps lost, with a save every %d.%n",
        kills, insideSaves, mostLost, SAVE_EVERY);
  }

  private Process start(Object... arguments) throws IOException {
    return SluiceProcess.start(errors(), Map.of(), "", SluiceProcess.BRIEF, arguments);
  }

  private Path errors() {
    return directory.resolve("errors.txt");
  }

  private static Object[] settings(Object... more) {
    Object[] settings = {
      "--steps",
      STEPS,
      "--evaluate-every",
      500,
      "--sample-tokens",
      0,
      "--sequence-length",
      32,
      "--learning-rate",
      0.001,
      more[0],
      more[1]
    };
    return settings;
  }

  /// The last step that metrics tell of; 0 where there are none.
  private static long lastStep(Path run) throws IOException {
    Path metrics = run.resolve("metrics.jsonl");
    if (Files.notExists(metrics)) {
      return 0;
    }
    long step = 0;
    for (String line : Files.readAllLines(metrics)) {
      if (line.startsWith("{\"step\":") && line.endsWith("}")) {
        step = Long.parseLong(line.substring(8, line.indexOf(',')));
      }
    }
    return step;
  }

  private void awaitStepAfter(Process process, Path run, long before)
      throws IOException, InterruptedException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (lastStep(run) <= before) {
      assertTrue(
          process.isAlive() && System.nanoTime() < deadline, () -> SluiceProcess.read(errors()));
      Thread.sleep(5);
    }
  }

  private static long partials(Path checkpoints) throws IOException {
    if (Files.notExists(checkpoints)) {
      return 0;
    }
    try (Stream<Path> children = Files.list(checkpoints)) {
      return children.filter(child -> child.getFileName().toString().endsWith(".partial")).count();
    }
  }

  private static Map<String, String> result(Path run) throws IOException {
    Map<String, String> result = new TreeMap<>();
    Path last = CheckpointDirectory.latest(run.resolve("checkpoints")).orElseThrow();
    for (String name : List.of("model.safetensors", "optimizer.safetensors", "state.json")) {
      result.put(name, Files.readString(last.resolve(name), StandardCharsets.ISO_8859_1));
    }
    result.put("metrics", Files.readString(run.resolve("metrics.jsonl")));
    return result;
  }
}
