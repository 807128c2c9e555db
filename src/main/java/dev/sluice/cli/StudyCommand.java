package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.TextTable;
import dev.sluice.study.Study;
import dev.sluice.study.StudyReport;
import dev.sluice.study.Trial;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.RunConfig;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/// `sluice study`: compares gates, by default an ungated model with its gated twin on the bundled
/// text.
@Command(
    name = "study",
    description = {
      "Trains variants of one model from paired seeds and says what the gate changed, with its"
          + " uncertainty.",
      "",
      "Without flags: a small byte-level decoder without a gate and one with the paper's"
          + " elementwise gate after attention, equal in parameters, two seeds each, on Moby-Dick."
          + " Takes a few minutes on two cores."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice study",
      "  ./sluice study --gates none,sdpa-headwise,value-elementwise --seeds 5 --steps 1000",
      "  ./sluice study --data texts/ --model small --output runs/mine",
      "  ./sluice study --output runs/mine        (again: goes on where it was)"
    })
final class StudyCommand implements Callable<Integer> {
  /// What a study holds where neither file nor flag says otherwise: sized for a few minutes on two
  /// cores.
  static RunConfig defaults() {
    return RunConfig.DEFAULTS.with(
        null,
        Map.of(
            "match_parameters", "true",
            "steps", "100",
            "evaluate_every", "20",
            "save_every", "100",
            "keep_checkpoints", "1",
            "sample_tokens", "0"));
  }

  @Option(
      names = "--gates",
      paramLabel = "GATE",
      split = ",",
      description =
          "The variants, joined by commas, the baseline first. Default: none,sdpa-elementwise.")
  private List<String> gates = List.of("none", "sdpa-elementwise");

  @Option(
      names = "--seeds",
      paramLabel = "N",
      description = "Trials per variant, from paired seeds --seed, --seed + 1, … Default: 2.")
  private int seeds = 2;

  @Option(names = "--config", paramLabel = "FILE", description = "Settings in TOML.")
  private @Nullable Path file;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description =
          "The study's directory; one that holds part of the same study is completed. Default:"
              + " runs/study-DATE-TIME.")
  private @Nullable Path output;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  StudyCommand() {}

  @Override
  public Integer call() throws IOException {
    threads.apply();
    if (seeds < 1) {
      throw new InvalidInputException("--seeds must be at least 1, not " + seeds);
    }
    var config = defaults().with(file, SettingFlags.given(spec.commandLine().getParseResult()));
    var study =
        new Study(
            config, gates, LongStream.range(config.seed(), config.seed() + seeds).boxed().toList());
    Path directory = output != null ? output : freshDirectory();
    refuseAnother(directory, config);
    var trials = study.trials(directory);
    Console.note(
        "%d trials of %d steps: %s, seeds %s, in %s"
            .formatted(
                trials.size(),
                config.steps(),
                String.join(" and ", gates),
                study.seeds(),
                directory));
    var overall = new Overall(trials);
    var results =
        study.run(
            directory,
            new TrainingRun.Origin(Version.commit(), commandLine()),
            overall::listener,
            Interruption::requested);
    if (results.size() < trials.size()) {
      Console.note(
          "Stopped with %d of %d trials done; everything is saved. Go on with the same command and --output %s"
              .formatted(results.size(), trials.size(), directory));
      return 130;
    }
    var report = new StudyReport(study, directory, results);
    Path page =
        report.writePage("sluice " + String.join(" ", commandLine()), manifest(config, study));
    Console.print(new TextTable(report.table(), 116).toString());
    report.sentences().forEach(sentence -> Console.print(Console.wrap(sentence)));
    Console.print("");
    Console.print("Report: " + page.toAbsolutePath());
    return 0;
  }

  private List<String> commandLine() {
    return spec.commandLine().getParseResult().originalArgs();
  }

  private static void refuseAnother(Path directory, RunConfig config) {
    Path there = directory.resolve(RunConfig.FILE);
    if (Files.exists(there) && !RunConfig.from(there, Map.of()).equals(config)) {
      throw new InvalidInputException(
          directory
              + " holds a study with other settings (see its "
              + RunConfig.FILE
              + "); choose another --output or give the same settings");
    }
  }

  private static Map<String, Object> manifest(RunConfig config, Study study) {
    Map<String, Object> manifest = new LinkedHashMap<>();
    manifest.put("sluice_commit", Version.commit());
    manifest.put("libtorch", Libtorch.version());
    manifest.put("machine", RunManifest.Machine.current());
    manifest.put("gates", study.gates());
    manifest.put("seeds", study.seeds());
    manifest.put("settings", config.settings());
    return manifest;
  }

  private static Path freshDirectory() {
    var time = LocalDateTime.now(ZoneId.systemDefault());
    return Path.of("runs", "study-" + time.format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss")));
  }

  /// One progress line over all trials.
  private static final class Overall {
    private final List<Trial> trials;
    private final RemainingTime remaining = new RemainingTime();
    private final long began = System.nanoTime();

    Overall(List<Trial> trials) {
      this.trials = trials;
    }

    TrainingRun.Listener listener(Trial trial) {
      Interruption.watch();
      int index = trials.indexOf(trial);
      int steps = trial.config().steps();
      long total = (long) trials.size() * steps;
      return new TrainingRun.Listener() {
        @Override
        public void stepped(Trainer.Step step, double tokensPerSecond) {
          var elapsed = Duration.ofNanos(System.nanoTime() - began);
          long done = (long) index * steps + step.number();
          remaining.observe((double) done, elapsed);
          Console.progress(
              new Progress(
                  "step",
                  done,
                  total,
                  elapsed,
                  remaining.remaining((double) total).orElse(null),
                  List.of(
                      trial.gate() + " seed " + trial.seed(),
                      "loss " + Numbers.fixed(step.loss(), 3),
                      Numbers.count(Math.round(tokensPerSecond)) + " tokens/s")));
        }
      };
    }
  }
}
