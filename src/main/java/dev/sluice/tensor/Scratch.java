package dev.sluice.tensor;

import dev.sluice.kernel.Floats;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.Map;

/// Memory that a thread works in and uses again: a new allocation each time would cost more than
/// the work, as the operating system hands out memory page by page.
public final class Scratch {
  private final Map<String, MemorySegment> byPurpose = new HashMap<>();

  private static final ThreadLocal<Scratch> OWN = ThreadLocal.withInitial(Scratch::new);

  private Scratch() {}

  /// Float32 or bfloat16 numbers with any content, valid until the same thread asks again for the
  /// same purpose.
  public static Floats numbers(String purpose, long count, boolean bfloat16) {
    long bytes = count * (bfloat16 ? 2 : 4);
    var own = OWN.get().byPurpose;
    var memory = own.get(purpose);
    if (memory == null || memory.byteSize() < bytes) {
      memory = Arena.ofAuto().allocate(bytes, 64);
      own.put(purpose, memory);
    }
    if (Libtorch.poisoned()) {
      memory.asSlice(0, bytes).fill((byte) 0xFF); // NaN in both types
    }
    return new Floats(memory, bfloat16);
  }
}
