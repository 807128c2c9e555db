package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Libtorch;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// `--threads`, shared by the commands that compute. What OpenMP cannot start it does not report
/// but ends the process, so that it is refused here.
final class ThreadsOption {
  /// As OpenMP reads it: a number of kilobytes, or of what the letter says.
  private static final Pattern STACK = Pattern.compile("(\\d+)\\s*([BKMG]?)");

  private static final long MOST_STACK = 1L << 30;

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
    int threads = required(processes);
    Libtorch.threads(threads);
    Threads.count(threads);
  }

  /// The setting, refused where it is not possible, before libtorch is loaded for it.
  int required(int processes) {
    int cores = Runtime.getRuntime().availableProcessors();
    int threads = given != null ? given : Math.max(1, cores / Math.max(1, processes));
    if (threads < 1 || threads > Threads.most()) {
      throw new InvalidInputException(
          "--threads must be from 1 to %d on %d cores, not %d"
              .formatted(Threads.most(), cores, threads));
    }
    requireStack(System.getenv());
    return threads;
  }

  /// Refuses stacks that no thread can be started with.
  static void requireStack(Map<String, String> environment) {
    for (String name : new String[] {"OMP_STACKSIZE", "GOMP_STACKSIZE"}) {
      String value = environment.getOrDefault(name, "");
      var size = STACK.matcher(value.strip().toUpperCase(Locale.ROOT));
      if (size.matches() && bytes(size.group(1), size.group(2)) > MOST_STACK) {
        throw new InvalidInputException(
            "%s is '%s' in the environment, and no thread can have such a stack; set at most 1G, or unset it"
                .formatted(name, value));
      }
    }
  }

  private static double bytes(String number, String unit) {
    int shift =
        switch (unit) {
          case "B" -> 0;
          case "M" -> 20;
          case "G" -> 30;
          default -> 10;
        };
    return Double.parseDouble(number) * (1L << shift);
  }
}
