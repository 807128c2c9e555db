package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/// Starts the ranks of a job on this machine, each a process of the same command, and waits for
/// them.
final class LocalRanks {
  private LocalRanks() {}

  /// Runs `arguments` as `count` ranks. What rank 0 prints is printed; of the others, what they say
  /// on standard error, with the rank before it.
  ///
  /// @param arguments of the command line, without `--nproc`
  /// @param timeout after which a rank that does not answer ends the job
  /// @return the exit code of the first rank that failed, or rank 0's
  static int run(int count, List<String> arguments, Duration timeout) throws IOException {
    int cores = Runtime.getRuntime().availableProcessors();
    if (count < 1 || count > 64 * cores) {
      throw new InvalidInputException(
          "--nproc %d is not possible on %d cores; use from 1 to %d"
              .formatted(count, cores, 64 * cores));
    }
    List<Process> ranks = new ArrayList<>();
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  ranks.forEach(Process::destroy); // as the terminal's Ctrl-C does
                  ranks.forEach(rank -> rank.onExit().join());
                },
                "sluice-ranks"));
    int port = freePort();
    for (int rank = 0; rank < count; rank++) {
      ranks.add(start(rank, count, port, arguments));
    }
    return wait(ranks, timeout);
  }

  private static int freePort() throws IOException {
    try (var socket = new ServerSocket(0)) {
      return socket.getLocalPort();
    }
  }

  private static Process start(int rank, int count, int port, List<String> arguments)
      throws IOException {
    List<String> command = new ArrayList<>();
    command.add(ProcessHandle.current().info().command().orElse("java"));
    command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
    command.addAll(
        List.of("-cp", ManagementFactory.getRuntimeMXBean().getClassPath(), Main.class.getName()));
    command.addAll(arguments);
    var builder = new ProcessBuilder(command);
    builder.environment().put("RANK", String.valueOf(rank));
    builder.environment().put("WORLD_SIZE", String.valueOf(count));
    builder.environment().put("LOCAL_RANK", String.valueOf(rank));
    builder.environment().put("LOCAL_WORLD_SIZE", String.valueOf(count));
    builder.environment().put("MASTER_ADDR", "127.0.0.1");
    builder.environment().put("MASTER_PORT", String.valueOf(port));
    builder.redirectInput(ProcessBuilder.Redirect.INHERIT);
    if (rank == 0) {
      return builder
          .redirectOutput(ProcessBuilder.Redirect.INHERIT)
          .redirectError(ProcessBuilder.Redirect.INHERIT)
          .start();
    }
    var process = builder.redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
    Thread.ofPlatform().daemon().name("sluice-rank-" + rank).start(() -> tell(rank, process));
    return process;
  }

  private static void tell(int rank, Process process) {
    try (var lines =
        new BufferedReader(
            new InputStreamReader(process.getErrorStream(), StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        Console.note("rank %d: %s".formatted(rank, line));
      }
    } catch (IOException | UncheckedIOException _) {
      // it has ended
    }
  }

  /// Waits for all; once one has failed, the others get the time to notice, and are then ended.
  private static int wait(List<Process> ranks, Duration timeout) {
    int failed = 0;
    long deadline = Long.MAX_VALUE;
    try {
      while (ranks.stream().anyMatch(Process::isAlive)) {
        for (Process rank : ranks) {
          if (failed == 0 && !rank.isAlive() && rank.exitValue() != 0) {
            failed = rank.exitValue();
            deadline = System.nanoTime() + timeout.multipliedBy(2).plusSeconds(5).toNanos();
          }
        }
        if (System.nanoTime() > deadline) {
          ranks.forEach(Process::destroyForcibly);
        }
        TimeUnit.MILLISECONDS.sleep(20);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      ranks.forEach(Process::destroy);
    }
    for (Process rank : ranks) {
      failed = failed == 0 ? rank.exitValue() : failed;
    }
    // a signal's number, as shells give it, tells a user nothing here
    return failed == 0 || failed == 130 || failed == Main.BAD_INPUT ? failed : Main.FAILED;
  }
}
