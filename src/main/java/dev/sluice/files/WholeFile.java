package dev.sluice.files;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.regex.Pattern;

/// Files that are there whole or not at all: written beside under a name that nobody can foresee,
/// synced, renamed. A link under the final name is replaced, never followed; a device or a pipe is
/// refused, since a file in its place would take it away from all who use it.
public final class WholeFile {
  private static final SecureRandom RANDOM = new SecureRandom();
  private static final Pattern DOTS = Pattern.compile("^\\.+");
  private static final Pattern PARTIAL = Pattern.compile("\\..+\\.[0-9a-f]{16}\\.partial");

  private WholeFile() {}

  /// Writes a file's content.
  @FunctionalInterface
  public interface Contents {
    void writeTo(OutputStream out) throws IOException;
  }

  /// Puts a text, as UTF-8, in place of what `target` holds.
  public static void write(Path target, String text) throws IOException {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    write(target, out -> out.write(bytes));
  }

  /// Puts contents in place of what `target` holds. On failure the old file is as it was, nothing
  /// stays beside it, and the message names the file.
  public static void write(Path target, Contents contents) throws IOException {
    write(target, contents, true);
  }

  /// The same without waiting for the disk: for what may be lost when the machine fails, such as
  /// what is written again soon.
  public static void writeUnsynced(Path target, String text) throws IOException {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    write(target, out -> out.write(bytes), false);
  }

  private static void write(Path target, Contents contents, boolean synced) throws IOException {
    requireReplaceable(target);
    Path partial = partial(target);
    try {
      try (var channel = create(partial)) {
        var out = Channels.newOutputStream(channel);
        contents.writeTo(out);
        out.flush();
        if (synced) {
          channel.force(true);
        }
      }
      Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
    } catch (IOException e) {
      removeAfter(e, partial);
      throw Failures.notWritten(target, e);
    } catch (RuntimeException | Error e) {
      removeAfter(e, partial);
      throw e;
    }
  }

  /// Syncs a file that was written under its partial name and gives it its own.
  ///
  /// @param channel that it was written through
  public static void publish(FileChannel channel, Path partial, Path target) throws IOException {
    channel.force(true);
    Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
  }

  /// Refuses a name that a device, a pipe or a directory has, or a link to one: `/dev/stdout` is.
  public static void requireReplaceable(Path target) {
    if (Files.exists(target) && !Files.isRegularFile(target)) {
      throw new InvalidInputException(
          "%s is %s, which no file is put in place of; name another file"
              .formatted(target, Files.isDirectory(target) ? "a directory" : "a pipe or a device"));
    }
  }

  /// Refuses a place of which it is plain before all work that nothing can be written there.
  public static void requirePlace(Path target) {
    requireReplaceable(target);
    Path folder = target.toAbsolutePath().getParent();
    if (folder != null && !Files.isDirectory(folder)) {
      throw new InvalidInputException(
          "%s cannot be written, as there is no directory %s; make it, or name another file"
              .formatted(target, folder));
    }
  }

  /// The name beside `target` under which it can be written; nothing has it yet.
  public static Path partial(Path target) {
    byte[] random = new byte[8];
    RANDOM.nextBytes(random);
    return target.resolveSibling(
        "." + target.getFileName() + "." + HexFormat.of().formatHex(random) + ".partial");
  }

  /// Opens a file for writing that must not be there yet.
  public static FileChannel create(Path file) throws IOException {
    return FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
  }

  /// What writers of a file, or of a directory, left beside it that were killed, or write still: a
  /// writer may write a partial file by a partial one of its own, whose name begins with two dots.
  public static List<Path> leftBeside(Path target) throws IOException {
    String name = DOTS.matcher(target.getFileName() + ".").replaceFirst("");
    try (var children = Files.list(Objects.requireNonNull(target.toAbsolutePath().getParent()))) {
      return children
          .filter(WholeFile::isPartial)
          .filter(
              child ->
                  DOTS.matcher(child.getFileName().toString()).replaceFirst("").startsWith(name))
          .sorted()
          .toList();
    }
  }

  /// Whether a name is one that [#partial] gives: what a writer left that was killed.
  public static boolean isPartial(Path file) {
    return PARTIAL.matcher(String.valueOf(file.getFileName())).matches();
  }

  /// Writes all of a buffer.
  public static void writeAll(FileChannel channel, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  /// Removing is a kindness: what failed before is what must be reported.
  private static void removeAfter(Throwable failure, Path partial) {
    try {
      Files.deleteIfExists(partial);
    } catch (IOException e) {
      failure.addSuppressed(e);
    }
  }
}
