package dev.sluice.cuda;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.ClassPathLibrary;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// A native library of CUDA, found where the system's loader finds it, or on the class path.
@SuppressWarnings("restricted")
final class Library {
  private final String name;
  private final SymbolLookup functions;
  private final boolean fromClassPath;

  private Library(String name, SymbolLookup functions, boolean fromClassPath) {
    this.name = name;
    this.functions = functions;
    this.fromClassPath = fromClassPath;
  }

  /// Loads the first of these files that can be.
  ///
  /// @param wayOut ends the sentence that says that there is none
  static Library load(List<String> files, String wayOut) {
    for (String file : files) {
      var found = onSystem(file);
      if (found != null) {
        return new Library(file, found, false);
      }
    }
    for (String file : files) {
      var path = ClassPathLibrary.of("cuda", file);
      if (path != null) {
        return new Library(file, SymbolLookup.libraryLookup(path, Arena.global()), true);
      }
    }
    throw new InvalidInputException(
        "%s cannot be loaded, neither from the system (ldconfig, LD_LIBRARY_PATH) nor from the class path; %s"
            .formatted(String.join(" or ", files), wayOut));
  }

  private static @Nullable SymbolLookup onSystem(String file) {
    try {
      return SymbolLookup.libraryLookup(file, Arena.global());
    } catch (IllegalArgumentException e) { // how the lookup says that there is none
      return null;
    }
  }

  /// Loads what this library will ask for by name, if it comes from the class path, which no loader
  /// searches; what the system has stands where the system finds it.
  void loadBeside(String file) {
    var path = fromClassPath ? ClassPathLibrary.of("cuda", file) : null;
    if (path != null) {
      SymbolLookup.libraryLookup(path, Arena.global());
    }
  }

  /// A function that gives a status.
  MethodHandle function(String function, MemoryLayout... arguments) {
    var address =
        functions
            .find(function)
            .orElseThrow(
                () ->
                    new InvalidInputException(
                        "%s has no function %s; it is older than Sluice's CUDA kernels need"
                            .formatted(name, function)));
    return Linker.nativeLinker()
        .downcallHandle(address, FunctionDescriptor.of(ValueLayout.JAVA_INT, arguments));
  }
}
