package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Failures;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeDirectory;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Stream;

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

  /// What earlier versions called a save in progress; for what it is called now see [WholeFile].
  private static final Pattern EARLIER_PARTIAL =
      Pattern.compile("\\..+\\.partial-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}");

  private static final Pattern CHECKSUM = Pattern.compile("([0-9a-fA-F]{64}) [ *](.+)");

  private static final int MOST_CHECKSUMS = 16 << 20;

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
    return String.format(Locale.ROOT, "step-%08d", step);
  }

  /// The step in a checkpoint's name; empty if it is no checkpoint's name.
  public static OptionalLong step(Path checkpoint) {
    var matcher =
        STEP.matcher(String.valueOf(checkpoint.toAbsolutePath().normalize().getFileName()));
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
    if (Files.exists(place, LinkOption.NOFOLLOW_LINKS)) {
      throw new InvalidInputException(
          target + " exists already; remove it first or choose another directory");
    }
    try {
      WholeDirectory.write(
          place,
          directory -> {
            contents.writeTo(directory);
            writeChecksums(directory);
          });
    } catch (IOException | UncheckedIOException e) {
      throw notSaved(target, parent, e);
    }
  }

  private static IOException notSaved(Path target, Path parent, Exception failure) {
    String kept =
        latest(parent)
            .map(good -> "the last good checkpoint " + good.getFileName() + " is kept")
            .orElse("there is no earlier checkpoint beside it");
    return new IOException(
        "%s was not saved (%s); %s".formatted(target, Failures.words(failure), kept), failure);
  }

  /// Checks every file of a checkpoint against its checksum; the exception names the first that is
  /// altered, missing, not listed, or no file but a link.
  public static void verify(Path checkpoint) {
    try {
      SequencedMap<String, String> expected = readChecksums(checkpoint);
      var present = new TreeSet<>(files(checkpoint));
      for (var line : expected.entrySet()) {
        Path file = checkpoint.resolve(line.getKey());
        if (!present.contains(line.getKey())) {
          throw new InvalidInputException(
              file + " is missing though " + CHECKSUMS + " lists it; use another checkpoint");
        }
        String found = Sha256.hex(file);
        if (!found.equalsIgnoreCase(line.getValue())) {
          throw new InvalidInputException(
              "%s is damaged (SHA-256 %s, not %s); use another checkpoint"
                  .formatted(file, found, line.getValue()));
        }
      }
      for (String name : present) {
        if (!expected.containsKey(name)) {
          throw new InvalidInputException(
              "%s is not listed in %s; remove it or add its line as sha256sum prints it"
                  .formatted(checkpoint.resolve(name), CHECKSUMS));
        }
      }
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          checkpoint + " cannot be read (" + Failures.words(e) + "); use another checkpoint", e);
    }
  }

  /// Whether a file is another than its checksum says; not where there is none that can be read.
  ///
  /// @param name of a file in the checkpoint
  public static boolean isChanged(Path checkpoint, String name) {
    try {
      String listed = readChecksums(checkpoint).get(name);
      Path file = checkpoint.resolve(name);
      return listed != null && Trees.isFile(file) && !Sha256.hex(file).equalsIgnoreCase(listed);
    } catch (IOException | InvalidInputException _) {
      return false; // the checksums are for those who verify
    }
  }

  /// Whether it is a directory, and no link to one, in which [#verify] finds nothing wrong.
  public static boolean isWhole(Path checkpoint) {
    if (!Trees.isDirectory(checkpoint)) {
      return false;
    }
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

  /// All complete checkpoints, in the order of their steps. Contents are not read. A link is none,
  /// whatever it leads to.
  public static List<Path> complete(Path checkpoints) {
    return Trees.children(checkpoints).stream()
        .filter(child -> step(child).isPresent() && Trees.isDirectory(child))
        .filter(child -> Trees.isFile(child.resolve(CHECKSUMS)))
        .sorted(Comparator.comparingLong(child -> step(child).orElseThrow()))
        .toList();
  }

  /// Removes a checkpoint; interrupted, it leaves one that is no longer taken for complete. A link
  /// to one stays, and so does what it leads to.
  public static void remove(Path checkpoint) throws IOException {
    if (Trees.isDirectory(checkpoint)) {
      Files.deleteIfExists(checkpoint.resolve(CHECKSUMS));
      Trees.remove(checkpoint);
    }
  }

  /// Removes a checkpoint that lacks its checksums, such as one whose removal was interrupted.
  public static void removeIncomplete(Path checkpoint) throws IOException {
    if (Trees.isDirectory(checkpoint) && !Trees.isFile(checkpoint.resolve(CHECKSUMS))) {
      Trees.remove(checkpoint);
    }
  }

  /// Gives a checkpoint a name that is not taken for one: `step-00001000.set-aside`.
  public static Path setAside(Path checkpoint) throws IOException {
    String name = checkpoint.getFileName() + ".set-aside";
    Path place = checkpoint.resolveSibling(name);
    for (int i = 2; Files.exists(place, LinkOption.NOFOLLOW_LINKS); i++) {
      place = checkpoint.resolveSibling(name + "-" + i);
    }
    return Files.move(checkpoint, place, StandardCopyOption.ATOMIC_MOVE);
  }

  /// Removes what interrupted saves left, and returns it. Only for the one process that saves here:
  /// another's save in progress looks the same.
  public static List<Path> cleanPartials(Path checkpoints) throws IOException {
    List<Path> partials =
        Trees.children(checkpoints).stream()
            .filter(child -> isPartial(child) && Trees.isDirectory(child))
            .toList();
    for (Path partial : partials) {
      Trees.remove(partial);
    }
    return partials;
  }

  private static boolean isPartial(Path child) {
    return WholeFile.isPartial(child)
        || EARLIER_PARTIAL.matcher(String.valueOf(child.getFileName())).matches();
  }

  private static void writeChecksums(Path directory) throws IOException {
    var lines = new StringBuilder();
    for (String name : files(directory)) {
      lines.append(Sha256.hex(directory.resolve(name))).append("  ").append(name).append('\n');
    }
    Files.writeString(directory.resolve(CHECKSUMS), lines, StandardOpenOption.CREATE_NEW);
  }

  private static SequencedMap<String, String> readChecksums(Path checkpoint) throws IOException {
    Path file = checkpoint.resolve(CHECKSUMS);
    if (!Trees.isFile(file)) {
      throw new InvalidInputException(
          checkpoint
              + " holds no "
              + CHECKSUMS
              + ", so it is no complete checkpoint; name one that does");
    }
    SequencedMap<String, String> checksums = new TreeMap<>();
    // Every byte is a character here: a damaged line shall be named, not fail to decode.
    var bytes = RegularFile.read(file, MOST_CHECKSUMS, "use another checkpoint");
    for (String line : new String(bytes, StandardCharsets.ISO_8859_1).lines().toList()) {
      String text = new String(line.getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
      var matcher = CHECKSUM.matcher(text);
      if (!matcher.matches() || leadsOut(checkpoint, matcher.group(2))) {
        throw new InvalidInputException(
            "%s has the line '%s', which is not a checksum and a file name; use another checkpoint"
                .formatted(file, Printable.brief(text, 200)));
      }
      checksums.put(matcher.group(2), matcher.group(1));
    }
    return checksums;
  }

  private static boolean leadsOut(Path directory, String name) {
    return !Trees.isPossible(name)
        || !directory.resolve(name).normalize().startsWith(directory.normalize());
  }

  /// The files below a directory that have a checksum, by their names relative to it, sorted.
  private static List<String> files(Path directory) throws IOException {
    List<String> names = new ArrayList<>();
    Path top = directory.toRealPath(); // the user may name a checkpoint by a link
    try (Stream<Path> all = Files.walk(top)) {
      for (Path path : all.skip(1).filter(child -> !Trees.isDirectory(child)).toList()) {
        if (!Trees.isFile(path)) {
          throw new IOException(
              path + " is a link or a device; a checkpoint holds nothing but files");
        }
        String name = top.relativize(path).toString();
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

  private static Path parent(Path place) {
    Path parent = place.getParent();
    if (parent == null) {
      throw new InvalidInputException(
          place + " cannot hold a checkpoint; name a directory below it");
    }
    return parent;
  }
}
