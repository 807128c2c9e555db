package dev.sluice;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.googlejavaformat.java.Formatter;
import com.google.googlejavaformat.java.FormatterException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Every Java source is formatted by google-java-format. `mvn -q test -Dtest=FormatTest
/// -Dformat=fix` rewrites the files.
class FormatTest {
  @Test
  void sourcesAreFormatted() throws Exception {
    var formatter = new Formatter();
    List<Path> files = new ArrayList<>();
    for (String root : List.of("src", "langchain4j/src", "samples")) {
      files.addAll(sources(Path.of(root)));
    }
    var wrong = files.parallelStream().filter(file -> !isFormatted(file, formatter)).toList();
    assertEquals(
        List.of(), wrong, "not formatted; run: mvn -q test -Dtest=FormatTest -Dformat=fix");
  }

  /// After the fix, if that is asked for, it is.
  private static boolean isFormatted(Path file, Formatter formatter) {
    try {
      String source = Files.readString(file);
      String formatted = formatter.formatSourceAndFixImports(source);
      if (!formatted.equals(source) && "fix".equals(System.getProperty("format"))) {
        Files.writeString(file, formatted);
        return true;
      }
      return formatted.equals(source);
    } catch (IOException | FormatterException e) {
      throw new AssertionError(file + ": " + e.getMessage(), e);
    }
  }

  private static List<Path> sources(Path root) throws IOException {
    try (var files = Files.walk(root)) {
      return files.filter(file -> file.toString().endsWith(".java")).sorted().toList();
    }
  }
}
