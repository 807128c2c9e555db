package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.chat.ConversationFile;
import dev.sluice.chat.Message;
import dev.sluice.files.DirectoryLock;
import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Conversations with a model that answers nonsense, over a pipe.
class ChatTest {
  private static final String TEMPLATE =
      """
      {%- for m in messages %}{{ m.role }}: {{ m.content }}<|endoftext|>{% endfor %}
      {%- if add_generation_prompt %}assistant: {% endif %}\
      """;

  private static final int THOUGHTS = 385;
  private static final int THOUGHTS_END = 386;
  private static final int TURN = 387;

  @TempDir static Path folder;
  @TempDir Path session;

  private static Path run;
  private static Path template;

  private final java.io.InputStream input = System.in;

  @BeforeAll
  static void train() throws Exception {
    run = folder.resolve("run");
    template = Files.writeString(folder.resolve("chat.jinja"), TEMPLATE);
    Path text = Cli.text(folder.resolve("log.txt"));
    Cli.run(Cli.tiny(text, run, "--tokenizer", tokenizer(), "--context", 128, "--sample-tokens", 0))
        .succeeded();
  }

  /// The small tokenizer of other tests with the tokens that a template has.
  private static Path tokenizer() throws Exception {
    String file =
        Files.readString(Path.of("src/test/resources/dev/sluice/tokenizer/tokenizer.json"));
    int end = file.indexOf(']', file.indexOf("\"added_tokens\""));
    String entry =
        ",{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
            + "\"normalized\":false,\"special\":%b}";
    return Files.writeString(
        folder.resolve("tokenizer.json"),
        file.substring(0, end)
            + entry.formatted(THOUGHTS, "<think>", false)
            + entry.formatted(THOUGHTS_END, "</think>", false)
            + entry.formatted(TURN, "<|turn|>", true)
            + file.substring(end));
  }

  @AfterEach
  void restore() {
    System.setIn(input);
  }

  private static Cli.Answer chat(String lines, Object... more) {
    System.setIn(new ByteArrayInputStream(lines.getBytes(StandardCharsets.UTF_8)));
    List<Object> arguments =
        new ArrayList<>(List.of("chat", run, "--max-tokens", 3, "--temperature", 0));
    arguments.addAll(List.of(more));
    return Cli.run(arguments.toArray());
  }

  private Cli.Answer chatHere(String lines, Object... more) {
    List<Object> arguments =
        new ArrayList<>(List.of("--chat-template", template, "--session", session));
    arguments.addAll(List.of(more));
    return chat(lines, arguments.toArray());
  }

  private List<Message> held() {
    return ConversationFile.read(session.resolve("conversation.json")).messages();
  }

  @Test
  void aConversationIsKeptAndGoesOn() {
    var first = chatHere("the whale\n", "--system", "be brief").succeeded();
    var messages = held();
    assertEquals(3, messages.size(), first::toString);
    assertEquals(new Message(Message.Role.SYSTEM, "be brief"), messages.get(0));
    assertEquals(new Message(Message.Role.USER, "the whale"), messages.get(1));
    assertEquals(messages.get(2).content() + "\n", first.out());
    assertTrue(first.err().contains("3 tokens"), first::toString);
    var second = chatHere("\n\"\"\"so\nit \"\"\" was\"\"\" \n//help\n").succeeded();
    assertTrue(second.err().contains("goes on after 3 messages"), second::toString);
    assertEquals(7, held().size());
    assertEquals("so\nit \"\"\" was", held().get(3).content());
    assertEquals("/help", held().get(5).content());
    assertFalse(second.err().contains("/undo"), second::toString);
    chatHere("  indented \n").succeeded();
    assertEquals("  indented ", held().get(7).content());
  }

  @Test
  void linesThatBeginWithASlashAreCommands() {
    var talk =
        chatHere(
                """
                /help
                /undo
                one
                /again
                two
                /undo
                /system be kind
                /thinking perhaps
                /thinking off
                /nonsense
                /show
                /exit
                three
                """)
            .succeeded();
    for (String said :
        List.of(
            "/undo            takes",
            "no message to take back",
            "Took back: two",
            "followed by on or off",
            "does not ask whether the model is to think",
            "There is no /nonsense",
            "[system] be kind",
            "[user] one")) {
      assertTrue(talk.err().contains(said), said + " in " + talk);
    }
    assertEquals(3, held().size());
    assertEquals(new Message(Message.Role.SYSTEM, "be kind"), held().getFirst());
    chatHere("/new\n").succeeded();
    assertEquals(1, held().size());
  }

