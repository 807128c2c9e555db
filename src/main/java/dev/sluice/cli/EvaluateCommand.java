package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.corpus.WindowRule;
import dev.sluice.evaluation.AnswersFile;
import dev.sluice.evaluation.EvaluationTask;
import dev.sluice.evaluation.EvictionLoss;
import dev.sluice.evaluation.RequestEncoder;
import dev.sluice.evaluation.RequestEncoder.StartToken;
import dev.sluice.evaluation.TaskData;
import dev.sluice.evaluation.TaskResult;
import dev.sluice.evaluation.TaskRun;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import dev.sluice.pages.EvaluationReport;
import dev.sluice.pages.EvaluationResult;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.TextTable;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.BatchSettings;
import dev.sluice.training.RunConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `sluice evaluate`: asks models the questions of benchmarks.
@Command(
    name = "evaluate",
    customSynopsis = "sluice evaluate MODEL… --task NAME=FILE [OPTIONS]",
    description = {
      "Asks models the questions of benchmarks, with the prompts, scores and errors of"
          + " lm-evaluation-harness; prints tables and writes evaluate.json and report.html.",
      "",
      "Tasks that come with Sluice (the data is yours): lambada, piqa, arc-easy, arc-challenge,"
          + " hellaswag, winogrande, boolq, blimp, wikitext, gsm8k, text. A task of your own is a"
          + " .toml file.",
      "",
      "Several models are compared over the same rows; several checkpoints of a run make a curve. A"
          + " command that was stopped goes on when it is given again."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice evaluate runs/NAME --task piqa=piqa.jsonl --task text=book.txt",
      "  ./sluice evaluate runs/PLAIN runs/GATED --task arc-easy=arc.parquet --limit 500",
      "  ./sluice evaluate runs/NAME --every-checkpoint --task lambada=lambada.jsonl.gz",
      "  ./sluice evaluate MODEL --task arc-easy=test.jsonl --examples arc-easy=train.jsonl"
          + " --num-examples 5",
      "  ./sluice evaluate runs/PLAIN runs/GATED --task text=book.txt --eviction-window 64",
      "  ./sluice evaluate MODEL --task text=book.txt --weights q4_0 --precision int8"
    })
final class EvaluateCommand implements Callable<Integer> {
  private static final String PAGE = "report.html";
  private static final String JSON = "evaluate.json";
  private static final String ANSWERS = "answers";
  private static final int MOST_BATCH = 4096;
  private static final int LONGEST_WINDOW = 1 << 20;

  @Parameters(
      paramLabel = "MODEL",
      arity = "1..*",
      description =
          "Run directories, which stand for their newest checkpoints, directories with config.json"
              + " and model.safetensors, or .gguf files.")
  private List<Path> models = List.of();

  @Option(
      names = "--task",
      paramLabel = "NAME=FILE",
      description =
          "A task and its rows: .jsonl, .json or .txt (also .gz, .zst) or .parquet. May be given"
              + " several times.")
  private List<String> tasks = List.of();

  @Option(
      names = "--examples",
      paramLabel = "NAME=FILE",
      description =
          "Rows that a task's answered examples are taken from. Default: its own, the question"
              + " left out.")
  private List<String> examples = List.of();

  @Option(
      names = "--num-examples",
      paramLabel = "N",
      description = "Answered examples before each question. Default: what the task says.")
  private @Nullable Integer numExamples;

  @Option(
      names = "--limit",
      paramLabel = "N",
      description = "Only the first N rows of each task. Default: all.")
  private @Nullable Integer limit;

  @Option(
      names = "--batch-size",
      paramLabel = "N",
      description =
          "The most sequences that go through a model at a time; scores do not depend on it."
              + " Default: ${DEFAULT-VALUE}.")
  private int batchSize = 32;

  @Option(names = "--weights", paramLabel = "FORMAT", description = ModelOptions.WEIGHTS)
  private @Nullable String weights;

  @Option(
      names = "--truncate",
      paramLabel = "left",
      description =
          "What to do with rows that do not fit into a model's context: left leaves out their"
              + " start, as lm-evaluation-harness does. Default: refuse, and name them.")
  private @Nullable String truncate;

  @Option(
      names = "--context",
      paramLabel = "N",
      description =
          "The most tokens that a model sees at a time, and the length of a text's windows."
              + " Default: the sequence length that it was trained with, where its run says so,"
              + " else all of its context; of several models the least of these for all.")
  private @Nullable Integer context;

  @Option(
      names = "--start-token",
      paramLabel = "WHEN",
      description =
          "Whether the start token stands before every text: always, never, or tokenizer, as the"
              + " template in tokenizer.json says. Default: ${DEFAULT-VALUE}.")
  private String startToken = "tokenizer";

