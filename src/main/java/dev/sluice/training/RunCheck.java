package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.DirectoryLock;
import dev.sluice.files.Failures;
import dev.sluice.files.Trees;
import dev.sluice.provenance.RunManifest;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// Reads everything that a run directory holds, or all runs of a study's, and says what is damaged.
public final class RunCheck {
  /// A part of a run.
  ///
  /// @param path of a file or a checkpoint
  /// @param bytes that were read
  /// @param note what a reader should know that is no damage; empty for nothing
  /// @param damage in words, or null
  public record Part(Path path, long bytes, String note, @Nullable String damage) {}

  private final List<Part> parts = new ArrayList<>();
  private final Consumer<Path> reading;

  private RunCheck(Consumer<Path> reading) {
    this.reading = reading;
  }

  /// Checks a run, or every run below a directory. Nobody may change them meanwhile.
  ///
  /// @param reading hears of each part before it is read
  /// @throws InvalidInputException also if a run is in use
  public static List<Part> check(Path directory, Consumer<Path> reading) throws IOException {
    var check = new RunCheck(reading);
    List<Path> below;
    try (Stream<Path> all = Files.walk(directory)) {
      below = all.filter(Trees::isDirectory).sorted().toList();
    } catch (IOException | UncheckedIOException e) {
      throw new InvalidInputException(
          "%s cannot be read (%s); name a run directory".formatted(directory, Failures.words(e)),
          e);
    }
    List<RunDirectory> locks = new ArrayList<>();
    try {
      for (Path path : below) {
        if (isRun(path) || DirectoryLock.isKnown(path)) {
          locks.add(RunDirectory.read(path, "verify"));
        }
      }
      for (Path path : below) {
        if (isRun(path)) {
          check.run(path);
        }
        if (Files.exists(path.resolve("corpus.json"))) {
          check.part(path, () -> Corpus.open(path).verify());
        }
      }
    } finally {
      locks.forEach(RunDirectory::close);
    }
    if (check.parts.isEmpty()) {
      throw new InvalidInputException(
          "%s holds no run (no %s); name a run directory".formatted(directory, RunConfig.FILE));
    }
    return check.parts;
  }

  private static boolean isRun(Path path) {
    return Files.exists(path.resolve(RunConfig.FILE));
  }

  private void run(Path run) throws IOException {
    part(
        run.resolve(RunConfig.FILE),
        () -> {
          var _ = RunConfig.from(run.resolve(RunConfig.FILE), Map.of());
        });
    part(
        run.resolve(RunManifest.FILE_NAME),
        () -> {
          var _ = RunManifest.read(run.resolve(RunManifest.FILE_NAME));
        });
    for (String name : List.of(MetricsWriter.METRICS, MetricsWriter.TIMINGS, TrainingRun.EVENTS)) {
      Path file = run.resolve(name);
      if (Files.exists(file)) {
        part(file, () -> RunMetrics.lines(file, (_, _) -> {}));
      }
    }
    Path checkpoints = run.resolve("checkpoints");
    if (!Files.isDirectory(checkpoints)) {
      return;
    }
    var complete = CheckpointDirectory.complete(checkpoints);
    try (Stream<Path> children = Files.list(checkpoints)) {
      for (Path child : children.sorted().toList()) {
        if (complete.contains(child)) {
          part(child, () -> TrainingCheckpoint.verify(child));
        } else {
          parts.add(new Part(child, 0, note(child), null));
        }
      }
    }
  }

  private static String note(Path child) {
    return Files.isSymbolicLink(child)
        ? "a link, which no run follows"
        : "no complete checkpoint; never read";
  }

  /// @param read throws [InvalidInputException] where something is wrong
  private void part(Path path, Runnable read) throws IOException {
    reading.accept(path);
    String damage = null;
    try {
      read.run();
    } catch (InvalidInputException e) {
      damage = e.getMessage();
    }
    parts.add(new Part(path, bytes(path), "", damage));
  }

  private static long bytes(Path path) throws IOException {
    try (Stream<Path> files = Files.walk(path)) {
      long bytes = 0;
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        bytes += Files.size(file);
      }
      return bytes;
    }
  }
}
