package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.DirectoryLock;
import dev.sluice.files.Failures;
import dev.sluice.files.JsonFile;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeFile;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.MapperFeature;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// Tokenised text, ready to train on, in a folder with `train.tokens`, `held-out.tokens` and
/// `corpus.json`. The last is written last: where it exists, the shards are complete.
///
/// @param directory the folder
/// @param summary what `corpus.json` says
/// @param train what to train on
/// @param heldOut what to measure on; shares no document, and no part of one, with `train`
public record Corpus(Path directory, CorpusSummary summary, TokenShard train, TokenShard heldOut) {
  private static final String TRAIN = "train.tokens";
  private static final String HELD_OUT = "held-out.tokens";
  private static final String SUMMARY = "corpus.json";
  private static final CorpusSummary.Split NOTHING = new CorpusSummary.Split(0, 0, 0, "");
  private static final JsonMapper JSON =
      JsonFile.mapper().disable(MapperFeature.SORT_PROPERTIES_ALPHABETICALLY).build();

  /// Names of what a preparation writes before it is done, now and in older versions.
  private static final Pattern UNFINISHED =
      Pattern.compile(
          "\\.(train\\.tokens|held-out\\.tokens|corpus\\.json)\\.[0-9a-f]{16}\\.partial"
              + "|preparing-\\d+\\.(tokens|json)");

  /// Tokenises a file or a folder; see [Documents#at] for what can be read.
  public static Corpus prepare(
      Path data, String textField, Tokenizer tokenizer, double heldOutShare, Path directory) {
    return prepare(Documents.at(data, textField), tokenizer, heldOutShare, directory);
  }

  /// As below; what the user should know is in [#summary].
  public static Corpus prepare(
      Documents documents, Tokenizer tokenizer, double heldOutShare, Path directory) {
    return prepare(documents, tokenizer, heldOutShare, directory, _ -> {});
  }

  /// Tokenises documents into `directory`, or reuses what is there if it was made from the same
  /// documents by the same tokenizer with the same share. While another process prepares there, it
  /// waits.
  ///
  /// With 20 documents or more, whole documents are held out, chosen by a hash of their content.
  /// With fewer, the last share of each is. Every document is followed by the tokenizer's
  /// separator.
  ///
  /// @param heldOutShare share of the text to hold out, from 0 to below 1
  /// @param notes hears, in sentences, what the user should know
  /// @throws UncheckedIOException if the folder cannot be written
  public static Corpus prepare(
      Documents documents,
      Tokenizer tokenizer,
      double heldOutShare,
      Path directory,
      Consumer<String> notes) {
    if (!(heldOutShare >= 0 && heldOutShare < 1)) {
      throw new InvalidInputException(
          "A held-out share of %s is not possible; give a number from 0 to below 1, such as 0.05."
              .formatted(heldOutShare));
    }
    documents.notes().forEach(notes);
    var wanted =
        new CorpusSummary(
            CorpusSummary.FORMAT,
            documents.name(),
            documents.fingerprint(),
            Map.of(),
            tokenizer.describe(),
            tokenizer.fingerprint(),
            tokenizer.vocabularySize(),
            heldOutShare,
            0,
            0,
            NOTHING,
            NOTHING);
    Corpus present = reusable(directory, wanted, notes);
    var corpus = present != null ? present : write(documents, tokenizer, wanted, directory, notes);
    corpus.tell(notes);
    return corpus;
  }

  /// Opens a corpus that was prepared before; see [#verify].
  public static Corpus open(Path directory) {
    Path file = directory.resolve(SUMMARY);
    if (!Files.isRegularFile(file)) {
      throw new InvalidInputException(
          "%s is no prepared corpus (it has no %s); prepare it from the texts."
              .formatted(directory, SUMMARY));
    }
    var summary =
        JsonFile.bound(
            file,
            JsonFile.LARGE,
            JSON,
            CorpusSummary.class,
            "delete it and prepare the corpus again");
    return new Corpus(
        directory,
        summary,
        map(directory.resolve(TRAIN), summary.train(), summary),
        map(directory.resolve(HELD_OUT), summary.heldOut(), summary));
  }

  private static TokenShard map(Path file, CorpusSummary.Split split, CorpusSummary summary) {
    return TokenShard.map(file, split.tokens(), summary.vocabularySize());
  }

  /// Reads both shards through: compares their checksums, which finds a disk's silent errors, and
  /// every id with the vocabulary.
  public void verify() {
    train.verify(summary.train().sha256());
    heldOut.verify(summary.heldOut().sha256());
  }

  /// Says what the user should know of the texts, in sentences.
  public void tell(Consumer<String> notes) {
    summary.notes().forEach(notes);
  }

  private static @Nullable Corpus reusable(
      Path directory, CorpusSummary wanted, Consumer<String> notes) {
    if (!Files.exists(directory.resolve(SUMMARY))) {
      return null;
    }
    try {
      Corpus present = open(directory);
      if (!present.summary.sameInputs(wanted)) {
        return null;
      }
      present.verify();
      return present;
    } catch (InvalidInputException damage) {
      notes.accept("The corpus is made again from the texts: " + damage.getMessage());
      return null;
    }
  }