  @Option(
      names = "--every-checkpoint",
      description = "All checkpoints of each run, in place of the newest.")
  private boolean everyCheckpoint;

  @Option(
      names = "--eviction-window",
      paramLabel = "W",
      description =
          "Also measure the loss of texts when a cache keeps the last W keys, the first 4 and the"
              + " last W, and all.")
  private @Nullable Integer evictionWindow;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description = "Where to write. Default: ./evaluate-NAME, or evaluate in a single run.")
  private @Nullable Path output;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description = "Write all numbers to this file too.")
  private @Nullable Path json;

  @Mixin private ModelOptions options = new ModelOptions();

  @Spec private CommandSpec spec;

  private final List<String> notes = new ArrayList<>();
  private final long began = System.nanoTime();
  private final RemainingTime remaining = new RemainingTime();

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  EvaluateCommand() {}

  @Override
  public Integer call() throws IOException {
    requireFlags();
    var start = startToken();
    var data = data();
    if (evictionWindow != null && data.stream().noneMatch(EvaluateCommand::isText)) {
      throw new InvalidInputException(
          "--eviction-window needs a task of whole texts; add --task text=FILE");
    }
    var named = named();
    var together = together(named);
    Path directory = directory(named.getFirst().source());
    EvaluationResult result;
    EvaluationReport report;
    try (var _ = ReportDirectory.own(directory, commandLine(), List.of(JSON, PAGE))) {
      List<EvaluationResult.Model> evaluated = new ArrayList<>();
      for (int i = 0; i < named.size(); i++) {
        evaluated.add(evaluate(named.get(i), i, named.size(), data, start, directory, together));
      }
      result = new EvaluationResult(evaluated, notes, manifest(named, data, together));
      report = new EvaluationReport(result);
      result.write(directory.resolve(JSON));
      if (json != null) {
        result.write(json);
      }
      report.page(commandLine()).writeTo(directory.resolve(PAGE));
    }
    report.tables().forEach(table -> Console.print(TextTable.of(table).toString()));
    report.notes().forEach(note -> Console.note("Note: " + note));
    Console.print("Report: " + directory.resolve(PAGE));
    return 0;
  }

  private void requireFlags() {
    if (tasks.isEmpty()) {
      throw new InvalidInputException(
          "no task is named; pass --task NAME=FILE with one of %s, or a .toml file of your own"
              .formatted(String.join(", ", EvaluationTask.SHIPPED)));
    }
    if (batchSize < 1 || batchSize > MOST_BATCH) {
      throw new InvalidInputException(
          "--batch-size must be from 1 to %d, not %d".formatted(MOST_BATCH, batchSize));
    }
    if (limit != null && limit < 1) {
      throw new InvalidInputException("--limit must be at least 1, not " + limit);
    }
    if (truncate != null && !truncate.equals("left")) {
      throw new InvalidInputException(
          "--truncate %s is not known; left is, which leaves out the start".formatted(truncate));
    }
    if (evictionWindow != null && (evictionWindow < 1 || evictionWindow > LONGEST_WINDOW)) {
      throw new InvalidInputException(
          "--eviction-window must be from 1 to %d keys, not %d"
              .formatted(LONGEST_WINDOW, evictionWindow));
    }
    if (json != null) {
      WholeFile.requirePlace(json);
    }
  }

  private StartToken startToken() {
    for (var each : StartToken.values()) {
      if (each.name().toLowerCase(Locale.ROOT).equals(startToken)) {
        return each;
      }
    }
    throw new InvalidInputException(
        "--start-token %s is not known; use always, never or tokenizer".formatted(startToken));
  }

  // ---------------------------------------------------------------- tasks

  /// `NAME=FILE` by name.
  private static Map<String, Path> pairs(List<String> given, String flag) {
    Map<String, Path> pairs = new LinkedHashMap<>();
    for (String pair : given) {
      int at = pair.indexOf('=');
      if (at < 1 || at == pair.length() - 1) {
        throw new InvalidInputException(
            "%s %s names no file; write %s NAME=FILE, such as %s piqa=piqa.jsonl"
                .formatted(flag, pair, flag, flag));
      }
      if (pairs.put(pair.substring(0, at), Path.of(pair.substring(at + 1))) != null) {
        throw new InvalidInputException(
            "%s gives %s twice; leave one out".formatted(flag, pair.substring(0, at)));
      }
    }
    return pairs;
  }

  private List<TaskData> data() {
    var pools = pairs(examples, "--examples");
    List<TaskData> data = new ArrayList<>();
    Set<String> names = new LinkedHashSet<>();
    for (var entry : pairs(tasks, "--task").entrySet()) {
      var task = EvaluationTask.named(entry.getKey());
      if (numExamples != null) {
        task = task.withExamples(numExamples);
      }
      if (!names.add(task.name())) {
        throw new InvalidInputException(
            "two tasks are called %s; give one another name in its file".formatted(task.name()));
      }
      Path pool = pools.remove(entry.getKey());
      data.add(TaskData.read(task, entry.getValue(), pool, limit == null ? 0 : limit));
    }
    if (!pools.isEmpty()) {
      throw new InvalidInputException(
          "--examples names the task %s, which is not asked; name it with --task too"
              .formatted(pools.keySet().iterator().next()));
    }
    return data;
  }

  private static boolean isText(TaskData data) {
    return data.task().kind() instanceof EvaluationTask.Kind.Text;
  }

  // ---------------------------------------------------------------- models

  /// @param name told apart from the others'
  private record Named(String name, ModelSource source) {}

  private List<Named> named() {
    List<ModelSource> sources = new ArrayList<>();
    for (Path model : models) {
      var source = ModelSource.at(model);
      boolean isRun = Files.isRegularFile(model.resolve(RunConfig.FILE));
      if (everyCheckpoint && !isRun) {
        throw new InvalidInputException(
            "--every-checkpoint needs runs, and %s is a checkpoint; name the run, or leave it out"
                .formatted(model));
      }
      if (everyCheckpoint) {
        CheckpointDirectory.complete(model.resolve("checkpoints"))
            .forEach(checkpoint -> sources.add(new ModelSource(checkpoint, model)));
      } else {
        sources.add(source);
      }
    }
    var counts =
        sources.stream().collect(Collectors.groupingBy(ModelSource::name, Collectors.counting()));
    List<Named> named = new ArrayList<>();
    Set<String> names = new LinkedHashSet<>();
    for (var source : sources) {
      String name = source.name();
      if (counts.getOrDefault(name, 0L) > 1) {
        var step = CheckpointDirectory.step(source.checkpoint());
        name = step.isPresent() ? name + " " + step.getAsLong() : source.checkpoint().toString();
      }
      if (!names.add(name)) {
        throw new InvalidInputException(
            "the model %s is named twice; leave one out".formatted(source.checkpoint()));
      }
      named.add(new Named(name, source));
    }
    return named;
  }

  private EvaluationResult.Model evaluate(
      Named named,
      int number,
      int count,
      List<TaskData> data,
      StartToken start,
      Path directory,
      OptionalInt together)
      throws IOException {
    var source = named.source();
    List<TaskResult> results = new ArrayList<>();
    List<EvaluationResult.Eviction> evictions = new ArrayList<>();
    try (var loaded = options.loadInPlace(source.checkpoint(), weights, null)) {
      boolean documents =
          source
              .trainedOnSequences()
              .map(BatchSettings::windowRule)
              .filter(rule -> rule == WindowRule.DOCUMENTS)
              .isPresent();
      if (documents && start == StartToken.TOKENIZER) {
        notes.add(
            "%s was trained on sequences that begin with a start token; --start-token always asks it so."
                .formatted(named.name()));
      }
      var encoder = new RequestEncoder(loaded.tokenizer(), longest(named, loaded, together), start);
      var run =
          new TaskRun(
              loaded.decoder(),
              loaded.tokenizer(),
              encoder,
              loaded.stopIds(),
              batchSize,
              truncate != null);
      for (int task = 0; task < data.size(); task++) {
        double share = (double) (number * data.size() + task) / (count * data.size());
        double part = 1.0 / (count * data.size());
        var each = data.get(task);
        String key = key(loaded, each, encoder.longest(), start);
        Path answers = directory.resolve(ANSWERS);
        String name = each.task().name() + "-" + key;
        results.add(ask(run, each, answers.resolve(name + ".jsonl"), named.name(), share, part));
        if (evictionWindow != null && isText(each)) {
          EvictionLoss.measure(
                  loaded.decoder(),
                  encoder,
                  each,
                  evictionWindow,
                  answers.resolve("%s-eviction-%d.jsonl".formatted(name, evictionWindow)),
                  done ->
                      progress(
                          share + part * done, "eviction, " + each.task().name(), named.name()))
              .forEach(
                  loss -> evictions.add(new EvaluationResult.Eviction(each.task().name(), loss)));
        }
      }
    }
    Path ofRun = source.run();
    return new EvaluationResult.Model(
        named.name(),
        source.checkpoint().toString(),
        ofRun == null ? "" : ofRun.toString(),
        ofRun == null ? OptionalLong.empty() : CheckpointDirectory.step(source.checkpoint()),
        results,
        evictions);
  }

  /// How many tokens all models see at a time where they would see different numbers by themselves:
  /// as many as the one with the fewest, so that what differs is the models. Empty where the user
  /// says how many, or they do not differ.
  private OptionalInt together(List<Named> named) {
    if (context != null || named.size() == 1) {
      return OptionalInt.empty();
    }
    Map<String, Integer> windows = new LinkedHashMap<>();
    for (var each : named) {
      int most = ModelConfig.read(each.source().checkpoint()).decoder().context();
      windows.put(each.name(), Math.min(most, trained(each).orElse(most)));
    }
    var fewest = Collections.min(windows.entrySet(), Map.Entry.comparingByValue());
    if (Collections.max(windows.values()).equals(fewest.getValue())) {
      return OptionalInt.empty();
    }
    notes.add(
        "All models see %d tokens at a time, the most that %s does by itself, so that they differ in nothing else; --context N decides otherwise."
            .formatted(fewest.getValue(), fewest.getKey()));
    return OptionalInt.of(fewest.getValue());
  }

  private static Optional<Integer> trained(Named named) {
    return named.source().trainedOnSequences().map(BatchSettings::sequenceLength);
  }

  /// How many tokens a model sees at a time.
  private int longest(Named named, ModelOptions.Loaded loaded, OptionalInt together) {
    int most = loaded.decoder().config().context();
    if (context != null) {
      if (context < 2 || context > most) {
        throw new InvalidInputException(
            "--context must be from 2 to the %d tokens of the context of %s, not %d"
                .formatted(most, named.name(), context));
      }
      return context;
    }
    if (together.isPresent()) {
      return together.getAsInt();
    }
    int trained = trained(named).orElse(most);
    if (trained < most) {
      notes.add(
          "%s sees %d tokens at a time, as in training, of the %d of its context; --context %d lets it see all."
              .formatted(named.name(), trained, most, most));
    }
    return Math.min(trained, most);
  }

  private TaskResult ask(
      TaskRun run, TaskData data, Path file, String model, double share, double part)
      throws IOException {
    Files.createDirectories(file.getParent());
    try (var answers = AnswersFile.open(file, data)) {
      var known = answers.answers();
      if (known.size() < data.documents().size()) {
        run.answer(
            data,
            known,
            (document, responses) -> {
              try {
                answers.add(document, data.documents().get(document), responses);
              } catch (IOException e) {
                throw new UncheckedIOException(e);
              }
            },
            (done, all) -> progress(share + part * done / all, data.task().name(), model));
      }
      return new TaskResult(data, answers.answers());
    }
  }

  private void progress(double share, String task, String model) {
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe(share, elapsed);
    if (elapsed.toSeconds() >= 2 && share < 1) {
      Console.progress(
          new Progress(
              "part",
              (long) (1000 * share),
              1000,
              elapsed,
              remaining.remaining(1).orElse(null),
              List.of(task, model)));
    }
  }

  /// Names the answers of a model to a task by all that they depend on.
  private String key(ModelOptions.Loaded loaded, TaskData data, int longest, StartToken start)
      throws IOException {
    var digest = Sha256.digest();
    Sha256.update(digest, data.fingerprint());
    Sha256.update(digest, loaded.tokenizer().fingerprint());
    Sha256.update(digest, options.precision() + " " + weights + ", in place");
    Sha256.update(digest, loaded.decoder().device().toString());
    Sha256.update(digest, longest + " " + start + " " + truncate + " " + loaded.stopIds());
    Sha256.update(digest, loaded.source().weightsFingerprint());
    return Sha256.hex(digest).substring(0, 16);
  }

  // ---------------------------------------------------------------- output

  private Path directory(ModelSource first) {
    if (output != null) {
      return ReportDirectory.require(output);
    }
    Path run = first.run();
    return run != null && models.size() == 1
        ? run.resolve("evaluate")
        : Path.of("evaluate-" + first.name());
  }

  private RunManifest manifest(List<Named> named, List<TaskData> data, OptionalInt together) {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put(
        "models", named.stream().map(each -> each.source().checkpoint().toString()).toList());
    config.put("tasks", data.stream().map(each -> each.task().name()).toList());
    config.put("data", data.stream().map(each -> each.source().toString()).toList());
    config.put("limit", limit == null ? 0 : limit);
    config.put("batch_size", batchSize);
    config.put("truncate", truncate == null ? "" : truncate);
    config.put(
        "context",
        context != null
            ? context
            : together.isPresent() ? together.getAsInt() : (Object) "as trained");
    config.put("start_token", startToken);
    config.put("precision", options.precision());
    config.put("weights", weights == null ? "as stored" : weights);
    var digest = Sha256.digest();
    data.forEach(each -> Sha256.update(digest, each.fingerprint()));
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config,
        Map.of(),
        Sha256.hex(digest),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }

  private String commandLine() {
    return "sluice " + String.join(" ", spec.commandLine().getParseResult().originalArgs());
  }
}
