package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.decoder.Decoder;
import dev.sluice.distributed.GradientExchange;
import dev.sluice.distributed.Replicas;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.provenance.RunManifest;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Scope;
import dev.sluice.training.SpikeGuard.Verdict;
import dev.sluice.training.TrainingRun.Ending;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/// Steps of a [TrainingRun] from one state on, until the run ends or goes back.
final class TrainingAttempt {
  /// A step, and what it was made of.
  ///
  /// @param verdict of the guard
  /// @param batch index of its first micro-batch
  /// @param seconds it took
  private record Taken(
      Trainer.Step step, Verdict verdict, long batch, List<long[]> microBatches, double seconds) {}

  private final RunConfig config;
  private final Path directory;
  private final TrainingRun.Listener listener;
  private final BooleanSupplier stop;
  private final Replicas replicas;
  private final boolean first;
  private final RunInputs inputs;
  private final Decoder decoder;
  private final Trainer trainer;
  private final SpikeGuard guard;
  private final StepJournal journal;
  private final Divergence divergence;
  private final CheckpointSaver saver = new CheckpointSaver();
  private int number;
  private @Nullable Batches ahead;
  private @Nullable HeldOutLoss heldOut;
  private @Nullable Path failure;

  TrainingAttempt(
      RunConfig config,
      Path directory,
      TrainingRun.Listener listener,
      BooleanSupplier stop,
      Replicas replicas,
      RunInputs inputs,
      Decoder decoder,
      Trainer trainer,
      TrainingCheckpoint.State state) {
    this.config = config;
    this.directory = directory;
    this.listener = listener;
    this.stop = stop;
    this.replicas = replicas;
    this.first = replicas.isFirst();
    this.inputs = inputs;
    this.decoder = decoder;
    this.trainer = trainer;
    this.guard = new SpikeGuard(config.guard().spikeGuard(), state.guard());
    this.journal =
        new StepJournal(directory, config.batch().sequenceLength(), inputs.tokenizer(), guard);
    this.divergence =
        new Divergence(config.start().isGiven() ? Math.log(decoder.config().vocabSize()) : 0);
    this.number = state.step();
  }

  /// Null when the run is to go back.
  ///
  /// @param again whether the directory may hold what an earlier attempt recorded
  TrainingRun.@Nullable Outcome train(boolean again) throws IOException {
    listener.prepared(inputs.corpus(), decoder, number);
    listener.shared(trainer.exchange());
    inputs.unread().ifPresent(listener::noted);
    inputs.fewerWindows(config).ifPresent(listener::noted);
    writeEvents();
    Ending ending;
    try (var recorder = first ? RunRecorder.open(directory, number, again) : RunRecorder.none();
        saver) { // closed first: it waits for what is being written
      replicas.barrier();
      recallLosses();
      ending = steps(recorder);
      report(recorder, saver.await());
    } catch (IOException e) {
      throw new IOException(
          "the run stopped after step %d: %s; mend that and go on with --resume %s"
              .formatted(number, e.getMessage() == null ? e : e.getMessage(), directory),
          e);
    }
    return ending == null ? null : outcome(ending);
  }

  /// Null when the run is to go back.
  private @Nullable Ending steps(RunRecorder recorder) throws IOException {
    while (number < config.optimization().steps()) {
      var taken = step();
      if (taken.verdict != Verdict.ACCEPT) {
        writeEvents();
        listener.guarded(taken.step.number(), guard.state().events().getLast().cause());
      }
      if (taken.verdict == Verdict.GIVE_UP) {
        recorder.givenUp(taken.step);
        return diverged(taken);
      }
      number++;
      if (taken.verdict == Verdict.ROLL_BACK) {
        return null;
      }
      record(recorder, taken);
      if (config.guard().stopDiverged() && divergence.after(taken.step.loss())) {
        return diverged(taken);
      }
      boolean last = number == config.optimization().steps();
      // also when stopping, so that a stopped and resumed run records what an unbroken one does
      boolean evaluated = last || config.evaluation().isDue(number);
      if (evaluated) {
        evaluate(recorder);
      }
      // Asked for last: a step that is saved is recorded whole, with its evaluation.
      boolean stopping = replicas.any(stop.getAsBoolean()) && !last;
      report(recorder, saver.finished());
      if (last || stopping || config.checkpoints().isDue(number)) {
        save(recorder, evaluated ? heldOut : null);
      }
      if (last || stopping) {
        settle(recorder);
      }
      if (first && config.samples().isDue(number, last)) {
        listener.sampled(
            number,
            config
                .samples()
                .sample(decoder, inputs.tokenizer(), config.batch().windowRule(), config.seed()));
      }
      if (stopping) {
        return Ending.STOPPED;
      }
    }
    return Ending.COMPLETE;
  }