  private static Corpus write(
      Documents documents,
      Tokenizer tokenizer,
      CorpusSummary wanted,
      Path directory,
      Consumer<String> notes) {
    HeldOutRule rule = HeldOutRule.choose(documents, wanted.heldOutShare());
    Consumer<String> waiting =
        owner -> notes.accept("Waiting for %s, which is in use by %s.".formatted(directory, owner));
    try (var lock =
        DirectoryLock.await(directory, "a preparation of " + documents.name(), waiting)) {
      if (lock.warning() == null) {
        removeLeftovers(directory);
      } else {
        notes.accept(lock.warning());
      }
      Corpus present = reusable(directory, wanted, _ -> {}); // what it says was said
      if (present != null) { // another process was faster
        return present;
      }
      try (var train = new ShardWriter(directory.resolve(TRAIN), tokenizer);
          var heldOut = new ShardWriter(directory.resolve(HELD_OUT), tokenizer)) {
        var passedOver = tokenise(documents, rule, train, heldOut);
        requireText(documents, wanted.heldOutShare(), train, heldOut);
        var parts = documents.parts();
        requireUnchanged(documents, wanted.dataFingerprint());
        Files.deleteIfExists(directory.resolve(SUMMARY));
        var summary =
            new CorpusSummary(
                wanted.format(),
                wanted.data(),
                wanted.dataFingerprint(),
                parts,
                wanted.tokenizer(),
                wanted.tokenizerFingerprint(),
                wanted.vocabularySize(),
                wanted.heldOutShare(),
                passedOver.broken(),
                passedOver.empty(),
                train.publish(),
                heldOut.publish());
        byte[] json =
            JSON.writer().with(SerializationFeature.INDENT_OUTPUT).writeValueAsBytes(summary);
        WholeFile.write(directory.resolve(SUMMARY), out -> out.write(json));
      }
    } catch (IOException e) {
      throw new UncheckedIOException( // the machine's fault, not the texts'
          new IOException(
              "The prepared corpus cannot be written to %s (%s); make room there, or choose another folder."
                  .formatted(directory, Failures.words(e)),
              e));
    }
    return open(directory);
  }

  /// Removes what a preparation left that was killed; there is no other while this one owns the
  /// directory.
  private static void removeLeftovers(Path directory) throws IOException {
    for (Path child : Trees.children(directory)) {
      String name = String.valueOf(child.getFileName());
      if (UNFINISHED.matcher(name).matches() && Trees.isFile(child)) {
        Files.delete(child);
      }
    }
  }

  /// What no shard has.
  ///
  /// @param broken characters that read as U+FFFD
  /// @param empty documents
  private record PassedOver(long broken, long empty) {}

  private static PassedOver tokenise(
      Documents documents, HeldOutRule rule, ShardWriter train, ShardWriter heldOut)
      throws IOException {
    var pieces = new Pieces();
    int index = 0;
    long empty = 0;
    try (DocumentCursor cursor = documents.open()) {
      for (Document document = cursor.next(); document != null; document = cursor.next()) {
        switch (rule) {
          case HeldOutRule.Whole(long limit) -> {
            pieces.open(document);
            String piece = pieces.next();
            if (piece == null) {
              empty++;
              continue;
            }
            ShardWriter side = HeldOutRule.hash(piece) < limit ? heldOut : train;
            for (; piece != null; piece = pieces.next()) {
              side.text(piece);
            }
          }
          case HeldOutRule.Tails(var tails) -> {
            boolean surveyed = index < tails.size();
            var tail = surveyed ? tails.get(index) : new HeldOutRule.Tail(0, 0);
            pieces.open(document, tail.cut(), tail.slack());
            ShardWriter side = pieces.pastCut() ? heldOut : train;
            String piece = pieces.next();
            if (piece == null) {
              empty++;
              continue;
            }
            if (!surveyed) {
              throw changed(documents);
            }
            for (; piece != null; piece = pieces.next()) {
              side.text(piece);
              side = pieces.pastCut() ? heldOut : train;
            }
            index++;
          }
        }
        train.endDocument();
        heldOut.endDocument();
      }
      return new PassedOver(cursor.broken(), empty);
    }
  }

  private static void requireUnchanged(Documents documents, String fingerprint) {
    if (!documents.fingerprint().equals(fingerprint)) {
      throw changed(documents);
    }
  }

  private static InvalidInputException changed(Documents documents) {
    return new InvalidInputException(
        "%s changed while it was read; prepare it again when it is complete."
            .formatted(documents.name()));
  }

  private static void requireText(
      Documents documents, double heldOutShare, ShardWriter train, ShardWriter heldOut) {
    if (train.documents() + heldOut.documents() == 0) {
      throw new InvalidInputException(
          "%s has no text; give data with at least one document that is not empty."
              .formatted(documents.name()));
    }
    if (train.documents() == 0) {
      throw new InvalidInputException(
          "Holding out %s of %s leaves nothing to train on; give more, or more varied, documents or a smaller share."
              .formatted(heldOutShare, documents.name()));
    }
  }
}
