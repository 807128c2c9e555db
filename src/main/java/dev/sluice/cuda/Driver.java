package dev.sluice.cuda;

import dev.sluice.InvalidInputException;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;

/// The functions of CUDA's driver that start kernels. Devices are numbered as libtorch numbers
/// them, and each has one context, libtorch's.
@SuppressWarnings("restricted")
final class Driver {
  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
  private static final int CAPABILITY_MAJOR = 75;
  private static final int CAPABILITY_MINOR = 76;

  private final MethodHandle deviceGet;
  private final MethodHandle deviceAttribute;
  private final MethodHandle retainContext;
  private final MethodHandle pushContext;
  private final MethodHandle popContext;
  private final MethodHandle loadModule;
  private final MethodHandle moduleFunction;
  private final MethodHandle launch;
  private final MethodHandle errorName;
  private final MethodHandle errorWords;

  private Driver(Library library) {
    errorName = library.function("cuGetErrorName", INT, POINTER);
    errorWords = library.function("cuGetErrorString", INT, POINTER);
    deviceGet = library.function("cuDeviceGet", POINTER, INT);
    deviceAttribute = library.function("cuDeviceGetAttribute", POINTER, INT, INT);
    retainContext = library.function("cuDevicePrimaryCtxRetain", POINTER, INT);
    pushContext = library.function("cuCtxPushCurrent_v2", POINTER);
    popContext = library.function("cuCtxPopCurrent_v2", POINTER);
    loadModule = library.function("cuModuleLoadData", POINTER, POINTER);
    moduleFunction = library.function("cuModuleGetFunction", POINTER, POINTER, POINTER);
    launch =
        library.function(
            "cuLaunchKernel",
            POINTER,
            INT,
            INT,
            INT,
            INT,
            INT,
            INT,
            INT,
            POINTER,
            POINTER,
            POINTER);
    try {
      check((int) library.function("cuInit", INT).invokeExact(0), "be initialised");
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }

  /// Loads the driver's library.
  static Driver load() {
    return new Driver(
        Library.load(
            List.of("libcuda.so.1"), "it is a part of NVIDIA's driver, which has to be installed"));
  }

  /// A device and libtorch's context on it.
  record Card(int device, String architecture, MemorySegment context) {}

  /// @param index the device's number
  Card card(int index) {
    try (var arena = Arena.ofConfined()) {
      var out = arena.allocate(POINTER);
      check((int) deviceGet.invokeExact(out, index), "find the device " + index);
      int device = out.get(INT, 0);
      int major = attribute(out, CAPABILITY_MAJOR, device);
      int minor = attribute(out, CAPABILITY_MINOR, device);
      check((int) retainContext.invokeExact(out, device), "open the device " + index);
      return new Card(device, "sm_" + major + minor, out.get(POINTER, 0));
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }

  private int attribute(MemorySegment out, int attribute, int device) throws Throwable {
    check((int) deviceAttribute.invokeExact(out, attribute, device), "ask the device");
    return out.get(INT, 0);
  }

  /// Loads machine code for good.
  MemorySegment module(Card card, byte[] cubin, String name) {
    try (var arena = Arena.ofConfined();
        var _ = current(card)) {
      var out = arena.allocate(POINTER);
      var image = arena.allocateFrom(ValueLayout.JAVA_BYTE, cubin);
      check((int) loadModule.invokeExact(out, image), "load the kernels of " + name);
      return out.get(POINTER, 0);
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }

  /// A kernel of a module.
  MemorySegment function(Card card, MemorySegment module, String name) {
    try (var arena = Arena.ofConfined();
        var _ = current(card)) {
      var out = arena.allocate(POINTER);
      var text = arena.allocateFrom(name);
      check((int) moduleFunction.invokeExact(out, module, text), "find the kernel " + name);
      return out.get(POINTER, 0);
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }

  /// Starts a kernel on a stream of the card.
  ///
  /// @param name for what goes wrong
  void launch(
      Card card,
      MemorySegment function,
      String name,
      Launcher.Grid grid,
      MemorySegment stream,
      MemorySegment arguments) {
    try (var _ = current(card)) {
      check(
          (int)
              launch.invokeExact(
                  function,
                  (int) grid.blocks(),
                  1,
                  1,
                  grid.threads(),
                  1,
                  1,
                  grid.sharedBytes(),
                  stream,
                  arguments,
                  MemorySegment.NULL),
          "start the kernel " + name);
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }

  /// What is undone when it closes.
  private interface Undone extends AutoCloseable {
    @Override
    void close();
  }

  /// Makes the card's context this thread's, until closed.
  private Undone current(Card card) throws Throwable {
    check((int) pushContext.invokeExact(card.context), "use its context");
    return () -> {
      try (var arena = Arena.ofConfined()) {
        var out = arena.allocate(POINTER);
        check((int) popContext.invokeExact(out), "leave its context");
      } catch (Throwable e) {
        throw Nvrtc.unexpected(e);
      }
    };
  }

  private void check(int status, String what) {
    if (status != 0) {
      throw new InvalidInputException(
          "CUDA's driver cannot %s: %s (%s)"
              .formatted(what, text(errorWords, status), text(errorName, status)));
    }
  }

  private static String text(MethodHandle function, int status) {
    try (var arena = Arena.ofConfined()) {
      var out = arena.allocate(POINTER);
      int found = (int) function.invokeExact(status, out);
      return found == 0
          ? out.get(POINTER, 0).reinterpret(Long.MAX_VALUE).getString(0)
          : "status " + status;
    } catch (Throwable e) {
      throw Nvrtc.unexpected(e);
    }
  }
}
