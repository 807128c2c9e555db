package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.sink.SinkReport;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import tools.jackson.databind.json.JsonMapper;

/// What the newest evaluation of a run saw of attention and gates: maps and histograms, which
/// `metrics.jsonl` has no room for. Only the newest is kept, for whoever watches the run.
///
/// @param step after which it was measured
public record NewestSinks(int step, SinkReport sinks) {
  static final String FILE = "newest-sinks.json";

  private static final String WAY_OUT = "remove it; the next evaluation writes it again";
  private static final JsonMapper JSON = JsonMapper.shared();

  /// Puts this in the place of what a run directory holds. It does not wait for the disk: it is no
  /// part of what a run needs to go on.
  void write(Path run) throws IOException {
    var json = sinks.json();
    json.put("step", step);
    WholeFile.writeUnsynced(file(run), JSON.writeValueAsString(json) + "\n");
  }

  /// Where it is, whether there or not.
  public static Path file(Path run) {
    return run.resolve(FILE);
  }

  /// What is there of a run; empty where nothing was measured yet, or by a version that kept
  /// nothing.
  ///
  /// @throws InvalidInputException if the file is damaged
  public static Optional<NewestSinks> read(Path run) {
    Path file = file(run);
    if (Files.notExists(file)) {
      return Optional.empty();
    }
    var json = JsonFile.object(file, JsonFile.LARGE, WAY_OUT);
    var step = json.remove("step");
    if (step == null || !step.isIntegralNumber() || !step.canConvertToInt()) {
      throw new InvalidInputException("%s names no step; %s".formatted(file, WAY_OUT));
    }
    return Optional.of(new NewestSinks(step.intValue(), SinkReport.of(file, json)));
  }

  /// Forgets what was measured after a step that the run goes back to, or what cannot be read.
  static void removeAfter(Path run, int step) throws IOException {
    boolean stays;
    try {
      stays = read(run).map(newest -> newest.step() <= step).orElse(false);
    } catch (InvalidInputException _) {
      stays = false;
    }
    if (!stays) {
      Files.deleteIfExists(file(run));
    }
  }
}
