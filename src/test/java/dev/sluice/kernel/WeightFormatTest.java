package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

class WeightFormatTest {
  /// One block of each format and what `gguf` 0.19.0 makes of it.
  private static final JsonNode BLOCKS = golden("blocks.json");

  /// [#numbers] as `gguf` 0.19.0 rounds them, and `Q4_K` and `Q6_K` as `llama-quantize --pure` of
  /// llama.cpp v0.5.0 does.
  private static final JsonNode ROUNDED = golden("rounded.json");

  private static JsonNode golden(String name) {
    return JsonMapper.shared().readTree(TestData.GOLDEN.resolve("gguf").resolve(name).toFile());
  }

  private static byte[] hex(JsonNode text) {
    return HexFormat.of().parseHex(text.asString());
  }

  private static float[] read(WeightFormat format, byte[] blocks) {
    float[] numbers = new float[blocks.length / format.blockBytes() * format.blockLength()];
    format.dequantize(MemorySegment.ofArray(blocks), 0, numbers.length, numbers, 0);
    return numbers;
  }

  private static byte[] rounded(WeightFormat format, float[] numbers) {
    byte[] blocks = new byte[Math.toIntExact(format.bytes(numbers.length))];
    Arrays.fill(blocks, (byte) 0xA5); // what was there before is not mixed in
    format.quantize(numbers, 0, numbers.length, MemorySegment.ofArray(blocks), 0);
    return blocks;
  }

  /// 1024 numbers of several sizes, with a block of zeros, blocks of one sign, and blocks whose
  /// scale a half holds as a subnormal number.
  private static float[] numbers() {
    float[] numbers = new float[1024];
    int state = 12345;
    for (int i = 0; i < numbers.length; i++) {
      state = (state * 1103515245 + 12345) & 0x7FFF_FFFF;
      float x = Math.scalb((float) ((state >> 8 & 0xFFFF) - 32768), -16 - (state >> 3 & 7));
      x = i >= 64 && i < 96 ? 0 : i >= 96 && i < 128 ? Math.abs(x) : x;
      x = i >= 256 && i < 288 ? -Math.abs(x) : x;
      numbers[i] = i >= 512 && i < 768 ? Math.scalb(x, -20) : x;
    }
    return numbers;
  }

  private static double error(float[] wanted, float[] found) {
    double sum = 0;
    for (int i = 0; i < wanted.length; i++) {
      sum += Math.pow(wanted[i] - found[i], 2);
    }
    return Math.sqrt(sum / wanted.length);
  }

  @ParameterizedTest
  @EnumSource(
      mode = EnumSource.Mode.EXCLUDE,
      names = {"F32", "F16", "I4_32", "I4_64", "I4_128", "E4M3"})
  void aBlockIsWhatTheReferenceReads(WeightFormat format) {
    var golden = BLOCKS.get(format.name());
    byte[] block = hex(golden.get("hex"));
    float[] values = new float[golden.get("values").size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = golden.get("values").get(i).floatValue();
    }

    assertEquals(block.length, format.bytes(values.length));
    assertArrayEquals(values, read(format, block));
  }

