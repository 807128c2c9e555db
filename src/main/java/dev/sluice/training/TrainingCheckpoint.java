package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.decoder.Decoder;
import dev.sluice.optimizer.AdamW;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.json.JsonMapper;

/// A checkpoint of a run: the model as a Hugging Face directory, `optimizer.safetensors` and
/// `state.json`.
final class TrainingCheckpoint {
  /// What a run needs besides tensors; the reader's position follows from the step.
  ///
  /// @param step steps taken
  /// @param dataFingerprint of the corpus
  record State(int step, String dataFingerprint) {}

  private static final JsonMapper JSON = JsonMapper.builder().build();
  private static final String OPTIMIZER = "optimizer.safetensors";
  private static final String STATE = "state.json";
  private static final String FIRST = "first_moment.";
  private static final String SECOND = "second_moment.";

  private TrainingCheckpoint() {}

  /// Saves into `directory`, which appears when it is complete.
  ///
  /// @param manifest of the run, copied beside the model
  /// @param tokenizerFile copied beside the model, or null for bytes
  static void save(
      Path directory,
      Decoder decoder,
      AdamW optimizer,
      State state,
      Path manifest,
      @Nullable Path tokenizerFile)
      throws IOException {
    CheckpointDirectory.save(
        directory,
        partial -> {
          ModelDirectory.write(partial, decoder);
          writeMoments(partial.resolve(OPTIMIZER), optimizer);
          Files.writeString(partial.resolve(STATE), JSON.writeValueAsString(state));
          Files.copy(manifest, partial.resolve(RunManifest.FILE_NAME));
          if (tokenizerFile != null) {
            Files.copy(tokenizerFile, partial.resolve("tokenizer.json"));
          }
        });
  }

  private static void writeMoments(Path file, AdamW optimizer) throws IOException {
    try (var _ = Scope.withoutGradient()) {
      List<Entry> entries = new ArrayList<>();
      add(entries, FIRST, optimizer.firstMoments());
      add(entries, SECOND, optimizer.secondMoments());
      SafetensorsWriter.write(file, Map.of(), entries);
    }
  }

  private static void add(List<Entry> entries, String prefix, Parameters moments) {
    moments
        .all()
        .forEach(
            (name, moment) ->
                entries.add(
                    new Entry(
                        prefix + name,
                        ElementType.FLOAT32,
                        Arrays.stream(moment.shape()).boxed().toList(),
                        moment.to(Device.CPU).memory())));
  }

  /// Reads `state.json`.
  static State state(Path directory) {
    try {
      return JSON.readValue(Files.readAllBytes(directory.resolve(STATE)), State.class);
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException(
          "cannot read " + directory.resolve(STATE) + "; resume from another checkpoint", e);
    }
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
