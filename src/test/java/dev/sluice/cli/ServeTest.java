package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.operations.Precision;
import dev.sluice.serving.TinyModel;
import java.net.ConnectException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

class ServeTest {
  private static final String TOKENIZER = "src/test/resources/dev/sluice/tokenizer/tokenizer.json";

  @TempDir private Path directory;

  private static int freePort() throws Exception {
    try (var free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      return free.getLocalPort();
    }
  }

  @Test
  void whatCannotBeServedIsRefusedInASentence() throws Exception {
    Path model = directory.resolve("model");
    TinyModel.open(model, Precision.FLOAT32).close();
    Path letter = Files.writeString(directory.resolve("letter.txt"), "dear whale");
    for (var wrong :
        List.of(
            List.of("--port", "70000"),
            List.of("--slots", "0"),
            List.of("--reuse", "some"),
            List.of("--context", "9000"),
            List.of("--memory", "0"),
            List.of("--api-key", " "),
            List.of("--host", "no such host"),
            List.of("--cache-memory", "0", "--prefix-cache", directory.resolve("some").toString()),
            List.of("--prefix-cache", letter.toString()),
            List.of("--host", "0.0.0.0"))) {
      List<Object> arguments = new ArrayList<>(List.of("serve", model, "--tokenizer", TOKENIZER));
      arguments.addAll(wrong);
      String refusal = Cli.run(arguments.toArray()).refusal();
      assertTrue(
          refusal.contains(wrong.getLast().strip()) || refusal.contains("empty"),
          () -> wrong + ": " + refusal);
    }
    assertEquals("dear whale", Files.readString(letter));
  }

  /// Ctrl-C ends it; what was read is kept.
  @Test
  void aModelIsServedUntilTheUserEndsIt() throws Exception {
    Path model = directory.resolve("model");
    TinyModel.open(model, Precision.FLOAT32).close();
    Path template =
        Files.writeString(
            directory.resolve("chat.jinja"),
            "{% for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}");
    Path errors = directory.resolve("errors.txt");
    Path kept = Files.writeString(directory.resolve("read.cache"), "Sluice prefixes of old");
    int port = freePort();
    var process =
        SluiceProcess.start(
            errors,
            "",
            "serve",
            model,
            "--tokenizer",
            TOKENIZER,
            "--chat-template",
            template,
            "--port",
            port,
            "--prefix-cache",
            kept,
            "--temperature",
            0);
    try (var client = HttpClient.newHttpClient()) {
      var request =
          HttpRequest.newBuilder(
                  URI.create("http://127.0.0.1:%d/v1/chat/completions".formatted(port)))
              .POST(
                  BodyPublishers.ofString(
                      "{\"messages\":[{\"role\":\"user\",\"content\":\"the"
                          + " whale\"}],\"max_tokens\":4}"));
      String answer = "";
      while (answer.isEmpty() && process.isAlive()) {
        try {
          answer = client.send(request.build(), BodyHandlers.ofString()).body();
        } catch (ConnectException _) {
          Thread.sleep(100);
        }
      }
      String said = answer;
      assertTrue(process.isAlive(), () -> SluiceProcess.read(errors));
      var read = JsonMapper.shared().readTree(said);
      assertEquals("model", read.path("model").asString(), said);
      assertTrue(read.at("/usage/completion_tokens").asInt() > 0, said);
      String second = Cli.run("serve", model, "--prefix-cache", kept).refusal();
      assertTrue(second.contains("in use by serve --prefix-cache " + kept), second);
      // What is written over the weights is another model, whose answers nobody has asked for.
      Path weights = model.resolve("model.safetensors");
      try (var file = FileChannel.open(weights, StandardOpenOption.WRITE)) {
        file.write(ByteBuffer.allocate(1), file.size() - 1);
        file.write(ByteBuffer.wrap(new byte[] {1}), file.size() - 2);
      }
      var refused = client.send(request.build(), BodyHandlers.ofString());
      assertEquals(503, refused.statusCode(), refused::body);
      assertTrue(refused.body().contains("model.safetensors was written over"), refused::body);
      new ProcessBuilder(List.of("kill", "-INT", String.valueOf(process.pid()))).start().waitFor();
    } finally {
      assertEquals(130, SluiceProcess.end(process), () -> SluiceProcess.read(errors));
    }
    String told = SluiceProcess.read(errors);
    assertTrue(told.contains("8 slots") && told.contains("What was read is kept"), told);
    assertTrue(told.contains("what was read of them will be saved in its place"), told);
    assertTrue(!told.contains("whale"), told);
    assertTrue(Files.size(kept) > 1000);
  }
}
