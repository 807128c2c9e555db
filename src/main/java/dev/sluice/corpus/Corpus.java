package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Sha256;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.MapperFeature;
import tools.jackson.databind.ObjectWriter;
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
  /// Raised whenever the same inputs would give other shards.
  private static final int FORMAT = 1;

  private static final String TRAIN = "train.tokens";
  private static final String HELD_OUT = "held-out.tokens";
  private static final String SUMMARY = "corpus.json";
  private static final CorpusSummary.Split NOTHING = new CorpusSummary.Split(0, 0, 0, "");
  private static final JsonMapper JSON =
      JsonMapper.builder().disable(MapperFeature.SORT_PROPERTIES_ALPHABETICALLY).build();

  /// Tokenises a file or a folder; see [Documents#at] for what can be read.
  public static Corpus prepare(
      Path data, String textField, Tokenizer tokenizer, double heldOutShare, Path directory) {
    return prepare(Documents.at(data, textField), tokenizer, heldOutShare, directory);
  }

  /// Tokenises documents into `directory`, or reuses what is there if it was made from the same
  /// documents by the same tokenizer with the same share.
  ///
  /// With 20 documents or more, whole documents are held out, chosen by a hash of their content.
  /// With fewer, the last share of each is. Every document is followed by the tokenizer's
  /// separator.
  ///
  /// @param heldOutShare share of the text to hold out, from 0 to below 1
  public static Corpus prepare(
      Documents documents, Tokenizer tokenizer, double heldOutShare, Path directory) {
    if (!(heldOutShare >= 0 && heldOutShare < 1)) {
      throw new InvalidInputException(
          "A held-out share of %s is not possible; give a number from 0 to below 1, such as 0.05."
              .formatted(heldOutShare));
    }
    var wanted =
        new CorpusSummary(
            FORMAT,
            documents.name(),
            documents.fingerprint(),
            Map.of(),
            tokenizer.describe(),
            tokenizer.fingerprint(),
            tokenizer.vocabularySize(),
            heldOutShare,
            NOTHING,
            NOTHING);
    Corpus present = reusable(directory, wanted);
    return present != null ? present : write(documents, tokenizer, wanted, directory);
  }

  /// Opens a corpus that was prepared before; see [#verify].
  public static Corpus open(Path directory) {
    Path file = directory.resolve(SUMMARY);
    if (!Files.isRegularFile(file)) {
      throw new InvalidInputException(
          "%s is no prepared corpus (it has no %s); prepare it from the texts."
              .formatted(directory, SUMMARY));
    }
    CorpusSummary summary;
    try {
      summary = JSON.readValue(Files.readAllBytes(file), CorpusSummary.class);
    } catch (IOException | JacksonException e) {
      throw new InvalidInputException(
          "%s is damaged (%s); delete it and prepare the corpus again."
              .formatted(file, String.valueOf(e.getMessage()).lines().findFirst().orElse("")),
          e);
    }
    if (summary == null || summary.train() == null || summary.heldOut() == null) {
      throw new InvalidInputException(
          "%s is incomplete; delete it and prepare the corpus again.".formatted(file));
    }
    return new Corpus(
        directory,
        summary,
        map(directory.resolve(TRAIN), summary.train(), summary.vocabularySize()),
        map(directory.resolve(HELD_OUT), summary.heldOut(), summary.vocabularySize()));
  }

  private static TokenShard map(Path file, CorpusSummary.Split split, int vocabularySize) {
    TokenShard shard = TokenShard.map(file, vocabularySize);
    if (shard.length() != split.tokens()) {
      throw new InvalidInputException(
          "%s has %d tokens where %s says %d; prepare the corpus again."
              .formatted(file, shard.length(), SUMMARY, split.tokens()));
    }
    return shard;
  }

  /// Reads both shards through and compares their checksums: finds a disk's silent errors.
  public void verify() {
    verify(directory.resolve(TRAIN), summary.train());
    verify(directory.resolve(HELD_OUT), summary.heldOut());
  }

  private static void verify(Path file, CorpusSummary.Split split) {
    MessageDigest digest = Sha256.digest();
    try {
      Sha256.updateContent(digest, file);
    } catch (IOException e) {
      throw new InvalidInputException(
          "The token file %s cannot be read (%s); prepare the corpus again.".formatted(file, e), e);
    }
    if (!Sha256.hex(digest).equals(split.sha256())) {
      throw new InvalidInputException(
          "%s does not match its checksum; delete the folder and prepare the corpus again."
              .formatted(file));
    }
  }

  private static @Nullable Corpus reusable(Path directory, CorpusSummary wanted) {
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
    } catch (InvalidInputException _) {
      return null; // damaged: made again from the texts
    }
  }

  private static Corpus write(
      Documents documents, Tokenizer tokenizer, CorpusSummary wanted, Path directory) {
    HeldOutRule rule = HeldOutRule.choose(documents, wanted.heldOutShare());
    try {
      Files.createDirectories(directory);
      try (var train = new ShardWriter(directory.resolve(TRAIN), tokenizer);
          var heldOut = new ShardWriter(directory.resolve(HELD_OUT), tokenizer)) {
        tokenise(documents, rule, train, heldOut);
        requireText(documents, wanted.heldOutShare(), train, heldOut);
        Corpus present = reusable(directory, wanted);
        if (present != null) { // another process was faster
          return present;
        }
        Files.deleteIfExists(directory.resolve(SUMMARY));
        var summary =
            new CorpusSummary(
                wanted.format(),
                wanted.data(),
                wanted.dataFingerprint(),
                documents.parts(),
                wanted.tokenizer(),
                wanted.tokenizerFingerprint(),
                wanted.vocabularySize(),
                wanted.heldOutShare(),
                train.publish(),
                heldOut.publish());
        publish(summary, directory);
      }
    } catch (IOException e) {
      throw new InvalidInputException(
          "The prepared corpus cannot be written to %s (%s); choose another folder."
              .formatted(directory, e),
          e);
    }
    return open(directory);
  }

  private static void tokenise(
      Documents documents, HeldOutRule rule, ShardWriter train, ShardWriter heldOut)
      throws IOException {
    var pieces = new Pieces();
    int index = 0;
    try (DocumentCursor cursor = documents.open()) {
      for (Document document = cursor.next(); document != null; document = cursor.next()) {
        switch (rule) {
          case HeldOutRule.Whole(long limit) -> {
            pieces.open(document.text());
            String piece = pieces.next();
            if (piece == null) {
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
            pieces.open(document.text(), tail.cut(), tail.slack());
            ShardWriter side = pieces.pastCut() ? heldOut : train;
            String piece = pieces.next();
            if (piece == null) {
              continue;
            }
            if (!surveyed) {
              throw new InvalidInputException(
                  "%s changed while it was read; prepare it again when it is complete."
                      .formatted(documents.name()));
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
    }
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

  private static void publish(CorpusSummary summary, Path directory) throws IOException {
    ObjectWriter writer = JSON.writer().with(SerializationFeature.INDENT_OUTPUT);
    Path partial = Files.createTempFile(directory, "preparing-", ".json");
    try {
      Files.write(partial, writer.writeValueAsBytes(summary));
      Files.move(
          partial,
          directory.resolve(SUMMARY),
          StandardCopyOption.ATOMIC_MOVE,
          StandardCopyOption.REPLACE_EXISTING);
    } finally {
      Files.deleteIfExists(partial);
    }
  }
}
