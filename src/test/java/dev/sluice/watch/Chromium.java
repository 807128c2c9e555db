package dev.sluice.watch;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.files.Trees;
import java.io.File;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A headless browser with one page, steered by the DevTools protocol.
public final class Chromium implements AutoCloseable {
  private static final JsonMapper JSON = JsonMapper.shared();
  private static final int PATIENCE_SECONDS = 60;

  /// Keys as the protocol numbers them.
  private static final Map<String, Integer> CODES =
      Map.of("Enter", 13, "ArrowLeft", 37, "ArrowRight", 39, "End", 35);

  private final Process process;
  private final Path profile;
  private final HttpClient client = HttpClient.newHttpClient();
  private final WebSocket socket;
  private final String session;
  private final AtomicInteger number = new AtomicInteger();
  private final Map<Integer, CompletableFuture<JsonNode>> asked = new ConcurrentHashMap<>();
  private final List<String> complaints = new CopyOnWriteArrayList<>();
  private final List<String> requests = new CopyOnWriteArrayList<>();

  /// Where a Chromium is installed, if one is.
  public static Optional<Path> installed() {
    return Stream.of("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        .flatMap(
            name ->
                Stream.of(String.valueOf(System.getenv("PATH")).split(File.pathSeparator))
                    .map(folder -> Path.of(folder, name)))
        .filter(Files::isExecutable)
        .findFirst();
  }

  public Chromium(Path program) throws Exception {
    profile = Files.createTempDirectory("sluice-browser");
    process =
        new ProcessBuilder(
                program.toString(),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-default-apps",
                "--remote-debugging-port=0",
                "--user-data-dir=" + profile,
                "about:blank")
            .redirectErrorStream(true)
            .redirectOutput(profile.resolve("output").toFile())
            .start();
    Path told = profile.resolve("DevToolsActivePort");
    await("the browser listens", () -> Files.exists(told) && Files.readString(told).contains("/"));
    var lines = Files.readAllLines(told);
    socket =
        client
            .newWebSocketBuilder()
            .buildAsync(URI.create("ws://127.0.0.1:" + lines.get(0) + lines.get(1)), new Messages())
            .get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    String target =
        ask("", "Target.createTarget", Map.of("url", "about:blank")).path("targetId").stringValue();
    session =
        ask("", "Target.attachToTarget", Map.of("targetId", target, "flatten", true))
            .path("sessionId")
            .stringValue();
    for (String domain : List.of("Runtime", "Log", "Network", "Page")) {
      ask(session, domain + ".enable", Map.of());
    }
  }

  private final class Messages implements WebSocket.Listener {
    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence data, boolean last) {
      text.append(data);
      if (last) {
        take(JSON.readTree(text.toString()));
        text.setLength(0);
      }
      from.request(1);
      return CompletableFuture.completedFuture(null);
    }
  }

  private void take(JsonNode message) {
    if (message.has("id")) {
      var waiting = asked.remove(message.get("id").intValue());
      if (waiting != null) {
        waiting.complete(message);
      }
      return;
    }
    var about = message.path("params");
    switch (message.path("method").asString("")) {
      case "Network.requestWillBeSent" ->
          requests.add(about.path("request").path("url").stringValue());
      case "Runtime.exceptionThrown" -> complaints.add(about.toString());
      case "Runtime.consoleAPICalled" -> {
        if (List.of("error", "warning", "assert").contains(about.path("type").stringValue())) {
          complaints.add(about.toString());
        }
      }
      case "Log.entryAdded" -> complaints.add(about.toString());
      default -> {}
    }
  }

  private JsonNode ask(String of, String method, Map<String, ?> parameters) throws Exception {
    int id = number.incrementAndGet();
    var answer = new CompletableFuture<JsonNode>();
    asked.put(id, answer);
    var message = new HashMap<String, Object>();
    message.put("id", id);
    message.put("method", method);
    message.put("params", parameters);
    if (!of.isEmpty()) {
      message.put("sessionId", of);
    }
    socket.sendText(JSON.writeValueAsString(message), true).get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    var got = answer.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    assertTrue(!got.has("error"), got::toString);
    return got.path("result");
  }

  public void open(URI address) throws Exception {
    ask(session, "Page.navigate", Map.of("url", address.toString()));
    await("the page is loaded", () -> evaluate("document.readyState").equals("complete"));
  }

  /// `dark` or `light`.
  public void prefer(String scheme) throws Exception {
    ask(
        session,
        "Emulation.setEmulatedMedia",
        Map.of("features", List.of(Map.of("name", "prefers-color-scheme", "value", scheme))));
  }

  /// Types a text where the focus is.
  public void type(String text) throws Exception {
    ask(session, "Input.insertText", Map.of("text", text));
  }

  /// Presses a key: `Enter`, `ArrowRight`.
  public void press(String key) throws Exception {
    var parameters =
        new HashMap<String, Object>(Map.of("type", "keyDown", "key", key, "code", key));
    parameters.put("windowsVirtualKeyCode", CODES.get(key));
    if (key.equals("Enter")) {
      parameters.put("text", "\r");
    }
    ask(session, "Input.dispatchKeyEvent", parameters);
    ask(session, "Input.dispatchKeyEvent", Map.of("type", "keyUp", "key", key, "code", key));
  }

  /// The value of a JavaScript expression, as text.
  public String evaluate(String expression) throws Exception {
    var result =
        ask(
            session,
            "Runtime.evaluate",
            Map.of("expression", "String(" + expression + ")", "returnByValue", true));
    return result.path("result").path("value").asString("") + problem(result);
  }

  private static String problem(JsonNode result) {
    return result.has("exceptionDetails") ? result.get("exceptionDetails").toString() : "";
  }

  /// Waits until an expression has a value.
  public void await(String expression, String value) throws Exception {
    await(expression + " is " + value, () -> evaluate(expression).equals(value));
  }

  /// What is awaited.
  interface Condition {
    boolean holds() throws Exception;
  }

  private static void await(String what, Condition condition) throws Exception {
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS);
    while (!condition.holds()) {
      assertTrue(System.nanoTime() < end, "not within a minute: " + what);
      Thread.sleep(50);
    }
  }

  /// Errors and warnings of the page since this was last asked.
  public List<String> complaints() {
    var now = new ArrayList<>(complaints);
    complaints.clear();
    return now;
  }

  /// Addresses that the page asked for.
  public List<String> requests() {
    return List.copyOf(requests);
  }

  @Override
  public void close() throws IOException {
    process.descendants().forEach(ProcessHandle::destroyForcibly);
    process.destroyForcibly();
    try {
      process.waitFor(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    client.shutdownNow();
    Trees.remove(profile);
  }
}
