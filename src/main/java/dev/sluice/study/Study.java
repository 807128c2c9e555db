package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import dev.sluice.training.RunConfig;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
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
/// @param gates each variant's gate, the baseline first
/// @param seeds as many trials per variant
public record Study(RunConfig base, List<String> gates, List<Long> seeds) {
  /// Tokens of the windows that sinks are measured on.
  private static final int SINK_TOKENS = SinkReport.RECOMMENDED_TOKENS;

  private static final int SINK_WINDOWS = 8;

  public Study {
    gates = List.copyOf(gates);
    seeds = List.copyOf(seeds);
    if (gates.size() < 2 || new HashSet<>(gates).size() < gates.size()) {
      throw new InvalidInputException(
          "a study compares at least two different gates, not " + gates + "; name some in --gates");
    }
    if (seeds.isEmpty() || new HashSet<>(seeds).size() < seeds.size()) {
      throw new InvalidInputException("a study needs different seeds, not " + seeds);
    }
    for (String gate : gates) {
      var _ = trialConfig(base, gate, seeds.getFirst()).gates();
    }
  }

  /// All trials, seed by seed, so that a study cut short has complete pairs.
  public List<Trial> trials(Path directory) {
    List<Trial> trials = new ArrayList<>();
    for (long seed : seeds) {
      for (String gate : gates) {
        String name = gate.replace('*', 'x') + "-seed" + seed;
        trials.add(
            new Trial(
                gate,
                seed,
                trialConfig(base, gate, seed),
                directory.resolve("trials").resolve(name)));
      }
    }
    return trials;
  }

  private static RunConfig trialConfig(RunConfig base, String gate, long seed) {
    return base.with(null, Map.of("gate", gate, "seed", String.valueOf(seed)));
  }

  /// Runs what is missing of the study; finished trials are read from their directories.
  ///
  /// @param listeners of each trial
  /// @param stop asked after every step
  /// @return the results so far; fewer than trials when it was stopped
  public List<TrialResult> run(
      Path directory,
      TrainingRun.Origin origin,
      Function<Trial, TrainingRun.Listener> listeners,
      BooleanSupplier stop)
      throws IOException {
    var tokenizer = Tokenizers.load(base.tokenizer());
    trials(directory).forEach(trial -> TrainingRun.requireTrainable(trial.config(), tokenizer));
    boolean begun = Files.exists(directory.resolve(RunConfig.FILE));
    var corpus = TrainingRun.prepareCorpus(base, tokenizer, directory.resolve("corpus"), begun);
    var sinkWindows = sinkWindows(corpus, tokenizer);
    if (!begun) {
      base.write(directory);
    }
    List<TrialResult> results = new ArrayList<>();
    for (Trial trial : trials(directory)) {
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

  /// Windows of the recommended length, or of the training sequences' where the held-out text is
  /// too short for that.
  private List<long[]> sinkWindows(Corpus corpus, Tokenizer tokenizer) {
    boolean enough = corpus.heldOut().length() > 2L * SINK_TOKENS;
    int length = enough ? SINK_TOKENS - 1 : base.sequenceLength();
    return new HeldOutReader(corpus.heldOut(), length, tokenizer).sample(SINK_WINDOWS).windows();
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
