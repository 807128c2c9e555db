package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.files.DirectoryLock;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The directory of a run while a process owns it or reads it. Nothing else opens one.
///
/// Whoever owns it may be sure that no other process changes it, that nothing in it leads out of
/// it, and that what a killed owner left half-written is gone.
public final class RunDirectory implements AutoCloseable {
  /// What a run writes into in place; all other files it replaces whole.
  private static final List<String> WRITTEN_IN_PLACE =
      List.of(
          MetricsWriter.METRICS,
          MetricsWriter.TIMINGS,
          "checkpoints",
          "corpus",
          FailureRecord.DIRECTORY);

  private final Path path;
  private final DirectoryLock lock;

  private RunDirectory(Path path, DirectoryLock lock) {
    this.path = path;
    this.lock = lock;
  }

  /// Becomes the owner of a run's directory, which is made where it is not there.
  ///
  /// @param doing what for, as a second process is told
  /// @throws InvalidInputException if another process owns or reads it, or if a link in it leads
  ///   elsewhere
  public static RunDirectory own(Path path, String doing) throws IOException {
    if (Files.exists(path) && !Files.isDirectory(path)) {
      throw new InvalidInputException(
          path + " is a file, not a run's directory; choose another --output");
    }
    if (!Files.exists(path) && Files.isSymbolicLink(path)) {
      throw new InvalidInputException(
          path + " is a link that leads nowhere; remove it or choose another --output");
    }
    var lock = DirectoryLock.own(path, doing);
    try {
      refuseLinks(path);
      removeLeftovers(path);
      return new RunDirectory(path, lock);
    } catch (IOException | RuntimeException | Error e) {
      lock.close();
      throw e;
    }
  }

  /// Keeps owners away while a run is read.
  public static RunDirectory read(Path path, String doing) throws IOException {
    return new RunDirectory(path, DirectoryLock.read(path, doing));
  }

  private static void refuseLinks(Path path) {
    for (String name : WRITTEN_IN_PLACE) {
      if (Files.isSymbolicLink(path.resolve(name))) {
        throw new InvalidInputException(
            "%s is a link, and a run writes only into its own directory; put the whole directory where the link leads"
                .formatted(path.resolve(name)));
      }
    }
  }

  private static void removeLeftovers(Path path) throws IOException {
    for (Path child : Trees.children(path)) {
      if (WholeFile.isPartial(child)) {
        Trees.remove(child);
      }
    }
    Path checkpoints = path.resolve("checkpoints");
    if (Files.isDirectory(checkpoints, LinkOption.NOFOLLOW_LINKS)) {
      CheckpointDirectory.cleanPartials(checkpoints);
    }
  }

  public Path path() {
    return path;
  }

  /// What the user must know: that the file system has no locks; or null.
  public @Nullable String warning() {
    return lock.warning();
  }

  /// Lets others in.
  @Override
  public void close() {
    lock.close();
  }
}
