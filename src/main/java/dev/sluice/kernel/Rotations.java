package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

/// Cosines and sines of rotary position embedding.
///
/// @param cosines positions × `pairs`, float32
/// @param sines likewise
/// @param pairs of a head's elements that turn, from its first on; those behind `2 · pairs` do not
/// @param positions after which the positions start again, with the next sequence
public record Rotations(MemorySegment cosines, MemorySegment sines, int pairs, long positions) {
  /// Nothing turns.
  public static final Rotations NONE = new Rotations(MemorySegment.NULL, MemorySegment.NULL, 0, 1);

  /// Those from a position on.
  public Rotations from(int position) {
    long start = (long) position * pairs * Float.BYTES;
    return new Rotations(cosines.asSlice(start), sines.asSlice(start), pairs, positions - position);
  }
}
