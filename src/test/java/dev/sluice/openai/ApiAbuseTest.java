package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.Socket;
import java.net.SocketException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;

/// Requests that mean harm. After each the server answers as before.
class ApiAbuseTest {
  private static final String CHAT = "/v1/chat/completions";
  private static final Duration SOON = Duration.ofSeconds(60);

  @TempDir private static Path directory;
  private static TestServer test;
  private static ApiServer server;

  @BeforeAll
  static void begin() throws IOException {
    test = new TestServer(directory);
    server = test.server(test.engine(6, 20, null), null, TestServer.limits());
  }

  @AfterAll
  static void end() {
    server.close();
    test.close();
  }

  @AfterEach
  void theServerIsWell() throws Exception {
    assertEquals(200, test.get(server, "/health").statusCode());
    assertEquals(List.of(), List.copyOf(test.faults));
  }

  /// What the server says to bytes; nothing where it closes the connection first.
  private static String raw(String request) throws IOException {
    try (var socket = new Socket("127.0.0.1", server.address().getPort())) {
      socket.setSoTimeout(60_000);
      try {
        socket.getOutputStream().write(request.getBytes(StandardCharsets.ISO_8859_1));
        return new String(socket.getInputStream().readAllBytes(), StandardCharsets.ISO_8859_1);
      } catch (SocketException _) {
        return "";
      }
    }
  }

  /// There are no files behind paths.
  @Test
  void pathsLeadNowhere() throws Exception {
    for (String path :
        List.of(
            "/../../../../etc/passwd",
            "/..%2f..%2f..%2fetc%2fpasswd",
            "/v1/models/../../etc/passwd",
            "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "/v1/models/%00",
            "/v1/models/%",
            "/v1/v1/models",
            "//etc/passwd",
            "/chat.html",
            "/\\..\\..\\etc\\passwd",
            "http://evil.example/v1/models/x",
            "/v1/models/{{7*191}}")) {
      String said =
          raw("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".formatted(path));
      assertTrue(
          said.startsWith("HTTP/1.1 404") || said.startsWith("HTTP/1.1 400") || said.isEmpty(),
          path + ": " + said);
      assertFalse(said.contains("root:") || said.contains("1337"), path + ": " + said);
      assertFalse(said.contains("\tat "), path + ": " + said);
    }
  }

  /// What is between braces in messages, names, tools and variables is text.
  @Test
  void templatesAreTheModelsAlone() throws Exception {
    String code = "{{ 7 * 191 }}{% for i in range(99) %}whale{% endfor %}{{ messages }}";
    String plain = "(( 7 * 191 ))(% for i in range(99) %)whale(% endfor %)(( messages ))";
    for (String body :
        List.of(
            "{\"messages\":[{\"role\":\"user\",\"content\":%1$s}],\"max_tokens\":1}",
            "{\"messages\":[{\"role\":\"user\",\"name\":%1$s,\"content\":\"a\"},{\"role\":\"assistant\",\"reasoning_content\":%1$s,\"content\":%1$s},{\"role\":\"user\",\"content\":\"b\"}],\"max_tokens\":1}",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":1,\"chat_template_kwargs\":{\"enable_thinking\":%1$s}}",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":1,\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":%1$s}}]}")) {
      assertEquals(
          tokens(body.formatted(JsonText.of(plain))),
          tokens(body.formatted(JsonText.of(code))),
          body);
    }
  }

  /// How many tokens a prompt has, but for those that write braces.
  private static int tokens(String body) throws Exception {
    int braces = test.tokenizer.encode("{{").length - test.tokenizer.encode("((").length;
    assertEquals(0, braces, "the tokenizer writes both alike");
    return test.ask(server, CHAT, body).at("/usage/prompt_tokens").asInt();
  }

  @Test
  void floodsOfHeadersAreCutOff() throws Exception {
    var many = new StringBuilder("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 5000; i++) {
      many.append("X-").append(i).append(": a\r\n");
    }
    assertFalse(raw(many + "\r\n").startsWith("HTTP/1.1 200"));
    String wide = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: " + "a".repeat(1 << 20);
    assertFalse(raw(wide + "\r\n\r\n").startsWith("HTTP/1.1 200"));
    String line = "GET /" + "a".repeat(1 << 20) + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assertFalse(raw(line).startsWith("HTTP/1.1 200"));
    for (String length : List.of("-1", "1e3", "99999999999999999999", "5, 6")) {
      String said =
          raw(
              "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n{}"
                  .formatted(length));
      assertFalse(said.startsWith("HTTP/1.1 200"), length + said);
    }
  }

  private static JsonNode schema(String schema) throws Exception {
    return TestServer.JSON.readTree(
        Assertions.assertTimeoutPreemptively(
                SOON,
                () ->
                    test.post(
                        server,
                        CHAT,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":20,\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":%s}}}"
                            .formatted(schema)))
            .body());
  }

  /// Patterns that hurt programs which try one way after the other, and those that would become
  /// automata of any size.
  @Test
  void patternsDoNotHurt() throws Exception {
    for (String pattern :
        List.of(
            "^(a+)+$",
            "^(a|a)*b$",
            "^(a|aa)+$",
            "^(.*)*$",
            "^([a-z]+)*[0-9]$",
            "^(.*a){12}$",
            "^((a{0,40}){0,40}){0,40}$",
            "^(a{1,99999})$",
            "(x+x+)+y",
            "^[\\\\s\\\\S]*[ab][\\\\s\\\\S]{14}$")) {
      var answer =
          schema("{\"type\":\"string\",\"pattern\":\"%s\",\"maxLength\":40}".formatted(pattern));
      boolean isAnswered = answer.has("choices");
      String param = answer.at("/error/param").asString("");
      assertTrue(isAnswered || param.startsWith("response_format"), pattern + answer);
    }
  }

  @Test
  void schemasDoNotGrow() throws Exception {
    var deep = new StringBuilder();
    for (int i = 0; i < 60; i++) {
      deep.append("{\"type\":\"array\",\"items\":");
    }
    deep.append("{}").append("}".repeat(60));
    String wide = "{\"enum\":[%s1]}".formatted("\"some text that is long\",".repeat(3500));
    String branches =
        "{\"anyOf\":[%s{\"type\":\"null\"}]}"
            .formatted("{\"type\":\"string\",\"maxLength\":9},".repeat(2000));
    String doubling =
        "{\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/a\"}]}},\"$ref\":\"#/$defs/a\"}";
    String nested =
        "{\"$defs\":{\"a\":{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":\"#/$defs/a\"}}},\"$ref\":\"#/$defs/a\"}";
    for (String each :
        List.of(
            deep.toString(),
            wide,
            branches,
            doubling,
            nested,
            "{\"type\":\"string\",\"minLength\":2000000000}",
            "{\"type\":\"array\",\"minItems\":2000000000,\"maxItems\":2000000001}",
            "{\"type\":\"integer\",\"minimum\":-1e300,\"maximum\":1e300}",
            "{\"type\":\"string\",\"pattern\":\"%s\"}".formatted("a?".repeat(2000)),
            "{\"description\":\"%s\"}".formatted("a".repeat(90_000)))) {
      var answer = schema(each);
      String param = answer.at("/error/param").asString("");
      assertTrue(
          answer.has("choices") || param.startsWith("response_format"),
          each.substring(0, Math.min(200, each.length())) + answer);
    }
  }
}
