package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.ALL;
import static dev.sluice.kernel.KernelNumbers.assertClose;
import static dev.sluice.kernel.KernelNumbers.assertPaddingUntouched;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.gaussian;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import java.util.function.ObjIntConsumer;
import org.junit.jupiter.api.Test;

/// Kernels that move, scale and sum rows. All but sums have one right answer to the last bit: one
/// rounded operation per element.
class RowKernelsTest {

  private static final int[] ELEMENTS = {1, 7, 16, 63, 65, 257, 1023, 1024, 1025, 5000};
  private static final int[] ROWS = {1, 7, 24, 65}; // also a token's first rows only
  private static final int[] WIDTHS = {1, 2, 7, 16, 63, 64, 65, 128};

  private static void everyPlace(Consumer<HeadRows> test) {
    for (int width : WIDTHS) {
      for (int group : new int[] {1, 3, 8}) {
        for (int rows : ROWS) {
          test.accept(new HeadRows(3, (long) group * width + 11, rows, width, group));
        }
      }
    }
  }

  /// Elements of a tensor that has these rows, and some before and after.
  private static long span(HeadRows rows) {
    return rows.at(rows.rows() - 1) + rows.width() + 9;
  }

  /// Where element j of row i stands by the words of [HeadRows].
  private static long at(HeadRows rows, int i, int j) {
    int token = i / rows.group();
    int head = i % rows.group();
    return rows.start() + token * rows.stride() + (long) head * rows.width() + j;
  }

  private static void assertBits(float expected, float actual, String what) {
    if (Float.floatToRawIntBits(expected) != Float.floatToRawIntBits(actual)) {
      assertEquals(expected, actual, what);
    }
  }

  private static float stored(float value, boolean bfloat16) {
    return bfloat16 ? Floats.widen(Floats.round(value)) : value;
  }

  private static String name(Kernels kernels, Object what) {
    return kernels.getClass().getSimpleName() + " " + what;
  }

  // ---------------------------------------------------------------- rows of heads

  @Test
  void gatheredRowsAreTheRows() {
    everyPlace(
        rows -> {
          for (boolean bfloat16 : new boolean[] {false, true}) {
            try (var arena = Arena.ofConfined()) {
              var x = gaussian(arena, new SplittableRandom(3), span(rows), bfloat16);
              x.set(at(rows, rows.rows() / 2, 0), Float.NaN);
              for (var kernels : ALL) {
                var out = poisoned(arena, (long) rows.rows() * rows.width(), bfloat16);
                kernels.gatherRows(x, rows, out);
                for (int i = 0; i < rows.rows(); i++) {
                  for (int j = 0; j < rows.width(); j++) {
                    float element = out.get((long) i * rows.width() + j);
                    assertBits(x.get(at(rows, i, j)), element, name(kernels, rows));
                  }
                }
                assertPaddingUntouched(out, name(kernels, rows));
                assertSpread(arena, kernels, out, rows);
              }
            }
          }
        });
  }

  /// Every row is where it was, and nothing else is written.
  private static void assertSpread(Arena arena, Kernels kernels, Floats gathered, HeadRows rows) {
    var out = poisoned(arena, span(rows), gathered.bfloat16());
    kernels.spreadRows(gathered, out, rows);
    var expected = poisoned(arena, span(rows), gathered.bfloat16());
    for (int i = 0; i < rows.rows(); i++) {
      for (int j = 0; j < rows.width(); j++) {
        expected.set(at(rows, i, j), gathered.get((long) i * rows.width() + j));
      }
    }
    assertArrayEquals(bytes(expected), bytes(out), name(kernels, rows));
    assertPaddingUntouched(out, name(kernels, rows));
  }

  @Test
  void scatteredRowsAreTheQuotientsAndNothingElseIsWritten() {
    everyPlace(
        rows -> {
          for (boolean bfloat16 : new boolean[] {false, true}) {
            for (boolean divided : new boolean[] {false, true}) {
              try (var arena = Arena.ofConfined()) {
                var random = new SplittableRandom(5);
                var x = gaussian(arena, random, (long) rows.rows() * rows.width(), false);
                x.set(x.length() / 2, Float.NaN);
                var divisors = gaussian(arena, random, rows.rows(), false);
                for (var kernels : ALL) {
                  var out = poisoned(arena, span(rows), bfloat16);
                  kernels.scatterRows(x.memory(), divided ? divisors.memory() : null, out, rows);
                  var expected = poisoned(arena, span(rows), bfloat16);
                  for (int i = 0; i < rows.rows(); i++) {
                    for (int j = 0; j < rows.width(); j++) {
                      float element = x.get((long) i * rows.width() + j);
                      expected.set(at(rows, i, j), divided ? element / divisors.get(i) : element);
                    }
                  }
                  assertArrayEquals(bytes(expected), bytes(out), name(kernels, rows));
                  assertPaddingUntouched(out, name(kernels, rows));
                }
              }
            }
          }
        });
  }

