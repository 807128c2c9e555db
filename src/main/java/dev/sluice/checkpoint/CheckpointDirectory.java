package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.UUID;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// Directories that exist complete or not at all.
///
/// A checkpoint is written into a hidden sibling, every file is synced, their checksums are written
/// and synced, and only then the sibling is renamed into place and the parent is synced. Whatever
/// stops the program in between, a directory under its final name with a [#CHECKSUMS] file in it
/// has every byte that was meant to be in it; [#verify] proves it.
public final class CheckpointDirectory {
  /// The file with a line per file, in the format of `sha256sum`, which can check it too.
  public static final String CHECKSUMS = "SHA256SUMS";

  private static final Pattern STEP = Pattern.compile("step-(\\d{8,18})");
  private static final Pattern PARTIAL = Pattern.compile("\\..+\\.partial-[0-9a-f-]{36}");
  private static final Pattern CHECKSUM = Pattern.compile("([0-9a-fA-F]{64}) [ *](.+)");

  private CheckpointDirectory() {}

  /// Writes the files of a checkpoint into the directory that it is given.
  @FunctionalInterface
  public interface Contents {
    void writeTo(Path directory) throws IOException;
  }

  /// The name of the checkpoint after so many steps: `step-00001000`.
  public static String name(long step) {
    if (step < 0) {
      throw new IllegalArgumentException("step " + step + " is negative");
    }
    return "step-%08d".formatted(step);
  }

  /// The step in a checkpoint's name; empty if it is no checkpoint's name.
  public static OptionalLong step(Path checkpoint) {
    var matcher = STEP.matcher(checkpoint.toAbsolutePath().normalize().getFileName().toString());
    return matcher.matches()
        ? OptionalLong.of(Long.parseLong(matcher.group(1)))
        : OptionalLong.empty();
  }

  /// Makes `target` appear with the given contents, or not at all.
  ///
  /// On failure nothing of it remains, earlier checkpoints are as they were, and the exception says
  /// what failed and which checkpoint is the last good one.
  public static void save(Path target, Contents contents) throws IOException {
    Path place = target.toAbsolutePath().normalize();
    Path parent = parent(place);
    if (Files.exists(place)) {
      throw new InvalidInputException(
          target + " exists already; remove it first or choose another directory");
    }
    Path partial = parent.resolve("." + place.getFileName() + ".partial-" + UUID.randomUUID());
    try {
      Files.createDirectories(parent);
      Files.createDirectory(partial);
      contents.writeTo(partial);
      writeChecksums(partial);
      syncTree(partial);
      Files.move(partial, place, StandardCopyOption.ATOMIC_MOVE);
      sync(parent);
    } catch (IOException e) {
      removeAfter(e, partial);
      throw notSaved(target, parent, e, e);
    } catch (UncheckedIOException e) {
      removeAfter(e, partial);
      throw notSaved(target, parent, e, e.getCause() == null ? e : e.getCause());
    } catch (RuntimeException | Error e) {
      removeAfter(e, partial);
      throw e;
    }
  }

  private static IOException notSaved(
      Path target, Path parent, Exception failure, Throwable reason) {
    String kept =
        latest(parent)
            .map(good -> "the last good checkpoint " + good.getFileName() + " is kept")
            .orElse("there is no earlier checkpoint beside it");
    return new IOException(
        "%s was not saved (%s); %s".formatted(target, reason(reason), kept), failure);
  }

  /// Words for what went wrong: some exceptions of the file system say only the file's name.
  static String reason(Throwable e) {
    return switch (e) {
      case NoSuchFileException missing -> "no such file or directory: " + missing.getFile();
      case AccessDeniedException denied -> "permission denied: " + denied.getFile();
      case FileAlreadyExistsException present -> "a file is in the way: " + present.getFile();
      default -> e.getMessage() == null ? e.toString() : e.getMessage();
    };
  }

  /// Removing is a kindness: what failed before is what must be reported.
  private static void removeAfter(Throwable failure, Path partial) {
    try {
      removeTree(partial);
    } catch (IOException e) {
      failure.addSuppressed(e);
    }
  }

  /// Checks every file of a checkpoint against its checksum; the exception names the first that is
  /// altered, missing or not listed.
  public static void verify(Path checkpoint) {
    try {
      SequencedMap<String, String> expected = readChecksums(checkpoint);
      for (var line : expected.entrySet()) {
        Path file = checkpoint.resolve(line.getKey());
        if (!Files.isRegularFile(file)) {
          throw new InvalidInputException(
              file + " is missing though " + CHECKSUMS + " lists it; use another checkpoint");
        }
        String found = sha256(file);
        if (!found.equalsIgnoreCase(line.getValue())) {
          throw new InvalidInputException(
              "%s is damaged (SHA-256 %s, not %s); use another checkpoint"
                  .formatted(file, found, line.getValue()));
        }
      }
      for (String name : files(checkpoint)) {
        if (!expected.containsKey(name)) {
          throw new InvalidInputException(
              "%s is not listed in %s; remove it or add its line as sha256sum prints it"
                  .formatted(checkpoint.resolve(name), CHECKSUMS));
        }
      }
    } catch (IOException e) {
      throw new InvalidInputException(
          checkpoint + " cannot be read (" + reason(e) + "); use another checkpoint", e);
    }
  }

  /// Whether [#verify] finds nothing wrong.
  public static boolean isWhole(Path checkpoint) {
    try {
      verify(checkpoint);
      return true;
    } catch (InvalidInputException _) {
      return false;
    }
  }

