package dev.sluice.tensor;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.pytorch.LongOptional;
import org.bytedeco.pytorch.global.torch.ScalarType;
import org.jspecify.annotations.Nullable;

/// Memory of tensors that were made before libtorch was loaded. libtorch hears of it when the first
/// of its operations takes one of them; a program that runs a model by kernels alone never loads
/// it.
///
/// It is freed when the last tensor over it has been let go, libtorch's own included.
final class HostMemory {
  /// What of it one tensor shows; strides in elements.
  record View(HostMemory memory, long offset, ElementType type, long[] shape, long[] strides) {
    /// All of new memory, with any content.
    static View made(ElementType type, long[] shape) {
      long bytes = type.bytes();
      for (long length : shape) {
        if (length < 0) {
          throw new IllegalArgumentException("no tensor has a dimension of " + length);
        }
        bytes = Math.multiplyExact(bytes, length);
      }
      return new View(new HostMemory(bytes), 0, type, shape.clone(), rowMajor(shape));
    }

    long address() {
      return memory.address + offset;
    }

    /// The elements of a contiguous view.
    MemorySegment segment() {
      return at(address(), elements(shape) * type.bytes());
    }

    @SuppressWarnings("restricted")
    private static MemorySegment at(long address, long bytes) {
      return MemorySegment.ofAddress(address).reinterpret(bytes);
    }

    boolean isContiguous() {
      long expected = 1;
      for (int i = shape.length - 1; i >= 0; i--) {
        if (shape[i] == 0) {
          return true;
        }
        if (shape[i] != 1 && strides[i] != expected) {
          return false;
        }
        expected *= shape[i];
      }
      return true;
    }

    /// This contiguous view's elements in another shape, of which one length may be −1.
    View reshaped(long... wanted) {
      long[] lengths = wanted.clone();
      long elements = elements(shape);
      long known = 1;
      int open = -1;
      for (int i = 0; i < lengths.length; i++) {
        if (lengths[i] == -1 && open < 0) {
          open = i;
        } else {
          known *= lengths[i];
        }
      }
      if (open >= 0 && known > 0) {
        lengths[open] = elements / known;
        known *= lengths[open];
      }
      if (known != elements || (open >= 0 && lengths[open] == -1)) {
        throw new IllegalArgumentException(
            "%d elements do not have the shape %s".formatted(elements, Arrays.toString(wanted)));
      }
      return new View(memory, offset, type, lengths, rowMajor(lengths));
    }

    View transposed(int first, int second) {
      int a = dimension(first);
      int b = dimension(second);
      long[] lengths = shape.clone();
      long[] steps = strides.clone();
      lengths[a] = shape[b];
      lengths[b] = shape[a];
      steps[a] = strides[b];
      steps[b] = strides[a];
      return new View(memory, offset, type, lengths, steps);
    }

    View narrowed(int dimension, long start, long length) {
      int at = dimension(dimension);
      if (start < 0 || length < 0 || start > shape[at] - length) {
        throw new IllegalArgumentException(
            "elements %d … %d of a dimension of %d".formatted(start, start + length, shape[at]));
      }
      long[] lengths = shape.clone();
      lengths[at] = length;
      return new View(memory, offset + start * strides[at] * type.bytes(), type, lengths, strides);
    }

    /// New memory with contiguous views one after the other along a dimension.
    ///
    /// @return null where they are not contiguous or not of one type
    static @Nullable View joined(List<View> parts, int dimension) {
      var first = parts.getFirst();
      int at = first.dimension(dimension);
      long[] lengths = first.shape.clone();
      lengths[at] = 0;
      for (var part : parts) {
        long[] others = part.shape.clone();
        if (!part.isContiguous() || part.type != first.type || others.length != lengths.length) {
          return null;
        }
        lengths[at] += others[at];
        others[at] = lengths[at];
        if (!Arrays.equals(others, lengths)) {
          throw new IllegalArgumentException(
              "no tensor of %s and %s".formatted(Arrays.toString(first.shape), part));
        }
      }
      var joined = made(first.type, lengths);
      long whole = runBytes(joined, at);
      long before = 0;
      for (var part : parts) {
        long run = runBytes(part, at);
        for (long i = 0; run > 0 && i < joined.segment().byteSize() / whole; i++) {
          MemorySegment.copy(part.segment(), i * run, joined.segment(), i * whole + before, run);
        }
        before += run;
      }
      return joined;
    }

