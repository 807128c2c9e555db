package dev.sluice.kernel;

import static dev.sluice.kernel.Lanes.LANES;
import static dev.sluice.kernel.Lanes.all;
import static dev.sluice.kernel.Lanes.array;
import static dev.sluice.kernel.Lanes.at;
import static dev.sluice.kernel.Lanes.padded;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// Stored weights with the Vector API: a row is brought into an array as float32 numbers, to the
/// bit what [WeightFormat#dequantize] gives, and multiplied there with every input.
final class VectorWeights {
  private static final VectorSpecies<Integer> I = IntVector.SPECIES_PREFERRED;

  /// Whether there are vectors of as many 1-byte lanes as there are 4-byte ones, and blocks are
  /// whole vectors.
  private static final boolean FITS = LANES == 8 || LANES == 16;

  private static final VectorSpecies<Byte> B =
      FITS
          ? VectorSpecies.of(byte.class, VectorShape.forBitSize(8 * LANES))
          : ByteVector.SPECIES_64;

  private static final ByteOrder ORDER = ByteOrder.LITTLE_ENDIAN;
  private static final ValueLayout.OfShort HALF = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  private VectorWeights() {}

  static void product(
      StoredMatrix w,
      MemorySegment x,
      int inputs,
      MemorySegment y,
      long yStride,
      long from,
      long to) {
    int columns = Math.toIntExact(w.columns());
    float[] row = array(columns);
    float[] input = array(padded(columns) * inputs);
    for (int i = 0; i < inputs; i++) {
      Lanes.read(Floats.float32(x), (long) i * columns, row, columns);
      System.arraycopy(row, 0, input, i * padded(columns), padded(columns));
    }
    float[] lanes = array(LANES);
    for (long r = from; r < to; r++) {
      dequantize(w.format(), w.data(), w.offset(r), columns, row);
      for (int i = 0; i < inputs; i++) {
        float sum = dot(row, input, i * padded(columns), padded(columns), lanes);
        y.setAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, i * yStride + r, sum);
      }
    }
  }

  /// In an order that depends on the length alone.
  private static float dot(float[] a, float[] b, int start, int padded, float[] lanes) {
    var even = all(0);
    var odd = all(0);
    int i = 0;
    for (; i < padded - LANES; i += 2 * LANES) {
      even = at(a, i).fma(at(b, start + i), even);
      odd = at(a, i + LANES).fma(at(b, start + i + LANES), odd);
    }
    if (i < padded) {
      even = at(a, i).fma(at(b, start + i), even);
    }
    return Lanes.sum(even.add(odd), lanes);
  }

  static void dequantize(StoredMatrix w, long from, long to, Floats out) {
    int columns = Math.toIntExact(w.columns());
    float[] row = array(columns);
    for (long r = from; r < to; r++) {
      dequantize(w.format(), w.data(), w.offset(r), columns, row);
      Lanes.write(row, out, (r - from) * columns, columns);
    }
  }

  /// @param to at least `count` numbers, whole vectors; the padding becomes zero
  private static void dequantize(
      WeightFormat format, MemorySegment from, long offset, int count, float[] to) {
    switch (format) {
      case F32 -> Lanes.read(Floats.float32(from), offset / 4, to, count);
      case BF16 -> Lanes.read(Floats.bfloat16(from), offset / 2, to, count);
      case Q8_0, Q4_0, Q4_K, Q6_K, I4_32, I4_64, I4_128, E4M3 -> {
        if (!FITS) {
          format.dequantize(from, offset, count, to, 0);
        } else if (format == WeightFormat.Q8_0) {
          ofQ80(from, offset, count, to);
        } else if (format == WeightFormat.Q4_0) {
          ofQ40(from, offset, count, to);
        } else if (format == WeightFormat.Q4_K) {
          ofQ4K(from, offset, count, to);
        } else if (format == WeightFormat.E4M3) {
          ofE4m3(from, offset, count, to);
        } else if (format != WeightFormat.Q6_K) {
          ofI4(format.blockLength(), from, offset, count, to);
        } else {
          ofQ6K(from, offset, count, to);
        }
      }
      case F16, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q5_K, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4 ->
          format.dequantize(from, offset, count, to, 0);
    }
  }

  private static void ofQ80(MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += 32, offset += 34) {
      float d = Float.float16ToFloat(from.get(HALF, offset));
      for (int i = 0; i < 32; i += LANES) {
        var q = ByteVector.fromMemorySegment(B, from, offset + 2 + i, ORDER);
        floats(q).mul(all(d)).intoArray(to, c + i);
      }
    }
  }

  private static void ofQ40(MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += 32, offset += 18) {
      float d = Float.float16ToFloat(from.get(HALF, offset));
      for (int i = 0; i < 16; i += LANES) {
        var q = unsigned(ByteVector.fromMemorySegment(B, from, offset + 2 + i, ORDER));
        floats(q.and(15).sub(8)).mul(all(d)).intoArray(to, c + i);
        floats(q.lanewise(VectorOperators.LSHR, 4).sub(8)).mul(all(d)).intoArray(to, c + 16 + i);
      }
    }
  }

  /// @param length of a block
  private static void ofI4(int length, MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += length, offset += 5 + length / 2) {
      float d = from.get(FLOAT, offset);
      int added = (from.get(ValueLayout.JAVA_BYTE, offset + 4) & 0xFF) - 16;
      for (int part = 0; part < length; part += 32) {
        for (int i = 0; i < 16; i += LANES) {
          long at = offset + 5 + part / 2 + i;
          var q = unsigned(ByteVector.fromMemorySegment(B, from, at, ORDER));
          int out = c + part + i;
          floats(q.and(15).add(added)).mul(all(d)).intoArray(to, out);
          floats(q.lanewise(VectorOperators.LSHR, 4).add(added))
              .mul(all(d))
              .intoArray(to, out + 16);
        }
      }
    }
  }

  /// Exponent and mantissa in the places that float32 has for them are 2⁻¹²⁰ of the number.
  private static void ofE4m3(MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += 64, offset += 68) {
      float d = from.get(FLOAT, offset);
      for (int i = 0; i < 64; i += LANES) {
        var bits =
            (IntVector)
                ByteVector.fromMemorySegment(B, from, offset + 4 + i, ORDER)
                    .convertShape(VectorOperators.B2I, I, 0);
        var number =
            bits.lanewise(VectorOperators.LSHL, 20)
                .and(0x87F0_0000)
                .reinterpretAsFloats()
                .mul(all(0x1p120f));
        var none = bits.and(0x7F).compare(VectorOperators.EQ, 0x7F);
        number.blend(all(Float.NaN), none.cast(Lanes.F)).mul(all(d)).intoArray(to, c + i);
      }
    }
  }

  private static void ofQ4K(MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += 256, offset += 144) {
      float d = Float.float16ToFloat(from.get(HALF, offset));
      float least = Float.float16ToFloat(from.get(HALF, offset + 2));
      int a = from.get(INT, offset + 4);
      int b = from.get(INT, offset + 8);
      int high = from.get(INT, offset + 12);
      long scales = six(a, high);
      long minima = six(b, high >>> 4);
      for (int part = 0; part < 4; part++) {
        float low = d * (scales & 63);
        float lowLeast = least * (minima & 63);
        float top = d * (scales >>> 8 & 63);
        float topLeast = least * (minima >>> 8 & 63);
        for (int i = 0; i < 32; i += LANES) {
          var q =
              unsigned(ByteVector.fromMemorySegment(B, from, offset + 16 + 32L * part + i, ORDER));
          int at = c + 64 * part + i;
          floats(q.and(15)).mul(all(low)).sub(all(lowLeast)).intoArray(to, at);
          floats(q.lanewise(VectorOperators.LSHR, 4))
              .mul(all(top))
              .sub(all(topLeast))
              .intoArray(to, at + 32);
        }
        scales >>>= 16;
        minima >>>= 16;
      }
    }
  }

  /// Eight numbers of six bits: four in the low bits of `own`, and four whose low bits are in
  /// `high` and whose upper two are on top of those of `own`.
  private static long six(int own, int high) {
    int first = own & 0x3F3F3F3F;
    int second = (high & 0x0F0F0F0F) | (own >>> 2 & 0x30303030);
    return (first & 0xFFFFFFFFL) | (long) second << 32;
  }

  private static void ofQ6K(MemorySegment from, long offset, int count, float[] to) {
    for (int c = 0; c < count; c += 256, offset += 210) {
      float d = Float.float16ToFloat(from.get(HALF, offset + 208));
      for (int half = 0; half < 2; half++) {
        for (int i = 0; i < 32; i += LANES) {
          long low = offset + 64L * half + i;
          var a = unsigned(ByteVector.fromMemorySegment(B, from, low, ORDER));
          var b = unsigned(ByteVector.fromMemorySegment(B, from, low + 32, ORDER));
          var upper =
              unsigned(ByteVector.fromMemorySegment(B, from, offset + 128 + 32L * half + i, ORDER));
          long scales = offset + 192 + 8L * half + i / 16;
          int at = c + 128 * half + i;
          six(a.and(15), upper.lanewise(VectorOperators.LSHL, 4))
              .mul(all(d * from.get(ValueLayout.JAVA_BYTE, scales)))
              .intoArray(to, at);
          six(b.and(15), upper.lanewise(VectorOperators.LSHL, 2))
              .mul(all(d * from.get(ValueLayout.JAVA_BYTE, scales + 2)))
              .intoArray(to, at + 32);
          six(a.lanewise(VectorOperators.LSHR, 4), upper)
              .mul(all(d * from.get(ValueLayout.JAVA_BYTE, scales + 4)))
              .intoArray(to, at + 64);
          six(b.lanewise(VectorOperators.LSHR, 4), upper.lanewise(VectorOperators.LSHR, 2))
              .mul(all(d * from.get(ValueLayout.JAVA_BYTE, scales + 6)))
              .intoArray(to, at + 96);
        }
      }
    }
  }

  /// Numbers of six bits, less 32.
  private static FloatVector six(IntVector low, IntVector upper) {
    return floats(low.or(upper.and(0x30)).sub(32));
  }

  private static IntVector unsigned(ByteVector bytes) {
    return (IntVector) bytes.convertShape(VectorOperators.ZERO_EXTEND_B2I, I, 0);
  }

  private static FloatVector floats(IntVector numbers) {
    return (FloatVector) numbers.convertShape(VectorOperators.I2F, Lanes.F, 0);
  }

  private static FloatVector floats(ByteVector numbers) {
    return (FloatVector) numbers.convertShape(VectorOperators.B2F, Lanes.F, 0);
  }
}
