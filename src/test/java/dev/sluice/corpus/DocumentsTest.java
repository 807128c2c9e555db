package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import dev.sluice.InvalidInputException;
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
import java.util.zip.GZIPInputStream;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class DocumentsTest {
  private static final Path DATA = Path.of("../shared/data");
  private static final Path PARQUET = Path.of("src/test/resources/dev/sluice/corpus");

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
  void mobyDickIsBundledUnchanged() throws Exception {
    String original;
    try (var in =
        new GZIPInputStream(Files.newInputStream(DATA.resolve("text/moby-dick.txt.gz")))) {
      original = new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
    assertEquals(Map.of("Moby-Dick:1", original), read(Documents.mobyDick()));
  }

  @Test
  void jsonLinesOfAPublishedSet() {
    var texts = read(Documents.at(DATA.resolve("eval/lambada_openai.jsonl.gz"), "context"));
    assertEquals(5153, texts.size());
    assertTrue(
        texts.get("lambada_openai.jsonl.gz:1").startsWith("In my palm"),
        () -> texts.get("lambada_openai.jsonl.gz:1"));
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
    Files.copy(PARQUET.resolve("three-rows.parquet"), folder.resolve("f.parquet"));
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
    assertComplains(folder.resolve("none"), "There is no data at " + folder.resolve("none"));
    assertComplains(write("table.csv", "a,b"), "table.csv", ".jsonl");
  }

  @Test
  void binaryAndForeignEncodings() throws Exception {
    assertComplains(write("a.txt", new byte[] {'a', 'b', 0, 'c'}), "a.txt is not text", "byte 2");
    assertComplains(
        write("b.txt", "Ging die schöne Müllerin über Öl".getBytes(StandardCharsets.ISO_8859_1)),
        "b.txt is not UTF-8",
        "4 broken characters");
    assertComplains(
        write("c.txt", "whale".getBytes(StandardCharsets.UTF_16LE)), "c.txt is not text");
    byte[] almost = "a whale ".repeat(100).getBytes(StandardCharsets.UTF_8);
    almost[17] = (byte) 0xFF;
    assertEquals(
        1,
        read(Documents.at(write("d.txt", almost), "text"))
            .get("d.txt")
            .chars()
            .filter(c -> c == 0xFFFD)
            .count());
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
          "{\"text\": \"a",
          "{\"text\": \"a\"} x",
          "[1]",
          "{",
          "x",
          "{\"text\": \"a\"}{}",
          "\"text\""
        }) {
      assertComplains(
          write("m.jsonl", good + "\n" + bad + "\n" + good),
          "m.jsonl:3 is not one JSON object in one line");
    }
  }

  @Test
  void missingFieldsAreNamed() throws Exception {
    assertComplains(
        write("m.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\", \"id\": 1}\n"),
        "m.jsonl:2 has no field 'text' but [body, id]");
    assertComplains(write("m.jsonl", "{\"text\": null}\n"), "m.jsonl:1: the field 'text' is not");
    assertComplains(write("m.jsonl", "{\"text\": {\"a\": 1}}\n"), "m.jsonl:1: the field 'text'");
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
          "t.txt" + extension + " is truncated, damaged or unreadable");
    }
    assertComplains(
        write("t.jsonl" + extension, "{\"text\": 1}"), "t.jsonl" + extension + " is trunc");
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
    assertTrue(e.getMessage().startsWith("a.txt cannot be read (NoSuchFile"), e.getMessage());
    assertThrows(InvalidInputException.class, documents::fingerprint);
  }

  @Test
  void parquetComplaints() throws Exception {
    Path rows = PARQUET.resolve("three-rows.parquet");
    assertTrue(complaint(rows, "body").contains("no column 'body' but [id, text, "));
    assertTrue(complaint(rows, "id").contains("the column 'id' holds no strings but INT64"));
    assertTrue(complaint(rows, "tags").contains("'tags'"));
    assertComplains(PARQUET.resolve("null-row.parquet"), "null-row.parquet: row 2 has no 'text'");
    assertComplains(write("x.parquet", "PAR1 no PAR1"), "x.parquet cannot be read as Parquet");
    byte[] whole = Files.readAllBytes(rows);
    assertComplains(write("x.parquet", Arrays.copyOf(whole, 500)), "x.parquet cannot be read");
    assertComplains(write("x.parquet", ""), "x.parquet cannot be read");
    byte[] flipped = whole.clone();
    Arrays.fill(flipped, 4, 300, (byte) 0x5A);
    assertComplains(write("x.parquet", flipped), "x.parquet cannot be read");
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
      pieces.open(new StringReader(text));
      slow.open(
          new StringReader(text) {
            @Override
            public int read(char[] into, int offset, int length) throws IOException {
              return super.read(into, offset, Math.min(length, 99_991));
            }
          });
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
