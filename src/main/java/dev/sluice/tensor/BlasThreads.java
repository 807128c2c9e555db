package dev.sluice.tensor;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.function.Supplier;
import org.bytedeco.javacpp.Loader;
import org.jspecify.annotations.Nullable;

/// Keeps OpenBLAS from starting threads inside libtorch's threads.
///
/// libtorch's attention and batched products split their work among OpenMP threads, each of which
/// calls a matrix product; OpenBLAS, which does not know OpenMP, then uses its own threads in each
/// of them, and they wait for one another by spinning. On two cores that made a training step up to
/// a hundred times slower.
final class BlasThreads {
  private static final @Nullable MethodHandle SET = find("openblas_set_num_threads");
  private static int count = 1;

  private BlasThreads() {}

  @SuppressWarnings("restricted")
  private static @Nullable MethodHandle find(String symbol) {
    var address = Loader.addressof(symbol);
    return address == null
        ? null // another BLAS
        : Linker.nativeLinker()
            .downcallHandle(
                MemorySegment.ofAddress(address.address()),
                FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));
  }

  /// Sets how many threads a matrix product uses.
  static void use(int threads) {
    count = threads;
    set(threads);
  }

  /// Runs an operation that is itself split among threads and multiplies matrices in each.
  static <T> T withOne(Supplier<T> operation) {
    if (count == 1) {
      return operation.get();
    }
    set(1);
    try {
      return operation.get();
    } finally {
      set(count);
    }
  }

  private static void set(int threads) {
    if (SET == null) {
      return;
    }
    try {
      SET.invokeExact(threads);
    } catch (Throwable e) {
      throw new IllegalStateException("openblas_set_num_threads failed", e);
    }
  }
}
