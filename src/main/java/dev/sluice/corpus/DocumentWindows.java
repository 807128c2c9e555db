package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.util.Arrays;

/// The windows of a shard that begin at documents, by [WindowRule#DOCUMENTS]: the token that ends
/// documents, then the beginning of one, and where it is shorter than the window those after it.
///
/// The next window begins at the last document of which this one has not all, so that short
/// documents are read whole. A window that the shard ends within is left out.
final class DocumentWindows {
  private static final int PIECE = 1 << 16;

  private final TokenShard shard;
  private final int separator;
  private final int tokens;
  private final long[] starts;
  private final long unread;

  /// @param separator ends each document of the shard
  /// @param tokens of a window
  DocumentWindows(TokenShard shard, int separator, int tokens) {
    this.shard = shard;
    this.separator = separator;
    this.tokens = tokens;
    long[] found = new long[16];
    int count = 0;
    long start = -1; // of the first document, before which no separator stands
    long end = 0; // of what windows have read
    long passedOver = 0;
    long last = -1; // separator that is within the window and not its first token
    long[] piece = new long[PIECE];
    for (long from = 0; from < shard.length(); from += PIECE) {
      int length = (int) Math.min(PIECE, shard.length() - from);
      shard.copy(from, length, piece, 0);
      for (int i = 0; i < length; i++) {
        if (piece[i] != separator) {
          continue;
        }
        long at = from + i;
        while (at >= start + tokens) { // the window ends before this separator
          if (count == found.length) {
            found = Arrays.copyOf(found, 2 * count);
          }
          found[count++] = start;
          end = start + tokens;
          if (last > start) {
            start = last;
          } else {
            passedOver += at - end;
            start = at;
          }
        }
        last = at;
      }
    }
    if (start + tokens <= shard.length() && start < shard.length() - 1) {
      found = Arrays.copyOf(found, count + 1);
      found[count++] = start;
    }
    this.starts = Arrays.copyOf(found, count);
    this.unread = passedOver;
  }

  int count() {
    return starts.length;
  }

  /// Tokens of long documents that are in no window.
  long unread() {
    return unread;
  }

  /// Where window `index` begins in the shard: at a separator, or at -1 before the first document.
  long start(int index) {
    return starts[index];
  }

  /// Copies window `index`.
  void copy(int index, long[] ids, int at) {
    long start = starts[index];
    ids[at] = separator;
    shard.copy(start + 1, tokens - 1, ids, at + 1);
  }

  /// @throws InvalidInputException if there are fewer than so many windows
  DocumentWindows require(int least, String what) {
    if (count() < least) {
      throw new InvalidInputException(
          "%s has %d windows of %d tokens that begin at documents, but %d are needed; give more text, a shorter sequence length, or windows = \"stream\""
              .formatted(what, count(), tokens, least));
    }
    return this;
  }
}
