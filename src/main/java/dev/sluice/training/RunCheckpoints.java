package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.corpus.Corpus;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.jspecify.annotations.Nullable;

/// Which checkpoint of a run to go on from.
final class RunCheckpoints {
  /// Names in a message.
  private static final int OTHERS_TOLD = 5;

  private final RunConfig config;
  private final Path directory;
  private final Path checkpoints;

  /// @param directory of the run
  RunCheckpoints(RunConfig config, Path directory) {
    this.config = config;
    this.directory = directory;
    this.checkpoints = directory.resolve("checkpoints");
  }

  /// The checkpoint to resume from, or null where there is none; it is whole.
  ///
  /// @param name of the checkpoint, or null for the newest
  @Nullable Path toResume(@Nullable String name) {
    Path from = name == null ? CheckpointDirectory.latest(checkpoints).orElse(null) : named(name);
    if (from != null) {
      requireWhole(from);
    }
    return from;
  }

  /// That a run without a complete checkpoint begins again, and what is there that is not one.
  String beginsAgain() {
    List<String> others =
        Trees.children(checkpoints).stream()
            .map(child -> String.valueOf(child.getFileName()))
            .sorted()
            .toList();
    String more =
        others.size() > OTHERS_TOLD ? " and %d more".formatted(others.size() - OTHERS_TOLD) : "";
    return "%s holds no complete checkpoint%s: the run begins again at step 1 and replaces its metrics."
        .formatted(
            checkpoints,
            others.isEmpty()
                ? ""
                : " but %s%s"
                    .formatted(
                        String.join(", ", others.subList(0, Math.min(OTHERS_TOLD, others.size()))),
                        more));
  }

  private Path named(String name) {
    return CheckpointDirectory.complete(checkpoints).stream()
        .filter(checkpoint -> checkpoint.endsWith(name))
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "%s has no checkpoint %s; it has %s"
                        .formatted(
                            checkpoints,
                            name,
                            CheckpointDirectory.complete(checkpoints).stream()
                                .map(checkpoint -> String.valueOf(checkpoint.getFileName()))
                                .toList())));
  }

  /// Refuses a damaged checkpoint and says which one before it is whole.
  private void requireWhole(Path checkpoint) {
    try {
      CheckpointDirectory.verify(checkpoint);
    } catch (InvalidInputException damage) {
      String offer =
          wholeBefore(checkpoint)
              .map(
                  whole ->
                      "%s before it is whole: --resume %s --checkpoint %s"
                          .formatted(whole.getFileName(), directory, whole.getFileName()))
              .orElse("none before it is whole: start again with another --output");
      throw new InvalidInputException(damage.getMessage() + "; " + offer, damage);
    }
  }

  private Optional<Path> wholeBefore(Path checkpoint) {
    var complete = CheckpointDirectory.complete(checkpoints);
    return complete.subList(0, Math.max(0, complete.indexOf(checkpoint))).reversed().stream()
        .filter(CheckpointDirectory::isWhole)
        .findFirst();
  }

  void setAsideAfter(Path checkpoint) throws IOException {
    var complete = CheckpointDirectory.complete(checkpoints);
    for (Path later : complete.subList(complete.indexOf(checkpoint) + 1, complete.size())) {
      var _ = CheckpointDirectory.setAside(later);
    }
  }

  /// Refuses another text, tokenizer, optimizer or shape than the checkpoint's, and tells of other
  /// settings that differ.
  void requireSameRun(
      Path checkpoint, Corpus corpus, Tokenizer tokenizer, TrainingRun.Listener listener)
      throws IOException {
    var state = TrainingCheckpoint.state(checkpoint);
    if (state.step() > config.optimization().steps()) {
      throw new InvalidInputException(
          "%s is of step %d and the run has %d steps; go on with --steps %d or more"
              .formatted(checkpoint, state.step(), config.optimization().steps(), state.step()));
    }
    String before = state.dataFingerprint();
    String now = corpus.summary().dataFingerprint();
    if (!before.equals(now)) {
      throw new InvalidInputException(
          "the data changed since %s was saved (fingerprint %s, now %s); restore the data or start a new run"
              .formatted(checkpoint, before, now));
    }
    requireTokenizer(checkpoint, tokenizer);
    var optimizer = TrainingCheckpoint.optimizer(checkpoint);
    if (optimizer != config.optimization().optimizerSettings().kind()) {
      throw new InvalidInputException(
          "%s holds the state of optimizer %s and the run is to go on with %s, which has another; go on with --optimizer %s or start a new run with another --output"
              .formatted(
                  checkpoint,
                  optimizer.word(),
                  config.optimization().optimizerSettings().kind().word(),
                  optimizer.word()));
    }
    var shape = ModelConfig.of(config.decoder(config.vocabulary(tokenizer)));
    var differences = ModelConfig.read(checkpoint).differences(shape);
    if (!differences.isEmpty()) {
      throw new InvalidInputException(
          "the model's shape changed since %s was saved: %s; restore %s or start a new run"
              .formatted(
                  checkpoint, String.join(", ", differences), directory.resolve(RunConfig.FILE)));
    }
    var settings = config.settings();
    RunManifest.read(checkpoint.resolve(RunManifest.FILE_NAME))
        .config()
        .forEach(
            (setting, value) -> {
              String present = String.valueOf(settings.get(setting));
              if (settings.containsKey(setting) && !present.equals(String.valueOf(value))) {
                listener.changed(setting, String.valueOf(value), present);
              }
            });
  }

  /// A checkpoint has its tokenizer beside it, unless that is bytes and the checkpoint an old one.
  private static void requireTokenizer(Path checkpoint, Tokenizer tokenizer) throws IOException {
    Path file = checkpoint.resolve("tokenizer.json");
    boolean ofFile = Files.isRegularFile(file);
    if (ofFile && tokenizer.fingerprint().startsWith(Sha256.hex(file))) {
      return; // without loading a second one, which may take seconds
    }
    var saved = Tokenizers.load(ofFile ? checkpoint.toString() : "bytes");
    if (!saved.fingerprint().equals(tokenizer.fingerprint())) {
      throw new InvalidInputException(
          "the tokenizer changed since %s was saved (%s, now %s); restore it or start a new run"
              .formatted(checkpoint, saved.describe(), tokenizer.describe()));
    }
  }

  /// Sets aside what is newer than the newest checkpoint that the run may go back to.
  void setAsideAfterLastGood() throws IOException {
    for (Path checkpoint : CheckpointDirectory.complete(checkpoints).reversed()) {
      if (Retention.isGood(checkpoint, config.checkpoints().saveEvery())
          && CheckpointDirectory.isWhole(checkpoint)) {
        return;
      }
      var _ = CheckpointDirectory.setAside(checkpoint);
    }
  }
}
