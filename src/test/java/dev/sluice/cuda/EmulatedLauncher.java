package dev.sluice.cuda;

import dev.sluice.files.Sha256;
import dev.sluice.kernel.Edge;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Assumptions;

/// Runs the kernels on the CPU: their sources, compiled as plain C++ behind `emulation.h`, with
/// tensors in the CPU's memory. A kernel that reads or writes behind a tensor ends the process.
@SuppressWarnings("restricted")
public final class EmulatedLauncher implements Launcher {
  private static final FunctionDescriptor FORM =
      FunctionDescriptor.of(
          ValueLayout.ADDRESS,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.JAVA_INT,
          ValueLayout.ADDRESS,
          ValueLayout.ADDRESS,
          ValueLayout.JAVA_INT);

  private static final List<String> COMPILE =
      List.of(
          "g++",
          "-std=c++17",
          "-O1",
          "-ffp-contract=off",
          "-fvisibility=hidden",
          "-Wall",
          "-Wextra",
          "-Werror",
          "-Wno-unused-function",
          "-fPIC",
          "-shared");

  private static final Map<KernelFamily, SymbolLookup> LIBRARIES =
      new EnumMap<>(KernelFamily.class);

  private static final long PACK_BYTES = 16;
  private static final long MOST_COPIED = 1 << 19;
  private static final List<Edge> EDGES = new ArrayList<>();

  private final boolean backwards;
  private final Map<Kernel, Integer> launches = new HashMap<>();

  /// @param backwards takes blocks and threads up in the other order
  public EmulatedLauncher(boolean backwards) {
    this.backwards = backwards;
  }

  /// Skips a test where there is no compiler of C++.
  public static void assumeThatItRuns() {
    Assumptions.assumeTrue(
        runs("g++", "--version"),
        "the CUDA kernels are not tested here: there is no g++ to compile them as plain C++");
  }

  /// How often each kernel was started.
  public Map<Kernel, Integer> launches() {
    return launches;
  }

  static boolean runs(String... command) {
    try {
      return new ProcessBuilder(command)
              .redirectErrorStream(true)
              .redirectOutput(ProcessBuilder.Redirect.DISCARD)
              .start()
              .waitFor()
          == 0;
    } catch (IOException e) {
      return false;
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  @Override
  public void launch(Kernel kernel, Grid grid, @Nullable Object... arguments) {
    launches.merge(kernel, 1, Integer::sum);
    synchronized (EmulatedLauncher.class) { // the emulation runs one block at a time
      try (var arena = Arena.ofConfined()) {
        var packed = Arguments.of(arena, arguments);
        var copies = copies(packed, arguments);
        var wrong =
            (MemorySegment)
                function(kernel)
                    .invokeExact(
                        (int) grid.blocks(),
                        grid.threads(),
                        grid.sharedBytes(),
                        packed.pointers(),
                        arena.allocateFrom(packed.kinds()),
                        backwards ? 1 : 0);
        if (!wrong.equals(MemorySegment.NULL)) {
          throw new IllegalStateException(
              kernel.name() + ": " + wrong.reinterpret(Long.MAX_VALUE).getString(0));
        }
        copies.forEach((address, copy) -> at(address, copy.byteSize()).copyFrom(copy));
      } catch (RuntimeException | Error e) {
        throw e;
      } catch (Throwable e) {
        throw new AssertionError(e);
      }
    }
  }

  /// Puts tensors right before memory that cannot be touched, up to a place that packs need. What a
  /// table points to stays where it is.
  ///
  /// @return the copies, by the tensors' addresses
  private static Map<Long, MemorySegment> copies(Arguments packed, @Nullable Object... arguments) {
    Map<Long, MemorySegment> copies = new HashMap<>();
    for (int i = 0; i < arguments.length; i++) {
      if (arguments[i] instanceof Tensor tensor) {
        long bytes = tensor.elements() * tensor.type().bytes();
        if (bytes > MOST_COPIED) {
          continue;
        }
        var copy = copies.get(tensor.address());
        if (copy == null) {
          if (copies.size() == EDGES.size()) {
            EDGES.add(new Edge());
          }
          var room = EDGES.get(copies.size()).last(Math.ceilDiv(bytes, PACK_BYTES) * PACK_BYTES);
          copy = room.asSlice(0, bytes).copyFrom(at(tensor.address(), bytes));
          copies.put(tensor.address(), copy);
        }
        packed
            .pointers()
            .getAtIndex(ValueLayout.ADDRESS, i)
            .reinterpret(Long.BYTES)
            .set(ValueLayout.JAVA_LONG, 0, copy.address());
      }
    }
    return copies;
  }

  private static MemorySegment at(long address, long bytes) {
    return MemorySegment.ofAddress(address).reinterpret(bytes);
  }

  private static MethodHandle function(Kernel kernel) {
    if (LIBRARIES.isEmpty()) {
      Arrays.stream(KernelFamily.values())
          .parallel() // a compiler leaves the other cores idle
          .map(family -> Map.entry(family, compiled(family)))
          .toList()
          .forEach(
              each ->
                  LIBRARIES.put(
                      each.getKey(), SymbolLookup.libraryLookup(each.getValue(), Arena.global())));
    }
    var library = Objects.requireNonNull(LIBRARIES.get(kernel.family()));
    return Linker.nativeLinker()
        .downcallHandle(library.findOrThrow("emulate_" + kernel.name()), FORM);
  }

  /// The library of a family, which stays below `target` until the text changes.
  private static Path compiled(KernelFamily family) {
    try {
      String text = text(family);
      Path folder = Files.createDirectories(Path.of("target", "emulated-kernels"));
      String name =
          family.word() + "-" + Sha256.hex((COMPILE + text).getBytes(StandardCharsets.UTF_8));
      Path library = folder.resolve(name + ".so").toAbsolutePath();
      if (!Files.exists(library)) {
        Path source = Files.createTempFile(folder, family.word(), ".cpp");
        Path made = Files.createTempFile(folder, family.word(), ".so");
        Files.writeString(source, text);
        var command = new ArrayList<>(COMPILE);
        command.addAll(List.of("-o", made.toString(), source.toString()));
        var process = new ProcessBuilder(command).redirectErrorStream(true).start();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (process.waitFor() != 0) {
          throw new AssertionError(said);
        }
        Files.delete(source);
        Files.move(made, library, StandardCopyOption.ATOMIC_MOVE);
      }
      return library;
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  private static String text(KernelFamily family) throws IOException {
    try (var in = EmulatedLauncher.class.getResourceAsStream("emulation.h")) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8)
          + family.source()
          + family.kernels().stream().map("EMULATE(%s)\n"::formatted).collect(Collectors.joining());
    }
  }
}
