package dev.sluice.kernel;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;

/// How the numbers of a stored weight stand in memory: alone, or in blocks that share a scale. A
/// row is a whole number of blocks, and everything is little-endian and aligned to nothing.
///
/// What a block means is what llama.cpp v0.5.0 (`ggml-quants.c`) and the Python package `gguf` 0.19
/// say, to the bit: [#dequantize] is the definition that fast kernels are tested against. The
/// number of a format is the one that GGUF gives it. The last four are no formats of files: they
/// hold what checkpoints of Hugging Face keep in several tensors, scales apart from numbers.
public enum WeightFormat {
  F32(0, 1, 4),
  F16(1, 1, 2),
  BF16(30, 1, 2),
  /// `half d; i8 q[32]`: d · q.
  Q8_0(8, 32, 34),
  /// `half d; u8 qs[16]`: d · (q − 8); the low halves of the bytes come first.
  Q4_0(2, 32, 18),
  /// `half d; half m; u8 qs[16]`: d · q + m.
  Q4_1(3, 32, 20),
  /// `half d; u32 high; u8 qs[16]`: d · (q − 16); the bits of `high` are the fifth of each number.
  Q5_0(6, 32, 22),
  /// `half d; half m; u32 high; u8 qs[16]`: d · q + m.
  Q5_1(7, 32, 24),
  /// `u8 scales[16]; u8 qs[64]; half d; half m`: 16 parts of 16 with a scale and a minimum of 4
  /// bits.
  Q2_K(10, 256, 84),
  /// `u8 high[32]; u8 qs[64]; u8 scales[12]; half d`: 16 parts of 16 with a scale of 6 bits.
  Q3_K(11, 256, 110),
  /// `half d; half m; u8 scales[12]; u8 qs[128]`: 8 parts of 32 with a scale and a minimum of 6
  /// bits.
  Q4_K(12, 256, 144),
  /// `half d; half m; u8 scales[12]; u8 high[32]; u8 qs[128]`: as `Q4_K` with a fifth bit.
  Q5_K(13, 256, 176),
  /// `u8 low[128]; u8 high[64]; i8 scales[16]; half d`: d · scale · (q − 32).
  Q6_K(14, 256, 210),
  /// `half d; u8 qs[16]`: d times one of 16 values, which stand closer near zero.
  IQ4_NL(20, 32, 18),
  /// `half d; u16 high; u8 low[4]; u8 qs[128]`: 8 parts of 32 of the same table, each with a scale.
  IQ4_XS(23, 256, 136),
  /// `u8 qs[48]; u8 qh[4]; half d`: d · {−1, 0, 1}, five to a byte.
  TQ1_0(34, 256, 54),
  /// `u8 qs[64]; half d`: d · (q − 1), four to a byte.
  TQ2_0(35, 256, 66),
  /// `u8 e; u8 qs[16]`: 2^(e − 127) · the E2M1 number of four bits.
  MXFP4(39, 32, 17),
  /// `float d; u8 z; u8 qs[16]`: d · (q + z − 16), where z is 16 less the zero point; the low
  /// halves of the bytes come first.
  I4_32(WeightFormat.NONE, 32, 21),
  /// `float d; u8 z; u8 qs[32]`: the same, and the halves of 16 bytes after those of the 16 before.
  I4_64(WeightFormat.NONE, 64, 37),
  /// `float d; u8 z; u8 qs[64]`: likewise.
  I4_128(WeightFormat.NONE, 128, 69),
  /// `float d; u8 q[64]`: d · the E4M3 number of eight bits.
  E4M3(WeightFormat.NONE, 64, 68);

  /// In place of a number where GGUF has none.
  private static final int NONE = -1;

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /// Numbers that are dequantised at a time.
  private static final int CHUNK = 1024;

  private final int number;
  private final int blockLength;
  private final int blockBytes;

  WeightFormat(int number, int blockLength, int blockBytes) {
    this.number = number;
    this.blockLength = blockLength;
    this.blockBytes = blockBytes;
  }

  /// The format that GGUF gives this number, or null.
  public static @Nullable WeightFormat numbered(long number) {
    for (var format : values()) {
      if (format.isOfGguf() && format.number == number) {
        return format;
      }
    }
    return null;
  }

