package dev.sluice.files;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.FileSystemLoopException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;

/// Words for what the file system has against something: some of its exceptions say only the file's
/// name, others anything but.
public final class Failures {
  private Failures() {}

  /// What went wrong, without a full stop; with the file where the exception knows it.
  public static String words(Throwable e) {
    return switch (e) {
      case UncheckedIOException unchecked when unchecked.getCause() != null ->
          words(unchecked.getCause());
      case NoSuchFileException missing -> "no such file or directory: " + missing.getFile();
      case AccessDeniedException denied -> "permission denied: " + denied.getFile();
      case FileAlreadyExistsException present -> "a file is in the way: " + present.getFile();
      case DirectoryNotEmptyException full -> "the directory is not empty: " + full.getFile();
      case NotDirectoryException file -> "not a directory: " + file.getFile();
      case FileSystemLoopException loop -> "links that lead in a circle: " + loop.getFile();
      case FileSystemException failure when failure.getReason() != null ->
          failure.getFile() == null
              ? failure.getReason()
              : failure.getReason() + ": " + failure.getFile();
      case CharacterCodingException _ -> "it is not UTF-8";
      case ClosedByInterruptException _ -> "interrupted";
      default ->
          e.getMessage() == null || e.getMessage().isBlank()
              ? e.getClass().getSimpleName()
              : e.getMessage();
    };
  }

  /// A failure to write, whose message names the file: a full disk does not say which.
  public static IOException notWritten(Path file, IOException e) {
    String words = words(e);
    return words.contains(file.toString())
        ? new IOException(words, e)
        : new IOException("%s cannot be written (%s)".formatted(file, words), e);
  }
}
