package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/// Loads libtorch, once and lazily, and holds its process-wide settings.
public final class Libtorch {
  static {
    // Lifetimes are lexical (Scope), so JavaCPP's own collector thread and memory limits are not
    // wanted.
    System.setProperty("org.bytedeco.javacpp.noPointerGC", "true");
    System.setProperty("org.bytedeco.javacpp.maxBytes", "0");
    System.setProperty("org.bytedeco.javacpp.maxPhysicalBytes", "0");
    // JavaCPP warns that the openblas preset is of another version (see pom.xml); through SLF4J an
    // application decides what to show.
    System.setProperty("org.bytedeco.javacpp.logger", "slf4j");
    FAILURE = tryToLoad();
  }

  private static final @Nullable UnsatisfiedLinkError FAILURE;

  private static volatile boolean poisoned;

  private Libtorch() {}

  private static @Nullable UnsatisfiedLinkError tryToLoad() {
    try {
      Loader.load(torch.class);
      if (torch.get_num_threads() > Threads.most()) { // as OMP_NUM_THREADS said
        torch.set_num_threads(Threads.count());
      }
      BlasThreads.use(torch.get_num_threads());
      return null;
    } catch (UnsatisfiedLinkError e) {
      return e;
    }
  }

  /// Makes sure that the native library is loaded.
  static void load() {
    if (FAILURE != null) {
      throw new InvalidInputException(
          "libtorch cannot be loaded ("
              + FAILURE.getMessage()
              + "); the tested platform is Linux on x86-64, and a build with CUDA needs the driver,"
              + " cuDNN and NCCL installed",
          FAILURE);
    }
  }

  /// Sets how many threads libtorch's operations use. OpenMP ends the process when it cannot start
  /// as many, so that numbers that [Threads#require] refuses never reach it.
  public static void threads(int threads) {
    Threads.require(threads);
    load();
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
