package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoders;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.TextTable;
import dev.sluice.study.Matching;
import dev.sluice.study.PaperTables;
import dev.sluice.study.Shard;
import dev.sluice.study.Study;
import dev.sluice.study.StudyFile;
import dev.sluice.study.StudyReport;
import dev.sluice.study.Trial;
import dev.sluice.study.TrialResult;
import dev.sluice.study.Variant;
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
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
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
    subcommands = StudyReportCommand.class,
    footer = {
      "",
      "A study in a file:",
      "  steps = 400                         # any setting of a run",
      "  seeds = 5",
      "  match = \"parameters\"                # or \"flops\", or \"none\"",
      "  [grid]",
      "  learning_rate = [1e-3, 3e-3]        # every variant is trained with each",
      "  [[variant]]                         # the baseline first",
      "  name = \"no gate\"",
      "  gate = \"none\"",
      "  [[variant]]",
      "  name = \"headwise, twice the key/value heads\"",
      "  gate = \"sdpa-headwise\"",
      "  key_value_heads = 4",
      "",
      "Examples:",
      "  ./sluice study",
      "  ./sluice study --gates none,sdpa-headwise,value-elementwise --seeds 5 --steps 1000",
      "  ./sluice study --table 1 --seeds 5 --output runs/table1",
      "  ./sluice study study.toml --shard 2/8 --output /shared/mine   (one of eight machines)",
      "  ./sluice study report /shared/mine       (what is there of it)",
      "  ./sluice study --output runs/mine        (again: goes on where it was)"
    })
final class StudyCommand implements Callable<Integer> {
  /// What a study holds where neither file nor flag says otherwise: sized for a few minutes on two
  /// cores.
  static RunConfig defaults() {
    return RunConfig.DEFAULTS.with(
        null,
        Map.of(
            "steps", "100",
            "evaluate_every", "20",
            "save_every", "100",
            "keep_checkpoints", "1",
            "keep_best", "false",
            "stop_diverged", "true",
            "sample_tokens", "0"));
  }

  @Parameters(
      arity = "0..1",
      paramLabel = "FILE",
      description = "A study in TOML; flags win over its settings.")
  private @Nullable Path file;

  @Option(
      names = "--gates",
      paramLabel = "GATE",
      split = ",",
      description =
          "The variants, joined by commas, the baseline first. Default: none,sdpa-elementwise.")
  private @Nullable List<String> gates;

  @Option(
      names = "--table",
      paramLabel = "N",
      description =
          "The variants of the paper's table 1, 2, 3, 4 or 6, with its numbers beside; the row with"
              + " more experts where the model has experts.")
  private @Nullable Integer table;

  @Option(
      names = "--seeds",
      paramLabel = "N",
      description = "Trials per variant, from paired seeds --seed, --seed + 1, … Default: 2.")
  private @Nullable Integer seeds;

  @Option(
      names = "--match",
      paramLabel = "WHAT",
      description =
          "Give variants the feed-forward width that makes them equal to the baseline in"
              + " parameters or flops; or none. Default: parameters.")
  private @Nullable String match;

  @Option(
      names = "--grid",
      paramLabel = "SETTING=VALUE,…",
      description =
          "Train every variant with each of these values, such as learning_rate=1e-3,3e-3;"
              + " may be given for several settings.")
  private Map<String, String> grid = new LinkedHashMap<>();