    /// Bytes of all that stands together when the dimensions before this one are fixed.
    private static long runBytes(View view, int dimension) {
      long run = view.type.bytes();
      for (int i = dimension; i < view.shape.length; i++) {
        run *= view.shape[i];
      }
      return run;
    }

    /// The same elements one after the other, in new memory.
    View packed() {
      var packed = made(type, shape);
      packed.take(this);
      return packed;
    }

    /// Whether elements of another view can be brought here as they are.
    boolean takes(View other) {
      return type == other.type && Arrays.equals(shape, other.shape);
    }

    /// Copies the elements of another view that this [#takes].
    void take(View other) {
      copy(other, other.address(), this, address(), 0);
    }

    /// Copies what is left when the dimensions before one are fixed.
    private static void copy(View from, long source, View to, long target, int dimension) {
      int width = to.type.bytes();
      int left = to.shape.length - dimension;
      if (left == 0 || (left == 1 && from.strides[dimension] == 1 && to.strides[dimension] == 1)) {
        long bytes = left == 0 ? width : to.shape[dimension] * width;
        at(target, bytes).copyFrom(at(source, bytes));
        return;
      }
      for (long i = 0; i < to.shape[dimension]; i++) {
        long read = source + i * from.strides[dimension] * width;
        copy(from, read, to, target + i * to.strides[dimension] * width, dimension + 1);
      }
    }

    private int dimension(int dimension) {
      int at = dimension < 0 ? dimension + shape.length : dimension;
      if (at < 0 || at >= shape.length) {
        throw new IllegalArgumentException(
            "no dimension %d of %d".formatted(dimension, shape.length));
      }
      return at;
    }

    /// The same elements as a tensor of libtorch, which is not a view to it.
    org.bytedeco.pytorch.Tensor toLibtorch() {
      return memory
          .whole()
          .view(Tensor.scalarType(type))
          .as_strided(shape, strides, new LongOptional(offset / type.bytes()))
          .variable_data();
    }

    private static long elements(long[] shape) {
      long elements = 1;
      for (long length : shape) {
        elements *= length;
      }
      return elements;
    }

    private static long[] rowMajor(long[] shape) {
      long[] strides = new long[shape.length];
      long stride = 1;
      for (int i = shape.length - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= Math.max(1, shape[i]);
      }
      return strides;
    }
  }

  /// A multiple of every element's width.
  private static final long GRAIN = 64;

  private final long address;
  private final long bytes;

  // guarded by this
  private int views;
  private long changes;
  private org.bytedeco.pytorch.@Nullable Tensor whole;

  private HostMemory(long bytes) {
    this.bytes = Math.ceilDiv(Math.max(bytes, 1), GRAIN) * GRAIN;
    this.address = MemoryPool.take(this.bytes);
  }

  /// All of it as bytes to libtorch, which frees it from then on.
  private synchronized org.bytedeco.pytorch.Tensor whole() {
    var known = whole;
    if (known == null) {
      known = MemoryPool.tensorOver(address, new long[] {bytes}, ScalarType.Byte);
      known.retainReference();
      whole = known;
    }
    return known;
  }

  /// Counts what was written to it past libtorch.
  synchronized void changed() {
    changes++;
  }

  /// How often [#changed] was called.
  synchronized long changes() {
    return changes;
  }

  /// Counts a tensor that shows some of it.
  synchronized void hold() {
    views++;
  }

  /// Counts one that is no longer used.
  synchronized void letGo() {
    views--;
    if (views == 0) {
      if (whole == null) {
        MemoryPool.takeBack(address);
      } else {
        whole.releaseReference();
      }
    }
  }
}