  // ---------------------------------------------------------------- one step

  private Taken step() {
    var sizes = config.batch();
    long began = System.nanoTime();
    var batches = batches(number);
    var verdict = new Verdict[] {Verdict.ACCEPT};
    try {
      var step =
          trainer.step(
              number + 1,
              batches.ofRank,
              sizes.batchSize() / replicas.size(),
              sizes.sequenceLength(),
              (loss, norm) -> {
                verdict[0] = guard.judge(number + 1, loss, norm);
                return verdict[0] == Verdict.ACCEPT;
              },
              this::readAhead);
      double seconds = (System.nanoTime() - began) / 1e9;
      return new Taken(step, verdict[0], batches.first, batches.all, seconds);
    } catch (RuntimeException | Error e) {
      if (!Replicas.isLostContact(e)) {
        journal.crashed(e, number + 1, batches.first, batches.all);
      }
      throw e;
    }
  }

  /// What a step is made of.
  ///
  /// @param first index of its first micro-batch
  /// @param ofRank of each micro-batch the rows that are this rank's
  private record Batches(long first, List<long[]> all, List<long[]> ofRank) {}

  /// Those of the step after so many, which the guard may have moved since they were read ahead.
  private Batches batches(int steps) {
    int count = config.batch().gradientAccumulation();
    long first = Math.multiplyExact(steps + guard.state().batchesPassedOver(), (long) count);
    var known = ahead;
    if (known != null && known.first == first) {
      return known;
    }
    var all = inputs.microBatches(first, count);
    return new Batches(first, all, all.stream().map(this::share).toList());
  }

  private List<long[]> readAhead() {
    if (number + 1 >= config.optimization().steps()) {
      return List.of();
    }
    var next = batches(number + 1);
    ahead = next;
    return next.ofRank;
  }

  /// This rank's rows.
  private long[] share(long[] batch) {
    return GradientExchange.share(
        batch, config.batch().batchSize(), replicas.rank(), replicas.size());
  }

  private void record(RunRecorder recorder, Taken taken) throws IOException {
    double rate = config.batch().tokens() / taken.seconds;
    recorder.step(taken.step, rate, taken.seconds);
    listener.stepped(taken.step, rate);
  }

  private Ending diverged(Taken taken) throws IOException {
    failure = journal.failed(taken.step, taken.batch, taken.microBatches);
    return Ending.DIVERGED;
  }

  private void writeEvents() throws IOException {
    if (first) {
      journal.writeEvents();
    }
  }

  /// What the steps before these showed.
  private void recallLosses() {
    if (number > 0 && config.guard().stopDiverged()) {
      for (double loss : RunMetrics.read(directory).curve("loss").values()) {
        var _ = divergence.after(loss);
      }
    }
  }

  // ---------------------------------------------------------------- measuring

  private void evaluate(RunRecorder recorder) throws IOException {
    if (first) {
      var loss = heldOutLoss();
      heldOut = loss;
      var sinks = sinks();
      var scalars = sinks.map(SinkReport::scalars).orElse(Map.of());
      recorder.evaluated(number, loss, scalars);
      if (sinks.isPresent()) {
        new NewestSinks(number, sinks.get()).write(directory);
      }
      listener.evaluated(number, loss, scalars);
    }
  }

  private HeldOutLoss heldOutLoss() {
    return HeldOutLoss.measure(
        decoder,
        inputs.heldOut().windows(),
        inputs.heldOut().bytes(),
        config.batch().separator(inputs.tokenizer()),
        trainer.view(number));
  }

