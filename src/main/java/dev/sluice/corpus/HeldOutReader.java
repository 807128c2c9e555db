package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// The held-out text in consecutive windows that predict every token once, the rest of less than a
/// window being left out; or in the windows that begin at documents, by [WindowRule#DOCUMENTS].
public final class HeldOutReader {
  /// Tokens that [Tokenizer#bytesOf] may look at on either side.
  private static final int CONTEXT = 8;

  private static final int LONGEST = BatchReader.MOST_IDS - 2 * CONTEXT - 1;

  private final TokenShard shard;
  private final int sequenceLength;
  private final Tokenizer tokenizer;
  private final @Nullable DocumentWindows documents;
  private final int count;

  /// Windows by [WindowRule#STREAM].
  ///
  /// @throws InvalidInputException if there are fewer than two windows
  public HeldOutReader(TokenShard shard, int sequenceLength, Tokenizer tokenizer) {
    this(shard, sequenceLength, tokenizer, WindowRule.STREAM);
  }

  /// @throws InvalidInputException if there are fewer than two windows
  public HeldOutReader(TokenShard shard, int sequenceLength, Tokenizer tokenizer, WindowRule rule) {
    if (sequenceLength < 1 || sequenceLength > LONGEST) {
      throw new InvalidInputException(
          "A sequence length of %d is not possible; it must be from 1 to %d."
              .formatted(sequenceLength, LONGEST));
    }
    this.shard = shard;
    this.sequenceLength = sequenceLength;
    this.tokenizer = tokenizer;
    if (rule == WindowRule.DOCUMENTS) {
      this.documents =
          new DocumentWindows(shard, tokenizer.endOfText(), sequenceLength + 1)
              .require(2, "The held-out text");
      this.count = documents.count();
      return;
    }
    this.documents = null;
    long windows = Math.max(0, shard.length() - 1) / sequenceLength;
    if (windows > Integer.MAX_VALUE) {
      throw new InvalidInputException(
          "The held-out text has %d tokens, which are more windows of %d than can be counted; give a smaller held-out share or a longer sequence length."
              .formatted(shard.length(), sequenceLength));
    }
    this.count = (int) windows;
    if (count < 2) {
      throw new InvalidInputException(
          "The held-out text has %d tokens, fewer than two windows of %d; give more text, a larger held-out share or a shorter sequence length."
              .formatted(shard.length(), sequenceLength));
    }
  }

  /// Windows and the bytes of text that their predicted tokens stand for.
  public record Sample(List<long[]> windows, long bytes) {}

  /// At most `most` windows, spread evenly over the text.
  ///
  /// @throws InvalidInputException if no predicted token stands for text
  public Sample sample(int most) {
    int taken = Math.min(most, count);
    List<long[]> windows = new ArrayList<>();
    long bytes = 0;
    for (int i = 0; i < taken; i++) {
      int index = Math.toIntExact((long) i * count / taken);
      windows.add(window(index));
      bytes += bytesOf(index);
    }
    if (bytes == 0) { // no loss a byte can be told
      throw new InvalidInputException(
          "The %d held-out windows hold no text, only special or unknown tokens; give other text, more held-out windows, or a tokenizer that knows the text."
              .formatted(taken));
    }
    return new Sample(windows, bytes);
  }

  public int count() {
    return count;
  }

  /// Window `index`: `sequenceLength + 1` ids; in a stream the last is the first of the next
  /// window.
  public long[] window(int index) {
    Objects.checkIndex(index, count);
    long[] ids = new long[sequenceLength + 1];
    if (documents == null) {
      shard.copy((long) index * sequenceLength, ids.length, ids, 0);
    } else {
      documents.copy(index, ids, 0);
    }
    return ids;
  }

  /// UTF-8 bytes of the text that window `index` predicts, the divisor for bits per byte. Special
  /// tokens have no bytes. The sum over consecutive windows is exact even where a token ends within
  /// a character.
  public long bytesOf(int index) {
    Objects.checkIndex(index, count);
    long first = 1 + (documents == null ? (long) index * sequenceLength : documents.start(index));
    long from = Math.max(0, first - CONTEXT);
    long to = Math.min(shard.length(), first + sequenceLength + CONTEXT);
    long[] around = new long[Math.toIntExact(to - from)];
    shard.copy(from, around.length, around, 0);
    int[] ids = Arrays.stream(around).mapToInt(id -> (int) id).toArray();
    int start = (int) (first - from);
    return tokenizer.bytesOf(ids, start, start + sequenceLength);
  }
}
