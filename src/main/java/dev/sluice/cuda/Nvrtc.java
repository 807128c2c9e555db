package dev.sluice.cuda;

import dev.sluice.InvalidInputException;
import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;
import java.util.regex.Pattern;

/// NVIDIA's compiler of CUDA C++ as a library, which needs no card and no driver.
@SuppressWarnings("restricted")
final class Nvrtc {
  private static final AddressLayout POINTER = ValueLayout.ADDRESS;
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT;

  private static final List<String> FILES =
      List.of("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so");

  private static final List<String> OPTIONS = List.of("--std=c++17");

  private static final Pattern FIRST_ERROR = Pattern.compile("(?m)^.*error.*$");

  private final MethodHandle create;
  private final MethodHandle compile;
  private final MethodHandle destroy;
  private final MethodHandle logSize;
  private final MethodHandle log;
  private final MethodHandle cubinSize;
  private final MethodHandle cubin;
  private final String version;

  /// What a compilation gives.
  ///
  /// @param cubin machine code
  /// @param log the compiler's warnings, or empty
  record Compiled(byte[] cubin, String log) {}

  private Nvrtc(Library library) {
    create =
        library.function("nvrtcCreateProgram", POINTER, POINTER, POINTER, INT, POINTER, POINTER);
    compile = library.function("nvrtcCompileProgram", POINTER, INT, POINTER);
    destroy = library.function("nvrtcDestroyProgram", POINTER);
    logSize = library.function("nvrtcGetProgramLogSize", POINTER, POINTER);
    log = library.function("nvrtcGetProgramLog", POINTER, POINTER);
    cubinSize = library.function("nvrtcGetCUBINSize", POINTER, POINTER);
    cubin = library.function("nvrtcGetCUBIN", POINTER, POINTER);
    version = version(library);
    library.loadBeside("libnvrtc-builtins.so." + version); // NVRTC asks for it by name
  }

  /// Loads the library.
  static Nvrtc load() {
    return new Nvrtc(
        Library.load(
            FILES,
            "it compiles Sluice's CUDA kernels: install CUDA's NVRTC, or build with"
                + " SLUICE_MAVEN_OPTIONS=-Pcuda, which brings it, or ask for no kernels in"
                + " SLUICE_CUDA_KERNELS"));
  }

  private static String version(Library library) {
    try (var arena = Arena.ofConfined()) {
      var both = arena.allocate(INT, 2);
      int status =
          (int) library.function("nvrtcVersion", POINTER, POINTER).invoke(both, both.asSlice(4));
      return status == 0 ? both.get(INT, 0) + "." + both.get(INT, 4) : "unknown";
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  /// Such as `13.3`.
  String version() {
    return version;
  }

  /// What besides the text and the architecture decides the machine code.
  List<String> options() {
    return OPTIONS;
  }

  /// The machine code for cards of an architecture, such as `sm_90`.
  Compiled compile(KernelFamily family, String architecture) {
    try (var arena = Arena.ofConfined()) {
      var out = arena.allocate(POINTER);
      String file = family.word() + ".cu";
      check(
          (int)
              create.invoke(
                  out,
                  arena.allocateFrom(family.source()),
                  arena.allocateFrom(file),
                  0,
                  MemorySegment.NULL,
                  MemorySegment.NULL),
          file);
      var program = out.get(POINTER, 0);
      try {
        var options = arena.allocate(POINTER, OPTIONS.size() + 1);
        for (int i = 0; i < OPTIONS.size(); i++) {
          options.setAtIndex(POINTER, i, arena.allocateFrom(OPTIONS.get(i)));
        }
        options.setAtIndex(
            POINTER, OPTIONS.size(), arena.allocateFrom("--gpu-architecture=" + architecture));
        int status = (int) compile.invoke(program, OPTIONS.size() + 1, options);
        byte[] said = bytes(logSize, log, program, arena);
        String words = MemorySegment.ofArray(said).getString(0).strip();
        if (status != 0) {
          throw refused(file, architecture, words);
        }
        return new Compiled(bytes(cubinSize, cubin, program, arena), words);
      } finally {
        out.set(POINTER, 0, program);
        check((int) destroy.invoke(out), file);
      }
    } catch (Throwable e) {
      throw unexpected(e);
    }
  }

  private InvalidInputException refused(String file, String architecture, String log) {
    var error = FIRST_ERROR.matcher(log);
    return new InvalidInputException(
        "NVRTC %s does not compile Sluice's CUDA kernels in %s for %s: %s; leave %s out of SLUICE_CUDA_KERNELS"
            .formatted(
                version,
                file,
                architecture,
                error.find() ? error.group().strip() : log,
                file.replace(".cu", "")));
  }

  private static byte[] bytes(
      MethodHandle size, MethodHandle get, MemorySegment program, Arena arena) throws Throwable {
    var length = arena.allocate(ValueLayout.JAVA_LONG);
    check((int) size.invoke(program, length), "a program");
    var memory = arena.allocate(length.get(ValueLayout.JAVA_LONG, 0));
    check((int) get.invoke(program, memory), "a program");
    return memory.toArray(ValueLayout.JAVA_BYTE);
  }

  private static void check(int status, String what) {
    if (status != 0) {
      throw new IllegalStateException("NVRTC answered status " + status + " about " + what);
    }
  }

  /// What was thrown on purpose between calls, as it is; calls of C functions throw nothing.
  static RuntimeException unexpected(Throwable e) {
    return switch (e) {
      case Error error -> throw error;
      case RuntimeException exception -> exception;
      default -> throw new AssertionError(e);
    };
  }
}
