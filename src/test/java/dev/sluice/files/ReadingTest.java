package dev.sluice.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.json.JsonMapper;

class ReadingTest {
  private static final JsonMapper MAPPER = JsonFile.mapper().build();

  @TempDir Path directory;

  private record Counts(int steps, double share, String name) {}

  private String json(String text) throws IOException {
    Path file = Files.writeString(directory.resolve("a.json"), text);
    return assertThrows(
            InvalidInputException.class,
            () -> JsonFile.bound(file, JsonFile.SMALL, MAPPER, Counts.class, "write it again"))
        .getMessage()
        .replace(file.toString(), "FILE");
  }

  /// Where, and what was found there.
  @Test
  void whatIsWrongWithJsonIsSaidInWords() throws IOException {
    assertEquals(
        "FILE is not valid JSON: line 2, near '{ \"steps\": NaN}'; write it again",
        json("{\n \"steps\": NaN}"));
    assertEquals(
        "FILE is not valid JSON: it ends within a value (line 1, near '{\"steps\":'); write it"
            + " again",
        json("{\"steps\": "));
    String twice = json("{\"steps\": 1, \"steps\": 2}");
    assertTrue(
        twice.startsWith("FILE is not valid JSON: the key 'steps' is given twice (line 1"), twice);
    assertTrue(json("[".repeat(100_000)).contains("nested deeper than 200 levels"));
    assertEquals("FILE does not hold a JSON object; write it again", json("[1]"));
    assertEquals(
        "FILE has a value of the wrong kind at steps; write it again", json("{\"steps\": \"4\"}"));
    assertEquals(
        "FILE has a value of the wrong kind at steps; write it again", json("{\"steps\": 1.5}"));
    assertEquals(
        "FILE has a value of the wrong kind at steps; write it again",
        json("{\"steps\": 99999999999}"));
    assertEquals(
        "FILE has a value of the wrong kind at name; write it again",
        json("{\"steps\": 1, \"share\": 0.5, \"name\": {}}"));
  }

  @Test
  void jsonMustBeUtf8() throws IOException {
    Path file = directory.resolve("latin.json");
    Files.write(file, "{\"name\": \"caf\u00E9\"}".getBytes(StandardCharsets.ISO_8859_1));
    var e =
        assertThrows(
            InvalidInputException.class,
            () -> JsonFile.read(file, JsonFile.SMALL, "save it again"));
    assertTrue(e.getMessage().contains("is not UTF-8 text"), e.getMessage());
  }

  @Test
  void numbersThatAreNoNumbersAreReadWhereTheyAreWritten() throws IOException {
    Path file = Files.writeString(directory.resolve("a.json"), "{\"steps\":1,\"share\":\"NaN\"}");
    var counts = JsonFile.bound(file, JsonFile.SMALL, MAPPER, Counts.class, "");
    assertTrue(Double.isNaN(counts.share()));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "a = = 1 | line 1",
        "a = 1 b = 2 | line 1",
        "a = 99999999999999999999999999999999999999999999 | "
      })
  void whatIsWrongWithTomlIsSaidInWords(String text, String part) throws IOException {
    Path file = Files.writeString(directory.resolve("a.toml"), text);
    if (part == null) {
      assertTrue(TomlFile.read(file).path("a").isIntegralNumber());
      return;
    }
    var e = assertThrows(InvalidInputException.class, () -> TomlFile.read(file));
    assertTrue(e.getMessage().contains(part), e.getMessage());
  }

  @Test
  void tomlThatIsNestedTooDeeply() throws IOException {
    for (String text :
        new String[] {"a = " + "[".repeat(50_000), "a = " + "{a=".repeat(50_000) + "1"}) {
      Path file = Files.writeString(directory.resolve("deep.toml"), text);
      var e = assertThrows(InvalidInputException.class, () -> TomlFile.read(file));
      assertTrue(e.getMessage().contains("TOML"), e.getMessage());
    }
  }

  @Test
  void onlyRegularFilesAreRead() throws IOException, InterruptedException {
    Path pipe = directory.resolve("pipe");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    assertEquals(pipe + " is a pipe or a device, not a regular file; name another", refused(pipe));
    assertEquals(directory + " is a directory; name another", refused(directory));
    assertEquals(
        directory.resolve("none") + " does not exist; name another",
        refused(directory.resolve("none")));
    Path link = Files.createSymbolicLink(directory.resolve("link"), Path.of("nowhere"));
    assertEquals(link + " is a link that leads nowhere; name another", refused(link));
    Path large = Files.write(directory.resolve("large"), new byte[11]);
    assertEquals(
        large + " has 11 bytes, more than the 10 that such a file may have; name another",
        refused(large));
    Path good = Files.write(directory.resolve("good"), new byte[10]);
    assertEquals(10, RegularFile.read(good, 10, "").length);
  }

  private static String refused(Path file) {
    return assertThrows(
            InvalidInputException.class, () -> RegularFile.read(file, 10, "name another"))
        .getMessage();
  }
}
