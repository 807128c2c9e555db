package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.corpus.Documents;
import dev.sluice.corpus.WindowRule;
import dev.sluice.files.Sha256;
import dev.sluice.files.WholeFile;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.pages.RulerReport;
import dev.sluice.pages.RulerResult;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Progress;
import dev.sluice.report.RemainingTime;
import dev.sluice.report.TextTable;
import dev.sluice.ruler.Answers;
import dev.sluice.ruler.PromptFiles;
import dev.sluice.ruler.RulerMode;
import dev.sluice.ruler.RulerPrompts;
import dev.sluice.ruler.RulerTask;
import dev.sluice.ruler.Sample;
import dev.sluice.ruler.Scored;
import dev.sluice.ruler.TaskScore;
import dev.sluice.serving.ModelFiles;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.BatchSettings;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `sluice ruler`: how well a model finds things in long texts.
@Command(
    name = "ruler",
    customSynopsis = {
      "sluice ruler MODEL... --lengths 4k,8k,... [OPTIONS]",
      "sluice ruler MODEL... --prompts FILE_OR_FOLDER [OPTIONS]"
    },
    description = {
      "Measures how well models find and combine things in long texts, with the 13 tasks of RULER;"
          + " prints tables and writes ruler.json and report.html.",
      "",
      "The prompts are made from a seed, equal in form to RULER's, or read from files that RULER's"
          + " own programs wrote. Each answer is kept at once: the same command goes on where one"
          + " was stopped, and more samples, lengths and tasks may be asked for later."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice ruler runs/NAME --lengths 512,1k --samples 20",
      "  ./sluice ruler path/to/qwen3 --lengths 4k,8k,16k --questions dev-v2.0.json",
      "  ./sluice ruler runs/plain runs/gated --lengths 1k --tasks niah_single_1,vt",
      "  ./sluice ruler path/to/qwen3 --prompts ruler/4096/data"
    })
final class RulerCommand implements Callable<Integer> {
  private static final int SHORTEST = 64;
  private static final int LONGEST = 1 << 20;
  private static final int MOST_SAMPLES = 100_000;
  private static final Pattern LENGTH = Pattern.compile("([0-9]{1,7})([kK]?)");

  /// What answers are made of: a tokenizer that loses any of it cannot write them.
  private static final String NEEDED =
      "0123456789 abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ";

  @Parameters(
      paramLabel = "MODEL",
      arity = "1..*",
      description =
          "Run directories, which stand for their newest checkpoints, directories with config.json"
              + " and model.safetensors, or .gguf files. All are compared with the first.")
  private List<Path> models = List.of();

  @Option(
      names = "--lengths",
      paramLabel = "N,N",
      split = ",",
      description =
          "Tokens of prompt and answer together, such as 512 or 4k (4096). An upper bound: prompts"
              + " shrink by whole steps until they fit.")
  private List<String> lengths = List.of();

  @Option(
      names = "--tasks",
      paramLabel = "T,T",
      split = ",",
      description = "Some of RULER's 13 tasks, such as niah_single_1,vt. Default: all.")
  private List<String> tasks = List.of();

  @Option(
      names = "--samples",
      paramLabel = "N",
      description =
          "Of each task and length; RULER's own number is 500. Default: ${DEFAULT-VALUE}.")
  private int samples = 50;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Of the prompts. Default: ${DEFAULT-VALUE}.")
  private long seed = 42;

  @Option(
      names = "--mode",
      paramLabel = "MODE",
      description =
          "Whose prompts and scores: nvidia, or lm-eval for the port in lm-evaluation-harness."
              + " Their numbers are not comparable. Default: ${DEFAULT-VALUE}.")
  private String mode = "nvidia";

  @Option(
      names = "--haystack",
      paramLabel = "FILE",
      description =
          "The text that needles are hidden in: .txt, .jsonl, Parquet or a folder. Default: the"
              + " bundled Moby-Dick.")
  private @Nullable Path haystack;

