package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
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
import java.util.Objects;
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
    part(run.resolve(RunConfig.FILE), () -> requireRecorded(run));
    part(
        run.resolve(RunManifest.FILE_NAME),
        () -> {
          var _ = RunManifest.read(run.resolve(RunManifest.FILE_NAME));
        });
    Path checkpoints = run.resolve("checkpoints");
    var newest = CheckpointDirectory.latest(checkpoints);
    for (String name : List.of(MetricsWriter.METRICS, MetricsWriter.TIMINGS, TrainingRun.EVENTS)) {
      Path file = run.resolve(name);
      if (newest.isPresent() && !name.equals(TrainingRun.EVENTS)) {
        part(file, () -> requireStepsUntil(newest.get(), file));
      } else if (Files.exists(file)) {
        part(file, () -> RunMetrics.lines(file, (_, _) -> {}));
      }
    }
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

  /// `config.toml` has no checksum, but the manifest says the same, unless an earlier version went
  /// on with an edited one, which left the manifest as it was.
  private static void requireRecorded(Path run) {
    Path file = run.resolve(RunConfig.FILE);
    var settings = RunConfig.from(file, Map.of()).settings();
    var manifest = RunManifest.beside(run);
    if (manifest.isEmpty()) {
      return; // told of that itself
    }
    var accepted = RunConfig.accepted(manifest.get());
    if (accepted.isEmpty()) {
      throw differing(file, "this version refuses what the latter records");
    }
    var recorded = accepted.get().settings();
    List<String> differences = new ArrayList<>();
    settings.forEach(
        (name, now) -> {
          var before = Objects.requireNonNull(recorded.get(name));
          if (!now.equals(before)) {
            differences.add(
                "%s %s and %s"
                    .formatted(name, Printable.brief(now, 60), Printable.brief(before, 60)));
          }
        });
    if (!differences.isEmpty()) {
      throw differing(file, String.join("; ", differences));
    }
  }

  private static InvalidInputException differing(Path config, String how) {
    return new InvalidInputException(
        "%s and %s differ (%s): one of them was edited, or an earlier version went on with an edited %s without recording that; restore the one that is wrong"
            .formatted(config, RunManifest.FILE_NAME, how, RunConfig.FILE));
  }

  /// Steps are on the disk before a checkpoint of them is.
  private static void requireStepsUntil(Path checkpoint, Path record) {
    long saved = CheckpointDirectory.step(checkpoint).orElse(0);
    long[] last = {0};
    RunMetrics.lines(record, (_, line) -> last[0] = line.path("step").longValue());
    if (last[0] < saved) {
      throw new InvalidInputException(
          "%s ends with step %d, and %s is of step %d: steps are missing; restore the file from a copy"
              .formatted(record, last[0], checkpoint.getFileName(), saved));
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
    if (Files.notExists(path)) {
      return 0;
    }
    try (Stream<Path> files = Files.walk(path)) {
      long bytes = 0;
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        bytes += Files.size(file);
      }
      return bytes;
    }
  }
}
