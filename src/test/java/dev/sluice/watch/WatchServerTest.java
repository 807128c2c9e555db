package dev.sluice.watch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Trees;
import dev.sluice.report.HtmlReport;
import java.io.IOException;
import java.net.Socket;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class WatchServerTest {
  @TempDir private Path directory;
  private final HttpClient client = HttpClient.newHttpClient();
  private final AtomicInteger made = new AtomicInteger();

  @AfterEach
  void close() {
    client.close();
  }

  private HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
    return client.send(request.build(), BodyHandlers.ofString());
  }

  private HttpResponse<String> get(WatchServer server, String path) throws Exception {
    return send(HttpRequest.newBuilder(server.address().resolve(path)));
  }

  private HtmlReport page() {
    return HtmlReport.titled("Page").summary("Made %d times.".formatted(made.incrementAndGet()));
  }

  private WatchServer server() throws IOException {
    return new WatchServer(this::page, 0, Duration.ZERO);
  }

  /// The first line of the answer to a request as it stands.
  private static String raw(WatchServer server, String request) throws IOException {
    try (var socket = new Socket("127.0.0.1", server.address().getPort())) {
      socket.getOutputStream().write(request.getBytes(StandardCharsets.ISO_8859_1));
      socket.shutdownOutput();
      var answer = new String(socket.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
      return answer.lines().findFirst().orElse("");
    }
  }

  private static String request(WatchServer server, String line, String... headers) {
    return line
        + "\r\n"
        + String.join("", Arrays.stream(headers).map(one -> one + "\r\n").toList())
            .replace("PORT", String.valueOf(server.address().getPort()))
        + "\r\n";
  }

  @Test
  void onlyWhoAsksForThisMachineByItsNameIsAnswered() throws Exception {
    try (var server = server()) {
      assertEquals("127.0.0.1", server.address().getHost());
      String ask = "GET / HTTP/1.1";
      for (String host : new String[] {"Host: 127.0.0.1:PORT", "Host: localhost:PORT"}) {
        assertTrue(raw(server, request(server, ask, host)).contains("200"), host);
      }
      for (String host :
          new String[] {
            "Host: evil.example:PORT",
            "Host: evil.example",
            "Host: 127.0.0.1",
            "Host: 127.0.0.1:1",
            "Host: 127.0.0.1.evil.example:PORT",
            "Host: [::1]:PORT",
            "Host:",
            "X-Host: 127.0.0.1:PORT"
          }) {
        String first = raw(server, request(server, ask, host));
        assertTrue(first.contains("403") || first.contains("400"), host + " " + first);
      }
      String twice =
          raw(server, request(server, ask, "Host: 127.0.0.1:PORT", "Host: evil.example"));
      assertTrue(twice.contains("403") || twice.contains("400"), twice);
    }
  }

  @Test
  void onlyReadingIsAnswered() throws Exception {
    try (var server = server()) {
      for (String method : new String[] {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
        var answer =
            send(
                HttpRequest.newBuilder(server.address())
                    .method(method, BodyPublishers.ofString("x")));
        assertEquals(405, answer.statusCode(), method);
        assertEquals("GET, HEAD", answer.headers().firstValue("Allow").orElseThrow());
      }
      var head =
          send(HttpRequest.newBuilder(server.address()).method("HEAD", BodyPublishers.noBody()));
      assertEquals(200, head.statusCode());
      assertEquals("", head.body());
      assertTrue(head.headers().firstValueAsLong("Content-Length").orElse(0) > 100_000);
    }
  }

  @Test
  void nothingButThePageAndItsNewsIsThere() throws Exception {
    Files.writeString(directory.resolve("secret.txt"), "secret");
    try (var server = server()) {
      for (String path :
          new String[] {
            "/secret.txt", "//", "/live/", "/%2e%2e/secret.txt", "/..", "/report.html", "/live%00"
          }) {
        String first =
            raw(server, request(server, "GET " + path + " HTTP/1.1", "Host: 127.0.0.1:PORT"));
        assertTrue(first.contains("404") || first.contains("400"), path + " " + first);
      }
      for (String query :
          new String[] {
            "",
            "?after=",
            "?after=-1",
            "?after=x",
            "?after=1&after=2",
            "?after=99999999999999999999"
          }) {
        assertEquals(400, get(server, "/live" + query).statusCode(), query);
      }
    }
  }

  @Test
  void answersCarryWhatKeepsThePageToItself() throws Exception {
    try (var server = server()) {
      for (String path : new String[] {"/", "/live?after=0", "/nothing"}) {
        var headers = get(server, path).headers();
        String policy = headers.firstValue("Content-Security-Policy").orElseThrow();
        assertTrue(policy.startsWith("default-src 'none';"), policy);
        assertTrue(policy.contains("frame-ancestors 'none'"), policy);
        assertFalse(policy.contains("script-src 'unsafe"), policy);
        assertEquals("nosniff", headers.firstValue("X-Content-Type-Options").orElseThrow());
        assertEquals("no-store", headers.firstValue("Cache-Control").orElseThrow());
        assertEquals(
            "same-origin", headers.firstValue("Cross-Origin-Resource-Policy").orElseThrow());
        assertFalse(headers.map().containsKey("access-control-allow-origin"));
      }
    }
  }

  /// The header's policy and the page's name the same scripts, and those are in it.
  @Test
  void thePageIsWholeAndItsPolicyFits() throws Exception {
    try (var server = server()) {
      String page = get(server, "/").body();
      String policy =
          get(server, "/").headers().firstValue("Content-Security-Policy").orElseThrow();
      assertTrue(page.contains(policy.replace("; frame-ancestors 'none'", "")));
      assertTrue(page.contains("connect-src 'self'"));
      assertEquals(4, page.split("<script>", -1).length); // ECharts, the report's, the live one's
      assertTrue(page.contains("Made "));
    }
  }

  @Test
  void aPortInUseIsToldInOneSentence() throws Exception {
    try (var server = server()) {
      int port = server.address().getPort();
      var refused =
          assertThrows(InvalidInputException.class, () -> new WatchServer(this::page, port));
      assertTrue(refused.getMessage().startsWith("port " + port), refused.getMessage());
      assertTrue(refused.getMessage().contains("--port"), refused.getMessage());
    }
  }

  @Test
  void whoSaysNothingKeepsNobodyWaiting() throws Exception {
    try (var server = server()) {
      var silent = new ArrayList<Socket>();
      for (int i = 0; i < 20; i++) {
        var socket = new Socket("127.0.0.1", server.address().getPort());
        socket.getOutputStream().write("GET / HTTP/1.1\r\nHost:".getBytes());
        silent.add(socket);
      }
      assertEquals(200, get(server, "/live?after=0").statusCode());
      for (Socket socket : silent) {
        socket.close();
      }
    }
  }

  // ---------------------------------------------------------------- a run

  private JsonNode news(WatchServer server, long after) throws Exception {
    return JsonMapper.shared().readTree(get(server, "/live?after=" + after).body());
  }

  private static String all(JsonNode news) {
    var text = new StringBuilder();
    news.get("changed").forEach(part -> text.append(part.stringValue()));
    return text.toString();
  }

  @Test
  void onlyWhatChangedIsSent() throws Exception {
    var run = RunFolder.begin(directory.resolve("run"), 40);
    run.steps(1, 10);
    try (var server = new WatchServer(Watched.in(run.path()), 0, Duration.ZERO)) {
      var first = news(server, 0);
      long revision = first.get("revision").longValue();
      assertTrue(all(first).contains("Step 10 of 40 (25 %)"));
      var same = news(server, revision);
      assertTrue(same.get("parts").isEmpty());
      run.steps(11, 12);
      var second = news(server, revision);
      var changed = second.get("changed");
      assertTrue(changed.has("figure Training loss"), changed::toString);
      assertTrue(changed.get("figure Training loss").stringValue().contains("3.1667"));
      assertFalse(changed.has("figure Held-out loss"));
      assertFalse(changed.has("heading Loss"));
      assertTrue(all(second).contains("Step 12 of 40"));
      assertEquals(first.get("parts"), second.get("parts"));
      assertEquals(first.get("session"), second.get("session"));
    }
  }

  @Test
  void aLineThatIsBeingWrittenWaits() throws Exception {
    var run = RunFolder.begin(directory.resolve("run"), 40);
    run.steps(1, 10);
    run.metrics("{\"step\":11,\"lo");
    try (var server = new WatchServer(Watched.in(run.path()), 0, Duration.ZERO)) {
      String before = all(news(server, 0));
      assertTrue(before.contains("Step 10 of 40"));
      assertFalse(before.contains("no JSON"));
      run.metrics("ss\":2.5}\n");
      assertTrue(all(news(server, 0)).contains("Step 11 of 40"));
      run.metrics("nonsense\n");
      String after = all(news(server, 0));
      assertTrue(after.contains("1 lines that are no JSON objects"));
    }
  }

  @Test
  void aRunThatGoesBackIsShownAsItIsNow() throws Exception {
    var run = RunFolder.begin(directory.resolve("run"), 40);
    run.steps(1, 30);
    try (var server = new WatchServer(Watched.in(run.path()), 0, Duration.ZERO)) {
      assertTrue(all(news(server, 0)).contains("Step 30 of 40"));
      run.cutAfter(12);
      String back = all(news(server, 0));
      assertTrue(back.contains("Step 12 of 40"));
      assertFalse(back.contains("<td>Evaluated: 4.0667")); // of step 30
      run.steps(13, 13);
      assertTrue(all(news(server, 0)).contains("Step 13 of 40"));
    }
  }

  @Test
  void aRunThatVanishesAndIsBackIsFollowed() throws Exception {
    var run = RunFolder.begin(directory.resolve("run"), 40);
    run.steps(1, 20);
    try (var server = new WatchServer(Watched.in(run.path()), 0, Duration.ZERO)) {
      var first = news(server, 0);
      Path away = directory.resolve("away");
      Files.move(run.path(), away);
      var gone = news(server, first.get("revision").longValue());
      assertTrue(all(gone).contains("is not there any more"));
      assertEquals(1, gone.get("changed").size()); // the curves stay
      Files.move(away, run.path());
      run.steps(21, 21);
      assertTrue(all(news(server, 0)).contains("Step 21 of 40"));
      Trees.remove(run.path());
      RunFolder.begin(run.path(), 50).steps(1, 3);
      assertTrue(all(news(server, 0)).contains("Step 3 of 50"));
    }
  }

  @Test
  void whatTheUserGaveIsEscaped() throws Exception {
    var run = RunFolder.begin(directory.resolve("run"), 40);
    try (var server = new WatchServer(Watched.in(run.path()), 0, Duration.ZERO)) {
      String page = get(server, "/").body();
      assertTrue(page.contains("&lt;b&gt;book&lt;/b&gt;.txt"));
      assertFalse(page.contains("<b>book"));
    }
  }

  @Test
  void whatIsNeitherRunNorStudyIsRefused() throws Exception {
    Path file = Files.writeString(directory.resolve("file"), "");
    for (Path wrong : new Path[] {directory, file, directory.resolve("nothing")}) {
      var refused = assertThrows(InvalidInputException.class, () -> Watched.in(wrong));
      assertTrue(refused.getMessage().contains(wrong.toString()), refused.getMessage());
    }
  }
}
