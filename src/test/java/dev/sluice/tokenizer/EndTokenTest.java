package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Which token ends a document, and who says so.
class EndTokenTest {
  private static final Path FILES = Path.of("src/test/resources/dev/sluice/tokenizer");

  @TempDir private Path folder;

  /// A tokenizer with `<s>` and `</s>`, and the files beside it.
  private Tokenizer load(String endToken, String... files) throws IOException {
    return load("fallback.json", endToken, files);
  }

  private Tokenizer load(String name, String endToken, String[] files) throws IOException {
    Path file = folder.resolve("tokenizer.json");
    Files.copy(FILES.resolve(name), file);
    for (int i = 0; i < files.length; i += 2) {
      Files.writeString(folder.resolve(files[i]), files[i + 1]);
    }
    return Tokenizers.load(folder.toString(), endToken);
  }

  private static String complaint(Tokenizer tokenizer) {
    assertFalse(tokenizer.knowsEndOfText());
    return assertThrows(InvalidInputException.class, tokenizer::endOfText).getMessage();
  }

  @Test
  void theUsualNameWhereNothingElseIsSaid() throws IOException {
    var tokenizer = load(null);
    assertEquals(2, tokenizer.endOfText());
    assertEquals(Sha256.hex(FILES.resolve("fallback.json")), tokenizer.fingerprint());
    assertTrue(tokenizer.describe().contains("documents end with '</s>', id 2)"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "tokenizer_config.json|{\"eos_token\": \"<s>\"}",
        "tokenizer_config.json|{\"eos_token\": {\"content\": \"<s>\", \"lstrip\": false}}",
        "special_tokens_map.json|{\"eos_token\": \"<s>\"}",
        "generation_config.json|{\"eos_token_id\": 1}",
        "generation_config.json|{\"eos_token_id\": [1, 2]}",
        "config.json|{\"eos_token_id\": 1}",
      })
  void theFilesBesideSayIt(String file) throws IOException {
    String[] parts = file.split("\\|");
    var tokenizer = load("", parts);
    assertEquals(1, tokenizer.endOfText());
    assertEquals(
        Sha256.hex(FILES.resolve("fallback.json")) + ":eos=1",
        tokenizer.fingerprint(),
        "other separators, another corpus");
    assertTrue(tokenizer.describe().contains("documents end with '<s>', id 1)"));
  }

  @Test
  void theFirstThatSaysAnythingDecides() throws IOException {
    String[] files = {
      "tokenizer_config.json", "{\"eos_token\": null, \"bos_token\": \"<s>\"}",
      "special_tokens_map.json", "{\"eos_token\": \"<unk>\"}",
      "generation_config.json", "{\"eos_token_id\": 1}",
      "config.json", "{\"eos_token_id\": 2}"
    };
    assertEquals(0, load("", files).endOfText());
    assertEquals(1, Tokenizers.load(folder.toString(), "<s>").endOfText(), "the user above all");
    Files.delete(folder.resolve("special_tokens_map.json"));
    assertEquals(1, Tokenizers.load(folder.toString()).endOfText());
    Files.writeString(folder.resolve("generation_config.json"), "{\"eos_token_id\": []}");
    var last = Tokenizers.load(folder.toString());
    assertEquals(2, last.endOfText());
    assertEquals(Sha256.hex(FILES.resolve("fallback.json")), last.fingerprint());
  }

  @Test
  void aTokenThatIsNoneIsRefused() throws IOException {
    var e = assertThrows(InvalidInputException.class, () -> load("<end>"));
    assertEquals(
        folder.resolve("tokenizer.json")
            + " has no token '<end>' to end documents with; choose one with --eos-token TEXT; its"
            + " special tokens are <unk>, <s>, </s>",
        e.getMessage());
    assertEquals(
        "'</s>' cannot end documents of bytes, which end with the byte 0; leave --eos-token out",
        assertThrows(InvalidInputException.class, () -> Tokenizers.load("bytes", "</s>"))
            .getMessage());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "tokenizer_config.json | {'eos_token': '<end>'} | names \"<end>\" as eos_token",
        "tokenizer_config.json | {'eos_token': 2} | names 2 as eos_token",
        "tokenizer_config.json | {'eos_token': {'text': 1}} | names {\"text\":1} as eos_token",
        "special_tokens_map.json | {'eos_token': ['</s>']} | names [\"</s>\"] as eos_token",
        "generation_config.json | {'eos_token_id': 420} | has the eos_token_id 420",
        "generation_config.json | {'eos_token_id': -1} | has the eos_token_id -1",
        "config.json | {'eos_token_id': '2'} | has the eos_token_id \"2\"",
        "config.json | {'eos_token_id': [[2]]} | has the eos_token_id [2]",
      })
  void aContradictionIsNotGuessedAt(String file, String content, String complaint)
      throws IOException {
    var tokenizer = load("", file, content.replace('\'', '"'));
    String message = complaint(tokenizer);
    assertTrue(message.startsWith(folder.resolve(file) + " " + complaint), message);
    assertTrue(
        message.endsWith("--eos-token TEXT; its special tokens are <unk>, <s>, </s>"), message);
    assertEquals("whale", tokenizer.decode(tokenizer.encode("whale")), "which needs no end");
    assertEquals(2, Tokenizers.load(folder.toString(), "</s>").endOfText());
  }

