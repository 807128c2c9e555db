package dev.sluice.corpus;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.SplittableRandom;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class RowsTest {
  private static final Path ROWS = DocumentsTest.RESOURCES.resolve("rows");

  @TempDir Path folder;

  private Path write(String name, String text) throws IOException {
    return Files.writeString(folder.resolve(name), text);
  }

  private static String complaint(Path file) {
    String message =
        assertThrows(InvalidInputException.class, () -> Rows.read(file, 0)).getMessage();
    assertEquals(1, message.lines().count(), message);
    return message;
  }

  /// Strings, numbers, truth values, nulls, lists, and lists within a struct.
  @ParameterizedTest
  @ValueSource(strings = {"rows-arrow", "rows-plain-v2", "rows-polars", "rows-duckdb"})
  void parquetHasTheRowsOfItsJson(String name) {
    var expected = Rows.read(ROWS.resolve("rows.jsonl"), 0);
    var rows = Rows.read(ROWS.resolve(name + ".parquet"), 0);
    assertEquals(40, rows.size());
    for (int i = 0; i < rows.size(); i++) {
      assertEquals(expected.get(i).toString(), rows.get(i).toString());
    }
    assertEquals(rows.subList(0, 17), Rows.read(ROWS.resolve(name + ".parquet"), 17));
  }

  @Test
  void objectsOneAfterTheOtherOrInAnArray() throws IOException {
    String two = "{\"a\": 1}\n\n{\"a\": [2, {\"b\": null}]}";
    var expected = Rows.read(write("two.jsonl", two), 0);
    assertEquals(2, expected.size());
    assertEquals(expected, Rows.read(write("two.json", "[" + two.replace("\n\n", ",") + "]"), 0));
    assertEquals(expected.subList(0, 1), Rows.read(write("two.jsonl", two), 1));
    Path packed = folder.resolve("two.jsonl.gz");
    try (var out = new GZIPOutputStream(Files.newOutputStream(packed))) {
      out.write(two.getBytes(StandardCharsets.UTF_8));
    }
    assertEquals(expected, Rows.read(packed, 0));
    assertEquals(
        "a\nb\n", Rows.read(write("text.txt", "a\nb\n"), 0).getFirst().path("text").asString());
  }

  @Test
  void whatHoldsNoRows() throws IOException {
    assertTrue(complaint(write("a.csv", "a,b")).contains("of a kind that Sluice does not read"));
    assertTrue(complaint(write("a.jsonl", "")).contains("has no rows"));
    assertTrue(complaint(write("b.jsonl", "{\"a\": 1}\n\"b\"")).contains("line 2 holds no JSON"));
    assertTrue(complaint(write("c.jsonl", "{\"a\": 1}\n{\"a\"")).contains("line 2 is not valid"));
    assertTrue(complaint(write("d.jsonl", "{\"a\": 1, \"a\": 2}")).contains("given twice"));
    assertTrue(complaint(folder.resolve("e.jsonl")).contains("does not exist"));
    assertTrue(complaint(write("f.parquet", "PAR1")).contains("cannot be read as Parquet"));
  }

  /// Bytes that were changed give rows or one sentence.
  @Test
  void damagedParquet() throws IOException {
    var random = new SplittableRandom(3);
    for (String name : new String[] {"rows-arrow", "rows-plain-v2", "rows-duckdb"}) {
      byte[] whole = Files.readAllBytes(ROWS.resolve(name + ".parquet"));
      for (int i = 0; i < 60; i++) {
        byte[] changed = whole.clone();
        for (int j = 0; j < 1 + i % 3; j++) {
          changed[random.nextInt(changed.length)] ^= (byte) (1 << random.nextInt(8));
        }
        Path file = Files.write(folder.resolve("x.parquet"), changed);
        try {
          Rows.read(file, 0);
        } catch (InvalidInputException e) {
          assertEquals(1, e.getMessage().lines().count(), e.getMessage());
        }
      }
    }
  }
}
