package dev.sluice.tensor;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Threads;
import java.lang.foreign.MemorySegment;

/// C ← A B or C ← C + A B for matrices in memory, float32 or bfloat16, summed in float32. oneDNN
/// does the work, on the calling thread alone; [#split] shares it among [Threads].
public final class MatrixProduct {
  /// Multiplications below which a second thread costs more than it saves.
  private static final double GRAIN = 1 << 20;

  private MatrixProduct() {}

  /// Whether the processor has units for bfloat16 matrices, which multiply several times as fast as
  /// float32 is multiplied.
  public static boolean hasBfloat16Units() {
    OneDnn.Library.functions(); // says what is missing, which a class that is initialised does not
    return OneDnn.HAS_MATRIX_UNITS;
  }

  /// A strided view of numbers in memory: element (i, j) stands at `start + i · rowStride + j ·
  /// columnStride`.
  public record Matrix(
      Floats elements, long start, long rows, long columns, long rowStride, long columnStride) {
    /// All elements, row by row.
    public static Matrix of(Floats elements, long rows, long columns) {
      return new Matrix(elements, 0, rows, columns, columns, 1);
    }

    /// All of a contiguous tensor on the CPU as rows of its last dimension.
    public static Matrix of(Tensor tensor) {
      long columns = tensor.size(-1);
      return of(tensor.numbers(), tensor.elements() / columns, columns);
    }

    /// The same elements with rows and columns exchanged.
    public Matrix transposed() {
      return new Matrix(elements, start, columns, rows, columnStride, rowStride);
    }

    /// Rows `from … to`.
    public Matrix rows(long from, long to) {
      return new Matrix(
          elements, start + from * rowStride, to - from, columns, rowStride, columnStride);
    }

    /// Columns `from … to`.
    public Matrix columns(long from, long to) {
      return new Matrix(
          elements, start + from * columnStride, rows, to - from, rowStride, columnStride);
    }

    /// A copy of bfloat16 rows, adjacent, in the thread's own memory.
    @SuppressWarnings("restricted")
    private Matrix broughtTogether() {
      var from = address().reinterpret(2 * ((rows - 1) * rowStride + columns));
      var copy = Scratch.numbers("rows of a product", rows * columns, true);
      for (long row = 0; row < rows; row++) {
        MemorySegment.copy(
            from, 2 * row * rowStride, copy.memory(), 2 * row * columns, 2 * columns);
      }
      return of(copy, rows, columns);
    }

    private MemorySegment address() {
      long bytes = elements.bfloat16() ? 2 : 4;
      long last = start + (rows - 1) * rowStride + (columns - 1) * columnStride;
      if (start < 0 || last >= elements.length()) {
        throw new IndexOutOfBoundsException("a matrix beyond its memory: " + this);
      }
      return MemorySegment.ofAddress(elements.memory().address() + start * bytes);
    }
  }

  /// Multiplies on the calling thread.
  ///
  /// @param a `[m, k]`
  /// @param b `[k, n]` of a's element type
  /// @param c `[m, n]` with adjacent columns
  /// @param add whether the product is added to c
  public static void multiply(Matrix a, Matrix b, Matrix c, boolean add) {
    if (a.columns != b.rows
        || a.rows != c.rows
        || b.columns != c.columns
        || a.elements.bfloat16() != b.elements.bfloat16()
        || c.columnStride != 1) {
      throw new IllegalArgumentException("no product of " + a + " and " + b + " into " + c);
    }
    // oneDNN's AMX code reads past the ends of bfloat16 rows that stand apart, and what it reads
    // there, were it NaN, would be in the result.
    boolean apart = a.elements.bfloat16() && a.columnStride == 1 && a.rowStride != a.columns;
    var rows = apart ? a.broughtTogether() : a;
    var kind =
        new CompiledProducts.Kind(
            c.rows,
            c.columns,
            a.columns,
            rows.rowStride,
            rows.columnStride,
            b.rowStride,
            b.columnStride,
            c.rowStride,
            a.elements.bfloat16(),
            c.elements.bfloat16(),
            add);
    if (!Operation.areRecorded()) {
      CompiledProducts.run(kind, rows.address(), b.address(), c.address());
      return;
    }
    var event = new Operation.Product();
    event.begin();
    CompiledProducts.run(kind, rows.address(), b.address(), c.address());
    event.end();
    if (event.shouldCommit()) {
      event.multiplications = c.rows * c.columns * a.columns;
      event.commit();
    }
  }

  /// Multiplies with c's rows shared among the threads, or its columns if they are more than twice
  /// as many: each thread has to rearrange all of the matrix that is not shared.
  public static void split(Matrix a, Matrix b, Matrix c, boolean add) {
    if (c.rows == 0) {
      return;
    }
    boolean byColumns = 2 * c.rows < c.columns;
    long shared = byColumns ? c.columns : c.rows;
    double perShare = (double) c.rows * c.columns * a.columns / shared;
    Threads.split(
        shared,
        (long) Math.max(1, GRAIN / perShare),
        (from, to) -> {
          if (byColumns) {
            multiply(a, b.columns(from, to), c.columns(from, to), add);
          } else {
            multiply(a.rows(from, to), b, c.rows(from, to), add);
          }
        });
  }
}
