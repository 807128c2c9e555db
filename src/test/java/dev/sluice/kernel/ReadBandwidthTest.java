package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.util.List;
import org.junit.jupiter.api.Test;

class ReadBandwidthTest {
  @Test
  void everyByteIsReadOnce() {
    for (int bytes : new int[] {0, 1, 1 << 14, (1 << 14) + 1, (1 << 20) - 1, (5 << 20) + 7}) {
      assertEquals(bytes, ReadBandwidth.read(MemorySegment.ofArray(new byte[bytes])));
    }
    var memory = MemorySegment.ofArray(new byte[1 << 16]);
    assertTrue(ReadBandwidth.bytesPerSecond(List.of(memory, memory), 0) > 0);
  }
}
