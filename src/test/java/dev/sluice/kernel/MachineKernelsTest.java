package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;
import static dev.sluice.kernel.KernelNumbers.assertRange;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The machine code against the Vector API's bits, with every operand right before memory that
/// cannot be read. Against the definition it is tested as all kernels are, by [RangeKernelRules].
class MachineKernelsTest {
  private static final double EPSILON = 1e-6;

  private static final float[] EXTREME = {
    0f,
    -0f,
    Float.MIN_VALUE,
    -Float.MIN_NORMAL,
    1e-20f,
    17f,
    -17f,
    87.33654f,
    -87.33654f,
    87.33655f,
    -87.33655f,
    88.8f,
    -105f,
    1e19f,
    -1e30f,
    Float.MAX_VALUE,
    -Float.MAX_VALUE,
    Float.POSITIVE_INFINITY,
    Float.NEGATIVE_INFINITY,
    Float.NaN
  };

  private static Kernels machine;
  private static Edge[] edges;

  @BeforeAll
  static void prepare() {
    var made = MachineKernels.make();
    assumeTrue(made != null, "needs AVX-512, and a system that runs code made here");
    assumeTrue(Lanes.LANES == 16, "needs a Java whose vectors have 64 bytes");
    machine = made;
    edges = new Edge[] {new Edge(), new Edge(), new Edge(), new Edge(), new Edge()};
  }

