package dev.sluice.tensor;

import java.util.List;

/// What the calls of native functions have in common, and what their exceptions mean: JavaCPP gives
/// every exception of C++ as a plain [RuntimeException] with its words.
public final class NativeCall {
  /// What libtorch says on the CPU, on Windows, and on CUDA, and C++ itself.
  private static final List<String> OUT_OF_MEMORY =
      List.of(
          "can't allocate memory",
          "not enough memory",
          "CUDA out of memory",
          "CUDA error: out of memory",
          "std::bad_alloc");

  private NativeCall() {}

  /// To be thrown when a call through a method handle, which declares [Throwable], did. An [Error],
  /// such as one for lack of memory, is thrown as it is.
  static IllegalStateException failed(String what, Throwable cause) {
    if (cause instanceof Error error) {
      throw error;
    }
    return new IllegalStateException(what + " failed: " + cause.getMessage(), cause);
  }

  /// Whether memory ran out: Java's, or what native code asked for. This is the only place that
  /// reads it from words, and only from those of exceptions that native code threw.
  public static boolean ranOutOfMemory(Throwable e) {
    return e instanceof OutOfMemoryError
        || (isNative(e)
            && OUT_OF_MEMORY.stream().anyMatch(String.valueOf(e.getMessage())::contains));
  }

  /// Whether that memory was a CUDA device's.
  public static boolean ranOutOfDeviceMemory(Throwable e) {
    return ranOutOfMemory(e) && words(e).contains("CUDA");
  }

  /// What native code said, without the list of its own calls that libtorch puts behind it.
  public static String words(Throwable e) {
    return String.valueOf(e.getMessage()).lines().findFirst().orElse("").strip();
  }

  /// Whether it came out of native code as a C++ exception.
  public static boolean isNative(Throwable e) {
    var trace = e.getStackTrace();
    return e.getClass() == RuntimeException.class
        && trace.length > 0
        && trace[0].isNativeMethod()
        && trace[0].getClassName().startsWith("org.bytedeco.");
  }
}
