package dev.sluice.corpus;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/// What a prepared corpus was made of and what is in it: the content of `corpus.json`.
///
/// @param format version of the files and of the rules that made them
/// @param data where the documents came from, for people
/// @param dataFingerprint [Documents#fingerprint]
/// @param parts [Documents#parts]; empty in corpora of before these were recorded
/// @param tokenizer for people
/// @param tokenizerFingerprint [dev.sluice.tokenizer.Tokenizer#fingerprint]
/// @param heldOutShare the share that was asked for
public record CorpusSummary(
    int format,
    String data,
    String dataFingerprint,
    Map<String, String> parts,
    String tokenizer,
    String tokenizerFingerprint,
    int vocabularySize,
    double heldOutShare,
    Split train,
    Split heldOut) {
  public CorpusSummary {
    parts = parts == null ? Map.of() : Collections.unmodifiableMap(new LinkedHashMap<>(parts));
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
    return String.join(", ", differences);
  }

  /// What is in one shard.
  ///
  /// @param documents separators in the shard; a document that was cut counts in both
  /// @param bytes UTF-8 bytes of the text, without separators
  /// @param tokens length of the shard, with separators
  /// @param sha256 of the shard's file
  public record Split(long documents, long bytes, long tokens, String sha256) {}

  /// Whether both were made from the same inputs by the same rules.
  boolean sameInputs(CorpusSummary that) {
    return format == that.format
        && dataFingerprint.equals(that.dataFingerprint)
        && tokenizerFingerprint.equals(that.tokenizerFingerprint)
        && vocabularySize == that.vocabularySize
        && heldOutShare == that.heldOutShare;
  }
}
