package dev.sluice.checkpoint;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.concurrent.atomic.AtomicLong;

/// Finds what is no number among floating-point numbers, where they lie and at the speed of memory.
///
/// An element is NaN or infinite if all bits of its exponent are set. Eight bytes are looked at
/// together, whatever their type: with the exponents' bits alone left, adding each exponent's
/// lowest bit carries into the place of the sign where all were set, and nowhere else.
public final class FiniteNumbers {
  private static final ValueLayout.OfLong WORD =
      ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// Words that are looked at before asking whether one of them was found.
  private static final int BLOCK = 1 << 12;

  /// Words for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  private FiniteNumbers() {}

  /// The index of the first element that is NaN or infinite, or −1.
  ///
  /// @param data elements of that type, little-endian, aligned to nothing; whole numbers are always
  ///   finite
  public static long firstOther(MemorySegment data, ElementType type) {
    return switch (type) {
      case FLOAT16 -> first(data, 2, 0x7C00_7C00_7C00_7C00L, 0x0400_0400_0400_0400L);
      case BFLOAT16 -> first(data, 2, 0x7F80_7F80_7F80_7F80L, 0x0080_0080_0080_0080L);
      case FLOAT32 -> first(data, 4, 0x7F80_0000_7F80_0000L, 0x0080_0000_0080_0000L);
      case FLOAT64 -> first(data, 8, 0x7FF0_0000_0000_0000L, 0x0010_0000_0000_0000L);
      case INT64, INT32, UINT8, BOOL -> -1;
    };
  }

  /// @param exponents the bits of every exponent in a word
  /// @param lowest the lowest of each
  private static long first(MemorySegment data, int bytes, long exponents, long lowest) {
    long signs = exponents + lowest;
    long words = data.byteSize() / Long.BYTES;
    var found = new AtomicLong(Long.MAX_VALUE);
    Threads.split(
        words,
        GRAIN,
        (from, to) ->
            found.accumulateAndGet(firstWord(data, from, to, exponents, lowest), Math::min));
    long at = found.get();
    if (at < Long.MAX_VALUE) {
      long hits = ((data.get(WORD, at * Long.BYTES) & exponents) + lowest) & signs;
      return at * (Long.BYTES / bytes) + Long.numberOfTrailingZeros(hits) / (8 * bytes);
    }
    long rest = 0;
    for (long i = data.byteSize() - 1; i >= words * Long.BYTES; i--) {
      rest = rest << 8 | (data.get(ValueLayout.JAVA_BYTE, i) & 0xFF);
    }
    long hits = ((rest & exponents) + lowest) & signs;
    return hits == 0
        ? -1
        : words * (Long.BYTES / bytes) + Long.numberOfTrailingZeros(hits) / (8 * bytes);
  }

  private static long firstWord(
      MemorySegment data, long from, long to, long exponents, long lowest) {
    long signs = exponents + lowest;
    for (long begin = from; begin < to; begin += BLOCK) {
      int length = (int) Math.min(BLOCK, to - begin);
      var block = data.asSlice(begin * Long.BYTES, (long) length * Long.BYTES);
      if ((together(block, length, exponents, lowest) & signs) != 0) {
        for (int i = 0; i < length; i++) {
          if ((((block.get(WORD, (long) i * Long.BYTES) & exponents) + lowest) & signs) != 0) {
            return begin + i;
          }
        }
      }
    }
    return Long.MAX_VALUE;
  }

  /// The carries of all words, by or. A method of its own, so that it is compiled after a few
  /// blocks.
  private static long together(MemorySegment block, int length, long exponents, long lowest) {
    long seen = 0;
    for (int i = 0; i < length; i++) {
      seen |= (block.get(WORD, (long) i * Long.BYTES) & exponents) + lowest;
    }
    return seen;
  }
}
