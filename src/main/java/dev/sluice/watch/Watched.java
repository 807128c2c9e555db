package dev.sluice.watch;

import dev.sluice.InvalidInputException;
import dev.sluice.report.HtmlReport;
import dev.sluice.study.StudyFile;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// What is watched. It only reads, and locks nothing: whoever trains is not in its way, nor it in
/// his.
public interface Watched {
  /// The page as it is now.
  ///
  /// @throws InvalidInputException if what is there cannot be shown, such as a directory that is
  ///   gone; it may be back the next time
  HtmlReport page() throws IOException;

  /// What a directory holds.
  ///
  /// @throws InvalidInputException if that is neither a run nor a study
  static Watched in(Path directory) {
    if (!Files.exists(directory)) {
      throw new InvalidInputException(
          "there is no run or study %s; name the directory that train or study writes into"
              .formatted(directory));
    }
    if (!Files.isDirectory(directory)) {
      throw new InvalidInputException(
          directory + " is a file; name the directory of a run or of a study");
    }
    if (Files.exists(directory.resolve(StudyFile.NAME))) {
      return new WatchedStudy(directory);
    }
    if (Files.exists(directory.resolve(RunConfig.FILE))) {
      return new WatchedRun(directory);
    }
    throw new InvalidInputException(
        "%s holds neither a run (no %s) nor a study (no %s); name a directory that does, or wait until training has begun in it"
            .formatted(directory, RunConfig.FILE, StudyFile.NAME));
  }

  /// Refuses a directory that is not there any more.
  static void requireThere(Path directory) {
    if (!Files.isDirectory(directory)) {
      throw new InvalidInputException(
          directory
              + " is not there any more; the page shows what was read last, and goes on when it is"
              + " back");
    }
  }
}
