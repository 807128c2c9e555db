package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.ConnectException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WatchTest {
  @TempDir private Path directory;

  @Test
  void whatCannotBeWatchedIsRefusedInASentence() throws Exception {
    Path missing = directory.resolve("missing");
    assertTrue(Cli.run("watch", missing).refusal().contains("no run or study " + missing));
    assertTrue(Cli.run("watch", directory).refusal().contains("neither a run"));
    Path file = Files.writeString(directory.resolve("file"), "");
    assertTrue(Cli.run("watch", file).refusal().contains("is a file"));
    assertTrue(Cli.run("watch", directory, "--port", "70000").refusal().contains("70000"));
    Path damaged = Files.createDirectories(directory.resolve("damaged"));
    Files.writeString(damaged.resolve("config.toml"), "steps = ");
    assertTrue(Cli.run("watch", damaged).refusal().contains("config.toml"));
  }

  /// A run that is over is served too; Ctrl-C ends the command.
  @Test
  void aFinishedRunIsServedUntilTheUserEndsIt() throws Exception {
    Path run = directory.resolve("run");
    Cli.run(Cli.tiny(Cli.text(directory.resolve("log.txt")), run)).succeeded();
    int port;
    try (var free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      port = free.getLocalPort();
      assertTrue(Cli.run("watch", run, "--port", port).refusal().contains("port " + port));
    }
    Path errors = directory.resolve("errors.txt");
    var process = SluiceProcess.start(errors, "", "watch", run, "--port", port);
    try (var client = HttpClient.newHttpClient()) {
      var request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:%d/".formatted(port)));
      String page = "";
      while (page.isEmpty() && process.isAlive()) {
        try {
          page = client.send(request.build(), BodyHandlers.ofString()).body();
        } catch (ConnectException _) {
          Thread.sleep(100);
        }
      }
      assertTrue(page.contains("Finished: all 4 steps are done."), SluiceProcess.read(errors));
      assertTrue(page.contains("Attention by layer"), "maps of the newest evaluation");
      assertTrue(page.contains("Gradient norm") && page.contains("tokens per second"));
      new ProcessBuilder(List.of("kill", "-INT", String.valueOf(process.pid()))).start().waitFor();
    } finally {
      assertEquals(130, SluiceProcess.end(process));
    }
  }
}
