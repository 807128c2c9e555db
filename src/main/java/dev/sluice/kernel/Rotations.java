package dev.sluice.kernel;

import java.lang.foreign.MemorySegment;

/// Cosines and sines of rotary position embedding.
///
/// @param cosines positions × half the head's width, float32
/// @param sines likewise
/// @param positions after which the positions start again, with the next sequence
public record Rotations(MemorySegment cosines, MemorySegment sines, long positions) {}
