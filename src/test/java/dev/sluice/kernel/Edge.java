package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/// Memory that ends where nothing can be read.
public final class Edge {
  final MemorySegment memory;

  public Edge() {
    var pages = Objects.requireNonNull(MachineCode.map(1 << 20));
    memory = pages.asSlice(0, (1 << 20) - (1 << 16));
    assertTrue(MachineCode.protect(pages.asSlice(memory.byteSize()), MachineCode.NO_ACCESS));
  }

  /// The last bytes, all ones.
  public MemorySegment last(long bytes) {
    return memory.asSlice(memory.byteSize() - bytes).fill((byte) 0xFF);
  }
}
