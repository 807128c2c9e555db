package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import org.jspecify.annotations.Nullable;

/// Training batches, each a pure function of its index: resuming a run needs only the step's
/// number, and a rank of a data-parallel run reads its share by taking every n-th index.
///
/// In an epoch each window of the shard comes once, in an order shuffled by the seed. Each epoch
/// shifts all windows by another part of a window, so that what stood at a border does not always.
/// Windows that begin at documents ([WindowRule#DOCUMENTS]) are the same in every epoch.
public final class BatchReader {
  /// The longest array that every virtual machine makes.
  static final int MOST_IDS = Integer.MAX_VALUE - 8;

  private final TokenShard shard;
  private final int batchSize;
  private final int sequenceLength;
  private final long seed;
  private final @Nullable DocumentWindows documents;
  private final long windows;

  /// Windows by [WindowRule#STREAM].
  ///
  /// @throws InvalidInputException if the shard is shorter than two windows, or a batch is longer
  ///   than an array can be
  public BatchReader(TokenShard shard, int batchSize, int sequenceLength, long seed) {
    this(shard, batchSize, sequenceLength, seed, WindowRule.STREAM, 0);
  }

  /// @param separator the token that ends documents
  /// @throws InvalidInputException if the shard is shorter than two windows or has none that begins
  ///   at a document, or a batch is longer than an array can be
  public BatchReader(
      TokenShard shard,
      int batchSize,
      int sequenceLength,
      long seed,
      WindowRule rule,
      int separator) {
    if (batchSize < 1 || sequenceLength < 1) {
      throw new InvalidInputException(
          "A batch of %d × %d tokens is not possible; both numbers must be at least 1."
              .formatted(batchSize, sequenceLength));
    }
    if (batchSize * (sequenceLength + 1L) > MOST_IDS) {
      throw new InvalidInputException(
          "A batch of %d × %d tokens is more than the %d that one can have; make it smaller, or accumulate gradients over several."
              .formatted(batchSize, sequenceLength, MOST_IDS));
    }
    this.shard = shard;
    this.batchSize = batchSize;
    this.sequenceLength = sequenceLength;
    this.seed = seed;
    if (rule == WindowRule.DOCUMENTS) {
      this.documents =
          new DocumentWindows(shard, separator, sequenceLength + 1).require(1, "The training text");
      this.windows = documents.count();
      return;
    }
    this.documents = null;
    // One window less than would fit leaves room for every shift from 0 to sequenceLength - 1.
    this.windows = shard.length() / sequenceLength - 1;
    if (windows < 1) {
      throw new InvalidInputException(
          "The training text has %d tokens, fewer than two windows of %d; give more text or a shorter sequence length."
              .formatted(shard.length(), sequenceLength));
    }
  }

  /// Batch `index` ≥ 0: `batchSize × (sequenceLength + 1)` ids, row-major. Of each row the first
  /// `sequenceLength` are the input, the last `sequenceLength` the targets.
  public long[] batch(long index) {
    if (index < 0) {
      throw new IllegalArgumentException("batch index " + index);
    }
    if (index > Long.MAX_VALUE / batchSize - 1) {
      throw new InvalidInputException(
          "Batch %d of %d rows is beyond what can be counted; a run does not come so far."
              .formatted(index, batchSize));
    }
    int row = sequenceLength + 1;
    long[] ids = new long[batchSize * row];
    for (int i = 0; i < batchSize; i++) {
      long sample = index * batchSize + i;
      long epoch = sample / windows;
      long window = order(epoch).at(sample % windows);
      if (documents == null) {
        shard.copy(shift(epoch) + window * sequenceLength, row, ids, i * row);
      } else {
        documents.copy((int) window, ids, i * row);
      }
    }
    return ids;
  }

  private Permutation order(long epoch) {
    return new Permutation(windows, Permutation.mix(seed) ^ Permutation.mix(~epoch));
  }

  private long shift(long epoch) {
    return Long.remainderUnsigned(
        Permutation.mix(Permutation.mix(seed) + Permutation.mix(epoch)), sequenceLength);
  }

  /// Tokens of the text that no window has, since their documents are longer than one; 0 for
  /// [WindowRule#STREAM].
  public long unread() {
    return documents == null ? 0 : documents.unread();
  }

  /// Windows in an epoch.
  public long windows() {
    return windows;
  }
}
