package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.corpus.WindowRule;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.evaluation.PositionLoss;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import dev.sluice.pages.ExtendReport;
import dev.sluice.pages.ExtendResult;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.TextTable;
import dev.sluice.settings.Settings;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.RunDirectory;
import dev.sluice.training.ShapeSettings;
import dev.sluice.training.StartCheckpoint;
import dev.sluice.training.StartSettings;
import dev.sluice.training.Trainable;
import dev.sluice.training.TrainingRun;
import dev.sluice.training.VariationSettings;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalInt;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `sluice extend`: gives a trained model a longer context, and says what it does beyond the old.
@Command(
    name = "extend",
    customSynopsis = {
      "sluice extend MODEL --rope-theta N [--steps N --sequence-length N] [OPTIONS]",
      "       sluice extend MODEL --rope-scaling yarn*FACTOR [OPTIONS]",
      "       sluice extend --resume DIR [--steps N]"
    },
    description = {
      "Gives a trained model a longer context: changes how its attention turns with positions,"
          + " trains it on where --steps says so, and measures the loss within the old context and"
          + " beyond it.",
      "",
      "The paper does it in two commands: a base of 1e6 in place of 1e4 with training at four to"
          + " eight times the length, then yarn*4 without training. Beside the result stand the"
          + " model as it was and, as a baseline, the same weights with linear scaling."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice extend runs/NAME --rope-theta 1e6 --sequence-length 2048 --steps 300",
      "  ./sluice extend runs/extend-NAME/model --rope-scaling 'yarn*4' --data texts/",
      "  ./sluice extend path/to/qwen3 --rope-scaling 'yarn*4' --output qwen3-yarn"
    })
final class ExtendCommand implements Callable<Integer> {
  private static final String MODEL = "model";

  /// Tokens of the windows that are measured, all together.
  private static final int MEASURED = 1 << 16;

  private static final int MOST_WINDOWS = 32;

  /// Longer windows are measured only where they are asked for.
  private static final int LONGEST = 8192;

  /// What may be given without a training.
  private static final Set<String> WITHOUT_STEPS =
      Set.of(
          "rope_theta",
          "rope_scaling",
          "context",
          "data",
          "text_field",
          "tokenizer",
          "eos_token",
          "held_out_share",
          "precision",
          "device");

