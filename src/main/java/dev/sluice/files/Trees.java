package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.List;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// Directories and all below them. Links are seen as links: never walked into, and deleted
/// themselves instead of what they lead to.
public final class Trees {
  private Trees() {}

  /// Whether it is a directory and no link to one.
  public static boolean isDirectory(Path path) {
    return Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS);
  }

  /// Whether it is a regular file and no link to one.
  public static boolean isFile(Path path) {
    return Files.isRegularFile(path, LinkOption.NOFOLLOW_LINKS);
  }

  /// Whether a file can be named so here: never with a NUL, and beyond ASCII only where the
  /// system's locale says how names are encoded.
  public static boolean isPossible(String name) {
    try {
      var _ = Path.of(name);
      return true;
    } catch (InvalidPathException _) {
      return false;
    }
  }

  /// What stands in a directory, sorted; nothing where there is none.
  public static List<Path> children(Path directory) {
    if (!Files.isDirectory(directory)) {
      return List.of();
    }
    try (Stream<Path> children = Files.list(directory)) {
      return children.sorted().toList();
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          "%s cannot be listed (%s); check its permissions".formatted(directory, Failures.words(e)),
          e);
    }
  }

  /// Removes a file, a link, or a directory with all below it; nothing where there is nothing.
  public static void remove(Path path) throws IOException {
    if (!Files.exists(path, LinkOption.NOFOLLOW_LINKS)) {
      return;
    }
    Files.walkFileTree(
        path,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            Files.delete(file);
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult postVisitDirectory(Path visited, @Nullable IOException e)
              throws IOException {
            if (e != null) {
              throw e;
            }
            Files.delete(visited);
            return FileVisitResult.CONTINUE;
          }
        });
  }
}
