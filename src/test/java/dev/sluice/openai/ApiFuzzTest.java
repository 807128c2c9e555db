package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import dev.sluice.fuzz.Fuzz;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// Requests over HTTP that are nearly right.
class ApiFuzzTest {
  private static final String WHALE =
      "{\"messages\":[{\"role\":\"user\",\"content\":\"the whale\"}]";

  /// Java's memory that a request may take, with the client's and the test's own.
  private static final long MOST_BYTES = 256L << 20;

  /// Requests of which one is broken off by its client.
  private static final int BROKEN_OFF = 20;

  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

  @TempDir private Path directory;

  private static String with(String begun, String... fields) {
    return begun + "," + String.join(",", fields) + "}";
  }

  /// @param path that it is for
  private record Begun(String path, String body) {}

  private static Begun chat(String... fields) {
    return new Begun("/v1/chat/completions", with(WHALE, fields));
  }

  private static final List<Begun> BEGUN =
      List.of(
          chat("\"max_tokens\":2", "\"stop\":[\"a\"]", "\"n\":2", "\"seed\":3"),
          chat(
              "\"max_tokens\":2",
              "\"stream\":true",
              "\"logprobs\":true",
              "\"top_logprobs\":3",
              "\"sluice_watch\":true"),
          chat(
              "\"max_tokens\":2",
              "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"string\",\"pattern\":\"^(a+)+$\",\"maxLength\":3}}}"),
          chat(
              "\"max_tokens\":2",
              "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]",
              "\"logit_bias\":{\"5\":1}"),
          new Begun(
              "/v1/completions",
              "{\"prompt\":[\"a\",[1,2]],\"max_tokens\":2,\"echo\":true,\"top_p\":0.5}"),
          new Begun(
              "/v1/responses",
              "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"a\"}]},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"b\"}],\"max_output_tokens\":2,\"stream\":true}"),
          new Begun(
              "/v1/responses",
              "{\"input\":\"a\",\"instructions\":\"b\",\"max_output_tokens\":2,\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":{}}],\"text\":{\"format\":{\"type\":\"text\"}},\"reasoning\":{\"effort\":\"low\"}}"),
          new Begun("/tokenize", "{\"content\":\"the whale\"}"),
          new Begun("/detokenize", "{\"tokens\":[1,2,3]}"));

  private static final List<String> PIECES =
      List.of(
          "null",
          "-1",
          "1e400",
          "\"\\ud800\"",
          "[",
          "}",
          "{}",
          "\"\"",
          "\\",
          "\u0000",
          "0.5",
          "true",
          "99999999999999999999",
          "2000000000",
          "\"<|im_end|>\"",
          "{{ 7 }}",
          "{% for %}",
          ",",
          "[[[]]]",
          "\"a\":",
          "é");

  /// What stands in the place of a value.
  private static final List<String> VALUES =
      List.of(
          "null",
          "true",
          "0",
          "-1",
          "1",
          "0.5",
          "1e30",
          "2147483648",
          "9223372036854775808",
          "\"\"",
          "\"a\"",
          "\"\ud800\"",
          "\"{{ 7 }}{% if %}\"",
          "\"<|im_end|><think></tool_call>\"",
          "[]",
          "{}",
          "[[]]",
          "[null]",
          "{\"\":{}}",
          "{\"type\":\"string\",\"pattern\":\"^(a|b|ab)*c{2,9}$\"}",
          "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}",
          "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
          "{\"role\":\"assistant\",\"content\":\"b\"}",
          "{\"5\":1}");

  /// Bodies that are nearly right, and some that are not: each is answered, none as a fault, none
  /// with anything of the program's inside, none with more memory than a request may take.
  @Test
  void brokenRequestsAreRefused() throws Exception {
    try (var test = new TestServer(directory);
        var server = test.server(test.engine(6, 20, 256, null), null, TestServer.limits())) {
      broken(test, server);
      assertEquals(0, server.faults());
      assertEquals(List.of(), List.copyOf(test.faults));
    }
  }

  private static void broken(TestServer test, ApiServer server) throws Exception {
    var random = new SplittableRandom(1);
    Map<Integer, Integer> answers = new TreeMap<>();
    long most = 0;
    for (int i = 0; i < Fuzz.inputs(); i++) {
      var begun = BEGUN.get(random.nextInt(BEGUN.size()));
      String body = random.nextBoolean() ? torn(begun.body, random) : changed(begun.body, random);
      String path = begun.path;
      if (random.nextInt(BROKEN_OFF) == 0) {
        breakOff(server, path, body, random);
        continue;
      }
      boolean isLost = random.nextInt(BROKEN_OFF) == 0;
      if (isLost) {
        int at = 1 + random.nextInt(path.length());
        path = path.substring(0, at) + "%41" + path.substring(at);
      }
      long allocated = THREADS.getTotalThreadAllocatedBytes();
      var answer = test.post(server, path, body);
      long took = THREADS.getTotalThreadAllocatedBytes() - allocated;
      most = Math.max(most, took);
      assertTrue(took < MOST_BYTES, () -> body + " took %d bytes".formatted(took));
      assertTrue(
          (isLost ? Set.of(404, 405) : Set.of(200, 400)).contains(answer.statusCode()),
          () -> body + " → " + answer.body());
      assertFalse(answer.body().contains("\tat "), answer::body);
      assertFalse(answer.body().contains("Exception"), answer::body);
      answers.merge(answer.statusCode(), 1, Integer::sum);
    }
    System.out.printf("answers by status %s, at most %d bytes each%n", answers, most);
    assertTrue(answers.getOrDefault(200, 0) > 0 && answers.getOrDefault(400, 0) > 0);
  }

  /// Pieces of the text are others.
  private static String torn(String body, SplittableRandom random) {
    var torn = new StringBuilder(body);
    for (int change = random.nextInt(3); change >= 0; change--) {
      int at = random.nextInt(torn.length());
      int length = Math.min(torn.length() - at, random.nextInt(8));
      torn.replace(at, at + length, PIECES.get(random.nextInt(PIECES.size())));
    }
    return torn.toString();
  }

  /// JSON as it was, but for one value, which is another one, absent, or there twice.
  private static String changed(String body, SplittableRandom random) {
    var root = TestServer.JSON.readTree(body);
    var parents = new ArrayList<JsonNode>();
    collect(root, parents);
    var parent = parents.get(random.nextInt(parents.size()));
    var value = TestServer.JSON.readTree(VALUES.get(random.nextInt(VALUES.size())));
    switch (parent) {
      case ObjectNode object -> {
        var names = List.copyOf(object.propertyNames());
        String name = names.get(random.nextInt(names.size()));
        switch (random.nextInt(4)) {
          case 0 -> object.remove(name);
          case 1 -> object.set(name, root.deepCopy());
          default -> object.set(name, value);
        }
      }
      case ArrayNode array -> {
        int at = random.nextInt(array.size());
        switch (random.nextInt(4)) {
          case 0 -> array.remove(at);
          case 1 -> array.add(array.get(at).deepCopy());
          default -> array.set(at, value);
        }
      }
      default -> throw new AssertionError(parent);
    }
    return root.toString();
  }

  /// Objects and lists that have something.
  private static void collect(JsonNode node, List<JsonNode> into) {
    if (node.isContainer() && !node.isEmpty()) {
      into.add(node);
      node.forEach(each -> collect(each, into));
    }
  }

  /// A client that goes in the middle of its request, or with its answer under way.
  private static void breakOff(ApiServer server, String path, String body, SplittableRandom random)
      throws IOException {
    byte[] bytes = body.getBytes(StandardCharsets.UTF_8);
    String head =
        "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            .formatted(path, bytes.length);
    try (var socket = new Socket("127.0.0.1", server.address().getPort())) {
      var out = socket.getOutputStream();
      out.write(head.getBytes(StandardCharsets.US_ASCII));
      out.write(bytes, 0, random.nextInt(bytes.length + 1));
      out.flush();
    }
  }
}
