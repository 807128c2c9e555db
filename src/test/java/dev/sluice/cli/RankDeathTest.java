package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Ranks as processes: started by the launcher or by variables, killed, stopped, failing.
@EnabledOnOs(OS.LINUX)
class RankDeathTest {
  private static final int TIMEOUT_SECONDS = 4;
  private static final int STEPS = 40;

  @TempDir static Path shared;

  @TempDir Path directory;

  private Object[] train(Path run, Object... more) throws IOException {
    List<Object> arguments =
        new ArrayList<>(
            List.of(
                Cli.tiny(
                    Cli.text(shared.resolve("log.txt")),
                    run,
                    "--steps",
                    STEPS,
                    "--sample-tokens",
                    0,
                    "--evaluate-every",
                    100,
                    "--save-every",
                    5)));
    arguments.addAll(List.of(more));
    return arguments.toArray();
  }

  private Path errors(int rank) {
    return directory.resolve("errors-" + rank + ".txt");
  }

  private List<Process> start(Object... arguments) throws IOException {
    return start(List.of(), arguments);
  }

  private List<Process> start(List<String> options, Object... arguments) throws IOException {
    int port;
    try (var socket = new ServerSocket(0)) {
      port = socket.getLocalPort();
    }
    List<Object> all = new ArrayList<>(List.of(arguments));
    all.addAll(List.of("--rank-timeout", TIMEOUT_SECONDS, "--threads", 1));
    List<Process> ranks = new ArrayList<>();
    for (int rank = 0; rank < 2; rank++) {
      var environment =
          Map.of(
              "RANK", String.valueOf(rank),
              "WORLD_SIZE", "2",
              "LOCAL_RANK", String.valueOf(rank),
              "MASTER_ADDR", "127.0.0.1",
              "MASTER_PORT", String.valueOf(port));
      ranks.add(SluiceProcess.start(errors(rank), environment, "", options, all.toArray()));
    }
    return ranks;
  }

  /// SIGKILL is a machine that is gone, SIGSTOP one that hangs; rank 0 runs what ranks meet at.
  @ParameterizedTest
  @CsvSource({"KILL, 1", "STOP, 1", "KILL, 0", "STOP, 0"})
  void aRankThatIsGoneEndsTheJobWhichThenGoesOn(String signal, int victim) throws Exception {
    Path run = directory.resolve("run");
    var ranks = start(SluiceProcess.BRIEF, train(run));
    var survivor = ranks.get(1 - victim);
    try {
      awaitAStep(ranks, run);
      long began = System.nanoTime();
      assertEquals(
          0,
          new ProcessBuilder("kill", "-" + signal, String.valueOf(ranks.get(victim).pid()))
              .start()
              .waitFor());
      assertTrue(
          survivor.waitFor(10 * TIMEOUT_SECONDS, TimeUnit.SECONDS),
          () -> "rank " + (1 - victim) + " goes on: " + SluiceProcess.read(errors(1 - victim)));
      assertEquals(Main.FAILED, survivor.exitValue(), () -> SluiceProcess.read(errors(1 - victim)));
      assertTrue(System.nanoTime() - began < 10L * TIMEOUT_SECONDS * 1_000_000_000);
    } finally {
      ranks.forEach(Process::destroyForcibly);
    }
    String last = SluiceProcess.read(errors(1 - victim)).lines().toList().getLast();
    assertTrue(last.startsWith("sluice: rank " + victim + " of 2"), last);
    assertTrue(last.contains("has not answered for " + TIMEOUT_SECONDS + " s"), last);
    assertTrue(last.contains("--resume " + run), last);
    assertFalse(
        SluiceProcess.read(errors(1 - victim)).contains("\tat "),
        () -> SluiceProcess.read(errors(1 - victim)));

    var again = start("train", "--resume", run);
    for (int rank = 0; rank < 2; rank++) {
      int number = rank;
      assertEquals(0, SluiceProcess.end(again.get(rank)), () -> SluiceProcess.read(errors(number)));
    }
    assertSameAsUndisturbed(run);
  }

