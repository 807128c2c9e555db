package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Objects;
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

  @Test
  void memoryIsUsedAgainForTheSameSize() {
    long address = passing(ELEMENTS);
    long held = MemoryPool.held();
    for (int i = 0; i < 10; i++) {
      assertEquals(address, passing(ELEMENTS));
      assertEquals(address, passing(ELEMENTS - ELEMENTS / 10)); // a little smaller
    }
    assertEquals(held, MemoryPool.held());
  }

  @Test
  void memoryStartsAtAHugePageAndIsAllThere() {
    try (var _ = Scope.open()) {
      var tensor = tensor(3 * ELEMENTS);
      assertEquals(0, tensor.memory().address() % (2 * MEGABYTE));
      tensor.fill(7);
      assertEquals(7.0 * 3 * ELEMENTS, tensor.to(ElementType.FLOAT64).sum().item());
    }
  }

  @Test
  void muchSmallerTensorsDoNotTakeIt() {
    long address = passing(ELEMENTS);
    try (var _ = Scope.open()) {
      assertNotEquals(address, tensor(ELEMENTS * 3 / 4).memory().address());
      assertNotEquals(address, tensor(ELEMENTS + 1).memory().address());
      assertEquals(address, tensor(ELEMENTS).memory().address());
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
        linear = inner.keep(Linear.apply(x, List.of(weight), ElementType.FLOAT32).getFirst());
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

  /// What is never written to takes no memory, so that large tensors cost nothing here. All of the
  /// sizes together are many times what is held.
  @Test
  void whatIsHeldStaysNearTheMostInUse() {
    long before = MemoryPool.held();
    long most = 512 * MEGABYTE; // more than all other tests use at a time
    passing(most / 4);
    for (int i = 1; i < 40; i++) {
      passing(most / 4 * (100 - 2 * i) / 100);
      long held = MemoryPool.held();
      assertTrue(held <= before + most + 64 * MEGABYTE, () -> held / MEGABYTE + " MB are held");
    }
  }

  @Test
  void beyondAllMemory() {
    long held = MemoryPool.held();
    var failure = assertThrows(OutOfMemoryError.class, () -> passing(1L << 48));
    assertTrue(failure.getMessage().contains(String.valueOf(1L << 50)), failure::toString);
    assertTrue(MemoryPool.held() <= held);
    assertThrows(ArithmeticException.class, () -> passing(1L << 62));
    assertEquals(passing(ELEMENTS), passing(ELEMENTS));
  }
}
