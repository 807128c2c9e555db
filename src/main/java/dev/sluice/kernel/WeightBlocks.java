package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/// What the blocks of each [WeightFormat] hold, one block after the other. Products and differences
/// are rounded one by one to float32, in the order in which the Python package `gguf` has them.
final class WeightBlocks {
  static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final byte[] NEAR_ZERO = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
  };

  /// The numbers of E2M1, doubled.
  private static final byte[] E2M1 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

  private static final int[] POWERS_OF_3 = {1, 3, 9, 27, 81};

  private WeightBlocks() {}

  private static int u8(MemorySegment from, long at) {
    return from.get(ValueLayout.JAVA_BYTE, at) & 0xFF;
  }

  private static int i8(MemorySegment from, long at) {
    return from.get(ValueLayout.JAVA_BYTE, at);
  }

  private static float half(MemorySegment from, long at) {
    return Float.float16ToFloat(from.get(SHORT, at));
  }

  static void ofFloat32(MemorySegment from, int count, float[] to, int at) {
    MemorySegment.copy(from, FLOAT, 0, to, at, count);
  }

  static void ofFloat16(MemorySegment from, int count, float[] to, int at) {
    for (int i = 0; i < count; i++) {
      to[at + i] = half(from, i * 2L);
    }
  }

  static void ofBfloat16(MemorySegment from, int count, float[] to, int at) {
    for (int i = 0; i < count; i++) {
      to[at + i] = Floats.widen(from.get(SHORT, i * 2L));
    }
  }

  static void ofQ8_0(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 34L;
      float d = half(from, block);
      for (int i = 0; i < 32; i++) {
        to[at + b * 32 + i] = d * i8(from, block + 2 + i);
      }
    }
  }

  static void ofQ4_0(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 18L;
      float d = half(from, block);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 2 + i);
        to[out + i] = d * ((q & 15) - 8);
        to[out + 16 + i] = d * ((q >> 4) - 8);
      }
    }
  }

  static void ofQ4_1(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 20L;
      float d = half(from, block);
      float m = half(from, block + 2);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 4 + i);
        to[out + i] = d * (q & 15) + m;
        to[out + 16 + i] = d * (q >> 4) + m;
      }
    }
  }

  static void ofQ5_0(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 22L;
      float d = half(from, block);
      int high = from.get(INT, block + 2);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 6 + i);
        to[out + i] = d * (((q & 15) | ((high >>> i) & 1) << 4) - 16);
        to[out + 16 + i] = d * (((q >> 4) | ((high >>> (i + 16)) & 1) << 4) - 16);
      }
    }
  }

  static void ofQ5_1(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 24L;
      float d = half(from, block);
      float m = half(from, block + 2);
      int high = from.get(INT, block + 4);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 8 + i);
        to[out + i] = d * ((q & 15) | ((high >>> i) & 1) << 4) + m;
        to[out + 16 + i] = d * ((q >> 4) | ((high >>> (i + 16)) & 1) << 4) + m;
      }
    }
  }

  /// The two bits of element `i` of 256: four to a byte, a half of 128 after the other, the bits of
  /// one place for 32 elements that follow one another.
  private static int twoBits(MemorySegment from, long at, int i) {
    return (u8(from, at + i / 128 * 32L + i % 32) >> (i / 32 % 4 * 2)) & 3;
  }

  static void ofQ2K(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 84L;
      float d = half(from, block + 80);
      float m = half(from, block + 82);
      for (int part = 0; part < 16; part++) {
        int scale = u8(from, block + part);
        float partD = d * (scale & 15);
        float partM = m * (scale >> 4);
        for (int i = part * 16; i < part * 16 + 16; i++) {
          to[at + b * 256 + i] = partD * twoBits(from, block + 16, i) - partM;
        }
      }
    }
  }

  static void ofQ3K(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 110L;
      float d = half(from, block + 108);
      for (int part = 0; part < 16; part++) {
        int low = u8(from, block + 96 + part % 8) >> (part / 8 * 4) & 15;
        int high = u8(from, block + 104 + part % 4) >> (part / 4 * 2) & 3;
        float partD = d * ((low | high << 4) - 32);
        for (int i = part * 16; i < part * 16 + 16; i++) {
          int third = u8(from, block + i % 32) >> (i / 32) & 1; // set where nothing is taken away
          to[at + b * 256 + i] = partD * (twoBits(from, block + 32, i) - (third == 1 ? 0 : 4));
        }
      }
    }
  }

  /// The scale of 6 bits of one of the 8 parts of `Q4_K` and `Q5_K`.
  ///
  /// @param at where the 12 bytes begin
  static int scale(MemorySegment from, long at, int part) {
    return part < 4
        ? u8(from, at + part) & 63
        : (u8(from, at + part + 4) & 15) | (u8(from, at + part - 4) >> 6) << 4;
  }

  /// The minimum of 6 bits of a part.
  static int minimum(MemorySegment from, long at, int part) {
    return part < 4
        ? u8(from, at + part + 4) & 63
        : (u8(from, at + part + 4) >> 4) | (u8(from, at + part) >> 6) << 4;
  }

  static void ofQ4K(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 144L;
      float d = half(from, block);
      float m = half(from, block + 2);
      for (int pair = 0; pair < 4; pair++) {
        float lowD = d * scale(from, block + 4, 2 * pair);
        float lowM = m * minimum(from, block + 4, 2 * pair);
        float highD = d * scale(from, block + 4, 2 * pair + 1);
        float highM = m * minimum(from, block + 4, 2 * pair + 1);
        long bytes = block + 16 + pair * 32L;
        int out = at + b * 256 + pair * 64;
        for (int i = 0; i < 32; i++) {
          int q = u8(from, bytes + i);
          to[out + i] = lowD * (q & 15) - lowM;
          to[out + 32 + i] = highD * (q >> 4) - highM;
        }
      }
    }
  }

  static void ofQ5K(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 176L;
      float d = half(from, block);
      float m = half(from, block + 2);
      for (int part = 0; part < 8; part++) {
        float partD = d * scale(from, block + 4, part);
        float partM = m * minimum(from, block + 4, part);
        long bytes = block + 48 + part / 2 * 32L;
        for (int i = 0; i < 32; i++) {
          int q = u8(from, bytes + i) >> (part % 2 * 4) & 15;
          int fifth = u8(from, block + 16 + i) >> part & 1;
          to[at + b * 256 + part * 32 + i] = partD * (q | fifth << 4) - partM;
        }
      }
    }
  }

  static void ofQ6K(MemorySegment from, int count, float[] to, int at) {
    float[] scales = new float[16];
    for (int b = 0; b < count; b++) {
      long block = b * 210L;
      float d = half(from, block + 208);
      for (int part = 0; part < 16; part++) {
        scales[part] = d * i8(from, block + 192 + part);
      }
      for (int half = 0; half < 2; half++) {
        long low = block + half * 64L;
        long high = block + 128 + half * 32L;
        int out = at + b * 256 + half * 128;
        for (int i = 0; i < 32; i++) {
          int one = u8(from, low + i);
          int other = u8(from, low + 32 + i);
          int bits = u8(from, high + i);
          int part = half * 8 + i / 16;
          to[out + i] = scales[part] * (((one & 15) | (bits & 3) << 4) - 32);
          to[out + 32 + i] = scales[part + 2] * (((other & 15) | (bits >> 2 & 3) << 4) - 32);
          to[out + 64 + i] = scales[part + 4] * ((one >> 4 | (bits >> 4 & 3) << 4) - 32);
          to[out + 96 + i] = scales[part + 6] * ((other >> 4 | (bits >> 6) << 4) - 32);
        }
      }
    }
  }

  static void ofIq4Nl(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 18L;
      float d = half(from, block);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 2 + i);
        to[out + i] = d * NEAR_ZERO[q & 15];
        to[out + 16 + i] = d * NEAR_ZERO[q >> 4];
      }
    }
  }

  static void ofIq4Xs(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 136L;
      float d = half(from, block);
      int highs = from.get(SHORT, block + 2) & 0xFFFF;
      for (int part = 0; part < 8; part++) {
        int low = u8(from, block + 4 + part / 2) >> (part % 2 * 4) & 15;
        float partD = d * ((low | (highs >> (part * 2) & 3) << 4) - 32);
        int out = at + b * 256 + part * 32;
        for (int i = 0; i < 16; i++) {
          int q = u8(from, block + 8 + part * 16L + i);
          to[out + i] = partD * NEAR_ZERO[q & 15];
          to[out + 16 + i] = partD * NEAR_ZERO[q >> 4];
        }
      }
    }
  }

  /// The digit to the base 3 that stands at a place, highest first: a byte is the digits as a
  /// fraction of 256.
  private static int digit(int fraction, int place) {
    return ((fraction * POWERS_OF_3[place] & 0xFF) * 3) >> 8;
  }

  static void ofTq1(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 54L;
      float d = half(from, block + 52);
      for (int i = 0; i < 256; i++) {
        int digit =
            i < 160
                ? digit(u8(from, block + i % 32), i / 32)
                : i < 240
                    ? digit(u8(from, block + 32 + i % 16), (i - 160) / 16)
                    : digit(u8(from, block + 48 + i % 4), (i - 240) / 4);
        to[at + b * 256 + i] = d * (digit - 1);
      }
    }
  }

  static void ofTq2(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 66L;
      float d = half(from, block + 64);
      for (int i = 0; i < 256; i++) {
        to[at + b * 256 + i] = d * (twoBits(from, block, i) - 1);
      }
    }
  }

  static void ofMxfp4(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * 17L;
      int e = u8(from, block);
      // Half of 2^(e − 127), since the table is doubled; the two lowest are subnormal.
      float d = Float.intBitsToFloat(e < 2 ? 0x0020_0000 << e : (e - 1) << 23);
      int out = at + b * 32;
      for (int i = 0; i < 16; i++) {
        int q = u8(from, block + 1 + i);
        to[out + i] = d * E2M1[q & 15];
        to[out + 16 + i] = d * E2M1[q >> 4];
      }
    }
  }

  /// @param length of a block
  static void ofI4(MemorySegment from, int count, int length, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      long block = b * (5 + length / 2L);
      float d = from.get(FLOAT, block);
      int added = u8(from, block + 4) - 16;
      for (int part = 0; part < length; part += 32) {
        int out = at + b * length + part;
        for (int i = 0; i < 16; i++) {
          int q = u8(from, block + 5 + part / 2 + i);
          to[out + i] = d * ((q & 15) + added);
          to[out + 16 + i] = d * ((q >> 4) + added);
        }
      }
    }
  }

  static void ofE4m3(MemorySegment from, int count, float[] to, int at) {
    for (int b = 0; b < count; b++) {
      float d = from.get(FLOAT, b * 68L);
      for (int i = 0; i < 64; i++) {
        to[at + b * 64 + i] = d * Floats.ofE4m3(from.get(ValueLayout.JAVA_BYTE, b * 68L + 4 + i));
      }
    }
  }
}
