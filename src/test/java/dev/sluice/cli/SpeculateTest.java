package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

/// `--speculate` of `generate` and `chat`.
class SpeculateTest {
  private static final Path MODEL = Path.of("src/test/resources/mtp/checkpoint");

  private static Cli.Answer run(Object... arguments) {
    return Cli.run(arguments);
  }

  private static Object[] with(Object[] arguments, Object... more) {
    List<Object> all = new ArrayList<>(Arrays.asList(arguments));
    all.addAll(Arrays.asList(more));
    return all.toArray();
  }

  @Test
  void textIsTheSameAndDraftsAreCounted(@TempDir Path directory) throws IOException {
    var arguments =
        new Object[] {"generate", MODEL, "--prompt", "Call", "--max-tokens", 30, "--device", "cpu"};
    var plain = run(arguments).succeeded();
    Path json = directory.resolve("texts.json");
    var drafting = run(with(arguments, "--speculate", "mtp", "--json", json)).succeeded();
    assertEquals(plain.out(), drafting.out());
    var result = new JsonMapper().readTree(json);
    int drafted = result.path("drafted").intValue();
    assertTrue(drafted >= 14 && drafted < 29, "29 tokens after the first from " + drafted);
    String said =
        ", %d of %d drafts accepted.".formatted(result.path("accepted").intValue(), drafted);
    assertTrue(drafting.err().contains(said), drafting::toString);
    assertTrue(plain.err().contains("are not read"), plain::toString);
    assertTrue(!plain.err().contains("draft"), plain::toString);
    assertEquals(
        plain.out(),
        run(with(arguments, "--speculate", "mtp", "--weights", "f16")).succeeded().out());
  }

  /// Rounded keys give other numbers, the same with drafts as without.
  @Test
  void keysAndValuesInBfloat16(@TempDir Path directory) throws IOException {
    Path json = directory.resolve("texts.json");
    var arguments =
        new Object[] {
          "generate",
          MODEL,
          "--prompt",
          "Call",
          "--max-tokens",
          30,
          "--device",
          "cpu",
          "--json",
          json
        };
    List<String> logprobs = new ArrayList<>();
    for (Object[] each :
        List.of(
            arguments,
            with(arguments, "--kv-cache", "bfloat16"),
            with(arguments, "--kv-cache", "bf16", "--speculate", "mtp"))) {
      run(each).succeeded();
      logprobs.add(new JsonMapper().readTree(json).findValues("logprob").toString());
    }
    assertTrue(logprobs.getFirst().length() > 100, logprobs::toString);
    assertNotEquals(logprobs.getFirst(), logprobs.get(1));
    assertEquals(logprobs.get(1), logprobs.getLast());
  }

  @Test
  void answersSayHowManyDraftsWereRight(@TempDir Path directory) throws IOException {
    Path template = directory.resolve("template");
    Files.writeString(template, "{% for message in messages %}{{ message.content }}{% endfor %}");
    var arguments =
        new Object[] {
          "chat", MODEL, "--chat-template", template, "--max-tokens", 9, "--device", "cpu"
        };
    InputStream before = System.in;
    try {
      List<String> answers = new ArrayList<>();
      for (Object[] each : List.of(arguments, with(arguments, "--speculate", "mtp"))) {
        System.setIn(new ByteArrayInputStream("one\ntwo\n".getBytes(StandardCharsets.UTF_8)));
        var talk = run(each).succeeded();
        answers.add(talk.out());
        int lines = talk.err().split(" drafts accepted; ", -1).length - 1;
        assertEquals(each.length > arguments.length ? 2 : 0, lines, talk::toString);
      }
      assertEquals(answers.getFirst(), answers.getLast());
    } finally {
      System.setIn(before);
    }
  }

  @Test
  void whatCannotBeIsOneSentence() {
    String refusal = run("generate", MODEL, "--speculate", "ngram").refusal();
    assertTrue(refusal.contains("ngram is unknown; mtp is the one there is"), refusal);
    refusal =
        run("generate", MODEL, "--speculate", "mtp", "--sequences", 2, "--temperature", 1)
            .refusal();
    assertTrue(refusal.contains("--speculate is for one text"), refusal);
  }
}