  private void assertSameAsUndisturbed(Path run) throws Exception {
    Path undisturbed = shared.resolve("undisturbed");
    if (!Files.exists(undisturbed)) {
      var ranks = start(train(undisturbed));
      for (int rank = 0; rank < 2; rank++) {
        int number = rank;
        assertEquals(
            0, SluiceProcess.end(ranks.get(rank)), () -> SluiceProcess.read(errors(number)));
      }
    }
    assertArrayEquals(
        Files.readAllBytes(undisturbed.resolve("metrics.jsonl")),
        Files.readAllBytes(run.resolve("metrics.jsonl")));
  }

  /// Who fails says why, and the other says so too.
  @Test
  void theCauseOfOneIsTheLastLineOfAll() throws Exception {
    Path run = directory.resolve("run");
    // rank 0 alone writes: its directory is in the way
    Files.createDirectories(run.resolve("corpus"));
    Files.writeString(run.resolve("config.toml"), "");
    var ranks = start(SluiceProcess.BRIEF, train(run));
    assertEquals(
        Main.BAD_INPUT, SluiceProcess.end(ranks.get(0)), () -> SluiceProcess.read(errors(0)));
    assertEquals(Main.FAILED, SluiceProcess.end(ranks.get(1)), () -> SluiceProcess.read(errors(1)));
    for (int rank = 0; rank < 2; rank++) {
      String last = SluiceProcess.read(errors(rank)).lines().toList().getLast();
      assertTrue(last.contains("already holds a run"), last);
    }
  }

  @Test
  void theLauncherTrainsAndItsErrorsAreSentences() throws Exception {
    Path run = directory.resolve("run");
    var launcher =
        SluiceProcess.start(errors(0), "", train(run, "--nproc", 2, "--zero", 2, "--steps", 6));
    assertEquals(0, SluiceProcess.end(launcher), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("2 ranks, zero 2"),
        () -> SluiceProcess.read(errors(0)));
    assertEquals(0, Cli.run("verify", run).code());

    String uneven = Cli.run(train(directory.resolve("uneven"), "--zero", 3)).refusal();
    assertTrue(uneven.contains("zero cannot be 3"), uneven);
    var odd =
        SluiceProcess.start(
            errors(0), "", train(directory.resolve("odd"), "--nproc", 2, "--batch-size", 3));
    assertEquals(Main.BAD_INPUT, SluiceProcess.end(odd), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("batch_size 3 cannot be shared evenly by 2 ranks"),
        () -> SluiceProcess.read(errors(0)));
  }

  /// Ctrl-C of a terminal, or a scheduler's SIGTERM, reaches the launcher; the ranks save.
  @Test
  void theLauncherStopsItsRanks() throws Exception {
    Path run = directory.resolve("run");
    var launcher =
        SluiceProcess.start(
            errors(0), "", train(run, "--nproc", 2, "--steps", 100_000, "--save-every", 100_000));
    ProcessTest.signalAfterAStep("TERM", launcher, run);
    assertEquals(128 + 15, SluiceProcess.end(launcher), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("./sluice train --resume " + run),
        () -> SluiceProcess.read(errors(0)));
    assertEquals(0, Cli.run("verify", run).code());
    assertTrue(Files.isDirectory(run.resolve("checkpoints")));
  }

  private void awaitAStep(List<Process> ranks, Path run) throws Exception {
    Path metrics = run.resolve("metrics.jsonl");
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    while (!Files.exists(metrics) || Files.size(metrics) == 0) {
      assertTrue(
          ranks.stream().allMatch(Process::isAlive) && System.nanoTime() < deadline,
          () -> SluiceProcess.read(errors(0)) + SluiceProcess.read(errors(1)));
      Thread.sleep(5);
    }
  }
}
