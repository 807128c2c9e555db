package dev.sluice.corpus;

/// A shuffled order of `0 … size-1` that is computed, not stored: a Feistel network over the next
/// even power of two, walked until it lands below `size`. A Feistel network is a bijection whatever
/// its round function, and walking keeps it one; fewer than four steps are needed on average.
record Permutation(long size, long key) {
  private static final int ROUNDS = 6;

  /// Where the number at `index` goes.
  long at(long index) {
    int halfBits = (65 - Long.numberOfLeadingZeros(size - 1)) / 2;
    long mask = (1L << halfBits) - 1;
    long value = index;
    do {
      long left = value >>> halfBits;
      long right = value & mask;
      for (int round = 0; round < ROUNDS; round++) {
        long swapped = left ^ (mix(right ^ mix(key + round)) & mask);
        left = right;
        right = swapped;
      }
      value = left << halfBits | right;
    } while (value >= size);
    return value;
  }

  /// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which every bit of the
  /// input moves half the bits of the result.
  static long mix(long z) {
    z += 0x9E3779B97F4A7C15L;
    z = (z ^ z >>> 30) * 0xBF58476D1CE4E5B9L;
    z = (z ^ z >>> 27) * 0x94D049BB133111EBL;
    return z ^ z >>> 31;
  }
}
