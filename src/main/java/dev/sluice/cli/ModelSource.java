package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.GgufModel;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.gguf.GgufFile;
import dev.sluice.operations.Precision;
import dev.sluice.provenance.RunManifest;
import dev.sluice.serving.ModelFiles;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.BatchSettings;
import dev.sluice.training.RunConfig;
import dev.sluice.training.StartCheckpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/// A model as a user names it: the directory of a checkpoint, or of a run, which stands for its
/// newest complete checkpoint, or a GGUF file, or a directory that holds one.
///
/// @param checkpoint holds `config.json` and the weights, or is a GGUF file
/// @param run the run that the checkpoint belongs to, or null
record ModelSource(Path checkpoint, @Nullable Path run) {
  private static final String CHECKPOINTS = "checkpoints";

  /// Finds the checkpoint.
  static ModelSource at(Path named) {
    Path gguf = Files.isRegularFile(named.resolve(RunConfig.FILE)) ? null : GgufModel.at(named);
    if (gguf != null) {
      return new ModelSource(gguf, null);
    }
    if (!Files.isDirectory(named)) {
      throw new InvalidInputException(
          named
              + (Files.exists(named) ? " is not a directory" : " does not exist")
              + "; name a run directory, a checkpoint directory that holds "
              + ModelConfig.FILE
              + ", or a .gguf file");
    }
    if (Files.isRegularFile(named.resolve(ModelConfig.FILE))) {
      return new ModelSource(named, runOf(named));
    }
    if (Files.isRegularFile(named.resolve(RunConfig.FILE))) {
      return CheckpointDirectory.latest(named.resolve(CHECKPOINTS))
          .map(latest -> new ModelSource(latest, named))
          .orElseThrow(
              () ->
                  new InvalidInputException(
                      "the run %s has no complete checkpoint yet; go on with ./sluice train --resume %s"
                          .formatted(named, named)));
    }
    throw new InvalidInputException(
        "%s holds neither %s (a checkpoint) nor %s (a run) nor a .gguf file; name a directory that does"
            .formatted(named, ModelConfig.FILE, RunConfig.FILE));
  }

  private boolean isGguf() {
    return !Files.isDirectory(checkpoint);
  }

  private static @Nullable Path runOf(Path checkpoint) {
    Path checkpoints = checkpoint.toAbsolutePath().normalize().getParent();
    Path above = checkpoints == null ? null : checkpoints.getParent();
    return checkpoints != null
            && above != null
            && checkpoints.endsWith(CHECKPOINTS)
            && Files.isRegularFile(above.resolve(RunConfig.FILE))
        ? above
        : null;
  }

  /// The name of the run or checkpoint, for titles and file names.
  String name() {
    return run == null
        ? files().name()
        : String.valueOf(run.toAbsolutePath().normalize().getFileName());
  }

  /// Reads the model for measuring and generating.
  ModelDirectory.Opened open(Precision precision, Device device) {
    return ModelDirectory.open(checkpoint, precision, device, false);
  }

  /// What the checkpoint's files say beside its weights.
  ModelFiles files() {
    return new ModelFiles(checkpoint, Console::note);
  }

  /// The tokenizer: the one that the user gave, else the checkpoint's, else bytes where they fit.
  ///
  /// @param files of this
  /// @param eosToken that ends documents; null for the one that the tokenizer's files name
  Tokenizer tokenizer(ModelFiles files, @Nullable String given, @Nullable String eosToken) {
    // A run has its tokenizer's files beside the weights; without them it was trained on bytes.
    boolean trainedOnBytes =
        run != null
            && RunConfig.from(run.resolve(RunConfig.FILE), Map.of())
                .text()
                .tokenizer()
                .equals("bytes");
    return files.tokenizer(given, eosToken, trainedOnBytes);
  }

  /// The sequences that the model was trained on, as its run says, or the manifest beside its
  /// weights; empty for a model of others.
  Optional<BatchSettings> trainedOnSequences() {
    if (run != null) {
      return Optional.of(RunConfig.from(run.resolve(RunConfig.FILE), Map.of()).batch());
    }
    return RunManifest.beside(checkpoint)
        .map(RunManifest::config)
        .filter(settings -> settings.containsKey("sequence_length"))
        .map(
            settings -> {
              Map<String, String> ofSequences = new HashMap<>();
              for (String name : List.of("sequence_length", "windows", "document_mask")) {
                if (settings.containsKey(name)) {
                  ofSequences.put(name, String.valueOf(settings.get(name)));
                }
              }
              return RunConfig.DEFAULTS.with(null, ofSequences).batch();
            });
  }

  /// Equal for the same weights of an equal model, as they are on the disk: by the names, sizes and
  /// samples of the files of weights, which are too large to be read whole for that, and by the
  /// content of `config.json`. The checksums beside are of the files that were saved; only where
  /// there are none the times of the files count too, which copying changes.
  String weightsFingerprint() throws IOException {
    var digest = Sha256.digest();
    if (isGguf()) {
      try (var file = GgufFile.open(checkpoint)) {
        for (Path part : file.files()) {
          update(digest, part, true);
        }
      }
      return Sha256.hex(digest);
    }
    boolean timed = !Files.isRegularFile(checkpoint.resolve(CheckpointDirectory.CHECKSUMS));
    for (Path file : Trees.children(checkpoint)) {
      String name = String.valueOf(file.getFileName());
      if (name.equals(ModelConfig.FILE)) {
        Sha256.update(digest, file);
      } else if (StartCheckpoint.isWeights(file.getFileName())) {
        RegularFile.require(file, "fetch the checkpoint again");
        update(digest, file, timed);
      }
    }
    return Sha256.hex(digest);
  }

  /// Tells where `config.json` was changed since it was saved.
  Optional<String> change() {
    return isGguf() || !CheckpointDirectory.isChanged(checkpoint, ModelConfig.FILE)
        ? Optional.empty()
        : Optional.of(
            "%s is not the file that %s beside it lists; the model is taken as it says now."
                .formatted(checkpoint.resolve(ModelConfig.FILE), CheckpointDirectory.CHECKSUMS));
  }

  private static void update(MessageDigest digest, Path file, boolean timed) throws IOException {
    String time = timed ? " " + Files.getLastModifiedTime(file).toMillis() : "";
    Sha256.update(digest, file.getFileName() + time);
    Sha256.updateSampled(digest, file);
  }

  /// The fingerprint of the text that the checkpoint was trained on, or null where it does not say.
  @Nullable String trainedOn() {
    Path state = checkpoint.resolve("state.json");
    if (!Files.isRegularFile(state)) {
      return null;
    }
    try {
      return JsonFile.object(state, JsonFile.LARGE, "").path("dataFingerprint").asString(null);
    } catch (InvalidInputException _) {
      return null; // only a warning depends on it
    }
  }
}
