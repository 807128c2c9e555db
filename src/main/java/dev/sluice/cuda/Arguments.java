package dev.sluice.cuda;

import dev.sluice.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import org.jspecify.annotations.Nullable;

/// A kernel's arguments in memory.
///
/// @param pointers to each of them, one after the other
/// @param kinds a letter for each: pointer, int, long, float or double
record Arguments(MemorySegment pointers, String kinds) {
  static Arguments of(Arena arena, @Nullable Object... arguments) {
    var pointers = arena.allocate(ValueLayout.ADDRESS, Math.max(1, arguments.length));
    var kinds = new StringBuilder();
    for (int i = 0; i < arguments.length; i++) {
      var memory = arena.allocate(ValueLayout.JAVA_LONG);
      pointers.setAtIndex(ValueLayout.ADDRESS, i, memory);
      switch (arguments[i]) {
        case null -> kinds.append('p'); // fresh memory is zero
        case Tensor tensor -> {
          memory.set(ValueLayout.JAVA_LONG, 0, tensor.address());
          kinds.append('p');
        }
        case Integer number -> {
          memory.set(ValueLayout.JAVA_INT, 0, number);
          kinds.append('i');
        }
        case Long number -> {
          memory.set(ValueLayout.JAVA_LONG, 0, number);
          kinds.append('l');
        }
        case Float number -> {
          memory.set(ValueLayout.JAVA_FLOAT, 0, number);
          kinds.append('f');
        }
        case Double number -> {
          memory.set(ValueLayout.JAVA_DOUBLE, 0, number);
          kinds.append('d');
        }
        case Object other ->
            throw new IllegalArgumentException("a kernel takes no " + other.getClass());
      }
    }
    return new Arguments(pointers, kinds.toString());
  }
}
