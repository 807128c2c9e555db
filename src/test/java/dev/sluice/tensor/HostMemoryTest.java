package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

/// Tensors in memory of our own, beside those of libtorch with the same elements.
class HostMemoryTest {
  private static final long[] SHAPE = {3, 1, 4, 5};

  private static float[] counting(long... shape) {
    int count = 1;
    for (long length : shape) {
      count *= (int) length;
    }
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = i + 0.5f;
    }
    return values;
  }

  private static Tensor host(long... shape) {
    var made = Tensor.inHostMemory(ElementType.FLOAT32, shape);
    float[] values = counting(shape);
    for (int i = 0; i < values.length; i++) {
      made.memory().setAtIndex(ValueLayout.JAVA_FLOAT, i, values[i]);
    }
    return made;
  }

  private static Tensor libtorch(long... shape) {
    Libtorch.load();
    return Tensor.of(counting(shape), shape);
  }

  /// The same shape, strides and elements, read by strides and through libtorch.
  private static void assertSame(Tensor expected, Tensor actual) {
    assertArrayEquals(expected.shape(), actual.shape());
    for (int i = 0; i < expected.shape().length; i++) {
      if (expected.size(i) > 1 && expected.elements() > 0) {
        assertEquals(expected.stride(i), actual.stride(i), "stride " + i);
      }
    }
    if (expected.elements() > 0) {
      assertArrayEquals(
          expected.spanned().memory().toArray(ValueLayout.JAVA_FLOAT),
          actual.spanned().memory().toArray(ValueLayout.JAVA_FLOAT));
    }
    assertArrayEquals(expected.times(2).floats(), actual.times(2).floats());
  }

  @Test
  void viewsAreThoseOfLibtorch() {
    List<UnaryOperator<Tensor>> views =
        List.of(
            x -> x,
            x -> x.narrow(0, 1, 2),
            x -> x.narrow(-1, 2, 3),
            x -> x.narrow(2, 4, 0),
            x -> x.transpose(0, -1),
            x -> x.transpose(1, 2).narrow(1, 1, 2),
            x -> x.reshape(12, -1),
            x -> x.reshape(60),
            x -> x.reshape(3, 2, 2, 5).transpose(1, 2),
            x -> x.narrow(0, 2, 1).reshape(4, 5).narrow(1, 1, 3),
            x -> x.narrow(2, 1, 2).reshape(-1), // not contiguous: a copy
            x -> x.transpose(2, 3).contiguous(),
            Tensor::detach,
            Tensor::unlinked,
            x -> x.plus(1),
            x -> Tensor.concatenate(List.of(x, x.narrow(0, 0, 1)), 0),
            x -> Tensor.concatenate(List.of(x, x.narrow(2, 1, 3)), 2),
            x -> Tensor.concatenate(List.of(x.narrow(2, 3, 1), x), 2));
    for (var view : views) {
      try (var _ = Scope.withoutGradient()) {
        assertSame(view.apply(libtorch(SHAPE)), view.apply(host(SHAPE)));
      }
    }
  }

  /// Joined without libtorch, as it is before that is loaded.
  @Test
  void viewsAreJoinedAsLibtorchJoinsThem() {
    var first = HostMemory.View.made(ElementType.FLOAT32, new long[] {2, 3, 4});
    var second = HostMemory.View.made(ElementType.FLOAT32, new long[] {2, 1, 4});
    try (var a = host(2, 3, 4);
        var b = host(2, 1, 4)) {
      var joined =
          HostMemory.View.joined(
              List.of(copy(a, first), copy(b, second), copy(b, second).narrowed(1, 0, 0)), 1);
      assertArrayEquals(
          Tensor.concatenate(List.of(a, b), 1).floats(),
          Objects.requireNonNull(joined).segment().toArray(ValueLayout.JAVA_FLOAT));
    }
  }

  private static HostMemory.View copy(Tensor of, HostMemory.View to) {
    to.segment().copyFrom(of.memory());
    return to;
  }

  @Test
  void whatIsNotThereIsRefused() {
    try (var x = host(2, 3)) {
      assertThrows(IllegalArgumentException.class, () -> x.narrow(0, 1, 2));
      assertThrows(IllegalArgumentException.class, () -> x.narrow(2, 0, 1));
      assertThrows(IllegalArgumentException.class, () -> x.reshape(4));
      assertThrows(IllegalArgumentException.class, () -> x.reshape(4, -1));
      assertThrows(IllegalArgumentException.class, () -> x.transpose(0, 2));
      assertThrows(
          IllegalArgumentException.class, () -> Tensor.inHostMemory(ElementType.FLOAT32, -1));
    }
  }

  /// Views, and what libtorch has of it, keep the memory; the tensor itself is gone.
  @Test
  void memoryStaysAsLongAsAnythingShowsIt() {
    long mapped = MemoryPool.mapped();
    for (int i = 0; i < 3; i++) {
      var x = host(1 << 10, 1 << 9);
      var view = x.narrow(0, 1, 2);
      x.close();
      assertThrows(IllegalStateException.class, x::memory);
      assertThrows(IllegalStateException.class, x::raw);
      assertThrows(IllegalStateException.class, () -> x.narrow(0, 0, 1));
      assertThrows(IllegalStateException.class, x::close);
      assertEquals(512.5f, view.memory().getAtIndex(ValueLayout.JAVA_FLOAT, 0));
      Tensor libtorchs;
      try (var scope = Scope.withoutGradient()) {
        libtorchs = scope.keep(view.narrow(0, 0, 1).times(1));
        libtorchs.close();
        libtorchs = new Tensor(new org.bytedeco.pytorch.Tensor(view.raw())).retain();
      }
      view.close();
      assertEquals(512.5f, libtorchs.floats()[0]);
      libtorchs.close();
    }
    assertTrue(MemoryPool.mapped() - mapped <= 1L << 30, "each time in the same region");
  }

  @Test
  void scopesFreeWhatIsNotKept() {
    Tensor kept;
    Tensor inner;
    Tensor outer;
    try (var all = Scope.open()) {
      try (var scope = Scope.withoutGradient()) {
        inner = host(2);
        kept = scope.keep(host(3));
        outer = scope.keep(host(4));
        inner.plus(outer.narrow(0, 0, 2)); // libtorch takes them while the scopes are open
      }
      assertThrows(IllegalStateException.class, inner::memory);
      all.keep(kept);
      assertEquals(3, kept.plus(0).floats().length);
    }
    assertThrows(IllegalStateException.class, outer::memory);
    assertEquals(0.5f, kept.floats()[0]);
    kept.close();
    assertThrows(IllegalStateException.class, kept::memory);
  }

  @Test
  void gradientsAreThoseOfLibtorchsTensors() {
    float[][] found = new float[2][];
    for (int i = 0; i < 2; i++) {
      try (var leaf = i == 0 ? host(3, 4) : libtorch(3, 4);
          var _ = Scope.withGradient()) {
        assertFalse(leaf.requiresGradient());
        leaf.requireGradient(true);
        assertTrue(leaf.isPlainLeaf());
        leaf.narrow(0, 1, 2).square().sum().backward();
        found[i] = Objects.requireNonNull(leaf.gradient()).floats();
        leaf.clearGradient();
        assertEquals(null, leaf.gradient());
      }
    }
    assertArrayEquals(found[1], found[0]);
  }

  /// Into views of both kinds, from views of both kinds.
  @Test
  void whatIsCopiedIsWhatLibtorchCopies() {
    List<UnaryOperator<Tensor>> views =
        List.of(x -> x.narrow(2, 1, 2), x -> x.transpose(2, 3).narrow(2, 0, 2), x -> x);
    for (var to : views) {
      for (var from : views) {
        float[][] found = new float[2][];
        for (int i = 0; i < 2; i++) {
          try (var _ = Scope.withoutGradient()) {
            var target = i == 0 ? host(3, 1, 4, 4) : libtorch(3, 1, 4, 4);
            var source = i == 0 ? host(3, 1, 4, 4) : libtorch(3, 1, 4, 4);
            source.scaleInPlace(-1);
            var taken = to.apply(target);
            var given = from.apply(i == 0 ? fresh(source) : source);
            if (!Arrays.equals(taken.shape(), given.shape())) {
              continue;
            }
            taken.copyFrom(given);
            found[i] = target.floats();
          }
        }
        assertArrayEquals(found[1], found[0]);
      }
    }
  }

  /// The same numbers in memory of which libtorch knows nothing.
  private static Tensor fresh(Tensor of) {
    var copy = Tensor.inHostMemory(ElementType.FLOAT32, of.shape());
    copy.memory().copyFrom(of.memory());
    return copy;
  }

  /// By whatever means: a weight's other forms are made anew.
  @Test
  void changesAreCounted() {
    try (var x = host(2, 2);
        var view = x.narrow(0, 1, 1)) {
      long version = x.version();
      view.fill(0);
      assertTrue(x.version() > version);
      version = x.version();
      view.copyFrom(host(1, 2));
      assertTrue(x.version() > version);
      version = x.version();
      x.scaleInPlace(2);
      assertTrue(x.version() > version);
      assertArrayEquals(new float[] {1, 3, 1, 3}, x.floats());
    }
  }
}
