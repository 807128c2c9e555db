package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// Makes blocks of [WeightFormat]s out of float32. Every sum is of float32 in order, so that the
/// bytes are those of llama.cpp's definitions (`quantize_row_*_ref`), where these are compiled
/// without fused products.
final class WeightRounding {
  /// A part whose largest number is below this is zero.
  private static final float ZERO = 1e-15f;

  private WeightRounding() {}

  static void toFloat16(float[] from, int at, int count, MemorySegment to) {
    for (int i = 0; i < count; i++) {
      to.set(WeightBlocks.SHORT, i * 2L, Float.floatToFloat16(from[at + i]));
    }
  }

  static void toBfloat16(float[] from, int at, int count, MemorySegment to) {
    for (int i = 0; i < count; i++) {
      to.set(WeightBlocks.SHORT, i * 2L, Floats.round(from[at + i]));
    }
  }

  private static void half(MemorySegment to, long at, float value) {
    to.set(WeightBlocks.SHORT, at, Float.floatToFloat16(value));
  }

  private static float rounded(float value) {
    return Float.float16ToFloat(Float.floatToFloat16(value));
  }

  private static void put(MemorySegment to, long at, int value) {
    to.set(ValueLayout.JAVA_BYTE, at, (byte) value);
  }

  /// The number of the largest magnitude, the first of equals.
  private static float largest(float[] from, int at, int count) {
    float largest = from[at];
    for (int i = 1; i < count; i++) {
      float each = from[at + i];
      largest = Math.abs(each) > Math.abs(largest) ? each : largest;
    }
    return largest;
  }

  static void toQ8_0(float[] from, int at, int count, MemorySegment to) {
    for (int b = 0; b < count; b++) {
      int in = at + b * 32;
      long block = b * 34L;
      float d = Math.abs(largest(from, in, 32)) / 127;
      float inverse = d == 0 ? 0 : 1 / d;
      half(to, block, d);
      for (int i = 0; i < 32; i++) {
        float q = from[in + i] * inverse;
        int away =
            (int) (Math.abs(q) + 0.5); // in float64, so that a half is rounded away from zero
        put(to, block + 2 + i, q < 0 ? -Math.min(away, 128) : Math.min(away, 127));
      }
    }
  }

  static void toQ4_0(float[] from, int at, int count, MemorySegment to) {
    for (int b = 0; b < count; b++) {
      int in = at + b * 32;
      long block = b * 18L;
      float d = largest(from, in, 32) / -8;
      float inverse = d == 0 ? 0 : 1 / d;
      half(to, block, d);
      for (int i = 0; i < 16; i++) {
        int low = Math.clamp((int) (from[in + i] * inverse + 8.5f), 0, 15);
        int high = Math.clamp((int) (from[in + 16 + i] * inverse + 8.5f), 0, 15);
        put(to, block + 2 + i, low | high << 4);
      }
    }
  }

  /// The nearest whole number within bounds, ties to even.
  private static int nearest(float value, int least, int most) {
    return Math.clamp((int) Math.rint(value), least, most);
  }

  // ---------------------------------------------------------------- Q4_K

