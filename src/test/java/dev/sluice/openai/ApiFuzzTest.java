package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.fuzz.Fuzz;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Requests over HTTP that are nearly right.
class ApiFuzzTest {
  private static final String CHAT = "/v1/chat/completions";
  private static final String COMPLETIONS = "/v1/completions";
  private static final String WHALE =
      "{\"messages\":[{\"role\":\"user\",\"content\":\"the whale\"}]";

  @TempDir private Path directory;

  private static String with(String begun, String... fields) {
    return begun + "," + String.join(",", fields) + "}";
  }

  /// Bodies that are nearly right, and some that are not: each is answered, none as a fault, and
  /// none with anything of the program's inside.
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
    String[] begun = {
      with(WHALE, "\"max_tokens\":2", "\"stop\":[\"a\"]", "\"n\":2", "\"seed\":3"),
      with(WHALE, "\"max_tokens\":2", "\"stream\":true", "\"logprobs\":true", "\"top_logprobs\":3"),
      with(
          WHALE,
          "\"max_tokens\":2",
          "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"string\",\"pattern\":\"^(a+)+$\",\"maxLength\":3}}}"),
      with(
          WHALE,
          "\"max_tokens\":2",
          "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}]",
          "\"logit_bias\":{\"5\":1}"),
      "{\"prompt\":[\"a\",[1,2]],\"max_tokens\":2,\"echo\":true,\"top_p\":0.5}",
    };
    String[] pieces = {
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
      "\"<|im_end|>\"",
      ",",
      "[[[]]]",
      "é"
    };
    for (int i = 0; i < Fuzz.inputs() / 2; i++) {
      int which = random.nextInt(begun.length);
      var body = new StringBuilder(begun[which]);
      for (int change = random.nextInt(3); change >= 0; change--) {
        int at = random.nextInt(body.length());
        int length = Math.min(body.length() - at, random.nextInt(8));
        body.replace(at, at + length, pieces[random.nextInt(pieces.length)]);
      }
      String path = which == begun.length - 1 ? COMPLETIONS : CHAT;
      var answer = test.post(server, path, body.toString());
      assertTrue(
          Set.of(200, 400).contains(answer.statusCode()), () -> body + " → " + answer.body());
      assertFalse(answer.body().contains("\tat "), answer::body);
      assertFalse(answer.body().contains("Exception"), answer::body);
    }
  }
}
