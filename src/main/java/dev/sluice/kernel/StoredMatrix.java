package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

/// A matrix of weights as a file has it, row by row in its own format, read where the file is
/// mapped and never copied as a whole.
///
/// @param data holds all rows
/// @param rows of the matrix, what a product has as outputs
/// @param columns a whole number of the format's blocks
/// @param together how many rows stand one after the other; all of them, or those of a group where
///   something else stands between groups, as a gate's rows between the queries' of each head
/// @param apart bytes from the first row of a group to the first one of the next
public record StoredMatrix(
    WeightFormat format, MemorySegment data, long rows, long columns, long together, long apart) {
  public StoredMatrix {
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
  }

  /// One whose rows all stand one after the other.
  public StoredMatrix(WeightFormat format, MemorySegment data, long rows, long columns) {
    this(format, data, rows, columns, rows, 0);
  }

  /// Where a row begins, in bytes.
  public long offset(long row) {
    return row / together * apart + row % together * rowBytes();
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
}