  @Option(
      names = "--questions",
      paramLabel = "FILE,FILE",
      split = ",",
      description =
          "Questions for qa_1 in the form of SQuAD, and for qa_2 in that of HotpotQA. Without them"
              + " these tasks are left out.")
  private List<Path> questions = List.of();

  @Option(
      names = "--prompts",
      paramLabel = "PATH",
      description =
          "Prompts that RULER's programs wrote: a .jsonl file or a folder of them, instead of"
              + " making some.")
  private @Nullable Path prompts;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description =
          "Where answers and report go. Default: ruler in the run directory, or ./ruler-NAME for a"
              + " checkpoint or several models.")
  private @Nullable Path output;

  @Option(names = "--weights", paramLabel = "FORMAT", description = ModelOptions.WEIGHTS)
  private @Nullable String weights;

  @Option(names = "--json", paramLabel = "FILE", description = "Also writes all numbers there.")
  private @Nullable Path json;

  @Mixin private ModelOptions options = new ModelOptions();
  @Mixin private KeyValueCacheOption kvCache = new KeyValueCacheOption();

  @Spec private CommandSpec spec;

  /// How far it has come.
  private final RemainingTime remaining = new RemainingTime();

  private final long began = System.nanoTime();
  private final Set<String> notes = new LinkedHashSet<>();
  private long samplesDone;
  private long samplesAll;
  private double work;
  private double allWork;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  RulerCommand() {}

  /// Where the prompts of a length and task come from.
  private interface Prompts {
    List<Sample> of(RulerTask task, int length);
  }

  @Override
  public Integer call() throws IOException {
    var whose = RulerMode.parse(mode);
    var asked = lengths.stream().map(RulerCommand::length).distinct().sorted().toList();
    var chosen = tasks.stream().map(RulerTask::parse).distinct().sorted().toList();
    requireOptions(asked);
    var sources = models.stream().map(ModelSource::at).toList();
    var read = prompts == null ? null : read(whose, asked, chosen);
    var wanted =
        read == null ? asked : read.stream().map(Sample::maxLength).distinct().sorted().toList();
    sources.forEach(source -> requirePositions(source, wanted));
    Path directory = directory(sources);
    try (var _ =
        ReportDirectory.own(directory, commandLine(), List.of("ruler.json", "report.html"))) {
      try (var answers = Answers.open(directory)) {
        Interruption.watch("Stopping after this answer; all answers are kept.");
        List<RulerResult.Model> results = new ArrayList<>();
        List<String> made = new ArrayList<>();
        for (int i = 0; i < models.size(); i++) {
          var scores = measure(i, sources.get(i), whose, wanted, chosen, read, answers, made);
          if (Interruption.requested()) {
            Console.note(
                "Stopped with %d of %d samples done; all answers are kept. Go on with the same command and --output %s"
                    .formatted(samplesDone, samplesAll, directory));
            return 130;
          }
          results.add(
              new RulerResult.Model(
                  sources.get(i).name(), sources.get(i).checkpoint().toString(), scores));
        }
        show(new RulerResult(whose, results, List.copyOf(notes), manifest(whose, made)), directory);
      }
    }
    return 0;
  }

  private void show(RulerResult result, Path directory) throws IOException {
    if (result.models().stream().allMatch(model -> model.scores().isEmpty())) {
      throw new InvalidInputException(
          "no task fits into %s tokens with this tokenizer, so there is nothing to score; ask for longer ones"
              .formatted(String.join(", ", lengths)));
    }
    var report = new RulerReport(result);
    result.write(directory.resolve("ruler.json"));
    if (json != null) {
      result.write(json);
    }
    Path page = directory.resolve("report.html");
    report.page(commandLine()).writeTo(page);
    report.tables().forEach(table -> Console.print(TextTable.of(table).toString()));
    report.summary().forEach(Console::print);
    Console.print("Report: " + page);
  }

  // ---------------------------------------------------------------- measuring

  private List<TaskScore> measure(
      int model,
      ModelSource source,
      RulerMode whose,
      List<Integer> wanted,
      List<RulerTask> chosen,
      @Nullable List<Sample> read,
      Answers answers,
      List<String> made)
      throws IOException {
    try (var loaded = options.loadInPlace(models.get(model), weights, null)) {
      kvCache.apply(loaded.decoder());
      requireTokenizer(loaded);
      source
          .trainedOnSequences()
          .map(BatchSettings::sequenceLength)
          .filter(trained -> wanted.stream().anyMatch(length -> length > trained))
          .ifPresent(
              trained ->
                  tell(
                      "%s was trained on sequences of %d tokens, so that longer ones ask for positions it never saw."
                          .formatted(source.name(), trained)));
      String identity = identity(loaded);
      var prompter = read == null ? prompter(whose, loaded) : null;
      var all = read == null ? available(prompter, chosen) : tasksOf(read);
      if (prompter != null && made.isEmpty()) {
        made.addAll(prompter.sources());
      }
      Prompts of =
          prompter == null
              ? (task, length) -> of(read, task, length)
              : (task, length) -> {
                var possible = prompter.make(task, length, samples);
                possible.refusal().ifPresent(refusal -> tell(sentence(refusal)));
                return possible.samples();
              };
      expect(model, wanted, all, read);
      List<TaskScore> scores = new ArrayList<>();
      for (int length : wanted) {
        for (var task : all) {
          List<Scored> scored = new ArrayList<>();
          var ofTask = of.of(task, length);
          for (var sample : ofTask) {
            if (Interruption.requested()) {
              return scores;
            }
            scored.add(Scored.of(whose, sample, answer(loaded, identity, sample, answers)));
            progress(task, length);
          }
          if (read == null) { // what does not fit is done, too
            samplesDone += samples - ofTask.size();
            work += (double) length * (samples - ofTask.size());
          }
          if (!scored.isEmpty()) {
            scores.add(new TaskScore(task, length, scored));
          }
        }
      }
      return scores;
    }
  }

  private static List<Sample> of(@Nullable List<Sample> read, RulerTask task, int length) {
    return read == null
        ? List.of()
        : read.stream().filter(s -> s.task() == task && s.maxLength() == length).toList();
  }

  private static List<RulerTask> tasksOf(List<Sample> read) {
    return read.stream().map(Sample::task).distinct().sorted().toList();
  }

  private RulerPrompts prompter(RulerMode whose, ModelOptions.Loaded loaded) {
    var documents = haystack == null ? Documents.mobyDick() : Documents.at(haystack, "text");
    return new RulerPrompts(whose, text -> prompt(loaded, text).length, documents, questions, seed);
  }

  private List<RulerTask> available(@Nullable RulerPrompts prompter, List<RulerTask> chosen) {
    List<RulerTask> all = new ArrayList<>();
    for (var task : chosen.isEmpty() ? List.of(RulerTask.values()) : chosen) {
      if (prompter == null || prompter.has(task)) {
        all.add(task);
        continue;
      }
      String form = task == RulerTask.QA_1 ? "SQuAD" : "HotpotQA";
      if (!chosen.isEmpty()) {
        throw new InvalidInputException(
            "the task %s needs questions in the form of %s; name a file of them with --questions, or leave the task out"
                .formatted(task.word(), form));
      }
      tell(
          "%s is left out: it needs questions in the form of %s, which --questions names."
              .formatted(task.word(), form));
    }
    return all;
  }

  private static int[] prompt(ModelOptions.Loaded loaded, String text) {
    return ModelFiles.prompt(rule(loaded), text, loaded.tokenizer());
  }

  private static Optional<WindowRule> rule(ModelOptions.Loaded loaded) {
    return loaded.source().trainedOnSequences().map(BatchSettings::windowRule);
  }

  private static Answers.Answer answer(
      ModelOptions.Loaded loaded, String identity, Sample sample, Answers answers)
      throws IOException {
    var known = answers.find(identity, sample);
    if (known.isPresent()) {
      return known.get();
    }
    int[] ids = prompt(loaded, sample.prompt());
    int limit = loaded.decoder().config().context();
    if ((long) ids.length + sample.task().newTokens() > limit) {
      throw new InvalidInputException(
          "sample %d of %s at %d has %d tokens of prompt and %d of answer, more than the %d positions of %s; leave out that length or task, or extend the model first with ./sluice extend"
              .formatted(
                  sample.number(),
                  sample.task().word(),
                  sample.maxLength(),
                  ids.length,
                  sample.task().newTokens(),
                  limit,
                  loaded.source().name()));
    }
    long before = System.nanoTime();
    var generation =
        new Generator(loaded.decoder())
            .generate(ids, Sampler.GREEDY, sample.task().newTokens(), loaded.stopIds());
    var answer =
        new Answers.Answer(
            identity,
            sample.fingerprint(),
            sample.task().word(),
            sample.maxLength(),
            sample.number(),
            ids.length,
            loaded.tokenizer().decode(generation.ids()),
            (System.nanoTime() - before) / 1e9);
    answers.add(answer);
    return answer;
  }

  /// Counts what this model and those after it have to do.
  private void expect(
      int model, List<Integer> wanted, List<RulerTask> all, @Nullable List<Sample> read) {
    long each = read != null ? read.size() : (long) wanted.size() * all.size() * samples;
    double tokens =
        read != null
            ? read.stream().mapToDouble(Sample::maxLength).sum()
            : (double) all.size() * samples * wanted.stream().mapToInt(Integer::intValue).sum();
    samplesAll = samplesDone + each * (models.size() - model);
    allWork = work + tokens * (models.size() - model);
  }

  private void progress(RulerTask task, int length) {
    samplesDone++;
    work += length;
    var elapsed = Duration.ofNanos(System.nanoTime() - began);
    remaining.observe(work, elapsed);
    Console.progress(
        new Progress(
            "sample",
            samplesDone,
            samplesAll,
            elapsed,
            remaining.remaining(allWork).orElse(null),
            List.of(task.word() + " at " + length)));
  }

  /// Tells the user at once, and the report later.
  private void tell(String note) {
    if (notes.add(note)) {
      Console.note(note);
    }
  }

  private static String sentence(String words) {
    return words.endsWith(".") ? words : words + ".";
  }

  // ---------------------------------------------------------------- what is asked for

  private void requireOptions(List<Integer> asked) {
    if (prompts == null && asked.isEmpty()) {
      throw new InvalidInputException(
          "no length is asked for; say --lengths 512,1k or name prompts with --prompts");
    }
    if (prompts != null && (haystack != null || !questions.isEmpty() || asked.size() > 1)) {
      throw new InvalidInputException(
          "--prompts reads prompts instead of making them, so %s has no meaning; leave one of them out"
              .formatted(
                  haystack != null
                      ? "--haystack"
                      : questions.isEmpty() ? "more than one of --lengths" : "--questions"));
    }
    if (samples < 1 || samples > MOST_SAMPLES) {
      throw new InvalidInputException(
          "--samples must be from 1 to %d, not %d".formatted(MOST_SAMPLES, samples));
    }
    if (json != null) {
      WholeFile.requirePlace(json);
    }
    if (models.stream().distinct().count() < models.size()) {
      throw new InvalidInputException("a model is named twice; name each once");
    }
  }

  private List<Sample> read(RulerMode whose, List<Integer> asked, List<RulerTask> chosen) {
    var files =
        PromptFiles.read(
            Objects.requireNonNull(prompts), whose, asked.isEmpty() ? null : asked.getFirst());
    files.notes().forEach(this::tell);
    boolean limited = spec.commandLine().getParseResult().hasMatchedOption("--samples");
    var those =
        files.samples().stream()
            .filter(sample -> chosen.isEmpty() || chosen.contains(sample.task()))
            .filter(sample -> !limited || sample.number() < samples)
            .toList();
    if (those.isEmpty()) {
      throw new InvalidInputException(
          "%s holds no prompts of the tasks %s; it has %s"
              .formatted(
                  prompts,
                  chosen.stream().map(RulerTask::word).collect(Collectors.joining(", ")),
                  new TreeSet<>(files.samples().stream().map(s -> s.task().word()).toList())));
    }
    return those;
  }

  private static int length(String text) {
    var matcher = LENGTH.matcher(text.strip());
    long tokens =
        matcher.matches()
            ? Long.parseLong(matcher.group(1)) * (matcher.group(2).isEmpty() ? 1 : 1024)
            : -1;
    if (tokens < SHORTEST || tokens > LONGEST) {
      throw new InvalidInputException(
          "a length must be from %d to %d tokens, such as 512 or 4k, not '%s'"
              .formatted(SHORTEST, LONGEST, Printable.brief(text, 60)));
    }
    return (int) tokens;
  }

  private static void requirePositions(ModelSource source, List<Integer> wanted) {
    int positions = ModelConfig.read(source.checkpoint()).decoder().context();
    wanted.stream()
        .filter(length -> length > positions)
        .findFirst()
        .ifPresent(
            length -> {
              throw new InvalidInputException(
                  "%d tokens are more than the %d positions of %s; ask for shorter --lengths, or extend the model first (RoPE base or YaRN) with ./sluice extend"
                      .formatted(length, positions, source.name()));
            });
  }

  private void requireTokenizer(ModelOptions.Loaded loaded) {
    var tokenizer = loaded.tokenizer();
    int[] ids = tokenizer.encode(NEEDED);
    if (ids.length == 0) {
      throw new InvalidInputException(
          "the tokenizer %s makes no tokens of letters and digits, so that lengths cannot be measured; pass the model's own with --tokenizer"
              .formatted(tokenizer.describe()));
    }
    if (!tokenizer.decode(ids).strip().equals(NEEDED)) {
      tell(
          "The tokenizer of %s cannot write all letters, digits and hyphens, so that some answers cannot be right."
              .formatted(loaded.source().name()));
    }
    if (loaded.stopIds().isEmpty()) {
      tell(
          "No file of %s says which token ends a text, so answers are as long as they may be."
              .formatted(loaded.source().name()));
    }
  }

  /// Equal for equal weights, tokenizer and precision.
  private String identity(ModelOptions.Loaded loaded) throws IOException {
    var digest = Sha256.digest();
    Sha256.update(digest, loaded.source().weightsFingerprint());
    Sha256.update(digest, loaded.tokenizer().fingerprint());
    Sha256.update(
        digest,
        options.precision()
            + " "
            + weights
            + " "
            + loaded.decoder().keyValueType()
            + ", in place, "
            + loaded.stopIds().stream().sorted().toList()
            + ", "
            + Arrays.toString(ModelFiles.prompt(rule(loaded), "", loaded.tokenizer())));
    return Sha256.hex(digest);
  }

  private Path directory(List<ModelSource> sources) {
    if (output != null) {
      return ReportDirectory.require(output);
    }
    Path run = sources.getFirst().run();
    return sources.size() == 1 && run != null
        ? run.resolve("ruler")
        : Path.of(
            "ruler-" + sources.stream().map(ModelSource::name).collect(Collectors.joining("-")));
  }

  private RunManifest manifest(RulerMode whose, List<String> made) {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("models", models.stream().map(Path::toString).toList());
    config.put("mode", whose.word());
    config.put("lengths", lengths);
    config.put("tasks", tasks.isEmpty() ? "all" : tasks);
    config.put("samples", samples);
    config.put("prompts", prompts == null ? "made by Sluice" : prompts.toString());
    config.put("made_of", made);
    config.put("precision", options.precision());
    config.put("weights", weights == null ? "as stored" : weights);
    config.put("kv_cache", kvCache.type().toString());
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config,
        Map.of("prompts", seed),
        Sha256.hex(String.join("\n", made).getBytes(StandardCharsets.UTF_8)),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }

  private String commandLine() {
    return "sluice " + String.join(" ", spec.commandLine().getParseResult().originalArgs());
  }
}
