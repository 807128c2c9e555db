package dev.sluice.watch;

import dev.sluice.files.DirectoryLock;
import dev.sluice.files.DirectoryLock.Presence;
import dev.sluice.pages.SinkFigures;
import dev.sluice.pages.StudyReport;
import dev.sluice.pages.TrialRecords;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.HtmlReport.State;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.sink.SinkReport;
import dev.sluice.study.Arm;
import dev.sluice.study.Study;
import dev.sluice.study.StudyFile;
import dev.sluice.study.Trial;
import dev.sluice.study.TrialResult;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunMetrics;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// A study: its report of the trials that are done, with the curves of the others, and how far each
/// is. Trials are done by whichever shards share the directory.
final class WatchedStudy implements Watched {
  /// Trials that the table names.
  private static final int NAMED = 200;

  /// Trials in training whose maps are shown.
  private static final int MAPPED = 4;

  /// What is known of a trial.
  ///
  /// @param standing null before it has begun
  private record Seen(Trial trial, @Nullable TrialResult result, @Nullable Standing standing) {
    boolean isDone() {
      return result != null;
    }

    boolean trains() {
      return result == null && standing != null && standing.trains();
    }

    boolean isBroken() {
      return result == null && standing != null && !standing.trains();
    }
  }

  private final Path directory;
  private final Remembered<Study> study;
  private final TimeLeft left = new TimeLeft();

  /// Of trials that have begun and are not done, by directory.
  private final Map<Path, FollowedRun> followed = new HashMap<>();

  private final Map<Path, RunMetrics> finished = new HashMap<>();
  private final Map<Arm, SequencedMap<Long, RunMetrics>> unfinished = new HashMap<>();
  private List<Path> reported = List.of();
  private @Nullable Study ofReport;
  private @Nullable StudyReport report;
  private List<TrialResult> results = List.of();

  WatchedStudy(Path directory) {
    this.directory = directory;
    Path file = directory.resolve(StudyFile.NAME);
    this.study = new Remembered<>(file, () -> StudyFile.read(file, RunConfig.DEFAULTS, Map.of()));
  }

  @Override
  public HtmlReport page() throws IOException {
    Watched.requireThere(directory);
    var now = study.get();
    var seen = look(now);
    var page = HtmlReport.titled(StudyReport.TITLE);
    var standing = standing(seen);
    page.state(standing.state(), standing.words() + ".");
    progress(page, seen, standing.trains());
    page.section("Trials").table(trials(seen));
    var report = report(now);
    if (results.isEmpty()) {
      if (!followed.isEmpty()) {
        report.addCurves(page);
      }
    } else {
      page.section("Results so far");
      report.addTo(page);
    }
    maps(page, seen);
    followed.values().stream().flatMap(run -> run.damages().stream()).forEach(page::summary);
    return page;
  }

  // ---------------------------------------------------------------- looking

  private List<Seen> look(Study now) throws IOException {
    var trials = now.trials(directory);
    var done = trials.stream().map(Trial::directory).filter(TrialResult::exists).toList();
    if (!done.equals(reported) || !now.equals(ofReport)) {
      results = now.results(directory);
      finished.keySet().retainAll(done);
      report = null;
      reported = done;
      ofReport = now;
    }
    var byTrial = new HashMap<String, TrialResult>();
    results.forEach(one -> byTrial.put(key(one.variant(), one.point(), one.seed()), one));
    unfinished.clear();
    List<Seen> seen = new ArrayList<>();
    for (Trial trial : trials) {
      var result =
          byTrial.get(key(trial.arm().variant().name(), trial.arm().point(), trial.seed()));
      boolean begun = Files.exists(trial.directory().resolve(RunConfig.FILE));
      seen.add(new Seen(trial, result, result != null || !begun ? null : follow(trial)));
    }
    followed
        .keySet()
        .retainAll(
            seen.stream()
                .filter(one -> one.standing() != null)
                .map(one -> one.trial().directory())
                .toList());
    return seen;
  }

