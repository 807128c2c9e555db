package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.watch.WatchServer;
import dev.sluice.watch.Watched;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice watch`: a run or a study in the browser, while it trains.
@Command(
    name = "watch",
    customSynopsis = "sluice watch RUN_OR_STUDY [--port PORT]",
    description = {
      "Serves a page that follows a run or a study while it trains: curves, attention maps, gate"
          + " scores, events. It shows a finished one too.",
      "",
      "It only reads, needs no network, and answers this machine alone, at http://127.0.0.1:PORT;"
          + " whoever has an account on this machine can open the page. To see it from elsewhere,"
          + " pass the port on: ssh -L 8080:127.0.0.1:8080 MACHINE. Ctrl-C ends it."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice watch runs/NAME",
      "  ./sluice watch runs/study-20260203-140511 --port 8080"
    })
final class WatchCommand implements Callable<Integer> {
  private static final int LARGEST_PORT = 65535;
  private static final long LOOK_MILLIS = 200;

  @Parameters(
      paramLabel = "RUN_OR_STUDY",
      description = "The directory that train or study writes into.")
  private Path directory = Path.of("");

  @Option(
      names = "--port",
      paramLabel = "PORT",
      description = "The port of this machine. Default: one that is free.")
  private int port;

  WatchCommand() {}

  @Override
  public Integer call() throws IOException {
    if (port < 0 || port > LARGEST_PORT) {
      throw new InvalidInputException(
          "--port must be 1 to %d, or 0 for any that is free, not %d"
              .formatted(LARGEST_PORT, port));
    }
    var watched = Watched.in(directory);
    Interruption.watch("The page is not kept up to date any more.");
    try (var server = new WatchServer(watched, port)) {
      Console.print("Watching %s at %s (Ctrl-C ends it)".formatted(directory, server.address()));
      while (!Interruption.requested()) {
        Thread.sleep(LOOK_MILLIS);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    return 130;
  }
}