  /// Rows whose elements have scores of their own, and rows that share one.
  private static void everyGate(ObjIntConsumer<HeadRows> test) {
    everyPlace(
        rows -> {
          test.accept(rows, 1);
          test.accept(rows, rows.width());
        });
  }

  /// Logits that saturate the sigmoid, and one that is none.
  private static Floats logits(Arena arena, int rows, int scores, boolean bfloat16) {
    var z = gaussian(arena, new SplittableRandom(23), (long) rows * scores, bfloat16);
    float[] special = {0, 95, -95, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, Float.NaN};
    for (int k = 0; k < special.length && k < rows; k++) {
      z.set((k * 5 % rows + 1L) * scores - 1, special[k]);
    }
    return z;
  }

  private static double sigmoid(double z) {
    return 1 / (1 + Math.exp(-z));
  }

  /// Within 4 ulp, after rounding to the stored type; nothing else is written.
  @Test
  void scatteredRowsThroughTheGate() {
    everyGate(
        (rows, scores) -> {
          for (int types = 0; types < 4; types++) {
            boolean bfloat16 = types % 2 == 1;
            try (var arena = Arena.ofConfined()) {
              var random = new SplittableRandom(29);
              var x = gaussian(arena, random, (long) rows.rows() * rows.width(), false);
              var divisors = gaussian(arena, random, rows.rows(), false);
              var z = logits(arena, rows.rows(), scores, types / 2 == 1);
              for (var kernels : ALL) {
                var out = poisoned(arena, span(rows), bfloat16);
                kernels.scatterGatedRows(x.memory(), divisors.memory(), z, scores, out, rows);
                var others = poisoned(arena, span(rows), bfloat16);
                for (int i = 0; i < rows.rows(); i++) {
                  for (int j = 0; j < rows.width(); j++) {
                    double score = sigmoid(z.get((long) i * scores + j % scores));
                    double y = (double) x.get((long) i * rows.width() + j) / divisors.get(i);
                    float actual = out.get(at(rows, i, j));
                    assertClose(
                        score * y,
                        actual,
                        Math.abs(score * y),
                        bfloat16 ? 0x1p-8 : 0,
                        () -> name(kernels, rows));
                    others.set(at(rows, i, j), actual);
                  }
                }
                assertArrayEquals(bytes(others), bytes(out), name(kernels, rows));
                assertPaddingUntouched(out, name(kernels, rows));
              }
            }
          }
        });
  }

  /// Sums within 4 ulp of Σ|terms|.
  @Test
  void gradientOfGatedRows() {
    for (int width : WIDTHS) {
      for (int rows : ROWS) {
        for (int scores : new int[] {1, width}) {
          for (int types = 0; types < 4; types++) {
            for (var kernels : ALL) {
              assertGatedGradients(kernels, rows, width, scores, types % 2 == 1, types / 2 == 1);
            }
          }
        }
      }
    }
  }