  private StudyReport report(Study now) {
    var known = report;
    if (known == null) {
      known = new StudyReport(now, directory, results, new Records());
      report = known;
    }
    return known;
  }

  private static String key(String variant, Map<String, String> point, long seed) {
    return variant + new TreeMap<>(point) + seed;
  }

  private Standing follow(Trial trial) throws IOException {
    var run = followed.computeIfAbsent(trial.directory(), FollowedRun::new);
    run.update();
    unfinished.computeIfAbsent(trial.arm(), _ -> new TreeMap<>()).put(trial.seed(), run.metrics());
    return Standing.of(
        trial.directory(),
        run.metrics().lastStep(),
        trial.config().optimization().steps(),
        run.secondsOfAStep());
  }

  private final class Records implements TrialRecords {
    @Override
    public RunMetrics finished(Path trial) {
      return finished.computeIfAbsent(trial, RunMetrics::read);
    }

    @Override
    public SequencedMap<Long, RunMetrics> unfinished(Arm arm) {
      return unfinished.getOrDefault(arm, new TreeMap<>());
    }
  }

  private @Nullable FollowedRun run(Seen seen) {
    return followed.get(seen.trial().directory());
  }

  // ---------------------------------------------------------------- telling

  private Standing standing(List<Seen> seen) {
    long done = seen.stream().filter(Seen::isDone).count();
    if (done == seen.size()) {
      return new Standing(
          State.DONE, false, "Finished: all %,d trials are done".formatted(seen.size()));
    }
    var training = seen.stream().filter(Seen::trains).toList();
    if (!training.isEmpty()) {
      var first = training.getFirst();
      return new Standing(
          State.ACTIVE,
          true,
          "Training %s, seed %d%s"
              .formatted(
                  first.trial().arm().name(),
                  first.trial().seed(),
                  training.size() == 1 ? "" : ", and %d more".formatted(training.size() - 1)));
    }
    var owner = DirectoryLock.owner(directory);
    if (owner.map(one -> one.presence() == Presence.RUNS).orElse(false)) {
      return new Standing(State.ACTIVE, true, "Between two trials, or before the first");
    }
    var broken =
        seen.stream()
            .filter(one -> one.standing() != null && one.standing().state() == State.TROUBLED)
            .findFirst();
    String resume = "`./sluice study --output %s` with the same flags goes on".formatted(directory);
    return broken
        .map(
            one ->
                new Standing(
                    State.TROUBLED,
                    false,
                    "Nobody works on this study, %d of whose %d trials are done: %s, seed %d did not end as it should; %s"
                        .formatted(
                            done,
                            seen.size(),
                            one.trial().arm().name(),
                            one.trial().seed(),
                            resume)))
        .orElse(
            new Standing(
                State.STOPPED,
                false,
                "Stopped with %d of %d trials done; %s".formatted(done, seen.size(), resume)));
  }

  private void progress(HtmlReport page, List<Seen> seen, boolean trains) {
    long all = 0;
    long steps = 0;
    double seconds = Double.NaN;
    double rate = Double.NaN;
    for (Seen one : seen) {
      long planned = one.trial().config().optimization().steps();
      var run = run(one);
      all += planned;
      steps += one.isDone() ? planned : run == null ? 0 : run.metrics().lastStep();
      if (run != null && one.trains()) {
        seconds = run.secondsOfAStep();
        rate = run.tokensPerSecond();
      }
    }
    long done = seen.stream().filter(Seen::isDone).count();
    page.progress(
        (double) steps / all,
        "%,d of %,d trials done, %,d of %,d steps (%s)%s%s."
            .formatted(
                done,
                seen.size(),
                steps,
                all,
                Numbers.percent((double) steps / all, 0),
                trains ? left.words(steps, all, seconds) : "",
                trains && Double.isFinite(rate)
                    ? ", %s tokens/s".formatted(Numbers.count(Math.round(rate)))
                    : ""));
  }

