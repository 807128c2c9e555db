package dev.sluice;

/// Text that came from outside, made fit for a terminal: nothing in it steers the terminal, hides
/// text or reorders it.
///
/// A control character is shown by its picture (`␛` for ESC), any other character of that kind as
/// U+FFFD.
public final class Printable {
  /// A message longer than this loses its middle: its start says what is wrong, its end the way
  /// out.
  private static final int LONGEST_LINE = 2000;

  private static final int KEPT_END = 600;

  private Printable() {}

  /// One line of at most some thousand characters; line breaks are shown by their pictures.
  public static String line(String text) {
    return cleaned(clipped(text, LONGEST_LINE, KEPT_END), "");
  }

  /// The text with its line breaks and tabulators.
  public static String lines(String text) {
    return cleaned(text, "\n\r\t");
  }

  /// A value that a message quotes, in at most so many characters.
  public static String brief(Object value, int characters) {
    String text = String.valueOf(value);
    return cleaned(clipped(text, characters, characters / 3), "");
  }

  private static String clipped(String text, int most, int end) {
    return text.length() <= most
        ? text
        : text.substring(0, most - end) + " … " + text.substring(text.length() - end);
  }

  private static String cleaned(String text, String kept) {
    return text.codePoints()
        .map(c -> kept.indexOf(c) >= 0 ? c : cleaned(c))
        .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
        .toString();
  }

  private static int cleaned(int c) {
    if (c < 0x20) {
      return 0x2400 + c;
    }
    if (c == 0x7F) {
      return 0x2421;
    }
    boolean steers =
        (c > 0x7E && c < 0xA0) // C1 controls
            || c == 0x061C
            || c == 0x200E
            || c == 0x200F
            || (c >= 0x2028 && c <= 0x202E)
            || (c >= 0x2066 && c <= 0x2069)
            || (c >= 0xD800 && c <= 0xDFFF) // half a pair
            || (c & 0xFFFE) == 0xFFFE
            || (c >= 0xE0000 && c <= 0xE0FFF); // invisible tags
    return steers ? 0xFFFD : c;
  }
}
