package dev.sluice.checkpoint;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/// Rounds float32 to the type of a file, to the nearest, ties to even: the way back of
/// [Float32Copy]. What is too large becomes infinite.
final class Float32Rounding {
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /// Elements for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  private static final int BLOCK = 1 << 12;

  private Float32Rounding() {}

  /// Fills `to` with as many elements of that type, little-endian, as `from` has numbers.
  static void copy(MemorySegment from, MemorySegment to, ElementType type) {
    if (from.byteSize() / Float.BYTES != to.byteSize() / type.bytes()) {
      throw new IllegalArgumentException(
          "%d bytes of float32 cannot fill %d of %s"
              .formatted(from.byteSize(), to.byteSize(), type));
    }
    Threads.split(
        from.byteSize() / Float.BYTES,
        GRAIN,
        (begin, end) -> {
          for (long at = begin; at < end; at += BLOCK) {
            int count = (int) Math.min(BLOCK, end - at);
            block(
                from.asSlice(at * Float.BYTES, (long) count * Float.BYTES),
                to.asSlice(at * type.bytes(), (long) count * type.bytes()),
                type,
                count);
          }
        });
  }

  private static void block(MemorySegment from, MemorySegment to, ElementType type, int count) {
    switch (type) {
      case FLOAT32 -> to.copyFrom(from);
      case BFLOAT16 -> toBfloat16(from, to, count);
      case FLOAT16 -> toFloat16(from, to, count);
      case FLOAT64, INT64, INT32, UINT8, BOOL ->
          throw new IllegalArgumentException("float32 is not rounded to " + type);
    }
  }

  private static void toBfloat16(MemorySegment from, MemorySegment to, int count) {
    for (int i = 0; i < count; i++) {
      int bits = Float.floatToRawIntBits(from.get(FLOAT, i * 4L));
      to.set(SHORT, i * 2L, (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16));
    }
  }

  private static void toFloat16(MemorySegment from, MemorySegment to, int count) {
    for (int i = 0; i < count; i++) {
      to.set(SHORT, i * 2L, Float.floatToFloat16(from.get(FLOAT, i * 4L)));
    }
  }
}
