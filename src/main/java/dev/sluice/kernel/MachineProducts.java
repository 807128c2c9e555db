package dev.sluice.kernel;

import dev.sluice.kernel.StoredMatrix.Order;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/// Products of stored weights with a few vectors, as fast as memory is read: `y[i, r] = Σ_c W[r, c]
/// · x[i, c]`. The kernels are machine code, for what the Vector API cannot say: to ask for memory
/// ahead of its use, and to multiply bytes. [ProductCode] writes it, for weights in strips
/// [PackedCode], and for many vectors on a processor with tiles [TileCode]. See
/// `docs/decisions/0021-decoding-in-machine-code.md`.
///
/// The numbers x are rounded to 16 bits, or to 8, where weights are whole numbers in blocks, and
/// stay float32 where they are not; see [InputLayout]. Sums are float32. The bits of `y[i, r]`
/// depend on the row, on `x[i]` and on nothing else: not on the other vectors, and not on which
/// rows are asked for together. A weight or an input that is NaN gives NaN; one that is infinite
/// gives a number that is not finite.
///
/// Vectors are arranged once, then shared by as many products and threads as like them:
///
/// ```java
/// var inputs = products.arrange(format, x, columns, columns, 2, memory);
/// products.multiply(format, weights, 0, rowBytes, rows, inputs, y, rows);
/// ```
///
/// All memory is outside the heap, and no alignment is needed; arranged vectors are read fastest at
/// a multiple of 64 bytes. Nothing outside of what is checked here is read or written.
public final class MachineProducts {
  /// So many vectors at once, at most, but for what [#atOnce] says.
  static final int MOST_INPUTS = 8;

  /// How far ahead of their use weights are asked for, in bytes: from a cache, where they are
  /// because they were asked for earlier.
  private static final int AHEAD = 2048;

  /// Two rows are read side by side. Where they are no longer than this, the next two are asked for
  /// meanwhile; a longer one has its own [#AHEAD].
  private static final int PAIR_AHEAD = 1 << 14;

  /// So many vectors are worth two strips at once: the weights of both are decoded one after the
  /// other, during which nothing is multiplied.
  private static final int PAIRED_STRIPS = 4;

  /// Vectors from which tiles are faster, for weights that go into them as they stand and for
  /// others.
  private static final int TILED_AS_THEY_STAND = 6;

  private static final int TILED = 9;

  /// Weights of a call, in bytes, for one vector: a tenth of a millisecond, since nobody can stop a
  /// thread in it.
  private static final long CALL = 1 << 20;

  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;

  /// Of rows and of strips, which leave the last three out: Java makes classes for each form of
  /// call, which a start waits for.
  private static final MethodHandle PRODUCT =
      MachineCode.shortCall(
          FunctionDescriptor.ofVoid(POINTER, POINTER, POINTER, LONG, LONG, LONG, LONG, LONG, LONG));

  private static final MethodHandle ARRANGEMENT =
      MachineCode.shortCall(FunctionDescriptor.ofVoid(POINTER, POINTER, LONG, LONG, LONG));

  private static final @Nullable MachineProducts HERE =
      MachineCode.hasVectors512() ? new MachineProducts() : null;

  /// Vectors in the order in which weights are multiplied with them.
  public static final class Inputs {
    private final InputLayout layout;
    private final MemorySegment arrangement; // the function
    private final long columns;
    private final int count;
    private final MemorySegment memory;

    private Inputs(
        InputLayout layout,
        MemorySegment arrangement,
        long columns,
        int count,
        MemorySegment memory) {
      this.layout = layout;
      this.arrangement = arrangement;
      this.columns = columns;
      this.count = count;
      this.memory = memory;
    }

    /// Whether they are in the order for weights of this format row by row, which some formats
    /// share.
    public boolean fit(WeightFormat format) {
      return InputLayout.isKnown(format)
          && layout.equals(InputLayout.of(format, Order.ROWS, layout.digits()));
    }
  }

  /// The functions of a format and an order.
  ///
  /// @param single for one row or strip, by the number of vectors less one
  /// @param pairs for an even number of rows or strips
  private record Functions(
      MemorySegment arrangement, MemorySegment[] single, MemorySegment[] pairs) {}

  /// @param digits of an input
  private record Kind(WeightFormat format, Order order, int digits) {}

  /// Empty where the system refused.
  private final Map<Kind, Optional<Functions>> functions = new ConcurrentHashMap<>();

  /// Whether the processor has tiles, on which weights in strips are multiplied with many vectors.
  private final boolean hasTiles = MachineCode.hasTiles();

