package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RBX;
import static dev.sluice.kernel.Assembler.RCX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RDX;
import static dev.sluice.kernel.Assembler.RSI;

import java.io.ByteArrayOutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Memory of this process that a processor runs, filled from Java, and what the processor can do.
///
/// Only on Linux and macOS on an x86-64, where functions are called in the way of System V. What
/// the system refuses is not there: nothing here throws because of the machine.
@SuppressWarnings("restricted")
final class MachineCode {
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;
  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG;

  static final int NO_ACCESS = 0;
  static final int READ_AND_WRITE = 3;
  private static final int READ_AND_RUN = 5;
  private static final int PRIVATE_ANONYMOUS_LINUX = 0x22;
  private static final int NOT_NEEDED = 4;
  private static final int LARGE_PAGES = 14;
  private static final int TO_BE_READ = 22; // MADV_POPULATE_READ, since Linux 5.14
  private static final long PAGE = 1 << 12;
  private static final int PRIVATE_ANONYMOUS_MACOS = 0x1002;

  /// What the system must keep for a thread: the lower halves of the vectors, the masks, and all of
  /// the 32 wide vectors.
  private static final int KEPT = 0xE6;

  /// AVX-512 F, DQ, BW and VL in EBX of leaf 7, VNNI in ECX.
  private static final int WANTED_B = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;

  private static final int WANTED_C = 1 << 11;
  private static final int XSAVE_IS_USED = 1 << 27;

  /// AMX tiles and their products of bytes, in EDX of leaf 7, and what the system must keep for
  /// them.
  private static final int WANTED_D = 1 << 24 | 1 << 25;

  private static final int KEPT_TILES = 3 << 17;

  /// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)` of Linux: a process has to ask for
  /// tiles.
  private static final long ARCH_PRCTL = 158;

  private static final long REQUEST_STATE = 0x1023;
  private static final long TILE_DATA = 18;

  private static final Linker LINKER = Linker.nativeLinker();

  /// The flags for memory of no file, or 0 where this class does not know the machine.
  private static final int ANONYMOUS = anonymous();

  private MachineCode() {}

  /// Calls functions of the system, and the first code that is made here. All have one form, of six
  /// registers of which each uses some, since Java makes classes for each form, which a start waits
  /// for.
  private static final class Registers {
    private static final MethodHandle CALL =
        LINKER.downcallHandle(FunctionDescriptor.of(LONG, LONG, LONG, LONG, LONG, LONG, LONG));

    static long call(
        MemorySegment function,
        long first,
        long second,
        long third,
        long fourth,
        long fifth,
        long sixth) {
      try {
        return (long) CALL.invokeExact(function, first, second, third, fourth, fifth, sixth);
      } catch (Throwable e) {
        throw unexpected(e);
      }
    }

    /// The same with three, which gives an `int`.
    static int call(MemorySegment function, long first, long second, long third) {
      return (int) call(function, first, second, third, 0, 0, 0);
    }
  }

  private static @Nullable MemorySegment function(String name) {
    return ANONYMOUS == 0 ? null : LINKER.defaultLookup().find(name).orElse(null);
  }

  /// A handle that calls code whose address is its first argument. The thread counts as one that
  /// runs Java: whoever stops all threads waits for the end of the call, so it has to be short.
  static MethodHandle shortCall(FunctionDescriptor descriptor) {
    return LINKER.downcallHandle(descriptor, Linker.Option.critical(false));
  }

  /// What a call throws before it begins, such as that memory lies on the heap.
  static RuntimeException unexpected(Throwable e) {
    if (e instanceof RuntimeException unchecked) {
      return unchecked;
    }
    if (e instanceof Error error) {
      throw error;
    }
    throw new AssertionError(e);
  }

  /// What anonymous memory is called here; 0 where none of this is known.
  private static int anonymous() {
    String processor = System.getProperty("os.arch", "");
    if (!processor.equals("amd64") && !processor.equals("x86_64")) {
      return 0;
    }
    return switch (System.getProperty("os.name", "")) {
      case "Linux" -> PRIVATE_ANONYMOUS_LINUX;
      case "Mac OS X" -> PRIVATE_ANONYMOUS_MACOS;
      default -> 0;
    };
  }

  /// Fresh memory that can be written, for good, or null if the system gives none.
  static @Nullable MemorySegment map(long bytes) {
    var map = function("mmap");
    if (map == null) {
      return null;
    }
    long at = Registers.call(map, 0, bytes, READ_AND_WRITE, ANONYMOUS, -1, 0);
    return at == -1 ? null : MemorySegment.ofAddress(at).reinterpret(bytes);
  }

  /// Fresh memory of whole pages that can be written, large ones where the system has them, until
  /// the arena closes; null if the system gives none. Java does not count it.
  static @Nullable MemorySegment map(long bytes, Arena arena) {
    var memory = map(bytes);
    var unmap = function("munmap");
    if (memory == null || unmap == null) {
      return null;
    }
    advise(memory, LARGE_PAGES);
    return memory.reinterpret(
        arena,
        all -> {
          int _ = Registers.call(unmap, all.address(), bytes, 0);
        });
  }

  /// Lets the system take the pages of a mapped file that lie in it; who reads them again has them
  /// read from the file.
  static void forget(MemorySegment mapped) {
    long begin = Math.ceilDiv(mapped.address(), PAGE) * PAGE;
    long end = (mapped.address() + mapped.byteSize()) / PAGE * PAGE;
    if (begin < end) {
      advise(mapped.asSlice(begin - mapped.address(), end - begin), NOT_NEEDED);
    }
  }

