package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.checkpoint.CheckpointDirectory;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.io.TempDirFactory;

/// Two runs, side by side, are killed again and again at random instants (SIGKILL) and resumed; in
/// the end each is what it would have been undisturbed. `-Dkills=500` kills more often than the
/// usual 24.
@EnabledOnOs(OS.LINUX)
class KillTest {
  private static final int RUNS = 2;
  private static final int KILLS = Integer.getInteger("kills", 24) / RUNS;
  private static final int STEPS = 20 * KILLS;
  private static final int SAVE_EVERY = 2;

  @TempDir(factory = TempDirFactory.Standard.class)
  Path directory;

  @Test
  void killedAnywhereItGoesOnFromAWholeCheckpointToTheSameEnd() throws Exception {
    Path data = Cli.text(directory.resolve("log.txt"));
    Path undisturbed = directory.resolve("undisturbed");
    Cli.run(Cli.tiny(data, undisturbed, settings("--save-every", STEPS))).succeeded();

    List<Future<Integer>> insideSaves = new ArrayList<>();
    try (var threads = Executors.newFixedThreadPool(RUNS)) {
      for (int i = 0; i < RUNS; i++) {
        int number = i;
        insideSaves.add(threads.submit(() -> killAgainAndAgain(number, data)));
      }
    }
    int inside = 0;
    for (int i = 0; i < RUNS; i++) {
      inside += insideSaves.get(i).get();
      Cli.run("train", "--resume", run(i)).succeeded();
      assertEquals(result(undisturbed), result(run(i)));
      assertEquals(0, partials(run(i).resolve("checkpoints")));
    }
    int kills = RUNS * KILLS;
    assertTrue(inside > kills / 10, inside + " of " + kills + " kills inside a save");
    System.out.printf("%d kills, %d of them inside a save.%n", kills, inside);
  }

  private Path run(int number) {
    return directory.resolve("run" + number);
  }

  /// Gives how many of the kills came while a checkpoint was written.
  private int killAgainAndAgain(int number, Path data) throws Exception {
    Path run = run(number);
    Path errors = directory.resolve("errors" + number + ".txt");
    var random = new Random(20 + number);
    int insideSaves = 0;
    for (int kill = 0; kill < KILLS; kill++) {
      long before = lastStep(run);
      var process =
          kill == 0
              ? start(errors, Cli.tiny(data, run, settings("--save-every", SAVE_EVERY)))
              : start(errors, "train", "--resume", run);
      // Every fourth time at any instant since the start of the process, else after a step, and
      // every fourth time when the next save has begun.
      boolean anyInstant = kill % 4 == 3;
      if (!anyInstant) {
        awaitStepAfter(process, errors, run, before);
      }
      if (kill % 4 == 1) {
        awaitSave(process, errors, run.resolve("checkpoints"));
      } else {
        Thread.sleep(random.nextInt(anyInstant ? 1500 : 120));
      }
      assertTrue(process.isAlive(), () -> SluiceProcess.read(errors));
      process.destroyForcibly();
      assertTrue(process.waitFor(60, TimeUnit.SECONDS));

      Path checkpoints = run.resolve("checkpoints");
      insideSaves += partials(checkpoints) > 0 ? 1 : 0;
      var latest = CheckpointDirectory.latest(checkpoints);
      if (latest.isPresent()) {
        CheckpointDirectory.verify(latest.get());
        long lost = lastStep(run) - CheckpointDirectory.step(latest.get()).orElseThrow();
        // A save begins after SAVE_EVERY steps, and the next waits for it.
        assertTrue(lost <= 2 * SAVE_EVERY, "lost " + lost + " steps");
      }
    }
    return insideSaves;
  }

  private static Process start(Path errors, Object... arguments) throws IOException {
    return SluiceProcess.start(errors, "", arguments);
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
  static long lastStep(Path run) throws IOException {
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

  static void awaitStepAfter(Process process, Path errors, Path run, long before)
      throws IOException, InterruptedException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SluiceProcess.SECONDS);
    while (lastStep(run) <= before) {
      assertTrue(
          process.isAlive() && System.nanoTime() < deadline, () -> SluiceProcess.read(errors));
      Thread.sleep(5);
    }
  }

  private static void awaitSave(Process process, Path errors, Path checkpoints)
      throws IOException, InterruptedException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SluiceProcess.SECONDS);
    while (partials(checkpoints) == 0) {
      assertTrue(
          process.isAlive() && System.nanoTime() < deadline, () -> SluiceProcess.read(errors));
      Thread.sleep(1);
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
