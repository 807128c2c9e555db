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
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/// Ranks as processes: started by the launcher or by variables, killed, stopped, failing.
@EnabledOnOs(OS.LINUX)
@Execution(ExecutionMode.CONCURRENT)
class RankDeathTest {
  private static final int TIMEOUT_SECONDS = 8;
  private static final int STEPS = 80;

  @TempDir Path directory;

  private Object[] train(Path run, Object... more) throws IOException {
    Object[] arguments =
        Cli.tiny(
            Cli.text(directory.resolve("log.txt")),
            run,
            "--steps",
            STEPS,
            "--sequence-length",
            16,
            "--sample-tokens",
            0,
            "--evaluate-every",
            100,
            "--save-every",
            5);
    return with(arguments, more);
  }

  private static Object[] with(Object[] arguments, Object... more) {
    return Stream.of(arguments, more).flatMap(Stream::of).toArray();
  }

  /// By a process, too: this class runs beside others, and commands within one share their output.
  private void verify(Path run) throws IOException {
    assertEquals(
        0,
        SluiceProcess.end(SluiceProcess.start(errors(0), "", "verify", run)),
        () -> SluiceProcess.read(errors(0)));
  }

  private Path errors(int rank) {
    return directory.resolve("errors-" + rank + ".txt");
  }

  /// Ranks whose timeout is that of a user unless it is told: a busy machine may hold one up for
  /// seconds.
  private List<Process> start(Object... arguments) throws IOException {
    int port;
    try (var socket = new ServerSocket(0)) {
      port = socket.getLocalPort();
    }
    List<Process> ranks = new ArrayList<>();
    for (int rank = 0; rank < 2; rank++) {
      var environment =
          Map.of(
              "RANK", String.valueOf(rank),
              "WORLD_SIZE", "2",
              "LOCAL_RANK", String.valueOf(rank),
              "MASTER_ADDR", "127.0.0.1",
              "MASTER_PORT", String.valueOf(port));
      ranks.add(
          SluiceProcess.start(errors(rank), environment, "", with(arguments, "--threads", 1)));
    }
    return ranks;
  }

  /// SIGKILL is a machine that is gone, SIGSTOP one that hangs; rank 0 runs what ranks meet at. One
  /// story, because starting ranks takes seconds: a job is ended in all four ways, goes on after
  /// each, and in the end is what it would have been undisturbed.
  @Test
  @Execution(ExecutionMode.SAME_THREAD)
  void aRankThatIsGoneEndsTheJobWhichThenGoesOn() throws Exception {
    Path run = directory.resolve("run");
    for (String signal : List.of("KILL", "STOP")) {
      for (int victim : new int[] {1, 0}) {
        Object[] job = Files.exists(run) ? new Object[] {"train", "--resume", run} : train(run);
        endsWith(signal, victim, start(with(job, "--rank-timeout", TIMEOUT_SECONDS)), run);
      }
    }
    succeeded(start("train", "--resume", run));
    Path undisturbed = directory.resolve("undisturbed");
    succeeded(start(train(undisturbed)));
    assertArrayEquals(
        Files.readAllBytes(undisturbed.resolve("metrics.jsonl")),
        Files.readAllBytes(run.resolve("metrics.jsonl")));
  }

  private void endsWith(String signal, int victim, List<Process> ranks, Path run) throws Exception {
    var survivor = ranks.get(1 - victim);
    try {
      ProcessTest.signalAfterAStep(signal, ranks.get(victim), run, errors(victim));
      long began = System.nanoTime();
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
  }

  private void succeeded(List<Process> ranks) {
    for (int rank = 0; rank < 2; rank++) {
      int number = rank;
      assertEquals(0, SluiceProcess.end(ranks.get(rank)), () -> SluiceProcess.read(errors(number)));
    }
  }

  /// Who fails says why, and the other says so too.
  @Test
  @Execution(ExecutionMode.SAME_THREAD)
  void theCauseOfOneIsTheLastLineOfAll() throws Exception {
    Path run = directory.resolve("run");
    // rank 0 alone writes: its directory is in the way
    Files.createDirectories(run.resolve("corpus"));
    Files.writeString(run.resolve("config.toml"), "");
    var ranks = start(train(run));
    assertEquals(
        Main.BAD_INPUT, SluiceProcess.end(ranks.get(0)), () -> SluiceProcess.read(errors(0)));
    assertEquals(Main.FAILED, SluiceProcess.end(ranks.get(1)), () -> SluiceProcess.read(errors(1)));
    for (int rank = 0; rank < 2; rank++) {
      String last = SluiceProcess.read(errors(rank)).lines().toList().getLast();
      assertTrue(last.contains("already holds a run"), last);
    }
  }

  @Test
  @Execution(ExecutionMode.SAME_THREAD)
  void theLauncherTrainsAndItsErrorsAreSentences() throws Exception {
    Path run = directory.resolve("run");
    var launcher =
        SluiceProcess.start(errors(0), "", train(run, "--nproc", 2, "--zero", 2, "--steps", 6));
    assertEquals(0, SluiceProcess.end(launcher), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("2 ranks, zero 2"),
        () -> SluiceProcess.read(errors(0)));
    verify(run);

    var uneven =
        SluiceProcess.start(errors(0), "", train(directory.resolve("uneven"), "--zero", 3));
    assertEquals(Main.BAD_INPUT, SluiceProcess.end(uneven), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("zero cannot be 3"),
        () -> SluiceProcess.read(errors(0)));
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
  @Execution(ExecutionMode.SAME_THREAD)
  void theLauncherStopsItsRanks() throws Exception {
    Path run = directory.resolve("run");
    var launcher =
        SluiceProcess.start(
            errors(0), "", train(run, "--nproc", 2, "--steps", 100_000, "--save-every", 100_000));
    ProcessTest.signalAfterAStep("TERM", launcher, run, errors(0));
    assertEquals(128 + 15, SluiceProcess.end(launcher), () -> SluiceProcess.read(errors(0)));
    assertTrue(
        SluiceProcess.read(errors(0)).contains("./sluice train --resume " + run),
        () -> SluiceProcess.read(errors(0)));
    verify(run);
    assertTrue(Files.isDirectory(run.resolve("checkpoints")));
  }
}
