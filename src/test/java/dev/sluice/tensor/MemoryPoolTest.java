package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.operations.Precision;
import java.lang.foreign.ValueLayout;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import org.junit.jupiter.api.Test;

class MemoryPoolTest {
  private static final long MEGABYTE = 1 << 20;

  /// Beyond what the pool leaves to libtorch, and odd.
  private static final int ELEMENTS = 100_003;

  private static Tensor tensor(long elements) {
    return Tensor.uninitialized(
        Tensor.zeros(ElementType.FLOAT32, 1), ElementType.FLOAT32, elements);
  }

  /// Where the memory of a tensor is that is gone again.
  private static long passing(long elements) {
    try (var _ = Scope.open()) {
      return tensor(elements).memory().address();
    }
  }

  /// A tensor that the caller closes.
  private static Tensor lasting(long elements) {
    try (var scope = Scope.open()) {
      return scope.keep(tensor(elements));
    }
  }

  @Test
  void memoryIsUsedAgain() {
    long address = passing(ELEMENTS);
    for (int i = 0; i < 10; i++) {
      assertEquals(address, passing(ELEMENTS));
    }
  }

  @Test
  void memoryStartsAtAPageAndIsAllThere() {
    try (var _ = Scope.open()) {
      var tensor = tensor(3 * ELEMENTS);
      assertEquals(0, tensor.memory().address() % 4096);
      tensor.fill(7);
      assertEquals(7.0 * 3 * ELEMENTS, tensor.to(ElementType.FLOAT64).sum().item());
    }
  }

  /// In whatever order neighbours are given back, what they leave is one hole.
  @Test
  void neighbouringHolesBecomeOne() {
    long large = 64 * MEGABYTE; // elements: no hole of another test's is as large
    long address = passing(3 * large);
    for (var order :
        List.of(List.of(0, 1, 2), List.of(2, 1, 0), List.of(0, 2, 1), List.of(1, 0, 2))) {
      var neighbours = List.of(lasting(large), lasting(large), lasting(large));
      order.forEach(i -> neighbours.get(i).close());
      assertEquals(address, passing(3 * large), order::toString);
    }
  }

  @Test
  void tensorsDoNotOverlap() {
    var random = new Random(1);
    var live = new ArrayList<Tensor>();
    var marks = new ArrayList<Integer>();
    for (int i = 0; i < 2000; i++) {
      if (live.size() < 40 && random.nextInt(5) < 3) {
        var tensor = lasting(ELEMENTS + random.nextInt(3 * ELEMENTS));
        live.add(tensor);
        marks.add(i);
        tensor.memory().setAtIndex(ValueLayout.JAVA_INT, 0, i);
        tensor.memory().setAtIndex(ValueLayout.JAVA_INT, tensor.elements() - 1, i);
      } else if (!live.isEmpty()) {
        int which = random.nextInt(live.size());
        int mark = marks.remove(which);
        try (var tensor = live.remove(which)) {
          assertEquals(mark, tensor.memory().getAtIndex(ValueLayout.JAVA_INT, 0));
          assertEquals(
              mark, tensor.memory().getAtIndex(ValueLayout.JAVA_INT, tensor.elements() - 1));
        }
      }
    }
    live.forEach(Tensor::close);
  }

  /// Activations go in the reverse order of their coming, while gradients of other sizes come. What
  /// is never written to takes no memory, so that large tensors cost nothing here.
  @Test
  void stepsAskForNoMoreMemoryThanTheFirst() {
    long before = MemoryPool.mapped();
    long most = 0;
    for (int step = 0; step < 5; step++) {
      var activations = new ArrayDeque<Tensor>();
      long bytes = 0;
      for (int layer = 0; layer < 48; layer++) {
        for (long width : new long[] {768, 1792, 768, 1792, 256}) {
          activations.push(lasting(4096 * width));
          bytes += 4 * 4096 * width;
        }
      }
      most = Math.max(most, bytes);
      var gradients = new ArrayList<Tensor>();
      while (!activations.isEmpty()) {
        activations.pop().close();
        gradients.add(lasting(768 * (activations.size() % 2 == 0 ? 1792 : 768)));
      }
      gradients.forEach(Tensor::close);
    }
    long mapped = MemoryPool.mapped() - before;
    // regions of a gigabyte: the last is not full, and each ends with less than a tensor
    long bound = most + 1024 * MEGABYTE + most / 32;
    assertTrue(mapped <= bound, () -> mapped / MEGABYTE + " MB are mapped");
  }

  /// All of the sizes together are many times the largest.
  @Test
  void smallerTensorsFitWhereALargerOneWas() {
    long most = 128 * MEGABYTE; // elements
    passing(most);
    long mapped = MemoryPool.mapped();
    for (int i = 1; i < 40; i++) {
      passing(most * (100 - 2 * i) / 100);
      assertEquals(mapped, MemoryPool.mapped());
    }
  }

  @Test
  void memoryInUseIsNotGivenTwice() {
    try (var _ = Scope.open()) {
      Tensor view;
      try (var inner = Scope.open()) {
        view = inner.keep(tensor(ELEMENTS).fill(3).narrow(0, 17, 65));
      }
      for (int i = 0; i < 4; i++) {
        tensor(ELEMENTS).fill(5);
      }
      float[] expected = new float[65];
      Arrays.fill(expected, 3);
      assertArrayEquals(expected, view.floats());
    }
  }

  /// A graph holds what its backward pass reads, libtorch's own and that of fused operations.
  @Test
  void memoryThatAGraphHoldsIsNotGivenTwice() {
    try (var _ = Scope.open()) {
      var factor = Tensor.of(new float[] {1}, 1).requireGradient(true);
      var weight = Tensor.of(new float[] {1}, 1, 1).requireGradient(true);
      Tensor product;
      Tensor linear;
      try (var inner = Scope.open()) {
        product = inner.keep(tensor(ELEMENTS).fill(3).times(factor).sum());
        var x = tensor(ELEMENTS).fill(2).reshape(ELEMENTS, 1);
        linear = inner.keep(Precision.FLOAT32.linear(x, new Weight("w", weight)));
      }
      for (int i = 0; i < 6; i++) {
        tensor(ELEMENTS).fill(Double.NaN);
      }
      product.backward();
      linear.sum().backward();
      // float32 sums of a hundred thousand equal numbers
      assertEquals(3.0 * ELEMENTS, Objects.requireNonNull(factor.gradient()).item(), 1);
      assertEquals(2.0 * ELEMENTS, Objects.requireNonNull(weight.gradient()).item(), 1);
    }
  }

  @Test
  void beyondAllMemory() {
    long mapped = MemoryPool.mapped();
    var failure = assertThrows(OutOfMemoryError.class, () -> passing(1L << 48));
    assertTrue(failure.getMessage().contains(String.valueOf(1L << 50)), failure::toString);
    assertEquals(mapped, MemoryPool.mapped());
    assertThrows(ArithmeticException.class, () -> passing(1L << 62));
    assertEquals(passing(ELEMENTS), passing(ELEMENTS));
  }
}
