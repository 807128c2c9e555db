package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.training.RunConfig;
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
import java.util.function.BooleanSupplier;
import java.util.function.Function;

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
/// @param seeds as many trials per variant and point of the grid
public record Study(
    RunConfig base,
    Matching matching,
    List<Variant> variants,
    Map<String, List<String>> grid,
    List<Long> seeds) {
  /// How many windows sinks are measured on.
  private static final int SINK_WINDOWS = 8;

  /// The vocabulary for which widths are matched; it is the same for all variants, so that it makes
  /// no difference.
  private static final int ANY_VOCABULARY = 256;

  public Study {
    variants = List.copyOf(variants);
    seeds = List.copyOf(seeds);
    var points = new LinkedHashMap<String, List<String>>();
    grid.forEach((setting, values) -> points.put(setting, List.copyOf(values)));
    grid = Collections.unmodifiableMap(points);
    var names = variants.stream().map(Variant::name).toList();
    if (variants.size() < 2 || new HashSet<>(names).size() < names.size()) {
      throw new InvalidInputException(
          "a study compares at least two variants with different names, not " + names);
    }
    if (seeds.isEmpty() || new HashSet<>(seeds).size() < seeds.size()) {
      throw new InvalidInputException("a study needs different seeds, not " + seeds);
    }
    grid.forEach(
        (setting, values) -> {
          if (values.isEmpty() || new HashSet<>(values).size() < values.size()) {
            throw new InvalidInputException(
                "the grid needs different values of " + setting + ", not " + values);
          }
        });
    for (Variant variant : variants) {
      for (String setting : variant.settings().keySet()) {
        if (grid.containsKey(setting) || setting.equals("seed")) {
          throw new InvalidInputException(
              "the variant '%s' sets %s, which the study varies by itself; leave it out"
                  .formatted(variant.name(), setting));
        }
      }
    }
    if (base.matchParameters() && matching != Matching.NONE) {
      throw new InvalidInputException(
          "a study matches variants with the baseline by itself; leave out match_parameters");
    }
    var arms = arms(variants, grid);
    if (arms.stream().map(Arm::fileName).distinct().count() < arms.size()) {
      throw new InvalidInputException(
          "two variants' names are the same as file names; change one of " + names);
    }
    for (Arm arm : arms) {
      var _ = trialConfig(base, matching, variants, arm, seeds.getFirst());
    }
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

  /// All trials, seed by seed, so that a study cut short has complete pairs.
  public List<Trial> trials(Path directory) {
    List<Trial> trials = new ArrayList<>();
    for (long seed : seeds) {
      for (Arm arm : arms()) {
        trials.add(
            new Trial(
                arm,
                seed,
                trialConfig(base, matching, variants, arm, seed),
                directory.resolve("trials").resolve(arm.fileName() + "-seed" + seed)));
      }
    }
    return trials;
  }

  private static RunConfig trialConfig(
      RunConfig base, Matching matching, List<Variant> variants, Arm arm, long seed) {
    var config = config(base, arm, seed);
    var baseline = config(base, new Arm(variants.getFirst(), arm.point()), seed);
    var decoder = config.decoder(ANY_VOCABULARY);
    int width =
        matching
            .match(decoder, baseline.decoder(ANY_VOCABULARY), base.sequenceLength())
            .intermediateSize();
    return width == decoder.intermediateSize()
        ? config
        : config.with(null, Map.of("intermediate_size", String.valueOf(width)));
  }

  private static RunConfig config(RunConfig base, Arm arm, long seed) {
    var settings = new HashMap<>(arm.point());
    settings.putAll(arm.variant().settings());
    settings.put("seed", String.valueOf(seed));
    return base.with(null, settings);
  }

  /// Runs what is missing of a share of the study; finished trials are read from their directories.
  ///
  /// @param listeners of each trial
  /// @param stop asked after every step
  /// @return the results so far; fewer than the share's trials when it was stopped
  public List<TrialResult> run(
      Path directory,
      Shard shard,
      TrainingRun.Origin origin,
      Function<Trial, TrainingRun.Listener> listeners,
      BooleanSupplier stop)
      throws IOException {
    boolean begun = Files.exists(directory.resolve(StudyFile.NAME));
    var tokenizer = TrainingRun.tokenizer(base, directory.resolve("corpus"), begun);
    trials(directory).forEach(trial -> TrainingRun.requireTrainable(trial.config(), tokenizer));
    var corpus = TrainingRun.prepareCorpus(base, tokenizer, directory.resolve("corpus"), begun);
    var sinkWindows =
        SinkReport.windows(corpus.heldOut(), base.sequenceLength(), tokenizer, SINK_WINDOWS);
    if (!begun) {
      StudyFile.write(this, directory);
    }
    List<TrialResult> results = new ArrayList<>();
    var trials = trials(directory);
    for (int i = 0; i < trials.size(); i++) {
      Trial trial = trials.get(i);
      if (!shard.has(i)) {
        continue;
      }
      if (TrialResult.exists(trial.directory())) {
        results.add(TrialResult.read(trial.directory()));
        continue;
      }
      var run =
          new TrainingRun(trial.config(), trial.directory(), origin, listeners.apply(trial), stop);
      var outcome =
          Files.exists(trial.directory().resolve(RunConfig.FILE))
              ? run.resume(corpus, tokenizer)
              : run.start(corpus, tokenizer);
      if (outcome.ending() == TrainingRun.Ending.STOPPED) {
        break;
      }
      var result =
          outcome.ending() == TrainingRun.Ending.DIVERGED
              ? TrialResult.diverged(trial, outcome)
              : measure(trial, outcome, sinkWindows);
      result.write(trial.directory());
      results.add(result);
    }
    return results;
  }

  /// What is there of the study, whoever ran it.
  public List<TrialResult> results(Path directory) {
    return trials(directory).stream()
        .map(Trial::directory)
        .filter(TrialResult::exists)
        .map(TrialResult::read)
        .toList();
  }

  private static TrialResult measure(Trial trial, TrainingRun.Outcome outcome, List<long[]> windows)
      throws IOException {
    try (var decoder =
        ModelDirectory.load(
            Objects.requireNonNull(outcome.checkpoint()),
            trial.config().precisionOf(),
            Device.parse(trial.config().device()),
            false)) {
      var sinks = SinkReport.measure(decoder, windows);
      sinks.write(trial.directory().resolve(TrialResult.SINKS));
      return TrialResult.of(trial, outcome, decoder.config(), sinks);
    }
  }
}
