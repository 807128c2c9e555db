package dev.sluice.cuda;

import org.jspecify.annotations.Nullable;

/// Starts kernels. The driver does so on a card; tests have one that runs the same sources,
/// compiled as plain C++, on the CPU.
public interface Launcher {
  /// Starts `blocks` blocks of `threads` threads.
  ///
  /// @param sharedBytes memory that a block's threads share
  record Grid(long blocks, int threads, int sharedBytes) {
    /// What every card can run.
    public Grid {
      if (blocks < 1
          || blocks > Integer.MAX_VALUE
          || threads < 1
          || threads > 1024
          || threads % 32 != 0
          || sharedBytes > 48 << 10) {
        throw new IllegalArgumentException(
            "no card runs %d blocks of %d threads with %d shared bytes"
                .formatted(blocks, threads, sharedBytes));
      }
    }

    /// As many threads as there are pieces of work, in blocks of 256.
    public static Grid of(long pieces) {
      return new Grid(Math.ceilDiv(pieces, 256), 256, 0);
    }
  }

  /// Starts a kernel, in order with what was started before on the tensors' device; it may still
  /// run when this returns.
  ///
  /// @param arguments in the kernel's order: a [dev.sluice.tensor.Tensor] or null for a pointer,
  ///   else an [Integer], [Long], [Float] or [Double] as the kernel declares it. They are read
  ///   before this returns.
  void launch(Kernel kernel, Grid grid, @Nullable Object... arguments);
}