  /// Those on tiles, from the fewest vectors on. Empty where the system refused.
  private final Map<Kind, Optional<List<MemorySegment>>> tiles = new ConcurrentHashMap<>();

  private MachineProducts() {}

  /// The products, or null where the processor has no AVX-512 with dot products of bytes, or the
  /// system does not let code run that was made here.
  public static @Nullable MachineProducts here() {
    return HERE;
  }

  /// Whether this matrix is multiplied as it stands. The first time for matrices of its kind takes
  /// milliseconds.
  public boolean takes(StoredMatrix matrix) {
    return takes(matrix.format(), matrix.order(), matrix.digits());
  }

  /// Whether weights of this format are multiplied in this order.
  boolean takes(WeightFormat format, Order order, int digits) {
    return InputLayout.isKnown(format) && functions(new Kind(format, order, digits)) != null;
  }

  /// Whether what weights of this format are multiplied with becomes whole numbers, of one byte or
  /// two.
  public static boolean roundsInputs(WeightFormat format) {
    return InputLayout.isKnown(format) && InputLayout.of(format).vectors() > 0;
  }

  private @Nullable Functions functions(Kind kind) {
    var found = functions.get(kind); // without a lock: threads ask for each piece of a product
    return (found == null ? functions.computeIfAbsent(kind, MachineProducts::install) : found)
        .orElse(null);
  }

  /// Vectors from which tiles are faster than [PackedCode].
  private static int tiledFrom(WeightFormat format) {
    return TileCode.takesAsTheyStand(format) ? TILED_AS_THEY_STAND : TILED;
  }

  /// The function for so many vectors, or null where there is none or another is faster.
  private @Nullable MemorySegment tiled(Kind kind, int inputs) {
    int first = tiledFrom(kind.format);
    if (!hasTiles || kind.order != Order.STRIPS || inputs < first) {
      return null;
    }
    var found = tiles.get(kind);
    return (found == null ? tiles.computeIfAbsent(kind, MachineProducts::installTiles) : found)
        .map(functions -> functions.get(inputs - first))
        .orElse(null);
  }

  private static Optional<List<MemorySegment>> installTiles(Kind kind) {
    var codes = new ArrayList<byte[]>();
    for (int inputs = tiledFrom(kind.format); inputs <= TileCode.MOST_INPUTS; inputs++) {
      codes.add(TileCode.product(kind.format, kind.digits, inputs));
    }
    return Optional.ofNullable(MachineCode.install(codes));
  }

  /// Of so many vectors, how many at most are multiplied at once with a matrix that is taken.
  public int atOnce(StoredMatrix matrix, int inputs) {
    return Math.min(inputs, most(matrix.format(), matrix.order(), matrix.digits(), inputs));
  }

  private int most(WeightFormat format, Order order, int digits, int inputs) {
    var kind = new Kind(format, order, digits);
    return inputs <= MOST_INPUTS || tiled(kind, TileCode.MOST_INPUTS) == null
        ? MOST_INPUTS
        : TileCode.MOST_INPUTS;
  }

  private static Optional<Functions> install(Kind kind) {
    boolean strips = kind.order == Order.STRIPS;
    var codes = new ArrayList<byte[]>();
    codes.add(ProductCode.arrangement(kind.format, kind.order, kind.digits));
    for (int rows = 1; rows <= 2; rows++) { // or strips
      for (int inputs = 1; inputs <= MOST_INPUTS; inputs++) {
        codes.add(
            strips
                ? PackedCode.product(kind.format, kind.digits, inputs, rows)
                : ProductCode.product(kind.format, kind.digits, inputs, rows));
      }
    }
    var placed = MachineCode.install(codes);
    if (placed == null) {
      return Optional.empty();
    }
    var products = placed.subList(1, placed.size()).toArray(MemorySegment[]::new);
    return Optional.of(
        new Functions(
            placed.getFirst(),
            Arrays.copyOf(products, MOST_INPUTS),
            Arrays.copyOfRange(products, MOST_INPUTS, products.length)));
  }

  private Functions required(WeightFormat format, Order order, int digits, long columns) {
    if (columns < 1 || columns % format.blockLength() != 0) {
      throw new IllegalArgumentException(
          "%d columns are no whole blocks of %d of %s"
              .formatted(columns, format.blockLength(), format));
    }
    var found = InputLayout.isKnown(format) ? functions(new Kind(format, order, digits)) : null;
    if (found == null) {
      throw new IllegalArgumentException("no products of %s in %s".formatted(format, order));
    }
    return found;
  }

