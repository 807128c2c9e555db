package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.WindowRule;
import dev.sluice.evaluation.RequestEncoder.StartToken;
import dev.sluice.serving.ModelFiles;
import dev.sluice.tokenizer.Tokenizer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class RequestEncoderTest {
  private static final int END = 1;
  private static final int BEGIN = 2;

  /// A token a character, but that "th" is one, and a space and the letter after it.
  private static final class Pairs implements Tokenizer {
    private final boolean begins;
    private final boolean ends;

    Pairs(boolean begins, boolean ends) {
      this.begins = begins;
      this.ends = ends;
    }

    @Override
    public int vocabularySize() {
      return 10_000;
    }

    @Override
    public int[] encode(String text) {
      List<Integer> ids = new ArrayList<>();
      for (int i = 0; i < text.length(); i++) {
        boolean pair =
            i + 1 < text.length()
                && (text.startsWith("th", i)
                    || (text.charAt(i) == ' ' && Character.isLetter(text.charAt(i + 1))));
        ids.add(text.charAt(i) == '^' ? BEGIN : pair ? 1000 + text.charAt(++i) : text.charAt(i));
      }
      return ids.stream().mapToInt(Integer::intValue).toArray();
    }

    @Override
    public int[] encodeFramed(String text) {
      var all = IntStream.builder();
      if (begins) {
        all.add(BEGIN);
      }
      Arrays.stream(encode(text)).forEach(all);
      if (ends) {
        all.add(END);
      }
      return all.build().toArray();
    }

    @Override
    public OptionalInt beginOfText() {
      return begins ? OptionalInt.of(BEGIN) : OptionalInt.empty();
    }

    @Override
    public String decode(int[] ids) {
      throw new UnsupportedOperationException();
    }

    @Override
    public int endOfText() {
      return END;
    }

    @Override
    public String fingerprint() {
      return "pairs";
    }

    @Override
    public String describe() {
      return "pairs";
    }

    @Override
    public void write(Path directory) {
      throw new UnsupportedOperationException();
    }
  }

  private static RequestEncoder encoder(boolean begins, StartToken startToken) {
    return new RequestEncoder(new Pairs(begins, false), 6, startToken);
  }

  private static final RequestEncoder PLAIN = encoder(false, StartToken.TOKENIZER);

  private static void assertRequest(TokenRequest request, int cut, int[] inputs, int... targets) {
    assertArrayEquals(inputs, request.inputs());
    assertArrayEquals(targets, request.targets());
    assertEquals(cut, request.cut());
  }

  private static String refused(String context, String continuation) {
    return assertThrows(
            InvalidInputException.class,
            () -> PLAIN.pair(context, continuation, "row 7 of a.jsonl"))
        .getMessage();
  }

  @Test
  void whiteSpaceBelongsToTheContinuation() {
    assertRequest(PLAIN.pair("a", " b", ""), 0, new int[] {'a'}, 1000 + 'b');
    assertRequest(PLAIN.pair("a ", "b", ""), 0, new int[] {'a'}, 1000 + 'b');
    assertRequest(
        PLAIN.pair("a\n\u00A0", "b", ""), 0, new int[] {'a', '\n', 0xA0}, '\n', 0xA0, 'b');
  }

  /// The context keeps its own tokens, and the continuation those behind as many of the whole.
  @Test
  void aTokenOverTheBorderIsTheContexts() {
    assertRequest(PLAIN.pair("at", "he", ""), 0, new int[] {'a', 't'}, 'e');
    assertTrue(refused("at", "h").startsWith("row 7 of a.jsonl leaves no token to score"));
  }

  @Test
  void anEmptyContextIsThePrefixToken() {
    assertRequest(PLAIN.pair("", "ab", ""), 0, new int[] {END, 'a'}, 'a', 'b');
    var begun = encoder(true, StartToken.TOKENIZER);
    assertRequest(begun.pair("", "ab", ""), 0, new int[] {BEGIN, 'a'}, 'a', 'b');
    assertRequest(begun.pair("", "^ab", ""), 0, new int[] {BEGIN, 'a'}, 'a', 'b');
    assertTrue(refused("", "").contains("empty continuation"));
    assertTrue(refused(" ", "b").contains("white space alone"));
  }

  /// What a model of others continues begins as its tokenizer's template begins texts.
  @Test
  void aPromptBeginsAsTextsDo() {
    var both = new Pairs(true, true);
    var foreign = Optional.<WindowRule>empty();
    assertArrayEquals(new int[] {BEGIN, 'a'}, ModelFiles.prompt(foreign, "a", both));
    assertArrayEquals(new int[] {BEGIN, 'a'}, ModelFiles.prompt(foreign, "^a", both));
    assertArrayEquals(new int[] {BEGIN}, ModelFiles.prompt(foreign, "", both));
    assertArrayEquals(
        new int[] {'a'}, ModelFiles.prompt(Optional.of(WindowRule.STREAM), "a", both));
    assertArrayEquals(new int[] {'a'}, ModelFiles.prompt(foreign, "a", new Pairs(false, true)));
  }

  @Test
  void startTokens() {
    var begun = encoder(true, StartToken.TOKENIZER);
    assertRequest(begun.pair("a", "b", ""), 0, new int[] {BEGIN, 'a'}, 'b');
    assertRequest(begun.pair("^a", "b", ""), 0, new int[] {BEGIN, 'a'}, 'b');
    assertRequest(encoder(true, StartToken.NEVER).pair("a", "b", ""), 0, new int[] {'a'}, 'b');
    assertRequest(
        encoder(false, StartToken.ALWAYS).pair("a", "b", ""), 0, new int[] {END, 'a'}, 'b');
    var both = new Pairs(true, true);
    String why =
        assertThrows(
                InvalidInputException.class,
                () -> new RequestEncoder(both, 6, StartToken.TOKENIZER))
            .getMessage();
    assertTrue(why.contains("behind every text"), why);
    assertArrayEquals(
        new int[] {BEGIN}, new RequestEncoder(both, 6, StartToken.ALWAYS).startTokens());
  }

  @Test
  void aLongContextLosesItsStart() {
    assertRequest(
        PLAIN.pair("abcde", "fg", ""), 0, new int[] {'a', 'b', 'c', 'd', 'e', 'f'}, 'f', 'g');
    assertRequest(
        PLAIN.pair("abcdef", "gh", ""), 1, new int[] {'b', 'c', 'd', 'e', 'f', 'g'}, 'g', 'h');
    assertRequest(
        PLAIN.pair("ab", "cdefgh", ""),
        1,
        new int[] {'b', 'c', 'd', 'e', 'f', 'g'},
        'c',
        'd',
        'e',
        'f',
        'g',
        'h');
    assertTrue(refused("ab", "cdefghi").contains("continuation of 7 tokens"));
  }

  /// Each token once; later windows after the last token of the one before, the last one filled up.
  @Test
  void rollingWindows() {
    assertEquals(List.of(), PLAIN.rolling(""));
    for (int length = 1; length <= 20; length++) {
      String text = "abcdefghijklmnopqrst".substring(0, length);
      var windows = PLAIN.rolling(text);
      assertEquals((length + 5) / 6, windows.size());
      var predicted = new StringBuilder();
      for (var window : windows) {
        for (int target : window.targets()) {
          predicted.append((char) target);
        }
        assertTrue(window.inputs().length == 6 || windows.size() == 1);
        assertEquals(
            window.targets()[window.targets().length - 1], text.charAt(predicted.length() - 1));
        int last = window.inputs()[window.inputs().length - 1];
        int before = predicted.length() - 2;
        assertEquals(before < 0 ? END : text.charAt(before), last);
      }
      assertEquals(text, predicted.toString());
    }
    assertRequest(
        PLAIN.rolling("abcdefgh").getLast(), 0, new int[] {'b', 'c', 'd', 'e', 'f', 'g'}, 'g', 'h');
    // The document's own start token is predicted too.
    assertRequest(
        encoder(true, StartToken.TOKENIZER).rolling("a").getFirst(),
        0,
        new int[] {BEGIN, BEGIN},
        BEGIN,
        'a');
  }

  @Test
  void pythonsRandomNumbers() {
    var random = new PythonRandom(1234);
    var eight = IntStream.range(0, 8).boxed().toList();
    assertEquals(List.of(7, 0), random.sample(eight, 2));
    assertEquals(List.of(0, 7), random.sample(eight, 2));
    assertEquals(List.of(0, 5), random.sample(eight, 2));
    assertEquals(List.of(1, 0), random.sample(eight, 2));
    assertEquals(
        List.of(784, 363, 242), random.sample(IntStream.range(0, 1000).boxed().toList(), 3));
    assertEquals(
        List.of(0, 29, 25, 28, 11, 20, 19),
        random.sample(IntStream.range(0, 30).boxed().toList(), 7));
    assertEquals(0.4842459158287621, random.uniform());
    assertEquals(0.4094698329002763, new PythonRandom(4_000_000_000L).uniform());
    assertEquals(
        "[5.0, 4.0, 3.0, 2.0, 3.0]",
        Arrays.toString(new PythonRandom(0).choices(new double[] {1, 2, 3, 4, 5})));
  }
}
