package dev.sluice.tensor;

import org.bytedeco.javacpp.Loader;
import org.bytedeco.pytorch.global.torch;

/// Loads libtorch, once and lazily, and holds its process-wide settings.
public final class Libtorch {
  static {
    // Lifetimes are lexical (Scope), so JavaCPP's own collector thread and memory limits are not
    // wanted.
    System.setProperty("org.bytedeco.javacpp.noPointerGC", "true");
    System.setProperty("org.bytedeco.javacpp.maxBytes", "0");
    System.setProperty("org.bytedeco.javacpp.maxPhysicalBytes", "0");
    // JavaCPP warns that the openblas preset is of another version (see pom.xml); through SLF4J an
    // application decides
    // what to show.
    System.setProperty("org.bytedeco.javacpp.logger", "slf4j");
    Loader.load(torch.class);
    BlasThreads.use(torch.get_num_threads());
  }

  private static volatile boolean poisoned;

  private Libtorch() {}

  /// Makes sure that the native library is loaded.
  static void load() {}

  /// Sets how many threads libtorch's operations use.
  public static void threads(int threads) {
    if (torch.get_num_threads() != threads) {
      torch.set_num_threads(threads);
    }
    BlasThreads.use(threads);
  }

  public static int threads() {
    return torch.get_num_threads();
  }

  /// The version of the libtorch preset, such as `2.13.0-1.5.14`, or `unknown`.
  public static String version() {
    String preset = torch.class.getPackage().getImplementationVersion();
    return preset == null ? "unknown" : preset;
  }

  static boolean cudaAvailable() {
    return torch.cuda_is_available();
  }

  /// With `true`, [Tensor#uninitialized] fills new memory with NaN, so that a test sees every
  /// element that an operation forgot to write.
  public static void poisonUninitialized(boolean poison) {
    poisoned = poison;
  }

  static boolean poisoned() {
    return poisoned;
  }
}