  static void toQ4K(float[] from, int at, int count, MemorySegment to) {
    var parts = new Part[8];
    for (int b = 0; b < count; b++) {
      int in = at + b * 256;
      var block = to.asSlice(b * 144L, 144).fill((byte) 0);
      float largestScale = 0;
      float largestMinimum = 0;
      for (int part = 0; part < 8; part++) {
        parts[part] = Part.of(from, in + part * 32);
        largestScale = Math.max(largestScale, parts[part].scale);
        largestMinimum = Math.max(largestMinimum, parts[part].minimum);
      }
      half(block, 0, largestScale / 63);
      half(block, 2, largestMinimum / 63);
      float inverseScale = largestScale > 0 ? 63 / largestScale : 0;
      float inverseMinimum = largestMinimum > 0 ? 63 / largestMinimum : 0;
      for (int part = 0; part < 8; part++) {
        putScales(
            block,
            part,
            nearest(inverseScale * parts[part].scale, 0, 63),
            nearest(inverseMinimum * parts[part].minimum, 0, 63));
      }
      float d = rounded(largestScale / 63);
      float m = rounded(largestMinimum / 63);
      for (int part = 0; part < 8; part++) {
        float partD = d * WeightBlocks.scale(block, 4, part);
        float partM = m * WeightBlocks.minimum(block, 4, part);
        long bytes = 16 + part / 2 * 32L;
        for (int i = 0; i < 32; i++) {
          int q =
              partD == 0
                  ? parts[part].levels[i]
                  : nearest((from[in + part * 32 + i] + partM) / partD, 0, 15);
          put(block, bytes + i, block.get(ValueLayout.JAVA_BYTE, bytes + i) | q << (part % 2 * 4));
        }
      }
    }
  }

  /// Packs the two numbers of 6 bits of a part; the bytes were zero.
  private static void putScales(MemorySegment block, int part, int scale, int minimum) {
    if (part < 4) {
      put(block, 4 + part, scale);
      put(block, 8 + part, minimum);
      return;
    }
    put(block, 8 + part, (scale & 15) | (minimum & 15) << 4);
    put(block, part, block.get(ValueLayout.JAVA_BYTE, part) | scale >> 4 << 6);
    put(block, 4 + part, block.get(ValueLayout.JAVA_BYTE, 4 + part) | minimum >> 4 << 6);
  }

  /// 32 numbers x as `scale · level − minimum`, levels from 0 to 15, so that Σ w (x − x̂)² is small
  /// where w = √mean(x²) + |x|. For 21 grids near the one that just holds all numbers, the numbers
  /// are rounded to the grid, then scale and minimum are those that fit the levels best; the best
  /// of the 22 is taken, and grids begin at the minimum of the best so far.
  private record Part(float scale, float minimum, int[] levels) {
    private static final int COUNT = 32;
    private static final int MOST = 15;

    static Part of(float[] from, int at) {
      float squares = 0;
      float least = from[at];
      float most = from[at];
      for (int i = 0; i < COUNT; i++) {
        float x = from[at + i];
        squares += x * x;
        least = x < least ? x : least;
        most = x > most ? x : most;
      }
      float root = (float) Math.sqrt(squares / COUNT);
      float[] weights = new float[COUNT];
      float sumW = 0;
      float sumX = 0;
      for (int i = 0; i < COUNT; i++) {
        float x = from[at + i];
        weights[i] = root + Math.abs(x);
        sumW += weights[i];
        sumX += weights[i] * x;
      }
      least = Math.min(least, 0);
      if (most == least) {
        return new Part(0, -least, new int[COUNT]);
      }
      float scale = 1 / (MOST / (most - least));
      float minimum = least;
      int[] levels = levels(from, at, MOST / (most - least), least);
      float best = error(from, at, weights, levels, scale, minimum);
      for (int step = 0; step <= 20; step++) {
        int[] tried = levels(from, at, (-1 + 0.1f * step + MOST) / (most - minimum), minimum);
        float sumL = 0;
        float sumL2 = 0;
        float sumXL = 0;
        for (int i = 0; i < COUNT; i++) {
          float wl = weights[i] * tried[i];
          sumL += wl;
          sumL2 += wl * tried[i];
          sumXL += wl * from[at + i];
        }
        float determinant = sumW * sumL2 - sumL * sumL;
        if (determinant > 0) {
          float triedScale = (sumW * sumXL - sumX * sumL) / determinant;
          float triedMinimum = (sumL2 * sumX - sumL * sumXL) / determinant;
          if (triedMinimum > 0) {
            triedMinimum = 0;
            triedScale = sumXL / sumL2;
          }
          float error = error(from, at, weights, tried, triedScale, triedMinimum);
          if (error < best) {
            best = error;
            levels = tried;
            scale = triedScale;
            minimum = triedMinimum;
          }
        }
      }
      return new Part(scale, -minimum, levels);
    }

