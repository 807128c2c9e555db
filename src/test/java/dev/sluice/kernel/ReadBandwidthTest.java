package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class ReadBandwidthTest {
  /// Every whole number is read, once, in whatever pieces.
  @Test
  void nothingIsLeftOut() {
    for (int longs : new int[] {0, 1, 3, 4, 7, (1 << 17) - 1, 1 << 17, 5 * (1 << 17) + 6}) {
      long[] numbers = new SplittableRandom(longs).longs(longs).toArray();
      long expected = 0;
      for (long number : numbers) {
        expected += number;
      }
      var memory = MemorySegment.ofArray(new byte[8 * longs + 3]);
      MemorySegment.copy(numbers, 0, memory, ValueLayout.JAVA_LONG_UNALIGNED, 0, longs);
      assertEquals(expected, ReadBandwidth.sum(memory), longs + " numbers");
    }
    var memory = MemorySegment.ofArray(new byte[1 << 16]);
    assertTrue(ReadBandwidth.bytesPerSecond(List.of(memory, memory), 0) > 0);
  }
}
