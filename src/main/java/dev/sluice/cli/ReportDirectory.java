package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.files.DirectoryLock;
import dev.sluice.files.Failures;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/// Where a command that measures models writes what it found.
final class ReportDirectory {
  private ReportDirectory() {}

  /// Refuses a checkpoint, whose files are listed, checksummed and not ours, and what is no
  /// directory.
  static Path require(Path chosen) {
    if (Files.isRegularFile(chosen.resolve(ModelConfig.FILE))
        || Files.isRegularFile(chosen.resolve(CheckpointDirectory.CHECKSUMS))) {
      throw new InvalidInputException(
          chosen + " holds a checkpoint, whose files stay as they are; choose another --output");
    }
    if (Files.exists(chosen) && !Files.isDirectory(chosen)) {
      throw new InvalidInputException(chosen + " is not a directory; choose another --output");
    }
    return chosen;
  }

  /// Keeps others out of the directory, and removes what one left that was killed.
  ///
  /// @param commandLine as others are told
  /// @param files that are written there
  static DirectoryLock own(Path directory, String commandLine, List<String> files)
      throws IOException {
    try {
      var lock = DirectoryLock.own(directory, commandLine);
      for (Path file : Trees.children(directory)) {
        String name = String.valueOf(file.getFileName());
        if (WholeFile.isPartial(file)
            && files.stream().anyMatch(own -> name.startsWith("." + own + "."))) {
          Trees.remove(file);
        }
      }
      if (lock.warning() != null) {
        Console.note("Warning: " + lock.warning());
      }
      return lock;
    } catch (IOException e) {
      throw new IOException(
          "the report cannot be written to %s (%s); choose another --output"
              .formatted(directory, Failures.words(e)),
          e);
    }
  }
}
