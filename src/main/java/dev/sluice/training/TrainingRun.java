package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.BatchReader;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.Documents;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.decoder.ActivationMemory;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.distributed.Replicas;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.files.Failures;
import dev.sluice.files.WholeFile;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.optimizer.AdamW;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

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

    default void evaluated(int step, HeldOutLoss heldOut) {}

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

  private static final String TOKENIZER = "tokenizer.json";

  /// What the guard did, a JSON object a line, in a run directory.
  public static final String EVENTS = "events.jsonl";

  private static final JsonMapper JSON =
      JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

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
    this.checkpoints = directory.resolve("checkpoints");
  }

  /// The tokenizer of a run. One that was begun keeps the end token that its corpus was made with,
  /// unless its settings name one, and has a copy of the tokenizer's files for when they are gone
  /// or the run is resumed from another directory.
  ///
  /// @param corpus the directory of the run's tokenized text
  public static Tokenizer tokenizer(RunConfig config, Path corpus, boolean begun) {
    if (!begun || !Files.exists(corpus.resolve("corpus.json"))) {
      return Tokenizers.load(config.tokenizer(), config.eosToken());
    }
    String from =
        Files.exists(Path.of(config.tokenizer())) ? config.tokenizer() : copy(config, corpus);
    return config.eosToken().isEmpty()
        ? Tokenizers.restore(from, Corpus.open(corpus).summary().tokenizerFingerprint())
        : Tokenizers.load(from, config.eosToken());
  }

  /// Beside the corpus, or where an older run has it: in its checkpoints.
  private static String copy(RunConfig config, Path corpus) {
    if (Files.exists(corpus.resolve(TOKENIZER))) {
      return corpus.toString();
    }
    return CheckpointDirectory.latest(corpus.resolveSibling("checkpoints"))
        .filter(checkpoint -> Files.exists(checkpoint.resolve(TOKENIZER)))
        .map(Path::toString)
        .orElse(config.tokenizer());
  }

  /// Tokenizes the run's text into `directory`, or reuses what is there.
  ///
  /// @param fixed whether a corpus that is there belongs to a run: it is then opened and never
  ///   written again, also when the text is gone, and a changed text or tokenizer is refused
  /// @param notes hears, in sentences, what the user should know of the texts
  public static Corpus prepareCorpus(
      RunConfig config,
      Tokenizer tokenizer,
      Path directory,
      boolean fixed,
      Consumer<String> notes) {
    boolean bundled = config.data().equals("moby-dick") && !Files.exists(Path.of("moby-dick"));
    if (fixed && Files.exists(directory.resolve("corpus.json"))) {
      var corpus = Corpus.open(directory);
      corpus.verify();
      var summary = corpus.summary();
      if (bundled || Files.exists(Path.of(config.data()))) {
        var documents = documents(config, bundled);
        if (!documents.fingerprint().equals(summary.dataFingerprint())) {
          throw changed("data", summary.differences(documents), directory);
        }
      }
      if (!tokenizer.fingerprint().equals(summary.tokenizerFingerprint())) {
        throw changed(
            "tokenizer", summary.tokenizer() + ", now " + tokenizer.describe(), directory);
      }
      corpus.tell(notes);
      return corpus;
    }
    var corpus =
        Corpus.prepare(
            documents(config, bundled), tokenizer, config.heldOutShare(), directory, notes);
    try {
      tokenizer.write(directory);
    } catch (IOException e) {
      throw new InvalidInputException(
          "%s; choose another --output".formatted(Failures.words(e)), e);
    }
    return corpus;
  }

  private static Documents documents(RunConfig config, boolean bundled) {
    return bundled
        ? Documents.mobyDick()
        : Documents.at(Path.of(config.data()), config.textField());
  }

  private static InvalidInputException changed(String what, String difference, Path directory) {
    return new InvalidInputException(
        "the %s changed since %s was prepared (%s); restore it or choose another --output"
            .formatted(what, directory, difference));
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

  /// Refuses what cannot be trained, before anything is written: a gate, shape, schedule, precision
  /// or device that is not known or not there, a tokenizer without a token that ends documents, a
  /// model or batch that this machine cannot hold, and a last sample that would not fit.
  ///
  /// @param ranks that share the batch
  public static void requireTrainable(RunConfig config, Tokenizer tokenizer, int ranks) {
    var shape = config.decoder(vocabulary(config, tokenizer));
    var _ = config.scheduleOf();
    var _ = tokenizer.endOfText(); // a corpus needs it
    if (Device.parse(config.device()).equals(Device.CPU)) {
      requireMemory(config, shape, ranks);
    }
    int longest = shape.maxPositionEmbeddings();
    long sample = (long) prompt(config, tokenizer).length + config.sampleTokens();
    if (config.sampleTokens() > 0 && sample > longest) {
      throw new InvalidInputException(
          "sample_prompt and sample_tokens come to %d tokens, more than the model's context of %d; ask for fewer"
              .formatted(sample, longest));
    }
  }

  /// A system that promises more memory than it has ends the process when that is used, without a
  /// word; so what is needed in any case is counted before.
  private static void requireMemory(RunConfig config, DecoderConfig shape, int ranks) {
    // weights and gradients, and the moments where no other rank has a share of them
    double model = shape.parameterCount() * (ranks == 1 || config.zero() == 0 ? 16.0 : 8.0);
    double activations =
        ActivationMemory.bytesPerToken(shape, config.precisionOf().elementType())
            * config.sequenceLength()
            * Math.ceilDiv(config.batchSize(), ranks);
    double there = RunManifest.Machine.current().memoryBytes();
    if (model + activations > there) {
      throw new InvalidInputException(
          String.format(
              Locale.ROOT,
              "training takes at least %.3g GB (model %.3g GB, activations %.3g GB) and this"
                  + " machine has %.3g GB; make the model, batch_size or sequence_length smaller,"
                  + " as ./sluice plan counts",
              (model + activations) / 1e9,
              model / 1e9,
              activations / 1e9,
              there / 1e9));
    }
  }

  /// Trains from the start, in a directory that holds no run.
  public Outcome start(Corpus corpus, Tokenizer tokenizer) throws IOException {
    requireTrainable(config, tokenizer, replicas.size());
    var inputs = inputs(corpus, tokenizer);
    try (var _ = own()) {
      config.notes().forEach(listener::noted);
      if (replicas.isFirst()) {
        requireNew(directory);
        Files.createDirectories(checkpoints);
        manifest(corpus).write(directory.resolve(RunManifest.FILE_NAME));
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
    requireTrainable(config, tokenizer, replicas.size());
    try (var _ = own()) {
      config.notes().forEach(listener::noted);
      if (replicas.isFirst()) {
        var there = new RunCheckpoints(config, directory);
        Path from = there.toResume(name);
        if (from != null) {
          there.requireSameRun(from, corpus, tokenizer, vocabulary(config, tokenizer), listener);
          there.setAsideAfter(from);
        } else {
          listener.noted(there.beginsAgain());
        }
        takeUpSettings(from, corpus);
      }
      replicas.barrier(); // now the newest is the one
      Path from = CheckpointDirectory.latest(checkpoints).orElse(null);
      return run(inputs(corpus, tokenizer), from, true);
    }
  }

  /// Lets `config.toml` and the manifest say what runs from now on, and tells what another number
  /// of steps does to the learning rate.
  private void takeUpSettings(@Nullable Path from, Corpus corpus) throws IOException {
    var before = RunConfig.from(directory.resolve(RunConfig.FILE), Map.of());
    if (before.equals(config)) {
      return;
    }
    if (from != null && before.steps() != config.steps()) {
      int done = TrainingCheckpoint.state(from).step();
      listener.noted(
          "The schedule is that of %d steps now: the learning rate was %.3g at step %d and is %.3g at step %d."
              .formatted(
                  config.steps(),
                  before.learningRateAt(done),
                  done,
                  config.learningRateAt(done + 1),
                  done + 1));
    }
    manifest(corpus).write(directory.resolve(RunManifest.FILE_NAME));
    config.write(directory);
  }

  /// Trains from a checkpoint, or from new weights, and goes back as often as the guard wants.
  ///
  /// @param from the checkpoint, or null
  /// @param again whether the directory may hold what an earlier attempt recorded
  private Outcome run(Inputs inputs, @Nullable Path from, boolean again) throws IOException {
    var state = state(from, inputs);
    while (true) {
      try (var decoder = decoder(from, inputs);
          var trainer = trainer(decoder)) {
        if (from != null) {
          TrainingCheckpoint.readMoments(
              from, trainer.optimizer(), decoder.parameters().all().size());
        }
        trainer.goOnAfter(state.step() - state.guard().skips());
        var attempt = new Attempt(inputs, decoder, trainer, state);
        var outcome = attempt.train(again);
        if (outcome != null) {
          return outcome;
        }
        if (replicas.isFirst()) {
          new RunCheckpoints(config, directory).setAsideAfterLastGood();
        }
        replicas.barrier();
        from = CheckpointDirectory.latest(checkpoints).orElse(null);
        var good = state(from, inputs);
        var guard = attempt.guard.rolledBack(attempt.number, good.step(), good.guard());
        state =
            new TrainingCheckpoint.State(
                good.step(), good.dataFingerprint(), good.heldOutLoss(), guard);
        again = true;
        listener.guarded(
            attempt.number,
            "going back to step %d; the batches since are passed over".formatted(good.step()));
      }
    }
  }

  private static TrainingCheckpoint.State state(@Nullable Path checkpoint, Inputs inputs) {
    return checkpoint != null
        ? TrainingCheckpoint.state(checkpoint)
        : new TrainingCheckpoint.State(
            0, inputs.corpus().summary().dataFingerprint(), null, SpikeGuard.State.NEW);
  }

  private Decoder decoder(@Nullable Path checkpoint, Inputs inputs) {
    var device = Device.parse(config.device());
    return checkpoint != null
        ? ModelDirectory.load(checkpoint, config.precisionOf(), device, true)
        : Decoder.initialize(
            config.decoder(vocabulary(config, inputs.tokenizer())),
            config.precisionOf(),
            device,
            config.seed());
  }

  /// What a run reads.
  ///
  /// @param sinkWindow held-out tokens to watch the model's attention on
  private record Inputs(
      Corpus corpus,
      Tokenizer tokenizer,
      BatchReader batches,
      HeldOutReader.Sample heldOut,
      long[] sinkWindow) {}

  private Inputs inputs(Corpus corpus, Tokenizer tokenizer) {
    return new Inputs(
        corpus,
        tokenizer,
        new BatchReader(corpus.train(), config.batchSize(), config.sequenceLength(), config.seed()),
        new HeldOutReader(corpus.heldOut(), config.sequenceLength(), tokenizer)
            .sample(config.heldOutWindows()),
        SinkReport.windows(corpus.heldOut(), config.sequenceLength(), tokenizer, 1).getFirst());
  }

  private static int vocabulary(RunConfig config, Tokenizer tokenizer) {
    int needed = tokenizer.vocabularySize();
    if (config.vocabSize() == 0) {
      return needed;
    }
    if (config.vocabSize() < needed) {
      throw new InvalidInputException(
          "the tokenizer has "
              + needed
              + " tokens but vocab_size is "
              + config.vocabSize()
              + "; raise vocab_size or choose another tokenizer");
    }
    return config.vocabSize();
  }

  /// Tests make one that injects faults.
  Trainer trainer(Decoder decoder) {
    return new Trainer(
        decoder,
        new AdamW.Settings(config.beta1(), config.beta2(), config.epsilon(), config.weightDecay()),
        config.scheduleOf(),
        config.learningRate(),
        config.clipNorm(),
        new GradientExchange(replicas, decoder.parameters(), config.zero()));
  }

  private RunManifest manifest(Corpus corpus) {
    return new RunManifest(
        origin.commit(),
        origin.commandLine(),
        config.settings(),
        Map.of("seed", config.seed()),
        corpus.summary().dataFingerprint(),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }

  // ---------------------------------------------------------------- the loop

  /// Steps from one state on, until the run ends or goes back.
  private final class Attempt {
    private final Inputs inputs;
    private final Decoder decoder;
    private final Trainer trainer;
    private final SpikeGuard guard;
    private final int begin;
    private final CheckpointSaver saver = new CheckpointSaver();
    private final boolean first = replicas.isFirst();
    private int number;
    private @Nullable HeldOutLoss heldOut;

    Attempt(Inputs inputs, Decoder decoder, Trainer trainer, TrainingCheckpoint.State state) {
      this.inputs = inputs;
      this.decoder = decoder;
      this.trainer = trainer;
      this.guard = new SpikeGuard(config.spikeGuard(), state.guard());
      this.begin = state.step();
      this.number = begin;
    }

    /// Null when the run is to go back.
    @Nullable Outcome train(boolean again) throws IOException {
      listener.prepared(inputs.corpus(), decoder, begin);
      listener.shared(trainer.exchange());
      writeEvents();
      Ending ending = Ending.COMPLETE;
      @Nullable Path failure = null;
      try (var recorder = first ? RunRecorder.open(directory, begin, again) : RunRecorder.none();
          saver) { // closed first: it waits for what is being written
        replicas.barrier();
        var divergence = divergence(begin);
        while (number < config.steps()) {
          long began = System.nanoTime();
          long batch = nextBatch();
          var micro = microBatches(batch);
          var shares = micro.stream().map(this::share).toList();
          var verdict = new SpikeGuard.Verdict[1];
          Trainer.Step step;
          try {
            step =
                trainer.step(
                    number + 1,
                    shares,
                    config.batchSize() / replicas.size(),
                    config.sequenceLength(),
                    (loss, norm) -> {
                      verdict[0] = guard.judge(number + 1, loss, norm);
                      return verdict[0] == SpikeGuard.Verdict.ACCEPT;
                    });
          } catch (RuntimeException | Error e) {
            if (!Replicas.isLostContact(e)) {
              recordCrash(e, batch, micro);
            }
            throw e;
          }
          double seconds = (System.nanoTime() - began) / 1e9;
          if (verdict[0] != SpikeGuard.Verdict.ACCEPT) {
            writeEvents();
            var event = guard.state().events().getLast();
            listener.guarded(step.number(), event.cause());
            if (verdict[0] == SpikeGuard.Verdict.ROLL_BACK) {
              number++;
              report(recorder, saver.await());
              return null;
            }
            if (verdict[0] == SpikeGuard.Verdict.GIVE_UP) {
              recorder.givenUp(step);
              failure = recordFailure(statistics(step), batch, micro);
              ending = Ending.DIVERGED;
              break;
            }
          }
          number++;
          double rate = tokensPerStep() / seconds;
          recorder.step(step, rate, seconds);
          listener.stepped(step, rate);
          if (config.stopDiverged() && divergence.after(step.loss())) {
            failure = recordFailure(statistics(step), batch, micro);
            ending = Ending.DIVERGED;
            break;
          }

          boolean last = number == config.steps();
          // also when stopping, so that a stopped and resumed run records what an unbroken one does
          boolean evaluate = last || number % config.evaluateEvery() == 0;
          if (evaluate && first) {
            heldOut =
                HeldOutLoss.measure(decoder, inputs.heldOut().windows(), inputs.heldOut().bytes());
            recorder.evaluated(number, heldOut, sinks(decoder, inputs.sinkWindow()));
            listener.evaluated(number, heldOut);
          }
          // Asked for last: a step that is saved is recorded whole, with its evaluation.
          boolean stopping = replicas.any(stop.getAsBoolean()) && !last;
          report(recorder, saver.finished());
          if (last || stopping || number % config.saveEvery() == 0) {
            save(recorder, evaluate ? heldOut : null);
          }
          if (last || stopping) {
            var saved = saver.await();
            if (saved != null && saved.failure() != null) {
              throw saved.failure(); // nothing later makes up for it
            }
            report(recorder, saved);
            replicas.barrier();
          }
          if (first
              && config.sampleTokens() > 0
              && (last || (config.sampleEvery() > 0 && number % config.sampleEvery() == 0))) {
            listener.sampled(number, sample(decoder, inputs.tokenizer()));
          }
          if (stopping) {
            ending = Ending.STOPPED;
            break;
          }
        }
        report(recorder, saver.await());
      } catch (IOException e) {
        throw new IOException(
            "the run stopped after step %d: %s; mend that and go on with --resume %s"
                .formatted(number, e.getMessage() == null ? e : e.getMessage(), directory),
            e);
      }
      if (first && ending == Ending.COMPLETE && heldOut == null) { // every step was taken before
        heldOut =
            HeldOutLoss.measure(decoder, inputs.heldOut().windows(), inputs.heldOut().bytes());
      }
      return new Outcome(
          directory,
          ending,
          number,
          heldOut,
          first ? RunMetrics.timings(directory).median("tokens_per_second") : 0,
          CheckpointDirectory.latest(checkpoints).orElse(null),
          failure);
    }

    /// The index of the next step's first micro-batch.
    private long nextBatch() {
      return Math.multiplyExact(
          number + guard.state().batchesPassedOver(), (long) config.gradientAccumulation());
    }

    private List<long[]> microBatches(long first) {
      List<long[]> micro = new ArrayList<>();
      for (int i = 0; i < config.gradientAccumulation(); i++) {
        micro.add(inputs.batches().batch(first + i));
      }
      return micro;
    }

    /// This rank's rows.
    private long[] share(long[] batch) {
      return GradientExchange.share(batch, config.batchSize(), replicas.rank(), replicas.size());
    }

    /// Copies the state and lets it be written while training goes on.
    private void save(RunRecorder recorder, @Nullable HeldOutLoss heldOut) throws IOException {
      long began = System.nanoTime();
      report(recorder, saver.await());
      int step = number;
      Path checkpoint = checkpoints.resolve(CheckpointDirectory.name(step));
      var snapshot = snapshot(heldOut);
      if (snapshot == null) {
        return;
      }
      double pause = (System.nanoTime() - began) / 1e9;
      saver.begin(
          step,
          checkpoint,
          pause,
          () -> {
            try (snapshot) {
              recorder.sync(); // what came before a checkpoint is not written again
              CheckpointDirectory.removeIncomplete(checkpoint);
              if (!CheckpointDirectory.complete(checkpoints).contains(checkpoint)) {
                snapshot.save(
                    checkpoint, directory.resolve(RunManifest.FILE_NAME), inputs.tokenizer());
              }
              new Retention(
                      config.keepCheckpoints(),
                      config.keepEvery(),
                      config.keepBest(),
                      config.saveEvery())
                  .apply(checkpoints);
            }
          });
    }

    /// Everything, from all ranks, on the first; null on others.
    private TrainingCheckpoint.@Nullable Snapshot snapshot(@Nullable HeldOutLoss heldOut) {
      try (var _ = Scope.withoutGradient()) {
        var exchange = trainer.exchange();
        var firstMoments = exchange.gathered(trainer.optimizer().firstMoments());
        var secondMoments = exchange.gathered(trainer.optimizer().secondMoments());
        return first
            ? new TrainingCheckpoint.Snapshot(
                decoder,
                firstMoments,
                secondMoments,
                new TrainingCheckpoint.State(
                    number,
                    inputs.corpus().summary().dataFingerprint(),
                    heldOut == null ? null : heldOut.nats(),
                    guard.state()))
            : null;
      }
    }

    /// Tells what became of a save, if one has ended.
    private void report(RunRecorder recorder, CheckpointSaver.@Nullable Saved saved)
        throws IOException {
      if (saved == null) {
        return;
      }
      if (saved.failure() != null) {
        listener.notSaved(saved.step(), saved.failure());
        return;
      }
      recorder.saved(saved);
      listener.saved(saved.step(), saved.checkpoint(), saved.pauseSeconds());
    }

    private void writeEvents() throws IOException {
      Path file = directory.resolve(EVENTS);
      var events = guard.state().events();
      if (!first || (events.isEmpty() && Files.notExists(file))) {
        return;
      }
      var lines = new StringBuilder();
      events.forEach(event -> lines.append(JSON.writeValueAsString(event)).append('\n'));
      WholeFile.write(file, lines.toString());
    }

    private FailureRecord.Statistics statistics(Trainer.Step step) {
      return new FailureRecord.Statistics(
          step.number(),
          fromStep(),
          step.loss(),
          step.gradientNorm(),
          step.notFinite(),
          guard.state(),
          null);
    }

    private int fromStep() {
      return CheckpointDirectory.latest(checkpoints)
          .map(checkpoint -> (int) CheckpointDirectory.step(checkpoint).orElseThrow())
          .orElse(0);
    }

    private Path recordFailure(FailureRecord.Statistics statistics, long batch, List<long[]> micro)
        throws IOException {
      return FailureRecord.write(
          directory, statistics, batch, micro, config.sequenceLength(), inputs.tokenizer());
    }

    /// Leaves what is known of a step that failed; nothing may hide why it did.
    private void recordCrash(Throwable e, long batch, List<long[]> micro) {
      try {
        var statistics =
            new FailureRecord.Statistics(
                number + 1, fromStep(), null, null, List.of(), guard.state(), e.toString());
        var _ = recordFailure(statistics, batch, micro);
      } catch (IOException | RuntimeException | Error recording) {
        e.addSuppressed(recording);
      }
    }
  }

  /// What the steps before these showed.
  private Divergence divergence(int done) {
    var divergence = new Divergence();
    if (done > 0 && config.stopDiverged()) {
      for (double loss : RunMetrics.read(directory).curve("loss").values()) {
        var _ = divergence.after(loss);
      }
    }
    return divergence;
  }

  private double tokensPerStep() {
    return (double) config.batchSize() * config.sequenceLength() * config.gradientAccumulation();
  }

  /// What [SinkReport] measures on one window; nothing where activations are not finite, since that
  /// run diverges and its loss says so, or where the window is too short to measure on.
  private static Map<String, Double> sinks(Decoder decoder, long[] window) {
    try {
      return SinkReport.measure(decoder, List.of(window)).scalars();
    } catch (InvalidInputException _) {
      return Map.of();
    }
  }

  private String sample(Decoder decoder, Tokenizer tokenizer) {
    var sampler = new Sampler(0.8, 0, 0.95, config.seed());
    var continued =
        new Generator(decoder)
            .generate(prompt(config, tokenizer), sampler, config.sampleTokens(), Set.of())
            .ids();
    return config.samplePrompt() + tokenizer.decode(continued);
  }

  /// What samples continue; a text begins after the token that ends one.
  private static int[] prompt(RunConfig config, Tokenizer tokenizer) {
    int[] prompt = tokenizer.encode(config.samplePrompt());
    return prompt.length > 0 ? prompt : new int[] {tokenizer.endOfText()};
  }
}
