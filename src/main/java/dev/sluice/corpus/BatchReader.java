package dev.sluice.corpus;

import dev.sluice.InvalidInputException;

/// Training batches, each a pure function of its index: resuming a run needs only the step's
/// number, and a rank of a data-parallel run reads its share by taking every n-th index.
///
/// In an epoch each window of the shard comes once, in an order shuffled by the seed. Each epoch
/// shifts all windows by another part of a window, so that what stood at a border does not always.
public final class BatchReader {
  /// The longest array that every virtual machine makes.
  static final int MOST_IDS = Integer.MAX_VALUE - 8;

  private final TokenShard shard;
  private final int batchSize;
  private final int sequenceLength;
  private final long seed;
  private final long windows;

  /// @throws InvalidInputException if the shard is shorter than two windows, or a batch is longer
  ///   than an array can be
  public BatchReader(TokenShard shard, int batchSize, int sequenceLength, long seed) {
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
      shard.copy(shift(epoch) + window * sequenceLength, row, ids, i * row);
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

  /// Windows in an epoch.
  public long windows() {
    return windows;
  }
}
