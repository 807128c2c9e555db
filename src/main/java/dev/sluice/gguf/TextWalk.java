package dev.sluice.gguf;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

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

  /// @param at where the first text's length stands
  TextWalk(MemorySegment file, long at) {
    this.file = file;
    this.size = file.byteSize();
    this.at = at;
    this.window = new byte[(int) Math.min(WINDOW, size)];
    copy();
  }

  /// Where the next text's length stands.
  long at() {
    return at;
  }

  /// Goes past texts.
  ///
  /// @return whether the file has all of each and none is longer than an array can be; if not, this
  ///   stays where the first one begins that is otherwise
  boolean pass(long count) {
    for (long i = 0; i < count; i++) {
      long left = size - at - Long.BYTES;
      if (left < 0) {
        return false;
      }
      if (at - windowAt > window.length - Long.BYTES) {
        copy();
      }
      int in = (int) (at - windowAt);
      long bytes = lengthOf(window, in);
      if (bytes < 0 || bytes > left) {
        return false;
      }
      at += Long.BYTES + bytes;
    }
    return true;
  }

  private void copy() {
    windowAt = Math.max(0, Math.min(at, size - window.length));
    MemorySegment.copy(file, ValueLayout.JAVA_BYTE, windowAt, window, 0, window.length);
  }

  /// The length that stands there, of eight bytes; negative where it is more than an array can
  /// have.
  static int lengthOf(byte[] from, int at) {
    int beyond = from[at + 4] | from[at + 5] | from[at + 6] | from[at + 7];
    int length =
        (from[at] & 0xFF)
            | (from[at + 1] & 0xFF) << 8
            | (from[at + 2] & 0xFF) << 16
            | from[at + 3] << 24;
    return beyond != 0 || length > Integer.MAX_VALUE - Long.BYTES ? -1 : length;
  }
}
