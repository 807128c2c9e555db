package dev.sluice.files;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WholeFileTest {
  @TempDir Path directory;

  @Test
  void replacesALinkAndNotWhatItLeadsTo() throws IOException {
    Path other = Files.writeString(directory.resolve("other"), "another's");
    Path file = Files.createSymbolicLink(directory.resolve("report"), other);
    WholeFile.write(file, "ours");
    assertEquals("another's", Files.readString(other));
    assertEquals("ours", Files.readString(file));
    assertFalse(Files.isSymbolicLink(file));
  }

  /// A pipe or a directory is there for others; a device would be taken from the whole machine.
  @Test
  void takesNoPlaceOfWhatIsNoFile() throws Exception {
    Path pipe = directory.resolve("pipe");
    assertEquals(0, new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor());
    Path folder = Files.createDirectory(directory.resolve("folder"));
    Path link = Files.createSymbolicLink(directory.resolve("link"), pipe);
    for (Path taken : List.of(pipe, folder, link)) {
      var refused = assertThrows(InvalidInputException.class, () -> WholeFile.write(taken, "ours"));
      assertTrue(refused.getMessage().contains("name another file"), refused.getMessage());
      assertFalse(Files.isRegularFile(taken));
    }
    assertTrue(Files.isDirectory(folder));
    assertEquals(List.of(folder, link, pipe), Trees.children(directory).stream().sorted().toList());
  }

  @Test
  void afterAFailureTheOldFileIsThereAndNothingBeside() throws IOException {
    Path file = Files.writeString(directory.resolve("metrics"), "old");
    var failure =
        assertThrows(
            IOException.class,
            () ->
                WholeFile.write(
                    file,
                    out -> {
                      out.write(1);
                      throw new IOException("No space left on device");
                    }));
    assertEquals(file + " cannot be written (No space left on device)", failure.getMessage());
    assertEquals("old", Files.readString(file));
    assertEquals(List.of(file), Trees.children(directory));
  }

  @Test
  void partialNamesCannotBeForeseenAndAreKnownAgain() {
    Path file = directory.resolve("a.json");
    Path one = WholeFile.partial(file);
    assertFalse(one.equals(WholeFile.partial(file)));
    assertTrue(WholeFile.isPartial(one));
    assertFalse(WholeFile.isPartial(file));
    assertFalse(WholeFile.isPartial(directory.resolve(".a.json.partial")));
  }

  @Test
  void aTreeIsRemovedWithoutFollowingLinks() throws IOException {
    Path kept = Files.createDirectory(directory.resolve("kept"));
    Files.writeString(kept.resolve("file"), "stays");
    Path tree = Files.createDirectories(directory.resolve("tree/below"));
    Files.createSymbolicLink(tree.resolve("link"), kept);
    Files.writeString(tree.resolve("own"), "goes");
    Trees.remove(directory.resolve("tree"));
    assertFalse(Files.exists(directory.resolve("tree")));
    assertEquals("stays", Files.readString(kept.resolve("file")));

    Path link = Files.createSymbolicLink(directory.resolve("link"), kept);
    Trees.remove(link);
    assertFalse(Files.exists(link));
    assertTrue(Files.exists(kept.resolve("file")));
    Trees.remove(directory.resolve("nothing"));
  }
}
