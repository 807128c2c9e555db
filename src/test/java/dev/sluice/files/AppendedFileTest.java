package dev.sluice.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AppendedFileTest {
  @TempDir Path directory;

  private static List<String> lines(Path file) throws Exception {
    return AppendedFile.lines(file, 1000, "remove it");
  }

  @Test
  void aLineThatWasCutOffIsTakenAway() throws Exception {
    Path file = directory.resolve("lines");
    assertEquals(List.of(), lines(file));
    Files.writeString(file, "one\n\ntwo\nthr");
    assertEquals(List.of("one", "", "two"), lines(file));
    try (var appended = AppendedFile.open(file)) {
      appended.line("three");
    }
    assertEquals("one\n\ntwo\nthree\n", Files.readString(file));
  }

  @Test
  void nothingIsWrittenThroughALink() throws Exception {
    Path other = Files.writeString(directory.resolve("other"), "one\ntw");
    Path link = Files.createSymbolicLink(directory.resolve("link"), other);
    for (var use : List.<ThrowingUse>of(AppendedFileTest::lines, AppendedFile::open)) {
      var refused = assertThrows(InvalidInputException.class, () -> use.of(link));
      assertTrue(refused.getMessage().contains(link + " is a link"), refused::getMessage);
    }
    assertEquals("one\ntw", Files.readString(other));
  }

  private interface ThrowingUse {
    Object of(Path file) throws Exception;
  }
}
