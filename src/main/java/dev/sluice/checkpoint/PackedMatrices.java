package dev.sluice.checkpoint;

import dev.sluice.kernel.MachineMemory;
import dev.sluice.kernel.StoredMatrix;
import java.lang.foreign.Arena;

/// Matrices whose blocks products read faster in another order than their file's, in memory of
/// their own. The file's own pages are given back, so that a model takes no more memory than its
/// file.
final class PackedMatrices implements AutoCloseable {
  private final Arena arena = Arena.ofShared();

  /// The matrix in the order that this machine's products read fastest, which may be the one that
  /// it has; also where there is no memory for another.
  StoredMatrix take(StoredMatrix matrix) {
    var memory = matrix.isToBePacked() ? MachineMemory.map(matrix.bytes(), arena) : null;
    if (memory == null) {
      return matrix;
    }
    var packed = matrix.packed(memory);
    MachineMemory.forget(matrix.data());
    return packed;
  }

  @Override
  public void close() {
    arena.close();
  }
}