  /// The bytes that arranged vectors take at most.
  public static long arrangedBytes(WeightFormat format, long columns, int inputs) {
    var layout = InputLayout.of(format);
    long groups = Math.ceilDiv(columns, (long) layout.columns());
    return Math.multiplyExact(groups, (long) layout.bytes() * inputs);
  }

  /// Whether vectors are arranged in one way for both matrices.
  public static boolean arrangedAlike(StoredMatrix one, StoredMatrix other) {
    return InputLayout.of(one.format(), one.order(), one.digits())
        .equals(InputLayout.of(other.format(), other.order(), other.digits()));
  }

  /// Brings vectors into the order in which weights of a format are multiplied.
  ///
  /// @param x float32: vector i begins at `x[i · xStride]`
  /// @param xStride at least the columns
  /// @param memory [#arrangedBytes] that are written, and belong to the result from then on
  public Inputs arrange(
      WeightFormat format,
      MemorySegment x,
      long xStride,
      long columns,
      int inputs,
      MemorySegment memory) {
    return arrange(format, Order.ROWS, StoredMatrix.DIGITS, x, xStride, columns, inputs, memory);
  }

  /// The same for weights in an order.
  ///
  /// @param digits the bytes that a number keeps, where weights are in blocks
  public Inputs arrange(
      WeightFormat format,
      Order order,
      int digits,
      MemorySegment x,
      long xStride,
      long columns,
      int inputs,
      MemorySegment memory) {
    var room = room(format, order, digits, columns, inputs, memory);
    var read = floats(x, xStride, columns, inputs);
    for (int i = 0; i < inputs; i++) {
      arrange(read.asSlice(i * xStride * Float.BYTES), room, i);
    }
    return room;
  }

  /// Room for vectors, into which [#arrange(MemorySegment, Inputs, int)] brings each.
  ///
  /// @param memory [#arrangedBytes], which belong to the result from then on
  public Inputs room(
      WeightFormat format,
      Order order,
      int digits,
      long columns,
      int inputs,
      MemorySegment memory) {
    if (inputs < 1 || inputs > most(format, order, digits, inputs)) {
      throw new IllegalArgumentException("%d vectors at once".formatted(inputs));
    }
    return new Inputs(
        InputLayout.of(format, order, digits),
        required(format, order, digits, columns).arrangement(),
        columns,
        inputs,
        writable(memory).asSlice(0, arrangedBytes(format, columns, inputs)));
  }

