package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Libtorch;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// `--threads`, shared by the commands that compute.
final class ThreadsOption {
  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "Threads for libtorch's operations and Sluice's kernels. Default: all cores.")
  private @Nullable Integer given;

  /// Applies the setting; call before the first operation.
  void apply() {
    apply(1);
  }

  /// Applies the setting; by default the cores are shared among so many processes.
  void apply(int processes) {
    int cores = Runtime.getRuntime().availableProcessors();
    int threads = given != null ? given : Math.max(1, cores / Math.max(1, processes));
    if (threads < 1) {
      throw new InvalidInputException("--threads must be at least 1, not " + threads);
    }
    Libtorch.threads(threads);
    Threads.count(threads);
  }
}