  /// Never the id 0.
  @Test
  void withoutAnyItIsUnknown() throws IOException {
    var tokenizer = load("wordpiece.json", "", new String[] {});
    String message = complaint(tokenizer);
    assertEquals(
        "neither %s nor a file beside it says which token ends a document; choose one with --eos-token TEXT; its special tokens are [PAD], [UNK], [CLS], [SEP], [MASK]"
            .formatted(folder.resolve("tokenizer.json")),
        message);
    assertEquals(Sha256.hex(FILES.resolve("wordpiece.json")), tokenizer.fingerprint());
    assertTrue(tokenizer.describe().contains("no token ends documents"));
    assertNotEquals(
        tokenizer.fingerprint(), Tokenizers.load(folder.toString(), "[SEP]").fingerprint());
  }

  /// A corpus that was separated by the id 0 before there was a choice.
  @Test
  void theFirstTokenCanBeChosenByName() throws IOException {
    var tokenizer = load("wordpiece.json", "[PAD]", new String[] {});
    assertEquals(0, tokenizer.endOfText());
    assertEquals(Sha256.hex(FILES.resolve("wordpiece.json")), tokenizer.fingerprint());
  }

  /// A run that was begun goes on as it was, whatever the files beside say now.
  @Test
  void whatWasBegunKeepsItsEndToken() throws IOException {
    String spec = folder.toString();
    var plain = load("");
    var first = Tokenizers.load(spec, "<s>");
    Files.writeString(folder.resolve("tokenizer_config.json"), "{\"eos_token\": \"<unk>\"}");
    assertEquals(0, Tokenizers.load(spec).endOfText());
    assertEquals(2, Tokenizers.restore(spec, plain.fingerprint()).endOfText());
    assertEquals(plain.fingerprint(), Tokenizers.restore(spec, plain.fingerprint()).fingerprint());
    assertEquals(1, Tokenizers.restore(spec, first.fingerprint()).endOfText());
    assertEquals(first.fingerprint(), Tokenizers.restore(spec, first.fingerprint()).fingerprint());
    for (String other :
        new String[] {"bytes", "0".repeat(64), plain.fingerprint() + ":eos=999999"}) {
      assertEquals(0, Tokenizers.restore(spec, other).endOfText(), "another file's");
    }
    Files.delete(folder.resolve("tokenizer_config.json"));
    Files.copy(
        FILES.resolve("wordpiece.json"),
        folder.resolve("tokenizer.json"),
        StandardCopyOption.REPLACE_EXISTING);
    String sha256 = Sha256.hex(FILES.resolve("wordpiece.json"));
    assertFalse(Tokenizers.load(spec).knowsEndOfText());
    assertEquals(0, Tokenizers.restore(spec, sha256).endOfText(), "of before it could be chosen");
    assertEquals("bytes", Tokenizers.restore("bytes", sha256).fingerprint());
  }

  @Test
  void damagedFilesBesideAreNamed() throws IOException {
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> load("", "tokenizer_config.json", "{\"eos_token\":"));
    assertTrue(
        e.getMessage().startsWith(folder.resolve("tokenizer_config.json") + " is not valid JSON"),
        e.getMessage());
    assertTrue(e.getMessage().endsWith("; mend or remove it"), e.getMessage());
  }

  @Test
  void bytesOfRangesLeaveOutAnEndTokenThatIsAWord() throws IOException {
    var tokenizer = load("fallback.json", "▁the", new String[] {});
    int[] ids = tokenizer.encode("whale");
    int[] two = new int[2 * ids.length + 1];
    System.arraycopy(ids, 0, two, 0, ids.length);
    two[ids.length] = tokenizer.endOfText();
    System.arraycopy(ids, 0, two, ids.length + 1, ids.length);
    assertEquals(10, tokenizer.bytesOf(two, 0, two.length));
    assertArrayEquals(ids, tokenizer.encode("whale"));
  }
}