  /// The complete checkpoint with the highest step, if there is one. Contents are not read; see
  /// [#verify].
  public static Optional<Path> latest(Path checkpoints) {
    return complete(checkpoints).reversed().stream().findFirst();
  }

  /// All complete checkpoints, in the order of their steps. Contents are not read.
  public static List<Path> complete(Path checkpoints) {
    return children(checkpoints).stream()
        .filter(child -> step(child).isPresent())
        .filter(child -> Files.isRegularFile(child.resolve(CHECKSUMS)))
        .sorted(Comparator.comparingLong(child -> step(child).orElseThrow()))
        .toList();
  }

  /// Removes a checkpoint; interrupted, it leaves one that is no longer taken for complete.
  public static void remove(Path checkpoint) throws IOException {
    Files.deleteIfExists(checkpoint.resolve(CHECKSUMS));
    removeTree(checkpoint);
  }

  /// Removes a checkpoint that lacks its checksums, such as one whose removal was interrupted.
  public static void removeIncomplete(Path checkpoint) throws IOException {
    if (Files.isDirectory(checkpoint) && !Files.isRegularFile(checkpoint.resolve(CHECKSUMS))) {
      removeTree(checkpoint);
    }
  }

  /// Gives a checkpoint a name that is not taken for one: `step-00001000.set-aside`.
  public static Path setAside(Path checkpoint) throws IOException {
    String name = checkpoint.getFileName() + ".set-aside";
    Path place = checkpoint.resolveSibling(name);
    for (int i = 2; Files.exists(place); i++) {
      place = checkpoint.resolveSibling(name + "-" + i);
    }
    return Files.move(checkpoint, place, StandardCopyOption.ATOMIC_MOVE);
  }

  /// Removes what interrupted saves left, and returns it. Only for the one process that saves here:
  /// another's save in progress looks the same.
  public static List<Path> cleanPartials(Path checkpoints) throws IOException {
    List<Path> partials =
        children(checkpoints).stream()
            .filter(child -> PARTIAL.matcher(child.getFileName().toString()).matches())
            .toList();
    for (Path partial : partials) {
      removeTree(partial);
    }
    return partials;
  }

  private static List<Path> children(Path directory) {
    if (!Files.isDirectory(directory)) {
      return List.of();
    }
    try (Stream<Path> children = Files.list(directory)) {
      return children.filter(Files::isDirectory).sorted().toList();
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          directory + " cannot be listed (" + reason(e) + "); check its permissions", e);
    }
  }

  private static void writeChecksums(Path directory) throws IOException {
    var lines = new StringBuilder();
    for (String name : files(directory)) {
      lines.append(sha256(directory.resolve(name))).append("  ").append(name).append('\n');
    }
    Files.writeString(directory.resolve(CHECKSUMS), lines, StandardOpenOption.CREATE_NEW);
  }

  private static SequencedMap<String, String> readChecksums(Path checkpoint) throws IOException {
    Path file = checkpoint.resolve(CHECKSUMS);
    if (!Files.isRegularFile(file)) {
      throw new InvalidInputException(
          checkpoint
              + " holds no "
              + CHECKSUMS
              + ", so it is no complete checkpoint; name one that does");
    }
    SequencedMap<String, String> checksums = new TreeMap<>();
    // Every byte is a character here: a damaged line shall be named, not fail to decode.
    for (String line : Files.readString(file, StandardCharsets.ISO_8859_1).lines().toList()) {
      String text = new String(line.getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
      var matcher = CHECKSUM.matcher(text);
      if (!matcher.matches() || leadsOut(checkpoint, matcher.group(2))) {
        throw new InvalidInputException(
            "%s has the line '%s', which is not a checksum and a file name; use another checkpoint"
                .formatted(file, text));
      }
      checksums.put(matcher.group(2), matcher.group(1));
    }
    return checksums;
  }

  private static boolean leadsOut(Path directory, String name) {
    return name.indexOf('\0') >= 0
        || !directory.resolve(name).normalize().startsWith(directory.normalize());
  }

  /// The files below a directory that have a checksum, by their names relative to it, sorted.
  private static List<String> files(Path directory) throws IOException {
    List<String> names = new ArrayList<>();
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        String name = directory.relativize(file).toString();
        if (name.indexOf('\n') >= 0 || name.indexOf('\r') >= 0 || name.indexOf('\\') >= 0) {
          throw new IOException("the file name '" + name + "' cannot stand in " + CHECKSUMS);
        }
        names.add(name);
      }
    }
    names.remove(CHECKSUMS);
    names.sort(Comparator.naturalOrder());
    return names;
  }

  private static String sha256(Path file) throws IOException {
    MessageDigest digest;
    try {
      digest = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every JDK has SHA-256", e);
    }
    var chunk = ByteBuffer.allocateDirect(1 << 20);
    try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
      while (channel.read(chunk) >= 0) {
        digest.update(chunk.flip());
        chunk.clear();
      }
    }
    return HexFormat.of().formatHex(digest.digest());
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

  private static void removeTree(Path directory) throws IOException {
    if (Files.notExists(directory)) {
      return;
    }
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  private static Path parent(Path place) {
    Path parent = place.getParent();
    if (parent == null) {
      throw new InvalidInputException(
          place + " cannot hold a checkpoint; name a directory below it");
    }
    return parent;
  }
}
