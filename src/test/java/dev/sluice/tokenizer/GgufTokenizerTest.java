package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufWriter;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.OptionalInt;
import java.util.Set;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

class GgufTokenizerTest {
  /// See `GgufModelTest`.
  private static final Path MINI = TestData.GOLDEN.resolve("gguf/qwen35-mini.gguf");

  private static final JsonNode GOLDEN =
      JsonMapper.shared().readTree(MINI.resolveSibling("qwen35-mini.json").toFile());

  /// How three families cut texts: the `pre_tokenizer` of the `tokenizer.json` that is published
  /// with Step-3.5 (and DeepSeek-V3), with Trinity and with Laguna; and the ids of texts, in the
  /// vocabulary that [#tokensOf] makes of them.
  ///
  /// The ids are those that `llama_tokenize` of llama.cpp v0.5.0 gives for a GGUF file of that
  /// vocabulary. Where a text names a family in `otherInLlamaCpp`, llama.cpp gives others, and the
  /// ids are those of the published file.
  private static final JsonNode SPLITTERS =
      JsonMapper.shared().readTree(MINI.resolveSibling("splitters.json").toFile());

  @TempDir Path directory;

  private static int[] ids(JsonNode list) {
    int[] ids = new int[list.size()];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = list.get(i).asInt();
    }
    return ids;
  }

  @Test
  void idsAreThoseOfTheTokenizersOwnFile() {
    var tokenizer = Tokenizers.load(MINI.toString());

    for (JsonNode each : GOLDEN.get("texts")) {
      assertArrayEquals(
          ids(each.get("ids")), tokenizer.encode(each.get("text").asString()), each::toString);
    }
    assertEquals(296, tokenizer.endOfText()); // <|im_end|>
    assertEquals(OptionalInt.empty(), tokenizer.beginOfText());
    assertEquals(320, tokenizer.vocabularySize());
  }

  /// All that JSON writes in another way, to the byte as a writer of JSON has it.
  @Test
  void tokensAreWrittenAsJsonHasThem() throws IOException {
    List<String> tokens =
        new ArrayList<>(List.of("a", "\"", "\\", "\n\t\r\b\f", "\0\u001f", "é𝄞\u007f"));
    for (int i = 0; i < 1100; i++) {
      tokens.add("w" + i);
    }
    for (var merges : List.of(List.<String>of(), List.of("a \"", "\\ \n\u0001", "é  x"))) {
      Path path =
          write(
              to ->
                  to.text("tokenizer.ggml.model", "gpt2")
                      .text("tokenizer.ggml.pre", "qwen2")
                      .texts("tokenizer.ggml.tokens", tokens)
                      .texts("tokenizer.ggml.merges", merges));
      byte[] bytes;
      try (var file = GgufFile.open(path)) {
        List<byte[]> given = new ArrayList<>();
        bytes = GgufTokenizer.read(file, given::add).bytes();
        assertSame(bytes, given.getFirst());
      }
      var json = JsonMapper.shared().readTree(bytes);
      assertEquals(new String(bytes, StandardCharsets.UTF_8), json.toString());
      List<String> read = new ArrayList<>();
      json.path("model").path("vocab").propertyNames().forEach(read::add);
      assertEquals(tokens, read);
      assertEquals(merges.size(), json.path("model").path("merges").size());
    }
  }

  /// Into a folder and from there into another file: all that it says stays.
  @Test
  void aTokenizerWrittenIsTheTokenizerRead() throws IOException {
    var first = Tokenizers.load(MINI.toString());
    Path folder = Files.createDirectory(directory.resolve("folder"));
    first.write(folder);
    Path again = write(to -> assertEquals(List.of(), GgufTokenizer.write(folder, 330, to)));

    var second = Tokenizers.load(again.toString());
    for (JsonNode each : GOLDEN.get("texts")) {
      String text = each.get("text").asString();
      assertArrayEquals(first.encode(text), second.encode(text));
      assertEquals(first.decode(first.encode(text)), second.decode(second.encode(text)));
    }
    assertEquals(first.endOfText(), second.endOfText());
    try (var before = GgufFile.open(MINI);
        var after = GgufFile.open(again)) {
      assertEquals(
          before.metadata().text("tokenizer.chat_template"),
          after.metadata().text("tokenizer.chat_template"));
      assertEquals(GgufTokenizer.endings(before), GgufTokenizer.endings(after));
      assertEquals(330, after.metadata().texts("tokenizer.ggml.tokens").count());
      long[] types = after.metadata().wholes("tokenizer.ggml.token_type");
      assertEquals(5, types[329]); // filled, since the model has a row for it
    }
  }

  /// Metadata of a small vocabulary: some bytes, one merge, a token for control and one that a user
  /// defined.
  private static void small(GgufWriter to, String pre) {
    to.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", pre);
    to.texts("tokenizer.ggml.tokens", List.of("a", "b", "ab", "<s>", "<u>", "[PAD]"));
    to.wholes("tokenizer.ggml.token_type", new int[] {1, 1, 1, 3, 4, 5});
    to.texts("tokenizer.ggml.merges", List.of("a b"));
  }

  private Path write(Consumer<GgufWriter> metadata) throws IOException {
    Path path = directory.resolve("tokens.gguf");
    var writer = new GgufWriter();
    metadata.accept(writer);
    writer.write(path, List.of(), (_, _) -> {});
    return path;
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"qwen2", "qwen35", "gpt-4o", "llama-bpe", "deepseek-v3", "afmoe", "laguna"})
  void everyWayOfCuttingThatIsKnownIsWrittenAsItIsRead(String pre) throws IOException {
    Path path =
        write(
            to -> {
              small(to, pre);
              to.whole("tokenizer.ggml.bos_token_id", 3).flag("tokenizer.ggml.add_bos_token", true);
              to.whole("tokenizer.ggml.eos_token_id", 4).whole("tokenizer.ggml.eot_token_id", 3);
            });
    var tokenizer = Tokenizers.load(path.toString());
    assertArrayEquals(new int[] {2, 3, 0, 4, 1}, tokenizer.encode("ab<s>a<u>b"));
    assertArrayEquals(new int[] {3, 2}, tokenizer.encodeFramed("ab"));
    assertEquals(5, tokenizer.vocabularySize());
    assertEquals(OptionalInt.of(3), tokenizer.beginOfText());
    assertEquals(4, tokenizer.endOfText());
    try (var file = GgufFile.open(path)) {
      assertEquals(Set.of(3, 4), GgufTokenizer.endings(file));
    }
    tokenizer.write(directory);
    Path again = write(to -> assertEquals(List.of(), GgufTokenizer.write(directory, 6, to)));
    try (var file = GgufFile.open(again)) {
      assertEquals(pre, file.metadata().text("tokenizer.ggml.pre"));
      assertEquals(true, file.metadata().flag("tokenizer.ggml.add_bos_token"));
      assertArrayEquals(
          new long[] {1, 1, 1, 3, 4, 5}, file.metadata().wholes("tokenizer.ggml.token_type"));
      assertEquals(List.of("a b"), file.metadata().texts("tokenizer.ggml.merges").strings());
    }
  }

  /// Every byte, and what pairs of pairs of neighbours in the texts become, wherever a text is not
  /// cut between them.
  private static List<String> tokensOf(JsonNode texts, List<String> merges) {
    Set<String> tokens = new LinkedHashSet<>();
    for (int b = 0; b < 256; b++) {
      tokens.add(String.valueOf(shown(b)));
    }
    Set<String> pairs = new LinkedHashSet<>();
    for (int width : List.of(1, 2)) {
      for (JsonNode each : texts) {
        var bytes = new StringBuilder();
        for (byte b : each.get("text").asString().getBytes(StandardCharsets.UTF_8)) {
          bytes.append(shown(b & 0xFF));
        }
        for (int i = 0; i + 2 * width <= bytes.length(); i++) {
          String left = bytes.substring(i, i + width);
          String right = bytes.substring(i + width, i + 2 * width);
          pairs.add(left + " " + right);
          tokens.add(left + right);
        }
      }
    }
    merges.addAll(pairs);
    return List.copyOf(tokens);
  }

  /// The character that a byte-level vocabulary has for a byte.
  private static char shown(int b) {
    if ((b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD)) {
      return (char) b;
    }
    return (char) (b <= ' ' ? 0x100 + b : b < 0xA1 ? 0x121 + b - 0x7F : 0x143);
  }

  @ParameterizedTest
  @ValueSource(strings = {"deepseek-v3", "afmoe", "laguna"})
  void textsAreCutAsThePublishedTokenizerCutsThem(String pre) throws IOException {
    JsonNode texts = SPLITTERS.get("texts");
    List<String> merges = new ArrayList<>();
    List<String> tokens = tokensOf(texts, merges);
    ObjectNode json = JsonMapper.shared().createObjectNode();
    json.putObject("normalizer").put("type", "Sequence").putArray("normalizers");
    JsonNode splitter = SPLITTERS.get("pre_tokenizers").get(pre);
    json.set("pre_tokenizer", splitter);
    json.set(
        "decoder", splitter.get("pretokenizers").get(splitter.get("pretokenizers").size() - 1));
    ObjectNode model = json.putObject("model").put("type", "BPE");
    ObjectNode vocabulary = model.putObject("vocab");
    tokens.forEach(token -> vocabulary.put(token, vocabulary.size()));
    merges.forEach(model.putArray("merges")::add);
    Path published = directory.resolve("tokenizer.json");
    Files.writeString(published, json.toString());
    Path converted =
        write(to -> assertEquals(List.of(), GgufTokenizer.write(directory, tokens.size(), to)));
    Path made =
        Files.copy(
            write(
                to ->
                    to.text("tokenizer.ggml.model", "gpt2")
                        .text("tokenizer.ggml.pre", pre)
                        .texts("tokenizer.ggml.tokens", tokens)
                        .texts("tokenizer.ggml.merges", merges)),
            directory.resolve("made.gguf"));
    try (var file = GgufFile.open(converted)) {
      assertEquals(pre, file.metadata().text("tokenizer.ggml.pre"));
    }

    for (Path path : List.of(published, converted, made)) {
      var tokenizer = Tokenizers.load(path.toString());
      for (JsonNode each : texts) {
        String text = each.get("text").asString();
        int[] ids = tokenizer.encode(text);
        assertArrayEquals(ids(each.get(pre)), ids, () -> path + ": " + each);
        assertEquals(text, tokenizer.decode(ids));
      }
    }
  }

  /// A begin token that stands in a sequence of post-processors is one too.
  @Test
  void aBeginTokenWithinASequenceIsWritten() throws IOException {
    Path path =
        write(
            to -> {
              small(to, "afmoe");
              to.whole("tokenizer.ggml.bos_token_id", 3).flag("tokenizer.ggml.add_bos_token", true);
            });
    Tokenizers.load(path.toString()).write(directory);
    Path file = directory.resolve("tokenizer.json");
    var json = (ObjectNode) JsonMapper.shared().readTree(file.toFile());
    JsonNode template = json.get("post_processor");
    ObjectNode sequence = json.putObject("post_processor").put("type", "Sequence");
    sequence.putArray("processors").add(json.get("decoder")).add(template);
    Files.writeString(file, json.toString());
    Path again = write(to -> assertEquals(List.of(), GgufTokenizer.write(directory, 6, to)));
    assertArrayEquals(new int[] {3, 2}, Tokenizers.load(again.toString()).encodeFramed("ab"));

    // What only ends texts begins none.
    ((ArrayNode) template.get("single")).remove(0);
    Files.writeString(file, json.toString());
    Path ends = write(to -> assertEquals(List.of(), GgufTokenizer.write(directory, 6, to)));
    try (var written = GgufFile.open(ends)) {
      assertNotEquals(Boolean.TRUE, written.metadata().flag("tokenizer.ggml.add_bos_token"));
    }
  }

  private void refuses(String words, Consumer<GgufWriter> metadata) throws IOException {
    Path path = write(metadata);
    String message =
        String.valueOf(
            assertThrows(InvalidInputException.class, () -> Tokenizers.load(path.toString()))
                .getMessage());
    assertTrue(message.contains(words), message);
    assertTrue(message.contains("pass the model's tokenizer.json with --tokenizer"), message);
  }

  @Test
  void whatIsNotKnownIsRefused() throws IOException {
    refuses("it has no metadata key tokenizer.ggml.model", _ -> {});
    refuses("is 'llama', and only gpt2", to -> to.text("tokenizer.ggml.model", "llama"));
    refuses("tokenizer.ggml.pre is missing", to -> to.text("tokenizer.ggml.model", "gpt2"));
    refuses("is 'default', and how it cuts", to -> small(to, "default"));
    refuses(
        "no metadata key tokenizer.ggml.merges",
        to ->
            to.text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "qwen2")
                .texts("tokenizer.ggml.tokens", List.of("a")));
    refuses(
        "eos_token_id is 9 and it has 6 tokens",
        to -> {
          small(to, "qwen2");
          to.whole("tokenizer.ggml.eos_token_id", 9);
        });
    refuses(
        "the tokens 0 and 1 are both 'a'",
        to ->
            to.text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "qwen2")
                .texts("tokenizer.ggml.tokens", List.of("a", "a"))
                .texts("tokenizer.ggml.merges", List.of()));
    refuses(
        "the merge 'ab' is no two tokens",
        to ->
            to.text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "qwen2")
                .texts("tokenizer.ggml.tokens", List.of("a", "b"))
                .texts("tokenizer.ggml.merges", List.of("ab")));
    refuses(
        "has 1 values for 2 tokens",
        to ->
            to.text("tokenizer.ggml.model", "gpt2")
                .text("tokenizer.ggml.pre", "qwen2")
                .texts("tokenizer.ggml.tokens", List.of("a", "b"))
                .wholes("tokenizer.ggml.token_type", new int[] {1})
                .texts("tokenizer.ggml.merges", List.of()));
  }

  @Test
  void aFolderWithoutATokenizerForGgufIsTold() throws IOException {
    Path bytes = Files.createDirectory(directory.resolve("bytes"));
    new ByteTokenizer().write(bytes);
    Path none = Files.createDirectory(directory.resolve("none"));
    write(
        to ->
            assertTrue(
                GgufTokenizer.write(bytes, 256, to).getFirst().contains("tokens are bytes")));
    write(
        to ->
            assertTrue(
                GgufTokenizer.write(none, 256, to).getFirst().contains("holds no tokenizer")));
  }

  /// Parts of a `tokenizer.json` that a known way of cutting does not have.
  @ParameterizedTest
  @CsvSource(
      quoteCharacter = '"',
      textBlock =
          """
          pre_tokenizer, {'type': 'Whitespace'},\
           "how it cuts texts, {'type':'Whitespace'}, is none of those that have a name here: qwen2,"
          pre_tokenizer, {'type': 'ByteLevel'}, afmoe, laguna; take the file away
          pre_tokenizer/pretokenizers/0/invert, true, is none of those that have a name here
          pre_tokenizer/pretokenizers/0/behavior, 'Removed', is none of those that have a name here
          pre_tokenizer/pretokenizers/1/use_regex, true, is none of those that have a name here
          pre_tokenizer/pretokenizers/1/add_prefix_space, true, is none of those
          normalizer, {'type': 'Lowercase'}, "it changes texts by 'Lowercase', and only NFC is known"
          normalizer, null, "as qwen2 does, which takes them in the form NFC, and it takes them as"
          model/ignore_merges, true, "as qwen2 does, whose ignore_merges is false, and its own is"
          model/byte_fallback, true, it is no byte-level BPE
          """)
  void whatCannotBeSaidIsRefusedInASentence(String part, String value, String words)
      throws IOException {
    Tokenizers.load(write(to -> small(to, "qwen2")).toString()).write(directory);
    Path file = directory.resolve("tokenizer.json");
    var json = JsonMapper.shared().readTree(file.toFile());
    int name = part.lastIndexOf('/') + 1;
    var parent = (ObjectNode) json.at(name == 0 ? "" : "/" + part.substring(0, name - 1));
    parent.set(part.substring(name), JsonMapper.shared().readTree(value.replace('\'', '"')));
    Files.writeString(file, json.toString());
    String message =
        String.valueOf(
                assertThrows(
                        InvalidInputException.class,
                        () -> GgufTokenizer.write(directory, 9, new GgufWriter()))
                    .getMessage())
            .replace('"', '\'');
    assertTrue(message.contains(words), message);
    assertTrue(message.contains("take the file away to write the model without"), message);
  }

  /// Between the matches of a pattern that every character matches there is nothing to remove.
  @Test
  void matchesAloneAreAllOfAText() throws IOException {
    Tokenizers.load(write(to -> small(to, "gpt-4o")).toString()).write(directory);
    Path file = directory.resolve("tokenizer.json");
    String json = Files.readString(file);
    String kept = "\"behavior\":\"Isolated\",\"invert\":false";
    assertTrue(json.contains(kept), json);
    Files.writeString(file, json.replace(kept, "\"behavior\":\"Removed\",\"invert\":true"));
    Path again = write(to -> assertEquals(List.of(), GgufTokenizer.write(directory, 6, to)));
    try (var made = GgufFile.open(again)) {
      assertEquals("gpt-4o", made.metadata().text("tokenizer.ggml.pre"));
    }
  }
}
