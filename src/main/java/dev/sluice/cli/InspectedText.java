package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.corpus.Corpus;
import dev.sluice.corpus.Documents;
import dev.sluice.corpus.HeldOutReader;
import dev.sluice.corpus.TokenShard;
import dev.sluice.corpus.WindowRule;
import dev.sluice.files.Failures;
import dev.sluice.files.Trees;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.BatchSettings;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// What a model is inspected on: windows spread evenly over a text.
///
/// @param name what to call the text
/// @param fingerprint of the documents that it comes from
/// @param tokens how long the whole text is
/// @param windows of T + 1 token ids
/// @param bytes bytes of text behind the T predicted tokens of each, together
/// @param warnings what a reader must know
record InspectedText(
    String name,
    String fingerprint,
    long tokens,
    List<long[]> windows,
    long bytes,
    List<String> warnings) {
  private static final String MOBY_DICK = "moby-dick";

  /// Tokens that are measured at once, all windows together.
  private static final long MOST_TOKENS = 1 << 24;

  /// Reads the text that the user names; without one, what the model's run held out, or else the
  /// bundled book.
  ///
  /// @param length T
  static InspectedText read(
      ModelSource source,
      Tokenizer tokenizer,
      @Nullable String data,
      String textField,
      int count,
      int length) {
    if (count < 1) {
      throw new InvalidInputException("--windows must be at least 1, not " + count);
    }
    if (length < 2) {
      throw new InvalidInputException("--tokens must be at least 2, not " + length);
    }
    List<String> warnings = new ArrayList<>();
    var trained = source.trainedOnSequences();
    if (trained.isPresent() && length > trained.get().sequenceLength()) {
      warnings.add(
          "Windows of %d tokens are longer than the %d that the model was trained with, so the loss and the attention at later positions are of a kind that it never learned; leave out --tokens."
              .formatted(length, trained.get().sequenceLength()));
    }
    var rule = trained.map(BatchSettings::windowRule).orElse(WindowRule.STREAM);
    if (rule == WindowRule.DOCUMENTS) {
      warnings.add(
          "The model was trained on sequences that begin at documents with their start token, and"
              + " so do the windows.");
    }
    if (trained.isPresent() && trained.get().documentMask()) {
      warnings.add(
          "The model was trained to see its own document alone, so each document of a window is"
              + " measured by itself.");
    }
    Path run = source.run();
    Path corpus = run == null ? null : corpusOf(run);
    if (data == null && corpus != null) {
      return heldOut(Corpus.open(corpus), tokenizer, rule, count, length, warnings);
    }
    boolean bundled = data == null || (data.equals(MOBY_DICK) && !Files.exists(Path.of(MOBY_DICK)));
    var documents = bundled ? Documents.mobyDick() : Documents.at(Path.of(data), textField);
    if (documents.fingerprint().equals(source.trainedOn())) {
      warnings.add(
          "The model was trained on this text, so its loss says little; "
              + (corpus == null
                  ? "pass another with --data."
                  : "without --data its held-out part is taken."));
    }
    return whole(documents, tokenizer, rule, count, length, warnings);
  }

  /// The run's own corpus, or that of the study whose trial it is; null when there is none.
  private static @Nullable Path corpusOf(Path run) {
    Path absolute = run.toAbsolutePath().normalize();
    for (Path place : new Path[] {absolute, absolute.resolve("../..").normalize()}) {
      if (Files.isRegularFile(place.resolve("corpus/corpus.json"))) {
        return place.resolve("corpus");
      }
    }
    return null;
  }

  private static InspectedText heldOut(
      Corpus corpus,
      Tokenizer tokenizer,
      WindowRule rule,
      int count,
      int length,
      List<String> warnings) {
    var summary = corpus.summary();
    if (!summary.tokenizerFingerprint().equals(tokenizer.fingerprint())) {
      throw new InvalidInputException(
          "the run's held-out text was made with the tokenizer %s, not %s; leave out --tokenizer or pass --data"
              .formatted(summary.tokenizer(), tokenizer.describe()));
    }
    String name = "held-out part of " + summary.data();
    return spread(
        name,
        summary.dataFingerprint(),
        corpus.heldOut(),
        tokenizer,
        rule,
        count,
        length,
        warnings);
  }

  private static InspectedText whole(
      Documents documents,
      Tokenizer tokenizer,
      WindowRule rule,
      int count,
      int length,
      List<String> warnings) {
    Path directory = null;
    try {
      directory = Files.createTempDirectory("sluice-inspect-");
      var corpus = Corpus.prepare(documents, tokenizer, 0, directory, warnings::add);
      return spread(
          documents.name(),
          documents.fingerprint(),
          corpus.train(),
          tokenizer,
          rule,
          count,
          length,
          warnings);
    } catch (IOException e) {
      throw new InvalidInputException(
          "no temporary folder can be made for the tokens (%s); check TMPDIR"
              .formatted(Failures.words(e)),
          e);
    } finally {
      if (directory != null) {
        remove(directory);
      }
    }
  }

  private static InspectedText spread(
      String name,
      String fingerprint,
      TokenShard shard,
      Tokenizer tokenizer,
      WindowRule rule,
      int count,
      int length,
      List<String> warnings) {
    if ((shard.length() - 1) / length < 2) {
      throw new InvalidInputException(
          "%s has %d tokens, fewer than two windows of %d; give a longer text with --data or a smaller --tokens"
              .formatted(name, shard.length(), length));
    }
    List<String> all = new ArrayList<>(warnings);
    var reader = reader(shard, tokenizer, rule, length, all);
    long measured = (long) Math.min(count, reader.count()) * length;
    if (measured > MOST_TOKENS) {
      throw new InvalidInputException(
          "%d windows of %d tokens are %d tokens, more than the %d that are measured at once; use a smaller --windows"
              .formatted(Math.min(count, reader.count()), length, measured, MOST_TOKENS));
    }
    var sample = reader.sample(count);
    if (sample.windows().size() < count) {
      all.add(
          "The text has only %d windows of %d tokens.".formatted(sample.windows().size(), length));
    }
    return new InspectedText(
        name, fingerprint, shard.length(), sample.windows(), sample.bytes(), all);
  }

  /// Windows like those of the training, or where the text has too few documents for that, of
  /// another kind, and it is said.
  private static HeldOutReader reader(
      TokenShard shard, Tokenizer tokenizer, WindowRule rule, int length, List<String> warnings) {
    try {
      return new HeldOutReader(shard, length, tokenizer, rule);
    } catch (InvalidInputException e) {
      if (rule == WindowRule.STREAM) {
        throw e;
      }
      warnings.add(
          "The text has fewer than two documents for that, so windows begin anywhere in it, without"
              + " a start token, as no sequence did that the model was trained on.");
      return new HeldOutReader(shard, length, tokenizer);
    }
  }

  /// The mapped tokens stay readable until they are let go.
  private static void remove(Path directory) {
    try {
      Trees.remove(directory);
    } catch (IOException e) {
      directory.toFile().deleteOnExit(); // what was measured counts more
    }
  }
}