  /// What [SinkReport] measures; nothing where activations are not finite, since that run diverges
  /// and its loss says so, or where the window is too short to measure on.
  private Optional<SinkReport> sinks() {
    try {
      var windows =
          SinkReport.byDocument(inputs.sinkWindows(), config.batch().separator(inputs.tokenizer()));
      return Optional.of(SinkReport.measure(decoder, windows, trainer.view(number)));
    } catch (InvalidInputException _) {
      return Optional.empty();
    }
  }

  private TrainingRun.Outcome outcome(Ending ending) {
    if (first && ending == Ending.COMPLETE && heldOut == null) { // every step was taken before
      heldOut = heldOutLoss();
    }
    return new TrainingRun.Outcome(
        directory,
        ending,
        number,
        heldOut,
        first ? RunMetrics.timings(directory).median("tokens_per_second") : 0,
        CheckpointDirectory.latest(checkpoints()).orElse(null),
        failure);
  }

  // ---------------------------------------------------------------- saving

  private Path checkpoints() {
    return directory.resolve(TrainingRun.CHECKPOINTS);
  }

  /// Lets the state be written, from a copy while training goes on, or while it waits.
  private void save(RunRecorder recorder, @Nullable HeldOutLoss loss) throws IOException {
    long began = System.nanoTime();
    report(recorder, saver.await());
    Path checkpoint = checkpoints().resolve(CheckpointDirectory.name(number));
    var snapshot = snapshot(loss);
    if (snapshot == null) {
      return;
    }
    double pause = (System.nanoTime() - began) / 1e9;
    saver.begin(
        number,
        checkpoint,
        pause,
        () -> {
          try (snapshot) {
            recorder.sync(); // what came before a checkpoint is not written again
            CheckpointDirectory.removeIncomplete(checkpoint);
            if (!CheckpointDirectory.complete(checkpoints()).contains(checkpoint)) {
              snapshot.save(
                  checkpoint, directory.resolve(RunManifest.FILE_NAME), inputs.tokenizer());
            }
            config.checkpoints().retention().apply(checkpoints());
          }
        });
    if (!config.checkpoints().saveWhileTraining()) {
      report(recorder, saver.await()); // the snapshot is of the weights themselves
    }
  }

  /// Everything, from all ranks, on the first; null on others.
  private TrainingCheckpoint.@Nullable Snapshot snapshot(@Nullable HeldOutLoss loss) {
    try (var _ = Scope.withoutGradient()) {
      var exchange = trainer.exchange();
      var optimizer = trainer.optimizer();
      var moving = Trainable.moving(config, decoder.config());
      var firstMoments = exchange.gathered(optimizer.firstMoments(), moving);
      var secondMoments =
          exchange.gathered(
              optimizer.secondMoments(),
              name ->
                  moving.test(name)
                      && optimizer.kind().moments(decoder.parameters().weight(name).spec()) > 1);
      return first
          ? new TrainingCheckpoint.Snapshot(
              decoder,
              firstMoments,
              secondMoments,
              new TrainingCheckpoint.State(
                  number,
                  inputs.dataFingerprint(),
                  loss == null ? null : loss.nats(),
                  guard.state()),
              config.checkpoints().saveWhileTraining())
          : null;
    }
  }

  /// Waits for the last save, on all ranks; nothing later makes up for one that failed.
  private void settle(RunRecorder recorder) throws IOException {
    var saved = saver.await();
    if (saved != null && saved.failure() != null) {
      throw saved.failure();
    }
    report(recorder, saved);
    replicas.barrier();
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

  // ---------------------------------------------------------------- going back

  /// The state of an earlier checkpoint, with the guard's memory of why the run went back to it.
  TrainingCheckpoint.State backTo(TrainingCheckpoint.State good) {
    listener.guarded(
        number, "going back to step %d; the batches since are passed over".formatted(good.step()));
    return new TrainingCheckpoint.State(
        good.step(),
        good.dataFingerprint(),
        good.heldOutLoss(),
        guard.rolledBack(number, good.step(), good.guard()));
  }
}
