package dev.sluice;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.extension.AnnotatedElementContext;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.io.TempDirFactory;

/// Temporary folders of tests, in memory where the system has a file system there that is roomy and
/// from which programs may be started, else where they usually are.
///
/// What is written for a user is synced to the disk, some forty thousand times in all tests, and a
/// test can't see whether it was: all that it would do is wait. A test for which the disk matters
/// asks for [TempDirFactory.Standard].
final class MemoryFolders implements TempDirFactory {
  private static final Path MEMORY = Path.of("/dev/shm");
  private static final Path MOUNTS = Path.of("/proc/self/mounts");

  /// Far more than the tests of a class leave in their folders.
  private static final long ROOM = 2L << 30;

  @Override
  public Path createTempDirectory(AnnotatedElementContext element, ExtensionContext test)
      throws IOException {
    return isUsable()
        ? Files.createTempDirectory(MEMORY, "junit-")
        : Files.createTempDirectory("junit-");
  }

  private static boolean isUsable() throws IOException {
    if (!Files.isWritable(MEMORY) || Files.notExists(MOUNTS)) {
      return false;
    }
    return Files.readAllLines(MOUNTS).stream()
            .map(line -> List.of(line.split(" ", -1)))
            .anyMatch(
                mount ->
                    mount.get(1).equals(MEMORY.toString())
                        && mount.get(2).equals("tmpfs")
                        && !List.of(mount.get(3).split(",", -1)).contains("noexec"))
        && Files.getFileStore(MEMORY).getUsableSpace() > ROOM;
  }
}
