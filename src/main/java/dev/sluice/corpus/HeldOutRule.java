package dev.sluice.corpus;

import dev.sluice.files.Sha256;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/// Which text is held out.
sealed interface HeldOutRule {
  /// From so many documents on whole ones are held out: no text is then on both sides of a border,
  /// and the held-out part is as varied as the rest.
  int MANY = 20;

  /// Documents looked at before deciding; up to here the share is met as closely as whole documents
  /// allow, above it chance alone is close enough.
  int SURVEYED = 1000;

  /// The end of every document, from [Tail#cut] on.
  record Tails(List<Tail> tails) implements HeldOutRule {}

  /// Held out is what follows `cut` characters, or the first good place within `slack` characters.
  record Tail(long cut, long slack) {}

  /// Every document whose hash is below the limit. The hash is that of the content, so copies of a
  /// document are on the same side.
  record Whole(long limit) implements HeldOutRule {}

  /// Surveys the first documents and decides.
  static HeldOutRule choose(Documents documents, double share) {
    record Seen(long hash, long characters, long bytes) {}
    List<Seen> survey = new ArrayList<>();
    var pieces = new Pieces();
    try (DocumentCursor cursor = documents.open()) {
      for (Document document = cursor.next();
          document != null && survey.size() < SURVEYED;
          document = cursor.next()) {
        pieces.open(document);
        String piece = pieces.next();
        if (piece == null) {
          continue;
        }
        long hash = hash(piece);
        long bytes = 0;
        for (; piece != null; piece = pieces.next()) {
          bytes += utf8Length(piece);
        }
        survey.add(new Seen(hash, pieces.position(), bytes));
      }
    }
    if (survey.size() < MANY) {
      return new Tails(survey.stream().map(seen -> tail(seen.characters(), share)).toList());
    }
    if (share == 0) {
      return new Whole(0);
    }
    survey.sort(Comparator.comparingLong(Seen::hash));
    if (survey.size() == SURVEYED) {
      // At least one is held out, whatever the hashes.
      return new Whole(Math.max((long) (share * Long.MAX_VALUE), survey.getFirst().hash() + 1));
    }
    double wanted = share * survey.stream().mapToLong(Seen::bytes).sum();
    long limit = 0;
    long taken = 0;
    for (Seen seen : survey) {
      if (taken >= wanted && seen.hash() >= limit) {
        break;
      }
      taken += seen.bytes();
      limit = seen.hash() + 1;
    }
    return new Whole(limit);
  }

  private static Tail tail(long characters, double share) {
    long heldOut = Math.round(characters * share);
    return new Tail(characters - heldOut, heldOut / 2);
  }

  /// A number ≥ 0 from the first piece of a document: its start identifies it well enough, and a
  /// document of any size is assigned before it has been read to its end.
  static long hash(String firstPiece) {
    byte[] digest = Sha256.digest().digest(firstPiece.getBytes(StandardCharsets.UTF_8));
    return ByteBuffer.wrap(digest).getLong() >>> 1;
  }

  static long utf8Length(String text) {
    return text.getBytes(StandardCharsets.UTF_8).length;
  }
}
