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
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

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

  /// Those of the text itself, which say nothing of another one.
  private static final Set<String> OF_TEXT = Set.of("data", "text_field", "held_out_share");

  /// A word that a shell takes as it is.
  private static final Pattern PLAIN = Pattern.compile("[\\p{L}\\p{N}_@%+=:,./-]+");

  /// The text of a model that Sluice trained and how it was cut; empty where nobody knows.
  ///
  /// @param begun with the model
  /// @param given settings that the user decided
  static Map<String, String> inherited(RunConfig begun, Map<String, String> given) {
    Map<String, String> inherited = new LinkedHashMap<>();
    RunManifest.beside(Path.of(begun.start().start()))
        .map(RunManifest::config)
        .ifPresent(
            settings -> {
              boolean another = isAnotherText(begun, given.get("data"), settings.get("data"));
              for (String name : INHERITED) {
                if (settings.containsKey(name)
                    && !given.containsKey(name)
                    && !(another && OF_TEXT.contains(name))) {
                  inherited.put(name, String.valueOf(settings.get(name)));
                }
              }
            });
    return inherited;
  }

  private static boolean isAnotherText(
      RunConfig begun, @Nullable String given, @Nullable Object trained) {
    return given != null
        && !begun.with(null, Map.of("data", given)).pinnedWithData().text().data().equals(trained);
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
    if (!Files.exists(place.resolve(RunConfig.FILE))) {
      Files.createDirectories(place);
      return run.start(corpus, tokenizer);
    }
    requireSame(config, place);
    return run.resume(corpus, tokenizer);
  }

  /// Refuses another training than what is there, if anything is.
  void requireSame(RunConfig config, Path place) {
    Path file = place.resolve(RunConfig.FILE);
    if (!Files.exists(file)) {
      return;
    }
    var steps = Map.of("steps", String.valueOf(config.optimization().steps()));
    var there = RunConfig.from(file, Map.of()).with(null, steps);
    int frozen = config.start().frozenSteps();
    var standingStill = Map.of("frozen_steps", String.valueOf(frozen));
    if (there.start().frozenSteps() == 0
        && frozen > 0
        && there.with(null, standingStill).equals(config)) {
      throw new InvalidInputException(
          "%s has frozen_steps 0, not %d: controls of earlier versions moved in the frozen steps, so this one must be trained again; remove %s and go on"
              .formatted(file, frozen, place));
    }
    if (!there.equals(config)) {
      throw new InvalidInputException(
          "%s is of another %s; remove %s or choose another --output"
              .formatted(file, command, place));
    }
  }

  /// The command that goes on, as a shell takes it.
  String goOn(Path place) {
    List<String> words =
        new ArrayList<>(List.of("./sluice", command, "--resume", place.toString()));
    words.addAll(again);
    return words.stream().map(ContinuedTraining::quoted).collect(Collectors.joining(" "));
  }

  private static String quoted(String word) {
    return PLAIN.matcher(word).matches() ? word : "'" + word.replace("'", "'\\''") + "'";
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
