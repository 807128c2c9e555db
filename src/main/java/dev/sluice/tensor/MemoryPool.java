package dev.sluice.tensor;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.pytorch.PointerConsumer;
import org.bytedeco.pytorch.TensorOptions;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/// Memory of large tensors on the CPU, kept for the next tensor of about the same size. A training
/// step asks for the same sizes each time; the operating system would hand the memory out page by
/// page and clear each page. What is kept and what tensors use is together never much more than the
/// most that tensors have used at a time.
final class MemoryPool {
  /// Bytes below which libtorch's own allocator does as well.
  private static final long LARGE = 1 << 18;

  /// Bytes that may be kept beyond the most that was ever in use.
  private static final long SLACK = 1 << 26;

  private static final long HUGE_PAGE = 1 << 21;
  private static final int ADVISE_HUGE_PAGES = 14;
  private static final int READ_AND_WRITE = 3;
  private static final int PRIVATE_ANONYMOUS = 0x22;

  private static final Linker LINKER = Linker.nativeLinker();
  private static final MethodHandle MAP =
      function(
          "mmap",
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_LONG);
  private static final MethodHandle UNMAP =
      function("munmap", ValueLayout.JAVA_INT, ValueLayout.JAVA_LONG, ValueLayout.JAVA_LONG);
  private static final MethodHandle ADVISE =
      function(
          "madvise",
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_INT);

  /// The longest free first.
  private static final List<Block> FREE = new ArrayList<>();

  private static final Map<Long, Block> USED = new HashMap<>();

  private static long freeBytes;
  private static long usedBytes;
  private static long mostUsedBytes;

  /// Hears from libtorch, on whatever thread, that a tensor's memory is no longer used.
  private static final PointerConsumer TAKE_BACK =
      new PointerConsumer() {
        @Override
        public void call(Pointer memory) {
          takeBack(memory.address());
        }
      };

  static {
    TAKE_BACK.retainReference(); // else the scope that happens to be open frees it
  }

  private MemoryPool() {}

  private record Block(long mapping, long address, long bytes) {}

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
        : torch.from_blob(new Address(take(bytes).address), shape, TAKE_BACK, options);
  }

  /// Bytes that tensors use and bytes that are kept for them.
  static synchronized long held() {
    return usedBytes + freeBytes;
  }

  private static synchronized Block take(long bytes) {
    var block = kept(bytes);
    if (block == null) {
      long most = Math.max(mostUsedBytes, usedBytes + bytes);
      while (!FREE.isEmpty() && usedBytes + freeBytes + bytes > most + SLACK) {
        release(FREE.removeFirst());
      }
      block = map(bytes);
    }
    USED.put(block.address, block);
    usedBytes += block.bytes;
    mostUsedBytes = Math.max(mostUsedBytes, usedBytes);
    return block;
  }

  /// The newest free block that is at most an eighth larger, or null.
  private static @Nullable Block kept(long bytes) {
    for (int i = FREE.size() - 1; i >= 0; i--) {
      var block = FREE.get(i);
      if (block.bytes >= bytes && block.bytes - bytes <= bytes / 8) {
        FREE.remove(i);
        freeBytes -= block.bytes;
        return block;
      }
    }
    return null;
  }

  private static synchronized void takeBack(long address) {
    var block = Objects.requireNonNull(USED.remove(address));
    usedBytes -= block.bytes;
    freeBytes += block.bytes;
    FREE.add(block);
  }

  private static void release(Block block) {
    freeBytes -= block.bytes;
    try {
      int _ = (int) UNMAP.invokeExact(block.mapping, block.bytes + HUGE_PAGE);
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  private static Block map(long bytes) {
    try {
      long length = bytes + HUGE_PAGE; // what is never written to takes no memory
      long mapping = (long) MAP.invokeExact(0L, length, READ_AND_WRITE, PRIVATE_ANONYMOUS, -1, 0L);
      if (mapping == -1) {
        throw new OutOfMemoryError("no memory for a tensor of " + bytes + " bytes");
      }
      long address = (mapping + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
      int _ = (int) ADVISE.invokeExact(address, bytes, ADVISE_HUGE_PAGES); // only advice
      return new Block(mapping, address, bytes);
    } catch (Error e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
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