  @Parameters(
      arity = "0..1",
      paramLabel = "MODEL",
      description =
          "A directory with config.json and weights, or a run, which stands for its newest"
              + " checkpoint. It stays as it is.")
  private @Nullable String model;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description = "The directory to make. Default: runs/extend-DATE-TIME.")
  private @Nullable Path output;

  @Option(
      names = "--resume",
      paramLabel = "DIR",
      description = "Go on with the training of this one where it was.")
  private @Nullable Path resume;

  @Option(
      names = "--measured-length",
      paramLabel = "N",
      description =
          "Tokens of the windows that are measured. Default: the new context, at most 8192 and what"
              + " the text has.")
  private @Nullable Integer measuredLength;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description = "Also write all numbers and the manifest here.")
  private @Nullable Path json;

  /// What the model's own training says of its text.
  private Map<String, String> inherited = Map.of();

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  ExtendCommand() {}

  /// What holds where nobody says otherwise.
  static RunConfig defaults() {
    return RunConfig.DEFAULTS.with(
        null,
        Map.of(
            "start", ".", // MODEL takes its place
            "gate", "model",
            "learning_rate", "3e-4",
            "evaluate_every", "50",
            "save_every", "100",
            "keep_checkpoints", "1",
            "sample_tokens", "0"));
  }

  /// Settings that the model decides, or this command.
  static Set<String> decided() {
    Set<String> decided = new HashSet<>();
    Stream.of(ShapeSettings.class, VariationSettings.class, StartSettings.class)
        .flatMap(record -> Settings.of(record).declared().stream())
        .forEach(setting -> decided.add(setting.name()));
    return decided;
  }

  @Override
  public Integer call() throws IOException {
    threads.apply();
    if (json != null) {
      WholeFile.requirePlace(json);
    }
    var given = SettingFlags.given(spec.commandLine().getParseResult());
    boolean trains = resume != null || given.containsKey("steps");
    var training =
        new ContinuedTraining(
            "extend", spec.commandLine().getParseResult().originalArgs(), again());
    var config = settings(training, given, trains);
    Path place = resume != null ? resume : output != null ? output : freshDirectory();
    if (resume == null) {
      TrainingRun.requireNew(place);
    }
    var tokenizer = RunCorpus.tokenizer(config, place.resolve("corpus"), resume != null);
    var start = StartCheckpoint.of(config);
    var extended = start.positioned(trains ? config.batch().sequenceLength() : 1);
    int longest = longestWindow(extended.context());
    if (trains) {
      Trainable.require(config, tokenizer, 1);
    }
    ExtendReport.shortened(start.context(), extended.context(), config.positions().ropeScaling())
        .ifPresent(Console::note);
    try (var _ = RunDirectory.own(place, commandLine())) {
      ContinuedTraining.tell(inherited);
      Interruption.watch();
      var corpus =
          trains || given.containsKey("data") || inherited.containsKey("data")
              ? RunCorpus.prepare(
                  config, tokenizer, place.resolve("corpus"), resume != null, Console::note)
              : null;
      Path trained = Path.of(config.start().start());
      int steps = 0;
      if (trains) {
        var outcome = training.train(config, place, Objects.requireNonNull(corpus), tokenizer);
        if (outcome.ending() != TrainingRun.Ending.COMPLETE) {
          return training.ended(outcome, config, place);
        }
        trained = Objects.requireNonNull(outcome.checkpoint());
        steps = outcome.steps();
      }
      try {
        Path written = write(trained, place, extended, trains);
        var models =
            corpus == null
                ? List.<ExtendResult.Model>of()
                : measure(
                    config,
                    written,
                    extended,
                    windows(config, corpus, tokenizer, longest),
                    config.batch().separator(tokenizer));
        report(
            new ExtendResult(
                start.trainedContext(),
                start.context(),
                extended.context(),
                steps,
                models,
                written,
                manifest(config, corpus)),
            place);
      } catch (CancellationException _) {
        Console.note(
            trains
                ? "Stopped after the training; go on with: " + training.goOn(place)
                : "Stopped; remove " + place + " and give the command again.");
        return 130;
      }
    }
    return 0;
  }

  // ---------------------------------------------------------------- settings

  private RunConfig settings(
      ContinuedTraining training, Map<String, String> given, boolean trains) {
    if (resume != null) {
      if (model != null || output != null) {
        throw new InvalidInputException(
            "--resume takes the model and its settings from %s; leave out %s"
                .formatted(resume, model != null ? model : "--output"));
      }
      return requirePositions(training.resumed(resume, given));
    }
    if (model == null) {
      throw new InvalidInputException(
          "extend needs a model; name the directory of a checkpoint or a run");
    }
    if (!trains) {
      var idle = given.keySet().stream().filter(name -> !WITHOUT_STEPS.contains(name)).toList();
      if (!idle.isEmpty()) {
        throw new InvalidInputException(
            "%s %s of a training, and without --steps there is none; give --steps, or leave %s out"
                .formatted(
                    String.join(", ", idle),
                    idle.size() == 1 ? "is" : "are",
                    idle.size() == 1 ? "it" : "them"));
      }
    }
    var begun = defaults().with(null, Map.of("start", model)).pinned();
    inherited = ContinuedTraining.inherited(begun, given);
    var config = begun.with(null, inherited).with(null, given).pinnedWithData();
    ContinuedTraining.requireSameText(config, inherited);
    return requirePositions(config);
  }

  /// Options that no setting keeps.
  private List<String> again() {
    List<String> again = new ArrayList<>();
    if (measuredLength != null) {
      again.addAll(List.of("--measured-length", String.valueOf(measuredLength)));
    }
    if (json != null) {
      again.addAll(List.of("--json", json.toString()));
    }
    return again;
  }

  private static RunConfig requirePositions(RunConfig config) {
    if (!config.positions().isGiven()) {
      throw new InvalidInputException(
          "extend changes how attention turns with positions; say how, such as --rope-theta 1e6 or"
              + " --rope-scaling 'yarn*4'");
    }
    return config;
  }

  private static Path freshDirectory() {
    String time =
        LocalDateTime.now(ZoneId.systemDefault())
            .format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss"));
    return Path.of("runs", "extend-" + time);
  }

  // ---------------------------------------------------------------- the model

  /// Writes the model: the same numbers under the new configuration.
  private static Path write(Path from, Path place, DecoderConfig extended, boolean trains)
      throws IOException {
    Path written = place.resolve(MODEL);
    Trees.remove(written);
    var made =
        Conversion.convert(
            from,
            written,
            Conversion.Wanted.of(
                model ->
                    trains // its own configuration has the change
                        ? model
                        : extended),
            new Conversion.Listener() {
              @Override
              public void advanced(String doing, long done, long total) {}

              @Override
              public boolean isStopping() {
                return Interruption.requested();
              }
            });
    made.notes().forEach(Console::note);
    return written;
  }

  private static List<ExtendResult.Model> measure(
      RunConfig config,
      Path written,
      DecoderConfig extended,
      List<long[]> windows,
      OptionalInt separator) {
    var start = StartCheckpoint.of(config);
    var precision = config.computing().precisionOf();
    var device = config.computing().deviceOf();
    int trained = start.trainedContext();
    double factor = (double) extended.context() / trained;
    List<Supplier<Decoder>> decoders = new ArrayList<>();
    List<String> names = new ArrayList<>();
    names.add("as it was");
    decoders.add(() -> start.parentDecoder(precision, device));
    if (factor > 1 && !config.positions().ropeScaling().startsWith("linear")) {
      var linear =
          config.with(
              null,
              Map.of(
                  "rope_theta",
                  "0",
                  "rope_scaling",
                  "linear*" + factor,
                  "context",
                  "0",
                  "sequence_length",
                  "2"));
      names.add("interpolated");
      decoders.add(() -> StartCheckpoint.of(linear).begin(precision, device));
    }
    names.add("extended");
    decoders.add(() -> ModelDirectory.load(written, precision, device, false));
    var progress = new Measuring("window", (long) names.size() * windows.size());
    List<ExtendResult.Model> models = new ArrayList<>();
    for (int i = 0; i < names.size(); i++) {
      String name = names.get(i);
      try (var decoder = decoders.get(i).get()) {
        var loss = PositionLoss.measure(decoder, windows, separator, _ -> progress.done(name));
        models.add(new ExtendResult.Model(name, positions(decoder.config()), loss));
      }
    }
    return models;
  }

  private static String positions(DecoderConfig model) {
    return model
        .firstAttention()
        .flatMap(attention -> attention.positions().rotary())
        .map(rotary -> rotary.words())
        .orElse("none");
  }

  private int longestWindow(int context) {
    int wanted = measuredLength != null ? measuredLength : Math.min(context, LONGEST);
    if (wanted < 2 || wanted > context) {
      throw new InvalidInputException(
          "--measured-length must be from 2 to the new context of %d tokens, not %d"
              .formatted(context, wanted));
    }
    return wanted;
  }

  /// Windows of held-out text as long as the new context, or as the text allows.
  private static List<long[]> windows(
      RunConfig config, Corpus corpus, Tokenizer tokenizer, int wanted) {
    long there = (corpus.heldOut().length() - 1) / 2; // for two windows
    int length = (int) Math.min(wanted, there);
    if (length < wanted) {
      Console.note(
          "The held-out text has %d tokens, so windows of %d are measured, not of %d."
              .formatted(corpus.heldOut().length(), length, wanted));
    }
    int most = Math.clamp(MEASURED / Math.max(1, length), 2, MOST_WINDOWS);
    var rule = config.batch().windowRule();
    try {
      return new HeldOutReader(corpus.heldOut(), length, tokenizer, rule).sample(most).windows();
    } catch (InvalidInputException e) {
      if (rule == WindowRule.STREAM) {
        throw e;
      }
      Console.note(
          "The held-out text has fewer than two windows of %d tokens that begin at documents, so they begin anywhere in it, as no sequence did that the model was trained on."
              .formatted(length));
      return new HeldOutReader(corpus.heldOut(), length, tokenizer).sample(most).windows();
    }
  }

  // ---------------------------------------------------------------- what is shown

  private void report(ExtendResult result, Path place) throws IOException {
    result.write(place.resolve("extend.json"));
    if (json != null) {
      result.write(json);
    }
    var view = new ExtendReport(result);
    Path page = place.resolve("report.html");
    view.page(commandLine()).writeTo(page);
    view.table().ifPresent(table -> Console.print(new TextTable(table, 116).toString()));
    view.sentences().forEach(sentence -> Console.print(Console.wrap(sentence)));
    Console.print("");
    Console.print("Model:  " + result.written());
    Console.print("Report: " + page);
  }

  private RunManifest manifest(RunConfig config, @Nullable Corpus corpus) {
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config.settings(),
        Map.of("all", config.seed()),
        corpus == null ? "" : corpus.summary().dataFingerprint(),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }

  private String commandLine() {
    return "sluice " + String.join(" ", spec.commandLine().getParseResult().originalArgs());
  }
}
