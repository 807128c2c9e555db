package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.RunMetrics;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;

/// What a trial measured; `trial.json` in its directory says that the trial is done.
///
/// @param variant the variant's name
/// @param point the grid's settings
/// @param diverged whether training broke off; the measures of the trained model are then NaN
/// @param steps how many steps were taken
/// @param parameters of the model
/// @param intermediateSize its feed-forward width
/// @param initialLoss the first step's loss in nats per token: that of a new model
/// @param heldOutLoss held-out loss in nats per token
/// @param bitsPerByte the same in bits per byte
/// @param spikes events of the training loss by [LossSpikes], above the median by [#SPIKE] nats,
///   after the learning rate's warm-up
/// @param spikeScore see [LossSpikes#score]; NaN for a short run
/// @param firstTokenAttention F-Attn over the queries that are not excluded
/// @param uniformFloor what uniform attention would give
/// @param sinkRate share of heads that attend to the first token more than 30 % of the time
/// @param largestActivation the largest |x| after any block
/// @param meanBlockMaximum M-Act
/// @param meanGate mean gate score, or null without a gate
/// @param tokensPerSecond the median over steps
public record TrialResult(
    String variant,
    Map<String, String> point,
    long seed,
    boolean diverged,
    int steps,
    long parameters,
    int intermediateSize,
    double initialLoss,
    double heldOutLoss,
    double bitsPerByte,
    int spikes,
    double spikeScore,
    double firstTokenAttention,
    double uniformFloor,
    double sinkRate,
    double largestActivation,
    double meanBlockMaximum,
    @Nullable Double meanGate,
    double tokensPerSecond) {
  /// Nats above the local median at which a loss counts as a spike.
  public static final double SPIKE = 0.1;

  /// The file of the trial's sinks.
  static final String SINKS = "sinks.json";

  private static final String FILE = "trial.json";
  private static final JsonMapper JSON =
      JsonMapper.builder().propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE).build();

  static TrialResult of(
      Trial trial, TrainingRun.Outcome outcome, DecoderConfig decoder, SinkReport sinks) {
    var scalars = sinks.scalars();
    var heldOut = Objects.requireNonNull(outcome.heldOut());
    var curve = RunMetrics.read(trial.directory()).curve("loss");
    return new TrialResult(
        trial.arm().variant().name(),
        trial.arm().point(),
        trial.seed(),
        false,
        outcome.steps(),
        decoder.parameterCount(),
        decoder.intermediateSize(),
        curve.values()[0],
        heldOut.nats(),
        heldOut.bitsPerByte(),
        spikes(trial, curve),
        LossSpikes.score(curve.values()),
        sinks.firstTokenAttention().meanExcluding(),
        sinks.firstTokenAttention().uniformFloorExcluding(),
        sinks.firstTokenAttention().sinkRate(),
        sinks.massiveActivation().largest(),
        sinks.massiveActivation().meanBlockMaximum(),
        scalars.get("mean_gate_score"),
        outcome.tokensPerSecond());
  }

  static TrialResult diverged(Trial trial, TrainingRun.Outcome outcome) {
    double none = Double.NaN;
    var curve = RunMetrics.read(trial.directory()).curve("loss");
    return new TrialResult(
        trial.arm().variant().name(),
        trial.arm().point(),
        trial.seed(),
        true,
        outcome.steps(),
        0,
        0,
        curve.values().length == 0 ? none : curve.values()[0],
        none,
        none,
        spikes(trial, curve),
        LossSpikes.score(curve.values()),
        none,
        none,
        none,
        none,
        none,
        null,
        outcome.tokensPerSecond());
  }

  private static int spikes(Trial trial, RunMetrics.Curve curve) {
    return LossSpikes.events(curve.steps(), curve.values(), trial.config().warmupSteps(), SPIKE);
  }

  static boolean exists(Path directory) {
    return Files.isRegularFile(directory.resolve(FILE));
  }

  /// Written beside and renamed, so that it is whole when it is there.
  void write(Path directory) throws IOException {
    Path partial = directory.resolve("." + FILE + ".partial");
    Files.writeString(partial, JSON.writeValueAsString(this));
    Files.move(partial, directory.resolve(FILE), StandardCopyOption.ATOMIC_MOVE);
  }

  static TrialResult read(Path directory) {
    Path file = directory.resolve(FILE);
    try {
      return JSON.readValue(Files.readAllBytes(file), TrialResult.class);
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException(
          "cannot read " + file + "; remove the trial's directory to run it again", e);
    }
  }
}
