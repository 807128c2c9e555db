package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Libtorch;
import picocli.CommandLine.Option;

/// `--threads`, shared by the commands that compute.
final class ThreadsOption {
  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "Threads for libtorch's operations and Sluice's kernels. Default: all cores.")
  private int threads = Runtime.getRuntime().availableProcessors();

  /// Applies the setting; call before the first operation.
  void apply() {
    if (threads < 1) {
      throw new InvalidInputException("--threads must be at least 1, not " + threads);
    }
    Libtorch.threads(threads);
    Threads.count(threads);
  }
}
