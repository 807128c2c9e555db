package dev.sluice.training;

import dev.sluice.evaluation.HeldOutLoss;
import java.io.IOException;
import java.nio.file.Path;
import java.time.InstantSource;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Writes down what a run does: metrics, timings, TensorBoard events. On other ranks than the first
/// it writes nothing.
final class RunRecorder implements AutoCloseable {
  private final @Nullable MetricsWriter metrics;
  private final @Nullable TensorBoardWriter board;

  private RunRecorder(@Nullable MetricsWriter metrics, @Nullable TensorBoardWriter board) {
    this.metrics = metrics;
    this.board = board;
  }

  static RunRecorder none() {
    return new RunRecorder(null, null);
  }

  /// @param done steps after which it goes on
  /// @param again whether the directory may hold what an earlier attempt recorded
  static RunRecorder open(Path directory, int done, boolean again) throws IOException {
    NewestSinks.removeAfter(directory, done);
    var metrics = again ? MetricsWriter.resume(directory, done) : MetricsWriter.start(directory);
    try {
      return new RunRecorder(
          metrics,
          again
              ? TensorBoardWriter.resume(directory, done, InstantSource.system())
              : TensorBoardWriter.start(directory, InstantSource.system()));
    } catch (IOException | RuntimeException e) {
      metrics.close();
      throw e;
    }
  }

  void step(Trainer.Step step, double tokensPerSecond, double seconds) throws IOException {
    if (metrics == null || board == null) {
      return;
    }
    Map<String, Number> values = new HashMap<>();
    values.put("loss", step.loss());
    if (step.zLoss() != null) {
      values.put("z_loss", step.zLoss());
    }
    values.putAll(step.parts());
    values.put("gradient_norm", step.gradientNorm());
    values.put("learning_rate", step.learningRate());
    if (!step.updated()) {
      values.put("skipped", 1);
    }
    metrics.metrics(step.number(), values);
    metrics.timings(
        step.number(),
        Map.of(
            "tokens_per_second", tokensPerSecond,
            "seconds", seconds,
            "resident_bytes", ResidentMemory.now()));
    board.scalar("train/loss", step.number(), step.loss());
    board.scalar("train/gradient_norm", step.number(), step.gradientNorm());
    board.scalar("train/learning_rate", step.number(), step.learningRate());
    for (var part : step.parts().entrySet()) {
      board.scalar("train/" + part.getKey(), step.number(), part.getValue());
    }
  }

  void givenUp(Trainer.Step step) throws IOException {
    if (metrics != null) {
      metrics.metrics(
          step.number(), Map.of("loss", step.loss(), "gradient_norm", step.gradientNorm()));
    }
  }

  void evaluated(int step, HeldOutLoss heldOut, Map<String, Double> sinks) throws IOException {
    if (metrics == null || board == null) {
      return;
    }
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

  void saved(CheckpointSaver.Saved saved) throws IOException {
    if (metrics != null) {
      metrics.timings(
          saved.step(),
          Map.of("save_pause_seconds", saved.pauseSeconds(), "save_seconds", saved.saveSeconds()));
    }
  }

  /// Waits until metrics are on the disk.
  void sync() throws IOException {
    if (metrics != null) {
      metrics.sync();
    }
  }

  @Override
  public void close() throws IOException {
    try (metrics;
        board) {
      // both
    }
  }
}