  @Test
  void answersMayBeJson() throws Exception {
    Path schema = Files.writeString(folder.resolve("twelve.json"), "{\"const\": 12}");
    var talk = chatHere("one\ntwo\n", "--json-schema", schema).succeeded();
    // Three tokens may end before the number does; the model would begin with none by itself.
    var answers = talk.out().lines().map(String::strip).filter(line -> !line.isEmpty()).toList();
    assertFalse(answers.isEmpty());
    assertTrue(answers.stream().allMatch("12"::startsWith), talk::out);
    var both = chatHere("one\n", "--json-object", "--json-schema", schema).refusal();
    assertTrue(both.contains("only one of them"), both);
  }

  /// JSON begins behind thoughts, whoever begins and ends them, and never within.
  @Test
  void jsonBeginsBehindThoughts() throws Exception {
    Path thinking =
        Files.writeString(
            folder.resolve("thinking.jinja"),
            TEMPLATE
                + "{% if enable_thinking is defined %}<think>\n"
                + "{% if not enable_thinking %}\n</think>\n\n{% endif %}{% endif %}");
    Path schema = Files.writeString(folder.resolve("twelve.json"), "{\"const\": 12}");
    // Of all tokens the model is made to like the end of thoughts best, and then their beginning.
    Object[] arguments = {
      "chat",
      run,
      "--chat-template",
      thinking,
      "--json-schema",
      schema,
      "--temperature",
      0,
      "--logit-bias",
      THOUGHTS_END + "=90",
      "--logit-bias",
      THOUGHTS + "=80",
      "--max-tokens",
      8
    };
    System.setIn(
        new ByteArrayInputStream(
            "begun by the model\n/thinking on\nopen\n/thinking off\nended\n"
                .getBytes(StandardCharsets.UTF_8)));
    var talk = Cli.run(arguments).succeeded();
    assertEquals(
        List.of("12", "12", "12"),
        talk.out().lines().map(String::strip).filter(line -> !line.isEmpty()).toList(),
        talk::toString);
    assertFalse(talk.err().contains("not complete"), talk::toString);

    System.setIn(new ByteArrayInputStream("short\n".getBytes(StandardCharsets.UTF_8)));
    arguments[arguments.length - 1] = 2;
    var cut = Cli.run(arguments).succeeded();
    assertTrue(cut.err().contains("The JSON is not complete"), cut::toString);
  }

  /// A control token that a model writes within its answer is not text.
  @Test
  void controlTokensAreNotText() {
    var talk = chatHere("one\n", "--logit-bias", TURN + "=90").succeeded();
    assertTrue(talk.err().contains("3 tokens"), talk::toString);
    assertEquals("", talk.out().strip(), talk::toString);
    assertFalse(talk.err().contains("turn|"), talk::toString);
    var text =
        Cli.run("generate", run, "--prompt", "a", "--max-tokens", 3, "--logit-bias", TURN + "=90");
    assertEquals("a\n", text.succeeded().out());
  }

  /// A model takes up again where it was, also after a restart, and says so.
  @Test
  void whatWasReadIsNotReadAgain() throws Exception {
    var first = chatHere("the whale\n", "--save-cache").succeeded();
    assertTrue(first.err().contains(", 0 of them not read again"), first::toString);
    var second = chatHere("so\n", "--save-cache").succeeded();
    assertFalse(second.err().contains(", 0 of them not read again"), second::toString);
    // What was kept in another type is not taken up.
    var rounded = chatHere("and\n", "--save-cache", "--kv-cache", "bfloat16").succeeded();
    assertTrue(rounded.err().contains(", 0 of them not read again"), rounded::toString);
    assertTrue(rounded.err().contains("Conversations are read anew"), rounded::toString);
    var again = chatHere("on\n", "--save-cache", "--kv-cache", "bfloat16").succeeded();
    assertFalse(again.err().contains(", 0 of them not read again"), again::toString);
    Path cache = session.resolve("read.cache");
    byte[] bytes = Files.readAllBytes(cache);
    bytes[bytes.length / 2] ^= 1;
    Files.write(cache, bytes);
    var third = chatHere("ends\nnaught\n").succeeded();
    assertTrue(third.err().contains("read.cache"), third::toString);
    assertTrue(third.err().contains("Conversations are read anew."), third::toString);
    assertEquals(1, third.err().split(", 0 of them not read again", -1).length - 1);
    assertTrue(chat("", "--save-cache").refusal().contains("--session"));
    Files.writeString(cache, "a letter");
    assertTrue(chatHere("", "--save-cache").refusal().contains("something else"));
    assertEquals("a letter", Files.readString(cache));
  }

