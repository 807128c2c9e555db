package dev.sluice.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WholeDirectoryTest {
  @TempDir private Path directory;

  @Test
  void appearsWhole() throws IOException {
    Path target = directory.resolve("above/target");
    WholeDirectory.write(
        target,
        partial -> {
          assertTrue(Files.notExists(target));
          Files.writeString(partial.resolve("file"), "all");
        });
    assertEquals("all", Files.readString(target.resolve("file")));
    assertEquals(List.of(target), Trees.children(target.getParent()));
  }

  /// Two commands with one target: the first that is done has it.
  @Test
  void whatAnotherWroteMeanwhileStays() throws IOException {
    Path target = directory.resolve("target");
    var refusal =
        assertThrows(
            InvalidInputException.class,
            () ->
                WholeDirectory.write(
                    target,
                    ours -> {
                      Files.writeString(ours.resolve("file"), "ours");
                      WholeDirectory.write(
                          target, theirs -> Files.writeString(theirs.resolve("file"), "theirs"));
                    }));
    assertTrue(refusal.getMessage().contains("another command wrote it"), refusal.getMessage());
    assertEquals("theirs", Files.readString(target.resolve("file")));
    assertEquals(List.of(target), Trees.children(directory));
  }

  @Test
  void nothingStaysOfAFailure() throws IOException {
    Path target = directory.resolve("target");
    assertThrows(
        IOException.class,
        () ->
            WholeDirectory.write(
                target,
                partial -> {
                  Files.writeString(partial.resolve("file"), "half");
                  throw new IOException("the disk is full");
                }));
    assertEquals(List.of(), Trees.children(directory));
  }
}
