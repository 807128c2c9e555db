package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Files and texts that the library breaks down on, and the process that breaks down instead of
/// this one.
@EnabledOnOs(OS.LINUX)
@Execution(ExecutionMode.CONCURRENT)
class LibraryProcessTest {
  private static final Path FOLDER = Path.of("src/test/resources/dev/sluice/tokenizer");

  /// Reads `a` and `b`; %s are its normalizer, pre-tokenizer and model.
  private static final String FILE =
      """
      {"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
       "normalizer": %s, "pre_tokenizer": %s, "post_processor": null, "decoder": null,
       "model": %s}\
      """;

  private static final String WORDS =
      """
      {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "a": 1, "b": 2}}\
      """;

  /// Makes 1,000 b's of an a, and of each of these again: a million for every a.
  private static final String GROWS =
      """
      {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "%1$s"},
        {"type": "Replace", "pattern": {"String": "b"}, "content": "%1$s"}]}\
      """
          .formatted("b".repeat(1000));

  private static final Path NAME = Path.of("there", "tokenizer.json");

  @TempDir private Path folder;

  private static String file(String normalizer, String preTokenizer, String model) {
    return FILE.formatted(normalizer, preTokenizer, model);
  }

  private static String split(String regex) {
    return """
    {"type": "Split", "pattern": {"Regex": "%s"}, "behavior": "Isolated", "invert": false}\
    """
        .formatted(regex);
  }

  private static HuggingFaceTokenizer load(String json, LibraryProcess.Limits limits) {
    return load(json, limits, LibraryProcess.start(limits));
  }

  private static HuggingFaceTokenizer load(
      String json, LibraryProcess.Limits limits, LibraryProcess process) {
    var file = TokenizerFile.of(NAME, json.getBytes(StandardCharsets.UTF_8));
    return HuggingFaceTokenizer.load(file, EndToken.of(file, null), limits, process);
  }

  private static HuggingFaceTokenizer load(String json) {
    return load(json, LibraryProcess.Limits.USUAL);
  }

  private static String complaint(Callable<?> call) {
    var e = assertThrows(InvalidInputException.class, call::call);
    String message = e.getMessage();
    assertTrue(message.startsWith(NAME + " "), message);
    assertFalse(message.chars().anyMatch(Character::isISOControl), message);
    return message;
  }

  /// The charsmap makes the library panic, the parentheses overflow its stack.
  @Test
  void aFileThatTheLibraryBreaksDownOnIsRefused() {
    String charsmap =
        """
        {"type": "Precompiled", "precompiled_charsmap": "AAAA"}\
        """;
    assertEquals(
        NAME
            + " is not a usable Hugging Face tokenizer: on reading it the library broke down:"
            + " Precompiled: Error(\"Cannot parse precompiled_charsmap\", line: 0, column: 0);"
            + " fetch the model's tokenizer.json again, or use another",
        complaint(() -> load(file(charsmap, "null", WORDS))));
    String deep = "(".repeat(3000) + "a" + ")".repeat(3000);
    String message = complaint(() -> load(file("null", split(deep), WORDS)));
    assertTrue(message.contains("the library broke down with signal "), message);
  }

  @Test
  void afterATextThatTheLibraryBreaksDownOnTheNextIsEncoded() {
    try (var tokenizer = load(file("null", split("(a+)+$"), WORDS))) {
      String message = complaint(() -> tokenizer.encode("a".repeat(45) + "b"));
      assertTrue(
          message.startsWith(NAME + " cannot encode the text that begins with 'aaaaaa")
              && message.contains("retry-limit-in-match over; use another tokenizer.json, or "),
          message);
      assertArrayEquals(new int[] {1}, tokenizer.encode("a"));
    }
  }

  @Test
  void whatTheLibraryRefusesIsSaidInTheFilesWords() {
    String model =
        """
        {"type": "WordLevel", "unk_token": "<none>", "vocab": {"a": 0}}\
        """;
    try (var tokenizer = load(file("null", "null", model))) {
      String message = complaint(() -> tokenizer.encode("zebra"));
      assertTrue(message.contains("'zebra': WordLevel error: Missing [UNK] token"), message);
      assertArrayEquals(new int[] {0}, tokenizer.encode("a"));
    }
    String nested =
        """
        {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Words"}]}\
        """;
    String message = complaint(() -> load(file("null", nested, WORDS)));
    assertTrue(message.contains("its pre_tokenizer has the type 'Words'; known are Bert"), message);
    message = complaint(() -> load(file("{\"content\": 3}", "null", WORDS)));
    assertTrue(
        message.contains(
            "a key of its normalizer is missing, or its value is of the wrong kind:"
                + " {\"content\":3}"),
        message);
    message =
        complaint(() -> load(file("null", "null", "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}}")));
    assertTrue(message.contains("the tokenizers library says 'Missing vocab/merges"), message);
  }

