package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.cuda.DriverLauncher;
import dev.sluice.cuda.KernelFamily;
import dev.sluice.operations.Operations;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/// What the environment says about our CUDA kernels: which are used, and where compiled ones are
/// kept.
final class CudaKernels {
  /// Kernels that are used, such as `gate,norm`, or `all`; none where it is not set.
  static final String NAME = "SLUICE_CUDA_KERNELS";

  private CudaKernels() {}

  static void use(Map<String, String> environment) {
    Operations.useKernels(named(environment.getOrDefault(NAME, "")));
    DriverLauncher.keepIn(folder(environment));
  }

  static Set<KernelFamily> named(String text) {
    if (text.equals("all")) {
      return EnumSet.allOf(KernelFamily.class);
    }
    var families = EnumSet.noneOf(KernelFamily.class);
    if (!text.isEmpty()) {
      for (String word : text.split(",", -1)) {
        families.add(family(word.strip()));
      }
    }
    return families;
  }

  private static KernelFamily family(String word) {
    return Arrays.stream(KernelFamily.values())
        .filter(family -> family.word().equals(word))
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "%s names the unknown CUDA kernels '%s'; there are %s, and all"
                        .formatted(
                            NAME,
                            word,
                            Arrays.stream(KernelFamily.values())
                                .map(KernelFamily::word)
                                .collect(Collectors.joining(", ")))));
  }

  /// The user's folder for what can be made again.
  static Path folder(Map<String, String> environment) {
    String cache = environment.getOrDefault("XDG_CACHE_HOME", "");
    Path all =
        Path.of(cache).isAbsolute() // others are to be passed over, as the convention says
            ? Path.of(cache)
            : Path.of(System.getProperty("user.home"), ".cache");
    return all.resolve("sluice").resolve("cuda");
  }
}
