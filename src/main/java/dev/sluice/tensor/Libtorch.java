package dev.sluice.tensor;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.pytorch.Context;
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
  }

  private static volatile boolean poisoned;

  /// How many threads its operations are to use, or 0 where nobody has said.
  private static int wantedThreads;

  private static volatile boolean loaded;

  /// Loads it when this class is first asked.
  private static final class Loading {
    /// Why the native library cannot be used, or null.
    static final @Nullable Throwable FAILURE;

    static {
      FAILURE = tryToLoad();
    }
  }

  private Libtorch() {}

  private static @Nullable Throwable tryToLoad() {
    synchronized (Libtorch.class) {
      try {
        Loader.load(torch.class);
        if (wantedThreads > 0) {
          use(wantedThreads);
        } else if (torch.get_num_threads() > Threads.most()) { // as OMP_NUM_THREADS said
          torch.set_num_threads(Threads.count());
        }
        BlasThreads.use(torch.get_num_threads());
        // built for one version of cuDNN, found another: its attention then fails backwards
        torch.globalContext().setSDPUseCuDNN(false);
        loaded = true;
        return null;
      } catch (LinkageError e) {
        return e;
      }
    }
  }

  private static void use(int threads) {
    if (torch.get_num_threads() != threads) {
      torch.set_num_threads(threads);
    }
  }

  /// Whether it is loaded: until then tensors are [HostMemory].
  static boolean isLoaded() {
    return loaded;
  }

  /// Makes sure that JavaCPP behaves as [Libtorch] has settled, which it has when it is
  /// initialised.
  static void settleJavaCpp() {}

  /// Makes sure that the native library is loaded; called by all that makes the first tensor, and
  /// never while a class is initialised, which would hide what it throws.
  static void load() {
    if (Loading.FAILURE != null) {
      throw missing("libtorch", Loading.FAILURE);
    }
    Scope.reach();
  }

  /// That a native library cannot be used here.
  static InvalidInputException missing(String library, Throwable cause) {
    return new InvalidInputException(
        ("%s cannot be loaded on %s (%s); the tested platform is linux-x86_64, libraries are"
             + " unpacked into ~/.javacpp, or where -Dorg.bytedeco.javacpp.cachedir=… says, which"
             + " must be writable, and a build with CUDA needs the driver, cuDNN and NCCL")
            .formatted(library, Loader.getPlatform(), LoadFailure.reason(cause)),
        cause);
  }

  /// Sets how many threads libtorch's operations use. OpenMP ends the process when it cannot start
  /// as many, so that numbers that [Threads#require] refuses never reach it.
  public static void threads(int threads) {
    Threads.require(threads);
    synchronized (Libtorch.class) {
      wantedThreads = threads;
      if (loaded) {
        use(threads);
        BlasThreads.use(threads);
      }
    }
  }

  public static int threads() {
    load();
    return torch.get_num_threads();
  }

  /// The version of the libtorch preset, such as `2.13.0-1.5.14`, or `unknown`.
  public static String version() {
    String preset = torch.class.getPackage().getImplementationVersion();
    return preset == null ? "unknown" : preset;
  }

  static boolean cudaAvailable() {
    load();
    return torch.cuda_is_available();
  }

  /// Why there is no CUDA, and the way out.
  static String whyNoCuda() {
    if (!Context.hasCUDART()) {
      return "this build has no CUDA libraries; build with SLUICE_MAVEN_OPTIONS=-Pcuda";
    }
    return CudaDriver.complaint(Context.versionCUDART())
        .orElse("libtorch finds no card, though the driver does; see what nvidia-smi says");
  }

  static int cudaDevices() {
    load();
    return torch.cuda_device_count();
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
