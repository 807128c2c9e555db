package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

/// A matrix of weights as a file has it, row by row in its own format, read where the file is
/// mapped; or a copy of it whose blocks stand in the order in which products read them fastest.
///
/// @param data holds all rows
/// @param rows of the matrix, what a product has as outputs
/// @param columns a whole number of the format's blocks
/// @param together how many rows stand one after the other; all of them, or those of a group where
///   something else stands between groups, as a gate's rows between the queries' of each head
/// @param apart bytes from the first row of a group to the first one of the next
/// @param order of the blocks
/// @param digits the bytes that a number keeps which is multiplied with weights in blocks, where
///   the processor multiplies bytes: two, or one; see [InputLayout]
public record StoredMatrix(
    WeightFormat format,
    MemorySegment data,
    long rows,
    long columns,
    long together,
    long apart,
    Order order,
    int digits) {
  /// Usually numbers keep so many bytes.
  public static final int DIGITS = 2;

  /// How blocks follow one another.
  public enum Order {
    /// Those of a row, then those of the next.
    ROWS,
    /// Those of sixteen rows together, see [PackedStrips].
    STRIPS
  }

  public StoredMatrix {
    if (digits < 1 || digits > DIGITS) {
      throw new IllegalArgumentException("%d bytes of a number".formatted(digits));
    }
    if (rows < 1 || columns < 1 || together < 1 || rows % together != 0 || apart < 0) {
      throw new IllegalArgumentException(
          "no matrix of %d rows of %d numbers, %d of them together and groups %d bytes apart"
              .formatted(rows, columns, together, apart));
    }
    long bytes = format.bytes(columns);
    long end =
        Math.addExact(
            Math.multiplyExact(rows / together - 1, apart), Math.multiplyExact(together, bytes));
    if (end > data.byteSize()) {
      throw new IllegalArgumentException(
          "%d rows of %d numbers of %s need %d bytes, not %d"
              .formatted(rows, columns, format, end, data.byteSize()));
    }
    if (order == Order.STRIPS && (!PackedStrips.fit(format, rows, columns) || together < rows)) {
      throw new IllegalArgumentException(
          "%d rows of %d numbers of %s are no strips".formatted(rows, columns, format));
    }
  }

  /// One in the order of rows.
  public StoredMatrix(
      WeightFormat format, MemorySegment data, long rows, long columns, long together, long apart) {
    this(format, data, rows, columns, together, apart, Order.ROWS, DIGITS);
  }

  /// One whose rows all stand one after the other.
  public StoredMatrix(WeightFormat format, MemorySegment data, long rows, long columns) {
    this(format, data, rows, columns, rows, 0);
  }

  /// Where a row begins, in bytes; for strips, that of the first of sixteen rows.
  public long offset(long row) {
    return row / together * apart + row % together * rowBytes();
  }

  /// The same matrix, with which numbers of so many bytes are multiplied.
  public StoredMatrix withDigits(int wanted) {
    return new StoredMatrix(format, data, rows, columns, together, apart, order, wanted);
  }

  /// The bytes of a row.
  public long rowBytes() {
    return format.bytes(columns);
  }

  /// The bytes of all rows.
  public long bytes() {
    return rows * rowBytes();
  }

  /// Whether all rows stand one after the other.
  public boolean isWhole() {
    return together == rows;
  }

  /// Whether products of this machine are faster with the blocks in strips.
  public boolean isToBePacked() {
    var machine = MachineProducts.here();
    return machine != null
        && order == Order.ROWS
        && PackedStrips.fit(format, rows, columns)
        && together % PackedStrips.ROWS == 0
        && machine.takes(format, Order.STRIPS, digits);
  }

  /// The same matrix in strips.
  ///
  /// @param to as many bytes, which may be this matrix's own where all its rows stand one after the
  ///   other
  public StoredMatrix packed(MemorySegment to) {
    if (to.byteSize() < bytes()) {
      throw new IllegalArgumentException(
          "%d bytes do not fit into %d".formatted(bytes(), to.byteSize()));
    }
    PackedStrips.pack(this, to);
    return new StoredMatrix(format, to, rows, columns, rows, 0, Order.STRIPS, digits);
  }
}
