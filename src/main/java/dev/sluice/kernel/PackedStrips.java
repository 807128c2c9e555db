package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;

/// The blocks of sixteen rows in an order in which one vector holds a number of each row: then sums
/// stay in their lanes, and the scales of sixteen rows are one vector. As many bytes as before.
///
/// A strip is sixteen rows. It has, for each block of 32 columns: the sixteen scales, of two bytes;
/// then, for each four bytes of a block's numbers, those of the sixteen rows. The numbers of `Q8_0`
/// are 128 larger, so that they are unsigned.
final class PackedStrips {
  /// Rows of a strip.
  static final int ROWS = 16;

  /// Columns of which the inputs are arranged together.
  private static final int GROUP = 128;

  /// Strips for which a thread is worth its start.
  private static final long GRAIN = 64;

  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;
  private static final ValueLayout.OfShort HALF = ValueLayout.JAVA_SHORT_UNALIGNED;

  /// A strip's bytes, of each thread.
  private static final ThreadLocal<MemorySegment> OWN =
      ThreadLocal.withInitial(() -> MemorySegment.NULL);

  private static final MethodHandle PACKING =
      MachineCode.shortCall(
          FunctionDescriptor.ofVoid(
              ValueLayout.ADDRESS, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));

  private record Kind(WeightFormat format, int rowBytes) {}

  private static final Map<Kind, Optional<MemorySegment>> CODES = new ConcurrentHashMap<>();

  private PackedStrips() {}

  /// Whether a matrix can be strips.
  static boolean fit(WeightFormat format, long rows, long columns) {
    return (format == WeightFormat.Q8_0 || format == WeightFormat.Q4_0)
        && rows % ROWS == 0
        && columns % GROUP == 0;
  }

  /// What the bits of four numbers differ by.
  private static int flipped(WeightFormat format) {
    return format == WeightFormat.Q8_0 ? 0x8080_8080 : 0;
  }

  private static MemorySegment own(long bytes) {
    var memory = OWN.get();
    if (memory.byteSize() < bytes) {
      memory = Arena.ofAuto().allocate(bytes, 64);
      OWN.set(memory);
    }
    return memory;
  }

  /// Writes all strips of a matrix.
  static void pack(StoredMatrix from, MemorySegment to) {
    pack(from, to, MachineProducts.here() == null ? null : code(from));
  }

  /// @param code of [PackingCode] for this matrix, or null
  static void pack(StoredMatrix from, MemorySegment to, @Nullable MemorySegment code) {
    long bytes = ROWS * from.rowBytes();
    Threads.split(
        from.rows() / ROWS,
        GRAIN,
        (first, last) -> {
          for (long strip = first; strip < last; strip++) {
            var rows = own(bytes).asSlice(0, bytes);
            rows.copyFrom(from.data().asSlice(from.offset(strip * ROWS), bytes));
            var its = to.asSlice(strip * bytes, bytes);
            if (code == null) {
              pack(from.format(), rows, from.columns(), its);
            } else {
              run(code, rows, its, from.columns() / from.format().blockLength());
            }
          }
        });
  }

  /// The code for matrices of this format and width; null where the machine lets none run.
  static @Nullable MemorySegment code(StoredMatrix matrix) {
    long rowBytes = matrix.rowBytes();
    if (rowBytes > Integer.MAX_VALUE / ROWS) {
      return null;
    }
    return CODES
        .computeIfAbsent(
            new Kind(matrix.format(), (int) rowBytes),
            kind -> {
              int flipped = flipped(kind.format);
              var code = PackingCode.of(kind.format, kind.rowBytes, flipped);
              return Optional.ofNullable(MachineCode.install(code));
            })
        .orElse(null);
  }

  private static void run(MemorySegment code, MemorySegment rows, MemorySegment to, long blocks) {
    try {
      PACKING.invokeExact(code, rows, to, blocks);
    } catch (Throwable e) {
      throw MachineCode.unexpected(e);
    }
  }

  /// The definition of [PackingCode].
  private static void pack(
      WeightFormat format, MemorySegment rows, long columns, MemorySegment to) {
    int flipped = flipped(format);
    int block = format.blockBytes();
    long rowBytes = format.bytes(columns);
    long at = 0;
    for (long b = 0; b < rowBytes; b += block) {
      for (int row = 0; row < ROWS; row++) {
        long from = row * rowBytes + b;
        to.set(HALF, at + 2L * row, rows.get(HALF, from));
        for (int i = 2; i < block; i += 4) {
          int four = rows.get(INT, from + i) ^ flipped;
          to.set(INT, at + 2 * ROWS + ROWS * (i - 2L) + 4L * row, four);
        }
      }
      at += (long) ROWS * block;
    }
  }

  /// The sixteen rows of a strip, in the order of rows and in memory of the thread's own, until the
  /// same thread asks for others.
  static StoredMatrix rows(StoredMatrix strips, long strip) {
    var format = strips.format();
    int flipped = flipped(format);
    int block = format.blockBytes();
    long rowBytes = strips.rowBytes();
    long bytes = ROWS * rowBytes;
    var from = strips.data().asSlice(strip * bytes, bytes);
    var rows = own(bytes).asSlice(0, bytes);
    long at = 0;
    for (long b = 0; b < rowBytes; b += block) {
      for (int row = 0; row < ROWS; row++) {
        long to = row * rowBytes + b;
        rows.set(HALF, to, from.get(HALF, at + 2L * row));
        for (int i = 2; i < block; i += 4) {
          int four = from.get(INT, at + 2 * ROWS + ROWS * (i - 2L) + 4L * row) ^ flipped;
          rows.set(INT, to + i, four);
        }
      }
      at += (long) ROWS * block;
    }
    return new StoredMatrix(format, rows, ROWS, strips.columns());
  }
}
