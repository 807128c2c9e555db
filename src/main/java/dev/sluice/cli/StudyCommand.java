package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.corpus.BigramBackcopy;
import dev.sluice.corpus.WindowRule;
import dev.sluice.decoder.Decoders;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.pages.StudyReport;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.TextTable;
import dev.sluice.study.Arm;
import dev.sluice.study.Matching;
import dev.sluice.study.PaperTables;
import dev.sluice.study.Shard;
import dev.sluice.study.Study;
import dev.sluice.study.StudyFile;
import dev.sluice.study.Trial;
import dev.sluice.study.TrialResult;
import dev.sluice.study.Variant;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.RunConfig;
import dev.sluice.training.Trainer;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
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
      "Without --data, --table or a file: a tiny decoder without a gate and one with the paper's"
          + " elementwise gate after attention, five seeds each, on a made task (bigram-backcopy)"
          + " on which sinks, massive activations and sparse gates form within minutes. The"
          + " settings are then those of that task, not the defaults below; flags change them.",
      "",
      "With --data your text, or --data moby-dick the bundled book: a small byte-level decoder,"
          + " variants equal in parameters, two seeds each."
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
      "  ./sluice study --gates none,sdpa-headwise,value-elementwise",
      "  ./sluice study --data book.txt --gates none,sdpa-headwise --seeds 5 --steps 1000",
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

  /// The study on the made task: the smallest in which attention sinks and massive activations form
  /// in minutes. There is one head a layer, since of several some have nothing to do; narrow
  /// feed-forward layers, since wide ones take away what attention should not have added; neither
  /// normalised keys nor tied embeddings, which make it easy to look at the own token instead. See
  /// docs/decisions/0019.
  static RunConfig madeTask() {
    Map<String, String> settings = new HashMap<>();
    settings.put("layers", "2");
    settings.put("attention_heads", "1");
    settings.put("key_value_heads", "1");
    settings.put("head_dim", "64");
    settings.put("intermediate_size", "8");
    settings.put("qk_norm", "false");
    settings.put("tie_word_embeddings", "false");
    return madeText().with(null, settings);
  }

  /// The made task's text and training, for a model of any shape.
  private static RunConfig madeText() {
    Map<String, String> settings = new HashMap<>();
    settings.put("data", BigramBackcopy.NAME);
    settings.put("windows", WindowRule.DOCUMENTS.word());
    settings.put("sequence_length", "128");
    settings.put("batch_size", "16");
    settings.put("steps", "1000");
    settings.put("schedule", "wsd");
    settings.put("warmup_steps", "50");
    settings.put("evaluate_every", "50");
    settings.put("save_every", "1000");
    settings.put("held_out_windows", "64");
    return defaults().with(null, settings);
  }

  private static final int SEEDS_OF_MADE_TASK = 5;

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
      description =
          "Trials per variant, from paired seeds --seed, --seed + 1, … Default: 2, of the made task"
              + " 5.")
  private @Nullable Integer seeds;

  @Option(
      names = "--match",
      paramLabel = "WHAT",
      description =
          "Give variants the feed-forward width that makes them equal to the baseline in"
              + " parameters or flops; or none. Default: parameters, of the made task none.")
  private @Nullable String match;

  @Option(
      names = "--grid",
      paramLabel = "SETTING=VALUE,…",
      description =
          "Train every variant with each of these values, such as learning_rate=1e-3,3e-3;"
              + " may be given for several settings.")
  private List<String> grid = List.of();

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
    var results =
        study.run(
            directory,
            part,
            new TrainingRun.Origin(Version.commit(), commandLine()),
            new Overall(study, part, directory),
            Interruption::requested);
    int all = part.of(study.arms().size() * study.seeds().size());
    if (Interruption.requested() && results.size() < all) {
      Console.note(
          "Stopped with %d of %d trials done; everything is saved. Go on with the same command and --output %s"
              .formatted(results.size(), all, directory));
      return 130;
    }
    if (part.count() > 1) {
      Console.note(
          all == 0
              ? "Shard %s has no trial: there are only %d"
                  .formatted(shard, study.arms().size() * study.seeds().size())
              : "Shard %s is done: %d trials. When all are, ./sluice study report %s"
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
    if (seeds != null && (seeds < 1 || seeds > Study.MOST_TRIALS)) {
      throw new InvalidInputException(
          "--seeds must be 1 to %d, not %d".formatted(Study.MOST_TRIALS, seeds));
    }
    if ((file == null ? 0 : 1) + (gates == null ? 0 : 1) + (table == null ? 0 : 1) > 1) {
      throw new InvalidInputException(
          "a study file, --gates and --table each name the variants; give one of them");
    }
    var flags = SettingFlags.given(spec.commandLine().getParseResult());
    var matching = match == null ? null : Matching.parse(match);
    if (file != null) {
      return StudyFile.read(file, defaults(), flags, seeds, matching, points());
    }
    boolean made = table == null && !flags.containsKey("data");
    boolean begun = flags.containsKey("start");
    var text = begun ? madeText() : madeTask();
    var base = (made ? text : defaults()).with(null, flags).pinned();
    var matched = made ? Matching.NONE : Matching.usual(base);
    int trials = made ? SEEDS_OF_MADE_TASK : 2;
    return new Study(
        base,
        matching == null ? matched : matching,
        variants(base),
        points(),
        Study.seeds(base.seed(), seeds == null ? trials : seeds));
  }

  /// The settings of `--grid` and their values.
  private Map<String, List<String>> points() {
    Map<String, List<String>> points = new LinkedHashMap<>();
    for (String one : grid) {
      int equals = one.indexOf('=');
      var values = List.of(one.substring(equals + 1).split(",", -1));
      if (equals < 1 || values.stream().anyMatch(String::isBlank)) {
        throw new InvalidInputException(
            "--grid is a setting and its values, such as learning_rate=1e-3,3e-3, not '%s'"
                .formatted(one));
      }
      if (points.put(one.substring(0, equals), values) != null) {
        throw new InvalidInputException(
            "--grid names %s twice; join its values by commas".formatted(one.substring(0, equals)));
      }
    }
    return points;
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

  /// Says what begins, and shows one progress line over all trials of a share.
  private static final class Overall implements Study.Listener {
    private static final int SHOWN = 200;

    private final Study study;
    private final Path directory;
    private final Map<Path, Long> stepsBefore = new HashMap<>();
    private final long total;
    private final RemainingTime remaining = new RemainingTime();
    private final long began = System.nanoTime();
    private final Set<String> said = new HashSet<>();

    Overall(Study study, Shard shard, Path directory) {
      this.study = study;
      this.directory = directory;
      var trials = study.trials(directory);
      long steps = 0;
      for (int i = 0; i < trials.size(); i++) {
        if (shard.has(i)) {
          stepsBefore.put(trials.get(i).directory(), steps);
          steps += trials.get(i).config().optimization().steps();
        }
      }
      total = steps;
    }

    @Override
    public void begun() {
      study.base().notes().forEach(Console::note);
      Console.note(
          "%d trials of %d steps: %s, seeds %d to %d, in %s"
              .formatted(
                  study.arms().size() * study.seeds().size(),
                  study.base().optimization().steps(),
                  Printable.brief(
                      String.join(" and ", study.arms().stream().map(Arm::name).toList()), SHOWN),
                  study.seeds().getFirst(),
                  study.seeds().getLast(),
                  directory));
    }

    @Override
    public void noted(String what) {
      Console.note(what);
    }

    @Override
    public TrainingRun.Listener trial(Trial trial) {
      Interruption.watch();
      long before = stepsBefore.getOrDefault(trial.directory(), 0L);
      var sinks = new ShownSinks();
      return new TrainingRun.Listener() {
        @Override
        public void evaluated(int step, HeldOutLoss heldOut, Map<String, Double> measured) {
          sinks.measured(measured);
        }

        @Override
        public void stepped(Trainer.Step step, double tokensPerSecond) {
          var elapsed = Duration.ofNanos(System.nanoTime() - began);
          long done = before + step.number();
          remaining.observe((double) done, elapsed);
          Console.progress(
              new Progress(
                  "step",
                  done,
                  total,
                  elapsed,
                  remaining.remaining((double) total).orElse(null),
                  sinks.beside(
                      List.of(
                          trial.arm().name() + " seed " + trial.seed(),
                          "loss " + Numbers.fixed(step.loss(), 3),
                          Numbers.count(Math.round(tokensPerSecond)) + " tokens/s"))));
        }

        @Override
        public void noted(String what) { // of a trial: most of it is true of all
          if (said.add(what)) {
            Console.note(what);
          }
        }
      };
    }
  }
}
