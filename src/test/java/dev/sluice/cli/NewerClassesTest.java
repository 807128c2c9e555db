package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;

import java.lang.classfile.ClassFile;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.jar.JarFile;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

class NewerClassesTest {
  @TempDir Path directory;

  /// Loaded without the others, every one of them is verified as a class of this Java's.
  @Test
  void theClassesAreTheSameInANewerForm() throws Exception {
    Path jar =
        Path.of(CommandLine.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    Path newer = directory.resolve("newer.jar");
    NewerClasses.write(jar, newer);
    int count = 0;
    try (var file = new JarFile(newer.toFile());
        var loader = new URLClassLoader(new URL[] {newer.toUri().toURL()}, null)) {
      for (var entry : (Iterable<java.util.jar.JarEntry>) file.stream()::iterator) {
        byte[] bytes = file.getInputStream(entry).readAllBytes();
        assertEquals(ClassFile.latestMajorVersion(), ClassFile.of().parse(bytes).majorVersion());
        String name = entry.getName().replace('/', '.').replace(".class", "");
        if (!name.contains("Groovy") && !name.contains("groovy")) {
          assertNotSame(CommandLine.class, Class.forName(name, true, loader));
        }
        count++;
      }
    }
    try (var file = new JarFile(jar.toFile())) {
      long classes =
          file.stream()
              .filter(e -> e.getName().startsWith("picocli/") && e.getName().endsWith(".class"))
              .count();
      assertEquals(classes, count);
    }
  }
}
