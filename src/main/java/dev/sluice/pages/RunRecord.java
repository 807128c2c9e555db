package dev.sluice.pages;

import dev.sluice.provenance.RunManifest;
import dev.sluice.training.NewestSinks;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunEvents;
import dev.sluice.training.RunMetrics;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/// What there is of a run to show.
///
/// @param metrics what follows from the seed
/// @param timings what the clock and the machine decide
/// @param sinks maps and histograms of the newest evaluation
/// @param events what the guard did
public record RunRecord(
    Path directory,
    RunConfig config,
    RunManifest manifest,
    RunMetrics metrics,
    RunMetrics timings,
    Optional<NewestSinks> sinks,
    List<RunEvents.Event> events) {
  public RunRecord {
    // Of a run that went back, until it is measured again.
    long last = metrics.lastStep();
    sinks = sinks.filter(newest -> newest.step() <= last);
    events = List.copyOf(events);
  }

  static RunRecord read(Path directory, RunConfig config) {
    return new RunRecord(
        directory,
        config,
        RunManifest.read(directory.resolve(RunManifest.FILE_NAME)),
        RunMetrics.read(directory),
        RunMetrics.timings(directory),
        NewestSinks.read(directory),
        RunEvents.read(directory));
  }
}
