package dev.sluice.tensor;

/// What the calls of native functions have in common: a method handle declares [Throwable].
final class NativeCall {
  private NativeCall() {}

  /// To be thrown when a call did. An [Error], such as one for lack of memory, is thrown as it is.
  static IllegalStateException failed(String what, Throwable cause) {
    if (cause instanceof Error error) {
      throw error;
    }
    return new IllegalStateException(what + " failed: " + cause.getMessage(), cause);
  }
}