  private Table trials(List<Seen> seen) {
    var table =
        Table.titled("All trials, in the order in which they are trained")
            .columns(
                "trial",
                "seed",
                "state",
                "step",
                "of",
                "bits per byte",
                "first-token attention",
                "uniform",
                "largest |x|");
    var named = seen.size() <= NAMED ? seen : mostTelling(seen);
    for (Seen one : named) {
      table = table.row(row(one));
    }
    return named.size() == seen.size()
        ? table.footnote(
            "Uniform: what attention without preferences would give. Attention and activations"
                + " while a trial trains: on the window that it is evaluated on.")
        : table.footnote("%,d more are not shown.".formatted(seen.size() - named.size()));
  }

  /// Those in training, then those that are not done, then the others.
  private static List<Seen> mostTelling(List<Seen> seen) {
    List<Seen> sorted = new ArrayList<>(seen.stream().filter(Seen::trains).toList());
    sorted.addAll(seen.stream().filter(Seen::isBroken).toList());
    sorted.addAll(seen.stream().filter(one -> !one.isDone() && one.standing() == null).toList());
    sorted.addAll(seen.stream().filter(Seen::isDone).toList());
    return sorted.subList(0, NAMED);
  }

  private List<Cell> row(Seen one) {
    List<Cell> row = new ArrayList<>();
    row.add(Cell.of(one.trial().arm().name()));
    row.add(Cell.of(one.trial().seed()));
    var result = one.result();
    var run = run(one);
    row.add(Cell.of(state(one)));
    row.add(Cell.of(result != null ? result.steps() : run == null ? 0 : run.metrics().lastStep()));
    row.add(Cell.of((long) one.trial().config().optimization().steps()));
    double bits = result != null ? result.bitsPerByte() : last(run, "held_out_bits_per_byte");
    double attention =
        result != null ? result.firstTokenAttention() : last(run, "first_token_attention");
    double uniform = result != null ? result.uniformFloor() : uniformFloor(run);
    double largest = result != null ? result.largestActivation() : last(run, "largest_activation");
    row.add(Double.isNaN(bits) ? Cell.missing() : Cell.of(bits, 4));
    row.add(Double.isNaN(attention) ? Cell.missing() : Cell.percent(attention, 2));
    row.add(Double.isNaN(uniform) ? Cell.missing() : Cell.percent(uniform, 2));
    row.add(Double.isNaN(largest) ? Cell.missing() : Cell.significant(largest, 3));
    return row;
  }

  private static double uniformFloor(@Nullable FollowedRun run) {
    return run == null
        ? Double.NaN
        : run.sinks()
            .map(newest -> newest.sinks().firstTokenAttention().uniformFloorExcluding())
            .orElse(Double.NaN);
  }

  private static double last(@Nullable FollowedRun run, String field) {
    return run == null ? Double.NaN : run.last(field);
  }

  private static String state(Seen one) {
    var result = one.result();
    if (result != null) {
      return result.diverged() ? "diverged" : "done";
    }
    var standing = one.standing();
    return standing == null
        ? "not begun"
        : standing.trains()
            ? "training"
            : standing.state() == State.DONE ? "to be measured" : "stopped";
  }

  /// Of trials that train, what their newest evaluations saw.
  private void maps(HtmlReport page, List<Seen> seen) {
    var sinks = new LinkedHashMap<String, SinkReport>();
    for (Seen one : seen) {
      var run = run(one);
      if (run != null && one.standing() != null && sinks.size() < MAPPED) {
        run.sinks()
            .ifPresent(
                newest ->
                    sinks.put(
                        "%s, seed %d, step %d"
                            .formatted(one.trial().arm().name(), one.trial().seed(), newest.step()),
                        newest.sinks()));
      }
    }
    if (!sinks.isEmpty()) {
      page.section("Where attention goes in trials that are not done");
      SinkFigures.add(page, sinks, "on the window that trials are evaluated on");
    }
  }
}
