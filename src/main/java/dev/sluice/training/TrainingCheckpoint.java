package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.FiniteNumbers;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.operations.Precision;
import dev.sluice.optimizer.Optimizer;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.OptionalLong;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// A checkpoint of a run: the model as a Hugging Face directory, `optimizer.safetensors` and
/// `state.json`.
final class TrainingCheckpoint {
  /// What a run needs besides tensors.
  ///
  /// @param step steps taken; with the guard's batches passed over it is the reader's position
  /// @param dataFingerprint of the corpus
  /// @param heldOutLoss in nats at this step, or null when it was not measured
  record State(
      int step, String dataFingerprint, @Nullable Double heldOutLoss, SpikeGuard.State guard) {
    /// What cannot be, in words that follow the file's name; null for nothing.
    ///
    /// @param named the step in the checkpoint's name
    private @Nullable String wrong(OptionalLong named) {
      if (dataFingerprint == null
          || guard == null
          || guard.losses() == null
          || guard.gradientNorms() == null
          || guard.events() == null) {
        return "lacks a part of the state";
      }
      if (step < 0 || (named.isPresent() && named.getAsLong() != step)) {
        return "is of step %d, which is not the one in the checkpoint's name".formatted(step);
      }
      return guard.wrong(step);
    }
  }

  private static final JsonMapper JSON =
      JsonFile.mapper().enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES).build();
  static final String OPTIMIZER = "optimizer.safetensors";
  private static final String STATE = "state.json";
  private static final String FIRST = "first_moment.";
  private static final String SECOND = "second_moment.";

  private TrainingCheckpoint() {}

  /// All that a checkpoint holds, on the CPU: where it is a copy, training may go on once it is
  /// taken; else it has to wait until the snapshot is closed.
  static final class Snapshot implements AutoCloseable {
    private final DecoderConfig config;
    private final State state;
    private final Map<String, Tensor> weights;
    private final Map<String, Tensor> firstMoments;
    private final Map<String, Tensor> secondMoments;

    /// @param first moments of all parameters by name
    /// @param second likewise
    /// @param copied whether training is to go on
    Snapshot(
        Decoder decoder,
        Map<String, Tensor> first,
        Map<String, Tensor> second,
        State state,
        boolean copied) {
      try (var _ = Scope.withoutGradient()) {
        this.config = decoder.config();
        this.state = state;
        this.weights = held(ModelDirectory.packed(decoder), copied);
        this.firstMoments = held(first, copied);
        this.secondMoments = held(second, copied);
      }
    }

    private static Map<String, Tensor> held(Map<String, Tensor> tensors, boolean copied) {
      Map<String, Tensor> copies = new LinkedHashMap<>();
      tensors.forEach(
          (name, tensor) -> {
            var here = tensor.to(Device.CPU).contiguous();
            if (!copied) {
              copies.put(name, here.retain());
              return;
            }
            var copy = Tensor.uninitialized(here, ElementType.FLOAT32, here.shape());
            copy.memory().copyFrom(here.memory());
            copies.put(name, copy.retain());
          });
      return copies;
    }

    /// Saves into `directory`, which appears when it is complete.
    ///
    /// @throws IOException also if a number is not finite: such a checkpoint is of no use
    /// @param manifest of the run, copied beside the model
    /// @param tokenizer written beside the model
    void save(Path directory, Path manifest, Tokenizer tokenizer) throws IOException {
      requireFinite(weights, "");
      requireFinite(firstMoments, FIRST);
      requireFinite(secondMoments, SECOND);
      CheckpointDirectory.save(
          directory,
          partial -> {
            ModelDirectory.write(partial, config, weights, tokenizer.endOfText());
            var moments = new ArrayList<>(ModelDirectory.entries(FIRST, firstMoments));
            moments.addAll(ModelDirectory.entries(SECOND, secondMoments));
            SafetensorsWriter.write(partial.resolve(OPTIMIZER), Map.of(), moments);
            WholeFile.write(partial.resolve(STATE), JSON.writeValueAsString(state));
            Files.copy(manifest, partial.resolve(RunManifest.FILE_NAME));
            tokenizer.write(partial);
          });
    }

    private static void requireFinite(Map<String, Tensor> tensors, String prefix)
        throws IOException {
      for (var named : tensors.entrySet()) {
        var tensor = named.getValue();
        long other = FiniteNumbers.firstOther(tensor.memory(), tensor.type());
        if (other >= 0) {
          throw new IOException(
              "nothing was saved: '%s%s' holds NaN or an infinite number at index %d"
                  .formatted(prefix, named.getKey(), other));
        }
      }
    }

    @Override
    public void close() {
      for (var copies : List.of(weights, firstMoments, secondMoments)) {
        copies.values().forEach(Tensor::close);
      }
    }
  }

  /// The held-out loss that was measured at a checkpoint's step; null where there was none, or
  /// where the checkpoint cannot be read.
  static @Nullable Double heldOutLoss(Path directory) {
    try {
      return state(directory).heldOutLoss();
    } catch (InvalidInputException _) {
      return null;
    }
  }

  /// Reads `state.json` and checks it against the checkpoint's name and against itself.
  static State state(Path directory) {
    Path file = directory.resolve(STATE);
    var state =
        JsonFile.bound(file, JsonFile.LARGE, JSON, State.class, "resume from another checkpoint");
    String wrong = state.wrong(CheckpointDirectory.step(directory));
    if (wrong != null) {
      throw new InvalidInputException(
          "%s %s; resume from another checkpoint".formatted(file, wrong));
    }
    return state;
  }

  /// Reads the optimizer's state into `optimizer`, which may have a share of it. Each moment is
  /// checked as weights are.
  ///
  /// @param parameters all of the model's
  /// @param moving which of them training ever moves; others have no state
  static void readMoments(
      Path directory, Optimizer optimizer, Parameters parameters, Predicate<String> moving) {
    requireFloat32(directory);
    try (var file = SafetensorsFile.open(directory.resolve(OPTIMIZER));
        var _ = Scope.withoutGradient()) {
      read(file, FIRST, optimizer.firstMoments());
      read(file, SECOND, optimizer.secondMoments());
      requireCount(file, moments(optimizer.kind(), parameters, moving));
    }
  }

  private static int moments(
      Optimizer.Kind optimizer, Parameters parameters, Predicate<String> moving) {
    return parameters.weights().values().stream()
        .filter(weight -> moving.test(weight.name()))
        .mapToInt(weight -> optimizer.moments(weight.spec()))
        .sum();
  }

  /// The optimizer whose state a checkpoint holds; runs from before there was a choice had AdamW.
  static Optimizer.Kind optimizer(Path directory) {
    return Optimizer.Kind.parse(setting(directory, "optimizer", "adamw"));
  }

  private static String setting(Path directory, String name, String initial) {
    var settings = RunManifest.read(directory.resolve(RunManifest.FILE_NAME)).config();
    return String.valueOf(settings.getOrDefault(name, initial));
  }

  /// Refuses weights that were rounded after a run saved them: it would not go on as it was.
  private static void requireFloat32(Path directory) {
    try (var files = SafetensorsDirectory.open(directory)) {
      for (var entry : files.entries()) {
        if (entry.type() != ElementType.FLOAT32) {
          throw new InvalidInputException(
              "the weight '%s' of %s is %s and a run saves float32; resume from another checkpoint"
                  .formatted(
                      entry.name(), directory, entry.type().name().toLowerCase(Locale.ROOT)));
        }
      }
    }
  }

  /// Refuses tensors that belong to no weight.
  private static void requireCount(SafetensorsFile file, int expected) {
    if (file.names().size() != expected) {
      throw new InvalidInputException(
          "%s holds %d tensors where the weights ask for %d; use another checkpoint"
              .formatted(file.path(), file.names().size(), expected));
    }
  }

  private static void read(SafetensorsFile file, String prefix, Map<String, Tensor> moments) {
    moments.forEach(
        (name, moment) -> {
          var entry = file.entry(prefix + name);
          requireMoment(file, entry, moment.shape());
          moment.copyFrom(Tensor.of(entry.data(), entry.type(), moment.shape()));
        });
  }

  private static void requireMoment(
      SafetensorsFile file, SafetensorsFile.Entry entry, long[] shape) {
    long[] found = entry.shape().stream().mapToLong(Long::longValue).toArray();
    if (entry.type() != ElementType.FLOAT32 || !Arrays.equals(found, shape)) {
      throw new InvalidInputException(
          "%s: '%s' is %s of shape %s where its weight asks for F32 of shape %s; resume from another checkpoint"
              .formatted(
                  file.path(),
                  entry.name(),
                  entry.type().safetensorsName(),
                  Arrays.toString(found),
                  Arrays.toString(shape)));
    }
    requireFinite(file, entry);
    if (entry.name().startsWith(SECOND)) {
      requireNotNegative(file, entry);
    }
  }

  /// The second moment is a mean of squares, whose root is taken.
  private static void requireNotNegative(SafetensorsFile file, SafetensorsFile.Entry entry) {
    for (long at = 0; at < entry.data().byteSize(); at += Float.BYTES) {
      if (entry.data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, at) < 0) {
        throw new InvalidInputException(
            "%s: '%s' holds a negative number at index %d, and it is a mean of squares; resume from another checkpoint"
                .formatted(file.path(), entry.name(), at / Float.BYTES));
      }
    }
  }

  private static void requireFinite(SafetensorsFile file, SafetensorsFile.Entry entry) {
    long other = FiniteNumbers.firstOther(entry.data(), entry.type());
    if (other >= 0) {
      throw new InvalidInputException(
          "%s: '%s' holds NaN or an infinite number at index %d; resume from another checkpoint"
              .formatted(file.path(), entry.name(), other));
    }
  }

  /// Reads a checkpoint through: its checksums, its state, that every weight is finite, and that
  /// there are the optimizer's finite moments of the right shape for every weight.
  static void verify(Path directory) {
    CheckpointDirectory.verify(directory);
    var _ = state(directory);
    requireFloat32(directory);
    try (var _ = Scope.withoutGradient();
        var decoder = ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false);
        var file = SafetensorsFile.open(directory.resolve(OPTIMIZER))) {
      var optimizer = optimizer(directory);
      var prefixes = List.of(FIRST, SECOND);
      // Where all but new parameters are frozen, those have a state that have a first moment.
      boolean someFrozen = setting(directory, "frozen_steps", "0").startsWith("-");
      Predicate<String> moving = name -> !someFrozen || file.names().contains(FIRST + name);
      decoder
          .parameters()
          .weights()
          .forEach(
              (name, weight) -> {
                if (!moving.test(name)) {
                  return;
                }
                for (String prefix : prefixes.subList(0, optimizer.moments(weight.spec()))) {
                  requireMoment(file, file.entry(prefix + name), weight.spec().shape());
                }
              });
      requireCount(file, moments(optimizer, decoder.parameters(), moving));
    }
  }
}
