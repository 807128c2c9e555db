package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.GatePacking;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.files.JsonFile;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.pages.RetrofitReport;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.report.TextTable;
import dev.sluice.retrofit.Measured;
import dev.sluice.retrofit.PlainGates;
import dev.sluice.retrofit.RetrofitResult;
import dev.sluice.settings.Settings;
import dev.sluice.sink.SinkReport;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.PositionSettings;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.RunDirectory;
import dev.sluice.training.RunMetrics;
import dev.sluice.training.ShapeSettings;
import dev.sluice.training.StartCheckpoint;
import dev.sluice.training.Trainable;
import dev.sluice.training.TrainingRun;
import dev.sluice.training.VariationSettings;
import java.io.IOException;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `sluice retrofit`: gives a trained model gates, trains it on, and says what moved.
@Command(
    name = "retrofit",
    customSynopsis = {
      "sluice retrofit MODEL [--gate GATE] [--data FILE] [OPTIONS]",
      "       sluice retrofit --resume DIR [--steps N] [OPTIONS]"
    },
    description = {
      "Adds gates to a trained model so that it begins exactly as it was, trains it on, and says"
          + " what moved: loss, attention sinks, massive activations, gates, what rounding costs.",
      "",
      "A gate whose name says nothing of its activation and its start is added as 2σ with weights"
          + " of zero, which begins as if it were not there. The written model has the plain gate;"
          + " the factor is in its output projection. A gate alone may do little: penalties push,"
          + " and --control shows what further training does by itself."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice retrofit path/to/qwen3 --data texts/ --precision bfloat16",
      "  ./sluice retrofit runs/NAME --gate sdpa-headwise --first-token-penalty 1 --control",
      "  ./sluice retrofit runs/NAME --frozen-steps -1 --new-learning-rate 1e-2",
      "  ./sluice retrofit --resume runs/retrofit-NAME"
    })
final class RetrofitCommand implements Callable<Integer> {
  private static final String CONTROL = "control";
  private static final String MODEL = "model";

  /// Tokens whose logits are compared.
  private static final int COMPARED = 128;