  @Test
  void memoryIsBounded() {
    try (var tokenizer = load(file(GROWS, "null", WORDS), new LibraryProcess.Limits(500, 60))) {
      String message = complaint(() -> tokenizer.encode("a".repeat(300)));
      assertTrue(
          message.contains("it needs more memory than the 500 MB that it may have"), message);
    }
  }

  @Test
  void timeIsBounded() {
    var limits = new LibraryProcess.Limits(4096, 1);
    try (var tokenizer = load(file(GROWS, "null", WORDS), limits)) {
      String message = complaint(() -> tokenizer.encode("a".repeat(200)));
      assertTrue(message.contains("it did not end within 1 seconds of computing"), message);
      assertArrayEquals(new int[] {0}, tokenizer.encode("c"));
    }
  }

  /// Trees of such depth overflow the stack when they are freed.
  @Test
  void aGiantTokenIsATokenLikeAnyOther() {
    String giant = "a".repeat(120_000);
    String model =
        """
        {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["%s", -1.5], ["b", -2]]}\
        """
            .formatted(giant);
    try (var tokenizer = load(file("null", "null", model))) {
      assertArrayEquals(new int[] {2}, tokenizer.encode("b"));
      assertTrue(tokenizer.decode(new int[] {1, 2}).equals(giant + " b"));
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{'a': 0, 'b': 2000000000} | 'b' has the id 2000000000 among only 2 tokens",
        "{'a': 0, 'b': 1e3} | the id of the token 'b' is 1e3 and not a whole number",
        "{'a': 0, 'b': '1'} | the id of the token 'b' is '1' and not a whole number",
        "{'a': 0, 'b': {}} | the id of the token 'b' is an object and not a whole number",
        "{'a': 0, 'b': -1} | the id of the token 'b' is -1",
        "{'a': 0, 'b': 99999999999999999999} | the id of the token 'b' is 99999999999999999999",
        "{'a': 0, 'b': 0} | the tokens 'a' and 'b' have the same id 0",
        "{'a': 0, 'a': 1} | the key 'a' is given twice",
        "{} | it lists no tokens",
        "7 | model.vocab is 7",
        "[['a', 0], 'b'] | entry 1 of model.vocab is 'b'",
        "[['a', 0], ['b', null]] | entry 1 of model.vocab has null for the score",
        "[['a', 0], ['b']] | entry 1 of model.vocab has a list for the score",
      })
  void idsAreSuchAsAModelCanHave(String vocabulary, String complaint) {
    String model = "{\"type\": \"WordLevel\", \"unk_token\": \"a\", \"vocab\": %s}";
    String json = file("null", "null", model.formatted(vocabulary.replace('\'', '"')));
    String message = complaint(() -> TokenizerFile.of(NAME, json.getBytes(StandardCharsets.UTF_8)));
    assertTrue(message.contains(complaint), message);
  }

  /// An added token that the vocabulary lacks follows it, whatever id the file gives: the ids are
  /// those of the Python library on this file.
  @Test
  void addedTokensAreNumberedAsTheLibraryDoes() {
    String added =
        """
        [{"id": 9, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": true},
         {"id": 1, "content": "a", "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": false},
         {"id": 4, "content": "<y>", "single_word": false, "lstrip": false, "rstrip": false,
          "normalized": false, "special": true}]\
        """;
    String json =
        file("null", "null", WORDS).replace("\"added_tokens\": []", "\"added_tokens\": " + added);
    try (var tokenizer = load(json)) {
      assertArrayEquals(new int[] {3, 1, 4, 2}, tokenizer.encode("<x>a<y>b"));
      assertEquals(5, tokenizer.vocabularySize());
    }
  }

