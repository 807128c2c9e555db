package dev.sluice.gguf;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;

/// Goes along the texts of a list, each behind its length. A vocabulary and its merges are hundreds
/// of thousands of them, and every model that is opened begins here: so they are read from copies
/// of parts of the file, by the plainest means, which are fast before the compiler has been here.
final class TextWalk {
  /// Bytes of the file that are copied at a time.
  private static final int WINDOW = 1 << 18;

  private final MemorySegment file;
  private final long size;
  private final byte[] window;
  private long windowAt;
  private long at;
  private int length;

  /// @param at where the first text's length stands
  TextWalk(MemorySegment file, long at) {
    this.file = file;
    this.size = file.byteSize();
    this.at = at;
    this.window = new byte[(int) Math.min(WINDOW, size)];
    copy(at);
  }

  /// Where the next text's length stands.
  long at() {
    return at;
  }

  /// Goes to the next text.
  ///
  /// @return whether the file has all of it and it is no longer than an array can be; if not, this
  ///   stays where it is
  boolean next() {
    if (size - at < Long.BYTES) {
      return false;
    }
    long bytes = lengthAt(within(at, Long.BYTES));
    if (bytes < 0 || bytes > size - at - Long.BYTES || bytes > Integer.MAX_VALUE - Long.BYTES) {
      return false;
    }
    length = (int) bytes;
    at += Long.BYTES + bytes;
    return true;
  }

  /// Bytes of the text that [#next] went past.
  int length() {
    return length;
  }

  /// The text that [#next] went past, of which bytes that are no UTF-8 are replaced.
  String text() {
    if (length > window.length) {
      byte[] bytes = file.asSlice(at - length, length).toArray(ValueLayout.JAVA_BYTE);
      return new String(bytes, StandardCharsets.UTF_8);
    }
    return new String(window, within(at - length, length), length, StandardCharsets.UTF_8);
  }

  /// Where bytes of the file stand in the window, no more of them than it holds.
  private int within(long from, int bytes) {
    if (from < windowAt || from + bytes > windowAt + window.length) {
      copy(from);
    }
    return (int) (from - windowAt);
  }

  private void copy(long from) {
    windowAt = Math.max(0, Math.min(from, size - window.length));
    MemorySegment.copy(file, ValueLayout.JAVA_BYTE, windowAt, window, 0, window.length);
  }

  private long lengthAt(int i) {
    return (window[i] & 0xFFL)
        | (window[i + 1] & 0xFFL) << 8
        | (window[i + 2] & 0xFFL) << 16
        | (window[i + 3] & 0xFFL) << 24
        | (window[i + 4] & 0xFFL) << 32
        | (window[i + 5] & 0xFFL) << 40
        | (window[i + 6] & 0xFFL) << 48
        | (window[i + 7] & 0xFFL) << 56;
  }
}
