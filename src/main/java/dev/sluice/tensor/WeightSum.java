package dev.sluice.tensor;

import dev.sluice.kernel.Threads;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/// Runs work over rows in blocks that stay in a core's cache, and sums what each block contributes
/// to a weight's gradient in the blocks' order, whatever thread worked on them.
public final class WeightSum {
  private static final long BLOCK = 64;

  /// Work on rows `from … to`.
  @FunctionalInterface
  public interface Block {
    /// @param dWeight float32 numbers, to be added to
    void run(MemorySegment dWeight, long from, long to);
  }

  private WeightSum() {}

  /// Runs `part` over all rows.
  public static void split(long rows, Threads.Part part) {
    Threads.split(
        Math.ceilDiv(rows, BLOCK),
        1,
        (first, last) -> {
          for (long block = first; block < last; block++) {
            part.run(block * BLOCK, Math.min(rows, (block + 1) * BLOCK));
          }
        });
  }

  /// Runs `block` over all rows and adds its sums to the gradient of `weight`, if it requires one.
  ///
  /// @param weight a leaf, or null where there is none; the block then has nothing to add to
  public static void split(@Nullable Tensor weight, long rows, Block block) {
    if (weight == null) {
      split(rows, (from, to) -> block.run(MemorySegment.NULL, from, to));
      return;
    }
    long width = weight.elements();
    long blocks = Math.ceilDiv(rows, BLOCK);
    var partial = Tensor.zeros(ElementType.FLOAT32, blocks, width);
    var sums = partial.memory();
    split(
        rows, (from, to) -> block.run(sums.asSlice(from / BLOCK * width * 4, width * 4), from, to));
    if (weight.requiresGradient()) {
      FusedOp.gradientOf(
          weight,
          (gradient, add) -> {
            var total = gradient.memory();
            for (long j = 0; j < width; j++) {
              double sum = add ? total.getAtIndex(ValueLayout.JAVA_FLOAT, j) : 0;
              for (long i = 0; i < blocks; i++) {
                sum += sums.getAtIndex(ValueLayout.JAVA_FLOAT, i * width + j);
              }
              total.setAtIndex(ValueLayout.JAVA_FLOAT, j, (float) sum);
            }
          });
    }
  }
}
