package dev.sluice.tensor;

import dev.sluice.kernel.Floats;
import dev.sluice.kernel.Threads;
import java.lang.foreign.MemorySegment;
import java.util.LinkedHashMap;
import java.util.Map;

/// C ← A B or C ← C + A B for matrices in memory, float32 or bfloat16, summed in float32. oneDNN
/// does the work, on the calling thread alone; [#split] shares it among [Threads].
public final class MatrixProduct {
  /// Multiplications below which a second thread costs more than it saves.
  private static final double GRAIN = 1 << 20;

  /// Compiled products that a thread keeps.
  private static final int MOST_KEPT = 1024;

  private static final ThreadLocal<Map<Kind, OneDnn.Product>> COMPILED =
      ThreadLocal.withInitial(Kept::new);

  /// The most recently used.
  private static final class Kept extends LinkedHashMap<Kind, OneDnn.Product> {
    private static final long serialVersionUID = 1;

    Kept() {
      super(16, 0.75f, true);
    }

    @Override
    protected boolean removeEldestEntry(Map.Entry<Kind, OneDnn.Product> eldest) {
      if (size() <= MOST_KEPT) {
        return false;
      }
      eldest.getValue().close();
      return true;
    }
  }

  private MatrixProduct() {}

  /// How many compiled products this thread holds.
  static int kept() {
    return COMPILED.get().size();
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

    private MemorySegment address() {
      long bytes = elements.bfloat16() ? 2 : 4;
      long last = start + (rows - 1) * rowStride + (columns - 1) * columnStride;
      if (start < 0 || last >= elements.length()) {
        throw new IndexOutOfBoundsException("a matrix beyond its memory: " + this);
      }
      return MemorySegment.ofAddress(elements.memory().address() + start * bytes);
    }

    private long[] layout() {
      return new long[] {rows, columns, rowStride, columnStride};
    }
  }

  /// What compiled code depends on.
  private record Kind(
      long rows,
      long columns,
      long inner,
      long aRow,
      long aColumn,
      long bRow,
      long bColumn,
      long cRow,
      boolean bfloat16,
      boolean bfloat16Result,
      boolean add) {}

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
    var kind =
        new Kind(
            c.rows,
            c.columns,
            a.columns,
            a.rowStride,
            a.columnStride,
            b.rowStride,
            b.columnStride,
            c.rowStride,
            a.elements.bfloat16(),
            c.elements.bfloat16(),
            add);
    var event = new Operation.Product();
    event.begin();
    COMPILED
        .get()
        .computeIfAbsent(
            kind,
            _ ->
                new OneDnn.Product(
                    a.layout(),
                    b.layout(),
                    c.layout(),
                    a.elements.bfloat16(),
                    c.elements.bfloat16(),
                    add))
        .run(a.address(), b.address(), c.address());
    event.end();
    if (event.shouldCommit()) {
      event.multiplications = c.rows * c.columns * a.columns;
      event.commit();
    }
  }

  /// Multiplies with c's rows shared among the threads, or its columns if they are more than twice
  /// as many: each thread has to rearrange all of the matrix that is not shared.
  public static void split(Matrix a, Matrix b, Matrix c, boolean add) {
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
