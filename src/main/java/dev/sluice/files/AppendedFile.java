package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;

/// A file that grows line by line, each handed to the system before the call returns. A failure's
/// message names the file.
public final class AppendedFile implements AutoCloseable {
  private final Path path;
  private final FileChannel channel;

  private AppendedFile(Path path, FileChannel channel) {
    this.path = path;
    this.channel = channel;
  }

  /// Opens a file for more lines, a new one where there is none.
  ///
  /// @throws InvalidInputException if it is a link
  public static AppendedFile open(Path path) throws IOException {
    requireNoLink(path);
    return new AppendedFile(
        path,
        FileChannel.open(
            path, StandardOpenOption.CREATE, StandardOpenOption.APPEND, LinkOption.NOFOLLOW_LINKS));
  }

  /// What is written through a link is written elsewhere.
  private static void requireNoLink(Path path) {
    if (Files.isSymbolicLink(path)) {
      throw new InvalidInputException(
          path + " is a link, which no lines are written through; remove it");
    }
  }

  /// The lines of a file so far; none where there is none. A last line that was not written to its
  /// end is taken away.
  ///
  /// @param most bytes
  /// @param wayOut what to do about a larger file, for the message
  /// @throws InvalidInputException if it is a link, or larger
  public static List<String> lines(Path path, long most, String wayOut) throws IOException {
    requireNoLink(path);
    if (!Files.exists(path)) {
      return List.of();
    }
    byte[] bytes = RegularFile.read(path, most, wayOut);
    int end = bytes.length;
    while (end > 0 && bytes[end - 1] != '\n') {
      end--;
    }
    if (end < bytes.length) {
      try (var channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
        channel.truncate(end);
      }
    }
    return new String(bytes, 0, end, StandardCharsets.UTF_8).lines().toList();
  }

  /// Appends a line.
  public void line(String text) throws IOException {
    try {
      WholeFile.writeAll(channel, ByteBuffer.wrap((text + "\n").getBytes(StandardCharsets.UTF_8)));
    } catch (IOException e) {
      throw Failures.notWritten(path, e);
    }
  }

  /// Waits until everything is on the disk.
  public void sync() throws IOException {
    try {
      channel.force(true);
    } catch (IOException e) {
      throw Failures.notWritten(path, e);
    }
  }

  /// Syncs and closes.
  @Override
  public void close() throws IOException {
    try (channel) {
      sync();
    }
  }
}
