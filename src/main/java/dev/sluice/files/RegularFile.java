package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// Reading of files that a user names. Nothing but a regular file is opened: a pipe would be waited
/// for, a device never ends.
public final class RegularFile {
  private RegularFile() {}

  /// Refuses what is not a regular file, or a link to one.
  ///
  /// @param wayOut what the user can do, for the message: `name a .toml file`
  public static void require(Path file, String wayOut) {
    String wrong = wrong(file);
    if (wrong != null) {
      throw new InvalidInputException("%s %s; %s".formatted(file, wrong, wayOut));
    }
  }

  private static @Nullable String wrong(Path file) {
    if (Files.isRegularFile(file)) {
      return null;
    }
    if (Files.isDirectory(file)) {
      return "is a directory";
    }
    return Files.exists(file)
        ? "is a pipe or a device, not a regular file"
        : Files.isSymbolicLink(file) ? "is a link that leads nowhere" : "does not exist";
  }

  /// The content of a file that is read at once.
  ///
  /// @param most bytes that a sane file of its kind has
  /// @param wayOut as in [#require]
  public static byte[] read(Path file, long most, String wayOut) {
    require(file, wayOut);
    try {
      long size = Files.size(file);
      if (size > most) {
        throw new InvalidInputException(
            "%s has %d bytes, more than the %d that such a file may have; %s"
                .formatted(file, size, most, wayOut));
      }
      try (var in = Files.newInputStream(file)) {
        byte[] bytes = in.readNBytes(Math.toIntExact(most));
        if (in.read() >= 0) {
          throw new InvalidInputException("%s grows while it is read; %s".formatted(file, wayOut));
        }
        return bytes;
      }
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s cannot be read (%s); %s".formatted(file, Failures.words(e), wayOut), e);
    }
  }
}
