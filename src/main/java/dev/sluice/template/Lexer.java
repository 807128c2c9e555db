package dev.sluice.template;

import java.math.BigInteger;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/// Splits a template into text and the words of its tags. White space around tags is as
/// `transformers` sets it: a tag that begins its line takes the blanks before it, one of statements
/// or a comment also the line end after it; `-` takes all white space on its side, `+` nothing.
final class Lexer {
  enum Kind {
    DATA,
    PRINT,
    PRINT_END,
    TAG,
    TAG_END,
    NAME,
    STRING,
    INTEGER,
    FLOAT,
    OPERATOR,
    END
  }

  /// @param text of a string without quotes and escapes, of a number in decimal
  record Token(Kind kind, String text, int at) {
    boolean is(Kind kind, String text) {
      return this.kind == kind && this.text.equals(text);
    }

    @Override
    public String toString() {
      return kind == Kind.END ? "the end" : "'" + text + "'";
    }
  }

  private static final List<String> LONG = List.of("//", "**", "==", "!=", ">=", "<=");
  private static final String SHORT = "+-*/%~[](){}<>=.:|,;";

  private final Source source;
  private final String text;
  private final List<Token> tokens = new ArrayList<>();
  private final Deque<Character> open = new ArrayDeque<>();
  private int at;

  private Lexer(Source source) {
    this.source = source;
    text = source.text();
  }

  static List<Token> tokens(Source source) {
    var lexer = new Lexer(source);
    while (lexer.at < lexer.text.length()) {
      lexer.data();
    }
    lexer.add(Kind.END, "", lexer.at);
    return lexer.tokens;
  }

  private void add(Kind kind, String word, int start) {
    tokens.add(new Token(kind, word, start));
  }

  private char peek(int offset) {
    return at + offset < text.length() ? text.charAt(at + offset) : '\0';
  }

  /// Text up to the next tag, and the tag.
  private void data() {
    int start = at;
    boolean startsLine = start == 0 || text.charAt(start - 1) == '\n';
    while (at < text.length() && !(peek(0) == '{' && "{%#".indexOf(peek(1)) >= 0)) {
      at++;
    }
    int end = at;
    char kind = peek(1);
    char sign = peek(2);
    if (at == text.length()) {
      sign = '+';
    } else if (sign == '-') {
      while (end > start && Text.isSpace(text.charAt(end - 1))) {
        end--;
      }
    } else if (sign != '+' && kind != '{') {
      int blank = end;
      while (blank > start
          && text.charAt(blank - 1) != '\n'
          && Text.isSpace(text.charAt(blank - 1))) {
        blank--;
      }
      if (blank == start ? startsLine : text.charAt(blank - 1) == '\n') {
        end = blank;
      }
    }
    if (end > start) {
      add(Kind.DATA, text.substring(start, end), start);
    }
    if (at == text.length()) {
      return;
    }
    int tag = at;
    at += sign == '-' || sign == '+' ? 3 : 2;
    switch (kind) {
      case '#' -> comment(tag);
      case '{' -> {
        add(Kind.PRINT, "{{", tag);
        words(Kind.PRINT_END, "}}");
      }
      default -> {
        add(Kind.TAG, "{%", tag);
        words(Kind.TAG_END, "%}");
      }
    }
  }

  private void comment(int start) {
    int end = text.indexOf("#}", at);
    if (end < 0) {
      throw source.wrong(start, "the comment is not closed; end it with '#}'");
    }
    char sign = end > at ? text.charAt(end - 1) : '\0';
    at = end + 2;
    close(sign, true);
  }

  /// White space behind a tag.
  private void close(char sign, boolean trims) {
    if (sign == '-') {
      blanks();
    } else if (sign != '+' && trims && peek(0) == '\n') {
      at++;
    }
  }

  private void blanks() {
    while (at < text.length() && Text.isSpace(text.charAt(at))) {
      at++;
    }
  }

  private void words(Kind endKind, String end) {
    open.clear();
    while (true) {
      blanks();
      if (at == text.length()) {
        return;
      }
      int start = at;
      char c = peek(0);
      boolean signed = (c == '-' || (c == '+' && end.equals("%}"))) && text.startsWith(end, at + 1);
      if (open.isEmpty() && (signed || text.startsWith(end, at))) {
        at += signed ? 3 : 2;
        close(signed ? c : '\0', end.equals("%}"));
        add(endKind, end, start);
        return;
      }
      if (isDigit(c)) {
        number();
      } else if (isName(text.codePointAt(at))) {
        name();
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operator();
      }
    }
  }

  private static boolean isDigit(int c) {
    return c >= '0' && c <= '9';
  }

  private static boolean isName(int c) {
    return c == '_'
        || Character.isLetterOrDigit(c)
        || (c > 127 && Character.isUnicodeIdentifierPart(c));
  }

  private void name() {
    int start = at;
    while (at < text.length() && isName(text.codePointAt(at))) {
      at += Character.charCount(text.codePointAt(at));
    }
    String name = text.substring(start, at);
    if (name.equals("raw") && tokens.getLast().kind() == Kind.TAG) {
      throw source.outside(start, "the tag 'raw'");
    }
    add(Kind.NAME, name, start);
  }

  /// The end of digits with single `_` between them, or `from` where there is none.
  private int digits(int from, String allowed) {
    int end = from;
    while (end < text.length()) {
      boolean joined = text.charAt(end) == '_' && end > from && end + 1 < text.length();
      char digit = Character.toLowerCase(text.charAt(joined ? end + 1 : end));
      if (allowed.indexOf(digit) < 0) {
        break;
      }
      end += joined ? 2 : 1;
    }
    return end;
  }

