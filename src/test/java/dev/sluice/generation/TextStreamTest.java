package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class TextStreamTest {
  private static String bytes(int[] tokens) {
    byte[] bytes = new byte[tokens.length];
    for (int i = 0; i < tokens.length; i++) {
      bytes[i] = (byte) tokens[i];
    }
    return new String(bytes, StandardCharsets.UTF_8);
  }

  private static int[] tokens(String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    int[] tokens = new int[bytes.length];
    Arrays.setAll(tokens, i -> bytes[i] & 0xFF);
    return tokens;
  }

  @Test
  void charactersComeWhole() {
    var stream = new TextStream(TextStreamTest::bytes);
    List<String> pieces = new ArrayList<>();
    for (int token : tokens("aé€😀b")) {
      pieces.add(stream.add(token));
    }
    assertEquals(List.of("a", "", "é", "", "", "€", "", "", "", "😀", "b"), pieces);
    assertEquals("", stream.finish());
  }

  @Test
  void cutCharacterIsShownAtTheEnd() {
    var stream = new TextStream(TextStreamTest::bytes);
    assertEquals("a", stream.add('a'));
    assertEquals("", stream.add(0xE2));
    assertEquals("", stream.add(0x82));
    assertEquals("\uFFFD", stream.finish());
    assertEquals("b", stream.add('b'));
  }

  @Test
  void damagedBytesAreLeftBehind() {
    var stream = new TextStream(TextStreamTest::bytes);
    assertEquals("", stream.add(0xFF));
    assertEquals("\uFFFDa", stream.add('a'));
  }

  @Test
  void streamedTextIsTheTextDecodedAtOnce() {
    for (int seed = 0; seed < 300; seed++) {
      var random = new SplittableRandom(seed);
      int[] tokens = new int[400];
      for (int i = 0; i < tokens.length; i++) {
        // Mostly bytes that belong to longer characters; with an even seed nothing else.
        tokens[i] = seed % 2 == 0 ? random.nextInt(128, 256) : random.nextInt(256);
      }
      var stream = new TextStream(TextStreamTest::bytes);
      var text = new StringBuilder();
      for (int token : tokens) {
        text.append(stream.add(token));
      }
      assertFalse(text.isEmpty(), "held back for ever");
      text.append(stream.finish());
      assertEquals(bytes(tokens), text.toString(), "seed " + seed);
    }
  }

  @Test
  void whatATokenizerDropsAtTheStartStaysInTheMiddle() {
    List<String> words = List.of(" the", " gate", " 水", "\uFFFD", ".");
    var stream =
        new TextStream(
            tokens -> {
              var text = new StringBuilder();
              Arrays.stream(tokens).forEach(token -> text.append(words.get(token)));
              return text.toString().stripLeading();
            });
    assertEquals("the", stream.add(0));
    assertEquals(" gate", stream.add(1));
    assertEquals(" 水", stream.add(2));
    assertEquals(" the", stream.add(0));
    assertEquals("", stream.add(3));
    assertEquals("\uFFFD.", stream.add(4));
  }

  /// SentencePiece with byte fallback shows a run of bytes as one U+FFFD each while any of it is
  /// incomplete.
  @Test
  void byteFallbackDoesNotTakeBackWhatWasShown() {
    var stream =
        new TextStream(
            tokens -> {
              String text = bytes(tokens);
              return text.indexOf('\uFFFD') < 0 ? text : "\uFFFD".repeat(tokens.length);
            });
    var text = new StringBuilder();
    for (int token : tokens("水門é😀")) {
      text.append(stream.add(token));
    }
    assertEquals("水門é😀", text.toString());
  }
}
