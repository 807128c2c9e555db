package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.io.StringWriter;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tools.jackson.databind.json.JsonMapper;

/// The code of the documentation compiles and does what is said.
class LibraryPageTest {
  private static final Pattern BLOCK = Pattern.compile("(?ms)^```java\n(.*?)^```$");

  private static final String MODEL = "samples/tiny-chat";

  @TempDir private Path directory;

  private static List<String> blocks(String page) throws Exception {
    return BLOCK.matcher(Files.readString(Path.of(page))).results().map(m -> m.group(1)).toList();
  }

  private static List<String> imports(String code, boolean are) {
    return code.lines().filter(line -> line.startsWith("import ") == are).toList();
  }

  /// What a program prints.
  private String output(String name, String source, String... arguments) throws Exception {
    Path file = Files.writeString(directory.resolve(name + ".java"), source);
    var compiler = ToolProvider.getSystemJavaCompiler();
    var said = new StringWriter();
    try (var files = compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8)) {
      var options = List.of("-d", directory.toString(), "-Xlint:all,-path,-processing", "-Werror");
      boolean compiled =
          compiler.getTask(said, files, null, options, null, files.getJavaFileObjects(file)).call();
      assertTrue(compiled, () -> said + source);
    }
    var printed = new ByteArrayOutputStream();
    var before = System.out;
    try (var loader = new URLClassLoader(new URL[] {directory.toUri().toURL()})) {
      System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
      var program = loader.loadClass(name);
      var constructor = program.getDeclaredConstructor();
      constructor.setAccessible(true);
      var main = program.getDeclaredMethod("main", String[].class);
      main.setAccessible(true);
      main.invoke(constructor.newInstance(), (Object) arguments);
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8);
  }

  @Test
  void thePageIsAProgramThatRuns() throws Exception {
    String code = String.join("\n", blocks("docs/library.md"));
    String opening = "Path.of(\"path/to/qwen3\")";
    assertTrue(code.contains(opening), code);
    String statements =
        String.join("\n", imports(code, false)).replace(opening, "Path.of(arguments[0])");
    String output =
        output(
            "Page",
            "%s\nclass Page {\nvoid main(String[] arguments) {\n%s\n}\n}\n"
                .formatted(String.join("\n", imports(code, true)), statements),
            MODEL);
    assertTrue(output.contains(" after 40 tokens]") || output.contains("[STOP after"), output);
    var called = Pattern.compile("weather (\\{[^}]*})").matcher(output);
    assertTrue(called.find(), output);
    var arguments = JsonMapper.shared().readTree(called.group(1)); // as a random model wrote them
    assertEquals(1, arguments.size(), output);
    assertTrue(Set.of("Rome", "Oslo").contains(arguments.path("city").asString("")), output);
    assertTrue(
        output
            .lines()
            .filter(line -> line.strip().startsWith("{"))
            .anyMatch(line -> JsonMapper.shared().readTree(line).path("salt").isBoolean()),
        output);
    assertTrue(output.contains("64 numbers from "), output);
    assertTrue(
        Pattern.compile("layer 1: mean gate score 0\\.\\d{3}").matcher(output).find(), output);
    var reused = Pattern.compile("(\\d+) tokens not read again").matcher(output);
    assertTrue(reused.find() && Integer.parseInt(reused.group(1)) > 10, output);
  }

  @Test
  void theProgramOfTheReadmeRuns() throws Exception {
    var blocks = blocks("README.md");
    assertEquals(1, blocks.size());
    String output = output("Ask", blocks.getFirst(), MODEL);
    assertTrue(output.lines().count() >= 1 && !output.isBlank(), output);
    assertEquals(
        "",
        blocks.stream()
            .filter(block -> !block.contains("TextModel"))
            .collect(Collectors.joining()));
  }
}
