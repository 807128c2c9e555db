package dev.sluice.gguf;

import dev.sluice.kernel.WeightFormat;
import java.lang.foreign.MemorySegment;
import java.util.List;

/// A tensor of a GGUF file, where it lies.
///
/// @param shape row-major, so that the last dimension is the one that blocks lie along; the file
///   has it the other way round
/// @param data the blocks, mapped; it ends with the file
public record GgufTensor(String name, WeightFormat format, List<Long> shape, MemorySegment data) {
  public GgufTensor {
    shape = List.copyOf(shape);
  }

  /// How many numbers it has.
  public long elements() {
    return elements(shape);
  }

  /// @throws ArithmeticException if no long holds it
  static long elements(List<Long> shape) {
    return shape.stream().mapToLong(Long::longValue).reduce(1, Math::multiplyExact);
  }
}
