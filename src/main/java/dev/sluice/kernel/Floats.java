package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// Numbers in memory, stored as float32 or as bfloat16, computed with as float32.
///
/// @param memory the elements, in the machine's byte order, unaligned access allowed
/// @param bfloat16 true for 2-byte bfloat16, false for 4-byte float32
public record Floats(MemorySegment memory, boolean bfloat16) {
  private static final float[] E4M3 = new float[256];

  static {
    for (int i = 0; i < 256; i++) {
      int exponent = i >> 3 & 15;
      int mantissa = i & 7;
      float value =
          (i & 0x7F) == 0x7F
              ? Float.NaN
              : exponent == 0 ? Math.scalb(mantissa, -9) : Math.scalb(8 + mantissa, exponent - 10);
      E4M3[i] = i > 127 ? -value : value;
    }
  }

  /// What a number of eight bits is worth: four of exponent, three of mantissa, no infinity.
  public static float ofE4m3(byte bits) {
    return E4M3[bits & 0xFF];
  }

  public static Floats float32(MemorySegment memory) {
    return new Floats(memory, false);
  }

  public static Floats bfloat16(MemorySegment memory) {
    return new Floats(memory, true);
  }

  /// How many elements the memory holds.
  public long length() {
    return memory.byteSize() / (bfloat16 ? 2 : 4);
  }

  /// The elements from `start` on.
  public Floats from(long start) {
    return new Floats(memory.asSlice(start * (bfloat16 ? 2 : 4)), bfloat16);
  }

  /// An element.
  public float get(long i) {
    return bfloat16
        ? widen(memory.get(ValueLayout.JAVA_SHORT_UNALIGNED, i * 2))
        : memory.get(ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4);
  }

  /// Changes an element, rounded to the element type.
  public void set(long i, float value) {
    if (bfloat16) {
      memory.set(ValueLayout.JAVA_SHORT_UNALIGNED, i * 2, round(value));
    } else {
      memory.set(ValueLayout.JAVA_FLOAT_UNALIGNED, i * 4, value);
    }
  }

  /// The float32 with a bfloat16's sixteen bits on top.
  static float widen(short bits) {
    return Float.intBitsToFloat(bits << 16);
  }

  /// The nearest bfloat16, ties to even; NaN stays NaN.
  static short round(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) ((bits >>> 16) | 0x40);
    }
    return (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16);
  }
}
