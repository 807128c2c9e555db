package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Corpus;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.RunConfig;
import dev.sluice.training.RunCorpus;
import dev.sluice.training.TrainingRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// The training of a model that was trained before, as `retrofit` and `extend` do it.
///
/// @param command the one that goes on with it
/// @param arguments that it was called with
/// @param again those of them that no file keeps, which going on takes anew
record ContinuedTraining(String command, List<String> arguments, List<String> again) {
  /// What a model that Sluice trained goes on with where nobody says otherwise.
  private static final List<String> INHERITED =
      List.of(
          "data",
          "text_field",
          "held_out_share", // another one would measure on what was learned
          "windows",
          "document_mask",
          "sequence_length",
          "batch_size");

  /// The text of a model that Sluice trained and how it was cut; empty where nobody knows.
  ///
  /// @param given settings that the user decided
  static Map<String, String> inherited(Path checkpoint, Set<String> given) {
    Map<String, String> inherited = new LinkedHashMap<>();
    RunManifest.beside(checkpoint)
        .map(RunManifest::config)
        .ifPresent(
            settings -> {
              for (String name : INHERITED) {
                if (settings.containsKey(name) && !given.contains(name)) {
                  inherited.put(name, String.valueOf(settings.get(name)));
                }
              }
            });
    return inherited;
  }

  /// Refuses another text under the name that was taken over. One of which another field is read is
  /// the user's choice.
  static void requireSameText(RunConfig config, Map<String, String> inherited) {
    if (inherited.containsKey("data") && inherited.containsKey("text_field")) {
      RunManifest.beside(Path.of(config.start().start()))
          .ifPresent(trained -> RunCorpus.requireTextOf(trained, config));
    }
  }

  /// Says what was taken over.
  static void tell(Map<String, String> inherited) {
    if (!inherited.isEmpty()) {
      Console.note("As the model was trained: " + inherited + ".");
    }
  }

  /// Settings of a training that is there.
  ///
  /// @param given by the user, who may change how many steps there are
  RunConfig resumed(Path place, Map<String, String> given) {
    var others = given.keySet().stream().filter(name -> !name.equals("steps")).toList();
    if (!others.isEmpty()) {
      throw new InvalidInputException(
          "--resume takes the model and its settings from %s, but for --steps; leave out %s"
              .formatted(place, String.join(", ", others)));
    }
    if (!Files.isRegularFile(place.resolve(RunConfig.FILE))) {
      throw new InvalidInputException(
          "%s holds no %s, so no %s began there; name its directory"
              .formatted(place, RunConfig.FILE, command));
    }
    var config = RunConfig.from(place.resolve(RunConfig.FILE), given);
    if (!config.start().isGiven()) {
      throw new InvalidInputException(
          "%s is a run that began with new weights, so no %s began there; go on with ./sluice train --resume %s"
              .formatted(place, command, place));
    }
    return config;
  }

  /// Trains, or goes on with what is there.
  TrainingRun.Outcome train(RunConfig config, Path place, Corpus corpus, Tokenizer tokenizer)
      throws IOException {
    var run =
        new TrainingRun(
            config,
            place,
            new TrainingRun.Origin(Version.commit(), arguments),
            new TrainingProgress(config),
            Interruption::requested);
    Path file = place.resolve(RunConfig.FILE);
    if (!Files.exists(file)) {
      Files.createDirectories(place);
      return run.start(corpus, tokenizer);
    }
    var there = RunConfig.from(file, Map.of());
    var steps = Map.of("steps", String.valueOf(config.optimization().steps()));
    if (!there.with(null, steps).equals(config)) {
      throw new InvalidInputException(
          "%s is of another %s; remove %s or choose another --output"
              .formatted(file, command, place));
    }
    return run.resume(corpus, tokenizer);
  }

  /// The command that goes on.
  String goOn(Path place) {
    List<String> words =
        new ArrayList<>(List.of("./sluice", command, "--resume", place.toString()));
    words.addAll(again);
    return String.join(" ", words);
  }

  /// The exit code of a training that did not come to its end, which is told.
  int ended(TrainingRun.Outcome outcome, RunConfig config, Path place) {
    if (outcome.ending() == TrainingRun.Ending.STOPPED) {
      Console.note(
          "Stopped after step %d of %d; everything is saved. Go on with: %s"
              .formatted(outcome.steps(), config.optimization().steps(), goOn(place)));
      return 130;
    }
    Console.error(
        "Training diverged at step %d and stopped; its batch and statistics are in %s; try a lower --learning-rate."
            .formatted(outcome.steps() + 1, outcome.failure()));
    return Main.FAILED;
  }
}
