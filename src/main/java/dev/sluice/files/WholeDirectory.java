package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystemException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import org.jspecify.annotations.Nullable;

/// Directories that are there whole or not at all: filled beside under a name that nobody can
/// foresee, every file synced, renamed.
public final class WholeDirectory {
  private WholeDirectory() {}

  /// Fills the directory that it is given.
  @FunctionalInterface
  public interface Contents {
    void writeTo(Path directory) throws IOException;
  }

  /// Makes `target`, which is not there or an empty directory, appear with all of its contents.
  /// Directories above it are made. Whatever fails, what was written is removed; where that fails
  /// too, the message names it.
  ///
  /// @throws InvalidInputException if another process filled the target meanwhile; it stays as it
  ///   is
  public static void write(Path target, Contents contents) throws IOException {
    Path place = target.toAbsolutePath().normalize();
    Path parent = place.getParent();
    if (parent == null) {
      throw new InvalidInputException(place + " is no directory's place; name one below it");
    }
    Path partial = WholeFile.partial(place);
    try {
      Files.createDirectories(parent);
      Files.createDirectory(partial);
      contents.writeTo(partial);
      syncTree(partial);
      publish(partial, place);
      sync(parent);
    } catch (IOException | RuntimeException | Error e) {
      removeAfter(e, partial);
      throw e;
    }
  }

  private static void publish(Path partial, Path place) throws IOException {
    try {
      Files.move(partial, place, StandardCopyOption.ATOMIC_MOVE);
    } catch (FileSystemException e) {
      if (Files.exists(place, LinkOption.NOFOLLOW_LINKS)) {
        throw new InvalidInputException(
            "%s appeared while it was being written here, so another command wrote it too; it stays, and what was written here is removed"
                .formatted(place),
            e);
      }
      throw e;
    }
  }

  private static void removeAfter(Throwable failure, Path partial) throws IOException {
    try {
      Trees.remove(partial);
    } catch (IOException e) {
      throw new IOException(
          "%s; besides, %s could not be removed (%s): remove it by hand"
              .formatted(Failures.words(failure), partial, Failures.words(e)),
          failure);
    }
  }

  /// Syncs files before the directory that names them.
  private static void syncTree(Path directory) throws IOException {
    Files.walkFileTree(
        directory,
        new SimpleFileVisitor<>() {
          @Override
          public FileVisitResult visitFile(Path file, BasicFileAttributes attributes)
              throws IOException {
            sync(file);
            return FileVisitResult.CONTINUE;
          }

          @Override
          public FileVisitResult postVisitDirectory(Path visited, @Nullable IOException e)
              throws IOException {
            if (e != null) {
              throw e;
            }
            sync(visited);
            return FileVisitResult.CONTINUE;
          }
        });
  }

  private static void sync(Path fileOrDirectory) throws IOException {
    try (var channel = FileChannel.open(fileOrDirectory, StandardOpenOption.READ)) {
      channel.force(true);
    }
  }
}
