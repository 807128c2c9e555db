package dev.sluice.study;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.sink.SinkReport;
import dev.sluice.training.RunMetrics;
import dev.sluice.training.StartCheckpoint;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.DoubleNode;
import tools.jackson.databind.node.NullNode;

/// What a trial measured; `trial.json` in its directory says that the trial is done.
///
/// @param variant the variant's name
/// @param point the grid's settings
/// @param diverged whether training broke off; the measures of the trained model are then NaN
/// @param steps how many steps were taken
/// @param parameters of the model
/// @param intermediateSize the feed-forward width of its first layer
/// @param initialLoss the first step's loss in nats per token; NaN where that step had none
/// @param lossBound what a held-out loss counts as at most where learning rates are compared: the
///   first step's, which is a new model's, or that of a model that knows nothing, ln(vocabulary),
///   where the trial began with a checkpoint; NaN where nobody recorded it and that is gone
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
/// @param inside what a sceptic looks for inside the model; null where it diverged, or an earlier
///   version measured
public record TrialResult(
    String variant,
    Map<String, String> point,
    long seed,
    boolean diverged,
    int steps,
    long parameters,
    int intermediateSize,
    double initialLoss,
    double lossBound,
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
    double tokensPerSecond,
    @Nullable Inside inside) {
  /// What is inside a trained model, beyond means over its layers.
  ///
  /// @param strongestHead the largest share of attention that a head gives the first token, over
  ///   the queries that are not excluded
  /// @param scoresBelowTenth share of gate scores below 0.1; null without gates
  public record Inside(double strongestHead, @Nullable Double scoresBelowTenth) {
    public Inside {
      requireShare("strongest_head", strongestHead);
      if (scoresBelowTenth != null) {
        requireShare("scores_below_tenth", scoresBelowTenth);
      }
    }

    static Inside of(SinkReport sinks) {
      var scores = sinks.gateStatistics().gates();
      return new Inside(
          sinks.firstTokenAttention().layers().stream()
              .flatMap(layer -> layer.headsExcluding().stream())
              .mapToDouble(share -> share)
              .max()
              .orElseThrow(),
          scores.isEmpty()
              ? null
              : scores.stream()
                  .mapToDouble(gate -> gate.scores().belowTenth())
                  .average()
                  .orElse(0));
    }
  }

  /// Nats above the local median at which a loss counts as a spike.
  public static final double SPIKE = 0.1;

  /// The file of the trial's sinks.
  static final String SINKS = "sinks.json";

  private static final String FILE = "trial.json";

  private static final JsonMapper JSON =
      JsonFile.mapper()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .build();

  public TrialResult {
    Objects.requireNonNull(variant, "variant");
    point = Collections.unmodifiableMap(new TreeMap<>(point));
    requireCount("steps", steps);
    requireCount("parameters", parameters);
    requireCount("intermediate_size", intermediateSize);
    requireCount("spikes", spikes);
    requireFinite("tokens_per_second", tokensPerSecond);
    if (!diverged) {
      requireFinite("held_out_loss", heldOutLoss);
      requireFinite("bits_per_byte", bitsPerByte);
      requireFinite("first_token_attention", firstTokenAttention);
      requireFinite("uniform_floor", uniformFloor);
      requireFinite("sink_rate", sinkRate);
      requireFinite("largest_activation", largestActivation);
      requireFinite("mean_block_maximum", meanBlockMaximum);
      if (meanGate != null) {
        requireFinite("mean_gate", meanGate);
      }
    }
  }

  private static void requireCount(String what, long count) {
    if (count < 0) {
      throw new InvalidInputException("%s cannot be %d".formatted(what, count));
    }
  }

  /// A sum of float32 weights may be above one by their rounding.
  private static void requireShare(String what, double value) {
    if (!(value >= 0 && value <= 1 + 1e-4)) {
      throw new InvalidInputException("%s must be a share, not %s".formatted(what, value));
    }
  }

  private static void requireFinite(String what, double value) {
    if (!Double.isFinite(value)) {
      throw new InvalidInputException(
          "%s of a trial that did not diverge cannot be %s".formatted(what, value));
    }
  }

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
        decoder.layers().getFirst().feedForward().intermediateSize(),
        first(curve),
        bound(trial, curve),
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
        outcome.tokensPerSecond(),
        Inside.of(sinks));
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
        first(curve),
        bound(trial, curve),
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
        outcome.tokensPerSecond(),
        null);
  }

  private static int spikes(Trial trial, RunMetrics.Curve curve) {
    return LossSpikes.events(
        curve.steps(), curve.values(), trial.config().optimization().warmupSteps(), SPIKE);
  }

  /// Whether a trial is done.
  ///
  /// @param directory of the trial
  public static boolean exists(Path directory) {
    return Files.isRegularFile(directory.resolve(FILE));
  }

  Trial.Name name() {
    return new Trial.Name(variant, point, seed);
  }

  void write(Path directory) throws IOException {
    WholeFile.write(directory.resolve(FILE), JSON.writeValueAsString(this));
  }

  /// Reads what a trial measured, and refuses what is of another trial.
  static TrialResult read(Trial trial) {
    Path file = trial.directory().resolve(FILE);
    String wayOut = "remove %s to run the trial again".formatted(trial.directory());
    var read = JsonFile.object(file, JsonFile.SMALL, wayOut);
    read.putIfAbsent("inside", NullNode.getInstance()); // before there was one
    if (!read.has("loss_bound")) { // before there was one it was the first step's
      read.set(
          "loss_bound",
          trial.config().start().isGiven()
              ? DoubleNode.valueOf(boundOfStart(trial))
              : read.path("initial_loss"));
    }
    var result = JsonFile.bound(file, read, JSON, TrialResult.class, wayOut);
    if (!result.name().equals(trial.name())) {
      throw new InvalidInputException(
          "%s is of %s, not of %s, so it was copied; %s"
              .formatted(file, result.name(), trial.name(), wayOut));
    }
    return result;
  }

  /// Reads what the model was measured on, and refuses what is of another trial.
  ///
  /// @param directory of the trial
  public SinkReport sinks(Path directory) {
    Path file = directory.resolve(SINKS);
    var sinks = SinkReport.read(file);
    if (sinks.firstTokenAttention().meanExcluding() != firstTokenAttention
        || sinks.massiveActivation().largest() != largestActivation) {
      throw new InvalidInputException(
          "%s is not of %s, as %s beside it says otherwise; remove %s to run the trial again"
              .formatted(file, name(), FILE, directory));
    }
    return sinks;
  }

  /// The loss of step 1. A curve leaves out what is no number, so that it may begin later.
  static double first(RunMetrics.Curve curve) {
    return curve.steps().length == 0 || curve.steps()[0] != 1 ? Double.NaN : curve.values()[0];
  }

  private static double bound(Trial trial, RunMetrics.Curve curve) {
    return trial.config().start().isGiven() ? knowingNothing(trial) : first(curve);
  }

  private static double knowingNothing(Trial trial) {
    return Math.log(StartCheckpoint.of(trial.config()).parent().vocabSize());
  }

  /// NaN where the checkpoint that the trial began with cannot be read any more.
  private static double boundOfStart(Trial trial) {
    try {
      return knowingNothing(trial);
    } catch (InvalidInputException _) {
      return Double.NaN;
    }
  }
}
