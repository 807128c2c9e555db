package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What a prepared corpus was made of and what is in it: the content of `corpus.json`.
///
/// @param format version of the files and of the rules that made them
/// @param data where the documents came from, for people
/// @param dataFingerprint [Documents#fingerprint]
/// @param parts [Documents#parts]; empty in corpora of before these were recorded
/// @param tokenizer for people
/// @param tokenizerFingerprint [dev.sluice.tokenizer.Tokenizer#fingerprint]
/// @param heldOutShare the share that was asked for
/// @param brokenCharacters of the texts, which were no UTF-8 and read as U+FFFD; 0 in corpora of
///   before these were counted
/// @param emptyDocuments left out; 0 in corpora of before these were counted
public record CorpusSummary(
    int format,
    String data,
    String dataFingerprint,
    Map<String, String> parts,
    String tokenizer,
    String tokenizerFingerprint,
    int vocabularySize,
    double heldOutShare,
    long brokenCharacters,
    long emptyDocuments,
    Split train,
    Split heldOut) {
  /// Raised whenever the same inputs would give other shards.
  static final int FORMAT = 1;

  /// More empty documents than one to so many others are told.
  private static final int OTHERS_PER_EMPTY = 10;

  public CorpusSummary {
    require(format >= 1, "format", format);
    if (format > FORMAT) {
      throw new InvalidInputException(
          "its format is %d, and this version of Sluice knows formats up to %d; use the version that prepared it"
              .formatted(format, FORMAT));
    }
    require(data != null, "data", data);
    require(dataFingerprint != null, "dataFingerprint", dataFingerprint);
    require(tokenizer != null, "tokenizer", tokenizer);
    require(tokenizerFingerprint != null, "tokenizerFingerprint", tokenizerFingerprint);
    require(vocabularySize >= 1, "vocabularySize", vocabularySize);
    require(heldOutShare >= 0 && heldOutShare < 1, "heldOutShare", heldOutShare);
    require(brokenCharacters >= 0, "brokenCharacters", brokenCharacters);
    require(emptyDocuments >= 0, "emptyDocuments", emptyDocuments);
    require(train != null, "train", train);
    require(heldOut != null, "heldOut", heldOut);
    parts = parts == null ? Map.of() : Collections.unmodifiableMap(new LinkedHashMap<>(parts));
  }

  private static void require(boolean possible, String field, @Nullable Object value) {
    if (!possible) {
      throw new InvalidInputException(
          value == null
              ? "it lacks '%s'".formatted(field)
              : "its '%s' cannot be %s; delete the folder and prepare the corpus again"
                  .formatted(field, value));
    }
  }

  /// What a user of the corpus should know of the texts.
  List<String> notes() {
    List<String> notes = new ArrayList<>();
    if (brokenCharacters > 0) {
      notes.add(
          "Characters of %s that are not UTF-8 and are read as U+FFFD: %d; convert the text, for instance with iconv, where they matter."
              .formatted(data, brokenCharacters));
    }
    if (emptyDocuments > (train.documents + heldOut.documents) / OTHERS_PER_EMPTY) {
      notes.add(
          "Documents of %s that are empty and are left out: %d.".formatted(data, emptyDocuments));
    }
    return notes;
  }

  /// What documents of now differ in: `book.txt changed, notes.txt is new`.
  public String differences(Documents now) {
    var differences = new ArrayList<String>();
    var present = now.parts();
    parts.forEach(
        (name, before) -> {
          String after = present.get(name);
          if (after == null) {
            differences.add(name + " is gone");
          } else if (!after.equals(before)) {
            differences.add(name + " changed");
          }
        });
    present.keySet().stream()
        .filter(name -> !parts.containsKey(name))
        .forEach(name -> differences.add(name + " is new"));
    return differences.isEmpty() // corpora of before parts were recorded, or with a changed name
        ? "fingerprint %s, now %s".formatted(dataFingerprint, now.fingerprint())
        : String.join(", ", differences);
  }

  /// What is in one shard.
  ///
  /// @param documents separators in the shard; a document that was cut counts in both
  /// @param bytes UTF-8 bytes of the text, without separators
  /// @param tokens length of the shard, with separators
  /// @param sha256 of the shard's file
  public record Split(long documents, long bytes, long tokens, String sha256) {
    public Split {
      require(tokens >= 0, "tokens", tokens);
      require(documents >= 0 && documents <= tokens, "documents", documents);
      require(bytes >= 0, "bytes", bytes);
      require(sha256 != null, "sha256", sha256);
    }
  }

  /// Whether both were made from the same inputs by the same rules.
  boolean sameInputs(CorpusSummary that) {
    return format == that.format
        && dataFingerprint.equals(that.dataFingerprint)
        && tokenizerFingerprint.equals(that.tokenizerFingerprint)
        && vocabularySize == that.vocabularySize
        && heldOutShare == that.heldOutShare;
  }
}
