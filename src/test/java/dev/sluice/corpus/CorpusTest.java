package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.ByteTokenizer;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CorpusTest {
  private static final Path DATA = Path.of("../shared/data");
  private static final String BPE = "src/test/resources/dev/sluice/tokenizer/tokenizer.json";
  private static final Tokenizer BYTES = new ByteTokenizer();

  @TempDir Path folder;

  /// The documents of a shard, by its separators.
  private static List<String> documents(TokenShard shard, Tokenizer tokenizer) {
    List<String> documents = new ArrayList<>();
    int[] ids = IntStream.range(0, (int) shard.length()).map(shard::at).toArray();
    int start = 0;
    for (int i = 0; i < ids.length; i++) {
      if (ids[i] == tokenizer.endOfText()) {
        documents.add(tokenizer.decode(Arrays.copyOfRange(ids, start, i)));
        start = i + 1;
      }
    }
    assertEquals(ids.length, start, "a shard ends with a separator");
    return documents;
  }

  @ParameterizedTest
  @CsvSource({"bytes,lambada_openai,context,5153", BPE + ",winogrande,continuation,1267"})
  void manyDocumentsAreHeldOutWhole(String spec, String set, String field, int rows) {
    var tokenizer = Tokenizers.load(spec);
    Path data = DATA.resolve("eval/" + set + ".jsonl.gz");
    var corpus = Corpus.prepare(data, field, tokenizer, 0.1, folder);
    List<String> train = documents(corpus.train(), tokenizer);
    List<String> heldOut = documents(corpus.heldOut(), tokenizer);
    assertTrue(Collections.disjoint(new HashSet<>(train), new HashSet<>(heldOut)));
    List<String> all = new ArrayList<>(train);
    all.addAll(heldOut);
    assertEquals(
        DocumentsTest.read(Documents.at(data, field)).values().stream().sorted().toList(),
        all.stream().sorted().toList());
    assertEquals(0.1, (double) heldOut.size() / rows, 0.02);
    var summary = corpus.summary();
    assertEquals(train.size(), summary.train().documents());
    assertEquals(heldOut.size(), summary.heldOut().documents());
    assertEquals(corpus.train().length(), summary.train().tokens());
    assertEquals(
        all.stream().mapToLong(HeldOutRule::utf8Length).sum(),
        summary.train().bytes() + summary.heldOut().bytes());
    corpus.verify();
  }

  @Test
  void copiesOfADocumentAreOnTheSameSide() {
    List<String> texts = new ArrayList<>();
    for (int i = 0; i < 300; i++) {
      texts.add("document " + i % 100 + " about the whale");
    }
    var corpus = Corpus.prepare(Documents.of("copies", texts), BYTES, 0.2, folder);
    var train = documents(corpus.train(), BYTES);
    var heldOut = documents(corpus.heldOut(), BYTES);
    assertTrue(Collections.disjoint(new HashSet<>(train), new HashSet<>(heldOut)));
    assertEquals(300, train.size() + heldOut.size());
    assertEquals(60, heldOut.size(), 3);
  }

  @ParameterizedTest
  @ValueSource(ints = {20, 25, 100, 999, 1000, 1500})
  void somethingIsAlwaysHeldOut(int count) {
    List<String> texts = IntStream.range(0, count).mapToObj(i -> "text " + i).toList();
    var corpus = Corpus.prepare(Documents.of("texts", texts), BYTES, 0.0001, folder);
    assertEquals(1, corpus.summary().heldOut().documents());
    assertEquals(count - 1, corpus.summary().train().documents());
  }

  @ParameterizedTest
  @ValueSource(strings = {"bytes", BPE})
  void theEndOfASingleDocumentIsHeldOut(String spec) {
    var tokenizer = Tokenizers.load(spec);
    var corpus = Corpus.prepare(Documents.mobyDick(), tokenizer, 0.05, folder);
    String text = DocumentsTest.read(Documents.mobyDick()).get("Moby-Dick:1");
    List<String> train = documents(corpus.train(), tokenizer);
    List<String> heldOut = documents(corpus.heldOut(), tokenizer);
    assertEquals(1, train.size());
    assertEquals(1, heldOut.size());
    assertEquals(text, train.getFirst() + heldOut.getFirst());
    assertTrue(train.getFirst().endsWith("\n"));
    assertEquals(0.05, (double) heldOut.getFirst().length() / text.length(), 0.001);
  }

  @Test
  void fewDocumentsEachGiveTheirEnd() {
    String huge = "It was the whale, and nothing but the whale.\n".repeat(60_000);
    String line = "word ".repeat(1000);
    String solid = "🐋".repeat(1000);
    List<String> texts = List.of(huge, "", line, solid, "ab", line);
    var corpus = Corpus.prepare(Documents.of("few", texts), BYTES, 0.25, folder);
    var train = documents(corpus.train(), BYTES);
    var heldOut = documents(corpus.heldOut(), BYTES);
    assertEquals(5, train.size());
    assertEquals(5, heldOut.size());
    for (int i = 0; i < 5; i++) {
      String text = List.of(huge, line, solid, "ab", line).get(i);
      assertEquals(text, train.get(i) + heldOut.get(i));
      assertEquals(
          0.25, (double) heldOut.get(i).length() / text.length(), 0.26 / text.length() * 50);
    }
    assertTrue(train.getFirst().endsWith("\n"));
    assertTrue(heldOut.get(1).startsWith(" word"));
  }

  @Test
  void nothingIsHeldOutIfNothingIsAsked() {
    List<String> texts = IntStream.range(0, 40).mapToObj(i -> "text " + i).toList();
    for (int count : new int[] {1, 40}) {
      var documents = Documents.of("texts", texts.subList(0, count));
      var corpus = Corpus.prepare(documents, BYTES, 0, folder.resolve("" + count));
      assertEquals(count, corpus.summary().train().documents());
      assertEquals(0, corpus.heldOut().length());
      var e =
          assertThrows(
              InvalidInputException.class, () -> new HeldOutReader(corpus.heldOut(), 8, BYTES));
      assertTrue(e.getMessage().contains("0 tokens, fewer than two windows of 8"), e.getMessage());
    }
  }

  @Test
  void preparingTwiceGivesTheSameBytes() throws Exception {
    Path wikitext = DATA.resolve("text/wikitext-2-valid.txt.gz");
    Corpus.prepare(wikitext, "text", BYTES, 0.1, folder.resolve("a"));
    Corpus.prepare(wikitext, "text", BYTES, 0.1, folder.resolve("b"));
    for (String file : new String[] {"train.tokens", "held-out.tokens", "corpus.json"}) {
      assertArrayEquals(
          Files.readAllBytes(folder.resolve("a").resolve(file)),
          Files.readAllBytes(folder.resolve("b").resolve(file)),
          file);
    }
    try (var files = Files.list(folder.resolve("a"))) {
      assertEquals(3, files.count(), "nothing temporary stays behind");
    }
  }

  @Test
  void theSameInputsAreNotTokenisedAgain() throws Exception {
    var documents = Documents.of("x", List.of("Call me Ishmael.\n".repeat(100)));
    var first = Corpus.prepare(documents, BYTES, 0.1, folder);
    Path shard = folder.resolve("train.tokens");
    var marked = FileTime.fromMillis(1_000_000);
    Files.setLastModifiedTime(shard, marked);
    assertEquals(first.summary(), Corpus.prepare(documents, BYTES, 0.1, folder).summary());
    assertEquals(marked, Files.getLastModifiedTime(shard));

    var other = Corpus.prepare(documents, BYTES, 0.2, folder);
    assertNotEquals(marked, Files.getLastModifiedTime(shard));
    assertTrue(other.heldOut().length() > first.heldOut().length());
    var bpe = Corpus.prepare(documents, Tokenizers.load(BPE), 0.2, folder);
    assertEquals(385, bpe.summary().vocabularySize());
    assertEquals(bpe.summary(), Corpus.open(folder).summary());

    Files.write(shard, new byte[7]);
    assertEquals(
        bpe.summary(), Corpus.prepare(documents, Tokenizers.load(BPE), 0.2, folder).summary());
    Files.writeString(folder.resolve("corpus.json"), "{");
    assertEquals(
        bpe.summary(), Corpus.prepare(documents, Tokenizers.load(BPE), 0.2, folder).summary());
  }

  /// Ids above 65,535 need four bytes, ids up to there two.
  @Test
  void widthFollowsTheVocabulary() throws Exception {
    record Shifted(int vocabularySize) implements Tokenizer {
      @Override
      public int[] encode(String text) {
        return text.chars().map(c -> vocabularySize - 1 - c).toArray();
      }

      @Override
      public String decode(int[] ids) {
        var text = new StringBuilder();
        for (int id : ids) {
          text.append((char) (vocabularySize - 1 - id));
        }
        return text.toString();
      }

      @Override
      public int endOfText() {
        return vocabularySize - 1;
      }

      @Override
      public String fingerprint() {
        return "shifted " + vocabularySize;
      }

      @Override
      public String describe() {
        return fingerprint();
      }

      @Override
      public void write(Path directory) throws IOException {
        throw new IOException("it is no file");
      }
    }
    var documents = Documents.of("x", List.of("the whale"));
    for (int size : new int[] {1 << 16, (1 << 16) + 1, 1 << 20}) {
      var corpus = Corpus.prepare(documents, new Shifted(size), 0, folder);
      assertEquals(10L * (size > 1 << 16 ? 4 : 2), Files.size(folder.resolve("train.tokens")));
      assertEquals(size - 1 - 't', corpus.train().at(0));
      assertEquals(size - 1, corpus.train().at(9));
      assertThrows(IndexOutOfBoundsException.class, () -> corpus.train().at(10));
      assertThrows(
          IndexOutOfBoundsException.class, () -> corpus.train().copy(8, 3, new long[3], 0));
    }
    Corpus.prepare(documents, BYTES, 0, folder);
    assertArrayEquals(
        "t\0h\0e\0".getBytes(StandardCharsets.UTF_8),
        Arrays.copyOf(Files.readAllBytes(folder.resolve("train.tokens")), 6));
  }

  /// A corpus that is used again is read through first; one that rotted is made again.
  @Test
  void aRottenCorpusIsMadeAgain() throws Exception {
    var documents = Documents.of("x", List.of("the whale ".repeat(50)));
    Corpus.prepare(documents, BYTES, 0.2, folder);
    Path shard = folder.resolve("train.tokens");
    byte[] whole = Files.readAllBytes(shard);
    var modified = Files.getLastModifiedTime(shard);
    Corpus.prepare(documents, BYTES, 0.2, folder);
    assertEquals(modified, Files.getLastModifiedTime(shard), "a whole one is used again");
    byte[] rotten = whole.clone();
    rotten[20] ^= 1;
    Files.write(shard, rotten);
    Corpus.prepare(documents, BYTES, 0.2, folder);
    assertArrayEquals(whole, Files.readAllBytes(shard));
  }

  @Test
  void bitRotIsFound() throws Exception {
    var corpus =
        Corpus.prepare(Documents.of("x", List.of("the whale ".repeat(50))), BYTES, 0.2, folder);
    corpus.verify();
    Path shard = folder.resolve("held-out.tokens");
    byte[] bytes = Files.readAllBytes(shard);
    bytes[20] ^= 1;
    Files.write(shard, bytes);
    var e = assertThrows(InvalidInputException.class, () -> Corpus.open(folder).verify());
    assertTrue(e.getMessage().contains(shard + " does not match its checksum"), e.getMessage());
    Files.write(shard, Arrays.copyOf(bytes, 10));
    e = assertThrows(InvalidInputException.class, () -> Corpus.open(folder));
    assertTrue(e.getMessage().contains("has 5 tokens where corpus.json says"), e.getMessage());
    Files.delete(shard);
    e = assertThrows(InvalidInputException.class, () -> Corpus.open(folder));
    assertTrue(e.getMessage().contains("prepare the corpus again"), e.getMessage());
    Files.writeString(folder.resolve("corpus.json"), "{\"format\": 1}");
    assertThrows(InvalidInputException.class, () -> Corpus.open(folder));
    e = assertThrows(InvalidInputException.class, () -> Corpus.open(folder.resolve("none")));
    assertTrue(e.getMessage().contains("is no prepared corpus"), e.getMessage());
  }

  @Test
  void inputsThatCannotBePrepared() throws Exception {
    for (var texts : List.of(List.<String>of(), List.of("", ""))) {
      var e =
          assertThrows(
              InvalidInputException.class,
              () -> Corpus.prepare(Documents.of("void", texts), BYTES, 0.1, folder));
      assertTrue(e.getMessage().startsWith("void has no text"), e.getMessage());
    }
    var same = Documents.of("same", Collections.nCopies(30, "the same"));
    var e =
        assertThrows(InvalidInputException.class, () -> Corpus.prepare(same, BYTES, 0.1, folder));
    assertTrue(e.getMessage().contains("leaves nothing to train on"), e.getMessage());
    for (double share : new double[] {-0.1, 1, Double.NaN}) {
      e =
          assertThrows(
              InvalidInputException.class, () -> Corpus.prepare(same, BYTES, share, folder));
      assertTrue(e.getMessage().contains("share of " + share), e.getMessage());
    }
    try (var files = Files.list(folder)) {
      assertEquals(0, files.count(), "a failure leaves nothing behind");
    }
    Path file = Files.writeString(folder.resolve("file"), "");
    e =
        assertThrows(
            InvalidInputException.class,
            () -> Corpus.prepare(Documents.of("x", List.of("y")), BYTES, 0, file));
    assertTrue(e.getMessage().contains("cannot be written to " + file), e.getMessage());
  }
}
