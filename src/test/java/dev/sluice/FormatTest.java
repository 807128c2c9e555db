package dev.sluice;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.googlejavaformat.java.Formatter;
import com.google.googlejavaformat.java.RemoveUnusedImports;
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
    boolean fix = "fix".equals(System.getProperty("format"));
    var formatter = new Formatter();
    List<Path> wrong = new ArrayList<>();
    for (String root : List.of("src", "langchain4j/src", "samples")) {
      for (Path file : sources(Path.of(root))) {
        String source = Files.readString(file);
        String formatted =
            RemoveUnusedImports.removeUnusedImports(formatter.formatSourceAndFixImports(source));
        if (formatted.equals(source)) {
          continue;
        }
        if (fix) {
          Files.writeString(file, formatted);
        } else {
          wrong.add(file);
        }
      }
    }
    assertEquals(
        List.of(), wrong, "not formatted; run: mvn -q test -Dtest=FormatTest -Dformat=fix");
  }

  private static List<Path> sources(Path root) throws IOException {
    try (var files = Files.walk(root)) {
      return files.filter(file -> file.toString().endsWith(".java")).sorted().toList();
    }
  }
}
