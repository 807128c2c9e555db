package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.Corpus;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.distributed.Replicas;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.optimizer.OldAndNew;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/// A training run in a directory: `config.toml`, `manifest.json`, `metrics.jsonl`, `timings.jsonl`,
/// TensorBoard events and `checkpoints/`.
///
/// Batches are a pure function of their index and weights are saved with the optimizer's state and
/// the [SpikeGuard]'s, so a run that was stopped goes on as if it had not been, bit for bit.
/// Checkpoints are written while training goes on.
public class TrainingRun {
  /// Hears of a run's progress, on its thread.
  public interface Listener {
    default void prepared(Corpus corpus, Decoder decoder, int firstStep) {}

    default void stepped(Trainer.Step step, double tokensPerSecond) {}

    /// @param sinks what [SinkReport#scalars] names; empty where it could not be measured
    default void evaluated(int step, HeldOutLoss heldOut, Map<String, Double> sinks) {}

    default void sampled(int step, String text) {}

    /// How the model is shared with other ranks.
    default void shared(GradientExchange exchange) {}

    /// A checkpoint was written.
    ///
    /// @param pauseSeconds that training waited
    default void saved(int step, Path checkpoint, double pauseSeconds) {}

    /// A checkpoint could not be written; training goes on and the next save is tried.
    default void notSaved(int step, IOException why) {}

    /// A step was passed over, or the run went back, and why.
    default void guarded(int step, String what) {}

    /// Something that the user must know and that is no failure.
    default void noted(String what) {}

    /// A setting differs from that of the checkpoint.
    default void changed(String setting, String before, String now) {}
  }

  /// How a run ended.
  public enum Ending {
    COMPLETE,
    /// Asked to stop; resuming goes on.
    STOPPED,
    /// Losses or gradients were again and again not acceptable, or the loss stayed above where it
    /// began.
    DIVERGED
  }

  /// What came out.
  ///
  /// @param directory of the run
  /// @param ending how it ended
  /// @param steps steps taken in all
  /// @param heldOut the last evaluation, or null when there was none
  /// @param tokensPerSecond the median over all steps
  /// @param checkpoint the newest checkpoint, or null
  /// @param failure what is recorded of the step that ended the run, or null
  public record Outcome(
      Path directory,
      Ending ending,
      int steps,
      @Nullable HeldOutLoss heldOut,
      double tokensPerSecond,
      @Nullable Path checkpoint,
      @Nullable Path failure) {}

  /// Who started the run, for its manifest.
  public record Origin(String commit, List<String> commandLine) {}

  /// What the guard did, a JSON object a line, in a run directory.
  public static final String EVENTS = "events.jsonl";

  /// What `manifest.json` calls the device that was used; the setting may say `auto`.
  public static final String DEVICE_USED = "device_used";

  /// The directory of checkpoints, in a run directory.
  static final String CHECKPOINTS = "checkpoints";

  private final RunConfig config;
  private final Path directory;
  private final Origin origin;
  private final Listener listener;
  private final BooleanSupplier stop;
  private final Replicas replicas;
  private final Path checkpoints;

  /// Prepares a run in one process.
  ///
  /// @param stop asked after every step
  public TrainingRun(
      RunConfig config, Path directory, Origin origin, Listener listener, BooleanSupplier stop) {
    this(config, directory, origin, listener, stop, Replicas.alone());
  }

  /// Prepares a run that each of the ranks prepares; rank 0 writes the directory, which all see.
  public TrainingRun(
      RunConfig config,
      Path directory,
      Origin origin,
      Listener listener,
      BooleanSupplier stop,
      Replicas replicas) {
    this.replicas = replicas;
    this.config = config;
    this.directory = directory;
    this.origin = origin;
    this.listener = listener;
    this.stop = stop;
    this.checkpoints = directory.resolve(CHECKPOINTS);
  }

  /// Refuses a directory that holds a run: nothing in it may be overwritten. Ask before its corpus
  /// is prepared.
  public static void requireNew(Path directory) {
    if (Files.exists(directory.resolve(RunConfig.FILE))) {
      throw new InvalidInputException(
          directory
              + " already holds a run; go on with --resume "
              + directory
              + " or choose another --output");
    }
  }

  /// Trains from the start, in a directory that holds no run.
  public Outcome start(Corpus corpus, Tokenizer tokenizer) throws IOException {
    Trainable.require(config, tokenizer, replicas.size());
    var inputs = RunInputs.of(config, corpus, tokenizer);
    try (var _ = own()) {
      config.notes().forEach(listener::noted);
      if (replicas.isFirst()) {
        requireNew(directory);
        Files.createDirectories(checkpoints);
        manifest(corpus, List.of()).write(directory.resolve(RunManifest.FILE_NAME));
        config.write(directory); // last: a directory that has it is a run
      }
      return run(inputs, null, false);
    }
  }

