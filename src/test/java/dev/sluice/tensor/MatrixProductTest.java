package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.MatrixProduct.Matrix;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Products of matrices against float64 sums over the very numbers that they read: within 4 ulp of
/// Σ|terms|, and half a bfloat16 ulp where the result is stored so.
class MatrixProductTest {
  private static final int[][] SIZES = {
    {1, 1, 1}, {1, 7, 63}, {7, 63, 65}, {63, 130, 1}, {65, 1, 7}, {130, 65, 130}
  };

  private final SplittableRandom random = new SplittableRandom(29);
  private Scope scope;

  @BeforeEach
  void open() {
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  /// A matrix inside a larger one that is NaN around it, and the numbers of all of that.
  private record Stored(Matrix matrix, Tensor all) {
    double[] numbers() {
      return all.doubles();
    }

    int at(long i, long j) {
      return (int) (matrix.start() + i * matrix.rowStride() + j * matrix.columnStride());
    }

    Stored transposed() {
      return new Stored(matrix.transposed(), all);
    }
  }

  /// @param known whether the matrix has numbers or is NaN itself
  private Stored stored(ElementType type, int rows, int columns, boolean known) {
    return stored(type, rows, columns, 3, known);
  }

  /// @param gap elements between the rows
  private Stored stored(ElementType type, int rows, int columns, int gap, boolean known) {
    int stride = columns + gap;
    int start = 2 * stride + 1;
    float[] values = new float[(rows + 4) * stride];
    for (int i = 0; i < values.length; i++) {
      int row = i / stride - 2;
      int column = i % stride - 1;
      boolean inside = row >= 0 && row < rows && column >= 0 && column < columns;
      values[i] = known && inside ? (float) random.nextGaussian() : Float.NaN;
    }
    var all = Tensor.of(values, values.length).to(type);
    return new Stored(new Matrix(all.numbers(), start, rows, columns, stride, 1), all);
  }

  /// The same numbers apart.
  private static Stored copy(Stored stored) {
    var all = Tensor.zeros(stored.all.type(), stored.all.elements()).copyFrom(stored.all);
    var m = stored.matrix;
    return new Stored(
        new Matrix(
            all.numbers(), m.start(), m.rows(), m.columns(), m.rowStride(), m.columnStride()),
        all);
  }

  private static void assertProduct(Stored a, Stored b, Stored before, Stored c, boolean add) {
    double[] as = a.numbers();
    double[] bs = b.numbers();
    double[] old = before.numbers();
    double[] actual = c.numbers();
    double[] expected = old.clone();
    double[] terms = new double[old.length];
    for (int i = 0; i < c.matrix.rows(); i++) {
      for (int j = 0; j < c.matrix.columns(); j++) {
        double sum = add ? old[c.at(i, j)] : 0;
        double magnitudes = Math.abs(sum);
        for (int k = 0; k < a.matrix.columns(); k++) {
          sum += as[a.at(i, k)] * bs[b.at(k, j)];
          magnitudes += Math.abs(as[a.at(i, k)] * bs[b.at(k, j)]);
        }
        expected[c.at(i, j)] = sum;
        terms[c.at(i, j)] = magnitudes;
      }
    }
    double rounding = c.all.type() == ElementType.BFLOAT16 ? 0x1p-8 : 0;
    for (int i = 0; i < expected.length; i++) {
      if (Double.isNaN(expected[i])) { // nothing may be written there
        assertTrue(Double.isNaN(actual[i]), c.matrix + " is not all that was written");
        continue;
      }
      double tolerance = 4 * 0x1p-23 * terms[i] + rounding * Math.abs(expected[i]) + 1e-37;
      assertEquals(expected[i], actual[i], tolerance, a.matrix + " by " + b.matrix + " at " + i);
    }
  }

  @ParameterizedTest
  @CsvSource({"FLOAT32,FLOAT32", "BFLOAT16,FLOAT32", "BFLOAT16,BFLOAT16", "FLOAT32,BFLOAT16"})
  void everyLayout(ElementType type, ElementType resultType) {
    for (int[] size : SIZES) {
      for (int layout = 0; layout < 4; layout++) {
        for (boolean add : new boolean[] {false, true}) {
          int m = size[0];
          int k = size[1];
          int n = size[2];
          var a =
              layout % 2 == 0 ? stored(type, m, k, true) : stored(type, k, m, true).transposed();
          var b =
              layout / 2 == 0 ? stored(type, k, n, true) : stored(type, n, k, true).transposed();
          var c = stored(resultType, m, n, add);
          var before = copy(c);
          MatrixProduct.multiply(a.matrix, b.matrix, c.matrix, add);
          assertProduct(a, b, before, c, add);
          var shared = copy(before);
          MatrixProduct.split(a.matrix, b.matrix, shared.matrix, add);
          assertProduct(a, b, before, shared, add);
        }
      }
    }
  }

  /// Code is compiled for strides; products of the same sizes do not take one another's.
  @Test
  void sameSizesWithOtherStrides() {
    var type = ElementType.FLOAT32;
    for (int layout = 0; layout < 4; layout++) {
      for (int gaps = 0; gaps < 8; gaps++) {
        int gapA = 2 + (gaps & 1);
        int gapB = 2 + (gaps >> 1 & 1);
        var a =
            layout % 2 == 0
                ? stored(type, 7, 7, gapA, true)
                : stored(type, 7, 7, gapA, true).transposed();
        var b =
            layout / 2 == 0
                ? stored(type, 7, 7, gapB, true)
                : stored(type, 7, 7, gapB, true).transposed();
        var c = stored(type, 7, 7, 2 + (gaps >> 2), false);
        var before = copy(c);
        MatrixProduct.multiply(a.matrix, b.matrix, c.matrix, false);
        assertProduct(a, b, before, c, false);
      }
    }
  }

  @Test
  void viewsStandWhereTheirNamesSay() {
    var tensor = Tensor.of(new float[35], 7, 5);
    var numbers = tensor.numbers();
    var all = Matrix.of(numbers, 7, 5);
    assertEquals(new Matrix(numbers, 0, 7, 5, 5, 1), all);
    assertEquals(new Matrix(numbers, 10, 3, 5, 5, 1), all.rows(2, 5));
    assertEquals(new Matrix(numbers, 2, 7, 2, 5, 1), all.columns(2, 4));
    assertEquals(new Matrix(numbers, 0, 5, 7, 1, 5), all.transposed());
    assertEquals(new Matrix(numbers, 12, 2, 3, 1, 5), all.rows(2, 5).columns(2, 4).transposed());
    assertEquals(new Matrix(numbers, 12, 2, 3, 1, 5), all.transposed().rows(2, 4).columns(2, 5));
    var deep = Matrix.of(Tensor.of(new float[42], 2, 3, 7));
    assertEquals(6, deep.rows());
    assertEquals(7, deep.columns());
  }

  /// Parts of a larger matrix by rows and by columns.
  @Test
  void partsOfMatrices() {
    var a = stored(ElementType.FLOAT32, 65, 63, true);
    var b = stored(ElementType.FLOAT32, 63, 130, true);
    var c = stored(ElementType.FLOAT32, 65, 130, false);
    var part = new Stored(c.matrix.rows(7, 40).columns(63, 128), c.all);
    var rows = new Stored(a.matrix.rows(7, 40), a.all);
    var columns = new Stored(b.matrix.columns(63, 128), b.all);
    var before = copy(part);
    MatrixProduct.multiply(rows.matrix, columns.matrix, part.matrix, false);
    assertProduct(rows, columns, before, part, false);
    var inner = new Stored(a.matrix.columns(5, 12), a.all);
    var across = new Stored(b.matrix.rows(5, 12).columns(0, 65), b.all);
    var sum = stored(ElementType.FLOAT32, 65, 65, true);
    var old = copy(sum);
    MatrixProduct.multiply(inner.matrix, across.matrix, sum.matrix, true);
    assertProduct(inner, across, old, sum, true);
  }

  /// One thread's split is one product; with more threads the same bits come out each time. 63 rows
  /// are fewer than half of the columns, which are shared then.
  @ParameterizedTest
  @CsvSource({"130,false", "130,true", "63,false", "63,true"})
  void splitIsTheSameEachTime(int rows, boolean add) {
    boolean byColumns = rows == 63;
    var a = stored(ElementType.BFLOAT16, rows, 257, true);
    var b = stored(ElementType.BFLOAT16, 257, 130, true);
    var c = stored(ElementType.FLOAT32, rows, 130, true);
    for (int threads = 1; threads <= 3; threads++) {
      Threads.count(threads);
      var once = copy(c);
      MatrixProduct.split(a.matrix, b.matrix, once.matrix, add);
      assertProduct(a, b, c, once, add);
      var pieces = copy(c);
      int shares = Math.min(threads, rows * 257 * 130 >> 20); // 2²⁰ multiplications each at least
      for (int i = 0; i < shares; i++) {
        long from = 130L * i / shares;
        long to = 130L * (i + 1) / shares;
        MatrixProduct.multiply(
            byColumns ? a.matrix : a.matrix.rows(from, to),
            byColumns ? b.matrix.columns(from, to) : b.matrix,
            byColumns ? pieces.matrix.columns(from, to) : pieces.matrix.rows(from, to),
            add);
      }
      assertArrayEquals(pieces.numbers(), once.numbers());
      var again = copy(c);
      MatrixProduct.split(a.matrix, b.matrix, again.matrix, add);
      assertArrayEquals(once.numbers(), again.numbers());
    }
  }

  /// What is compiled is the shares, and not the whole.
  @ParameterizedTest
  @CsvSource({"65,false", "64,true"})
  void rowsAreSharedOrManyMoreColumns(int rows, boolean byColumns) {
    Threads.count(2);
    int inner = 259; // as in no other test
    var a = stored(ElementType.FLOAT32, rows, inner, true).matrix;
    var b = stored(ElementType.FLOAT32, inner, 130, true).matrix;
    var c = stored(ElementType.FLOAT32, rows, 130, false).matrix;
    MatrixProduct.split(a, b, c, false);
    var kept = CompiledProducts.kept();
    for (long share : byColumns ? new long[] {65} : new long[] {32, 33}) {
      assertTrue(kept.contains(byColumns ? kind(a, b, c, rows, share) : kind(a, b, c, share, 130)));
    }
    assertFalse(kept.contains(kind(a, b, c, rows, 130)));
  }

  private static CompiledProducts.Kind kind(Matrix a, Matrix b, Matrix c, long rows, long columns) {
    return new CompiledProducts.Kind(
        rows,
        columns,
        a.columns(),
        a.rowStride(),
        a.columnStride(),
        b.rowStride(),
        b.columnStride(),
        c.rowStride(),
        false,
        false,
        false);
  }

  @Test
  void whatDoesNotFitIsRefused() {
    var a = stored(ElementType.FLOAT32, 7, 5, true).matrix;
    var b = stored(ElementType.FLOAT32, 5, 3, true).matrix;
    var c = stored(ElementType.FLOAT32, 7, 3, true).matrix;
    assertRefused(b, a, c);
    assertRefused(a, a, c);
    assertRefused(a, b, a);
    assertRefused(a, b, c.rows(0, 6));
    assertRefused(a, b.columns(0, 2), c);
    assertRefused(a, b, stored(ElementType.FLOAT32, 3, 7, true).matrix.transposed());
    assertRefused(a, stored(ElementType.BFLOAT16, 5, 3, true).matrix, c);
    var small = Tensor.of(new float[35], 35).numbers();
    var beyond = new Matrix(small, 1, 7, 5, 5, 1);
    assertTrue(
        assertThrows(
                IndexOutOfBoundsException.class, () -> MatrixProduct.multiply(beyond, b, c, false))
            .getMessage()
            .contains("beyond its memory"));
    var before = new Matrix(small, -1, 7, 5, 5, 1);
    assertThrows(
        IndexOutOfBoundsException.class, () -> MatrixProduct.multiply(before, b, c, false));
    var narrow = new Matrix(small, 0, 7, 3, 6, 1);
    assertThrows(
        IndexOutOfBoundsException.class, () -> MatrixProduct.multiply(a, b, narrow, false));
    var rows = Matrix.of(small, 7, 5);
    assertThrows(
        IndexOutOfBoundsException.class,
        () -> MatrixProduct.multiply(rows.rows(1, 8), b, c, false));
  }

  private static void assertRefused(Matrix a, Matrix b, Matrix c) {
    var failure =
        assertThrows(IllegalArgumentException.class, () -> MatrixProduct.multiply(a, b, c, false));
    assertTrue(String.valueOf(failure.getMessage()).startsWith("no product of"));
  }

  /// Only so many compiled products are kept, of whatever threads; those that were let go are
  /// freed, and compiled again when they are wanted.
  @Test
  void moreShapesThanAreKept() throws Exception {
    int shapes = 1100;
    var a = stored(ElementType.FLOAT32, shapes, 3, true);
    var b = stored(ElementType.FLOAT32, 3, 5, true);
    var before = stored(ElementType.FLOAT32, shapes, 5, false);
    for (int round = 0; round < 2; round++) {
      int offset = round * shapes / 2;
      List<Callable<Void>> callers = new ArrayList<>();
      for (int caller = 0; caller < 3; caller++) {
        int first = caller * 100;
        callers.add(
            () -> {
              for (int i = 0; i < shapes; i++) {
                check(a, b, before, 1 + (i + first + offset) % shapes);
              }
              return null;
            });
      }
      try (var threads = Executors.newFixedThreadPool(callers.size())) {
        for (var done : threads.invokeAll(callers)) {
          done.get();
        }
      }
      assertEquals(1024, CompiledProducts.kept().size());
      assertEquals(1024, OneDnn.Product.open());
    }
  }

  private static void check(Stored a, Stored b, Stored before, int rows) {
    try (var _ = Scope.open()) {
      var c = copy(before);
      MatrixProduct.multiply(a.matrix.rows(0, rows), b.matrix, c.matrix.rows(0, rows), false);
      if (rows % 100 == 1) {
        var part = new Stored(a.matrix.rows(0, rows), a.all);
        assertProduct(part, b, before, new Stored(c.matrix.rows(0, rows), c.all), false);
      }
    }
  }

  /// One kind, many threads at once, more often than there are calls to borrow.
  @Test
  void manyThreadsRunOneKind() throws Exception {
    for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
      var a = stored(type, 33, 130, true);
      var b = stored(type, 70, 130, true).transposed();
      var empty = stored(ElementType.FLOAT32, 33, 70, false);
      var expected = copy(empty);
      MatrixProduct.multiply(a.matrix, b.matrix, expected.matrix, false);
      double[] numbers = expected.numbers();
      List<Callable<double[]>> callers = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        callers.add(
            () -> {
              try (var _ = Scope.open()) {
                var c = copy(empty);
                MatrixProduct.multiply(a.matrix, b.matrix, c.matrix, false);
                return c.numbers();
              }
            });
      }
      try (var threads = Executors.newFixedThreadPool(5)) {
        for (var done : threads.invokeAll(callers)) {
          assertArrayEquals(numbers, done.get());
        }
      }
    }
  }
}
