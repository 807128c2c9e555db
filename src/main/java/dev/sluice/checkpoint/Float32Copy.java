package dev.sluice.checkpoint;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/// Copies floating-point numbers of a file, of whatever type, into float32: once, and nothing more.
final class Float32Copy {
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfDouble DOUBLE =
      ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /// Elements for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  private Float32Copy() {}

  /// Fills `to`, whose byte order is the machine's. Numbers of float64 are rounded to the nearest,
  /// ties to even; the others lose nothing.
  ///
  /// @param from as many elements of that type, little-endian, aligned to nothing
  static void copy(MemorySegment from, ElementType type, MemorySegment to) {
    if (!type.isFloatingPoint() || from.byteSize() / type.bytes() != to.byteSize() / Float.BYTES) {
      throw new IllegalArgumentException(
          "%d bytes of %s cannot fill %d of float32"
              .formatted(from.byteSize(), type, to.byteSize()));
    }
    Threads.split(
        to.byteSize() / Float.BYTES,
        GRAIN,
        (begin, end) ->
            part(
                from.asSlice(begin * type.bytes(), (end - begin) * type.bytes()),
                type,
                to.asSlice(begin * Float.BYTES, (end - begin) * Float.BYTES)));
  }

  private static void part(MemorySegment from, ElementType type, MemorySegment to) {
    long length = to.byteSize() / Float.BYTES;
    switch (type) {
      case FLOAT32 -> to.copyFrom(from);
      case BFLOAT16 -> {
        for (long i = 0; i < length; i++) {
          to.set(FLOAT, i * 4, Float.intBitsToFloat(from.get(SHORT, i * 2) << 16));
        }
      }
      case FLOAT16 -> {
        for (long i = 0; i < length; i++) {
          to.set(FLOAT, i * 4, Float.float16ToFloat(from.get(SHORT, i * 2)));
        }
      }
      case FLOAT64 -> {
        for (long i = 0; i < length; i++) {
          to.set(FLOAT, i * 4, (float) from.get(DOUBLE, i * 8));
        }
      }
      case INT64, INT32, UINT8, BOOL -> throw new IllegalArgumentException("not floating-point");
    }
  }
}
