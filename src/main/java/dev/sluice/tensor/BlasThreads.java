package dev.sluice.tensor;

import dev.sluice.kernel.Threads;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.function.Supplier;
import org.bytedeco.javacpp.Loader;
import org.jspecify.annotations.Nullable;

/// Decides which threads OpenBLAS multiplies matrices on.
///
/// OpenBLAS's own threads spin while they wait for work, which takes the cores from libtorch's
/// OpenMP threads and from our kernels; so its work is run on [Threads] instead, through
/// `openblas_set_threads_callback_function`. And inside an operation that libtorch splits among
/// OpenMP threads itself (attention, batched products) a matrix product stays on one thread: nested
/// threads that wait for one another made a training step on two cores up to a hundred times
/// slower.
///
/// The setting is the process's. So operations that want different ones wait for one another, and
/// each runs with what it wants; what is under way in libtorch's engine takes what it finds.
@SuppressWarnings("restricted")
final class BlasThreads {
  private static final Linker LINKER = Linker.nativeLinker();
  private static final @Nullable MethodHandle SET =
      find("openblas_set_num_threads", FunctionDescriptor.ofVoid(ValueLayout.JAVA_INT));

  /// `void dojob(int thread, void *jobs, int data)`.
  private static final MethodHandle JOB =
      LINKER.downcallHandle(
          FunctionDescriptor.ofVoid(
              ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));

  private static final Object TURN = new Object();

  /// About five milliseconds of one core.
  private static final long WORTH_SPLITTING = 500_000_000;

  private static final ThreadLocal<Boolean> INSIDE = ThreadLocal.withInitial(() -> false);

  private static final Object SETTING = new Object();

  // guarded by SETTING
  private static int available = 1;
  private static int resting = 1;
  private static int current;
  private static int underWay;

  static {
    runOnOurThreads();
  }

  private BlasThreads() {}

  private static @Nullable MethodHandle find(String symbol, FunctionDescriptor type) {
    var address = Loader.addressof(symbol);
    return address == null
        ? null // another BLAS, or an older one
        : LINKER.downcallHandle(MemorySegment.ofAddress(address.address()), type);
  }

  private static void runOnOurThreads() {
    var register =
        find(
            "openblas_set_threads_callback_function",
            FunctionDescriptor.ofVoid(ValueLayout.ADDRESS));
    if (register == null) {
      return;
    }
    // void callback(int sync, dojob, int jobs, size_t size of a job, void *jobs, int data)
    var type =
        FunctionDescriptor.ofVoid(
            ValueLayout.JAVA_INT,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT,
            ValueLayout.JAVA_LONG,
            ValueLayout.ADDRESS,
            ValueLayout.JAVA_INT);
    try {
      var run =
          MethodHandles.lookup()
              .findStatic(
                  BlasThreads.class,
                  "run",
                  MethodType.methodType(
                      void.class,
                      int.class,
                      MemorySegment.class,
                      int.class,
                      long.class,
                      MemorySegment.class,
                      int.class));
      register.invokeExact(LINKER.upcallStub(run, type, Arena.global()));
    } catch (Throwable e) {
      throw NativeCall.failed("openblas_set_threads_callback_function", e);
    }
  }

  /// Called by OpenBLAS: runs all jobs at the same time and returns when they are done.
  @SuppressWarnings({"UnusedMethod", "UnusedVariable"}) // called through a method handle
  private static void run(
      int sync, MemorySegment job, int jobs, long size, MemorySegment array, int data) {
    // OpenBLAS's jobs share scratch memory by their number, so products of two callers take turns
    synchronized (TURN) {
      Threads.together(jobs, number -> runOne(job, number, size, array, data));
    }
  }

  private static void runOne(
      MemorySegment job, int number, long size, MemorySegment array, int data) {
    try {
      MemorySegment own = MemorySegment.ofAddress(array.address() + number * size);
      JOB.invokeExact(job, number, own, data);
    } catch (Throwable e) {
      throw NativeCall.failed("an OpenBLAS job", e);
    }
  }

  /// Sets how many threads a large matrix product uses.
  static void use(int threads) {
    Threads.together(threads, _ -> {}); // a thread that cannot be started later ends the process
    synchronized (SETTING) {
      awaitNoneUnderWay();
      available = threads;
      resting = threads;
      change(threads);
    }
  }

  /// Runs a product of that many multiplications: handing out small ones costs more than it saves.
  /// The choice depends on shapes alone, so that results do.
  static <T> T product(long multiplications, Supplier<T> operation) {
    if (INSIDE.get()) {
      return operation.get();
    }
    synchronized (SETTING) {
      int wanted = multiplications < WORTH_SPLITTING ? 1 : available;
      resting = wanted; // for its backward pass
      begin(wanted);
    }
    return finish(operation);
  }

  /// Runs an operation that is itself split among threads and multiplies matrices in each.
  static <T> T withOne(Supplier<T> operation) {
    if (INSIDE.get()) {
      return operation.get();
    }
    synchronized (SETTING) {
      begin(1);
    }
    return finish(operation);
  }

  private static void begin(int wanted) {
    if (wanted != current) {
      awaitNoneUnderWay();
      change(wanted);
    }
    underWay++;
  }

  private static <T> T finish(Supplier<T> operation) {
    INSIDE.set(true);
    try {
      return operation.get();
    } finally {
      INSIDE.set(false);
      synchronized (SETTING) {
        underWay--;
        if (underWay == 0) {
          change(resting);
          SETTING.notifyAll();
        }
      }
    }
  }

  private static void awaitNoneUnderWay() {
    boolean interrupted = false;
    while (underWay > 0) {
      try {
        SETTING.wait();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private static void change(int threads) {
    if (current != threads) {
      current = threads;
      set(threads);
    }
  }

  /// How many threads OpenBLAS is set to use now.
  static int current() {
    synchronized (SETTING) {
      return current;
    }
  }

  private static void set(int threads) {
    if (SET == null) {
      return;
    }
    try {
      SET.invokeExact(threads);
    } catch (Throwable e) {
      throw NativeCall.failed("openblas_set_num_threads", e);
    }
  }
}
