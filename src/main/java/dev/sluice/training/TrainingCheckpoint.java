package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.optimizer.AdamW;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
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
    /// Whether a file held all of it.
    private boolean isComplete() {
      return dataFingerprint != null
          && guard != null
          && guard.losses() != null
          && guard.gradientNorms() != null
          && guard.events() != null;
    }
  }

  private static final JsonMapper JSON = JsonMapper.builder().build();
  private static final String OPTIMIZER = "optimizer.safetensors";
  private static final String STATE = "state.json";
  private static final String FIRST = "first_moment.";
  private static final String SECOND = "second_moment.";

  private TrainingCheckpoint() {}

  /// A copy of all that a checkpoint holds, on the CPU: once it is taken, training may go on.
  static final class Snapshot implements AutoCloseable {
    private final DecoderConfig config;
    private final State state;
    private final Parameters weights;
    private final Parameters firstMoments;
    private final Parameters secondMoments;

    /// @param first moments of all parameters by name
    /// @param second likewise
    Snapshot(Decoder decoder, Map<String, Tensor> first, Map<String, Tensor> second, State state) {
      try (var _ = Scope.withoutGradient()) {
        this.config = decoder.config();
        this.state = state;
        this.weights = copies(ModelDirectory.packed(decoder));
        this.firstMoments = copies(first);
        this.secondMoments = copies(second);
      }
    }

    private static Parameters copies(Map<String, Tensor> tensors) {
      Map<String, Tensor> copies = new LinkedHashMap<>();
      tensors.forEach(
          (name, tensor) -> {
            var here = tensor.to(Device.CPU).contiguous();
            var copy = Tensor.uninitialized(here, ElementType.FLOAT32, here.shape());
            copy.memory().copyFrom(here.memory());
            copies.put(name, copy);
          });
      return new Parameters(copies);
    }

    /// Saves into `directory`, which appears when it is complete.
    ///
    /// @param manifest of the run, copied beside the model
    /// @param tokenizer written beside the model
    void save(Path directory, Path manifest, Tokenizer tokenizer) throws IOException {
      CheckpointDirectory.save(
          directory,
          partial -> {
            ModelDirectory.write(partial, config, weights.all());
            var moments = new ArrayList<>(ModelDirectory.entries(FIRST, firstMoments.all()));
            moments.addAll(ModelDirectory.entries(SECOND, secondMoments.all()));
            SafetensorsWriter.write(partial.resolve(OPTIMIZER), Map.of(), moments);
            Files.writeString(partial.resolve(STATE), JSON.writeValueAsString(state));
            Files.copy(manifest, partial.resolve(RunManifest.FILE_NAME));
            tokenizer.write(partial);
          });
    }

    @Override
    public void close() {
      weights.close();
      firstMoments.close();
      secondMoments.close();
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

  /// Reads `state.json`.
  static State state(Path directory) {
    Path file = directory.resolve(STATE);
    @Nullable State state;
    try {
      state = JSON.readValue(Files.readAllBytes(file), State.class);
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException(
          "cannot read " + file + "; resume from another checkpoint", e);
    }
    if (state == null || !state.isComplete()) {
      throw new InvalidInputException(
          file + " lacks a part of the state; resume from another checkpoint");
    }
    return state;
  }

  /// Reads the optimizer's state into `optimizer`.
  static void readMoments(Path directory, AdamW optimizer) {
    try (var file = SafetensorsFile.open(directory.resolve(OPTIMIZER));
        var _ = Scope.withoutGradient()) {
      read(file, FIRST, optimizer.firstMoments());
      read(file, SECOND, optimizer.secondMoments());
    }
  }

  private static void read(SafetensorsFile file, String prefix, Parameters moments) {
    moments
        .all()
        .forEach(
            (name, moment) -> {
              var entry = file.entry(prefix + name);
              moment.copyFrom(Tensor.of(entry.data(), entry.type(), moment.shape()));
            });
  }
}