  /// Has all pages of a mapped file at hand in one call, where the system keeps them in memory:
  /// otherwise each is a fault of its own when it is first read. Pages that would have to be read
  /// from the disk are left alone.
  static void expect(MemorySegment mapped) {
    long begin = mapped.address() / PAGE * PAGE;
    long bytes = mapped.address() + mapped.byteSize() - begin;
    var pages = MemorySegment.ofAddress(begin).reinterpret(bytes);
    if (areKept(pages)) {
      advise(pages, TO_BE_READ);
    }
  }

  /// Whether the system keeps all pages of a mapped file in memory; it also says so where it tells
  /// nobody but the file's owner.
  private static boolean areKept(MemorySegment pages) {
    var ask = ANONYMOUS == PRIVATE_ANONYMOUS_LINUX ? function("mincore") : null;
    if (ask == null) {
      return false;
    }
    try (var arena = Arena.ofConfined()) {
      var kept = arena.allocate(Math.ceilDiv(pages.byteSize(), PAGE));
      if (Registers.call(ask, pages.address(), pages.byteSize(), kept.address()) != 0) {
        return false;
      }
      var all = arena.allocate(kept.byteSize()).fill((byte) 1);
      return kept.mismatch(all) < 0;
    }
  }

  private static void advise(MemorySegment pages, int advice) {
    var advise = ANONYMOUS == PRIVATE_ANONYMOUS_LINUX ? function("madvise") : null;
    if (advise != null) {
      int _ = Registers.call(advise, pages.address(), pages.byteSize(), advice); // it may refuse
    }
  }

  /// Whether the system lets whole pages be used so from now on.
  static boolean protect(MemorySegment pages, int access) {
    var protect = function("mprotect");
    return protect != null
        && Registers.call(protect, pages.address(), pages.byteSize(), access) == 0;
  }

  /// Puts code where it can be run and no longer be written, for good, or null if the system
  /// refuses that.
  static @Nullable MemorySegment install(byte[] code) {
    var memory = map(code.length);
    if (memory == null) {
      return null;
    }
    MemorySegment.copy(code, 0, memory, ValueLayout.JAVA_BYTE, 0, code.length);
    return protect(memory, READ_AND_RUN) ? memory : null;
  }

  /// Several functions in the same pages.
  static @Nullable List<MemorySegment> install(List<byte[]> functions) {
    var all = new ByteArrayOutputStream();
    functions.forEach(all::writeBytes);
    var memory = install(all.toByteArray());
    if (memory == null) {
      return null;
    }
    var placed = new ArrayList<MemorySegment>();
    long at = 0;
    for (byte[] function : functions) {
      placed.add(memory.asSlice(at, function.length));
      at += function.length;
    }
    return placed;
  }

  /// `(leaf, subleaf, out)`: the four registers that CPUID gives, and the lower half of what XGETBV
  /// gives where the system has it turned on.
  private static byte[] identification() {
    var code = new Assembler();
    code.push(RBX);
    code.mov(R8, RDX);
    code.mov(RAX, RDI);
    code.mov(RCX, RSI);
    code.cpuid();
    code.store32(R8, 0, RAX);
    code.store32(R8, 4, RBX);
    code.store32(R8, 8, RCX);
    code.store32(R8, 12, RDX);
    code.pop(RBX);
    code.ret();
    return code.assemble(0);
  }

  private static byte[] keptState() {
    var code = new Assembler();
    code.mov(R8, RDX);
    code.mov(RCX, RSI);
    code.xgetbv();
    code.store32(R8, 0, RAX);
    code.ret();
    return code.assemble(0);
  }

  /// What a processor says of itself, with what its system has turned on.
  private record Features(int seventhB, int seventhC, int seventhD, int kept) {
    private static final Features NONE = new Features(0, 0, 0, 0);
    static final Features HERE = read();

    private static Features read() {
      var identification = install(identification());
      var keptState = install(keptState());
      if (identification == null || keptState == null) {
        return NONE;
      }
      try (var arena = Arena.ofConfined()) {
        var out = arena.allocate(16, 4);
        long to = out.address();
        int _ = Registers.call(identification, 0, 0, to);
        if (out.getAtIndex(INT, 0) < 7) {
          return NONE;
        }
        int _ = Registers.call(identification, 1, 0, to);
        if ((out.getAtIndex(INT, 2) & XSAVE_IS_USED) == 0) {
          return NONE;
        }
        int _ = Registers.call(identification, 7, 0, to);
        int b = out.getAtIndex(INT, 1);
        int c = out.getAtIndex(INT, 2);
        int d = out.getAtIndex(INT, 3);
        int _ = Registers.call(keptState, 0, 0, to);
        return new Features(b, c, d, out.getAtIndex(INT, 0));
      }
    }
  }

  /// Whether processor and system have AVX-512 with dot products of bytes (VNNI), and code made
  /// here may run.
  static boolean hasVectors512() {
    return (Features.HERE.seventhB & WANTED_B) == WANTED_B
        && (Features.HERE.seventhC & WANTED_C) == WANTED_C
        && (Features.HERE.kept & KEPT) == KEPT;
  }

  /// Whether processor and system have tiles (AMX) with products of bytes. They are asked for here,
  /// for all threads.
  static boolean hasTiles() {
    var call = ANONYMOUS == PRIVATE_ANONYMOUS_LINUX ? function("syscall") : null;
    return call != null
        && hasVectors512()
        && (Features.HERE.seventhD & WANTED_D) == WANTED_D
        && (Features.HERE.kept & KEPT_TILES) == KEPT_TILES
        && Registers.call(call, ARCH_PRCTL, REQUEST_STATE, TILE_DATA) == 0;
  }
}