  private static void assertGatedGradients(
      Kernels kernels, int rows, int width, int scores, boolean bfloat16, boolean logits16) {
    String what = name(kernels, rows + " × " + width + " by " + scores);
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(31);
      var dOut = gaussian(arena, random, (long) rows * width, bfloat16);
      var out = gaussian(arena, random, (long) rows * width, bfloat16);
      var z = logits(arena, rows, scores, logits16);
      var dy = fill(poisoned(arena, dOut.length(), bfloat16), dOut::get);
      var dz = fill(poisoned(arena, z.length(), logits16), z::get);
      var delta = poisoned(arena, rows, false);
      kernels.gatedRowsBackward(dy, out, dz, scores, delta.memory(), rows, width);
      for (int i = 0; i < rows; i++) {
        double sum = 0;
        double terms = 0;
        for (long j = (long) i * width; j < (i + 1L) * width; j++) {
          double logit = z.get(scores == 1 ? i : j);
          double product = (double) dOut.get(j) * out.get(j);
          sum += product;
          terms += Math.abs(product);
          double expected = dOut.get(j) * sigmoid(logit);
          double rounding = bfloat16 ? 0x1p-8 : 0;
          assertClose(expected, dy.get(j), Math.abs(expected), rounding, () -> "dy of " + what);
          if (scores > 1) {
            assertSlope(logit, product, Math.abs(product), dz, j, what);
          }
        }
        if (scores == 1) {
          assertSlope(z.get(i), sum, terms, dz, i, what);
        }
        assertClose(sum, delta.get(i), terms, 0, () -> "delta of " + what);
      }
      assertPaddingUntouched(dy, what);
      assertPaddingUntouched(dz, what);
      assertPaddingUntouched(delta, what);
    }
  }

  private static void assertSlope(
      double logit, double sum, double terms, Floats dz, long at, String what) {
    double complement = sigmoid(-logit);
    double rounding = dz.bfloat16() ? 0x1p-8 : 0;
    assertClose(sum * complement, dz.get(at), terms * complement, rounding, () -> "dz of " + what);
  }

  /// Within 4 ulp of Σ|terms|.
  @Test
  void dotProductsOfRows() {
    for (int width : WIDTHS) {
      for (int rows : ROWS) {
        for (int types = 0; types < 4; types++) {
          assertDotProducts(rows, width, types % 2 == 1, types / 2 == 1);
        }
      }
    }
  }

  private static void assertDotProducts(int rows, int width, boolean a16, boolean b16) {
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(7);
      var a = gaussian(arena, random, (long) rows * width, a16);
      var b = gaussian(arena, random, (long) rows * width, b16);
      int spoiled = rows / 2;
      a.set((spoiled + 1L) * width - 1, Float.NaN);
      for (var kernels : ALL) {
        String what = name(kernels, rows + " × " + width);
        var out = poisoned(arena, rows, false);
        kernels.dotRows(a, b, out.memory(), rows, width);
        for (int i = 0; i < rows; i++) {
          double sum = 0;
          double terms = 0;
          for (long j = (long) i * width; j < (i + 1L) * width; j++) {
            double product = (double) a.get(j) * b.get(j);
            sum += product;
            terms += Math.abs(product);
          }
          assertEquals(i == spoiled, Double.isNaN(sum));
          assertClose(sum, out.get(i), terms, 0, () -> what);
        }
        assertPaddingUntouched(out, what);
      }
    }
  }

  // ---------------------------------------------------------------- rows of matrices

  @Test
  void scaledRows() {
    for (int width : WIDTHS) {
      for (int rows : new int[] {1, 7, 65}) {
        try (var arena = Arena.ofConfined()) {
          for (var kernels : ALL) {
            var random = new SplittableRandom(11);
            var x = gaussian(arena, random, (long) rows * width, false);
            var factors = gaussian(arena, random, rows, false);
            factors.set(rows / 2, 0);
            x.set(rows / 2 * (long) width, Float.NaN); // not even zero hides it
            var before = fill(poisoned(arena, x.length(), false), x::get);
            kernels.scaleRows(x.memory(), factors.memory(), rows, width);
            String what = name(kernels, rows + " × " + width);
            for (int i = 0; i < x.length(); i++) {
              assertBits(before.get(i) * factors.get(i / width), x.get(i), what);
            }
            assertPaddingUntouched(x, what);
          }
        }
      }
    }
  }

  /// Rows with the same id are added one after the other, other columns and rows stay as they are.
  @Test
  void addedRows() {
    for (boolean bfloat16 : new boolean[] {false, true}) {
      for (int width : WIDTHS) {
        for (int count : new int[] {0, 1, 7, 65}) {
          for (int[] columns :
              new int[][] {{0, width}, {width / 3, width - width / 4}, {width / 2, width / 2}}) {
            assertRowsAdded(bfloat16, width, count, columns);
          }
        }
      }
    }
  }

  private static void assertRowsAdded(boolean bfloat16, int width, int count, int[] columns) {
    int entries = 9;
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(13);
      var rows = gaussian(arena, random, (long) count * width, bfloat16);
      if (count > 1) {
        rows.set(width + (width - 1) / 2, Float.NaN);
      }
      var ids = arena.allocate(8L * Math.max(1, count));
      for (int r = 0; r < count; r++) {
        long id = r % 3 == 0 ? entries - 1 : random.nextInt(entries);
        ids.setAtIndex(ValueLayout.JAVA_LONG, r, id);
      }
      var start = gaussian(arena, random, (long) entries * width, false);
      var expected = fill(poisoned(arena, start.length(), false), start::get);
      for (int r = 0; r < count; r++) {
        long id = ids.getAtIndex(ValueLayout.JAVA_LONG, r);
        for (int j = columns[0]; j < columns[1]; j++) {
          float sum = expected.get(id * width + j) + rows.get((long) r * width + j);
          expected.set(id * width + j, sum);
        }
      }
      for (var kernels : ALL) {
        var table = fill(poisoned(arena, start.length(), false), start::get);
        kernels.addRows(rows, ids, table.memory(), width, count, columns[0], columns[1]);
        String what = name(kernels, count + " rows of " + width);
        for (int i = 0; i < table.length(); i++) {
          assertBits(expected.get(i), table.get(i), what);
        }
        assertPaddingUntouched(table, what);
      }
    }
  }

  // ---------------------------------------------------------------- elements

  @Test
  void copiesAreRoundedOnce() {
    for (boolean from16 : new boolean[] {false, true}) {
      for (boolean to16 : new boolean[] {false, true}) {
        for (int elements : ELEMENTS) {
          try (var arena = Arena.ofConfined()) {
            var x = gaussian(arena, new SplittableRandom(17), elements, from16);
            x.set(elements / 2, Float.NaN);
            x.set(elements - 1, Float.NEGATIVE_INFINITY);
            for (var kernels : ALL) {
              int from = elements / 3;
              int to = elements - elements / 4;
              var out = poisoned(arena, elements, to16);
              kernels.copy(x, out, from, to);
              var expected = poisoned(arena, elements, to16);
              for (int i = from; i < to; i++) {
                expected.set(i, x.get(i));
              }
              assertArrayEquals(bytes(expected), bytes(out), name(kernels, elements));
              assertPaddingUntouched(out, name(kernels, elements));
              for (int i = from; i < to; i++) {
                assertBits(stored(x.get(i), to16), out.get(i), name(kernels, elements));
              }
            }
          }
        }
      }
    }
  }

  /// Two products and their sum, each rounded to float32 and the result once more to its own type;
  /// in place too.
  @Test
  void weightedSums() {
    float a = 0.95f;
    float b = -3.4445f;
    for (int types = 0; types < 8; types++) {
      for (int elements : ELEMENTS) {
        try (var arena = Arena.ofConfined()) {
          var x = gaussian(arena, new SplittableRandom(29), elements, (types & 1) > 0);
          var y = gaussian(arena, new SplittableRandom(31), elements, (types & 2) > 0);
          x.set(elements / 2, Float.NaN);
          y.set(elements - 1, Float.NEGATIVE_INFINITY);
          int from = elements / 3;
          int to = elements - elements / 4;
          var expected = poisoned(arena, elements, (types & 4) > 0);
          for (int i = from; i < to; i++) {
            expected.set(i, a * x.get(i) + b * y.get(i));
          }
          for (var kernels : ALL) {
            var out = poisoned(arena, elements, (types & 4) > 0);
            kernels.weightedSum(x, a, y, b, out, from, to);
            assertArrayEquals(bytes(expected), bytes(out), name(kernels, elements));
            assertPaddingUntouched(out, name(kernels, elements));
            if (x.bfloat16() == out.bfloat16()) {
              var same = poisoned(arena, elements, x.bfloat16());
              kernels.copy(x, same, from, to);
              kernels.weightedSum(same, a, y, b, same, from, to);
              assertArrayEquals(bytes(expected), bytes(same), name(kernels, elements));
            }
          }
        }
      }
    }
  }

  /// In double precision: 16 of its ulp; a float32 sum would be off by thousands of millions.
  @Test
  void sumOfSquares() {
    for (int elements : ELEMENTS) {
      var x = MemorySegment.ofArray(new float[elements]);
      var random = new SplittableRandom(19);
      for (int i = 0; i < elements; i++) {
        double value = random.nextGaussian() * Math.pow(10, random.nextInt(-30, 30));
        x.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) value);
      }
      for (int[] range : new int[][] {{0, elements}, {elements / 3, elements - elements / 4}}) {
        double sum = 0;
        for (int i = range[0]; i < range[1]; i++) {
          double value = x.getAtIndex(ValueLayout.JAVA_FLOAT, i);
          sum += value * value;
        }
        for (var kernels : ALL) {
          double actual = kernels.squareSum(x, range[0], range[1]);
          assertEquals(sum, actual, 16 * 0x1p-52 * sum, name(kernels, elements));
          assertEquals(actual, kernels.squareSum(x, range[0], range[1]));
        }
      }
      x.setAtIndex(ValueLayout.JAVA_FLOAT, elements / 2, Float.NaN);
      for (var kernels : ALL) {
        assertTrue(Double.isNaN(kernels.squareSum(x, 0, elements)));
        assertEquals(0, kernels.squareSum(x, elements / 2, elements / 2));
      }
    }
  }
}