  @Option(
      names = "--shard",
      paramLabel = "I/N",
      description = "Run only share I of N of the trials; study report joins them.")
  private String shard = "1/1";

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
    var study = study();
    var part = Shard.parse(shard);
    Path directory = output != null ? output : freshDirectory();
    refuseAnother(directory, study);
    var trials = study.trials(directory);
    Console.note(
        "%d trials of %d steps: %s, seeds %s, in %s"
            .formatted(
                trials.size(),
                study.base().steps(),
                String.join(" and ", study.arms().stream().map(arm -> arm.name()).toList()),
                study.seeds(),
                directory));
    var overall =
        new Overall(
            IntStream.range(0, trials.size()).filter(part::has).mapToObj(trials::get).toList());
    var results =
        study.run(
            directory,
            part,
            new TrainingRun.Origin(Version.commit(), commandLine()),
            overall::listener,
            Interruption::requested);
    if (Interruption.requested() && results.size() < part.of(trials.size())) {
      Console.note(
          "Stopped with %d of %d trials done; everything is saved. Go on with the same command and --output %s"
              .formatted(results.size(), part.of(trials.size()), directory));
      return 130;
    }
    if (part.count() > 1) {
      Console.note(
          "Shard %s is done: %d trials. When all are, ./sluice study report %s"
              .formatted(shard, results.size(), directory));
      return 0;
    }
    report(study, directory, results, "sluice " + String.join(" ", commandLine()));
    return 0;
  }

  /// Prints tables and sentences and writes the page.
  static void report(Study study, Path directory, List<TrialResult> results, String commandLine)
      throws IOException {
    var report = new StudyReport(study, directory, results);
    Path page = report.writePage(commandLine, manifest(study));
    for (var one : report.tables()) {
      Console.print(new TextTable(one, 116).toString());
    }
    report.sentences().forEach(sentence -> Console.print(Console.wrap(sentence)));
    Console.print("");
    Console.print("Report: " + page.toAbsolutePath());
  }

  /// The study of the file, the table or the gates, changed by the flags.
  private Study study() {
    if (seeds != null && seeds < 1) {
      throw new InvalidInputException("--seeds must be at least 1, not " + seeds);
    }
    if ((file == null ? 0 : 1) + (gates == null ? 0 : 1) + (table == null ? 0 : 1) > 1) {
      throw new InvalidInputException(
          "a study file, --gates and --table each name the variants; give one of them");
    }
    var flags = SettingFlags.given(spec.commandLine().getParseResult());
    var read = file == null ? null : StudyFile.read(file, defaults(), flags);
    var base = read == null ? defaults().with(null, flags) : read.base();
    var points = new LinkedHashMap<String, List<String>>();
    if (read != null) {
      points.putAll(read.grid());
    }
    grid.forEach((setting, values) -> points.put(setting, List.of(values.split(","))));
    return new Study(
        base,
        match != null
            ? Matching.parse(match)
            : read != null ? read.matching() : Matching.PARAMETERS,
        read == null ? variants(base) : read.variants(),
        points,
        seeds != null
            ? StudyFile.seeds(base.seed(), seeds)
            : read != null ? read.seeds() : StudyFile.seeds(base.seed(), 2));
  }

  private List<Variant> variants(RunConfig base) {
    if (table != null) {
      return PaperTables.table(table, base.decoder(Decoders.TINY.vocabSize()));
    }
    var named = gates == null ? List.of("none", "sdpa-elementwise") : gates;
    return named.stream().map(Variant::ofGate).toList();
  }

  private List<String> commandLine() {
    return spec.commandLine().getParseResult().originalArgs();
  }

  private static void refuseAnother(Path directory, Study study) {
    Path there = directory.resolve(StudyFile.NAME);
    if (Files.exists(there) && !StudyFile.read(there, RunConfig.DEFAULTS, Map.of()).equals(study)) {
      throw new InvalidInputException(
          directory
              + " holds a study with other settings (see its "
              + StudyFile.NAME
              + "); choose another --output or give the same settings");
    }
  }

  private static Map<String, Object> manifest(Study study) {
    Map<String, Object> manifest = new LinkedHashMap<>();
    manifest.put("sluice_commit", Version.commit());
    manifest.put("libtorch", Libtorch.version());
    manifest.put("machine", RunManifest.Machine.current());
    manifest.put("match", study.matching().word());
    manifest.put("variants", study.variants());
    manifest.put("grid", study.grid());
    manifest.put("seeds", study.seeds());
    manifest.put("settings", study.base().settings());
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
                      trial.arm().name() + " seed " + trial.seed(),
                      "loss " + Numbers.fixed(step.loss(), 3),
                      Numbers.count(Math.round(tokensPerSecond)) + " tokens/s")));
        }
      };
    }
  }
}