  /// The format of that name in lower case (`q4_k`), as settings have it, or null.
  public static @Nullable WeightFormat named(String word) {
    for (var format : values()) {
      if (format.word().equals(word)) {
        return format;
      }
    }
    return null;
  }

  /// The format of that name that is to be made.
  ///
  /// @throws InvalidInputException if none is called so, or it is only read
  public static WeightFormat toMake(String word) {
    var format = named(word);
    if (format != null && format.isMade()) {
      return format;
    }
    String all =
        Arrays.stream(values())
            .filter(WeightFormat::isMade)
            .map(WeightFormat::word)
            .collect(Collectors.joining(", "));
    throw new InvalidInputException(
        format == null
            ? "there is no format of weights called '%s'; choose one of %s"
                .formatted(Printable.brief(word, 60), all)
            : "weights are read as %s but not made; choose one of %s".formatted(word, all));
  }

  /// The name in lower case: `q4_k`.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /// Whether files of GGUF have it.
  public boolean isOfGguf() {
    return number != NONE;
  }

  /// The number that GGUF gives it.
  public int number() {
    if (!isOfGguf()) {
      throw new IllegalArgumentException("GGUF has no " + this);
    }
    return number;
  }

  /// How many numbers share a block.
  public int blockLength() {
    return blockLength;
  }

  /// How many bytes a block has.
  public int blockBytes() {
    return blockBytes;
  }

  /// Whether [#quantize] makes it.
  public boolean isMade() {
    return switch (this) {
      case F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K -> true;
      case Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q5_K, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4 -> false;
      case I4_32, I4_64, I4_128, E4M3 -> false;
    };
  }

  /// The bytes of so many numbers, which are a whole number of blocks.
  ///
  /// @throws ArithmeticException if no long holds it
  public long bytes(long elements) {
    if (elements < 0 || elements % blockLength != 0) {
      throw new IllegalArgumentException(
          "%d numbers are no whole blocks of %d of %s".formatted(elements, blockLength, this));
    }
    return Math.multiplyExact(elements / blockLength, (long) blockBytes);
  }

  /// By how much a number of a format that is made may be moved where a scale of half precision is
  /// moved by one; zero where there is no such scale.
  public int largestLevel() {
    return switch (this) {
      case F32, BF16 -> 0;
      case F16 -> 1;
      case Q8_0 -> 127;
      case Q4_0 -> 8;
      case Q4_K -> 63 * 15 + 63;
      case Q6_K -> 128 * 32;
      default -> throw new IllegalArgumentException("weights are read as " + this + ", not made");
    };
  }

  /// Whether the scales of half precision are finite in whole blocks of a format that is made; they
  /// are not where a number was too large for it. A number of `F16` is its own scale.
  ///
  /// @param offset of the first block, in bytes
  /// @param elements a multiple of the block's length
  public boolean hasFiniteScales(MemorySegment blocks, long offset, long elements) {
    long end = offset + bytes(elements);
    for (int at : scales()) {
      for (long i = offset + at; i < end; i += blockBytes) {
        if ((blocks.get(WeightBlocks.SHORT, i) & 0x7C00) == 0x7C00) {
          return false;
        }
      }
    }
    return true;
  }

  /// Where the scales of half precision are in a block, in bytes.
  private int[] scales() {
    return switch (this) {
      case F32, BF16 -> new int[0];
      case F16, Q8_0, Q4_0 -> new int[] {0};
      case Q4_K -> new int[] {0, 2};
      case Q6_K -> new int[] {208};
      default -> throw new IllegalArgumentException("weights are read as " + this + ", not made");
    };
  }

