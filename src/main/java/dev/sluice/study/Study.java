package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.DirectoryLock;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import dev.sluice.provenance.RunManifest;
import dev.sluice.settings.Settings;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.Attempt;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.RunDirectory;
import dev.sluice.training.StartCheckpoint;
import dev.sluice.training.Trainable;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.LongStream;
import java.util.stream.Stream;

/// Variants of one model, trained from the same seeds and measured on the same held-out text.
///
/// Seeds are paired: all variants of a seed see the same batches in the same order and start with
/// the same weights wherever they have a parameter of that name and shape.
///
/// @param base what all trials share
/// @param matching in what variants are made equal to the baseline
/// @param variants the baseline first
/// @param grid settings that every variant is trained with each combination of, such as several
///   learning rates
/// @param seeds as many trials per variant and point of the grid; see [#seeds]
public record Study(
    RunConfig base,
    Matching matching,
    List<Variant> variants,
    Map<String, List<String>> grid,
    List<Long> seeds) {
  /// Trials of a study: variants × points of the grid × seeds.
  public static final int MOST_TRIALS = 10_000;

  /// On how many tokens sinks are measured.
  private static final int SINK_TOKENS = 8 * SinkReport.RECOMMENDED_TOKENS;

  /// The vocabulary for which widths are matched; it is the same for all variants, so that it makes
  /// no difference.
  private static final int ANY_VOCABULARY = 256;

  /// Settings that all trials share: the text is prepared once, and measured on once.
  private static final Set<String> SHARED =
      Set.of(
          "data",
          "text_field",
          "tokenizer",
          "eos_token",
          "start",
          "held_out_share",
          "held_out_windows",
          "windows");

  /// Characters of a list of trials in a sentence.
  private static final int NAMED_TRIALS = 300;

  /// Bytes of a directory's name, less than any file system's limit.
  private static final int LONGEST_DIRECTORY = 240;

  /// What an earlier version left that was killed while it wrote `study.toml`.
  private static final Pattern OLD_PARTIAL = Pattern.compile("\\.study-\\d+\\.partial");

  /// Hears how a study runs.
  @FunctionalInterface
  public interface Listener {
    /// The study is there and this process may work on it.
    default void begun() {}

    /// Something that the user must know and that is no failure.
    default void noted(String what) {}

    /// Who hears of a trial that begins or goes on.
    TrainingRun.Listener trial(Trial trial);
  }

  public Study {
    variants = List.copyOf(variants);
    seeds = List.copyOf(seeds);
    var points = new LinkedHashMap<String, List<String>>();
    grid.forEach((setting, values) -> points.put(setting, List.copyOf(values)));
    grid = Collections.unmodifiableMap(points);
    requireVariants(variants);
    if (seeds.isEmpty() || !seeds.equals(seeds(base.seed(), seeds.size()))) {
      throw new InvalidInputException(
          "a study needs the seeds from %d on, not %s"
              .formatted(base.seed(), Printable.brief(seeds, 100)));
    }
    grid.forEach(Study::requireDifferent);
    requireFewTrials(variants.size(), grid, seeds.size());
    requireSettings(base, matching, variants, grid);
    var arms = arms(variants, grid);
    requireDirectories(arms, seeds);
    var configs = new HashMap<Variant, Set<RunConfig>>();
    for (Arm arm : arms) {
      var config = armConfig(base, matching, variants, arm);
      if (!configs.computeIfAbsent(arm.variant(), _ -> new HashSet<>()).add(config)) {
        throw new InvalidInputException(
            "the grid has a value twice, written differently: %s is trained as another point is; give different values"
                .formatted(arm.name()));
      }
    }
  }

  private static void requireVariants(List<Variant> variants) {
    if (variants.size() < 2) {
      throw new InvalidInputException(
          "a study compares at least two variants, not %d; the baseline is the first"
              .formatted(variants.size()));
    }
    var names = new HashSet<String>();
    for (Variant variant : variants) {
      if (!names.add(variant.name())) {
        throw new InvalidInputException(
            "two variants are called '%s'; give each a name of its own".formatted(variant.name()));
      }
    }
  }

  private static void requireDifferent(String setting, List<String> values) {
    if (values.isEmpty() || new HashSet<>(values).size() < values.size()) {
      throw new InvalidInputException(
          "the grid needs different values of '%s', not %s"
              .formatted(setting, Printable.brief(values, 100)));
    }
  }

  private static void requireFewTrials(long variants, Map<String, List<String>> grid, long seeds) {
    double trials = (double) variants * seeds;
    for (var values : grid.values()) {
      trials *= values.size();
    }
    if (trials > MOST_TRIALS) {
      throw new InvalidInputException(
          "%d variants, a grid of %s and %d seeds make %.0f trials, more than the %d that a study may have; leave some out"
              .formatted(
                  variants,
                  grid.isEmpty()
                      ? "no settings"
                      : String.join(
                          " × ",
                          grid.values().stream().map(v -> String.valueOf(v.size())).toList()),
                  seeds,
                  trials,
                  MOST_TRIALS));
    }
  }

  /// Refuses settings that are none, or that are not for a variant or the grid to choose.
  private static void requireSettings(
      RunConfig base, Matching matching, List<Variant> variants, Map<String, List<String>> grid) {
    var known = base.settings().keySet();
    for (String setting : grid.keySet()) {
      requireSetting("the grid", setting, known, matching);
    }
    for (Variant variant : variants) {
      String whose = "the variant '%s'".formatted(variant.name());
      for (String setting : variant.settings().keySet()) {
        requireSetting(whose, setting, known, matching);
        if (grid.containsKey(setting)) {
          throw new InvalidInputException(
              "%s sets %s, which the grid varies; leave it out of one of them"
                  .formatted(whose, setting));
        }
      }
    }
    if (base.start().isGiven() && matching != Matching.NONE) {
      throw new InvalidInputException(
          "all trials begin with the weights of start %s, whose width nothing can match; use match = \"none\""
              .formatted(base.start().start()));
    }
    if (base.variation().matchParameters() && matching != Matching.NONE) {
      throw new InvalidInputException(
          "a study matches variants with the baseline by itself; leave out match_parameters");
    }
  }

  private static void requireSetting(
      String whose, String setting, Set<String> known, Matching matching) {
    if (!known.contains(setting)) {
      throw new InvalidInputException(
          "%s sets '%s', which is no setting; known are %s"
              .formatted(whose, Printable.brief(setting, 60), Settings.nearest(setting, known)));
    }
    if (SHARED.contains(setting)) {
      throw new InvalidInputException(
          "%s sets %s, but all trials of a study share their text and what is measured on it; set it for the whole study"
              .formatted(whose, setting));
    }
    if (setting.equals("seed")) {
      throw new InvalidInputException(
          "%s sets seed, which the study varies by itself; leave it out".formatted(whose));
    }
    if (setting.equals("match_parameters") && matching != Matching.NONE) {
      throw new InvalidInputException(
          "%s sets match_parameters, but the study matches variants with the baseline by itself; leave it out or use match = \"none\""
              .formatted(whose));
    }
  }

  private static void requireDirectories(List<Arm> arms, List<Long> seeds) {
    Map<String, Arm> named = new HashMap<>();
    for (Arm arm : arms) {
      String name = arm.fileName();
      Arm other = named.putIfAbsent(name, arm);
      if (other != null) {
        throw new InvalidInputException(
            "the directories of '%s' and '%s' would both be called %s; change a name in more than its punctuation"
                .formatted(other.name(), arm.name(), name));
      }
      if (directoryName(arm, seeds.getLast()).length() > LONGEST_DIRECTORY) {
        throw new InvalidInputException(
            "'%s' is too long for the name of a directory; shorten the variant's name or the grid's values"
                .formatted(Printable.brief(arm.name(), 100)));
      }
    }
  }

  /// As many seeds from the first on.
  ///
  /// @param count at most [#MOST_TRIALS]
  public static List<Long> seeds(long first, long count) {
    if (count < 1 || count > MOST_TRIALS) {
      throw new InvalidInputException(
          "a study has 1 to %d seeds, not %d".formatted(MOST_TRIALS, count));
    }
    if (first > Long.MAX_VALUE - count) {
      throw new InvalidInputException(
          "there are no %d seeds from %d on; begin with a smaller seed".formatted(count, first));
    }
    return LongStream.range(first, first + count).boxed().toList();
  }

  /// Every variant at every point of the grid, the baseline's first.
  public List<Arm> arms() {
    return arms(variants, grid);
  }

  private static List<Arm> arms(List<Variant> variants, Map<String, List<String>> grid) {
    List<Map<String, String>> points = new ArrayList<>();
    points.add(Map.of());
    grid.forEach(
        (setting, values) -> {
          List<Map<String, String>> longer = new ArrayList<>();
          for (var point : points) {
            for (String value : values) {
              var with = new HashMap<>(point);
              with.put(setting, value);
              longer.add(with);
            }
          }
          points.clear();
          points.addAll(longer);
        });
    List<Arm> arms = new ArrayList<>();
    for (Variant variant : variants) {
      points.forEach(point -> arms.add(new Arm(variant, point)));
    }
    return arms;
  }

  /// The baseline at the same point of the grid.
  public Arm baseline(Arm arm) {
    return new Arm(variants.getFirst(), arm.point());
  }

  /// The settings of an arm's trials, with the study's first seed.
  public RunConfig config(Arm arm) {
    return armConfig(base, matching, variants, arm);
  }

  /// All trials, seed by seed, so that a study cut short has complete pairs.
  public List<Trial> trials(Path directory) {
    var configs = new LinkedHashMap<Arm, RunConfig>();
    arms().forEach(arm -> configs.put(arm, config(arm)));
    List<Trial> trials = new ArrayList<>();
    for (long seed : seeds) {
      configs.forEach(
          (arm, config) ->
              trials.add(
                  new Trial(
                      arm,
                      seed,
                      config.with(null, Map.of("seed", String.valueOf(seed))),
                      directory(directory, arm, seed))));
    }
    return trials;
  }

  /// Where a trial is.
  ///
  /// @param study the study's directory
  public static Path directory(Path study, Arm arm, long seed) {
    return study.resolve("trials").resolve(directoryName(arm, seed));
  }

  private static String directoryName(Arm arm, long seed) {
    return arm.fileName() + "-seed" + seed;
  }

  private static RunConfig armConfig(
      RunConfig base, Matching matching, List<Variant> variants, Arm arm) {
    try {
      var config = config(base, arm);
      var baseline = config(base, new Arm(variants.getFirst(), arm.point()));
      var decoder = config.decoder(ANY_VOCABULARY);
      if (decoder.layers().stream().allMatch(layer -> layer.attention().isEmpty())) {
        throw new InvalidInputException(
            "layers_pattern %s leaves no layer with attention, and a study measures attention's sinks; add attention to the pattern"
                .formatted(config.shape().layersPattern()));
      }
      if (matching == Matching.NONE) {
        return config;
      }
      requireMatchable(config, baseline);
      int width =
          matching
              .match(decoder, baseline.decoder(ANY_VOCABULARY), baseline.batch().sequenceLength())
              .layers()
              .getFirst()
              .feedForward()
              .intermediateSize();
      return width == decoder.layers().getFirst().feedForward().intermediateSize()
          ? config
          : config.with(null, Map.of("intermediate_size", String.valueOf(width)));
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(arm.name(), e.getMessage()), e);
    }
  }

  /// What the embeddings count depends on the vocabulary, which a study knows only when it runs.
  private static void requireMatchable(RunConfig config, RunConfig baseline) {
    boolean sameTies =
        config.decoder(ANY_VOCABULARY).tieWordEmbeddings()
            == baseline.decoder(ANY_VOCABULARY).tieWordEmbeddings();
    boolean isOfBytes =
        config.text().tokenizer().equals("bytes") && config.shape().vocabSize() == 0;
    if (config.shape().vocabSize() != baseline.shape().vocabSize() || !(sameTies || isOfBytes)) {
      throw new InvalidInputException(
          "it differs from the baseline in its vocabulary's weights (%s), which cannot be matched; use match = \"none\""
              .formatted(sameTies ? "vocab_size" : "tie_word_embeddings"));
    }
  }

  private static RunConfig config(RunConfig base, Arm arm) {
    var settings = new HashMap<>(arm.point());
    settings.putAll(arm.variant().settings());
    return base.with(null, settings);
  }

  /// In what another study differs: names of settings, `variants`, `grid`, `seeds`, `match`.
  public List<String> differences(Study other) {
    var differences = new TreeSet<String>();
    var otherSettings = other.base.settings();
    base.settings()
        .forEach(
            (setting, value) -> {
              if (!value.equals(otherSettings.get(setting))) {
                differences.add(setting);
              }
            });
    if (!variants.equals(other.variants)) {
      differences.add("variants");
    }
    if (!grid.equals(other.grid)) {
      differences.add("grid");
    }
    if (seeds.size() != other.seeds.size()) {
      differences.add("seeds");
    }
    if (matching != other.matching) {
      differences.add("match");
    }
    return List.copyOf(differences);
  }

  // ---------------------------------------------------------------- running

  /// Runs what is missing of a share of the study; finished trials are read from their directories.
  ///
  /// The whole study owns its directory while it runs; shards share it, and each owns its share.
  ///
  /// @param origin who runs it, as others are told that want the same directory
  /// @param stop asked after every step
  /// @return the results so far; fewer than the share's trials when it was stopped
  public List<TrialResult> run(
      Path directory,
      Shard shard,
      TrainingRun.Origin origin,
      Listener listener,
      BooleanSupplier stop)
      throws IOException {
    boolean known = Files.exists(directory.resolve(StudyFile.NAME));
    var tokenizer = RunCorpus.tokenizer(base, directory.resolve("corpus"), known);
    var trials = trials(directory);
    trials
        .subList(0, arms().size()) // the first seed's; others differ in nothing that is judged
        .forEach(trial -> Trainable.require(trial.config(), tokenizer, 1));
    if (Files.exists(directory) && !Files.isDirectory(directory)) {
      throw new InvalidInputException(directory + " is not a directory; choose another --output");
    }
    DirectoryLock.make(directory);
    boolean whole = shard.count() == 1;
    requireNoLink(directory.resolve("corpus"));
    requireNoLink(directory.resolve("trials"));
    String doing = doing(origin);
    try (var lock =
            whole ? DirectoryLock.own(directory, doing) : DirectoryLock.read(directory, doing);
        var share = whole ? null : ownShare(directory, shard, doing)) {
      refuseAnother(directory);
      if (whole) {
        removePartials(directory);
      }
      boolean begun = Files.exists(directory.resolve(StudyFile.NAME));
      var corpus =
          RunCorpus.prepare(base, tokenizer, directory.resolve("corpus"), begun, listener::noted);
      if (!begun) {
        StudyFile.write(this, directory);
      }
      Stream.of(lock, share)
          .flatMap(Stream::ofNullable)
          .flatMap(one -> Stream.ofNullable(one.warning()))
          .distinct()
          .forEach(listener::noted);
      requireOneStart(trials);
      listener.begun();
      return run(trials, shard, origin, listener, stop, corpus, tokenizer);
    }
  }

  /// As others are told that want the same directory.
  private static String doing(TrainingRun.Origin origin) {
    return "sluice " + String.join(" ", origin.commandLine());
  }

  private static void requireNoLink(Path inside) {
    if (Files.isSymbolicLink(inside)) {
      throw new InvalidInputException(
          "%s is a link, and a study writes only into its own directory; put the whole directory where the link leads"
              .formatted(inside));
    }
  }

  private static DirectoryLock ownShare(Path directory, Shard shard, String doing)
      throws IOException {
    return DirectoryLock.ownPart(
        directory, "shard-%d-of-%d".formatted(shard.index(), shard.count()), doing);
  }

  private List<TrialResult> run(
      List<Trial> trials,
      Shard shard,
      TrainingRun.Origin origin,
      Listener listener,
      BooleanSupplier stop,
      Corpus corpus,
      Tokenizer tokenizer)
      throws IOException {
    var sinkWindows =
        SinkReport.windows(
            corpus.heldOut(),
            base.batch().sequenceLength(),
            tokenizer,
            base.batch().windowRule(),
            SINK_TOKENS);
    List<TrialResult> results = new ArrayList<>();
    for (int i = 0; i < trials.size(); i++) {
      Trial trial = trials.get(i);
      if (!shard.has(i)) {
        continue;
      }
      if (TrialResult.exists(trial.directory())) {
        results.add(TrialResult.read(trial));
        continue;
      }
      requireNoLink(trial.directory());
      try (var _ = RunDirectory.own(trial.directory(), doing(origin))) {
        var run =
            new TrainingRun(trial.config(), trial.directory(), origin, listener.trial(trial), stop);
        if (!Files.exists(trial.directory().resolve(RunConfig.FILE))) {
          requireStartOfOthers(trial, trials);
        }
        var outcome = outcome(trial, run, corpus, tokenizer);
        if (outcome.ending() == TrainingRun.Ending.STOPPED) {
          break;
        }
        var result =
            outcome.ending() == TrainingRun.Ending.DIVERGED || !hasLoss(outcome)
                ? TrialResult.diverged(trial, outcome)
                : measure(
                    trial,
                    outcome,
                    SinkReport.byDocument(
                        sinkWindows, trial.config().batch().separator(tokenizer)));
        result.write(trial.directory());
        results.add(result);
      }
    }
    return results;
  }

  /// Refuses trials that began with different weights: they are no pairs.
  private static void requireOneStart(List<Trial> trials) {
    Trial first = null;
    String weights = "";
    for (Trial trial : trials) {
      var its = StartCheckpoint.checksumOf(trial.directory());
      if (its.isEmpty()) {
        continue;
      }
      if (first == null) {
        first = trial;
        weights = its.get();
      } else if (!its.get().equals(weights)) {
        throw new InvalidInputException(
            "%s began with other weights of start %s than %s, so they are no pair; remove %s or %s, whichever began with the wrong ones, to train it again"
                .formatted(
                    trial.name(),
                    trial.config().start().start(),
                    first.name(),
                    trial.directory(),
                    first.directory()));
      }
    }
  }

  /// Refuses to begin a trial with other weights than those before it began with.
  private static void requireStartOfOthers(Trial trial, List<Trial> trials) {
    if (!trial.config().start().isGiven()) {
      return;
    }
    for (Trial other : trials) {
      var weights = StartCheckpoint.checksumOf(other.directory());
      if (weights.isPresent()) {
        if (!weights.get().equals(StartCheckpoint.of(trial.config()).checksum())) {
          throw new InvalidInputException(
              "start %s has other weights than %s began with, so %s would be no pair with it; put them back, or choose another --output"
                  .formatted(trial.config().start().start(), other.name(), trial.name()));
        }
        return;
      }
    }
  }

  private static TrainingRun.Outcome outcome(
      Trial trial, TrainingRun run, Corpus corpus, Tokenizer tokenizer) throws IOException {
    Path file = trial.directory().resolve(RunConfig.FILE);
    if (!Files.exists(file)) {
      return run.start(corpus, tokenizer);
    }
    if (!RunConfig.from(file, Map.of()).equals(trial.config())) {
      throw new InvalidInputException(
          "%s is not of %s, it was copied or changed; remove %s to train it again"
              .formatted(file, trial.name(), trial.directory()));
    }
    return run.resume(corpus, tokenizer);
  }

  /// A model whose very last step broke it has none.
  private static boolean hasLoss(TrainingRun.Outcome outcome) {
    return outcome.heldOut() != null && Double.isFinite(outcome.heldOut().nats());
  }

  private void refuseAnother(Path directory) {
    Path there = directory.resolve(StudyFile.NAME);
    if (!Files.exists(there)) {
      return;
    }
    var differences = differences(StudyFile.read(there, RunConfig.DEFAULTS, Map.of()));
    if (!differences.isEmpty()) {
      throw new InvalidInputException(
          "%s holds a study that differs in %s (see its %s); choose another --output or give the same settings"
              .formatted(directory, String.join(", ", differences), StudyFile.NAME));
    }
  }

  /// What writers left that were killed.
  private static void removePartials(Path directory) throws IOException {
    for (Path file : Trees.children(directory)) {
      if (WholeFile.isPartial(file)
          || OLD_PARTIAL.matcher(String.valueOf(file.getFileName())).matches()) {
        Trees.remove(file);
      }
    }
  }

  /// What is there of the study, whoever ran it.
  public List<TrialResult> results(Path directory) {
    var trials = trials(directory);
    requireOneStart(trials);
    return trials.stream()
        .filter(trial -> TrialResult.exists(trial.directory()))
        .map(TrialResult::read)
        .toList();
  }

  /// Says of the trials that are done which were trained by another version of the program, or on
  /// another device, than others, if only since they were resumed: pairs among them differ in that
  /// too. Nothing where all are alike.
  public List<String> mixtures(Path directory) {
    Map<List<String>, List<Trial.Name>> commits = new LinkedHashMap<>();
    Map<List<String>, List<Trial.Name>> devices = new LinkedHashMap<>();
    for (Trial trial : trials(directory)) {
      if (TrialResult.exists(trial.directory())) {
        RunManifest.beside(trial.directory())
            .ifPresent(
                manifest -> {
                  var attempts = Attempt.of(manifest);
                  add(commits, attempts.stream().map(Attempt::commit), trial);
                  add(
                      devices,
                      attempts.stream().flatMap(each -> Stream.ofNullable(each.device())),
                      trial);
                });
      }
    }
    return Stream.of(mixture("commits", commits), mixture("devices", devices))
        .flatMap(Optional::stream)
        .toList();
  }

  /// @param by of its attempts, in order; none where an earlier version did not record them
  private static void add(
      Map<List<String>, List<Trial.Name>> trials, Stream<String> by, Trial trial) {
    var different = by.distinct().toList();
    if (!different.isEmpty()) {
      trials.computeIfAbsent(different, _ -> new ArrayList<>()).add(trial.name());
    }
  }

  private static Optional<String> mixture(String what, Map<List<String>, List<Trial.Name>> trials) {
    return trials.keySet().stream().flatMap(List::stream).distinct().count() < 2
        ? Optional.empty()
        : Optional.of(
            "The trials are of different %s, so that a difference between them need not be the variants': %s."
                .formatted(
                    what,
                    trials.entrySet().stream()
                        .map(
                            each ->
                                "%s (%s)"
                                    .formatted(
                                        String.join(", then ", each.getKey()),
                                        Printable.brief(
                                            each.getValue().stream()
                                                .map(Trial.Name::toString)
                                                .collect(Collectors.joining("; ")),
                                            NAMED_TRIALS)))
                        .collect(Collectors.joining(", "))));
  }

  private static TrialResult measure(Trial trial, TrainingRun.Outcome outcome, List<long[]> windows)
      throws IOException {
    try (var decoder =
        ModelDirectory.load(
            Objects.requireNonNull(outcome.checkpoint()),
            trial.config().computing().precisionOf(),
            Device.parse(trial.config().computing().device()),
            false)) {
      var sinks = SinkReport.measure(decoder, windows);
      sinks.write(trial.directory().resolve(TrialResult.SINKS));
      return TrialResult.of(trial, outcome, decoder.config(), sinks);
    }
  }
}
