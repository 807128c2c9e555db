package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.BatchReader;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.Documents;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.decoder.Decoder;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.optimizer.AdamW;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.InstantSource;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/// A training run in a directory: `config.toml`, `manifest.json`, `metrics.jsonl`, `timings.jsonl`,
/// TensorBoard events and `checkpoints/`.
///
/// Batches are a pure function of the step and weights are saved with the optimizer's state, so a
/// run that was stopped goes on where it was.
public final class TrainingRun {
  /// Hears of a run's progress, on its thread.
  public interface Listener {
    default void prepared(Corpus corpus, Decoder decoder, int firstStep) {}

    default void stepped(Trainer.Step step, double tokensPerSecond) {}

    default void evaluated(int step, HeldOutLoss heldOut) {}

    default void sampled(int step, String text) {}

    default void saved(int step, Path checkpoint) {}
  }

  /// How a run ended.
  public enum Ending {
    COMPLETE,
    /// Asked to stop; resuming goes on.
    STOPPED,
    /// A loss or gradient was not finite, or the loss stayed above where it began.
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
  public record Outcome(
      Path directory,
      Ending ending,
      int steps,
      @Nullable HeldOutLoss heldOut,
      double tokensPerSecond,
      @Nullable Path checkpoint) {}

  /// Who started the run, for its manifest.
  public record Origin(String commit, List<String> commandLine) {}

  private final RunConfig config;
  private final Path directory;
  private final Origin origin;
  private final Listener listener;
  private final BooleanSupplier stop;
  private final Path checkpoints;

  /// Prepares a run.
  ///
  /// @param stop asked after every step
  public TrainingRun(
      RunConfig config, Path directory, Origin origin, Listener listener, BooleanSupplier stop) {
    this.config = config;
    this.directory = directory;
    this.origin = origin;
    this.listener = listener;
    this.stop = stop;
    this.checkpoints = directory.resolve("checkpoints");
  }

  /// Tokenizes the run's text into `directory`, or reuses what is there.
  ///
  /// @param fixed whether a corpus that is there belongs to a run: it is then opened and never
  ///   written again, also when the text is gone, and a changed text or tokenizer is refused
  public static Corpus prepareCorpus(
      RunConfig config, Tokenizer tokenizer, Path directory, boolean fixed) {
    boolean bundled = config.data().equals("moby-dick") && !Files.exists(Path.of("moby-dick"));
    if (fixed && Files.exists(directory.resolve("corpus.json"))) {
      var corpus = Corpus.open(directory);
      if (bundled || Files.exists(Path.of(config.data()))) {
        requireSame(
            "data",
            corpus.summary().dataFingerprint(),
            documents(config, bundled).fingerprint(),
            directory);
      }
      requireSame(
          "tokenizer", corpus.summary().tokenizerFingerprint(), tokenizer.fingerprint(), directory);
      return corpus;
    }
    return Corpus.prepare(documents(config, bundled), tokenizer, config.heldOutShare(), directory);
  }

  private static Documents documents(RunConfig config, boolean bundled) {
    return bundled
        ? Documents.mobyDick()
        : Documents.at(Path.of(config.data()), config.textField());
  }

