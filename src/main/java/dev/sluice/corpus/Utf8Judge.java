package dev.sluice.corpus;

import dev.sluice.InvalidInputException;

/// Judges from the broken characters of a file, or of a column of one, whether it is UTF-8 text
/// with a few faults, or something else. All of it is judged and any long stretch of it, so that
/// bytes of another kind behind much text are found.
final class Utf8Judge {
  /// A stretch may have one broken character in so many bytes.
  private static final int BYTES_PER_BROKEN_CHARACTER = 200;

  private static final int STRETCH_BITS = 16;
  private static final int STRETCH = 1 << STRETCH_BITS;

  private final String name;
  private long bytes;
  private long broken;
  private String first = "";
  private long stretch;
  private int brokenInStretch;
  private int brokenInStretchBefore;

  /// @param name what messages begin with
  Utf8Judge(String name) {
    this.name = name;
  }

  /// Hears of a broken character, in the order in which they stand.
  ///
  /// @param at which byte begins it
  /// @param place the same for people
  void broken(long at, String place) {
    if (broken == 0) {
      first = place;
    }
    enter(at >>> STRETCH_BITS);
    broken++;
    brokenInStretch++;
    if ((long) brokenInStretch * BYTES_PER_BROKEN_CHARACTER > STRETCH) {
      bytes = at + 1;
      throw refusal();
    }
  }

  /// Hears of the end.
  ///
  /// @param end how many bytes there were
  void end(long end) {
    bytes = end;
    enter(end >>> STRETCH_BITS);
    long stretchStart = end >>> STRETCH_BITS << STRETCH_BITS;
    long recent = Math.min(end, end - stretchStart + STRETCH);
    long brokenInRecent = (long) brokenInStretch + brokenInStretchBefore;
    if (brokenInRecent * BYTES_PER_BROKEN_CHARACTER > recent
        || broken * BYTES_PER_BROKEN_CHARACTER > end) {
      throw refusal();
    }
  }

  private void enter(long next) {
    if (next != stretch) {
      brokenInStretchBefore = next == stretch + 1 ? brokenInStretch : 0;
      brokenInStretch = 0;
      stretch = next;
    }
  }

  /// Broken characters so far.
  long broken() {
    return broken;
  }

  private InvalidInputException refusal() {
    return new InvalidInputException(
        "%s is not UTF-8 (%d broken characters in %d bytes, the first at %s); convert it, for instance with iconv -f WINDOWS-1252 -t UTF-8, or remove it"
            .formatted(name, broken, bytes, first));
  }
}
