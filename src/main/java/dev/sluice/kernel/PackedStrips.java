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
/// A strip is sixteen rows. It has, for each block of columns: the sixteen scales, of two bytes,
/// and as many minima, where the format has these; then, for each four of the block's other bytes,
/// those of the sixteen rows. The numbers of `Q8_0` are 128 larger, so that they are unsigned.
final class PackedStrips {
  /// Rows of a strip.
  static final int ROWS = 16;

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

  /// How a block of a format becomes a part of a strip.
  ///
  /// @param halves where in a block its scale and its minimum of two bytes are
  /// @param begin where its other bytes begin
  /// @param end where they end
  /// @param flipped what the bits of four of them differ by
  record Blocks(int[] halves, int begin, int end, int flipped) {
    private static final Blocks Q8_0 = new Blocks(new int[] {0}, 2, 34, 0x8080_8080);
    private static final Blocks Q4_0 = new Blocks(new int[] {0}, 2, 18, 0);
    private static final Blocks Q4_K = new Blocks(new int[] {0, 2}, 4, 144, 0);
    private static final Blocks Q6_K = new Blocks(new int[] {208}, 0, 208, 0);

    /// Those of a format; null where it has no strips.
    static @Nullable Blocks of(WeightFormat format) {
      return switch (format) {
        case Q8_0 -> Q8_0;
        case Q4_0 -> Q4_0;
        case Q4_K -> Q4_K;
        case Q6_K -> Q6_K;
        default -> null;
      };
    }

    static Blocks required(WeightFormat format) {
      var blocks = of(format);
      if (blocks == null) {
        throw new IllegalArgumentException("no strips of " + format);
      }
      return blocks;
    }

    /// Where in its part of a strip those four bytes of the first row are that were the so-maniest
    /// behind [#begin].
    int four(int index) {
      return ROWS * (Short.BYTES * halves.length + Integer.BYTES * index);
    }
  }

  /// Whether a matrix can be strips.
  static boolean fit(WeightFormat format, long rows, long columns) {
    return Blocks.of(format) != null
        && rows % ROWS == 0
        && columns % InputLayout.of(format).columns() == 0;
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
              var code = PackingCode.of(kind.format, kind.rowBytes);
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
    var blocks = Blocks.required(format);
    int block = format.blockBytes();
    long rowBytes = format.bytes(columns);
    for (long b = 0; b < rowBytes; b += block) {
      long its = ROWS * b;
      for (int row = 0; row < ROWS; row++) {
        long from = row * rowBytes + b;
        for (int i = 0; i < blocks.halves.length; i++) {
          to.set(HALF, its + 2L * (ROWS * i + row), rows.get(HALF, from + blocks.halves[i]));
        }
        for (int i = 0; 4 * i < blocks.end - blocks.begin; i++) {
          int four = rows.get(INT, from + blocks.begin + 4L * i) ^ blocks.flipped;
          to.set(INT, its + blocks.four(i) + 4L * row, four);
        }
      }
    }
  }

  /// Rows of a strip, in the order of rows and in memory of the thread's own, until the same thread
  /// asks for others.
  ///
  /// @param first row of all that is wanted
  /// @param count of rows, up to the end of the strip
  static StoredMatrix rows(StoredMatrix strips, long first, int count) {
    var format = strips.format();
    var blocks = Blocks.required(format);
    int block = format.blockBytes();
    long rowBytes = strips.rowBytes();
    var from = strips.data().asSlice(first / ROWS * ROWS * rowBytes, ROWS * rowBytes);
    int skipped = (int) (first % ROWS);
    var rows = own(ROWS * rowBytes).asSlice(0, count * rowBytes);
    for (long b = 0; b < rowBytes; b += block) {
      long its = ROWS * b;
      for (int i = 0; i < count; i++) {
        int row = skipped + i;
        long to = i * rowBytes + b;
        for (int h = 0; h < blocks.halves.length; h++) {
          rows.set(HALF, to + blocks.halves[h], from.get(HALF, its + 2L * (ROWS * h + row)));
        }
        for (int f = 0; 4 * f < blocks.end - blocks.begin; f++) {
          int four = from.get(INT, its + blocks.four(f) + 4L * row) ^ blocks.flipped;
          rows.set(INT, to + blocks.begin + 4L * f, four);
        }
      }
    }
    return new StoredMatrix(format, rows, count, strips.columns());
  }
}
