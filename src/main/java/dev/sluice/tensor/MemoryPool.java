package dev.sluice.tensor;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Objects;
import java.util.TreeMap;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.PointerConsumer;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.bytedeco.pytorch.global.torch.ScalarType;

/// Memory of large tensors on the CPU. A training step asks for the same sizes each time, though
/// not in the order in which it gives them back; the operating system would hand the memory out
/// page by page and clear each page. So memory is mapped in large regions and kept. A tensor takes
/// the first hole that is large enough, and holes that touch become one.
final class MemoryPool {
  /// Bytes below which libtorch's own allocator does as well.
  private static final long LARGE = 1 << 18;

  /// Bytes of a region at least. What was never written to takes no memory.
  private static final long REGION = 1L << 30;

  private static final long PAGE = 1 << 12;
  private static final long HUGE_PAGE = 1 << 21;
  private static final int ADVISE_HUGE_PAGES = 14;
  private static final int READ_AND_WRITE = 3;
  private static final int PRIVATE_ANONYMOUS = 0x22;

  private static final Linker LINKER = Linker.nativeLinker();
  private static final MethodHandle MAP =
      function(
          "mmap",
          ValueLayout.ADDRESS,
          ValueLayout.ADDRESS,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_LONG);
  private static final MethodHandle ADVISE =
      function(
          "madvise",
          ValueLayout.JAVA_INT,
          ValueLayout.ADDRESS,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_INT);

  /// The highest address first: the operating system maps downwards, so the oldest region is used
  /// first and the newest last.
  private static final NavigableMap<Long, Hole> HOLES = new TreeMap<>(Comparator.reverseOrder());

  /// Bytes of the tensors, by their address.
  private static final Map<Long, Long> USED = new HashMap<>();

  private static long mappedBytes;

  private MemoryPool() {}

  /// Hears from libtorch, on whatever thread, that a tensor's memory is no longer used.
  private static final class Hook {
    static final PointerConsumer TAKE_BACK =
        new PointerConsumer() {
          @Override
          public void call(Pointer memory) {
            takeBack(memory.address());
          }
        };

    static {
      TAKE_BACK.retainReference(); // else the scope that happens to be open frees it
    }
  }

  /// Memory that no tensor uses.
  private record Hole(long address, long bytes) {
    long end() {
      return address + bytes;
    }
  }

  /// A tensor with any content.
  ///
  /// @param width bytes of an element
  static org.bytedeco.pytorch.Tensor uninitialized(TensorOptions options, int width, long[] shape) {
    long bytes = width;
    for (long length : shape) {
      bytes = Math.multiplyExact(bytes, length);
    }
    return bytes < LARGE
        ? torch.empty(shape, options, null)
        : torch.from_blob(new Address(take(bytes)), shape, Hook.TAKE_BACK, options);
  }

  /// A tensor of libtorch over all that [#take] gave, which takes it back.
  static org.bytedeco.pytorch.Tensor tensorOver(long address, long[] shape, ScalarType type) {
    return torch.from_blob(new Address(address), shape, Hook.TAKE_BACK, new TensorOptions(type));
  }

  /// Bytes that were asked of the operating system.
  static synchronized long mapped() {
    return mappedBytes;
  }

  /// Whole pages with any content, until [#takeBack] hears of their address.
  static synchronized long take(long bytes) {
    long whole = Math.addExact(bytes, PAGE - 1) / PAGE * PAGE;
    var hole = hole(whole);
    HOLES.remove(hole.address);
    if (hole.bytes > whole) {
      HOLES.put(hole.address, new Hole(hole.address, hole.bytes - whole));
    }
    long address = hole.end() - whole;
    USED.put(address, whole);
    return address;
  }

  private static Hole hole(long bytes) {
    for (var hole : HOLES.values()) {
      if (hole.bytes >= bytes) {
        return hole;
      }
    }
    return map(bytes);
  }

  static synchronized void takeBack(long address) {
    var hole = new Hole(address, Objects.requireNonNull(USED.remove(address)));
    var above = HOLES.remove(hole.end());
    if (above != null) {
      hole = new Hole(address, hole.bytes + above.bytes);
    }
    var below = HOLES.higherEntry(address); // the next in order
    if (below != null && below.getValue().end() == address) {
      hole = new Hole(below.getKey(), below.getValue().bytes + hole.bytes);
    }
    HOLES.put(hole.address, hole);
  }

  /// A new region.
  private static Hole map(long bytes) {
    long length = Math.max(bytes, REGION);
    long mapping;
    try {
      // so much longer that a huge page can be where the region starts
      var mapped =
          (MemorySegment)
              MAP.invokeExact(
                  MemorySegment.NULL,
                  length + HUGE_PAGE,
                  READ_AND_WRITE,
                  PRIVATE_ANONYMOUS,
                  -1,
                  0L);
      mapping = mapped.address();
    } catch (Throwable e) {
      throw NativeCall.failed("mmap", e);
    }
    if (mapping == -1) {
      throw new OutOfMemoryError("no memory for a tensor of " + bytes + " bytes");
    }
    mappedBytes += length;
    long address = Math.ceilDiv(mapping, HUGE_PAGE) * HUGE_PAGE;
    try {
      int _ =
          (int)
              ADVISE.invokeExact(
                  MemorySegment.ofAddress(address), length, ADVISE_HUGE_PAGES); // only advice
    } catch (Throwable e) {
      throw NativeCall.failed("madvise", e);
    }
    return new Hole(address, length);
  }

  @SuppressWarnings("restricted")
  private static MethodHandle function(
      String name, MemoryLayout result, MemoryLayout... arguments) {
    return LINKER.downcallHandle(
        LINKER.defaultLookup().findOrThrow(name), FunctionDescriptor.of(result, arguments));
  }

  /// Memory that a number points to.
  private static final class Address extends Pointer {
    Address(long address) {
      this.address = address;
    }
  }
}
