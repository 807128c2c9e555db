package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdCompressCtx;
import com.github.luben.zstd.ZstdDictTrainer;
import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DocumentsTest {
  static final Path RESOURCES = Path.of("src/test/resources/dev/sluice/corpus");

  @TempDir Path folder;

  static Map<String, String> read(Documents documents) {
    Map<String, String> texts = new LinkedHashMap<>();
    try (DocumentCursor cursor = documents.open()) {
      for (var document = cursor.next(); document != null; document = cursor.next()) {
        texts.put(document.name(), document.text().readAllAsString());
      }
    } catch (IOException e) {
      throw new AssertionError(e);
    }
    return texts;
  }

  private static byte[] gzip(byte[] content) throws IOException {
    var bytes = new ByteArrayOutputStream();
    try (var out = new GZIPOutputStream(bytes)) {
      out.write(content);
    }
    return bytes.toByteArray();
  }

  private Path write(String name, byte[] content) throws IOException {
    Path file = folder.resolve(name);
    Files.createDirectories(file.getParent());
    return Files.write(file, content);
  }

  private Path write(String name, String content) throws IOException {
    return write(name, content.getBytes(StandardCharsets.UTF_8));
  }

  private static String complaint(Path data, String field) {
    var e =
        assertThrows(InvalidInputException.class, () -> read(Documents.at(data, field)), "" + data);
    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    return e.getMessage();
  }

  private static void assertComplains(Path data, String... parts) {
    String message = complaint(data, "text");
    for (String part : parts) {
      assertTrue(message.contains(part), message);
    }
  }

  @Test
  void mobyDickIsBundledUnchanged() {
    String text = read(Documents.mobyDick()).get("Moby-Dick:1");
    assertEquals(
        "fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240",
        Sha256.hex(text.getBytes(StandardCharsets.UTF_8)));
  }

  @Test
  void foldersAreReadInOrderWithAllFormats() throws Exception {
    byte[] line =
        "{\"id\": [1, {\"text\": \"no\"}], \"text\": \"é\\n🐋\"}\n\n{\"text\":\"\"}\n"
            .getBytes(StandardCharsets.UTF_8);
    write("b/two.md", "two");
    write("b/one.jsonl.zst", Zstd.compress(line));
    write("a.txt", "\uFEFFone\r\n");
    write("c.text.gz", gzip("three".getBytes(StandardCharsets.UTF_8)));
    write("d.JSON", line);
    write("g.TXT.GZ", gzip("six".getBytes(StandardCharsets.UTF_8)));
    write("e.txt.zst", Zstd.compress("five".getBytes(StandardCharsets.UTF_8)));
    write(".hidden/x.txt", "no");
    write("b/.x.txt", "no");
    write("b/picture.png", "no");
    Files.copy(RESOURCES.resolve("three-rows.parquet"), folder.resolve("f.parquet"));
    Map<String, String> expected = new LinkedHashMap<>();
    expected.put("a.txt", "one\r\n");
    expected.put("b/one.jsonl.zst:1", "é\n🐋");
    expected.put("b/one.jsonl.zst:3", "");
    expected.put("b/two.md", "two");
    expected.put("c.text.gz", "three");
    expected.put("d.JSON:1", "é\n🐋");
    expected.put("d.JSON:3", "");
    expected.put("e.txt.zst", "five");
    expected.put("f.parquet:1", "Call me Ishmael.");
    expected.put("f.parquet:2", "");
    expected.put("f.parquet:3", "The whale — 鯨.");
    expected.put("g.TXT.GZ", "six");
    assertEquals(
        List.copyOf(expected.entrySet()),
        List.copyOf(read(Documents.at(folder, "text")).entrySet()));
  }

  @Test
  void fingerprintFollowsNamesContentsAndField() throws Exception {
    write("a.txt", "one");
    write("b.txt", "two");
    String before = Documents.at(folder, "text").fingerprint();
    assertEquals(before, Documents.at(folder, "text").fingerprint());
    assertNotEquals(before, Documents.at(folder, "body").fingerprint());
    write("b.txt", "Two");
    String changed = Documents.at(folder, "text").fingerprint();
    assertNotEquals(before, changed);
    Files.move(folder.resolve("b.txt"), folder.resolve("c.txt"));
    assertNotEquals(changed, Documents.at(folder, "text").fingerprint());
    assertNotEquals(
        Documents.of("x", List.of("ab", "c")).fingerprint(),
        Documents.of("x", List.of("a", "bc")).fingerprint());
  }

  @Test
  void nothingToRead() throws Exception {
    assertComplains(folder, folder.toString(), ".parquet");
    assertComplains(folder.resolve("none"), folder.resolve("none") + " does not exist");
    assertComplains(write("table.csv", "a,b"), "table.csv", ".jsonl");
  }

  @Test
  void foreignEncodingsAreNamed() throws Exception {
    assertComplains(write("a.txt", new byte[] {'a', 'b', 0, 'c'}), "a.txt is not text", "byte 2");
    assertComplains(
        write("b.txt", "Ging die schöne Müllerin über Öl".getBytes(StandardCharsets.ISO_8859_1)),
        "b.txt is not UTF-8",
        "4 broken characters in 32 bytes, the first at byte 12");
    for (var charset : List.of(StandardCharsets.UTF_16LE, StandardCharsets.UTF_16BE)) {
      assertComplains(
          write("c.txt", "whale".getBytes(charset)), "c.txt is not text", "as in UTF-16");
      assertComplains(
          write("c.txt", "\uFEFFwhale".getBytes(charset)), "c.txt is UTF-16", "iconv -f UTF-16");
    }
    for (var charset : List.of(StandardCharsets.UTF_32LE, StandardCharsets.UTF_32BE)) {
      assertComplains(write("d.jsonl", "\uFEFFwhale".getBytes(charset)), "d.jsonl is UTF-32");
    }
    assertComplains(write("e.txt", gzip("text".getBytes(StandardCharsets.UTF_8))), "ends in .gz");
    assertComplains(write("f.md", Zstd.compress(new byte[] {'a'})), "ends in .zst");
  }

  /// Wherever it stands, also behind what fills all buffers.
  @ParameterizedTest
  @ValueSource(strings = {".txt", ".jsonl", ".txt.gz", ".json.zst"})
  void zerosAreFoundAnywhere(String extension) throws Exception {
    String line = extension.contains("json") ? "{\"text\": \"a whale\"}\n" : "It was the whale.\n";
    byte[] text = line.repeat(20_000).getBytes(StandardCharsets.UTF_8);
    for (int at : new int[] {0, 65_535, 65_536, 200_001, text.length - 1}) {
      byte[] bytes = text.clone();
      bytes[at] = 0;
      assertComplains(
          write("z" + extension, packed(extension, bytes)),
          "z" + extension + " is not text",
          "byte " + at + " is zero");
    }
  }

  private static byte[] packed(String extension, byte[] bytes) throws IOException {
    return extension.endsWith(".gz")
        ? gzip(bytes)
        : extension.endsWith(".zst") ? Zstd.compress(bytes) : bytes;
  }

  /// A binary part is found wherever it begins, also if the whole file has few broken characters.
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 30_000, 65_536, 100_000, 400_000, 997_000})
  void binaryPartsAreFound(int from) throws Exception {
    byte[] bytes = "It was the whale, and so on.\n".repeat(35_000).getBytes(StandardCharsets.UTF_8);
    for (int i = from; i < from + 3000; i++) {
      bytes[i] = (byte) (0x80 + i % 64);
    }
    assertComplains(write("b.txt", bytes), "b.txt is not UTF-8", "the first at byte " + from);
    assertComplains(write("b.txt", Arrays.copyOf(bytes, from + 3000)), "the first at byte " + from);
  }

  /// A few are read as U+FFFD, as Java decodes them, and counted; those that the text itself has
  /// are not.
  @Test
  void aFewBrokenCharactersAreCounted() throws Exception {
    var random = new Random(3);
    byte[] bytes = "the whale 🐋 \uFFFD swam\n".repeat(40_000).getBytes(StandardCharsets.UTF_8);
    for (int i = 0; i < 2000; i++) {
      bytes[random.nextInt(bytes.length)] = (byte) (0x80 + random.nextInt(128));
    }
    var documents = Documents.at(write("few.txt", bytes), "text");
    String expected = new String(bytes, StandardCharsets.UTF_8);
    assertEquals(expected, read(documents).get("few.txt"));
    try (var cursor = documents.open()) {
      cursor.next().text().readAllAsString();
      long own = 0;
      for (int i = 0; i + 2 < bytes.length; i++) {
        own +=
            bytes[i] == (byte) 0xEF && bytes[i + 1] == (byte) 0xBF && bytes[i + 2] == (byte) 0xBD
                ? 1
                : 0;
      }
      assertEquals(expected.chars().filter(c -> c == '\uFFFD').count() - own, cursor.broken());
    }
  }

  /// The first block may end within a character.
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2, 3})
  void longTextsAreNotBroken(int shift) throws Exception {
    String text = "x".repeat(shift) + "🐋".repeat(50_000);
    assertEquals(text, read(Documents.at(write("long.txt", text), "text")).get("long.txt"));
  }

  @Test
  void malformedLinesAreNamed() throws Exception {
    String good = "{\"text\": \"a\"}\n";
    for (String bad :
        new String[] {
          "{\"text\": \"a", "{", "x", "{\"text\": \"a\"} x", "{\"text\": \"a\",}", "{\"text\": 'a'}"
        }) {
      assertComplains(
          write("m.jsonl", good + "\n" + bad + "\n" + good), "m.jsonl:3 is not valid JSON: line ");
    }
    for (String bad : new String[] {"[1]", "\"text\"", "7", "null", "true", "[]"}) {
      assertComplains(
          write("m.jsonl", good + "\n" + bad + "\n" + good),
          "m.jsonl:3 is ",
          "Sluice reads objects");
    }
    String deep = "{\"a\": " + "[".repeat(3000) + "]".repeat(3000) + ", \"text\": \"a\"}";
    assertComplains(write("m.jsonl", good + deep), "m.jsonl:2", "nested deeper than 200 levels");
    assertComplains(
        write("m.jsonl", good + "{\"n\": " + "9".repeat(1_000_000) + ", \"text\": \"a\"}"),
        "m.jsonl:2",
        "a number of more than 400 digits");
    assertComplains(
        write("m.jsonl", good + "{\"" + "k".repeat(1_000_000) + "\": 1, \"text\": \"a\"}"),
        "m.jsonl:2",
        "a key of more than 50000 characters");
  }

  /// A file of another shape than lines of objects is read, or it is said what it is.
  @Test
  void jsonOfAnyShape() throws Exception {
    var two = Map.of("s.json[0]", "a", "s.json[1]", "b");
    for (String array :
        new String[] {
          "[{\"text\": \"a\"}, {\"text\": \"b\"}]",
          "\uFEFF\n"
              + "[\n"
              + " {\n"
              + "  \"n\": [NaN, -Infinity],\n"
              + "  \"text\": \"a\"\n"
              + " },\n"
              + " {\"text\": \"b\"}\n"
              + "]\n",
          "[\"a\", \"b\"]"
        }) {
      assertEquals(two, read(Documents.at(write("s.json", array), "text")));
    }
    assertEquals(
        Map.of("s.json:1", "a"),
        read(Documents.at(write("s.json", "{\n  \"id\": 1,\n  \"text\": \"a\"\n}"), "text")));
    assertEquals(
        Map.of("s.json:1", "a", "s.json:4", "b"),
        read(Documents.at(write("s.json", "{\n\"text\": \"a\"}\n\n{\"text\": \"b\"\n}"), "text")));
    assertEquals(
        Map.of("s.jsonl:1", "a", "s.jsonl:2", "b"),
        read(Documents.at(write("s.jsonl", "\"a\"\n\"b\"\n"), "text")));
    assertEquals(Map.of(), read(Documents.at(write("s.json", "[]"), "text")));
    assertEquals(Map.of(), read(Documents.at(write("s.json", ""), "text")));
    assertComplains(write("s.json", "[[1, 2], [3]]"), "s.json[0] (line 1) is an array in an array");
    assertComplains(
        write("s.json", "[{\"text\": \"a\"},\n null]"), "s.json[1] (line 2) is null in an array");
    assertComplains(
        write("s.json", "[{\"text\": \"a\"}, \"b\"]"), "s.json[1] (line 1) is a string, and those");
    assertComplains(
        write("s.json", "[\"a\"] {}"), "s.json:1 is an object after the end of an array");
    assertComplains(write("s.json", "3.5"), "s.json:1 is a number; Sluice reads objects");
    assertComplains(write("s.json", "[\"a\",\n\"b\""), "it ends within a value (line 2");
    assertComplains(
        write("s.json", "{\"data\": {\"rows\": [1]}, \"version\": 2}"),
        "s.json:1 has no field 'text' but [data.…, version]");
  }

  @Test
  void missingFieldsAreNamed() throws Exception {
    assertComplains(
        write("m.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\", \"id\": 1}\n"),
        "m.jsonl:2 has no field 'text' but [body, id]");
    assertComplains(
        write("m.jsonl", "{\"text\": null}\n"),
        "m.jsonl:1: the field 'text' is not a string but null");
    assertComplains(
        write("m.jsonl", "{\"text\": {\"a\": 1}}\n"),
        "the field 'text' is not a string but an object");
    assertComplains(
        write("m.jsonl", "{\"text\": \"a\", \"text\": \"b\"}"), "the field 'text' twice");
    assertComplains(
        write("m.jsonl", "{\"text\": null, \"text\": \"b\"}"), "the field 'text' twice");
  }

  /// The literal name goes before a field within another.
  @Test
  void fieldsWithinFields() throws Exception {
    Map<String, String> texts = new LinkedHashMap<>();
    texts.put("{\"meta\": {\"lang\": \"en\", \"text\": \"in\"}}", "in");
    texts.put("{\"meta\": {\"text\": \"in\"}, \"meta.text\": \"out\"}", "out");
    texts.put("{\"meta.text\": \"out\", \"meta\": {\"text\": \"in\"}}", "out");
    texts.put("{\"meta.text\": \"out\", \"meta\": {\"text\": 5}}", "out");
    for (var text : texts.entrySet()) {
      assertEquals(
          Map.of("f.jsonl:1", text.getValue()),
          read(Documents.at(write("f.jsonl", text.getKey()), "meta.text")),
          text.getKey());
    }
    assertEquals(
        Map.of("f.jsonl:1", "x"),
        read(Documents.at(write("f.jsonl", "{\"a\": {\"b.c\": {\"d\": \"x\"}}}"), "a.b.c.d")));
    Path file = write("f.jsonl", "{\"id\": 1, \"meta\": {\"lang\": \"en\", \"body\": \"b\"}}");
    assertTrue(
        complaint(file, "meta.text")
            .contains("has no field 'meta.text' but [id, meta.lang, meta.body]"));
  }

  @ParameterizedTest
  @ValueSource(strings = {".gz", ".zst"})
  void truncatedArchives(String extension) throws Exception {
    byte[] text = new byte[300_000];
    new Random(7).nextBytes(text);
    for (int i = 0; i < text.length; i++) {
      text[i] = (byte) ('a' + (text[i] & 15));
    }
    byte[] whole = extension.equals(".gz") ? gzip(text) : Zstd.compress(text);
    assertEquals(
        300_000,
        read(Documents.at(write("t.txt" + extension, whole), "text"))
            .get("t.txt" + extension)
            .length());
    for (int length : new int[] {0, 1, 5, 20, whole.length / 2, whole.length - 1}) {
      assertComplains(
          write("t.txt" + extension, Arrays.copyOf(whole, length)),
          "t.txt" + extension + " is truncated, damaged or no ");
    }
    assertComplains(
        write("t.jsonl" + extension, "{\"text\": 1}"), "t.jsonl" + extension + " is trunc");
    byte[] damaged = extension.equals(".gz") ? whole.clone() : withChecksum(text);
    damaged[damaged.length / 2] ^= 0x10;
    assertComplains(write("t.txt" + extension, damaged), "t.txt" + extension + " is truncated");
  }

  private static byte[] withChecksum(byte[] text) {
    try (var compressor = new ZstdCompressCtx().setChecksum(true)) {
      return compressor.compress(text);
    }
  }

  private static byte[] joined(byte[]... parts) {
    var bytes = new ByteArrayOutputStream();
    for (byte[] part : parts) {
      bytes.writeBytes(part);
    }
    return bytes.toByteArray();
  }

  @Test
  void membersOfGzip() throws Exception {
    byte[] one = gzip("one ".getBytes(StandardCharsets.UTF_8));
    byte[] two = gzip("two".repeat(50_000).getBytes(StandardCharsets.UTF_8));
    byte[] named =
        joined(
            new byte[] {0x1F, (byte) 0x8B, 8, 0x1E, 0, 0, 0, 0, 0, 3}, // all fields
            new byte[] {2, 0, 'x', 'y', 'n', 0, 'c', 'c', 0, 1, 2},
            Arrays.copyOfRange(one, 10, one.length));
    String expected = "one " + "two".repeat(50_000) + "one ";
    for (byte[] file : List.of(joined(one, two, one), joined(one, two, named, new byte[70_000]))) {
      assertEquals(expected, read(Documents.at(write("g.txt.gz", file), "text")).get("g.txt.gz"));
    }
    assertEquals(
        "", read(Documents.at(write("g.txt.gz", gzip(new byte[0])), "text")).get("g.txt.gz"));
    for (byte[] after :
        List.of(new byte[] {'x'}, new byte[] {0x1F, 'x', 0}, new byte[] {0, 0, 7})) {
      assertComplains(
          write("g.txt.gz", joined(one, after)), "g.txt.gz is", "what follows its end is not gzip");
    }
    byte[] checksum = two.clone();
    checksum[checksum.length - 8] ^= 1;
    assertComplains(write("g.txt.gz", joined(one, checksum)), "a checksum differs");
    assertComplains(write("g.txt.gz", joined(one, Arrays.copyOf(two, 5))), "it ends too early");
  }

  /// Frames that are joined in one file, the last of them cut off anywhere.
  @Test
  void aLastFrameThatIsCutOff() throws Exception {
    byte[] first = Zstd.compress("the first part\n".repeat(9).getBytes(StandardCharsets.UTF_8));
    byte[] last = withChecksum("the last part\n".repeat(5).getBytes(StandardCharsets.UTF_8));
    for (int length = 1; length < last.length; length++) {
      assertComplains(
          write("j.txt.zst", joined(first, Arrays.copyOf(last, length))),
          "j.txt.zst is truncated, damaged or no zstd data");
    }
    byte[] skippable = {0x5A, 0x2A, 0x4D, 0x18, 0, 0, 0, 0};
    for (byte[] whole : List.of(joined(first, last), joined(first, last, skippable))) {
      assertEquals(
          "the first part\n".repeat(9) + "the last part\n".repeat(5),
          read(Documents.at(write("j.txt.zst", whole), "text")).get("j.txt.zst"));
    }
  }

  /// What the parser stumbled over is shown, also where the file ends right behind it.
  @Test
  void whatFollowsAnObjectIsShown() throws Exception {
    assertComplains(write("r.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"} rubbish"), "rubbish");
  }

  @Test
  void framesOfZstandard() throws Exception {
    byte[] text = "It was the whale. ".repeat(30_000).getBytes(StandardCharsets.UTF_8);
    byte[] skippable = {0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
    byte[] wide;
    try (var compressor = new ZstdCompressCtx()) {
      compressor.setLong(31).setContentSize(false);
      wide = compressor.compress(text);
    }
    // a frame's header says how long a window it needs: 2 GiB in this one
    wide[5] = (byte) ((31 - 10) << 3);
    String expected = new String(text, StandardCharsets.UTF_8);
    assertEquals(
        expected + expected,
        read(Documents.at(
                write(
                    "z.txt.zst",
                    joined(skippable, Zstd.compress(text), skippable, Zstd.compress(text, 19))),
                "text"))
            .get("z.txt.zst"));
    assertEquals(expected, read(Documents.at(write("z.txt.zst", wide), "text")).get("z.txt.zst"));
    wide[5] = (byte) ((32 - 10) << 3);
    assertComplains(
        write("z.txt.zst", wide), "z.txt.zst needs a window of more than 2 GiB", "--memory");
    byte[] dictionary =
        "It was the whale. It was not. ".repeat(20).getBytes(StandardCharsets.UTF_8);
    try (var compressor = new ZstdCompressCtx()) {
      compressor.loadDict(trained(dictionary));
      assertComplains(
          write("z.txt.zst", compressor.compress(text)), "was compressed with a dictionary");
    }
  }

  private static byte[] trained(byte[] text) {
    var trainer = new ZstdDictTrainer(1 << 16, 1 << 12);
    var random = new Random(1);
    for (int i = 0; i < 500; i++) {
      trainer.addSample(Arrays.copyOfRange(text, random.nextInt(100), 300 + random.nextInt(200)));
    }
    return trainer.trainSamples();
  }

  /// However far it expands, only a piece of it is in memory; here 60 MB from less than a
  /// thousandth.
  @ParameterizedTest
  @ValueSource(strings = {".gz", ".zst"})
  void bombsAreStreamed(String extension) throws Exception {
    byte[] block = "whale ".repeat(400_000).getBytes(StandardCharsets.UTF_8);
    byte[] member = packed(extension, block);
    var bytes = new ByteArrayOutputStream();
    for (int i = 0; i < 25; i++) {
      bytes.write(member);
    }
    long length = 0;
    try (var cursor =
        Documents.at(write("b.txt" + extension, bytes.toByteArray()), "text").open()) {
      var pieces = new Pieces();
      pieces.open(cursor.next());
      for (String piece = pieces.next(); piece != null; piece = pieces.next()) {
        assertTrue(piece.length() <= 2 * Pieces.SIZE);
        length += piece.length();
      }
    }
    assertEquals(25L * block.length, length);
  }

  /// A file whose reading fails even for the superuser.
  @Test
  void unreadableFiles() throws Exception {
    Path file = Files.createSymbolicLink(folder.resolve("memory.txt"), Path.of("/proc/self/mem"));
    assertComplains(file, "memory.txt cannot be read", "Input/output error");
    assertComplains(folder, "memory.txt cannot be read");
    Files.delete(file);
    Files.createDirectory(folder.resolve("sub"));
    write("a.txt", "text");
    var documents = Documents.at(folder, "text");
    Files.delete(folder.resolve("a.txt"));
    var e = assertThrows(InvalidInputException.class, () -> read(documents));
    assertTrue(e.getMessage().contains("a.txt does not exist"), e.getMessage());
    assertThrows(InvalidInputException.class, documents::fingerprint);
  }

  /// A pipe would be waited for, a device never ends.
  @Test
  void onlyRegularFilesAreOpened() throws Exception {
    Path pipe = folder.resolve("book.txt");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    assertComplains(pipe, "book.txt is a pipe or a device, not a regular file");
    assertComplains(folder, "book.txt is a pipe or a device, not a regular file");
    Files.delete(pipe);
    Path device = Files.createSymbolicLink(folder.resolve("d.jsonl"), Path.of("/dev/zero"));
    assertComplains(device, "d.jsonl is a pipe or a device");
    assertComplains(folder, "d.jsonl is a pipe or a device");
    Files.delete(device);
    Path nowhere = Files.createSymbolicLink(folder.resolve("n.parquet"), folder.resolve("gone"));
    assertComplains(nowhere, "n.parquet is a link that leads nowhere");
    assertComplains(folder, "n.parquet is a link that leads nowhere");
  }

  @Test
  void linksInAFolder() throws Exception {
    write("elsewhere/a.txt", "a");
    write("data/b.txt", "b");
    write("data/B.txt", "B");
    write("data/c\u001B\n.txt", "c");
    Path data = folder.resolve("data");
    Files.createSymbolicLink(data.resolve("d.txt"), folder.resolve("elsewhere/a.txt"));
    Files.createSymbolicLink(data.resolve("e"), folder.resolve("elsewhere"));
    Files.createDirectory(data.resolve("f.txt")); // a folder, whatever its name
    write("data/table.csv", "1,2");
    write("data/x.tar.gz", "");
    var documents = Documents.at(data, "text");
    assertEquals(
        List.of("B.txt", "b.txt", "c\u001B\n.txt", "d.txt", "e/a.txt"),
        List.copyOf(read(documents).keySet()));
    assertEquals(1, documents.notes().size());
    assertTrue(
        documents.notes().getFirst().endsWith("does not read their kind: 2, such as table.csv."),
        documents.notes()::toString);
    Files.createSymbolicLink(data.resolve("e2"), data);
    assertComplains(
        data, "The folder " + data, "links that lead in a circle: " + data.resolve("e2"));
  }

  /// However the characters arrive, the pieces are the same, and together they are the text.
  @Test
  void piecesDependOnTheTextAlone() throws Exception {
    String lines = "a line\n  indented\nand so on\n".repeat(150_000);
    for (String text :
        new String[] {
          "",
          "a",
          lines,
          "🐋".repeat(1_600_000) + "x",
          "x" + "🐋".repeat(1_100_000),
          "word ".repeat(900_000)
        }) {
      var joined = new StringBuilder();
      var pieces = new Pieces();
      var slow = new Pieces();
      pieces.open(new Document("whole", new StringReader(text)));
      slow.open(
          new Document(
              "slow",
              new StringReader(text) {
                @Override
                public int read(char[] into, int offset, int length) throws IOException {
                  return super.read(into, offset, Math.min(length, 99_991));
                }
              }));
      for (String piece = pieces.next(); piece != null; piece = pieces.next()) {
        assertEquals(piece, slow.next());
        assertTrue(!piece.isEmpty() && piece.length() <= 2 * Pieces.SIZE);
        assertEquals(
            piece, new String(piece.getBytes(StandardCharsets.UTF_8), StandardCharsets.UTF_8));
        joined.append(piece);
        if (text.equals(lines) && joined.length() < text.length()) {
          assertTrue(piece.endsWith("\n") && text.charAt(joined.length()) != ' ');
        }
      }
      assertEquals(text, joined.toString());
      assertEquals(text.length(), pieces.position());
    }
  }
}