  /// Arranges one vector.
  ///
  /// @param x float32 `[columns]`
  /// @param to where it is one of several
  /// @param number of it there
  public void arrange(MemorySegment x, Inputs to, int number) {
    int group = to.layout.columns();
    long bytes = to.layout.bytes();
    try {
      ARRANGEMENT.invokeExact(
          to.arrangement,
          x.asSlice(0, to.columns * Float.BYTES),
          to.memory.asSlice(Objects.checkIndex(number, to.count) * bytes),
          to.columns / group,
          to.columns % group * Float.BYTES,
          to.count * bytes);
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }

  /// `y[i · yStride + r] = Σ_c W[r, c] · x[i, c]`.
  ///
  /// @param weights row r begins at byte `offset + r · rowBytes`
  /// @param x what [#arrange] made for this format, or for one that it fits as well
  /// @param y float32
  /// @param yStride at least the rows
  public void multiply(
      WeightFormat format,
      MemorySegment weights,
      long offset,
      long rowBytes,
      long rows,
      Inputs x,
      MemorySegment y,
      long yStride) {
    var functions = required(format, Order.ROWS, x.layout.digits(), x.columns);
    long used = format.bytes(x.columns);
    if (rows < 0 || rowBytes < used || !x.fit(format)) {
      throw new IllegalArgumentException(
          "%d rows of %d bytes, where %d columns of %s have %d%s"
              .formatted(
                  rows, rowBytes, x.columns, format, used, x.fit(format) ? "" : ", other inputs"));
    }
    if (rows == 0) {
      return;
    }
    var matrix =
        weights.asSlice(offset, Math.addExact(Math.multiplyExact(rows - 1, rowBytes), used));
    var to = floats(writable(y), yStride, rows, x.count);
    long atOnce = Math.max(2, CALL / (rowBytes * (1 + x.count / 2)) & ~1L);
    for (long row = 0; row < rows; row += atOnce) {
      long count = Math.min(atOnce, rows - row);
      long paired = x.count == 1 ? 0 : count & ~1L;
      long rest = row + paired;
      var pairs = functions.pairs()[x.count - 1];
      var single = functions.single()[x.count - 1];
      call(pairs, format, matrix, row, paired, rowBytes, x, to, yStride, ahead(rowBytes));
      call(single, format, matrix, rest, count - paired, rowBytes, x, to, yStride, AHEAD);
    }
  }

  /// The same for weights in strips of sixteen rows, see [PackedStrips].
  ///
  /// @param strips all of them
  /// @param first a multiple of sixteen, the first row
  /// @param rows a multiple of sixteen
  /// @param x what [#arrange] made for this format in strips
  /// @param y float32: the first row's product with the first vector stands at its beginning
  public void multiplyStrips(
      StoredMatrix strips, long first, long rows, Inputs x, MemorySegment y, long yStride) {
    var functions = required(strips.format(), Order.STRIPS, x.layout.digits(), x.columns);
    if (strips.order() != Order.STRIPS
        || first < 0
        || rows < 1
        || first > strips.rows() - rows
        || first % PackedStrips.ROWS != 0
        || rows % PackedStrips.ROWS != 0
        || x.columns != strips.columns()
        || !x.layout.equals(InputLayout.of(strips.format(), Order.STRIPS, x.layout.digits()))) {
      throw new IllegalArgumentException(
          "%d rows from %d of %d in %s, of %d columns, where inputs have %d"
              .formatted(rows, first, strips.rows(), strips.order(), strips.columns(), x.columns));
    }
    long stripBytes = PackedStrips.ROWS * strips.rowBytes();
    var matrix = strips.data().asSlice(strips.offset(first), rows * strips.rowBytes());
    var to = floats(writable(y), yStride, rows, x.count);
    long atOnce = Math.max(2, CALL / (stripBytes * (1 + x.count / 2)) & ~1L);
    long all = rows / PackedStrips.ROWS;
    var onTiles = tiled(new Kind(strips.format(), strips.order(), x.layout.digits()), x.count);
    for (long strip = 0; strip < all; strip += atOnce) {
      long count = Math.min(atOnce, all - strip);
      if (onTiles != null) {
        callStrips(onTiles, matrix, strip, count, stripBytes, x, to, yStride);
        continue;
      }
      long paired = x.count < PAIRED_STRIPS ? 0 : count & ~1L;
      callStrips(functions.pairs()[x.count - 1], matrix, strip, paired, stripBytes, x, to, yStride);
      callStrips(
          functions.single()[x.count - 1],
          matrix,
          strip + paired,
          count - paired,
          stripBytes,
          x,
          to,
          yStride);
    }
  }

  private static void callStrips(
      MemorySegment code,
      MemorySegment matrix,
      long strip,
      long strips,
      long stripBytes,
      Inputs x,
      MemorySegment y,
      long yStride) {
    if (strips == 0) {
      return;
    }
    try {
      PRODUCT.invokeExact(
          code,
          matrix.asSlice(strip * stripBytes),
          x.memory,
          y.asSlice(strip * PackedStrips.ROWS * Float.BYTES),
          strips,
          stripBytes,
          yStride * Float.BYTES,
          0L,
          0L,
          0L);
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }

  private static long ahead(long rowBytes) {
    long pair = 2 * rowBytes;
    return pair > PAIR_AHEAD ? AHEAD : Math.ceilDiv(AHEAD, pair) * pair;
  }

  private static void call(
      MemorySegment code,
      WeightFormat format,
      MemorySegment matrix,
      long row,
      long rows,
      long rowBytes,
      Inputs x,
      MemorySegment y,
      long yStride,
      long ahead) {
    if (rows == 0) {
      return;
    }
    long group = x.layout.columns();
    try {
      PRODUCT.invokeExact(
          code,
          matrix.asSlice(row * rowBytes),
          x.memory,
          y.asSlice(row * Float.BYTES),
          rows,
          rowBytes,
          x.columns / group,
          format.bytes(x.columns % group),
          yStride * Float.BYTES,
          ahead);
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }

  private static MemorySegment writable(MemorySegment memory) {
    if (memory.isReadOnly()) {
      throw new UnsupportedOperationException("memory that is only read");
    }
    return memory;
  }

  /// Rows of float32 numbers that stand apart.
  private static MemorySegment floats(MemorySegment memory, long stride, long length, int rows) {
    if (stride < length) {
      throw new IllegalArgumentException("%d numbers every %d".formatted(length, stride));
    }
    long numbers = Math.addExact(Math.multiplyExact(rows - 1L, stride), length);
    return memory.asSlice(0, Math.multiplyExact(numbers, (long) Float.BYTES));
  }
}
