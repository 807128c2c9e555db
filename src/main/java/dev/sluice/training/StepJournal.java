package dev.sluice.training;

import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.files.WholeFile;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

/// Leaves word of steps that were not as they should be: the guard's events, and a [FailureRecord]
/// of the step that ended the run.
final class StepJournal {
  private static final JsonMapper JSON =
      JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

  private final Path run;
  private final int sequenceLength;
  private final Tokenizer tokenizer;
  private final SpikeGuard guard;

  /// @param run the run's directory
  /// @param guard whose events are told
  StepJournal(Path run, int sequenceLength, Tokenizer tokenizer, SpikeGuard guard) {
    this.run = run;
    this.sequenceLength = sequenceLength;
    this.tokenizer = tokenizer;
    this.guard = guard;
  }

  /// Writes all of the guard's events; none make no file.
  void writeEvents() throws IOException {
    Path file = run.resolve(TrainingRun.EVENTS);
    var events = guard.state().events();
    if (events.isEmpty() && Files.notExists(file)) {
      return;
    }
    var lines = new StringBuilder();
    events.forEach(event -> lines.append(JSON.writeValueAsString(event)).append('\n'));
    WholeFile.write(file, lines.toString());
  }

  /// Records the step that ended the run.
  ///
  /// @param batch index of its first micro-batch
  Path failed(Trainer.Step step, long batch, List<long[]> microBatches) throws IOException {
    return record(
        step.number(),
        step.loss(),
        step.gradientNorm(),
        step.notFinite(),
        null,
        batch,
        microBatches);
  }

  /// Records a step in which the program failed; nothing may hide why it did.
  void crashed(Throwable e, int step, long batch, List<long[]> microBatches) {
    try {
      var _ = record(step, null, null, List.of(), e.toString(), batch, microBatches);
    } catch (IOException | RuntimeException | Error recording) {
      e.addSuppressed(recording);
    }
  }

  private Path record(
      int step,
      @Nullable Double loss,
      @Nullable Double gradientNorm,
      List<String> notFinite,
      @Nullable String error,
      long batch,
      List<long[]> microBatches)
      throws IOException {
    int from =
        CheckpointDirectory.latest(run.resolve(TrainingRun.CHECKPOINTS))
            .map(checkpoint -> (int) CheckpointDirectory.step(checkpoint).orElseThrow())
            .orElse(0);
    var statistics =
        new FailureRecord.Statistics(
            step, from, loss, gradientNorm, notFinite, guard.state(), error);
    return FailureRecord.write(run, statistics, batch, microBatches, sequenceLength, tokenizer);
  }
}
