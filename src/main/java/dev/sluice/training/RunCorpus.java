package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.corpus.BigramBackcopy;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.Documents;
import dev.sluice.files.Failures;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Consumer;

/// The text of a run, as tokens in a directory of its own. What a begun run has is kept: it goes on
/// with the same tokens or not at all.
public final class RunCorpus {
  private static final String TOKENIZER = "tokenizer.json";

  private RunCorpus() {}

  /// The tokenizer of a run. One that was begun keeps the end token that its corpus was made with,
  /// unless its settings name one, and has a copy of the tokenizer's files for when they are gone
  /// or the run is resumed from another directory.
  ///
  /// @param corpus the directory of the run's tokenized text
  public static Tokenizer tokenizer(RunConfig config, Path corpus, boolean begun) {
    if (!begun || !Files.exists(corpus.resolve("corpus.json"))) {
      return Tokenizers.load(config.tokenizer(), config.text().eosToken());
    }
    String from =
        Files.exists(Path.of(config.tokenizer())) ? config.tokenizer() : copy(config, corpus);
    return config.text().eosToken().isEmpty()
        ? Tokenizers.restore(from, Corpus.open(corpus).summary().tokenizerFingerprint())
        : Tokenizers.load(from, config.text().eosToken());
  }

  /// Beside the corpus, or where an older run has it: in its checkpoints.
  private static String copy(RunConfig config, Path corpus) {
    if (Files.exists(corpus.resolve(TOKENIZER))) {
      return corpus.toString();
    }
    return CheckpointDirectory.latest(corpus.resolveSibling("checkpoints"))
        .filter(checkpoint -> Files.exists(checkpoint.resolve(TOKENIZER)))
        .map(Path::toString)
        .orElse(config.tokenizer());
  }

  /// Tokenizes the run's text into `directory`, or reuses what is there.
  ///
  /// @param fixed whether a corpus that is there belongs to a run: it is then opened and never
  ///   written again, also when the text is gone, and a changed text or tokenizer is refused
  /// @param notes hears, in sentences, what the user should know of the texts
  public static Corpus prepare(
      RunConfig config,
      Tokenizer tokenizer,
      Path directory,
      boolean fixed,
      Consumer<String> notes) {
    var corpus = prepared(config, tokenizer, directory, fixed, notes);
    if (config.start().isGiven()) {
      StartCheckpoint.of(config).heldOutNote(corpus.summary()).ifPresent(notes);
    }
    return corpus;
  }

  private static Corpus prepared(
      RunConfig config,
      Tokenizer tokenizer,
      Path directory,
      boolean fixed,
      Consumer<String> notes) {
    boolean bundled = isBundled(config);
    if (fixed && Files.exists(directory.resolve("corpus.json"))) {
      var corpus = Corpus.open(directory);
      corpus.verify();
      var summary = corpus.summary();
      if (bundled || Files.exists(Path.of(config.text().data()))) {
        var documents = documents(config, bundled);
        if (!documents.fingerprint().equals(summary.dataFingerprint())) {
          throw changed("data", summary.differences(documents), directory);
        }
      }
      if (!tokenizer.fingerprint().equals(summary.tokenizerFingerprint())) {
        throw changed(
            "tokenizer", summary.tokenizer() + ", now " + tokenizer.describe(), directory);
      }
      corpus.tell(notes);
      return corpus;
    }
    var corpus =
        Corpus.prepare(
            documents(config, bundled), tokenizer, config.text().heldOutShare(), directory, notes);
    try {
      tokenizer.write(directory);
    } catch (IOException e) {
      throw new UncheckedIOException(
          new IOException("%s; choose another --output".formatted(Failures.words(e)), e));
    }
    return corpus;
  }

  /// Refuses another text than a training had, whose name for it is taken over.
  public static void requireTextOf(RunManifest trained, RunConfig config) {
    boolean bundled = isBundled(config);
    if (bundled && config.text().data().equals(BigramBackcopy.NAME)) {
      return; // made to the length of the sequences, and the same task
    }
    if (!documents(config, bundled).fingerprint().equals(trained.dataFingerprint())) {
      throw new InvalidInputException(
          "%s is not the text that the model was trained on: it changed, or is another of that name; restore it, or name the text that is meant as data"
              .formatted(config.text().data()));
    }
  }

  /// Refuses sequences that are too long for a text which is made to their length.
  static void requireLength(RunConfig config) {
    if (isBundled(config) && config.text().data().equals(BigramBackcopy.NAME)) {
      BigramBackcopy.requireLength(config.batch().sequenceLength());
    }
  }

  /// Unless the user has a file of that name.
  private static boolean isBundled(RunConfig config) {
    String data = config.text().data();
    return (data.equals(TextSettings.BOOK) || data.equals(BigramBackcopy.NAME))
        && !Files.exists(Path.of(data));
  }

  private static Documents documents(RunConfig config, boolean bundled) {
    if (!bundled) {
      return Documents.at(Path.of(config.text().data()), config.text().textField());
    }
    return config.text().data().equals(TextSettings.BOOK)
        ? Documents.mobyDick()
        : Documents.bigramBackcopy(config.batch().sequenceLength());
  }

  private static InvalidInputException changed(String what, String difference, Path directory) {
    return new InvalidInputException(
        "the %s changed since %s was prepared (%s); restore it or choose another --output"
            .formatted(what, directory, difference));
  }
}