  private static void requireSame(String what, String before, String now, Path directory) {
    if (!before.equals(now)) {
      throw new InvalidInputException(
          "the %s changed since %s was prepared (fingerprint %s, now %s); restore it or choose another --output"
              .formatted(what, directory, before, now));
    }
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
  /// or device that is not known or not there, and a last sample that would not fit.
  public static void requireTrainable(RunConfig config, Tokenizer tokenizer) {
    var shape = config.decoder(vocabulary(config, tokenizer));
    var _ = config.precisionOf();
    var _ = config.scheduleOf();
    var _ = Device.parse(config.device());
    int longest = shape.maxPositionEmbeddings();
    long sample = (long) prompt(config, tokenizer).length + config.sampleTokens();
    if (config.sampleTokens() > 0 && sample > longest) {
      throw new InvalidInputException(
          "sample_prompt and sample_tokens come to %d tokens, more than the model's context of %d; ask for fewer"
              .formatted(sample, longest));
    }
  }

  /// Trains from the start, in a directory that holds no run.
  public Outcome start(Corpus corpus, Tokenizer tokenizer) throws IOException {
    requireNew(directory);
    requireTrainable(config, tokenizer);
    var inputs = inputs(corpus, tokenizer);
    Files.createDirectories(checkpoints);
    manifest(corpus).write(directory.resolve(RunManifest.FILE_NAME));
    config.write(directory); // last: a directory that has it is a run
    return fromScratch(corpus, tokenizer, inputs, false);
  }

  /// Goes on from the newest complete checkpoint, or from the start when there is none.
  public Outcome resume(Corpus corpus, Tokenizer tokenizer) throws IOException {
    requireTrainable(config, tokenizer);
    CheckpointDirectory.cleanPartials(checkpoints);
    var latest = CheckpointDirectory.latest(checkpoints);
    if (latest.isEmpty()) {
      return fromScratch(corpus, tokenizer, inputs(corpus, tokenizer), true);
    }
    Path checkpoint = latest.get();
    CheckpointDirectory.verify(checkpoint);
    var state = TrainingCheckpoint.state(checkpoint);
    String fingerprint = corpus.summary().dataFingerprint();
    if (!state.dataFingerprint().equals(fingerprint)) {
      throw new InvalidInputException(
          "the data changed since "
              + checkpoint
              + " was saved (fingerprint "
              + state.dataFingerprint()
              + ", now "
              + fingerprint
              + "); restore the data or start a new run");
    }
    requireTokenizer(checkpoint, tokenizer);
    var device = Device.parse(config.device());
    try (var decoder = ModelDirectory.load(checkpoint, config.precisionOf(), device, true);
        var trainer = trainer(decoder)) {
      TrainingCheckpoint.readMoments(checkpoint, trainer.optimizer());
      return train(
          corpus, tokenizer, inputs(corpus, tokenizer), decoder, trainer, state.step(), true);
    }
  }

  /// A checkpoint has its tokenizer beside it, unless that is bytes.
  private static void requireTokenizer(Path checkpoint, Tokenizer tokenizer) {
    boolean ofFile = Files.isRegularFile(checkpoint.resolve("tokenizer.json"));
    var saved = Tokenizers.load(ofFile ? checkpoint.toString() : "bytes");
    if (!saved.fingerprint().equals(tokenizer.fingerprint())) {
      throw new InvalidInputException(
          "the tokenizer changed since %s was saved (%s, now %s); restore it or start a new run"
              .formatted(checkpoint, saved.describe(), tokenizer.describe()));
    }
  }

  /// @param again whether the directory may hold what an earlier attempt recorded
  private Outcome fromScratch(Corpus corpus, Tokenizer tokenizer, Inputs inputs, boolean again)
      throws IOException {
    var device = Device.parse(config.device());
    var shape = config.decoder(vocabulary(config, tokenizer));
    try (var decoder = Decoder.initialize(shape, config.precisionOf(), device, config.seed());
        var trainer = trainer(decoder)) {
      return train(corpus, tokenizer, inputs, decoder, trainer, 0, again);
    }
  }

  /// What a run reads.
  ///
  /// @param sinkWindow held-out tokens to watch the model's attention on
  private record Inputs(BatchReader batches, HeldOutReader.Sample heldOut, long[] sinkWindow) {}

  private Inputs inputs(Corpus corpus, Tokenizer tokenizer) {
    return new Inputs(
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

  private Trainer trainer(Decoder decoder) {
    return new Trainer(
        decoder,
        new AdamW.Settings(config.beta1(), config.beta2(), config.epsilon(), config.weightDecay()),
        config.scheduleOf(),
        config.learningRate(),
        config.clipNorm());
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

  private Outcome train(
      Corpus corpus,
      Tokenizer tokenizer,
      Inputs inputs,
      Decoder decoder,
      Trainer trainer,
      int done,
      boolean again)
      throws IOException {
    listener.prepared(corpus, decoder, done);
    @Nullable HeldOutLoss heldOut = null;
    Ending ending = Ending.COMPLETE;
    int number = done;
    try (var metrics =
            again ? MetricsWriter.resume(directory, done) : MetricsWriter.start(directory);
        var board =
            again
                ? TensorBoardWriter.resume(directory, done, InstantSource.system())
                : TensorBoardWriter.start(directory, InstantSource.system())) {
      var divergence = divergence(done);
      while (number < config.steps()) {
        long began = System.nanoTime();
        var step =
            trainer.step(
                number + 1,
                microBatches(inputs.batches(), number),
                config.batchSize(),
                config.sequenceLength());
        double seconds = (System.nanoTime() - began) / 1e9;
        if (!step.isFinite()) {
          metrics.metrics(
              number + 1, Map.of("loss", step.loss(), "gradient_norm", step.gradientNorm()));
          ending = Ending.DIVERGED;
          break;
        }
        number++;
        double rate = tokensPerStep() / seconds;
        record(metrics, board, step, rate, seconds);
        listener.stepped(step, rate);
        if (config.stopDiverged() && divergence.after(step.loss())) {
          ending = Ending.DIVERGED;
          break;
        }

        boolean last = number == config.steps();
        // also when stopping, so that a stopped and resumed run records what an unbroken one does
        if (last || number % config.evaluateEvery() == 0) {
          heldOut =
              HeldOutLoss.measure(decoder, inputs.heldOut().windows(), inputs.heldOut().bytes());
          record(metrics, board, number, heldOut, sinks(decoder, inputs.sinkWindow()));
          listener.evaluated(number, heldOut);
        }
        // Asked for last: a step that is saved is recorded whole, with its evaluation.
        boolean stopping = !last && stop.getAsBoolean();
        if (last || stopping || number % config.saveEvery() == 0) {
          metrics.sync();
          save(corpus, decoder, trainer, number);
        }
        if (config.sampleTokens() > 0
            && (last || (config.sampleEvery() > 0 && number % config.sampleEvery() == 0))) {
          listener.sampled(number, sample(decoder, tokenizer));
        }
        if (stopping) {
          ending = Ending.STOPPED;
          break;
        }
      }
    } catch (IOException e) {
      throw new IOException(
          "the run stopped after step %d: %s; mend that and go on with --resume %s"
              .formatted(number, e.getMessage() == null ? e : e.getMessage(), directory),
          e);
    }
    if (ending == Ending.COMPLETE && heldOut == null) { // every step was taken before
      heldOut = HeldOutLoss.measure(decoder, inputs.heldOut().windows(), inputs.heldOut().bytes());
    }
    return new Outcome(
        directory,
        ending,
        number,
        heldOut,
        RunMetrics.timings(directory).median("tokens_per_second"),
        CheckpointDirectory.latest(checkpoints).orElse(null));
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

  private List<long[]> microBatches(BatchReader batches, int stepsDone) {
    List<long[]> micro = new ArrayList<>();
    for (int i = 0; i < config.gradientAccumulation(); i++) {
      micro.add(batches.batch((long) stepsDone * config.gradientAccumulation() + i));
    }
    return micro;
  }

  private double tokensPerStep() {
    return (double) config.batchSize() * config.sequenceLength() * config.gradientAccumulation();
  }

  private static void record(
      MetricsWriter metrics,
      TensorBoardWriter board,
      Trainer.Step step,
      double rate,
      double seconds)
      throws IOException {
    metrics.metrics(
        step.number(),
        Map.of(
            "loss", step.loss(),
            "gradient_norm", step.gradientNorm(),
            "learning_rate", step.learningRate()));
    metrics.timings(
        step.number(),
        Map.of(
            "tokens_per_second", rate,
            "seconds", seconds,
            "resident_bytes", ResidentMemory.now()));
    board.scalar("train/loss", step.number(), step.loss());
    board.scalar("train/gradient_norm", step.number(), step.gradientNorm());
    board.scalar("train/learning_rate", step.number(), step.learningRate());
  }

  private static void record(
      MetricsWriter metrics,
      TensorBoardWriter board,
      int step,
      HeldOutLoss heldOut,
      Map<String, Double> sinks)
      throws IOException {
    var measured = new LinkedHashMap<String, Double>();
    measured.put("held_out_loss", heldOut.nats());
    measured.put("held_out_bits_per_byte", heldOut.bitsPerByte());
    measured.putAll(sinks);
    metrics.metrics(step, measured);
    board.scalar("held_out/bits_per_byte", step, heldOut.bitsPerByte());
    for (var sink : sinks.entrySet()) {
      board.scalar("sinks/" + sink.getKey(), step, sink.getValue());
    }
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

  private void save(Corpus corpus, Decoder decoder, Trainer trainer, int number)
      throws IOException {
    Path checkpoint = checkpoints.resolve(CheckpointDirectory.name(number));
    CheckpointDirectory.removeIncomplete(checkpoint);
    if (!Files.exists(checkpoint)) {
      TrainingCheckpoint.save(
          checkpoint,
          decoder,
          trainer.optimizer(),
          new TrainingCheckpoint.State(number, corpus.summary().dataFingerprint()),
          directory.resolve(RunManifest.FILE_NAME),
          Tokenizers.file(config.tokenizer()));
    }
    CheckpointDirectory.keepNewest(checkpoints, config.keepCheckpoints());
    listener.saved(number, checkpoint);
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