  /// On how many tokens sinks are measured.
  private static final int SINK_TOKENS = 8 * SinkReport.RECOMMENDED_TOKENS;

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
      description = "The directory to make. Default: runs/retrofit-DATE-TIME-GATE.")
  private @Nullable Path output;

  @Option(
      names = "--resume",
      paramLabel = "DIR",
      description = "Go on with this retrofit where it was.")
  private @Nullable Path resume;

  @Option(
      names = "--control",
      description = "Also train the same without gates, from the same batches, and compare.")
  private boolean control;

  @Option(
      names = "--packing",
      paramLabel = "P",
      description =
          "Also write the model with its gates packed otherwise, as convert does: query_head (as"
              + " Qwen3-Next has it), separate or megatron_qkv. Default: only the paper's packing.")
  private @Nullable String packing;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description = "Also write all numbers and the manifest here.")
  private @Nullable Path json;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  RetrofitCommand() {}

  /// What holds where nobody says otherwise.
  static RunConfig defaults() {
    return RunConfig.DEFAULTS.with(
        null,
        Map.ofEntries(
            Map.entry("start", "."), // MODEL takes its place
            Map.entry("gate", "sdpa-elementwise"),
            Map.entry("steps", "200"),
            Map.entry("learning_rate", "2e-5"),
            Map.entry("new_learning_rate", "1e-3"),
            Map.entry("parent_kl", "1"),
            Map.entry("evaluate_every", "50"),
            Map.entry("save_every", "50"),
            Map.entry("keep_checkpoints", "1"),
            Map.entry("keep_best", "false"),
            Map.entry("sample_tokens", "0")));
  }

  /// Settings that the model decides, or this command.
  static Set<String> decided() {
    Set<String> decided = new HashSet<>(Set.of("start"));
    Stream.of(ShapeSettings.class, PositionSettings.class, VariationSettings.class)
        .flatMap(record -> Settings.of(record).declared().stream())
        .forEach(setting -> decided.add(setting.name()));
    decided.remove("gate");
    return decided;
  }

  @Override
  public Integer call() throws IOException {
    threads.apply();
    if (json != null) {
      WholeFile.requirePlace(json);
    }
    var wanted = packing == null ? null : GatePacking.parse(packing);
    var config = settings();
    Path place = resume != null ? resume : output != null ? output : freshDirectory(config);
    if (resume == null) {
      TrainingRun.requireNew(place);
    }
    var tokenizer = RunCorpus.tokenizer(config, place.resolve("corpus"), resume != null);
    Trainable.require(config, tokenizer, 1);
    var without = control ? control(config) : null;
    if (without != null) {
      Trainable.require(without, tokenizer, 1);
      training().requireSame(without, place.resolve(CONTROL));
    }
    try (var _ = RunDirectory.own(place, commandLine())) {
      var corpus =
          RunCorpus.prepare(
              config, tokenizer, place.resolve("corpus"), resume != null, Console::note);
      Interruption.watch();
      var text = text(config, corpus, tokenizer);
      long[] compared = compared(text);
      var begun = StartCheckpoint.of(config);
      if (begun.added(begun.decoder()).isEmpty()) {
        Console.note("No gate is added: the model has gate " + Gate.names(begun.gates()) + ".");
      }
      double difference = start(config, compared);
      var trained = train(config, place, corpus, tokenizer, "");
      if (trained.ending() != TrainingRun.Ending.COMPLETE) {
        return training().ended(trained, config, place);
      }
      TrainingRun.Outcome ofControl = null;
      if (without != null) {
        ofControl = train(without, place.resolve(CONTROL), corpus, tokenizer, "control, ");
        if (ofControl.ending() != TrainingRun.Ending.COMPLETE) {
          return training().ended(ofControl, without, place);
        }
      }
      try {
        var result =
            measure(config, place, text, tokenizer, compared, difference, trained, ofControl);
        report(result, place);
        convert(result, place, wanted);
      } catch (CancellationException _) {
        Console.note("Stopped while measuring; go on with: " + training().goOn(place));
        return 130;
      }
    }
    return 0;
  }

  // ---------------------------------------------------------------- settings

  private RunConfig settings() {
    var given = SettingFlags.given(spec.commandLine().getParseResult());
    if (resume != null) {
      if (model != null || output != null) {
        throw new InvalidInputException(
            "--resume takes the model and its settings from %s; leave out %s"
                .formatted(resume, model != null ? model : "--output"));
      }
      return training().resumed(resume, given);
    }
    if (model == null) {
      throw new InvalidInputException(
          "retrofit needs a model; name the directory of a checkpoint or a run");
    }
    var begun = defaults().with(null, Map.of("start", model)).pinned();
    var inherited = ContinuedTraining.inherited(begun, given);
    ContinuedTraining.tell(inherited);
    var config = begun.with(null, inherited).with(null, given).pinnedWithData();
    ContinuedTraining.requireSameText(config, inherited);
    return config;
  }

  /// The same training of the model as it is, which also stands still while what the gated one had
  /// is frozen: both move it for as many steps, on the same batches.
  private static RunConfig control(RunConfig config) {
    if (config.start().isAlwaysFrozen()) {
      throw new InvalidInputException(
          "--control trains the same without gates, and with frozen_steps -1 nothing else moves:"
              + " the control is the model itself; leave --control out");
    }
    var start = StartCheckpoint.of(config);
    if (start.added(start.decoder()).isEmpty()) {
      throw new InvalidInputException(
          "--control trains the same without the added gates, and none is added: %s has gate %s already; leave --control out, or name a model without it"
              .formatted(config.start().start(), Gate.names(start.gates())));
    }
    return config.with(
        null,
        Map.of(
            "gate", "model",
            "gate_anneal_steps", "0",
            "new_learning_rate", "0",
            "new_weight_decay", "0"));
  }

  private static Path freshDirectory(RunConfig config) {
    String time =
        LocalDateTime.now(ZoneId.systemDefault())
            .format(DateTimeFormatter.ofPattern("yyyyMMdd-HHmmss"));
    return Path.of("runs", "retrofit-" + time + "-" + config.gateNames().replace('*', 'x'));
  }

  // ---------------------------------------------------------------- before and while training

  private static Measured.Text text(RunConfig config, Corpus corpus, Tokenizer tokenizer) {
    var batch = config.batch();
    var rule = batch.windowRule();
    var separator = batch.separator(tokenizer);
    var sample =
        new HeldOutReader(corpus.heldOut(), batch.sequenceLength(), tokenizer, rule)
            .sample(config.evaluation().heldOutWindows());
    var sinks =
        SinkReport.windows(corpus.heldOut(), batch.sequenceLength(), tokenizer, rule, SINK_TOKENS);
    return new Measured.Text(
        sample.windows(), sample.bytes(), SinkReport.byDocument(sinks, separator), separator);
  }

  private static long[] compared(Measured.Text text) {
    long[] window = text.heldOut().getFirst();
    return Arrays.copyOf(window, Math.min(COMPARED, window.length - 1));
  }

  /// How far the model that begins is from the one that it was.
  private static double start(RunConfig config, long[] compared) {
    var computing = config.computing();
    double difference =
        StartCheckpoint.of(config)
            .differenceAtStart(computing.precisionOf(), computing.deviceOf(), compared);
    Console.print(
        "Largest difference of a logit at step 0: %s (%d tokens of held-out text)."
            .formatted(
                difference == 0 ? "exactly 0" : Numbers.significant(difference, 3),
                compared.length));
    return difference;
  }

  private TrainingRun.Outcome train(
      RunConfig config, Path place, Corpus corpus, Tokenizer tokenizer, String name)
      throws IOException {
    if (!name.isEmpty()) {
      Console.note("Now the same training without gates (%s).".formatted(place));
    }
    return training().train(config, place, corpus, tokenizer);
  }

  private ContinuedTraining training() {
    List<String> again = new ArrayList<>();
    if (control) {
      again.add("--control");
    }
    if (packing != null) {
      again.addAll(List.of("--packing", packing));
    }
    if (json != null) {
      again.addAll(List.of("--json", json.toString()));
    }
    return new ContinuedTraining("retrofit", arguments(), again);
  }

  // ---------------------------------------------------------------- afterwards

  private static RetrofitResult measure(
      RunConfig config,
      Path place,
      Measured.Text text,
      Tokenizer tokenizer,
      long[] compared,
      double difference,
      TrainingRun.Outcome trained,
      TrainingRun.@Nullable Outcome ofControl)
      throws IOException {
    Path parent = Path.of(config.start().start());
    Path after = Objects.requireNonNull(trained.checkpoint());
    var computing = config.computing();
    var progress = new Measuring("measured", (ofControl == null ? 2L : 3L) * Measured.PARTS);
    Map<String, Measured> models = new HashMap<>();
    Map<String, Path> checkpoints = new LinkedHashMap<>();
    checkpoints.put("before", parent);
    checkpoints.put("after", after);
    if (ofControl != null) {
      checkpoints.put(CONTROL, Objects.requireNonNull(ofControl.checkpoint()));
    }
    checkpoints.forEach(
        (name, checkpoint) ->
            models.put(
                name,
                Measured.of(
                    name,
                    checkpoint,
                    name.equals("before") ? null : parent,
                    text,
                    computing.precisionOf(),
                    computing.deviceOf(),
                    progress::done)));
    Path written = place.resolve(MODEL);
    double rewritten = PlainGates.write(after, written, tokenizer, computing.deviceOf(), compared);
    var start = StartCheckpoint.of(config);
    boolean added = !start.added(start.decoder()).isEmpty();
    return new RetrofitResult(
        added ? start.gates() : List.<Gate>of(),
        difference,
        trained.steps(),
        Objects.requireNonNull(models.get("before")),
        Objects.requireNonNull(models.get("after")),
        models.get(CONTROL),
        written,
        rewritten,
        RunManifest.read(place.resolve(RunManifest.FILE_NAME)));
  }

  private void report(RetrofitResult result, Path place) throws IOException {
    result.write(place.resolve("retrofit.json"));
    if (json != null) {
      result.write(json);
    }
    var view = new RetrofitReport(result);
    Path page = place.resolve("report.html");
    view.page(commandLine(), RunMetrics.read(place)).writeTo(page);
    view.tables().forEach(table -> Console.print(new TextTable(table, 116).toString()));
    result.sentences().forEach(sentence -> Console.print(Console.wrap(sentence)));
    Console.print("");
    Console.print(
        "Model:  %s (largest difference of a logit from the trained one: %s)"
            .formatted(result.written(), Numbers.significant(result.writtenDifference(), 3)));
    var config = JsonFile.object(result.written().resolve(ModelConfig.FILE), JsonFile.SMALL, "");
    if (config.path("model_type").asString("").equals("sluice")) {
      Console.print("        Only Sluice loads it: no other program has a model with these gates.");
    }
    Console.print("Report: " + page);
  }

  private static void convert(RetrofitResult result, Path place, @Nullable GatePacking wanted)
      throws IOException {
    if (wanted == null) {
      return;
    }
    Path target = place.resolve(MODEL + "-" + wanted.word());
    Trees.remove(target);
    var made =
        Conversion.convert(
            result.written(),
            target,
            new Conversion.Wanted(wanted, null, Conversion.USUAL_SHARD, true),
            new Conversion.Listener() {
              @Override
              public void advanced(String doing, long done, long total) {}

              @Override
              public boolean isStopping() {
                return Interruption.requested();
              }
            });
    made.notes().forEach(Console::note);
    Console.print("Packed: %s (%s)".formatted(target, wanted.word()));
  }

  private List<String> arguments() {
    return spec.commandLine().getParseResult().originalArgs();
  }

  private String commandLine() {
    return "sluice " + String.join(" ", arguments());
  }
}
