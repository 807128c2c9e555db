package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.study.StudyFile;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `sluice study report`: what is there of a study, whichever shards ran it.
@Command(
    name = "report",
    description =
        "Prints a study's tables and writes its report.html from the trials that are done.",
    mixinStandardHelpOptions = true,
    footer = {"", "Examples:", "  ./sluice study report runs/table1"})
final class StudyReportCommand implements Callable<Integer> {
  @Parameters(paramLabel = "DIR", description = "The study's directory.")
  private Path directory;

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets both
  StudyReportCommand() {}

  @Override
  public Integer call() throws IOException {
    Path file = directory.resolve(StudyFile.NAME);
    if (!Files.exists(file)) {
      throw new InvalidInputException(
          directory + " holds no study (no " + StudyFile.NAME + "); name a study's directory");
    }
    var study = StudyFile.read(file, RunConfig.DEFAULTS, Map.of());
    var results = study.results(directory);
    if (results.isEmpty()) {
      throw new InvalidInputException(
          "no trial of " + directory + " is done yet; run ./sluice study --output " + directory);
    }
    String commandLine =
        String.join(" ", spec.root().commandLine().getParseResult().originalArgs());
    StudyCommand.report(study, directory, results, "sluice " + commandLine);
    return 0;
  }
}
