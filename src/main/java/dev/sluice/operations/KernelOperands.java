package dev.sluice.operations;

import dev.sluice.cuda.Kernel;
import dev.sluice.cuda.Launcher;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
import dev.sluice.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// What CUDA kernels ask of their operands, and how large blocks are for them.
final class KernelOperands {
  /// Adjacent elements that a thread takes at once, where it can.
  static final int PACK = 8;

  private static final int WARP = 32;
  private static final int PACK_BYTES = 16;

  private KernelOperands() {}

  /// Whether kernels compute with all of these.
  static boolean areNumbers(@Nullable Tensor... tensors) {
    for (var tensor : tensors) {
      if (tensor != null && !isNumbers(tensor.type())) {
        return false;
      }
    }
    return true;
  }

  static boolean isNumbers(ElementType type) {
    return type == ElementType.FLOAT32 || type == ElementType.BFLOAT16;
  }

  /// Whether rows of that width begin where packs can be read.
  static boolean inPacks(long width, @Nullable Tensor... tensors) {
    boolean aligned = width % PACK == 0;
    for (var tensor : tensors) {
      aligned &= tensor == null || tensor.address() % PACK_BYTES == 0;
    }
    return aligned;
  }

  /// As a kernel's argument.
  static int flag(boolean value) {
    return value ? 1 : 0;
  }

  /// Threads of a block that takes a row, each of them a pack or an element of it at a time.
  static int threadsOfRow(long width, boolean inPacks, int most) {
    long pieces = inPacks ? width / PACK : width;
    return (int) Math.min(most, Math.ceilDiv(pieces, WARP) * WARP);
  }

  /// Neighbouring threads that take a row together: a power of two, of a warp at most.
  static int lanes(long pieces) {
    int lanes = 1;
    while (lanes < WARP && lanes < pieces) {
      lanes *= 2;
    }
    return lanes;
  }

  /// Adds the blocks' sums to the gradient of a weight.
  ///
  /// @param sum the kernel of the family that sums columns
  /// @param partial `[blocks, weight]`, float32
  static void addColumns(Launcher launcher, Kernel sum, Tensor partial, Tensor weight) {
    if (!weight.requiresGradient()) {
      return;
    }
    int columns = Math.toIntExact(partial.size(1));
    var grid = new Launcher.Grid(Math.ceilDiv(columns, WARP), 1024, 1024 * Float.BYTES);
    FusedOp.gradientOf(
        weight,
        (gradient, add) ->
            launcher.launch(
                sum,
                grid,
                partial,
                Math.toIntExact(partial.size(0)),
                columns,
                gradient,
                flag(add)));
  }
}