  /// The directory, for the rank that writes it; null on others.
  private @Nullable RunDirectory own() throws IOException {
    if (!replicas.isFirst()) {
      return null;
    }
    var owned = RunDirectory.own(directory, "sluice " + String.join(" ", origin.commandLine()));
    String warning = owned.warning();
    if (warning != null) {
      listener.noted(warning);
    }
    return owned;
  }

  /// Goes on from the newest complete checkpoint, or from the start when there is none.
  public Outcome resume(Corpus corpus, Tokenizer tokenizer) throws IOException {
    return resume(corpus, tokenizer, null);
  }

  /// Goes on from a checkpoint.
  ///
  /// @param name of the checkpoint; later ones are set aside. Null for the newest
  public Outcome resume(Corpus corpus, Tokenizer tokenizer, @Nullable String name)
      throws IOException {
    Trainable.require(config, tokenizer, replicas.size());
    try (var _ = own()) {
      config.notes().forEach(listener::noted);
      if (replicas.isFirst()) {
        var there = new RunCheckpoints(config, directory);
        Path from = there.toResume(name);
        var recorded = recorded(from);
        if (config.start().isGiven() && recorded.isPresent()) {
          StartCheckpoint.of(config)
              .requireSame(recorded.get().config().get(StartCheckpoint.CHECKSUM));
        }
        if (from != null) {
          there.requireSameRun(from, corpus, tokenizer, listener);
          there.setAsideAfter(from);
        } else {
          listener.noted(there.beginsAgain());
        }
        takeUpSettings(from, recorded, corpus);
      }
      replicas.barrier(); // now the newest is the one
      Path from = CheckpointDirectory.latest(checkpoints).orElse(null);
      return run(RunInputs.of(config, corpus, tokenizer), from, true);
    }
  }

  /// The run's manifest, or that of the checkpoint it goes on from where its own cannot be read.
  private Optional<RunManifest> recorded(@Nullable Path from) {
    return RunManifest.beside(directory)
        .or(() -> Optional.ofNullable(from).flatMap(RunManifest::beside));
  }

  /// Lets `config.toml` and the manifest say what runs from now on, whether a flag or an edited
  /// file says so, or another version or device goes on with it, and tells what another number of
  /// steps does to the learning rate. A manifest that cannot be read is written anew.
  private void takeUpSettings(@Nullable Path from, Optional<RunManifest> recorded, Corpus corpus)
      throws IOException {
    var written = RunConfig.from(directory.resolve(RunConfig.FILE), Map.of());
    var settings = recorded.flatMap(RunConfig::accepted);
    var attempts = attempts(from);
    boolean said =
        RunManifest.beside(directory).isPresent()
            && settings.equals(Optional.of(config))
            && recorded.map(Attempt::of).equals(Optional.of(attempts));
    if (said && written.equals(config)) {
      return;
    }
    if (settings.isEmpty() || RunManifest.beside(directory).isEmpty()) {
      listener.noted(
          "%s cannot be read, or records settings that this version refuses: it is written anew, with what config.toml and the checkpoints say."
              .formatted(directory.resolve(RunManifest.FILE_NAME)));
    }
    var before = settings.orElse(written);
    if (from != null && before.optimization().steps() != config.optimization().steps()) {
      int done = TrainingCheckpoint.state(from).step();
      listener.noted(
          "The schedule is that of %d steps now: the learning rate was %.3g at step %d and is %.3g at step %d."
              .formatted(
                  config.optimization().steps(),
                  before.optimization().learningRateAt(done),
                  done,
                  config.optimization().learningRateAt(done + 1),
                  done + 1));
    }
    manifest(corpus, attempts).write(directory.resolve(RunManifest.FILE_NAME));
    config.write(directory);
  }

  /// Those that made the checkpoint, and this one where it differs from the last.
  private List<Attempt> attempts(@Nullable Path from) {
    List<Attempt> attempts = new ArrayList<>();
    if (from != null) {
      RunManifest.beside(from).map(Attempt::of).ifPresent(attempts::addAll);
    }
    var now = new Attempt(origin.commit(), config.computing().deviceOf().toString());
    if (attempts.isEmpty() || !attempts.getLast().equals(now)) {
      attempts.add(now);
    }
    return attempts;
  }