  private void number() {
    int start = at;
    String decimal = "0123456789";
    int whole = digits(start, decimal);
    int end = whole;
    if (start == 0 || text.charAt(start - 1) != '.') {
      if (whole < text.length() && text.charAt(whole) == '.') {
        int fraction = digits(whole + 1, decimal);
        end = fraction > whole + 1 ? fraction : whole;
      }
      if (end < text.length() && Character.toLowerCase(text.charAt(end)) == 'e') {
        boolean signed = end + 1 < text.length() && "+-".indexOf(text.charAt(end + 1)) >= 0;
        int from = end + (signed ? 2 : 1);
        int exponent = digits(from, decimal);
        end = exponent > from ? exponent : end;
      }
    }
    if (end > whole) {
      at = end;
      add(Kind.FLOAT, text.substring(start, end).replace("_", ""), start);
    } else {
      integer(start, whole);
    }
  }

  private void integer(int start, int whole) {
    int radix =
        switch (Character.toLowerCase(peek(1))) {
          case 'b' -> 2;
          case 'o' -> 8;
          case 'x' -> 16;
          default -> 10;
        };
    int from = start + 2;
    // The _ of a prefix stands before the first digit.
    int first = from < text.length() && text.charAt(from) == '_' ? from + 1 : from;
    if (peek(0) == '0' && radix != 10) {
      int end = digits(first, "0123456789abcdef".substring(0, radix));
      if (end > first) {
        at = end;
        integer(start, text.substring(first, end), radix);
        return;
      }
    }
    at = peek(0) == '0' ? digits(start, "0") : whole;
    integer(start, text.substring(start, at), 10);
  }

  private void integer(int start, String digits, int radix) {
    String plain = digits.replace("_", "");
    if (plain.length() > Numbers.MOST_DIGITS) {
      throw source.wrong(
          start, "a number has more than %d digits; write less".formatted(Numbers.MOST_DIGITS));
    }
    add(Kind.INTEGER, new BigInteger(plain, radix).toString(), start);
  }

  private void string(char quote) {
    int start = at++;
    while (at < text.length() && peek(0) != quote) {
      at += peek(0) == '\\' ? 2 : 1;
    }
    if (at >= text.length()) {
      throw source.wrong(start, "the string is not closed; end it with " + quote);
    }
    add(Kind.STRING, unescaped(start + 1, at), start);
    at++;
  }

  /// As Python's `unicode-escape`: what is no escape stays as it is.
  private String unescaped(int from, int to) {
    var plain = new StringBuilder();
    int i = from;
    while (i < to) {
      char c = text.charAt(i++);
      if (c != '\\') {
        plain.append(c);
        continue;
      }
      int escape = i - 1;
      char kind = text.charAt(i++);
      int simple = "\\'\"abfnrtv".indexOf(kind);
      if (simple >= 0) {
        plain.append("\\'\"\u0007\b\f\n\r\t\u000B".charAt(simple));
      } else if (kind >= '0' && kind <= '7') {
        int end = i;
        while (end < to && end < i + 2 && text.charAt(end) >= '0' && text.charAt(end) <= '7') {
          end++;
        }
        plain.append((char) Integer.parseInt(text, i - 1, end, 8));
        i = end;
      } else if (kind == 'x' || kind == 'u' || kind == 'U') {
        int end = i + (kind == 'x' ? 2 : kind == 'u' ? 4 : 8);
        int code = end <= to ? hex(i, end) : -1;
        if (!Character.isValidCodePoint(code) || (code >= 0xD800 && code <= 0xDFFF)) {
          throw source.wrong(escape, "the escape names no character; write the character itself");
        }
        plain.appendCodePoint(code);
        i = end;
      } else if (kind == 'N') {
        throw source.outside(escape, "a character by its name");
      } else if (kind >= 0x80) {
        // Python has made an escape of the character before it looks for escapes.
        int code = text.codePointAt(i - 1);
        i += Character.charCount(code) - 1;
        plain.append('\\').append(Python.escape(code).substring(1));
      } else if (kind != '\n') {
        plain.append('\\').append(kind);
      }
    }
    return plain.toString();
  }

  private int hex(int from, int to) {
    for (int i = from; i < to; i++) {
      if (Character.digit(text.charAt(i), 16) < 0) {
        return -1;
      }
    }
    long code = Long.parseLong(text, from, to, 16);
    return code > Character.MAX_CODE_POINT ? -1 : (int) code;
  }

  private void operator() {
    int start = at;
    String two = text.substring(at, Math.min(at + 2, text.length()));
    String operator = LONG.contains(two) ? two : text.substring(at, at + 1);
    char c = operator.charAt(0);
    if (operator.length() == 1 && SHORT.indexOf(c) < 0) {
      throw source.wrong(at, "'%c' means nothing here; take it out".formatted(c));
    }
    at += operator.length();
    switch (c) {
      case '(' -> open.push(')');
      case '[' -> open.push(']');
      case '{' -> open.push('}');
      case ')', ']', '}' -> {
        if (open.isEmpty() || open.pop() != c) {
          throw source.wrong(start, "'%c' closes nothing; take it out".formatted(c));
        }
      }
      default -> {}
    }
    add(Kind.OPERATOR, operator, start);
  }
}
