package dev.sluice.checkpoint;

import dev.sluice.kernel.MachineMemory;
import dev.sluice.kernel.StoredMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// Memory of matrices that do not stay where their file is mapped: because products read their
/// blocks faster in another order, or because their file has no blocks. The file's own pages are
/// given back, so that a model takes hardly more memory than its file.
final class PackedMatrices implements AutoCloseable {
  private final Arena arena = Arena.ofShared();

  /// The matrix in the order that this machine's products read fastest, which may be the one that
  /// it has; also where there is no memory for another.
  StoredMatrix take(StoredMatrix matrix) {
    if (!matrix.isToBePacked()) {
      return matrix;
    }
    if (!matrix.data().isMapped()) { // a copy of here, of rows that all stand together
      return matrix.packed(matrix.data());
    }
    var memory = MachineMemory.map(matrix.bytes(), arena);
    if (memory == null) {
      return matrix;
    }
    var packed = matrix.packed(memory);
    MachineMemory.forget(matrix.data());
    return packed;
  }

  /// Memory until this is closed.
  MemorySegment allocate(long bytes) {
    var memory = MachineMemory.map(bytes, arena);
    return memory == null ? arena.allocate(bytes, Long.BYTES) : memory;
  }

  @Override
  public void close() {
    arena.close();
  }
}
