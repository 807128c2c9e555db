package dev.sluice.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CubinCacheTest {
  private static final byte[] CODE = {1, 2, 3};

  @TempDir private Path folder;
  private final AtomicInteger compilations = new AtomicInteger();

  private byte[] ask(String... decisive) {
    return new CubinCache(folder.resolve("sluice"))
        .of(
            "gate-sm_90",
            List.of(decisive),
            () -> {
              compilations.incrementAndGet();
              return CODE;
            });
  }

  private Path only() throws IOException {
    try (var files = Files.list(folder.resolve("sluice"))) {
      var all = files.toList();
      assertEquals(1, all.size(), all::toString);
      return all.getFirst();
    }
  }

  @Test
  void whatWasCompiledIsKept() throws IOException {
    assertArrayEquals(CODE, ask("text", "13.3"));
    assertArrayEquals(CODE, ask("text", "13.3"));
    assertEquals(1, compilations.get());
    assertTrue(only().getFileName().toString().startsWith("gate-sm_90-"));
  }

  @Test
  void anotherTextOrCompilerIsAnotherFile() {
    ask("text", "13.3");
    ask("text2", "13.3");
    ask("text", "13.4");
    ask("text1", "3.3");
    assertEquals(4, compilations.get());
  }

  @Test
  void whatIsNotWholeIsCompiledAgain() throws IOException {
    ask("text");
    byte[] whole = Files.readAllBytes(only());
    for (int cut : new int[] {0, 10, 64, whole.length - 1}) {
      Files.write(only(), Arrays.copyOf(whole, cut));
      assertArrayEquals(CODE, ask("text"));
      assertArrayEquals(whole, Files.readAllBytes(only()));
    }
    byte[] other = whole.clone();
    other[whole.length - 1] ^= 1;
    Files.write(only(), other);
    assertArrayEquals(CODE, ask("text"));
    assertEquals(6, compilations.get());
  }

  @Test
  void aFolderThatCannotBeWrittenIsSaid() throws IOException {
    Files.writeString(folder.resolve("sluice"), "a file");
    String said = assertThrows(InvalidInputException.class, () -> ask("text")).getMessage();
    assertTrue(said.contains("XDG_CACHE_HOME") && said.contains("sluice"), said);
  }
}