  /// The context is 128 tokens.
  @Test
  void aConversationThatIsTooLongIsRefusedAndNotKept() {
    var talk = chatHere("one\n" + "whale ".repeat(100) + "\ntwo\n");
    assertEquals(Main.BAD_INPUT, talk.code(), talk::toString);
    assertTrue(talk.err().contains("there is room for 128"), talk::toString);
    assertEquals(
        List.of("one", "two"),
        held().stream()
            .filter(message -> message.role() == Message.Role.USER)
            .map(Message::content)
            .toList());
  }

  @Test
  void anAnswerThatCannotComeAgainStays() {
    chatHere("one\n").succeeded();
    var answered = held();
    var talk = chatHere("/system " + "whale ".repeat(100) + "\n/again\n/system\n");
    assertTrue(talk.err().contains("The answer of before stays."), talk::toString);
    assertEquals(answered, held());
  }

  /// What the model's makers suggest is taken and said, or refused.
  @Test
  void answersAreDrawnAsTheModelsFilesSay() throws Exception {
    Path model = session.resolve("model");
    Path checkpoint;
    try (var found = Files.list(run.resolve("checkpoints"))) {
      checkpoint = found.sorted().toList().getLast();
    }
    Cli.copy(checkpoint, model);
    Files.writeString(model.resolve("chat_template.jinja"), TEMPLATE);
    Path file = model.resolve("generation_config.json");
    Files.writeString(
        file,
        "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95,"
            + " \"repetition_penalty\": 1.05, \"eos_token_id\": 384,"
            + " \"suppress_tokens\": [7], \"bad_words_ids\": null}");
    System.setIn(new ByteArrayInputStream(new byte[0]));
    var said = Cli.run("chat", model, "--min-p", 0.1).succeeded();
    assertTrue(
        said.err()
            .contains(
                "temperature 0.6, top-k 20, top-p 0.95, min-p 0.1, repetition penalty 1.05 (where"
                    + " nothing was said, as generation_config.json says)"),
        said::toString);
    assertTrue(
        said.err().contains(file + " also says suppress_tokens, which is not followed"),
        said::toString);
    for (String bad :
        List.of(
            "{\"do_sample\": \"yes\"}",
            "{\"do_sample\": true, \"top_k\": 2.5}",
            "{\"do_sample\": true, \"top_k\": 1e30}",
            "{\"do_sample\": true, \"temperature\": -1}",
            "{\"do_sample\": true, \"top_p\": \"high\"}")) {
      Files.writeString(file, bad);
      assertTrue(Cli.run("chat", model).refusal().contains(file.toString()), bad);
    }
  }

  @Test
  void whatIsWrongIsSaid() throws Exception {
    assertTrue(chat("one\n").refusal().contains("has no chat template"));
    assertTrue(chatHere("", "--max-tokens", 0).refusal().contains("--max-tokens"));
    var lock = Cli.ofAnother(() -> DirectoryLock.own(session, "a chat"));
    try {
      assertTrue(chatHere("one\n").refusal().contains(session.toString()));
    } finally {
      lock.close();
    }
    Path file = session.resolve("conversation.json");
    for (String bad :
        List.of(
            "[]",
            "{}",
            "{\"messages\": [1]}",
            "{\"messages\": [{\"role\": \"god\", \"content\": \"\"}]}",
            "{\"messages\": [{\"role\": \"user\"}]}",
            "{\"messages\": [{\"role\": \"user\", \"content\": 7}]}",
            "{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"system\","
                + " \"content\": \"\"}]}",
            "{\"messages\": [")) {
      Files.writeString(file, bad);
      assertTrue(chatHere("one\n").refusal().contains("conversation.json"), bad);
      assertEquals(bad, Files.readString(file));
    }
  }
}
