package dev.sluice.report;

/// Columns that text takes on a terminal: none for a mark on the character before, two for an East
/// Asian ideograph or a picture, one for any other.
final class TextWidth {
  /// First and last of the characters that take two, by Unicode's East Asian Width.
  private static final int[][] WIDE = {
    {0x1100, 0x115F}, {0x2E80, 0x303E}, {0x3041, 0xA4CF}, {0xA960, 0xA97F}, {0xAC00, 0xD7A3},
    {0xF900, 0xFAFF}, {0xFE30, 0xFE6F}, {0xFF01, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1F64F},
    {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}
  };

  private TextWidth() {}

  static int of(CharSequence text) {
    return text.codePoints().map(TextWidth::of).sum();
  }

  private static int of(int c) {
    if (c < 0x300) {
      return 1;
    }
    int type = Character.getType(c);
    if (type == Character.NON_SPACING_MARK
        || type == Character.ENCLOSING_MARK
        || type == Character.FORMAT) {
      return 0;
    }
    for (int[] range : WIDE) {
      if (c >= range[0] && c <= range[1]) {
        return 2;
      }
    }
    return 1;
  }

  /// The end of the longest start of a text, of one character at least, that takes at most so many
  /// columns.
  static int end(String text, int columns) {
    int end = 0;
    int taken = 0;
    while (end < text.length()) {
      int c = text.codePointAt(end);
      taken += of(c);
      if (taken > columns && end > 0) {
        return end;
      }
      end += Character.charCount(c);
    }
    return end;
  }
}
