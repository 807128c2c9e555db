package dev.sluice.watch;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/// What was made of a file that is replaced whole, made anew when another file is in its place.
///
/// @param <T> what is made
final class Remembered<T> {
  private final Path file;
  private final Supplier<T> read;
  private @Nullable T value;
  private String seen = "";

  Remembered(Path file, Supplier<T> read) {
    this.file = file;
    this.read = read;
  }

  T get() {
    String now = look();
    T known = value;
    if (known == null || !now.equals(seen)) {
      known = read.get();
      value = known;
      seen = now;
    }
    return known;
  }

  /// What tells a file from the one before it.
  private String look() {
    try {
      var attributes = Files.readAttributes(file, BasicFileAttributes.class);
      return attributes.fileKey() + " " + attributes.lastModifiedTime() + " " + attributes.size();
    } catch (IOException _) {
      return "none";
    }
  }
}
