package dev.sluice.kernel;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Memory from the system and back to it, past what Java counts as its own, for weights.
public final class MachineMemory {
  private MachineMemory() {}

  /// Fresh memory until the arena closes, in large pages where the system has them; null if the
  /// system gives none, or is not known here.
  public static @Nullable MemorySegment map(long bytes, Arena arena) {
    return MachineCode.map(bytes, arena);
  }

  /// Has the pages of a mapped file at hand that are all about to be read, if the system keeps them
  /// in memory; nothing is read from a disk, as far as the system says where they are.
  public static void expect(MemorySegment mappedFile) {
    MachineCode.expect(mappedFile);
  }

  /// Gives back the pages of a mapped file that were read; who reads them again has them read from
  /// the file. Memory that is no file's would lose what it holds.
  public static void forget(MemorySegment mappedFile) {
    MachineCode.forget(mappedFile);
  }
}