    private static int[] levels(float[] from, int at, float inverse, float least) {
      int[] levels = new int[COUNT];
      for (int i = 0; i < COUNT; i++) {
        levels[i] = nearest(inverse * (from[at + i] - least), 0, MOST);
      }
      return levels;
    }

    private static float error(
        float[] from, int at, float[] weights, int[] levels, float scale, float minimum) {
      float error = 0;
      for (int i = 0; i < COUNT; i++) {
        float difference = scale * levels[i] + minimum - from[at + i];
        error += weights[i] * (difference * difference);
      }
      return error;
    }
  }

  // ---------------------------------------------------------------- Q6_K

  static void toQ6K(float[] from, int at, int count, MemorySegment to) {
    float[] scales = new float[16];
    int[] levels = new int[256];
    for (int b = 0; b < count; b++) {
      int in = at + b * 256;
      var block = to.asSlice(b * 210L, 210).fill((byte) 0);
      for (int part = 0; part < 16; part++) {
        scales[part] = fitted(from, in + part * 16, levels, part * 16);
      }
      float largest = largest(scales, 0, 16);
      if (Math.abs(largest) < ZERO) {
        continue;
      }
      float inverse = -128 / largest;
      half(block, 208, 1 / inverse);
      float d = rounded(1 / inverse);
      for (int part = 0; part < 16; part++) {
        int scale = nearest(inverse * scales[part], -128, 127);
        put(block, 192 + part, scale);
        float partD = d * scale;
        for (int i = part * 16; i < part * 16 + 16 && partD != 0; i++) {
          levels[i] = nearest(from[in + i] / partD, -32, 31) + 32;
        }
      }
      for (int i = 0; i < 256; i++) {
        long low = i / 128 * 64L + i % 64;
        long high = 128 + i / 128 * 32L + i % 32;
        put(
            block,
            low,
            block.get(ValueLayout.JAVA_BYTE, low) | (levels[i] & 15) << (i % 128 / 64 * 4));
        put(
            block,
            high,
            block.get(ValueLayout.JAVA_BYTE, high) | levels[i] >> 4 << (i % 128 / 32 * 2));
      }
    }
  }

  /// 16 numbers x as `scale · (level − 32)`, levels from 0 to 63, so that Σ x² (x − x̂)² is small:
  /// 19 grids near the one that just holds the largest number are tried, each with the scale that
  /// fits its levels best.
  ///
  /// @return the scale, 0 for numbers that are all zero; the levels are put into `levels`
  private static float fitted(float[] from, int at, int[] levels, int place) {
    float largest = largest(from, at, 16);
    if (Math.abs(largest) < ZERO) {
      for (int i = 0; i < 16; i++) {
        levels[place + i] = 0;
      }
      return 0;
    }
    float scale = 0;
    float best = 0;
    int[] tried = new int[16];
    for (int step = 0; step <= 18; step++) {
      // The grid in the middle first, since only a better one takes its place.
      int from0 = step == 0 ? 0 : step <= 9 ? step - 10 : step - 9;
      float inverse = step == 0 ? -32 / largest : -(32 + 0.1f * from0) / largest;
      float sumXL = 0;
      float sumL2 = 0;
      for (int i = 0; i < 16; i++) {
        float x = from[at + i];
        tried[i] = nearest(inverse * x, -32, 31);
        float w = x * x;
        sumXL += w * x * tried[i];
        sumL2 += w * tried[i] * tried[i];
      }
      if (step == 0 || (sumL2 > 0 && sumXL * sumXL > best * sumL2)) {
        scale = sumL2 == 0 ? 0 : sumXL / sumL2;
        best = scale * sumXL;
        for (int i = 0; i < 16; i++) {
          levels[place + i] = tried[i] + 32;
        }
      }
    }
    return scale;
  }
}