  /// Trains from a checkpoint, or from new weights, and goes back as often as the guard wants.
  ///
  /// @param from the checkpoint, or null
  /// @param again whether the directory may hold what an earlier attempt recorded
  private Outcome run(RunInputs inputs, @Nullable Path from, boolean again) throws IOException {
    var state = state(from, inputs);
    while (true) {
      try (var decoder = recomputing(decoder(from, inputs));
          var trainer = trainer(decoder, inputs.tokenizer())) {
        if (from != null) {
          TrainingCheckpoint.readMoments(
              from,
              trainer.optimizer(),
              decoder.parameters(),
              Trainable.moving(config, decoder.config()));
        }
        trainer.goOnAfter(state.step() - state.guard().skips());
        var attempt =
            new TrainingAttempt(
                config, directory, listener, stop, replicas, inputs, decoder, trainer, state);
        var outcome = attempt.train(again);
        if (outcome != null) {
          return outcome;
        }
        if (replicas.isFirst()) {
          new RunCheckpoints(config, directory).setAsideAfterLastGood();
        }
        replicas.barrier();
        from = CheckpointDirectory.latest(checkpoints).orElse(null);
        state = attempt.backTo(state(from, inputs));
        again = true;
      }
    }
  }

  private static TrainingCheckpoint.State state(@Nullable Path checkpoint, RunInputs inputs) {
    return checkpoint != null
        ? TrainingCheckpoint.state(checkpoint)
        : new TrainingCheckpoint.State(0, inputs.dataFingerprint(), null, SpikeGuard.State.NEW);
  }

  private Decoder recomputing(Decoder decoder) {
    decoder.recompute(config.computing().recomputeOf());
    return decoder;
  }

  private Decoder decoder(@Nullable Path checkpoint, RunInputs inputs) {
    var computing = config.computing();
    if (checkpoint != null) {
      return ModelDirectory.load(checkpoint, computing.precisionOf(), computing.deviceOf(), true);
    }
    return config.start().isGiven()
        ? StartCheckpoint.of(config).begin(computing.precisionOf(), computing.deviceOf())
        : Decoder.initialize(
            config.decoder(config.vocabulary(inputs.tokenizer())),
            computing.precisionOf(),
            computing.deviceOf(),
            config.seed());
  }

  /// Tests make one that injects faults.
  Trainer trainer(Decoder decoder, Tokenizer tokenizer) {
    var exchange = new GradientExchange(replicas, decoder.parameters(), config.batch().zero());
    return new Trainer(
        decoder,
        optimizer(decoder, exchange),
        config.optimization().scheduleOf(),
        config.optimization().learningRate(),
        config.optimization().clipNorm(),
        objective(decoder),
        exchange,
        config.batch().separator(tokenizer));
  }

  private Optimizer optimizer(Decoder decoder, GradientExchange exchange) {
    var settings = config.optimization();
    if (!config.start().isGiven()) {
      return settings.optimizerSettings().over(decoder.parameters(), exchange::owns);
    }
    double given = config.start().newLearningRate();
    double rate = given == 0 ? settings.learningRate() : given;
    return new OldAndNew(
        settings.optimizerSettings(),
        settings.optimizerSettings(config.start().newWeightDecay(), rate),
        StartCheckpoint.of(config).added(decoder.config()),
        rate / settings.learningRate(),
        config.start().frozenSteps(),
        decoder.parameters(),
        exchange::owns);
  }

  private Objective objective(Decoder decoder) {
    double zLoss = config.optimization().zLoss();
    var settings = config.start();
    if (!settings.changesSteps()) {
      return Objective.nextTokens(zLoss);
    }
    var computing = config.computing();
    return new WeightedObjective(
        settings,
        config.optimization().steps(),
        zLoss,
        settings.isGiven() ? StartCheckpoint.of(config).added(decoder.config()) : Set.of(),
        settings.needsParent()
            ? StartCheckpoint.of(config)
                .parentDecoder(computing.precisionOf(), computing.deviceOf())
            : null);
  }

  /// @param attempts that were made, which are recorded where they differ
  private RunManifest manifest(Corpus corpus, List<Attempt> attempts) {
    Map<String, Object> settings = new LinkedHashMap<>(config.settings());
    settings.put(DEVICE_USED, config.computing().deviceOf().toString());
    if (attempts.size() > 1) {
      settings.put(Attempt.ALL, attempts);
    }
    if (config.start().isGiven()) {
      settings.put(StartCheckpoint.CHECKSUM, StartCheckpoint.of(config).checksum());
    }
    return new RunManifest(
        origin.commit(),
        origin.commandLine(),
        settings,
        Map.of("seed", config.seed()),
        corpus.summary().dataFingerprint(),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }
}