  @ParameterizedTest
  @EnumSource
  void manyBlocksAnywhereInMemoryAreReadAsEachAlone(WeightFormat format) {
    int count = 5 * Math.max(format.blockLength(), 256);
    int bytes = Math.toIntExact(format.bytes(count));
    try (var arena = Arena.ofConfined()) {
      var stored = arena.allocate(bytes + 7L);
      for (int i = 0; i < stored.byteSize(); i++) {
        stored.set(ValueLayout.JAVA_BYTE, i, (byte) (i * 37 + 11));
      }
      float[] each = new float[count];
      for (int i = 0; i < count; i += format.blockLength()) {
        format.dequantize(stored, 7 + format.bytes(i), format.blockLength(), each, i);
      }
      float[] together = new float[count + 3];
      format.dequantize(stored, 7, count, together, 3);
      var memory = arena.allocate(count * 4L + 5);
      format.dequantize(stored, 7, count, memory, 5);
      float[] inMemory = new float[count];
      MemorySegment.copy(memory, ValueLayout.JAVA_FLOAT_UNALIGNED, 5, inMemory, 0, count);

      assertArrayEquals(each, Arrays.copyOfRange(together, 3, together.length));
      assertArrayEquals(each, inMemory);
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void numbersAreRoundedToTheBytesOfTheReference(WeightFormat format) {
    assertTrue(format.isMade());
    assertEquals(
        ROUNDED.get(format.name()).asString(),
        HexFormat.of().formatHex(rounded(format, numbers())));
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void whatWasReadIsRoundedToNearlyItself(WeightFormat format) {
    float[] numbers = read(format, rounded(format, numbers()));
    float[] again = read(format, rounded(format, numbers));

    assertTrue(error(numbers, again) <= 0.15 * error(numbers(), numbers), format.name());
  }

  /// What the search is for: the root of the mean squared error beside that of rounding to a scale
  /// that the range of each part gives.
  @Test
  void theSearchOfScalesErrsLessThanPlainRounding() {
    float[] numbers = numbers();

    assertEquals(
        0.82,
        error(numbers, read(WeightFormat.Q4_K, rounded(WeightFormat.Q4_K, numbers)))
            / plainError(numbers, 32, true),
        0.05);
    assertEquals(
        0.93,
        error(numbers, read(WeightFormat.Q6_K, rounded(WeightFormat.Q6_K, numbers)))
            / plainError(numbers, 16, false),
        0.05);
  }

  private static double plainError(float[] numbers, int part, boolean withMinimum) {
    float[] plain = new float[numbers.length];
    for (int at = 0; at < numbers.length; at += part) {
      float least = 0;
      float most = 0;
      float largest = 0;
      for (int i = at; i < at + part; i++) {
        least = Math.min(least, numbers[i]);
        most = Math.max(most, numbers[i]);
        largest = Math.abs(numbers[i]) > Math.abs(largest) ? numbers[i] : largest;
      }
      float scale = withMinimum ? (most - least) / 15 : largest / -32;
      float offset = withMinimum ? least : 0;
      for (int i = at; i < at + part; i++) {
        double level = scale == 0 ? 0 : Math.rint((numbers[i] - offset) / scale);
        level = withMinimum ? level : Math.min(31, level);
        plain[i] = (float) (scale * level + offset);
      }
    }
    return error(numbers, plain);
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void zerosStayZeros(WeightFormat format) {
    float[] read = read(format, rounded(format, new float[512]));

    for (float each : read) {
      assertEquals(0, Math.abs(each));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void whatAHalfCannotScaleIsNeverReadAsANumber(WeightFormat format) {
    float[] numbers = new float[256];
    Arrays.fill(numbers, -1e30f);
    numbers[3] = 2e30f;
    boolean finite = true;
    for (float each : read(format, rounded(format, numbers))) {
      finite &= Float.isFinite(each);
    }

    assertTrue(!finite, format.name());
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void numbersThatAreNoneAreRefused(WeightFormat format) {
    for (float wrong : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
      float[] numbers = new float[256];
      numbers[200] = wrong;
      assertThrows(IllegalArgumentException.class, () -> rounded(format, numbers));
    }
  }

  /// Scales that are subnormal, infinite or NaN are what IEEE says they are.
  @Test
  void scalesAreHalves() {
    byte[] block = new byte[34];
    block[2] = 3;
    block[0] = 1; // 2^-24
    assertEquals(3 * Math.scalb(1f, -24), read(WeightFormat.Q8_0, block)[0]);
    block[1] = 0x7C;
    block[0] = 0;
    assertEquals(Float.POSITIVE_INFINITY, read(WeightFormat.Q8_0, block)[0]);
    assertTrue(Float.isNaN(read(WeightFormat.Q8_0, block)[1])); // infinity times zero
    block[1] = 0x7E;
    assertTrue(Float.isNaN(read(WeightFormat.Q8_0, block)[0]));
  }

  @Test
  void theTwoLowestExponentsOfMxfp4AreSubnormal() {
    byte[] block = new byte[17];
    block[1] = 0x77; // 12 halves
    for (int e : new int[] {0, 1, 2, 127, 254}) {
      block[0] = (byte) e;
      assertEquals((float) Math.scalb(12.0, e - 128), read(WeightFormat.MXFP4, block)[0], "e " + e);
    }
  }

  @Test
  void formatsHaveTheNumbersOfGguf() {
    assertEquals(WeightFormat.Q6_K, WeightFormat.numbered(14));
    assertNull(WeightFormat.numbered(4));
    assertNull(WeightFormat.numbered(-1));
    assertNull(WeightFormat.numbered(1L << 32));
    assertEquals(WeightFormat.Q4_K, WeightFormat.named("q4_k"));
    assertNull(WeightFormat.named("Q4_K"));
    for (var format : WeightFormat.values()) {
      assertEquals(format, WeightFormat.named(format.word()));
      if (format.isOfGguf()) {
        assertEquals(format, WeightFormat.numbered(format.number()));
      } else {
        assertThrows(IllegalArgumentException.class, format::number);
        assertThrows(InvalidInputException.class, () -> WeightFormat.toMake(format.word()));
      }
    }
    assertEquals(
        List.of(WeightFormat.I4_32, WeightFormat.I4_64, WeightFormat.I4_128, WeightFormat.E4M3),
        Arrays.stream(WeightFormat.values()).filter(each -> !each.isOfGguf()).toList());
  }

  /// Every number with every zero point, in every place of a block.
  @ParameterizedTest
  @EnumSource(names = {"I4_32", "I4_64", "I4_128"})
  void numbersOfFourBitsAreLessTheirZeroPoint(WeightFormat format) {
    float d = -0.1f;
    for (int zero = 0; zero <= 16; zero++) {
      for (int turn = 0; turn < 16; turn++) {
        byte[] block = new byte[format.blockBytes()];
        var memory = MemorySegment.ofArray(block);
        memory.set(WeightBlocks.FLOAT, 0, d);
        block[4] = (byte) (16 - zero);
        float[] wanted = new float[format.blockLength()];
        for (int i = 0; i < wanted.length; i++) {
          int q = (i + i / 32 + turn) & 15;
          wanted[i] = (q - zero) * d;
          block[5 + i / 32 * 16 + i % 16] |= (byte) (i % 32 < 16 ? q : q << 4);
        }
        assertArrayEquals(wanted, read(format, block), "zero point " + zero);
      }
    }
  }

  @Test
  void numbersOfE4m3AreScaledByBlock() {
    float[] scales = {0.3f, -2, Math.scalb(1f, -140), 1};
    byte[] blocks = new byte[4 * 68];
    for (int b = 0; b < 4; b++) {
      MemorySegment.ofArray(blocks).set(WeightBlocks.FLOAT, 68L * b, scales[b]);
      for (int i = 0; i < 64; i++) {
        blocks[68 * b + 4 + i] = (byte) (64 * b + i);
      }
    }
    float[] found = read(WeightFormat.E4M3, blocks);
    for (int i = 0; i < 256; i++) {
      assertEquals(Floats.ofE4m3((byte) i) * scales[i / 64], found[i], "number " + i);
    }
    assertTrue(Float.isNaN(found[127]) && Float.isNaN(found[255]));
    assertEquals(448, Floats.ofE4m3((byte) 0x7E));
    assertEquals(-0x1p-9f, Floats.ofE4m3((byte) 0x81));
  }

  @Test
  void aBlockIsNeverBroken() {
    assertThrows(IllegalArgumentException.class, () -> WeightFormat.Q8_0.bytes(33));
    assertThrows(IllegalArgumentException.class, () -> WeightFormat.Q4_K.bytes(-256));
    assertThrows(ArithmeticException.class, () -> WeightFormat.F32.bytes(Long.MAX_VALUE / 2));
    assertThrows(
        IndexOutOfBoundsException.class,
        () ->
            WeightFormat.Q8_0.dequantize(
                MemorySegment.ofArray(new byte[33]), 0, 32, new float[32], 0));
    assertThrows(IllegalArgumentException.class, () -> rounded(WeightFormat.Q5_K, new float[256]));
  }
}
