package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/// `./sluice` itself, with a program in place of Java that says what it was given.
@EnabledOnOs(OS.LINUX)
class LauncherTest {
  @TempDir Path directory;

  /// Java reads its arguments as the locale says: without UTF-8 a prompt beyond ASCII would be
  /// another one, and a file named so could not be opened.
  @Test
  void javaIsStartedInALocaleOfUtf8() throws Exception {
    prepare();
    assertEquals("C.UTF-8", said(Map.of()));
    assertEquals("C.UTF-8", said(Map.of("LC_ALL", "C")));
    assertEquals("C.UTF-8", said(Map.of("LANG", "xx_XX.UTF-8"))); // which is not installed
    assertEquals("", said(Map.of("LANG", "C.UTF-8")));
    assertEquals("C.utf8", said(Map.of("LC_ALL", "C.utf8")));
  }

  @Test
  void whatIsBuiltWithLibrariesThatAreGoneIsBuiltAgain() throws Exception {
    prepare();
    Files.writeString(directory.resolve("target/class-path"), "pom.xml:none.jar");
    program("jdk/bin/mvn", "echo pom.xml >target/class-path");
    var said = said(Map.of("PATH", directory.resolve("jdk/bin") + ":/usr/bin:/bin"));
    assertTrue(said.startsWith("Building Sluice with "), said);
    assertTrue(said.endsWith("C.UTF-8"), said);
  }

  private void prepare() throws IOException {
    Files.createDirectories(directory.resolve("src/main"));
    Files.createDirectories(directory.resolve("target"));
    Files.createDirectories(directory.resolve("jdk/bin"));
    Files.copy(Path.of("sluice"), directory.resolve("sluice"));
    Files.copy(Path.of("pom.xml"), directory.resolve("pom.xml"));
    Files.writeString(directory.resolve("jdk/release"), "JAVA_VERSION=\"25\"\n");
    program("jdk/bin/javac", "");
    program("jdk/bin/jar", "");
    program("jdk/bin/java", "echo \"${LC_ALL:-}\"");
    Files.writeString(directory.resolve("target/class-path"), "pom.xml");
    Path built = Files.createFile(directory.resolve("target/sluice.built"));
    Files.setLastModifiedTime(built, FileTime.from(Instant.now().plusSeconds(60)));
  }

  private void program(String name, String line) throws IOException {
    Path file = Files.writeString(directory.resolve(name), "#!/bin/bash\n" + line + "\n");
    Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwx------"));
  }

  private String said(Map<String, String> environment) throws IOException, InterruptedException {
    var builder =
        new ProcessBuilder("bash", directory.resolve("sluice").toString(), "plan")
            .directory(directory.toFile())
            .redirectErrorStream(true);
    builder.environment().keySet().removeIf(name -> name.startsWith("LC_") || name.equals("LANG"));
    builder.environment().remove("HOME"); // as for a service of the system
    builder.environment().putAll(environment);
    builder.environment().put("JAVA_HOME", directory.resolve("jdk").toString());
    var process = builder.start();
    var said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), said);
    return said.stripTrailing();
  }
}
