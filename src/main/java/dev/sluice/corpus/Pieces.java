package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// Cuts a text of any length into pieces that fit in memory and can be tokenised one by one. Where
/// the cuts fall depends on the characters alone, not on how they arrive.
///
/// A piece ends at the first good place after [#SIZE] characters: before a line that starts with a
/// letter, else at a line break, else before a space, else between two characters.
final class Pieces {
  static final int SIZE = 1 << 20;

  private final char[] buffer = new char[2 * SIZE];
  private Reader text = Reader.nullReader();
  private String name = "";
  private int buffered;
  private long position;
  private long cut = Long.MAX_VALUE;
  private int slack;

  /// Starts on another document.
  void open(Document document) {
    open(document, Long.MAX_VALUE, 0);
  }

  /// Starts on another document in which a piece must end `cut` characters from the start, or at
  /// the first good place within `slack` characters after that.
  void open(Document document, long cut, long slack) {
    this.name = document.name();
    this.text = document.text();
    this.cut = cut;
    this.slack = (int) Math.min(slack, SIZE);
    buffered = 0;
    position = 0;
  }

  /// Characters taken so far.
  long position() {
    return position;
  }

  /// Whether the next piece lies behind the cut.
  boolean pastCut() {
    return position >= cut;
  }

  /// The next piece, never empty, or null at the end.
  ///
  /// @throws InvalidInputException if it holds U+0000, which separates documents where tokens are
  ///   bytes
  @Nullable String next() {
    fill();
    if (buffered == 0) {
      return null;
    }
    int end;
    if (position < cut && cut - position <= SIZE) {
      int from = (int) Math.min(cut - position, buffered);
      end = goodEnd(from, Math.min(from + slack, buffered));
    } else {
      end = buffered <= SIZE ? buffered : goodEnd(SIZE, buffered);
    }
    var piece = new String(buffer, 0, end);
    int zero = piece.indexOf('\0');
    if (zero >= 0) {
      throw new InvalidInputException(
          "%s holds the character U+0000 (after %d others), which no text has; remove it"
              .formatted(name, position + zero));
    }
    System.arraycopy(buffer, end, buffer, 0, buffered - end);
    buffered -= end;
    position += end;
    return piece;
  }

  private void fill() {
    try {
      while (buffered < buffer.length) {
        int n = text.read(buffer, buffered, buffer.length - buffered);
        if (n < 0) {
          return;
        }
        buffered += n;
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private int goodEnd(int from, int to) {
    int end = first(from, to, i -> buffer[i - 1] == '\n' && !Character.isWhitespace(buffer[i]));
    if (end < 0) {
      end = first(from, to, i -> buffer[i - 1] == '\n');
    }
    if (end < 0) {
      end = first(from, to, i -> buffer[i] == ' ' && buffer[i - 1] != ' ');
    }
    if (end < 0) {
      boolean withinPair =
          from < buffered
              && Character.isLowSurrogate(buffer[from])
              && Character.isHighSurrogate(buffer[from - 1]);
      end = withinPair ? from + 1 : from;
    }
    return end;
  }

  private static int first(int from, int to, IntPredicate good) {
    for (int i = from; i < to; i++) {
      if (good.test(i)) {
        return i;
      }
    }
    return -1;
  }
}
