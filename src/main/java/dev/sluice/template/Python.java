package dev.sluice.template;

/// How Python writes a string within others.
final class Python {
  private Python() {}

  /// Without white space at the ends.
  static String strip(String string) {
    int from = 0;
    int to = string.length();
    while (from < to && Text.isSpace(string.charAt(from))) {
      from++;
    }
    while (to > from && Text.isSpace(string.charAt(to - 1))) {
      to--;
    }
    return string.substring(from, to);
  }

  /// Between quotes, double ones only where that saves escapes.
  static void quote(Text text, Text.Builder builder) {
    String string = text.string();
    char quote = string.indexOf('\'') >= 0 && string.indexOf('"') < 0 ? '"' : '\'';
    builder.append(String.valueOf(quote));
    for (int i = 0; i < string.length(); ) {
      int c = string.codePointAt(i);
      int end = i + Character.charCount(c);
      String shown =
          switch (c) {
            case '\\' -> "\\\\";
            case '\n' -> "\\n";
            case '\r' -> "\\r";
            case '\t' -> "\\t";
            default ->
                c == quote ? "\\" + quote : isPrintable(c) ? string.substring(i, end) : escape(c);
          };
      builder.append(shown, text.isConversations(i));
      i = end;
    }
    builder.append(String.valueOf(quote));
  }

  private static boolean isPrintable(int c) {
    return c == ' '
        || switch (Character.getType(c)) {
          case Character.CONTROL,
              Character.FORMAT,
              Character.SURROGATE,
              Character.PRIVATE_USE,
              Character.UNASSIGNED,
              Character.LINE_SEPARATOR,
              Character.PARAGRAPH_SEPARATOR,
              Character.SPACE_SEPARATOR ->
              false;
          default -> true;
        };
  }

  /// `\xe9`, `\u20ac` or `\U0001f600`.
  static String escape(int c) {
    return (c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x").formatted(c);
  }
}