  /// Gives the numbers of whole blocks.
  ///
  /// @param from holds the blocks
  /// @param offset of the first block, in bytes
  /// @param elements a multiple of the block's length
  /// @param at where in `to` the first number goes
  public void dequantize(MemorySegment from, long offset, int elements, float[] to, int at) {
    var blocks = from.asSlice(offset, bytes(elements));
    int count = elements / blockLength;
    switch (this) {
      case F32 -> WeightBlocks.ofFloat32(blocks, count, to, at);
      case F16 -> WeightBlocks.ofFloat16(blocks, count, to, at);
      case BF16 -> WeightBlocks.ofBfloat16(blocks, count, to, at);
      case Q8_0 -> WeightBlocks.ofQ8_0(blocks, count, to, at);
      case Q4_0 -> WeightBlocks.ofQ4_0(blocks, count, to, at);
      case Q4_1 -> WeightBlocks.ofQ4_1(blocks, count, to, at);
      case Q5_0 -> WeightBlocks.ofQ5_0(blocks, count, to, at);
      case Q5_1 -> WeightBlocks.ofQ5_1(blocks, count, to, at);
      case Q2_K -> WeightBlocks.ofQ2K(blocks, count, to, at);
      case Q3_K -> WeightBlocks.ofQ3K(blocks, count, to, at);
      case Q4_K -> WeightBlocks.ofQ4K(blocks, count, to, at);
      case Q5_K -> WeightBlocks.ofQ5K(blocks, count, to, at);
      case Q6_K -> WeightBlocks.ofQ6K(blocks, count, to, at);
      case IQ4_NL -> WeightBlocks.ofIq4Nl(blocks, count, to, at);
      case IQ4_XS -> WeightBlocks.ofIq4Xs(blocks, count, to, at);
      case TQ1_0 -> WeightBlocks.ofTq1(blocks, count, to, at);
      case TQ2_0 -> WeightBlocks.ofTq2(blocks, count, to, at);
      case MXFP4 -> WeightBlocks.ofMxfp4(blocks, count, to, at);
      case I4_32, I4_64, I4_128 -> WeightBlocks.ofI4(blocks, count, blockLength, to, at);
      case E4M3 -> WeightBlocks.ofE4m3(blocks, count, to, at);
    }
  }

  /// The same into memory.
  ///
  /// @param to float32 in the machine's byte order, unaligned access allowed
  /// @param toOffset where the first number goes, in bytes
  public void dequantize(
      MemorySegment from, long offset, long elements, MemorySegment to, long toOffset) {
    bytes(elements); // whole blocks
    float[] chunk = new float[(int) Math.min(CHUNK, elements)];
    for (long done = 0; done < elements; done += CHUNK) {
      int count = (int) Math.min(CHUNK, elements - done);
      dequantize(from, offset + bytes(done), count, chunk, 0);
      MemorySegment.copy(chunk, 0, to, FLOAT, toOffset + done * Float.BYTES, count);
    }
  }

  /// Makes whole blocks of numbers. `Q8_0` and `Q4_0` round to the nearest of a scale that the
  /// largest number gives; `Q4_K` and `Q6_K` look for scales of less squared error, as llama.cpp
  /// does without an importance matrix. A number beyond what the half precision of the scales can
  /// hold is infinite or NaN when it is read back, never another number.
  ///
  /// @param from finite numbers, where they are to share a scale
  /// @param at the first number
  /// @param elements a multiple of the block's length
  /// @param offset where in `to` the first block goes, in bytes
  public void quantize(float[] from, int at, int elements, MemorySegment to, long offset) {
    var blocks = to.asSlice(offset, bytes(elements));
    int count = elements / blockLength;
    for (int i = at; blockLength > 1 && i < at + elements; i++) {
      if (!Float.isFinite(from[i])) {
        throw new IllegalArgumentException("no block of %s holds %s".formatted(this, from[i]));
      }
    }
    switch (this) {
      case F32 -> MemorySegment.copy(from, at, blocks, WeightBlocks.FLOAT, 0, count);
      case F16 -> WeightRounding.toFloat16(from, at, count, blocks);
      case BF16 -> WeightRounding.toBfloat16(from, at, count, blocks);
      case Q8_0 -> WeightRounding.toQ8_0(from, at, count, blocks);
      case Q4_0 -> WeightRounding.toQ4_0(from, at, count, blocks);
      case Q4_K -> WeightRounding.toQ4K(from, at, count, blocks);
      case Q6_K -> WeightRounding.toQ6K(from, at, count, blocks);
      case Q4_1,
          Q5_0,
          Q5_1,
          Q2_K,
          Q3_K,
          Q5_K,
          IQ4_NL,
          IQ4_XS,
          TQ1_0,
          TQ2_0,
          MXFP4,
          I4_32,
          I4_64,
          I4_128,
          E4M3 ->
          throw new IllegalArgumentException("weights are read as " + this + ", not made");
    }
  }
}
