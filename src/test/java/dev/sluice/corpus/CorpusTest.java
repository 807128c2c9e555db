package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.fuzz.Fuzz;
import dev.sluice.tokenizer.ByteTokenizer;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Scanner;
import java.util.SequencedMap;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CorpusTest {
  private static final String BPE = "src/test/resources/dev/sluice/tokenizer/tokenizer.json";
  private static final Tokenizer BYTES = new ByteTokenizer();

  @TempDir Path folder;

  private static List<String> names(Path directory) {
    return Trees.children(directory).stream().map(file -> file.getFileName().toString()).toList();
  }

  private static String refused(Executable what) {
    String message = assertThrows(InvalidInputException.class, what).getMessage();
    assertNull(Fuzz.wrong(message));
    return message;
  }

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
  @ValueSource(strings = {"bytes", BPE})
  void manyDocumentsAreHeldOutWhole(String spec) throws Exception {
    var tokenizer = Tokenizers.load(spec);
    var random = new Random(11);
    int rows = 1300;
    var lines = new StringBuilder();
    for (int i = 0; i < rows; i++) {
      lines.append(
          "{\"id\": %d, \"body\": \"%d %s\"}\n"
              .formatted(i, i, "whale ".repeat(random.nextInt(9))));
    }
    Path data = Files.writeString(folder.resolve("rows.jsonl"), lines);
    var corpus = Corpus.prepare(data, "body", tokenizer, 0.1, folder.resolve("corpus"));
    List<String> train = documents(corpus.train(), tokenizer);
    List<String> heldOut = documents(corpus.heldOut(), tokenizer);
    assertTrue(Collections.disjoint(new HashSet<>(train), new HashSet<>(heldOut)));
    List<String> all = new ArrayList<>(train);
    all.addAll(heldOut);
    assertEquals(
        DocumentsTest.read(Documents.at(data, "body")).values().stream().sorted().toList(),
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
    boolean bytes = spec.equals("bytes");
    assertEquals(
        bytes
            ? "05a7262e03cc438ee7a837db160de6a6c2fe372a706e38a36832817726ab7039"
            : "5f517b284b7158792f9819dfa4b7e517d7a87a3f5407cbb40773fc8efe27f2e8",
        corpus.summary().train().sha256(),
        "the shards of the same text stay the same");
    assertEquals(
        bytes
            ? "c34bdf2dfc7a2fd67a7692c4192136b8d1b503b9674c21a25158216a179f36e0"
            : "737e5175bb3b00a3bdcc63dbbf7f8c5c4bb739eaa45dea66a0d94c51a221368b",
        corpus.summary().heldOut().sha256());
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
    Path data = Files.writeString(folder.resolve("text.txt"), "Call me Ishmael.\n".repeat(9000));
    Corpus.prepare(data, "text", BYTES, 0.1, folder.resolve("a"));
    Corpus.prepare(data, "text", BYTES, 0.1, folder.resolve("b"));
    for (String file : new String[] {"train.tokens", "held-out.tokens", "corpus.json"}) {
      assertArrayEquals(
          Files.readAllBytes(folder.resolve("a").resolve(file)),
          Files.readAllBytes(folder.resolve("b").resolve(file)),
          file);
    }
    assertEquals(
        List.of(".lock", "corpus.json", "held-out.tokens", "train.tokens"),
        names(folder.resolve("a")),
        "nothing temporary stays behind");
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
    assertEquals(List.of(".lock"), names(folder), "a failure leaves nothing behind");
    Path file = Files.writeString(folder.resolve("file"), "");
    e =
        assertThrows(
            InvalidInputException.class,
            () -> Corpus.prepare(Documents.of("x", List.of("y")), BYTES, 0, file));
    assertTrue(
        e.getMessage().contains("the directory " + file + " cannot be made"), e.getMessage());
  }

  /// What a preparation that was killed left is removed, and nothing else.
  @Test
  void leftoversAreRemoved() throws Exception {
    Path other = Files.writeString(folder.resolve("other.txt"), "other");
    Path corpus = Files.createDirectories(folder.resolve("corpus"));
    for (String name :
        List.of(
            "preparing-123.tokens",
            "preparing-9.json",
            ".train.tokens.0123456789abcdef.partial",
            ".corpus.json.0123456789abcdef.partial",
            "preparing-mine.tokens",
            ".other.0123456789abcdef.partial",
            "notes.partial")) {
      Files.writeString(corpus.resolve(name), "left");
    }
    Files.createSymbolicLink(corpus.resolve("preparing-1.tokens"), other);
    Files.createDirectory(corpus.resolve("preparing-2.tokens"));
    Corpus.prepare(Documents.of("x", List.of("the whale")), BYTES, 0, corpus);
    assertEquals(
        List.of(
            ".lock",
            ".other.0123456789abcdef.partial",
            "corpus.json",
            "held-out.tokens",
            "notes.partial",
            "preparing-1.tokens",
            "preparing-2.tokens",
            "preparing-mine.tokens",
            "train.tokens"),
        names(corpus));
    assertEquals("other", Files.readString(other));
  }

  /// A link under a final name is replaced; what it leads to stays.
  @Test
  void linksAreNotWrittenThrough() throws Exception {
    Path precious = Files.writeString(folder.resolve("precious"), "precious");
    Path corpus = Files.createDirectories(folder.resolve("corpus"));
    for (String name : List.of("train.tokens", "held-out.tokens", "corpus.json")) {
      Files.createSymbolicLink(corpus.resolve(name), precious);
    }
    var documents = Documents.of("x", List.of("the whale ".repeat(9)));
    List<String> notes = new ArrayList<>();
    Corpus.prepare(documents, BYTES, 0.2, corpus, notes::add);
    assertEquals("precious", Files.readString(precious));
    for (String name : List.of("train.tokens", "held-out.tokens", "corpus.json")) {
      assertTrue(Trees.isFile(corpus.resolve(name)), name);
    }
    assertTrue(notes.getFirst().startsWith("The corpus is made again from the texts: "));
    // a corpus that someone keeps elsewhere is read through links
    Path linked = Files.createDirectories(folder.resolve("linked"));
    for (String name : List.of("train.tokens", "held-out.tokens", "corpus.json")) {
      Files.createSymbolicLink(linked.resolve(name), corpus.resolve(name));
    }
    Corpus.open(linked).verify();
    Files.delete(corpus.resolve("train.tokens"));
    assertEquals(
        0, new ProcessBuilder("mkfifo", "" + corpus.resolve("train.tokens")).start().waitFor());
    assertTrue(refused(() -> Corpus.open(linked)).contains("train.tokens is a pipe or a device"));
  }

  /// An id that the vocabulary does not have is found although the checksum fits.
  @Test
  void idsBeyondTheVocabularyAreFound() throws Exception {
    Corpus.prepare(Documents.of("x", List.of("the whale ".repeat(50))), BYTES, 0.2, folder);
    Path shard = folder.resolve("held-out.tokens");
    byte[] bytes = Files.readAllBytes(shard);
    Path summary = folder.resolve("corpus.json");
    String before = Files.readString(summary);
    bytes[21] = 1; // the tenth id, of two bytes
    Files.write(shard, bytes);
    byte[] old = Files.readAllBytes(shard);
    old[21] = 0;
    Files.writeString(summary, before.replace(Sha256.hex(old), Sha256.hex(bytes)));
    var corpus = Corpus.open(folder);
    String message = refused(corpus::verify);
    assertTrue(message.contains(shard + " holds the id "), message);
    assertTrue(message.contains("at token 10, where its vocabulary has 256"), message);
    assertEquals(message, refused(() -> corpus.heldOut().copy(5, 20, new long[20], 0)));
    assertEquals(message, refused(() -> new HeldOutReader(corpus.heldOut(), 8, BYTES).window(1)));
    corpus.heldOut().copy(0, 10, new long[10], 0);
    List<String> notes = new ArrayList<>();
    Corpus.prepare(
        Documents.of("x", List.of("the whale ".repeat(50))), BYTES, 0.2, folder, notes::add);
    assertEquals(List.of("The corpus is made again from the texts: " + message), notes);
    Corpus.open(folder).verify();
  }

  /// A mapped file that another program cuts.
  @Test
  void aShardThatShrinksIsFound() throws Exception {
    var corpus =
        Corpus.prepare(Documents.of("x", List.of("the whale ".repeat(5000))), BYTES, 0, folder);
    Path shard = folder.resolve("train.tokens");
    try (var channel = FileChannel.open(shard, StandardOpenOption.WRITE)) {
      channel.truncate(4096);
    }
    for (Executable read :
        List.<Executable>of(
            () -> corpus.train().at(0),
            () -> corpus.train().at(40_000),
            () -> corpus.train().copy(30_000, 10, new long[10], 0),
            corpus::verify)) {
      assertTrue(refused(read).contains(shard + " became shorter while it was in use"));
    }
    assertTrue(refused(() -> Corpus.open(folder)).contains("has 2048 tokens where"));
    Files.write(shard, new byte[4097]);
    assertTrue(refused(() -> Corpus.open(folder)).contains("has 4097 bytes, which are no whole"));
  }

  /// A corpus.json that cannot be is refused with what is wrong in it.
  @Test
  void summariesAreJudged() throws Exception {
    Corpus.prepare(Documents.of("x", List.of("the whale ".repeat(50))), BYTES, 0.2, folder);
    Path summary = folder.resolve("corpus.json");
    String good = Files.readString(summary);
    Map<String, String> wrong = new LinkedHashMap<>();
    wrong.put(
        "\"format\" : 7", "its format is 7, and this version of Sluice knows formats up to 1");
    wrong.put("\"format\" : 0", "its 'format' cannot be 0");
    wrong.put("\"format\" : 1.5", "a value of the wrong kind at format");
    wrong.put("\"format\" : \"1\"", "a value of the wrong kind at format");
    wrong.put("\"vocabularySize\" : 0", "its 'vocabularySize' cannot be 0");
    wrong.put("\"vocabularySize\" : 99999999999", "a value of the wrong kind at vocabularySize");
    wrong.put("\"vocabularySize\" : 70000", "tokens where corpus.json says");
    wrong.put("\"heldOutShare\" : 1.0", "its 'heldOutShare' cannot be 1.0");
    wrong.put("\"heldOutShare\" : NaN", "is not valid JSON");
    wrong.put("\"heldOutShare\" : 1e999", "its 'heldOutShare' cannot be Infinity");
    wrong.put("\"dataFingerprint\" : null", "it lacks 'dataFingerprint'");
    wrong.put("\"brokenCharacters\" : -1", "its 'brokenCharacters' cannot be -1");
    wrong.put("\"tokens\" : -1", "cannot be -1");
    wrong.put("\"tokens\" : 9223372036854775807", "tokens where corpus.json says");
    wrong.put("\"documents\" : -1", "its 'documents' cannot be -1");
    wrong.put("\"bytes\" : -5", "its 'bytes' cannot be -5");
    wrong.put("\"sha256\" : null", "it lacks 'sha256'");
    wrong.put("\"train\" : 5, \"was\"", "a value of the wrong kind at train");
    for (var change : wrong.entrySet()) {
      String key = change.getKey().substring(0, change.getKey().indexOf('"', 1) + 1);
      String changed =
          key.equals("\"train\"")
              ? good.replace("\"train\"", change.getKey())
              : good.replaceFirst(key + " : [^,\n]*", change.getKey());
      Files.writeString(summary, changed);
      String message = refused(() -> Corpus.open(folder));
      assertTrue(message.contains(change.getValue()), change.getKey() + ": " + message);
    }
    Files.writeString(summary, good.replaceAll("(?m)^  \"(brokenC|emptyD).*\n", ""));
    assertEquals(0, Corpus.open(folder).summary().emptyDocuments(), "as older versions wrote it");
    for (String text : List.of("", "[]", "null", "{}", "{\"format\": 1}", "x", "[".repeat(9000))) {
      Files.writeString(summary, text);
      refused(() -> Corpus.open(folder));
    }
  }

  @Test
  void whatIsWrongWithTextsIsTold() throws Exception {
    Path data = Files.createDirectories(folder.resolve("data"));
    byte[] text = "the whale swims\n".repeat(2000).getBytes(StandardCharsets.UTF_8);
    text[1000] = (byte) 0xE9;
    text[20_000] = (byte) 0xE9;
    Files.write(data.resolve("a.txt"), text);
    Files.writeString(
        data.resolve("b.jsonl"), "{\"text\": \"\"}\n".repeat(30) + "{\"text\": \"x\"}");
    Files.writeString(data.resolve("c.csv"), "");
    List<String> expected =
        List.of(
            "Files of %s that are left out, as Sluice does not read their kind: 1, such as c.csv."
                .formatted(data),
            "Characters of %s that are not UTF-8 and are read as U+FFFD: 2; convert the text, for instance with iconv, where they matter."
                .formatted(data),
            "Documents of %s that are empty and are left out: 30.".formatted(data));
    for (int time = 0; time < 2; time++) { // also when it is used again
      List<String> notes = new ArrayList<>();
      var corpus =
          Corpus.prepare(Documents.at(data, "text"), BYTES, 0.1, folder.resolve("c"), notes::add);
      assertEquals(expected, notes);
      assertEquals(2, corpus.summary().brokenCharacters());
      assertEquals(30, corpus.summary().emptyDocuments());
      assertEquals(2, corpus.summary().train().documents());
    }
    Files.writeString(data.resolve("b.jsonl"), "{\"text\": \"a\\u0000b\"}\n");
    assertTrue(
        refused(() -> Corpus.prepare(data, "text", BYTES, 0.1, folder.resolve("c")))
            .startsWith("b.jsonl:1 holds the character U+0000 (after 1 others)"));
    assertTrue(
        refused(
                () ->
                    Corpus.prepare(
                        Documents.of("m", List.of("a".repeat(3_000_000) + "\0")),
                        BYTES,
                        0,
                        folder.resolve("m")))
            .startsWith("m:1 holds the character U+0000 (after 3000000 others)"));
  }

  /// The text that a summary names is the text that was tokenised.
  @Test
  void aTextThatChangesIsNotPrepared() throws Exception {
    Path file = Files.writeString(folder.resolve("log.txt"), "one\n");
    var tokenizer =
        new Watched(
            () -> {
              try {
                Files.writeString(file, "more\n", StandardOpenOption.APPEND);
              } catch (IOException e) {
                throw new UncheckedIOException(e);
              }
            });
    String message =
        refused(() -> Corpus.prepare(file, "text", tokenizer, 0, folder.resolve("corpus")));
    assertEquals(
        file + " changed while it was read; prepare it again when it is complete.", message);
    assertEquals(List.of(".lock"), names(folder.resolve("corpus")));
  }

  /// Bytes, with something that happens when a text is encoded.
  private record Watched(Runnable encoding) implements Tokenizer {
    @Override
    public int[] encode(String text) {
      encoding.run();
      return BYTES.encode(text);
    }

    @Override
    public int vocabularySize() {
      return BYTES.vocabularySize();
    }

    @Override
    public String decode(int[] ids) {
      return BYTES.decode(ids);
    }

    @Override
    public int endOfText() {
      return BYTES.endOfText();
    }

    @Override
    public String fingerprint() {
      return BYTES.fingerprint();
    }

    @Override
    public void write(Path directory) {}

    @Override
    public String describe() {
      return BYTES.describe();
    }
  }

  // ---------------------------------------------------------------- another process

  private static final List<String> LONG = List.of("the whale ".repeat(100_000));

  /// Prepares a corpus in a process of its own; while it owns the directory it says so and waits
  /// for a line of input.
  static final class Preparer {
    public static void main(String[] args) {
      var documents =
          new Documents() {
            private final Documents texts = Documents.of("long text", LONG);
            private int opened;

            @Override
            public String name() {
              return texts.name();
            }

            @Override
            public String fingerprint() {
              return texts.fingerprint();
            }

            @Override
            public SequencedMap<String, String> parts() {
              return texts.parts();
            }

            @Override
            public DocumentCursor open() {
              if (++opened == 2) { // the first time they are only looked at
                System.out.println("within");
                new Scanner(System.in).nextLine();
              }
              return texts.open();
            }
          };
      try {
        Corpus.prepare(documents, BYTES, 0.1, Path.of(args[0]), System.out::println);
        System.out.println("prepared");
      } catch (UncheckedIOException e) { // no fault of the input
        System.out.println(e.getCause().getMessage());
      }
    }
  }

  /// @param limits a shell's commands before it starts
  private Process preparer(String limits) throws IOException {
    return new ProcessBuilder(
            "bash",
            "-c",
            limits + "exec \"$@\"",
            "bash",
            ProcessHandle.current().info().command().orElseThrow(),
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:-UsePerfData",
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            System.getProperty("java.class.path"),
            Preparer.class.getName(),
            folder.toString())
        .redirectError(ProcessBuilder.Redirect.INHERIT)
        .start();
  }

  private static void goOn(Process process) {
    try {
      process.getOutputStream().write('\n');
      process.getOutputStream().flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// Two that want the same corpus at once, as shards of a study do: one prepares it, the other
  /// waits and uses it.
  @Test
  void theSecondProcessWaitsForTheFirst() throws Exception {
    var process = preparer("");
    try (var said = process.inputReader()) {
      assertEquals("within", said.readLine());
      List<String> notes = new ArrayList<>();
      var corpus =
          Corpus.prepare(
              Documents.of("long text", LONG),
              new Watched(() -> fail("tokenised again")),
              0.1,
              folder,
              note -> {
                notes.add(note);
                goOn(process);
              });
      assertEquals(1, notes.size(), notes::toString);
      String owner = "a preparation of long text (process %d on ".formatted(process.pid());
      assertTrue(
          notes
              .getFirst()
              .startsWith("Waiting for %s, which is in use by %s".formatted(folder, owner)),
          notes::toString);
      assertEquals("prepared", said.readLine());
      corpus.verify();
    } finally {
      process.destroyForcibly();
    }
  }

  /// What it left is removed, and the one that waited prepares.
  @Test
  void theSecondProcessGoesOnWhenTheFirstIsKilled() throws Exception {
    var process = preparer("");
    try (var said = process.inputReader()) {
      assertEquals("within", said.readLine());
      assertEquals(3, names(folder).size(), "two partial files and the lock");
      var corpus =
          Corpus.prepare(
              Documents.of("long text", LONG), BYTES, 0.1, folder, _ -> process.destroyForcibly());
      corpus.verify();
      assertEquals(
          List.of(".lock", "corpus.json", "held-out.tokens", "train.tokens"), names(folder));
    } finally {
      process.destroyForcibly();
    }
  }

  /// A write that fails names the file, and what was written is removed.
  @Test
  void aFullDiskNamesTheFile() throws Exception {
    var process = preparer("ulimit -f 300; ");
    try (var said = process.inputReader()) {
      assertEquals("within", said.readLine());
      goOn(process);
      assertEquals(
          "The prepared corpus cannot be written to %s (%s cannot be written (File too large)); make room there, or choose another folder."
              .formatted(folder, folder.resolve("train.tokens")),
          said.readLine());
      assertEquals(0, process.waitFor());
      assertEquals(List.of(".lock"), names(folder));
    } finally {
      process.destroyForcibly();
    }
  }
}
