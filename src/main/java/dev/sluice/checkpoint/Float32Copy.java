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
  private static final ValueLayout.OfFloat LITTLE_FLOAT = FLOAT.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// Elements for which a thread is worth its start.
  private static final long GRAIN = 1 << 18;

  private static final int BLOCK = 1 << 12;

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

  /// Fills `to` with every `step`-th number.
  ///
  /// @param from begins with the first number that is wanted
  static void strided(MemorySegment from, ElementType type, long step, MemorySegment to) {
    long bytes = step * type.bytes();
    Threads.split(
        to.byteSize() / Float.BYTES,
        GRAIN,
        (begin, end) -> {
          for (long i = begin; i < end; i++) {
            to.set(FLOAT, i * 4, one(from, type, i * bytes));
          }
        });
  }

  private static float one(MemorySegment from, ElementType type, long at) {
    return switch (type) {
      case FLOAT32 -> from.get(LITTLE_FLOAT, at);
      case BFLOAT16 -> Float.intBitsToFloat(from.get(SHORT, at) << 16);
      case FLOAT16 -> Float.float16ToFloat(from.get(SHORT, at));
      case FLOAT64 -> (float) from.get(DOUBLE, at);
      case INT64, INT32, UINT8, BOOL -> throw new IllegalArgumentException("not floating-point");
    };
  }

  /// In blocks, so that the loop over one is compiled while the first of many run.
  private static void part(MemorySegment from, ElementType type, MemorySegment to) {
    long length = to.byteSize() / Float.BYTES;
    for (long begin = 0; begin < length; begin += BLOCK) {
      int count = (int) Math.min(BLOCK, length - begin);
      var source = from.asSlice(begin * type.bytes(), (long) count * type.bytes());
      var target = to.asSlice(begin * Float.BYTES, (long) count * Float.BYTES);
      switch (type) {
        case FLOAT32 -> target.copyFrom(source);
        case BFLOAT16 -> ofBfloat16(source, target, count);
        case FLOAT16 -> ofFloat16(source, target, count);
        case FLOAT64 -> ofFloat64(source, target, count);
        case INT64, INT32, UINT8, BOOL -> throw new IllegalArgumentException("not floating-point");
      }
    }
  }

  private static void ofBfloat16(MemorySegment from, MemorySegment to, int count) {
    for (int i = 0; i < count; i++) {
      to.set(FLOAT, i * 4L, Float.intBitsToFloat(from.get(SHORT, i * 2L) << 16));
    }
  }

  private static void ofFloat16(MemorySegment from, MemorySegment to, int count) {
    for (int i = 0; i < count; i++) {
      to.set(FLOAT, i * 4L, Float.float16ToFloat(from.get(SHORT, i * 2L)));
    }
  }

  private static void ofFloat64(MemorySegment from, MemorySegment to, int count) {
    for (int i = 0; i < count; i++) {
      to.set(FLOAT, i * 4L, (float) from.get(DOUBLE, i * 8L));
    }
  }
}
