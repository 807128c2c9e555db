package dev.sluice.watch;

import dev.sluice.files.DirectoryLock;
import dev.sluice.files.DirectoryLock.Presence;
import dev.sluice.report.HtmlReport.State;
import dev.sluice.report.Numbers;
import dev.sluice.training.MetricsWriter;
import dev.sluice.training.RunEvents;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;

/// How it stands with a run.
///
/// @param state for the eye
/// @param trains whether somebody is at it, as far as can be seen
/// @param words what a sentence begins with
record Standing(State state, boolean trains, String words) {
  /// After so long without a step the page says so.
  private static final Duration QUIET = Duration.ofSeconds(60);

  /// Where a record was written so lately and nobody owns the directory, its file system may have
  /// no locks.
  private static final Duration LATELY = Duration.ofSeconds(10);

  /// The longest that a run on another machine is believed to go on without a word.
  private static final Duration BELIEVED = Duration.ofMinutes(10);

  /// @param step recorded last
  /// @param steps planned
  /// @param secondsOfAStep NaN if not known
  static Standing of(Path directory, long step, long steps, double secondsOfAStep) {
    var owner = DirectoryLock.owner(directory);
    var silence = silence(directory.resolve(MetricsWriter.METRICS));
    var presence = owner.map(DirectoryLock.Owner::presence).orElse(null);
    if (presence == Presence.RUNS) {
      return new Standing(State.ACTIVE, true, training(step, steps, silence, secondsOfAStep));
    }
    if (presence == Presence.UNKNOWN && silence.compareTo(BELIEVED) < 0) {
      return new Standing(
          State.ACTIVE,
          true,
          "Training on another machine, by %s; the last step was recorded %s ago"
              .formatted(owner.orElseThrow().words(), Numbers.duration(silence)));
    }
    if (step >= steps && step > 0) {
      return new Standing(State.DONE, false, "Finished: all %,d steps are done".formatted(steps));
    }
    var failure = failure(directory, step);
    if (failure.isPresent()) {
      return new Standing(
          State.TROUBLED,
          false,
          "Broken off; what is known of the step that ended it is in `%s`"
              .formatted(failure.get()));
    }
    String resume =
        "%s; `./sluice train --resume %s` goes on".formatted(after(step, steps), directory);
    return owner
        .map(
            one ->
                new Standing(
                    State.TROUBLED,
                    false,
                    "Nobody trains this run any more%s: %s has ended without a word"
                        .formatted(resume, one.words())))
        .orElse(
            new Standing(
                State.STOPPED,
                false,
                "Stopped"
                    + (silence.compareTo(LATELY) < 0
                        ? " just now, unless its file system has no locks,"
                        : "")
                    + resume));
  }

  private static String after(long step, long steps) {
    return step == 0 ? " before the first step" : " after step %,d of %,d".formatted(step, steps);
  }

  private static String training(long step, long steps, Duration silence, double secondsOfAStep) {
    if (step >= steps) {
      return "All steps are done, and the run is being brought to its end";
    }
    if (step == 0) {
      return "Begun; no step is recorded yet";
    }
    double usual = Double.isFinite(secondsOfAStep) ? 20 * secondsOfAStep : 0;
    return silence.toMillis() / 1e3 > Math.max((double) QUIET.toSeconds(), usual)
        ? "Training, but no step has been recorded for %s: it may be evaluating, saving or waiting"
            .formatted(Numbers.duration(silence))
        : "Training";
  }

  /// How long ago a file was written; long ago where it is not there.
  private static Duration silence(Path file) {
    try {
      var ago = Duration.between(Files.getLastModifiedTime(file).toInstant(), Instant.now());
      return ago.isNegative() ? Duration.ZERO : ago;
    } catch (IOException _) {
      return Duration.ofDays(10_000);
    }
  }

  private static Optional<Path> failure(Path directory, long step) {
    return RunEvents.failure(directory, step).or(() -> RunEvents.failure(directory, step + 1));
  }
}
