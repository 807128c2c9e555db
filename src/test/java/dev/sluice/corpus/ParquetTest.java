package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Parquet files that pyarrow, Polars and DuckDB wrote, and such as no writer writes.
class ParquetTest {
  private static final Path FILES = DocumentsTest.RESOURCES;

  @TempDir Path folder;

  private static List<String> texts(Path file, String field) {
    return List.copyOf(DocumentsTest.read(Documents.at(file, field)).values());
  }

  private static String complaint(Path file, String field) {
    var e = assertThrows(InvalidInputException.class, () -> texts(file, field), file::toString);
    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    return e.getMessage();
  }

  private static void assertComplains(Path file, String field, String... parts) {
    String message = complaint(file, field);
    for (String part : parts) {
      assertTrue(message.contains(part), message);
    }
  }

  private Path write(byte[] content) throws IOException {
    return Files.write(folder.resolve("x.parquet"), content);
  }

  /// Every codec and encoding of byte arrays, both formats of pages, row groups, checksums,
  /// indices.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "plain",
        "snappy-dictionary-checksums",
        "gzip-delta-lengths-v2",
        "zstd-delta-bytes-v2",
        "zstd-duckdb-v2",
        "brotli-plain",
        "lz4-dictionary",
        "lz4-polars"
      })
  void everyKindGivesTheSameTexts(String kind) {
    List<String> expected = texts(FILES.resolve("texts.jsonl"), "text");
    assertEquals(48, expected.size());
    assertEquals(expected, texts(FILES.resolve("kinds/" + kind + ".parquet"), "text"));
  }

  @Test
  void columnsAreFoundByTheirNames() {
    Path file = FILES.resolve("names.parquet");
    assertEquals(List.of("literal", "literal"), texts(file, "text.en"));
    assertEquals(List.of("innen", "innen"), texts(file, "text.de"));
    assertEquals(List.of("one", "two"), texts(file, "meta.text"));
    assertComplains(
        file, "text", "'text' is a list or a struct with [text.en, text.de]; name a column");
    assertComplains(file, "words", "'words' is a list or a struct with [words.list.element]");
    assertComplains(file, "words.list.element", "'words.list.element' holds lists");
    assertComplains(file, "number", "'number' holds no strings but INT64");
    assertComplains(
        file, "latin", "the column 'latin' is not UTF-8 (4 broken characters in 20 bytes", "row 1");
    assertComplains(file, "some.text", "names.parquet: row 2 has no 'some.text'");
    assertComplains(
        file, "body", "no column 'body' but [text.en, text.en, text.de, meta.text, meta.lang,");
    var pieces = new Pieces();
    try (var cursor = Documents.at(file, "zero").open()) {
      pieces.open(cursor.next());
      assertEquals("fine", pieces.next());
      pieces.open(cursor.next());
      var e = assertThrows(InvalidInputException.class, pieces::next);
      assertTrue(e.getMessage().startsWith("names.parquet:2 holds the character U+0000 (after 1"));
    }
  }

  @Test
  void whatCannotBeReadIsSaid() throws Exception {
    Path rows = FILES.resolve("three-rows.parquet");
    assertComplains(rows, "body", "no column 'body' but [id, text, ");
    assertComplains(rows, "id", "the column 'id' holds no strings but INT64");
    assertComplains(FILES.resolve("null-row.parquet"), "text", "row 2 has no 'text'");
    for (String encrypted : List.of("encrypted.parquet", "encrypted-column.parquet")) {
      assertComplains(FILES.resolve(encrypted), "text", encrypted + " is encrypted");
    }
    byte[] whole = Files.readAllBytes(rows);
    assertComplains(write("PAR1 no PAR1".getBytes(StandardCharsets.UTF_8)), "text", "cannot be");
    assertComplains(write(new byte[0]), "text", "cannot be read as Parquet (it has only 0 bytes)");
    assertComplains(write(Arrays.copyOf(whole, 500)), "text", "so a part is missing");
    byte[] other = whole.clone();
    other[0] = 'X';
    assertComplains(write(other), "text", "it does not begin with PAR1");
    byte[] flipped = whole.clone();
    Arrays.fill(flipped, 4, 300, (byte) 0x5A);
    assertComplains(write(flipped), "text", "x.parquet cannot be read as Parquet");
    byte[] checked = Files.readAllBytes(FILES.resolve("kinds/snappy-dictionary-checksums.parquet"));
    int text = new String(checked, StandardCharsets.ISO_8859_1).indexOf("Ishmael");
    checked[text] ^= 1;
    assertComplains(write(checked), "text", "the checksum of a page differs");
  }

  // ---------------------------------------------------------------- files that no writer writes

  /// Thrift's compact protocol; fields are given by how far they are from the one before.
  private static final class Thrift {
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

    Thrift raw(int... values) {
      for (int value : values) {
        bytes.write(value);
      }
      return this;
    }

    Thrift number(long number) {
      for (; number > 0x7F || number < 0; number >>>= 7) {
        bytes.write((int) (number & 0x7F | 0x80));
      }
      bytes.write((int) number);
      return this;
    }

    Thrift integer(int step, long value) {
      return raw(step << 4 | 6).number(value << 1 ^ value >> 63);
    }

    Thrift text(int step, String text) {
      return raw(step << 4 | 8).number(text.length()).add(text);
    }

    Thrift add(String text) {
      bytes.writeBytes(text.getBytes(StandardCharsets.UTF_8));
      return this;
    }

    Thrift struct(int step, Thrift struct) {
      bytes.write(step << 4 | 12);
      return add(struct);
    }

    Thrift list(int step, int type, Thrift... elements) {
      raw(step << 4 | 9, elements.length << 4 | type);
      for (Thrift element : elements) {
        add(element);
      }
      return this;
    }

    Thrift add(Thrift other) {
      bytes.writeBytes(other.bytes.toByteArray());
      return this;
    }

    Thrift end() {
      return raw(0);
    }
  }

  private static Thrift schema() {
    var root = new Thrift().text(4, "schema").integer(1, 1).end();
    return new Thrift().list(2, 12, root, column());
  }

  private static Thrift column() {
    return new Thrift().integer(1, 6).integer(2, 0).text(1, "text").end();
  }

  /// A footer with one row group of the column.
  private static Thrift footer(long rows, int codec, long length, long start) {
    var data =
        new Thrift()
            .integer(1, 6)
            .list(2, 8, new Thrift().number(4).add("text"))
            .integer(1, codec)
            .integer(1, rows)
            .integer(2, length)
            .integer(2, start)
            .end();
    var chunk = new Thrift().integer(2, 4).struct(1, data).end();
    return schema()
        .integer(1, rows)
        .list(1, 12, new Thrift().list(1, 12, chunk).integer(2, rows).end());
  }

  /// The header of a data page in the first format.
  private static Thrift page(long fullSize, long size, long count, int encoding) {
    var data = new Thrift().integer(1, count).integer(1, encoding).integer(1, 3).end();
    return new Thrift().integer(1, 0).integer(1, fullSize).integer(1, size).struct(2, data).end();
  }

  private static byte[] file(byte[] pages, Thrift footer) {
    byte[] end = footer.bytes.toByteArray();
    return ByteBuffer.allocate(12 + pages.length + end.length)
        .order(ByteOrder.LITTLE_ENDIAN)
        .put("PAR1".getBytes(StandardCharsets.US_ASCII))
        .put(pages)
        .put(end)
        .putInt(end.length)
        .put("PAR1".getBytes(StandardCharsets.US_ASCII))
        .array();
  }

  private static byte[] pages(Thrift header, byte[] content) {
    return new Thrift().add(header).raw(unsigned(content)).bytes.toByteArray();
  }

  private static int[] unsigned(byte[] bytes) {
    return IntStream.range(0, bytes.length).map(i -> bytes[i]).toArray();
  }

  private static final byte[] AB = {1, 0, 0, 0, 'a', 1, 0, 0, 0, 'b'};

  private static byte[] whole(int codec, int fullSize, byte[] content) {
    byte[] pages = pages(page(fullSize, content.length, 2, 0), content);
    return file(pages, footer(2, codec, pages.length, 4).end());
  }

  @Test
  void handMadeFilesAreRead() throws Exception {
    assertEquals(List.of("a", "b"), texts(write(whole(0, AB.length, AB)), "text"));
    byte[] zeros = new byte[8];
    assertEquals(List.of("", ""), texts(write(whole(0, 8, zeros)), "text"));
    byte[] repeated = {8, 4, 0, 1, 0, 0b11101}; // Snappy: a zero byte, and copies of it
    assertEquals(List.of("", ""), texts(write(whole(1, 8, new byte[] {8, 0, 0, 13, 1})), "text"));
    assertComplains(write(whole(1, 8, repeated)), "text", "cannot be read as Parquet");
    byte[] hadoop = {0, 0, 0, 8, 0, 0, 0, 6, 0x12, 0, 1, 0, 0x10, 0};
    assertEquals(List.of("", ""), texts(write(whole(5, 8, hadoop)), "text"));
    byte[] raw = Arrays.copyOfRange(hadoop, 8, 14);
    assertEquals(List.of("", ""), texts(write(whole(5, 8, raw)), "text"), "LZ4 without Hadoop");
    assertEquals(List.of("", ""), texts(write(whole(7, 8, raw)), "text"));
  }

  /// Each is refused at once, whatever it claims.
  @Test
  void liesAreRefused() throws Exception {
    byte[] good = pages(page(AB.length, AB.length, 2, 0), AB);
    assertComplains(write(whole(3, AB.length, AB)), "text", "compressed with LZO", "with ZSTD");
    assertComplains(write(whole(99, AB.length, AB)), "text", "compressed with codec 99");
    long huge = Integer.MAX_VALUE;
    for (Thrift footer :
        List.of(
            footer(2, 0, good.length, -4).end(),
            footer(2, 0, -1, 4).end(),
            footer(2, 0, huge, 4).end(),
            footer(2, 0, Long.MAX_VALUE, 4).end(),
            footer(2, 0, good.length, Long.MAX_VALUE).end(),
            footer(-2, 0, good.length, 4).end(),
            footer(1, 0, good.length, 4).end(),
            footer(3, 0, good.length, 4).end(),
            footer(huge, 0, good.length, 4).end(),
            footer(Long.MAX_VALUE, 0, good.length, 4).end(),
            footer(2, 0, good.length - 1, 4).end(), // a page longer than its column
            footer(2, 0, good.length, 4), // without an end
            schema().raw(0x29, 0xFC).number(huge).end(), // that many row groups
            new Thrift().raw(0x29, 0xFC).number(huge).end(), // that many elements of a schema
            new Thrift().raw(0x29, 0xFC).number(-1).end(),
            schema().raw(0x48).number(huge).end(), // a text of 2 GB
            schema().raw(0x79, 0xF1).number(huge).end(), // so many truth values
            schema().raw(0x7B).number(huge).raw(0x11).end(), // and a map of them
            nested(0x1C), // structs in structs
            nested(0x19, 0x19), // lists in lists
            new Thrift().list(2, 12, deepSchema(200)).end())) {
      String message = complaint(write(file(good, footer)), "text");
      assertTrue(message.startsWith("x.parquet cannot be read as Parquet ("), message);
    }
    for (Thrift header :
        List.of(
            page(huge, AB.length, 2, 0),
            page(AB.length, huge, 2, 0),
            page(-1, AB.length, 2, 0),
            page(AB.length, -1, 2, 0),
            page(AB.length, AB.length, -1, 0),
            page(AB.length, AB.length, huge, 0),
            page(AB.length, AB.length, 2, 8), // no dictionary
            page(AB.length, AB.length, 2, -1),
            page(AB.length, AB.length, 2, 9),
            page(AB.length, AB.length, 0, 0))) {
      for (int codec : new int[] {0, 1, 2, 4, 5, 6, 7}) {
        byte[] pages = pages(header, AB);
        String message =
            complaint(write(file(pages, footer(2, codec, pages.length, 4).end())), "text");
        assertTrue(message.startsWith("x.parquet "), message);
      }
    }
    byte[] length = AB.clone();
    length[3] = 0x7F; // a string of 2 GB
    assertComplains(write(whole(0, AB.length, length)), "text", "a string is longer than its page");
    length[3] = -1;
    assertComplains(write(whole(0, AB.length, length)), "text", "a string is longer than its page");
  }

  private static Thrift nested(int... step) {
    var footer = schema().raw(0x70 | step[0] & 0xF);
    for (int i = 0; i < 100_000; i++) {
      footer.raw(step);
    }
    return footer;
  }

  private static Thrift[] deepSchema(int depth) {
    var elements = new Thrift[15];
    Arrays.fill(elements, new Thrift().text(4, "a").integer(1, depth).end());
    return elements;
  }

  /// The two formats that are decompressed here, on random data that has copies in it.
  @Test
  void ownDecompressors() throws Exception {
    var random = new Random(5);
    for (int length : new int[] {0, 1, 4, 59, 60, 61, 64, 65, 255, 270, 70_000}) {
      byte[] data = new byte[length];
      for (int i = 0; i < length; i++) {
        data[i] = i > 3 && random.nextInt(20) > 0 ? data[i - 1 - random.nextInt(3)] : (byte) i;
      }
      var snappy = new Thrift().number(length);
      if (length > 0) {
        literalsOfSnappy(snappy, data);
      }
      byte[] packed = snappy.bytes.toByteArray();
      assertArrayEquals(
          data, ParquetCodec.SNAPPY.decompress(packed, 0, packed.length, data.length));
    }
    byte[] copies = {
      11, 1 << 2, 'a', 'b', (3 - 1) << 2 | 2, 2, 0, 3 << 2 | 3, 1, 0, 0, 0, 1, 1 << 2
    };
    assertThrows(
        IOException.class, () -> ParquetCodec.SNAPPY.decompress(copies, 0, copies.length, 11));
    byte[] fine = Arrays.copyOf(copies, 12);
    fine[0] = 9;
    assertEquals(
        "ababaaaaa",
        new String(ParquetCodec.SNAPPY.decompress(fine, 0, 12, 9), StandardCharsets.US_ASCII));
    byte[] lz4 = {0x2F, 'a', 'b', 2, 0, (byte) 255, 10, 0x10, 'z'};
    assertEquals(
        "ab".repeat(143) + "z",
        new String(
            ParquetCodec.LZ4_RAW.decompress(lz4, 0, lz4.length, 287), StandardCharsets.US_ASCII));
    for (int size : new int[] {286, 288, 0}) {
      assertThrows(
          IOException.class, () -> ParquetCodec.LZ4_RAW.decompress(lz4, 0, lz4.length, size));
    }
  }

  /// Every length of a literal, as one.
  private static void literalsOfSnappy(Thrift out, byte[] data) {
    int rest = data.length - 1;
    if (rest < 60) {
      out.raw(rest << 2);
    } else if (rest < 1 << 8) {
      out.raw(60 << 2, rest);
    } else {
      out.raw(62 << 2, rest, rest >> 8, rest >> 16);
    }
    out.raw(unsigned(data));
  }

  @Test
  void longTexts() throws Exception {
    byte[] text =
        String.join("", Collections.nCopies(300_000, "鯨")).getBytes(StandardCharsets.UTF_8);
    byte[] content =
        ByteBuffer.allocate(8 + text.length)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putInt(text.length)
            .put(text)
            .putInt(0)
            .array();
    assertEquals(
        List.of("鯨".repeat(300_000), ""), texts(write(whole(0, content.length, content)), "text"));
  }
}