  @Test
  void aProcessThatWasKilledIsReplaced() throws Exception {
    var limits = LibraryProcess.Limits.USUAL;
    var process = LibraryProcess.start(limits);
    try (var tokenizer = load(file("null", "null", WORDS), limits, process)) {
      assertArrayEquals(new int[] {1}, tokenizer.encode("a"));
      kill("-KILL", process.pid());
      long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
      while (process.isAlive()) { // the system knows of its end before Java does
        assertTrue(System.nanoTime() < deadline, "it lives on");
        Thread.sleep(1);
      }
      assertArrayEquals(new int[] {2}, tokenizer.encode("b"));
    }
  }

  @Test
  void aProcessThatIsKilledAtWorkIsAnErrorThatNamesTheSignal() throws Exception {
    var limits = new LibraryProcess.Limits(4096, 600);
    var process = LibraryProcess.start(limits);
    try (var tokenizer = load(file(GROWS, "null", WORDS), limits, process)) {
      var killer =
          new Thread(
              () -> {
                try {
                  Thread.sleep(300);
                  kill("-KILL", process.pid());
                } catch (Exception e) {
                  throw new AssertionError(e);
                }
              });
      killer.start();
      String message = complaint(() -> tokenizer.encode("a".repeat(500)));
      killer.join();
      assertTrue(message.contains("signal 9 (killed from outside"), message);
    }
  }

  /// A terminal sends these to all processes at once, and the owner may still have work to do.
  @ParameterizedTest
  @ValueSource(strings = {"-INT", "-TERM", "-HUP", "-QUIT"})
  void signalsToAllAreItsOwnersToHandle(String signal) throws Exception {
    var limits = LibraryProcess.Limits.USUAL;
    var process = LibraryProcess.start(limits);
    try (var tokenizer = load(file("null", "null", WORDS), limits, process)) {
      kill(signal, process.pid());
      Thread.sleep(100);
      assertArrayEquals(new int[] {1}, tokenizer.encode("a"));
      assertTrue(process.isAlive());
    }
  }

  private static void kill(String signal, long pid) throws Exception {
    assertEquals(0, new ProcessBuilder("kill", signal, String.valueOf(pid)).start().waitFor());
  }

  private static void awaitEnd(long pid) throws Exception {
    var process = ProcessHandle.of(pid);
    if (process.isPresent()) {
      process.get().onExit().get(30, TimeUnit.SECONDS);
    }
  }

  /// Whether it waits for requests or is deep in one.
  @ParameterizedTest
  @ValueSource(ints = {0, 500})
  void itEndsWithItsOwnerHoweverThatEnds(int letters) throws Exception {
    Path file = folder.resolve("tokenizer.json");
    Files.writeString(file, file(GROWS, "null", WORDS));
    var owner =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-cp",
                System.getProperty("java.class.path"),
                Owner.class.getName(),
                file.toString(),
                "a".repeat(letters))
            .redirectErrorStream(true)
            .start();
    try (var said = owner.inputReader()) {
      assertEquals("loaded", said.readLine());
      List<ProcessHandle> children = owner.children().toList();
      assertEquals(1, children.size());
      Thread.sleep(300); // it is at work now
      assertTrue(children.getFirst().isAlive());
      owner.destroyForcibly().waitFor();
      awaitEnd(children.getFirst().pid());
    }
  }

  /// Loads a tokenizer and encodes a text.
  static final class Owner {
    private Owner() {}

    public static void main(String[] arguments) throws Exception {
      var tokenizer = Tokenizers.load(arguments[0]);
      System.out.println("loaded");
      var _ = tokenizer.encode(arguments[1]);
      Thread.sleep(60_000);
      System.out.println(tokenizer.describe());
    }
  }

  @Test
  void threadsShareATokenizer() throws Exception {
    var tokenizer = Tokenizers.load(FOLDER.resolve("tokenizer.json").toString());
    List<String> texts = new ArrayList<>();
    List<int[]> expected = new ArrayList<>();
    for (int i = 0; i < 200; i++) {
      texts.add("whale number " + i + ", " + "long ".repeat(i));
      expected.add(tokenizer.encode(texts.get(i)));
    }
    try (var threads = Executors.newFixedThreadPool(4)) {
      List<Callable<int[]>> calls = new ArrayList<>();
      texts.forEach(text -> calls.add(() -> tokenizer.encode(text)));
      var results = threads.invokeAll(calls);
      for (int i = 0; i < texts.size(); i++) {
        assertArrayEquals(expected.get(i), results.get(i).get());
        assertEquals(texts.get(i), tokenizer.decode(expected.get(i)));
      }
    }
  }
}
