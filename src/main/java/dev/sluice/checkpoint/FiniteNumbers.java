package dev.sluice.checkpoint;

import dev.sluice.tensor.ElementType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// stub until merged

public final class FiniteNumbers {
  private FiniteNumbers() {}

  public static long firstOther(MemorySegment data, ElementType type) {
    if (type != ElementType.FLOAT32) {
      return -1;
    }
    for (long i = 0; i < data.byteSize() / 4; i++) {
      if (!Float.isFinite(data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i))) {
        return i;
      }
    }
    return -1;
  }
}
