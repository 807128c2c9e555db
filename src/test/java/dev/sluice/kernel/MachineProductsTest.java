package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.DoubleUnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

class MachineProductsTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final int MOST = MachineProducts.MOST_INPUTS;

  private static MachineProducts products;

  private static Edge weightEdge;
  private static Edge inputEdge;
  private static Edge arrangedEdge;
  private static Edge resultEdge;

  @BeforeAll
  static void prepare() {
    products = MachineProducts.here();
    assumeTrue(products != null, "needs AVX-512 with VNNI, and a system that runs code made here");
    weightEdge = new Edge();
    inputEdge = new Edge();
    arrangedEdge = new Edge();
    resultEdge = new Edge();
  }

  private static Stream<WeightFormat> formats() {
    return Arrays.stream(WeightFormat.values()).filter(InputLayout::isKnown);
  }

  private static int[] scalesOf(WeightFormat format) {
    return switch (format) {
      case Q8_0, Q4_0, Q5_0, IQ4_NL, IQ4_XS -> new int[] {0};
      case Q4_1, Q5_1, Q4_K, Q5_K -> new int[] {0, 2};
      case Q2_K -> new int[] {80, 82};
      case Q3_K -> new int[] {108};
      case TQ2_0 -> new int[] {64};
      case Q6_K -> new int[] {208};
      default -> new int[] {};
    };
  }

  /// Any bits, with scales and plain numbers of usual sizes.
  private static MemorySegment weights(WeightFormat format, long numbers, SplittableRandom random) {
    byte[] bytes = new byte[(int) format.bytes(numbers)];
    random.nextBytes(bytes);
    var memory = weightEdge.last(bytes.length).copyFrom(MemorySegment.ofArray(bytes));
    for (long at = 0; at < bytes.length; at += format.blockBytes()) {
      float number = (float) random.nextGaussian();
      switch (format) {
        case F32 -> memory.set(WeightBlocks.FLOAT, at, number);
        case F16 -> memory.set(WeightBlocks.SHORT, at, Float.floatToFloat16(number));
        case BF16 -> memory.set(WeightBlocks.SHORT, at, Floats.round(number));
        case MXFP4 -> memory.set(ValueLayout.JAVA_BYTE, at, (byte) random.nextInt(118, 124));
        case I4_32, I4_64, I4_128 -> {
          memory.set(WeightBlocks.FLOAT, at, number / 100);
          memory.set(ValueLayout.JAVA_BYTE, at + 4, (byte) random.nextInt(17));
        }
        case E4M3 -> {
          memory.set(WeightBlocks.FLOAT, at, number / 100);
          for (long i = at + 4; i < at + format.blockBytes(); i++) { // none of the two NaN
            byte bits = memory.get(ValueLayout.JAVA_BYTE, i);
            memory.set(ValueLayout.JAVA_BYTE, i, (bits & 0x7F) == 0x7F ? 0 : bits);
          }
        }
        default -> {
          for (int scale : scalesOf(format)) {
            short half = Float.floatToFloat16((float) random.nextGaussian() / 100);
            memory.set(WeightBlocks.SHORT, at + scale, half);
          }
        }
      }
    }
    return memory;
  }

  private static MemorySegment inputs(int count, SplittableRandom random, DoubleUnaryOperator of) {
    var x = inputEdge.last(4L * count);
    for (int i = 0; i < count; i++) {
      x.set(FLOAT, 4L * i, (float) of.applyAsDouble(random.nextGaussian()));
    }
    return x;
  }

  private static MachineProducts.Inputs arranged(
      WeightFormat format, MemorySegment x, int columns, int inputs) {
    var memory = arrangedEdge.last(MachineProducts.arrangedBytes(format, columns, inputs));
    return products.arrange(format, x, columns, columns, inputs, memory);
  }

  private static float[] multiply(
      WeightFormat format, MemorySegment weights, int rows, int columns, MemorySegment x, int n) {
    return multiply(format, 2, weights, rows, columns, x, n);
  }

  private static float[] multiply(
      WeightFormat format,
      int digits,
      MemorySegment weights,
      int rows,
      int columns,
      MemorySegment x,
      int n) {
    var y = resultEdge.last(4L * rows * n);
    var memory = arrangedEdge.last(MachineProducts.arrangedBytes(format, columns, n));
    var order = StoredMatrix.Order.ROWS;
    var arranged = products.arrange(format, order, digits, x, columns, columns, n, memory);
    products.multiply(format, weights, 0, format.bytes(columns), rows, arranged, y, rows);
    return y.toArray(FLOAT);
  }

  /// Whether a result is that of the definition, summed in double precision: of inputs that are
  /// rounded as [InputLayout] says, and, but for how much that may leave out, of those as they are.
  private static void assertDefined(
      StoredMatrix.Order order,
      int digits,
      WeightFormat format,
      MemorySegment weights,
      int columns,
      MemorySegment x,
      int row,
      int input,
      float actual) {
    var layout = InputLayout.of(format, order, digits);
    float[] w = new float[columns];
    format.dequantize(weights, row * format.bytes(columns), columns, w, 0);
    float[] exact = x.asSlice(4L * input * columns, 4L * columns).toArray(FLOAT);
    double sum = 0;
    double rounded = 0;
    double terms = 0;
    double allowed = 0;
    for (int c = 0; c < columns; c++) {
      int part = layout.vectors() == 0 ? 1 : 16 * layout.vectors();
      float largest = 0;
      for (int of = c / part * part; of < Math.min(columns, c / part * part + part); of++) {
        largest = Math.max(largest, Math.abs(exact[of]));
      }
      double a = exact[c];
      if (layout.vectors() > 0 && Float.isFinite(largest)) {
        float scale = Math.max(Float.MIN_NORMAL, largest * (1f / layout.largest()));
        a = scale * Math.rint(exact[c] * (1 / scale));
        allowed += Math.abs(w[c]) * (0.5001 / layout.largest() * largest + 0x1p-126);
      }
      sum += w[c] * (double) exact[c];
      rounded += w[c] * a;
      terms += Math.abs(w[c] * a);
    }
    double tolerance = 2e-6 * terms + Float.MIN_NORMAL;
    String what = "%s, %d columns, row %d, input %d".formatted(format, columns, row, input);
    if (Double.isNaN(sum)) {
      assertTrue(Float.isNaN(actual), what);
    } else {
      assertEquals(rounded, actual, tolerance, what);
      assertEquals(sum, actual, tolerance + allowed, what);
    }
  }

  private static void assertDefined(
      WeightFormat format,
      MemorySegment weights,
      int columns,
      MemorySegment x,
      int row,
      int input,
      float actual) {
    assertDefined(StoredMatrix.Order.ROWS, 2, format, weights, columns, x, row, input, actual);
  }

  @ParameterizedTest
  @MethodSource("formats")
  void productsAreThoseOfTheDefinition(WeightFormat format) {
    assertTrue(products.takes(format, StoredMatrix.Order.ROWS, 2));
    var random = new SplittableRandom(1);
    var order = StoredMatrix.Order.ROWS;
    for (int columns : new int[] {1, 31, 33, 63, 65, 32, 64, 96, 128, 160, 256, 768, 1056}) {
      for (int i = 0; i < 6 && columns % format.blockLength() == 0; i++) {
        int rows = 1 + i / 2;
        int digits = 1 + i % 2;
        var weights = weights(format, (long) rows * columns, random);
        var x = inputs(columns * MOST, random, number -> number);
        float[] all = multiply(format, digits, weights, rows, columns, x, MOST);
        for (int input = 0; input < MOST; input++) {
          for (int row = 0; row < rows; row++) {
            float y = all[input * rows + row];
            assertDefined(order, digits, format, weights, columns, x, row, input, y);
          }
        }
        for (int n = 1; n < MOST; n++) { // the same bits with fewer neighbours
          float[] some = multiply(format, digits, weights, rows, columns, x, n);
          assertEquals(-1, Arrays.mismatch(some, Arrays.copyOf(all, n * rows)), format + " " + n);
        }
      }
    }
  }

  /// Inputs of very different sizes side by side, and all too small to be normal numbers.
  @ParameterizedTest
  @MethodSource("formats")
  void inputsOfAPartShareAScale(WeightFormat format) {
    var random = new SplittableRandom(2);
    DoubleUnaryOperator[] sizes = {
      number -> number * Math.pow(10, random.nextInt(-6, 7)),
      number -> number * 1e-42,
      number -> number * 1e-37,
      number -> number * 1e34,
      _ -> 0,
      _ -> -Float.MAX_VALUE / 1e5
    };
    for (var size : sizes) {
      var weights = weights(format, 3 * 256, random);
      var x = inputs(256 * 2, random, size);
      for (int digits = 1; digits <= 2; digits++) {
        float[] y = multiply(format, digits, weights, 3, 256, x, 2);
        for (int i = 0; i < y.length; i++) {
          var order = StoredMatrix.Order.ROWS;
          assertDefined(order, digits, format, weights, 256, x, i % 3, i / 3, y[i]);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("formats")
  void rowsMayBeSharedInAnyWay(WeightFormat format) {
    var random = new SplittableRandom(3);
    int rows = 11;
    int columns = 768;
    long rowBytes = format.bytes(columns);
    var weights = weights(format, (long) rows * columns, random);
    var x = inputs(columns * 3, random, number -> number);
    float[] whole = multiply(format, weights, rows, columns, x, 3);
    var arranged = arranged(format, x, columns, 3);
    for (int cut = 1; cut < rows; cut++) {
      var y = resultEdge.last(4L * rows * 3);
      products.multiply(format, weights, 0, rowBytes, cut, arranged, y, rows);
      long at = cut * rowBytes;
      int rest = rows - cut;
      var later = y.asSlice(4L * cut);
      products.multiply(format, weights, at, rowBytes, rest, arranged, later, rows);
      assertEquals(-1, Arrays.mismatch(whole, y.toArray(FLOAT)), format + " cut at " + cut);
    }
  }

  /// More rows than a call takes, which stand apart, as their results do; nothing between is
  /// written.
  @Test
  void manyRowsStandApart() {
    var format = WeightFormat.Q8_0;
    var random = new SplittableRandom(4);
    int rows = 25_001;
    int columns = 32;
    int stride = 37; // bytes
    var weights = weights(format, (long) rows * columns, random);
    var x = inputs(columns * 2, random, number -> number);
    float[] expected = multiply(format, weights, rows, columns, x, 2);
    try (var arena = Arena.ofConfined()) {
      var apart = arena.allocate((long) (rows - 1) * stride + 34 + 5);
      for (long row = 0; row < rows; row++) {
        MemorySegment.copy(weights, row * 34, apart, 5 + row * stride, 34);
      }
      var y = resultEdge.last(4L * (2 * rows + 3));
      var arranged = arranged(format, x, columns, 2);
      products.multiply(format, apart, 5, stride, rows, arranged, y, rows + 3);
      float[] all = y.toArray(FLOAT);
      assertEquals(-1, Arrays.mismatch(Arrays.copyOf(expected, rows), Arrays.copyOf(all, rows)));
      assertEquals(-1, Arrays.mismatch(expected, rows, 2 * rows, all, rows + 3, 2 * rows + 3));
      for (int i = rows; i < rows + 3; i++) {
        assertEquals(-1, Float.floatToRawIntBits(all[i]));
      }
    }
  }

  private static StoredMatrix strips(StoredMatrix rows, Arena arena) {
    var packed = rows.packed(arena.allocate(rows.bytes(), 2)); // aligned to little
    assertEquals(StoredMatrix.Order.STRIPS, packed.order());
    return packed;
  }

  private static float[] multiplyStrips(
      StoredMatrix strips, MemorySegment x, int n, int cut, long yStride) {
    int columns = (int) strips.columns();
    int rows = (int) strips.rows();
    var memory = arrangedEdge.last(MachineProducts.arrangedBytes(strips.format(), columns, n));
    var arranged =
        products.arrange(
            strips.format(), strips.order(), strips.digits(), x, columns, columns, n, memory);
    var y = resultEdge.last(4 * ((n - 1) * yStride + rows));
    for (int from = 0; from < rows; from += cut) {
      int count = Math.min(cut, rows - from);
      products.multiplyStrips(strips, from, count, arranged, y.asSlice(4L * from), yStride);
    }
    return y.toArray(FLOAT);
  }

  /// The same products with weights in strips: those of the definition, with bits that depend on
  /// nothing but the row and the vector.
  @ParameterizedTest
  @EnumSource(
      value = WeightFormat.class,
      names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void stripsHaveTheProductsOfTheirRows(WeightFormat format) {
    assertTrue(products.takes(format, StoredMatrix.Order.STRIPS, 2));
    var random = new SplittableRandom(11);
    DoubleUnaryOperator[] sizes = {
      number -> number, number -> number * Math.pow(10, random.nextInt(-6, 7)), _ -> 1e-42
    };
    int group = InputLayout.of(format).columns();
    for (int columns : new int[] {group, 3 * group, 1024}) {
      for (var size : sizes) {
        int rows = 48;
        var weights = weights(format, (long) rows * columns, random);
        var x = inputs(columns * TileCode.MOST_INPUTS, random, size);
        try (var arena = Arena.ofConfined()) {
          var stored = strips(new StoredMatrix(format, weights, rows, columns), arena);
          for (int digits = 1; digits <= 2; digits++) {
            stripsHaveTheProductsOfTheirRows(stored.withDigits(digits), weights, x);
          }
        }
      }
    }
  }

  private static void stripsHaveTheProductsOfTheirRows(
      StoredMatrix strips, MemorySegment weights, MemorySegment x) {
    var format = strips.format();
    int rows = (int) strips.rows();
    int columns = (int) strips.columns();
    int most = products.atOnce(strips, TileCode.MOST_INPUTS);
    float[] all = multiplyStrips(strips, x, most, rows, rows);
    for (int i = 0; i < all.length; i++) {
      assertDefined(
          strips.order(), strips.digits(), format, weights, columns, x, i % rows, i / rows, all[i]);
    }
    for (int n = 1; n <= most; n++) {
      float[] expected = Arrays.copyOf(all, n * rows);
      for (int cut : new int[] {16, 32, rows}) { // strips alone, in twos, and both
        float[] some = multiplyStrips(strips, x, n, cut, rows);
        assertEquals(-1, Arrays.mismatch(some, expected), format + " " + n + " " + cut);
      }
    }
    float[] apart = multiplyStrips(strips, x, 2, 32, rows + 5);
    assertEquals(-1, Arrays.mismatch(apart, 0, rows, all, 0, rows));
    assertEquals(-1, Arrays.mismatch(apart, rows + 5, 2 * rows + 5, all, rows, 2 * rows));
    for (int i = rows; i < rows + 5; i++) {
      assertEquals(-1, Float.floatToRawIntBits(apart[i])); // not written
    }
  }

  /// A weight or an input that is no number shows in the rows and the vectors that have it.
  @ParameterizedTest
  @EnumSource(
      value = WeightFormat.class,
      names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void whatIsNoNumberShowsInStripsToo(WeightFormat format) {
    var random = new SplittableRandom(12);
    var weights = weights(format, 32 * 256, random);
    int before = format.blockLength() == 32 ? 96 : 0;
    int scale = format == WeightFormat.Q6_K ? 208 : 0;
    weights.set(WeightBlocks.SHORT, format.bytes(21 * 256 + before) + scale, (short) 0x7FC1);
    for (float wrong : new float[] {Float.NaN, Float.POSITIVE_INFINITY, 0}) {
      var x = inputs(256 * TileCode.MOST_INPUTS, random, number -> number);
      if (wrong != 0) {
        x.set(FLOAT, 4 * 300L, wrong);
      }
      try (var arena = Arena.ofConfined()) {
        var strips = strips(new StoredMatrix(format, weights, 32, 256), arena);
        for (int n : new int[] {2, products.atOnce(strips, TileCode.MOST_INPUTS)}) {
          float[] y = multiplyStrips(strips, x, n, 32, 32);
          for (int i = 0; i < y.length; i++) {
            boolean isFinite = i % 32 != 21 && (i / 32 != 1 || wrong == 0);
            assertEquals(isFinite, Float.isFinite(y[i]), "row " + i % 32 + " of input " + i / 32);
          }
        }
      }
    }
  }

  @Test
  void wrongStripsAreRefused() {
    var format = WeightFormat.Q8_0;
    try (var arena = Arena.ofConfined()) {
      var rows = new StoredMatrix(format, arena.allocate(format.bytes(32 * 256)), 32, 256);
      var strips = strips(rows, arena);
      var x = arena.allocate(4 * 256);
      var memory = arena.allocate(MachineProducts.arrangedBytes(format, 256, 1), 64);
      var y = arena.allocate(4 * 32);
      var byRow = products.arrange(format, x, 256, 256, 1, memory);
      var refused = IllegalArgumentException.class;
      assertThrows(refused, () -> products.multiplyStrips(strips, 0, 32, byRow, y, 32));
      var inStrips = products.arrange(format, strips.order(), 2, x, 256, 256, 1, memory);
      products.multiplyStrips(strips, 16, 16, inStrips, y, 32);
      assertThrows(refused, () -> products.multiplyStrips(rows, 0, 32, inStrips, y, 32));
      assertThrows(refused, () -> products.multiplyStrips(strips, 8, 16, inStrips, y, 32));
      assertThrows(refused, () -> products.multiplyStrips(strips, 0, 24, inStrips, y, 32));
      assertThrows(refused, () -> products.multiplyStrips(strips, 16, 32, inStrips, y, 32));
      assertThrows(refused, () -> products.multiplyStrips(strips, -16, 16, inStrips, y, 32));
      assertThrows(
          IndexOutOfBoundsException.class,
          () -> products.multiplyStrips(strips, 0, 32, inStrips, y.asSlice(4), 32));
      assertThrows(
          refused, () -> products.multiply(format, rows.data(), 0, 272, 32, inStrips, y, 32));
    }
  }

  @ParameterizedTest
  @MethodSource("formats")
  void weightsThatAreNoNumbersShow(WeightFormat format) {
    if (format == WeightFormat.MXFP4) {
      return; // has none
    }
    var random = new SplittableRandom(5);
    var weights = weights(format, 3 * 512, random);
    long at = format.bytes(512 + 256);
    if (format == WeightFormat.F32 || !format.isOfGguf()) {
      weights.set(WeightBlocks.FLOAT, at, Float.NaN);
    } else {
      int[] scales = scalesOf(format);
      int scale = scales.length == 0 ? 0 : scales[scales.length - 1];
      weights.set(WeightBlocks.SHORT, at + scale, (short) 0x7FC1); // NaN as half and as bfloat16
    }
    var x = inputs(512 * 3, random, number -> number);
    float[] y = multiply(format, weights, 3, 512, x, 3);
    for (int i = 0; i < y.length; i++) {
      assertEquals(i % 3 == 1, Float.isNaN(y[i]), format + ", row " + i % 3);
    }
  }

  @ParameterizedTest
  @MethodSource("formats")
  void scalesMayBeSubnormal(WeightFormat format) {
    var random = new SplittableRandom(6);
    var weights = weights(format, 2 * 256, random);
    for (long at = 0; at < weights.byteSize(); at += format.blockBytes()) {
      for (int scale : scalesOf(format)) {
        weights.set(WeightBlocks.SHORT, at + scale, (short) random.nextInt(1, 0x400));
      }
      if (format == WeightFormat.MXFP4) { // 2^-128 and 2^-127 are subnormal float32 numbers
        weights.set(ValueLayout.JAVA_BYTE, at, (byte) random.nextInt(3));
      }
      if (!format.isOfGguf()) {
        weights.set(WeightBlocks.FLOAT, at, Float.intBitsToFloat(random.nextInt(1, 1 << 23)));
      }
    }
    boolean areSmaller = format == WeightFormat.MXFP4 || !format.isOfGguf();
    double factor = areSmaller ? 1e25 : 1e-25;
    var x = inputs(256 * 2, random, number -> number * factor);
    float[] y = multiply(format, weights, 2, 256, x, 2);
    for (int i = 0; i < y.length; i++) {
      assertTrue(y[i] != 0);
      assertDefined(format, weights, 256, x, i % 2, i / 2, y[i]);
    }
  }

  /// All exponents but the three highest, whose largest numbers no float32 holds.
  @Test
  void everyExponentOfMxfp4() {
    var format = WeightFormat.MXFP4;
    var random = new SplittableRandom(7);
    var weights = weights(format, 256 * 32, random);
    for (int row = 0; row < 256; row++) {
      weights.set(ValueLayout.JAVA_BYTE, row * 17L, (byte) row);
    }
    for (double factor : new double[] {1e-3, 1e30}) {
      var x = inputs(32, random, number -> number * factor);
      float[] y = multiply(format, weights, 256, 32, x, 1);
      for (int row = 0; row < (factor < 1 ? 253 : 140); row++) {
        assertDefined(format, weights, 32, x, row, 0, y[row]);
      }
    }
  }

  /// A row for each number of E4M3, alone with its scale.
  @Test
  void everyNumberOfE4m3() {
    var format = WeightFormat.E4M3;
    var weights = weightEdge.last(format.bytes(256 * 64));
    for (int row = 0; row < 256; row++) {
      weights.asSlice(68L * row, 68).fill((byte) 0);
      weights.set(WeightBlocks.FLOAT, 68L * row, 0.3f);
      weights.set(ValueLayout.JAVA_BYTE, 68L * row + 4 + row % 64, (byte) row);
    }
    var x = inputs(64, new SplittableRandom(13), _ -> 1);
    float[] y = multiply(format, weights, 256, 64, x, 1);
    for (int row = 0; row < 256; row++) {
      assertEquals(Floats.ofE4m3((byte) row) * 0.3f + 0f, y[row], "number " + row);
    }
  }

  /// Zero points from 0 to 16 take a number to −16 and to 15, where no sum leaves the integers.
  @ParameterizedTest
  @EnumSource(
      value = WeightFormat.class,
      names = {"I4_32", "I4_64", "I4_128"})
  void theLargestNumbersOfFourBits(WeightFormat format) {
    var random = new SplittableRandom(14);
    var weights = weights(format, 2 * 256, random);
    for (int row = 0; row < 2; row++) {
      for (long at = 0; at < format.bytes(256); at += format.blockBytes()) {
        var block = weights.asSlice(row * format.bytes(256) + at, format.blockBytes());
        block.asSlice(5).fill((byte) (row == 0 ? 0 : 0xFF));
        block.set(ValueLayout.JAVA_BYTE, 4, (byte) (row == 0 ? 0 : 16));
        block.set(WeightBlocks.FLOAT, 0, 1);
      }
    }
    var x = inputs(256 * 2, random, number -> number < 0 ? -1 : 1);
    float[] y = multiply(format, weights, 2, 256, x, 2);
    for (int i = 0; i < y.length; i++) {
      assertDefined(format, weights, 256, x, i % 2, i / 2, y[i]);
    }
  }

  @ParameterizedTest
  @MethodSource("formats")
  void inputsThatAreNoNumbersShow(WeightFormat format) {
    var random = new SplittableRandom(8);
    var weights = weights(format, 5 * 256, random);
    var x = inputs(256 * 4, random, number -> number);
    float[] good = multiply(format, weights, 5, 256, x, 4);
    x = inputEdge.memory.asSlice(inputEdge.memory.byteSize() - x.byteSize());
    x.set(FLOAT, 4 * 17L, Float.NaN);
    x.set(FLOAT, 4 * (256 + 200L), Float.NEGATIVE_INFINITY);
    x.set(FLOAT, 4 * (512 + 255L), Float.POSITIVE_INFINITY);
    float[] y = multiply(format, weights, 5, 256, x, 4);
    for (int i = 0; i < 5; i++) {
      assertTrue(Float.isNaN(y[i]));
      assertFalse(Float.isFinite(y[5 + i]));
      assertFalse(Float.isFinite(y[10 + i]));
      assertEquals(good[15 + i], y[15 + i]);
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    var format = WeightFormat.Q4_0;
    var w = weightEdge.last(18 * 6);
    var x = inputEdge.last(4 * 64 * 2);
    var a = arrangedEdge.last(MachineProducts.arrangedBytes(format, 64, 2));
    var y = resultEdge.last(4 * 6);
    var two = products.arrange(format, x, 64, 64, 2, a);
    products.multiply(format, w, 0, 36, 3, two, y, 3);
    products.multiply(format, w, 0, 36, 0, two, y, 3);
    refused(IndexOutOfBoundsException.class, format, w, 1, 36, 3, two, y, 3);
    refused(IndexOutOfBoundsException.class, format, w, -1, 36, 3, two, y, 3);
    refused(IndexOutOfBoundsException.class, format, w, 0, 36, 4, two, y, 4);
    refused(IllegalArgumentException.class, format, w, 0, 35, 3, two, y, 3);
    refused(IllegalArgumentException.class, format, w, 0, 36, -1, two, y, 3);
    refused(IllegalArgumentException.class, format, w, 0, 36, 3, two, y, 2);
    refused(IndexOutOfBoundsException.class, format, w, 0, 36, 3, two, y, 4);
    refused(ArithmeticException.class, format, w, 0, 36, Long.MAX_VALUE, two, y, 3);
    var heap = MemorySegment.ofArray(new float[512]);
    refused(IllegalArgumentException.class, format, heap, 0, 36, 3, two, y, 3);
    refused(IllegalArgumentException.class, format, w, 0, 36, 3, two, heap, 3);
    refused(UnsupportedOperationException.class, format, w, 0, 36, 3, two, y.asReadOnly(), 3);
    // Inputs for other weights of as many bytes, and of any.
    refused(IllegalArgumentException.class, WeightFormat.IQ4_NL, w, 0, 36, 3, two, y, 3);
    refused(IllegalArgumentException.class, WeightFormat.BF16, w, 0, 128, 1, two, y, 3);
    refused(IllegalArgumentException.class, WeightFormat.TQ1_0, w, 0, 54, 1, two, y, 3);

    unarranged(IndexOutOfBoundsException.class, x, 65, 64, 2, a);
    unarranged(IndexOutOfBoundsException.class, x, 64, 64, 2, a.asSlice(1));
    unarranged(IndexOutOfBoundsException.class, x, 64, 64, 3, a);
    unarranged(IllegalArgumentException.class, x, 63, 64, 2, a);
    unarranged(IllegalArgumentException.class, x, 64, 48, 2, a);
    unarranged(IllegalArgumentException.class, x, 64, 0, 2, a);
    unarranged(IllegalArgumentException.class, x, 64, 64, 0, a);
    unarranged(IllegalArgumentException.class, x, 64, 64, 9, a);
    unarranged(IllegalArgumentException.class, heap, 64, 64, 2, a);
    unarranged(IllegalArgumentException.class, x, 64, 64, 2, MemorySegment.ofArray(new int[999]));
    unarranged(UnsupportedOperationException.class, x, 64, 64, 2, a.asReadOnly());
  }

  private static void refused(
      Class<? extends RuntimeException> as,
      WeightFormat format,
      MemorySegment weights,
      long offset,
      long rowBytes,
      long rows,
      MachineProducts.Inputs x,
      MemorySegment y,
      long yStride) {
    assertThrows(
        as, () -> products.multiply(format, weights, offset, rowBytes, rows, x, y, yStride));
  }

  private static void unarranged(
      Class<? extends RuntimeException> as,
      MemorySegment x,
      long stride,
      long columns,
      int inputs,
      MemorySegment memory) {
    assertThrows(as, () -> products.arrange(WeightFormat.Q4_0, x, stride, columns, inputs, memory));
  }

  /// Formats of the same layout share inputs: their products have the same bits.
  @Test
  void inputsFitFormatsOfTheSameLayout() {
    var random = new SplittableRandom(9);
    var x = inputs(256, random, number -> number);
    var inputs = arranged(WeightFormat.Q4_K, x, 256, 1);
    assertTrue(inputs.fit(WeightFormat.Q5_K));
    assertFalse(inputs.fit(WeightFormat.Q6_K));
    assertFalse(inputs.fit(WeightFormat.F32));
    assertFalse(inputs.fit(WeightFormat.TQ1_0));
    var weights = weights(WeightFormat.Q5_K, 256, random);
    var y = resultEdge.last(4);
    products.multiply(WeightFormat.Q5_K, weights, 0, 176, 1, inputs, y, 1);
    float shared = y.get(FLOAT, 0);
    assertEquals(multiply(WeightFormat.Q5_K, weights, 1, 256, x, 1)[0], shared);
  }

  @ParameterizedTest
  @EnumSource(WeightFormat.class)
  void formatsWithoutKernelsAreNamed(WeightFormat format) {
    assertEquals(
        formats().anyMatch(format::equals), products.takes(format, StoredMatrix.Order.ROWS, 2));
    if (!products.takes(format, StoredMatrix.Order.ROWS, 2)) {
      assertThrows(
          IllegalArgumentException.class, () -> MachineProducts.arrangedBytes(format, 256, 1));
    }
  }
}