  /// Normal numbers, of which some are extreme where that is wanted.
  private static Floats numbers(int edge, long count, SplittableRandom random, boolean extreme) {
    var memory = edges[edge].last(4 * count);
    for (long i = 0; i < count; i++) {
      float number = (float) (3 * random.nextGaussian());
      if (extreme && random.nextInt(8) == 0) {
        number = EXTREME[random.nextInt(EXTREME.length)];
      }
      memory.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i, number);
    }
    return Floats.float32(memory);
  }

  private static Floats unwritten(int edge, long count) {
    return Floats.float32(edges[edge].last(4 * count));
  }

  private interface Call {
    void on(Kernels kernels, Floats out);
  }

  /// Both write the same, and leave the same alone.
  private static void same(int edge, long count, String what, Call call) {
    var out = unwritten(edge, count);
    call.on(VECTOR, out);
    byte[] expected = bytes(out);
    out = unwritten(edge, count);
    call.on(machine, out);
    assertArrayEquals(expected, bytes(out), what);
  }

  /// Widths of one to 4096 vectors; 70 rows of 1024 take two calls, and of 65536 one each. Whatever
  /// is not extreme has to be without it: one NaN makes a row of them.
  @ParameterizedTest
  @CsvSource({"16, 5", "48, 7", "112, 3", "1024, 70", "2048, 1", "65536, 2"})
  void normsHaveTheSameBits(int width, int rows) {
    for (int round = 0; round < 6; round++) {
      var random = new SplittableRandom(31L * width + round);
      long count = (long) rows * width;
      var x = numbers(0, count, random, round == 1);
      var added = numbers(1, count, random, round == 2);
      var weight = numbers(2, width, random, round == 3);
      var sum = unwritten(3, count);
      long from = round == 4 ? rows / 3 : 0;
      long to = round == 5 ? rows - rows / 4 : rows;
      same(
          4,
          count,
          "out",
          (kernels, out) -> kernels.rmsNorm(x, null, weight, EPSILON, sum, out, width, from, to));
      assertTrue(Float.isNaN(sum.get(0)) && Float.isNaN(sum.get(count - 1)));
      same(
          4,
          count,
          "out of the sum",
          (kernels, out) -> kernels.rmsNorm(x, added, weight, EPSILON, sum, out, width, from, to));
      var other = unwritten(4, count);
      same(
          3,
          count,
          "sum",
          (kernels, its) ->
              kernels.rmsNorm(x, added, weight, EPSILON, its, other, width, from, to));
    }
  }

  /// As the residual stream is: the sum takes the place of x.
  @Test
  void theSumMayBeX() {
    var random = new SplittableRandom(7);
    var added = numbers(1, 3 * 64, random, false);
    var weight = numbers(2, 64, random, false);
    byte[][] sums = new byte[2][];
    byte[][] outs = new byte[2][];
    for (int i = 0; i < 2; i++) {
      var x = numbers(0, 3 * 64, new SplittableRandom(8), false);
      var out = unwritten(4, 3 * 64);
      (i == 0 ? VECTOR : machine).rmsNorm(x, added, weight, EPSILON, x, out, 64, 0, 3);
      sums[i] = bytes(x);
      outs[i] = bytes(out);
    }
    assertArrayEquals(sums[0], sums[1]);
    assertArrayEquals(outs[0], outs[1]);
  }

  /// Nine tokens of five positions, so that the positions start again; ranges that begin and end
  /// within a token.
  @ParameterizedTest
  @CsvSource({"16, 0", "32, 16", "48, 16", "64, 32", "80, 16", "128, 64", "256, 64", "4096, 16"})
  void rotationsHaveTheSameBits(int width, int pairs) {
    int positions = 5;
    for (int heads = 1; heads <= 5; heads++) {
      for (boolean normed : new boolean[] {false, true}) {
        for (boolean extreme : new boolean[] {false, true}) {
          var random = new SplittableRandom(37L * width + heads);
          int rows = 9 * heads;
          long count = (long) rows * width;
          var x = numbers(0, count, random, extreme);
          var weight = normed ? numbers(1, width, random, extreme) : null;
          var cosines = numbers(2, (long) positions * pairs, random, extreme);
          var sines = numbers(3, (long) positions * pairs, random, extreme);
          var rotations = new Rotations(cosines.memory(), sines.memory(), pairs, positions);
          int its = heads;
          for (int[] range :
              new int[][] {{0, rows}, {heads / 2, rows - heads / 3}, {rows / 2, rows / 2 + 1}}) {
            same(
                4,
                count,
                heads + " heads, " + normed + ", from " + range[0],
                (kernels, out) ->
                    kernels.normRotate(
                        x, weight, EPSILON, rotations, out, its, width, range[0], range[1]));
          }
        }
      }
    }
  }

  @Test
  void manyHeadsOfATokenTakeSeveralCalls() {
    var random = new SplittableRandom(3);
    int heads = 1100; // of 64 numbers, more than a call takes
    var x = numbers(0, 2L * heads * 64, random, false);
    var weight = numbers(1, 64, random, false);
    var cosines = numbers(2, 2 * 32, random, false);
    var sines = numbers(3, 2 * 32, random, false);
    var rotations = new Rotations(cosines.memory(), sines.memory(), 32, 2);
    same(
        4,
        2L * heads * 64,
        "out",
        (kernels, out) ->
            kernels.normRotate(x, weight, EPSILON, rotations, out, heads, 64, 0, 2L * heads));
  }

  @Test
  void withoutRotationsHeadsAreNormed() {
    var random = new SplittableRandom(5);
    var x = numbers(0, 12 * 64, random, false);
    var weight = numbers(1, 64, random, false);
    same(
        4,
        12 * 64,
        "out",
        (kernels, out) ->
            kernels.normRotate(x, weight, EPSILON, Rotations.NONE, out, 3, 64, 0, 12));
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 15, 16, 17, 31, 32, 33, 1000, 65_535, 65_536, 65_551, 150_000})
  void elementsHaveTheSameBits(int count) {
    for (int round = 0; round < 4; round++) {
      var random = new SplittableRandom(41L * count + round);
      var one = numbers(0, count, random, round == 1);
      var other = numbers(1, count, random, round > 1);
      long from = round == 3 ? count / 3 : 0;
      long to = round == 3 ? count - count / 4 : count;
      same(4, count, "swiGlu", (kernels, out) -> kernels.swiGlu(other, one, out, from, to));
      same(4, count, "gate", (kernels, out) -> kernels.sigmoidGate(one, other, out, 1, from, to));
      float a = round == 2 ? 1 : -1.25f;
      float b = round == 1 ? 0 : 0.3f;
      same(4, count, "sum", (kernels, out) -> kernels.weightedSum(one, a, other, b, out, from, to));
    }
  }

  /// The upper 22 bits are all that there are, the others random.
  @Test
  void everyScoreHasTheSameBits() {
    var random = new SplittableRandom(11);
    int count = 1 << 16;
    var one = unwritten(0, count);
    KernelNumbers.fill(one, _ -> 1f);
    for (int part = 0; part < 64; part++) {
      int high = part << 26;
      var z = unwritten(1, count);
      KernelNumbers.fill(
          z, i -> Float.intBitsToFloat(high | i << 10 & 0x3FF_FC00 | random.nextInt(1 << 10)));
      same(
          4,
          count,
          "from " + high,
          (kernels, out) -> kernels.sigmoidGate(one, z, out, 1, 0, count));
    }
  }

  @ParameterizedTest
  @CsvSource({"16, 5", "48, 7", "64, 1", "128, 33", "1024, 70", "65536, 2"})
  void gatesOfRowsHaveTheSameBits(int width, int rows) {
    for (int round = 0; round < 4; round++) {
      var random = new SplittableRandom(43L * width + round);
      var y = numbers(0, (long) rows * width, random, round == 1);
      var z = numbers(1, rows, random, round > 1);
      long from = round == 3 ? rows / 3 : 0;
      long to = round == 3 ? rows - rows / 4 : rows;
      same(
          4,
          (long) rows * width,
          "gate",
          (kernels, out) -> kernels.sigmoidGate(y, z, out, width, from, to));
    }
  }

  private static float[] all(Floats floats) {
    float[] all = new float[Math.toIntExact(floats.length())];
    for (int i = 0; i < all.length; i++) {
      all[i] = floats.get(i);
    }
    return all;
  }

  /// Blocks of four vectors of columns, one alone, and several calls: of 4096 rows each takes one
  /// vector. Factors of zero, of one, and such that are no factors.
  @ParameterizedTest
  @CsvSource({
    "16, 16",
    "16, 64",
    "32, 48",
    "48, 112",
    "64, 80",
    "128, 128",
    "256, 512",
    "1040, 80",
    "4096, 32",
    "4096, 16"
  })
  void stepsOfTheDeltaRuleHaveTheSameBits(int keyWidth, int valueWidth) {
    float[][] factors = {{0.9f, 0.4f}, {0f, 1f}, {1f, 0f}, {-0f, 1e-38f}, {Float.NaN, 0.5f}};
    for (int round = 0; round < 12; round++) {
      var random = new SplittableRandom(47L * keyWidth + 3L * valueWidth + round);
      boolean tiny = round == 5; // products that are too small to be told from zero
      var key = numbers(0, keyWidth, random, round == 1);
      var query = numbers(1, keyWidth, random, round == 2);
      if (tiny) {
        KernelNumbers.fill(key, _ -> 1e-30f);
        KernelNumbers.fill(query, _ -> -1e-30f);
      }
      var value = numbers(2, valueWidth, random, round == 3);
      if (round >= 6) { // one extreme number, which is seen in few others
        value.set(random.nextInt(valueWidth), EXTREME[random.nextInt(EXTREME.length)]);
      }
      long size = (long) keyWidth * valueWidth;
      var state = numbers(3, size, random, round == 4);
      if (round >= 9) {
        state.set(random.nextInt((int) size), EXTREME[random.nextInt(EXTREME.length)]);
      }
      float[] before = all(state);
      float decay = factors[round % factors.length][0];
      float rate = factors[round % factors.length][1];
      byte[][] states = new byte[2][];
      byte[][] outs = new byte[2][];
      for (int i = 0; i < 2; i++) {
        var kernels = i == 0 ? VECTOR : machine;
        KernelNumbers.fill(state, at -> before[at]);
        var out = unwritten(4, valueWidth);
        kernels.deltaStep(
            key.memory(),
            query.memory(),
            value,
            decay,
            rate,
            state.memory(),
            out,
            keyWidth,
            valueWidth);
        states[i] = bytes(state);
        outs[i] = bytes(out);
      }
      assertArrayEquals(outs[0], outs[1], "out, " + round);
      assertArrayEquals(states[0], states[1], "state, " + round);
    }
  }

  /// A product that rounds to −0 is not the sum, which begins with zero.
  @Test
  void aDotOfNothingIsNotNegative() {
    for (var kernels : List.of(VECTOR, machine)) {
      var key = KernelNumbers.fill(unwritten(0, 16), _ -> 1e-30f);
      var query = KernelNumbers.fill(unwritten(1, 16), _ -> -1e-30f);
      var value = KernelNumbers.fill(unwritten(2, 16), _ -> 1f);
      var state = KernelNumbers.fill(unwritten(3, 256), _ -> 1e-30f);
      var out = unwritten(4, 16);
      kernels.deltaStep(key.memory(), query.memory(), value, 1f, 1f, state.memory(), out, 16, 16);
      assertEquals(0, Float.floatToRawIntBits(out.get(0)));
    }
  }

  /// Channels of less than a vector to more than a call takes; ranges that begin anywhere.
  @ParameterizedTest
  @CsvSource({
    "1, 4",
    "15, 4",
    "16, 1",
    "17, 2",
    "48, 3",
    "100, 4",
    "300, 5",
    "1024, 4",
    "33, 64",
    "20, 65",
    "3000, 64",
    "40000, 4"
  })
  void stepsOfAConvolutionHaveTheSameBits(int channels, int width) {
    for (int round = 0; round < 6; round++) {
      var random = new SplittableRandom(53L * channels + 7L * width + round);
      var x = numbers(0, channels, random, round == 1);
      var weight = numbers(1, (long) channels * width, random, round == 2);
      var history = numbers(2, (long) channels * (width - 1), random, round == 3);
      float[] before = all(history);
      int from = round == 4 ? channels / 3 : 0;
      int to = round == 5 ? channels - channels / 4 : channels;
      byte[][] histories = new byte[2][];
      byte[][] outs = new byte[2][];
      for (int i = 0; i < 2; i++) {
        var kernels = i == 0 ? VECTOR : machine;
        KernelNumbers.fill(history, at -> before[at]);
        var out = unwritten(4, channels);
        kernels.convolutionStep(
            x.memory(), history.memory(), weight.memory(), out.memory(), channels, width, from, to);
        histories[i] = bytes(history);
        outs[i] = bytes(out);
      }
      assertArrayEquals(outs[0], outs[1], "out, " + round);
      assertArrayEquals(histories[0], histories[1], "history, " + round);
    }
  }

  /// Sequences shorter than a result is wide, and such that take several calls; blocks of channels
  /// and parts of them.
  @ParameterizedTest
  @CsvSource({
    "1, 1, 1, 4",
    "2, 1, 16, 1",
    "2, 2, 17, 4",
    "3, 3, 40, 4",
    "2, 9, 300, 4",
    "1, 5, 1000, 4",
    "1, 2, 256, 2",
    "2, 70, 30, 64",
    "1, 40, 70, 65",
    "1, 600, 260, 4",
    "2, 1100, 33, 1"
  })
  void convolutionsHaveTheSameBits(int batch, int tokens, int channels, int width) {
    var sizes = new Convolution(batch, tokens, channels, width);
    long count = (long) batch * tokens * channels;
    for (int round = 0; round < 6; round++) {
      var random = new SplittableRandom(59L * channels + 7L * width + round);
      var x = numbers(0, count, random, round == 1);
      var weight = numbers(1, (long) channels * width, random, round == 2);
      var history = numbers(2, (long) batch * channels * (width - 1), random, round == 3);
      int from = round == 4 ? channels / 3 : 0;
      int to = round == 5 ? channels - channels / 4 : channels;
      for (var before : new Floats[] {null, history}) {
        same(
            4,
            count,
            "out, " + round + (before == null ? " from nothing" : " after a history"),
            (kernels, out) -> kernels.causalConvolution(x, before, weight, out, sizes, from, to));
      }
    }
  }

  @Test
  void convolutionsOfDocumentsGoToTheOthers() {
    int[] starts = {0, 0, 2, 2, 2, 5};
    var sizes = new Convolution(1, starts.length, 32, 4, starts);
    var random = new SplittableRandom(61);
    var x = numbers(0, starts.length * 32L, random, false);
    var weight = numbers(1, 32 * 4, random, false);
    same(
        4,
        starts.length * 32L,
        "out",
        (kernels, out) -> kernels.causalConvolution(x, null, weight, out, sizes, 0, 32));
  }

  /// What the code does not take goes to the other kernels: memory on the heap, bfloat16 and odd
  /// widths.
  @Test
  void othersComputeTheRest() {
    float[] numbers = new float[3 * 17];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = i - 20;
    }
    try (var arena = Arena.ofConfined()) {
      var x = Floats.float32(MemorySegment.ofArray(numbers));
      for (boolean bfloat16 : new boolean[] {false, true}) {
        byte[][] expected = new byte[2][];
        for (int i = 0; i < 2; i++) {
          var out = poisoned(arena, 3 * 17, bfloat16);
          var kernels = i == 0 ? VECTOR : machine;
          kernels.rmsNorm(x, null, x, EPSILON, x, out, 17, 0, 3);
          expected[i] = bytes(out);
        }
        assertArrayEquals(expected[0], expected[1]);
      }
      for (var kernels : List.of(VECTOR, machine)) {
        var out = Floats.float32(MemorySegment.ofArray(new float[numbers.length]));
        kernels.swiGlu(x, x, out, 0, numbers.length);
        assertEquals(30f * 30, out.get(50), 1e-3);
        kernels.sigmoidGate(x, x, out, 1, 0, numbers.length);
        assertEquals(30f, out.get(50));
      }
    }
  }

  /// Odd widths, memory on the heap and bfloat16.
  @Test
  void othersComputeTheRestOfDeltaNet() {
    for (var kernels : List.of(VECTOR, machine)) {
      var ones = KernelNumbers.fill(Floats.float32(MemorySegment.ofArray(new float[272])), _ -> 1f);
      var out = Floats.float32(MemorySegment.ofArray(new float[17]));
      kernels.deltaStep(ones.memory(), ones.memory(), ones, 1, 1, ones.memory(), out, 16, 17);
      assertEquals(16f + 16 * (1 - 16), out.get(16));
      var x = KernelNumbers.fill(Floats.float32(MemorySegment.ofArray(new float[17 * 4])), _ -> 2f);
      kernels.convolutionStep(x.memory(), x.memory(), x.memory(), out.memory(), 17, 2, 0, 17);
      assertEquals(8f, out.get(16), 1e-2);
      try (var arena = Arena.ofConfined()) {
        var halves = KernelNumbers.fill(poisoned(arena, 64, true), _ -> 2f);
        var its = poisoned(arena, 16, true);
        var sizes = new Convolution(1, 1, 16, 2);
        kernels.causalConvolution(halves, halves, halves, its, sizes, 0, 16);
        assertEquals(8f, its.get(15), 0.1);
      }
    }
  }

  @Test
  void copiesAreOfTheRange() {
    try (var arena = Arena.ofConfined()) {
      var x = KernelNumbers.gaussian(arena, new SplittableRandom(1), 100, false);
      x.set(7, Float.intBitsToFloat(0x7F80_0001)); // a NaN that arithmetic would change
      var out = poisoned(arena, 100, false);
      machine.copy(x, out, 5, 90);
      assertRange(x, out, 5, 90, "copy");
      assertEquals(0x7F80_0001, out.memory().get(ValueLayout.JAVA_INT_UNALIGNED, 28));
      machine.copy(x, out, 100, 100);
      assertThrows(IndexOutOfBoundsException.class, () -> machine.copy(x, out, 5, 101));
    }
  }

  /// Few rows come by the definition, many by the others, and float32 as it is.
  @Test
  void fewAndManyStoredRowsAreTheSame() {
    var random = new SplittableRandom(13);
    int columns = 512;
    for (var format :
        List.of(
            WeightFormat.F32,
            WeightFormat.BF16,
            WeightFormat.F16,
            WeightFormat.Q8_0,
            WeightFormat.Q4_0)) {
      long rowBytes = format.bytes(columns);
      try (var arena = Arena.ofConfined()) {
        var data = arena.allocate(64 * rowBytes);
        float[] numbers = new float[columns];
        for (int r = 0; r < 64; r++) {
          for (int i = 0; i < columns; i++) {
            numbers[i] = (float) random.nextGaussian();
          }
          format.quantize(numbers, 0, columns, data, r * rowBytes);
        }
        var w = new StoredMatrix(format, data, 64, columns);
        for (int rows : new int[] {1, 32, 33, 64}) {
          var expected = poisoned(arena, (long) rows * columns, false);
          var actual = poisoned(arena, (long) rows * columns, false);
          SCALAR.dequantize(w, 64 - rows, 64, expected);
          machine.dequantize(w, 64 - rows, 64, actual);
          assertArrayEquals(bytes(expected), bytes(actual), format + ", " + rows);
        }
      }
    }
  }

  @Test
  void sizesAreChecked() {
    var x = unwritten(0, 64);
    var small = unwritten(1, 63);
    var writable = unwritten(4, 64);
    var read = Floats.float32(writable.memory().asReadOnly());
    var outside = IndexOutOfBoundsException.class;
    for (var out : List.of(small, read)) {
      var refusal = out == small ? outside : UnsupportedOperationException.class;
      assertThrows(refusal, () -> machine.rmsNorm(x, null, x, EPSILON, x, out, 64, 0, 1));
      assertThrows(refusal, () -> machine.rmsNorm(x, x, x, EPSILON, out, writable, 64, 0, 1));
      assertThrows(
          refusal, () -> machine.normRotate(x, x, EPSILON, Rotations.NONE, out, 1, 64, 0, 1));
      assertThrows(refusal, () -> machine.swiGlu(x, x, out, 0, 64));
      assertThrows(refusal, () -> machine.weightedSum(x, 1, x, 2, out, 0, 64));
      assertThrows(refusal, () -> machine.sigmoidGate(x, x, out, 1, 0, 64));
      assertThrows(refusal, () -> machine.sigmoidGate(x, x, out, 64, 0, 1));
    }
    assertThrows(outside, () -> machine.rmsNorm(small, null, x, EPSILON, x, writable, 64, 0, 1));
    assertThrows(outside, () -> machine.rmsNorm(x, small, x, EPSILON, x, writable, 64, 0, 1));
    assertThrows(outside, () -> machine.rmsNorm(x, null, small, EPSILON, x, writable, 64, 0, 1));
    var angles = new Rotations(unwritten(2, 31).memory(), unwritten(3, 32).memory(), 32, 1);
    assertThrows(outside, () -> machine.normRotate(x, x, EPSILON, angles, writable, 1, 64, 0, 1));
    assertThrows(outside, () -> machine.swiGlu(x, small, writable, 0, 64));
    assertThrows(outside, () -> machine.weightedSum(x, 1, small, 1, writable, 0, 64));
    assertThrows(outside, () -> machine.sigmoidGate(x, unwritten(2, 3), writable, 16, 0, 4));
  }

  @Test
  void sizesOfDeltaNetAreChecked() {
    var outside = IndexOutOfBoundsException.class;
    var sixteen = unwritten(0, 16);
    var fifteen = unwritten(1, 15);
    var square = unwritten(2, 16 * 16);
    var smaller = unwritten(3, 16 * 16 - 1);
    var out = unwritten(4, 16);
    var read = Floats.float32(out.memory().asReadOnly());
    record Step(Floats key, Floats query, Floats value, Floats state, Floats out) {
      void run() {
        machine.deltaStep(key.memory(), query.memory(), value, 1, 1, state.memory(), out, 16, 16);
      }
    }
    for (var refused :
        List.of(
            new Step(fifteen, sixteen, sixteen, square, out),
            new Step(sixteen, fifteen, sixteen, square, out),
            new Step(sixteen, sixteen, fifteen, square, out),
            new Step(sixteen, sixteen, sixteen, smaller, out),
            new Step(sixteen, sixteen, sixteen, square, fifteen))) {
      assertThrows(outside, refused::run);
    }
    var unwritable = UnsupportedOperationException.class;
    assertThrows(unwritable, new Step(sixteen, sixteen, sixteen, square, read)::run);
    var readState = Floats.float32(square.memory().asReadOnly());
    assertThrows(unwritable, new Step(sixteen, sixteen, sixteen, readState, out)::run);

    record Convolving(Floats x, Floats history, Floats weight, Floats out) {
      void one() {
        machine.convolutionStep(
            x.memory(), history.memory(), weight.memory(), out.memory(), 16, 4, 0, 16);
      }

      void all() {
        machine.causalConvolution(x, history, weight, out, new Convolution(1, 1, 16, 4), 0, 16);
      }
    }
    var history = square.from(16 * 13);
    var weight = square.from(16 * 12);
    var readHistory = Floats.float32(history.memory().asReadOnly());
    var late = square.from(16 * 13 + 1);
    for (var refused :
        List.of(
            new Convolving(fifteen, history, weight, out),
            new Convolving(sixteen, late, weight, out),
            new Convolving(sixteen, history, square.from(16 * 12 + 1), out),
            new Convolving(sixteen, history, weight, fifteen))) {
      assertThrows(outside, refused::one);
      assertThrows(outside, refused::all);
    }
    assertThrows(unwritable, new Convolving(sixteen, history, weight, read)::one);
    assertThrows(unwritable, new Convolving(sixteen, history, weight, read)::all);
    assertThrows(unwritable, new Convolving(sixteen, readHistory, weight, out)::one);
    new Convolving(sixteen, readHistory, weight, out).all();
  }

  /// A process that runs only these kernels does not load the Vector API, and one that needs
  /// another does.
  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void theVectorApiIsLoadedWhenItIsNeeded(boolean needed) throws IOException, InterruptedException {
    var java = Path.of(Objects.requireNonNull(System.getProperty("java.home")), "bin", "java");
    var child =
        new ProcessBuilder(
                java.toString(),
                "-XX:+UseSerialGC",
                "-Xlog:class+load",
                "--add-exports=java.base/jdk.internal.module=ALL-UNNAMED",
                "-XX:+UnlockExperimentalVMOptions",
                "-XX:+EnableVectorSupport",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Calls.class.getName(),
                Boolean.toString(needed))
            .redirectErrorStream(true)
            .start();
    String said = new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(child.waitFor(60, TimeUnit.SECONDS));
    assertEquals(0, child.exitValue(), said);
    assertTrue(said.contains("dev.sluice.kernel.MachineKernels "));
    assertEquals(needed, said.contains("jdk.incubator.vector."));
  }

  /// Calls each kernel that is here, and then one that is not, if that is wanted.
  static final class Calls {
    private Calls() {}

    public static void main(String[] arguments) {
      var kernels = Kernels.FASTEST;
      try (var arena = Arena.ofConfined()) {
        var x = Floats.float32(arena.allocate(64 * 4));
        var out = Floats.float32(arena.allocate(64 * 4));
        kernels.rmsNorm(x, x, x, EPSILON, out, out, 64, 0, 1);
        kernels.normRotate(x, x, EPSILON, Rotations.NONE, out, 1, 64, 0, 1);
        kernels.swiGlu(x, x, out, 0, 63);
        kernels.weightedSum(x, 1, x, 2, out, 0, 63);
        kernels.sigmoidGate(x, x, out, 1, 0, 63);
        kernels.sigmoidGate(x, x, out, 16, 0, 4);
        kernels.deltaStep(
            x.memory(), x.memory(), x, 1, 1, arena.allocate(32 * 32 * 4), out, 32, 32);
        kernels.convolutionStep(
            x.memory(), arena.allocate(128), x.memory(), out.memory(), 32, 2, 0, 32);
        kernels.causalConvolution(x, null, x, out, new Convolution(1, 4, 16, 4), 0, 16);
        kernels.copy(x, out, 0, 64);
        kernels.gatherRows(x, new HeadRows(0, 32, 2, 32, 1), out);
        kernels.spreadRows(x, out, new HeadRows(0, 32, 2, 32, 1));
        var stored = new StoredMatrix(WeightFormat.F32, x.memory(), 2, 32);
        kernels.dequantize(stored, 0, 2, out);
        if (Boolean.parseBoolean(arguments[0])) {
          kernels.scaleRows(out.memory(), x.memory(), 2, 32);
        }
      }
    }
  }
}
