package dev.sluice.operations;

import dev.sluice.kernel.Kernels;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/// The Euclidean norm of several float32 tensors as one vector.
final class GradientNorm {
  /// Bytes that are summed at a time.
  private static final long BLOCK = 1 << 18;

  private GradientNorm() {}

  /// The definition.
  static Tensor composed(List<Tensor> gradients) {
    return Tensor.concatenate(
            gradients.stream()
                .map(gradient -> gradient.norm().to(ElementType.FLOAT64).reshape(1))
                .toList(),
            0)
        .norm();
  }

  /// The same in one pass, whose sums have an order that the number of threads does not change.
  static double apply(List<Tensor> gradients) {
    var blocks = new ArrayList<MemorySegment>();
    for (var gradient : gradients) {
      var memory = gradient.contiguous().memory();
      for (long at = 0; at < memory.byteSize(); at += BLOCK) {
        blocks.add(memory.asSlice(at, Math.min(BLOCK, memory.byteSize() - at)));
      }
    }
    double[] sums = new double[blocks.size()];
    Threads.split(
        sums.length,
        1,
        (from, to) -> {
          for (int i = (int) from; i < to; i++) {
            var block = blocks.get(i);
            sums[i] = Kernels.FASTEST.squareSum(block, 0, block.byteSize() / Float.BYTES);
          }
        });
    double sum = 0;
    for (double part : sums) {
      sum += part;
    }
    return Math.sqrt(sum);
  }
}
