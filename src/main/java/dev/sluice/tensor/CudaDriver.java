package dev.sluice.tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.util.Optional;

/// Asks the driver of this machine's cards why there is no CUDA: libtorch only says that there is
/// none.
@SuppressWarnings("restricted")
final class CudaDriver {
  private static final String LIBRARY = "libcuda.so.1";

  private CudaDriver() {}

  /// Whether this machine has a driver; without one there is no CUDA, and libtorch need not be
  /// asked.
  static boolean isThere() {
    try (var arena = Arena.ofConfined()) {
      SymbolLookup.libraryLookup(LIBRARY, arena);
      return true;
    } catch (IllegalArgumentException e) {
      return false;
    }
  }

  /// What is wrong, or empty where the driver finds nothing.
  ///
  /// @param builtFor the version of CUDA that libtorch was built for, such as 13030
  static Optional<String> complaint(long builtFor) {
    return complaint(LIBRARY, builtFor);
  }

  /// @param library the driver's
  static Optional<String> complaint(String library, long builtFor) {
    try (var arena = Arena.ofConfined()) {
      SymbolLookup driver;
      try {
        driver = SymbolLookup.libraryLookup(library, arena);
      } catch (IllegalArgumentException e) {
        return Optional.of("this machine has no CUDA driver, as " + library + " cannot be opened");
      }
      try {
        var number = arena.allocate(ValueLayout.JAVA_INT);
        if (call(driver, "cuDriverGetVersion", number) == 0) {
          long version = number.get(ValueLayout.JAVA_INT, 0);
          if (version / 1000 < builtFor / 1000) {
            return Optional.of(
                "the driver is for CUDA %s and older, and this build needs one for CUDA %s"
                    .formatted(words(version), words(builtFor)));
          }
        }
        int status = init(driver);
        if (status != 0) {
          return Optional.of("the driver says: " + error(driver, arena, status));
        }
        status = call(driver, "cuDeviceGetCount", number);
        if (status != 0) {
          return Optional.of("the driver says: " + error(driver, arena, status));
        }
        return number.get(ValueLayout.JAVA_INT, 0) == 0
            ? Optional.of("the driver shows no card; see CUDA_VISIBLE_DEVICES")
            : Optional.empty();
      } catch (Throwable e) {
        throw NativeCall.failed("a call of " + library, e);
      }
    }
  }

  private static int call(SymbolLookup driver, String name, MemorySegment argument)
      throws Throwable {
    var type = FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS);
    var handle = Linker.nativeLinker().downcallHandle(driver.findOrThrow(name), type);
    return (int) handle.invokeExact(argument);
  }

  private static int init(SymbolLookup driver) throws Throwable {
    var type = FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT);
    var handle = Linker.nativeLinker().downcallHandle(driver.findOrThrow("cuInit"), type);
    return (int) handle.invokeExact(0);
  }

  /// The driver's words for a status, and the status.
  private static String error(SymbolLookup driver, Arena arena, int status) throws Throwable {
    var type =
        FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.JAVA_INT, ValueLayout.ADDRESS);
    var handle = Linker.nativeLinker().downcallHandle(driver.findOrThrow("cuGetErrorString"), type);
    var words = arena.allocate(ValueLayout.ADDRESS);
    int known = (int) handle.invokeExact(status, words);
    return known == 0
        ? "%s (status %d)"
            .formatted(
                words.get(ValueLayout.ADDRESS, 0).reinterpret(Long.MAX_VALUE).getString(0), status)
        : "status " + status;
  }

  /// 13030 as 13.3.
  private static String words(long version) {
    return version / 1000 + "." + version % 1000 / 10;
  }
}
