package dev.sluice.watch;

import dev.sluice.pages.RunRecord;
import dev.sluice.provenance.RunManifest;
import dev.sluice.training.FollowedMetrics;
import dev.sluice.training.NewestSinks;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunEvents;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/// A run's files, of which only what is new is read each time.
final class FollowedRun {
  /// Steps whose mean duration stands for those to come.
  private static final int LATEST_STEPS = 50;

  private final Path directory;
  private final FollowedMetrics metrics;
  private final FollowedMetrics timings;
  private final Remembered<Optional<NewestSinks>> sinks;

  FollowedRun(Path directory) {
    this.directory = directory;
    this.metrics = FollowedMetrics.metrics(directory);
    this.timings = FollowedMetrics.timings(directory);
    this.sinks = new Remembered<>(NewestSinks.file(directory), () -> NewestSinks.read(directory));
  }

  /// Reads what is new.
  void update() throws IOException {
    metrics.update();
    timings.update();
  }

  RunMetrics metrics() {
    return metrics.metrics();
  }

  /// Of the newest evaluation; empty if the run has gone back behind it since.
  Optional<NewestSinks> sinks() {
    long last = metrics().lastStep();
    return sinks.get().filter(newest -> newest.step() <= last);
  }

  RunRecord record(RunConfig config) {
    return new RunRecord(
        directory,
        config,
        RunManifest.read(directory.resolve(RunManifest.FILE_NAME)),
        metrics(),
        timings.metrics(),
        sinks.get(),
        RunEvents.read(directory));
  }

  /// What is wrong with the records, in sentences.
  List<String> damages() {
    return Stream.of(metrics.damage(), timings.damage())
        .filter(damage -> !damage.isEmpty())
        .toList();
  }

  /// Of the latest steps; NaN before any.
  double secondsOfAStep() {
    return meanOfLatest("seconds");
  }

  /// Of the latest steps; NaN before any.
  double tokensPerSecond() {
    return meanOfLatest("tokens_per_second");
  }

  private double meanOfLatest(String field) {
    double[] all = timings.metrics().curve(field).values();
    return Arrays.stream(all, Math.max(0, all.length - LATEST_STEPS), all.length)
        .average()
        .orElse(Double.NaN);
  }

  /// The last value of a field; NaN before any.
  double last(String field) {
    double[] all = metrics().curve(field).values();
    return all.length == 0 ? Double.NaN : all[all.length - 1];
  }
}
