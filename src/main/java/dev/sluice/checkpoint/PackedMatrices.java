package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.MachineMemory;
import dev.sluice.kernel.MachineProducts;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.operations.Precision;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Memory of matrices that do not stay where their file is mapped: because products read their
/// blocks faster in another order, or because their file has no blocks. The file's own pages are
/// given back, so that a model takes hardly more memory than its file.
///
/// It is also where each matrix learns with how many bits products take what they multiply it with.
final class PackedMatrices implements AutoCloseable {
  /// Bytes of a region, of which matrices take the next ones: the system gives large pages where
  /// they lie whole in a region. What was never written to takes no memory.
  private static final long REGION = 1 << 28;

  private static final long ALIGNMENT = 64;

  private final Arena arena = Arena.ofShared();
  private final boolean int8;
  private boolean hasRounding;
  private MemorySegment rest = MemorySegment.NULL;

  /// @throws InvalidInputException if this processor has no products of bytes, which
  ///   [Precision#INT8] asks for
  PackedMatrices(Precision precision) {
    this.int8 = precision == Precision.INT8;
    if (int8 && MachineProducts.here() == null) {
      throw new InvalidInputException(
          "precision int8 is for processors with AVX-512 and VNNI, which this one lacks; use"
              + " float32");
    }
  }

  /// The matrix as this precision multiplies it.
  StoredMatrix inPrecision(StoredMatrix matrix) {
    if (!int8 || !MachineProducts.roundsInputs(matrix.format())) {
      return matrix;
    }
    hasRounding = true;
    return matrix.withDigits(1);
  }

  /// Refuses a model in which [Precision#INT8] would change nothing.
  void requireRounding() {
    if (int8 && !hasRounding) {
      throw new InvalidInputException(
          "precision int8 is for weights in blocks of few bits, of which this model has none; use"
              + " float32, or round its weights as well, as --weights q8_0 does");
    }
  }

  /// The matrix in the order that this machine's products read fastest, which may be the one that
  /// it has; also where there is no memory for another.
  ///
  /// @param isReadWhole whether each product of a model reads it, as not all experts are
  StoredMatrix take(StoredMatrix stored, boolean isReadWhole) {
    var matrix = inPrecision(stored);
    if (isReadWhole && matrix.data().isMapped()) {
      MachineMemory.expect(matrix.data());
    }
    if (!matrix.isToBePacked()) {
      return matrix;
    }
    if (!matrix.data().isMapped()) { // a copy of here, of rows that all stand together
      return matrix.packed(matrix.data());
    }
    var memory = next(matrix.bytes());
    if (memory == null) {
      return matrix;
    }
    var packed = matrix.packed(memory);
    MachineMemory.forget(matrix.data());
    return packed;
  }

  /// Memory until this is closed.
  MemorySegment allocate(long bytes) {
    var memory = next(bytes);
    return memory == null ? arena.allocate(bytes, Long.BYTES) : memory;
  }

  /// The next bytes of a region; null where the system gives none.
  private synchronized @Nullable MemorySegment next(long bytes) {
    if (rest.byteSize() < bytes) {
      var region = MachineMemory.map(Math.max(bytes, REGION), arena);
      if (region == null) {
        return null;
      }
      rest = region;
    }
    var memory = rest.asSlice(0, bytes);
    rest = rest.asSlice(Math.min(rest.byteSize(), Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT));
    return memory;
  }

  @Override
  public void close() {
    arena.close();
  }
}
