package dev.sluice.tokenizer;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TokenizerTest {
  /// A byte-level BPE of 384 tokens and one special one, with a start token, truncation to 8 and
  /// padding to 16 switched on: all three must have no effect.
  private static final Path FILE =
      Path.of("src/test/resources/dev/sluice/tokenizer/tokenizer.json");

  private static final String WILD = "naïve 鯨 🐋\0\r\n  x";

  @TempDir Path folder;

  @Test
  void bytesAreUtf8() {
    var bytes = Tokenizers.load("bytes");
    assertArrayEquals(new int[] {0x61, 0xC3, 0xA9, 0xF0, 0x9F, 0x90, 0x8B}, bytes.encode("aé🐋"));
    assertEquals(WILD.replace("\0", ""), bytes.decode(bytes.encode(WILD)));
    assertEquals("a\uFFFDb", bytes.decode(new int[] {0x61, 0xC3, 0x62}));
    assertEquals(256, bytes.vocabularySize());
    assertEquals(0, bytes.endOfText());
    assertEquals("bytes", bytes.fingerprint());
    assertEquals("a\uFFFDb", bytes.decode(new int[] {0x61, 256, 0x62}));
  }

  /// The expected ids are those of the Python library on the same file.
  @Test
  void huggingFaceAgreesWithThePythonLibrary() {
    var tokenizer = Tokenizers.load(FILE.toString());
    String ishmael = "Call me Ishmael.\nSome years ago—never mind how long";
    assertArrayEquals(
        new int[] {
          34, 380, 275, 68, 317, 82, 71, 76, 64, 68, 75, 13, 198, 50, 295, 68, 331, 68, 282, 82,
          258, 70, 78, 346, 77, 68, 325, 275, 259, 67, 287, 299, 297, 280, 70
        },
        tokenizer.encode(ishmael));
    assertArrayEquals(
        new int[] {
          77, 64, 127, 107, 324, 220, 165, 107, 101, 220, 172, 253, 238, 233, 188, 201, 198, 220,
          220, 87
        },
        tokenizer.encode(WILD));
    assertArrayEquals(new int[] {384, 335, 263, 349}, tokenizer.encode("<|endoftext|>the whale"));
    assertEquals("the whale", tokenizer.decode(new int[] {384, 335, 263, 349}));
    assertEquals(WILD, tokenizer.decode(tokenizer.encode(WILD)));
    assertArrayEquals(new int[0], tokenizer.encode(""));
    assertEquals("", tokenizer.decode(new int[0]));
  }

  @Test
  void huggingFaceKnowsItsSizeSeparatorAndFile() throws Exception {
    Files.copy(FILE, folder.resolve("tokenizer.json"));
    var tokenizer = Tokenizers.load(folder.toString());
    assertEquals(385, tokenizer.vocabularySize());
    assertEquals(384, tokenizer.endOfText());
    assertEquals(
        "2cf382b61c8ad04e474a54f0c61c0e0ee70173985a7b50d79c16031be2c290d6",
        tokenizer.fingerprint());
    assertTrue(tokenizer.describe().contains("385 ids"), tokenizer.describe());
  }

  @Test
  void unpairedSurrogatesAreReplacedNotFatal() {
    var bytes = Tokenizers.load("bytes");
    assertEquals("a?b", bytes.decode(bytes.encode("a\uD83Db")));
    var tokenizer = Tokenizers.load(FILE.toString());
    for (String half : new String[] {"a\uD83Db", "a\uDC0Bb"}) {
      assertEquals("a\uFFFDb", tokenizer.decode(tokenizer.encode(half)));
    }
    assertEquals("\uFFFD🐋\uFFFD", tokenizer.decode(tokenizer.encode("\uDC0B🐋\uD83D")));
  }

  /// Whatever the borders, neighbouring ranges add up, and the whole is the text's length.
  @Test
  void bytesOfRangesAddUp() {
    for (String spec : new String[] {"bytes", FILE.toString()}) {
      var tokenizer = Tokenizers.load(spec);
      String text = "Ah! 鯨🐋 naïve—the whale 🐋🐋 of öl";
      int[] ids = tokenizer.encode(text);
      int whole = text.getBytes(StandardCharsets.UTF_8).length;
      assertEquals(whole, tokenizer.bytesOf(ids, 0, ids.length));
      for (int cut = 0; cut <= ids.length; cut++) {
        int left = tokenizer.bytesOf(ids, 0, cut);
        assertEquals(whole, left + tokenizer.bytesOf(ids, cut, ids.length), "cut at " + cut);
        int plain =
            tokenizer.decode(Arrays.copyOf(ids, cut)).getBytes(StandardCharsets.UTF_8).length;
        assertTrue(Math.abs(left - plain) <= 9, "cut at " + cut);
      }
    }
    int[] bytes = IntStream.range(0, 256).toArray();
    assertEquals(100, new ByteTokenizer().bytesOf(bytes, 100, 200));
    assertEquals(99, new ByteTokenizer().bytesOf(bytes, 0, 100), "the separator is no text");
  }

  /// What separates documents is no text, whether the tokenizer has it as a special token or as a
  /// word, and whatever its decoder does to the first token of a text.
  @ParameterizedTest
  @CsvSource({"bytes,", "tokenizer.json,", "unigram.json,", "fallback.json,", "fallback.json,▁the"})
  void documentsHaveAsManyBytesWhateverTheTokenizer(String name, String endToken) {
    String spec = name.equals("bytes") ? name : FILE.resolveSibling(name).toString();
    var tokenizer = Tokenizers.load(spec, endToken);
    String[] documents = {"Call me.", "It is a whale", "a", "so ends naught"};
    var ids = IntStream.builder();
    int whole = 0;
    for (String document : documents) {
      Arrays.stream(tokenizer.encode(document)).forEach(ids::add);
      ids.add(tokenizer.endOfText());
      whole += document.length();
    }
    int[] all = ids.build().toArray();
    assertEquals(whole, tokenizer.bytesOf(all, 0, all.length));
    for (int cut = 0; cut <= all.length; cut++) {
      int left = tokenizer.bytesOf(all, 0, cut);
      int right = tokenizer.bytesOf(all, cut, all.length);
      assertEquals(whole, left + right, "cut at " + cut);
    }
  }

  @Test
  void specialTokensHaveNoBytes() {
    var tokenizer = Tokenizers.load(FILE.toString());
    assertEquals(9, tokenizer.bytesOf(new int[] {384, 335, 263, 349, 384}, 0, 5));
    assertEquals(0, tokenizer.bytesOf(new int[] {384, 335, 263, 349, 384}, 4, 5));
  }

  /// The bytes of a text's tokens are the text's; what has no text has none.
  @Test
  void tokensHaveBytes() {
    for (String spec : new String[] {"bytes", FILE.toString()}) {
      var tokenizer = Tokenizers.load(spec);
      byte[][] bytes = tokenizer.tokenBytes();
      assertEquals(tokenizer.vocabularySize(), bytes.length);
      assertEquals(0, bytes[tokenizer.endOfText()].length);
      String text = WILD.replace("\0", "");
      var joined = new ByteArrayOutputStream();
      for (int id : tokenizer.encode(text)) {
        joined.writeBytes(bytes[id]);
      }
      assertEquals(text, joined.toString(StandardCharsets.UTF_8));
    }
    for (String other : new String[] {"unigram.json", "fallback.json", "wordpiece.json"}) {
      var tokenizer = Tokenizers.load(FILE.resolveSibling(other).toString());
      var e = assertThrows(InvalidInputException.class, tokenizer::tokenBytes);
      assertTrue(e.getMessage().contains("byte-level"), e.getMessage());
    }
  }

  @Test
  void whatIsNotThereIsNamed() {
    for (String spec : new String[] {"no/such/place", folder.toString(), "", "a\0b"}) {
      var e = assertThrows(InvalidInputException.class, () -> Tokenizers.load(spec));
      assertTrue(e.getMessage().contains("'" + spec.replace('\0', '␀') + "'"), e.getMessage());
    }
  }

  @Test
  void corruptFilesAreNamed() throws Exception {
    String good = Files.readString(FILE);
    Path file = folder.resolve("tokenizer.json");
    for (String bad :
        new String[] {
          "",
          "hello",
          "{}",
          "[1]",
          good.substring(0, good.length() / 2),
          good.replace("\"BPE\"", "\"ABC\"")
        }) {
      Files.writeString(file, bad);
      var e = assertThrows(InvalidInputException.class, () -> Tokenizers.load(file.toString()));
      assertTrue(e.getMessage().startsWith(file + " "), e.getMessage());
      assertTrue(e.getMessage().contains("fetch the model's tokenizer.json"), e.getMessage());
      assertEquals(1, e.getMessage().lines().count());
    }
  }
}
