package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.operations.Precision;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ScopeTest {
  private static final float[] VALUES = {1, 2, 3};

  private static Tensor made() {
    return Tensor.of(VALUES, 3);
  }

  /// Every use of a freed tensor's elements throws instead of reading foreign memory; its shape is
  /// remembered.
  private static void assertFreed(Tensor tensor) {
    assertThrows(RuntimeException.class, tensor::floats);
    assertThrows(RuntimeException.class, tensor::memory);
    assertThrows(RuntimeException.class, tensor::spanned);
    assertThrows(RuntimeException.class, () -> tensor.plus(1));
    try (var _ = Scope.open()) {
      assertThrows(RuntimeException.class, () -> made().plus(tensor));
    }
  }

  @Test
  void whatIsNotKeptIsFreed() {
    Tensor tensor;
    try (var _ = Scope.open()) {
      tensor = made();
      assertArrayEquals(VALUES, tensor.floats());
    }
    assertFreed(tensor);
  }

  @Test
  void keepHandsOverToTheEnclosingScope() {
    Tensor kept;
    try (var _ = Scope.open()) {
      try (var inner = Scope.open()) {
        kept = made();
        assertSame(kept, inner.keep(kept));
      }
      assertArrayEquals(VALUES, kept.floats());
    }
    assertFreed(kept);
  }

  @Test
  void keepTwiceAndThroughManyScopes() {
    Tensor kept;
    try (var _ = Scope.open()) {
      try (var middle = Scope.open()) {
        try (var inner = Scope.open()) {
          kept = inner.keep(made());
          inner.keep(kept);
        }
        middle.keep(kept);
      }
      assertArrayEquals(VALUES, kept.floats());
    }
    assertFreed(kept);
  }

  @Test
  void keepWithoutEnclosingScopeGivesToTheCaller() {
    Tensor kept;
    try (var scope = Scope.open()) {
      kept = scope.keep(made());
    }
    assertArrayEquals(VALUES, kept.floats());
    kept.close();
    assertFreed(kept);
  }

  @Test
  void madeOutsideAnyScopeBelongsToTheCaller() {
    var tensor = made();
    assertArrayEquals(VALUES, tensor.floats());
    tensor.close();
    assertFreed(tensor);
  }

  @Test
  void retainedUntilClosed() {
    Tensor retained;
    try (var _ = Scope.open()) {
      retained = made().retain();
      retained.retain();
      retained.close();
    }
    assertArrayEquals(VALUES, retained.floats());
    retained.close();
    assertFreed(retained);
  }

  /// What a graph holds while it lives it must not take away from its owner.
  @Test
  void tensorsOfNoScopeOutliveTheGraph() {
    var x = Tensor.of(new float[] {1, 2, 3}, 1, 3).requireGradient(true);
    var leaf = Tensor.of(new float[] {4, 5, 6}, 1, 3).requireGradient(true);
    var weight = new Weight("w", leaf);
    leaf.close();
    for (int i = 1; i <= 3; i++) {
      try (var _ = Scope.open()) {
        Precision.FLOAT32.linear(x, weight).backward(Tensor.of(new float[] {1}, 1, 1));
        assertArrayEquals(new float[] {4f * i, 5f * i, 6f * i}, x.gradient().floats());
        assertArrayEquals(new float[] {1f * i, 2f * i, 3f * i}, leaf.gradient().floats());
      }
    }
    assertArrayEquals(new float[] {1, 2, 3}, x.floats());
    x.close();
    weight.close();
  }

  /// Outside of scopes each view of a result is closed by itself, in any order; when all are, the
  /// memory is free for the next pass.
  @ParameterizedTest
  @CsvSource({"0,1,2", "2,1,0", "1,0,2", "1,2,0"})
  void viewsOfAResultOfNoScopeAreClosedByThemselves(int first, int second, int third) {
    var x = Tensor.of(new float[100_000], 1, 100_000).fill(2).requireGradient(true);
    var leaf = Tensor.of(new float[] {3}, 1, 1).requireGradient(true);
    var weight = new Weight("w", leaf);
    leaf.close();
    long[] addresses = new long[3];
    for (int pass = 0; pass < addresses.length; pass++) {
      var rows = x.reshape(100_000, 1);
      var y = Precision.FLOAT32.linear(rows, weight);
      var view = y.reshape(1, 100_000);
      var another = view.reshape(10, 10_000);
      addresses[pass] = y.memory().address();
      view.close();
      view = y.reshape(100, 1000);
      var all = List.of(y, view, another);
      all.get(first).close();
      assertThrows(RuntimeException.class, all.get(first)::memory);
      all.get(second).close();
      try (var _ = Scope.open()) { // the last one still leads the gradient to the leaves
        var last = all.get(third).reshape(100_000, 1);
        Precision.FLOAT32
            .linear(last, new Weight("one", Tensor.of(new float[] {1}, 1, 1)))
            .sum()
            .backward();
        assertArrayEquals(new float[] {2 * 100_000}, leaf.gradient().floats());
        assertEquals(3, x.gradient().max().item());
        x.clearGradient();
        leaf.clearGradient();
      }
      all.get(third).close();
      assertThrows(RuntimeException.class, all.get(third)::memory);
      rows.close();
    }
    assertEquals(addresses[1], addresses[2]);
    x.close();
    weight.close();
  }

  @Test
  void scopesCloseInReverseOrder() {
    try (var scopes = new Stack()) {
      var outer = scopes.open();
      var inner = scopes.open();
      assertThrows(IllegalStateException.class, outer::close);
      inner.close();
      assertThrows(IllegalStateException.class, inner::close);
      outer.close();
      assertThrows(IllegalStateException.class, outer::close);
      scopes.forget();
    }
  }

  /// Closes what a failed test leaves open, so that it does not fail the others.
  private static final class Stack implements AutoCloseable {
    private final ArrayList<Scope> scopes = new ArrayList<>();

    Scope open() {
      scopes.add(Scope.open());
      return scopes.getLast();
    }

    void forget() {
      scopes.clear();
    }

    @Override
    public void close() {
      scopes.reversed().forEach(Scope::close);
    }
  }

  @Test
  void anotherThreadCannotCloseAScope() throws InterruptedException {
    var failures = new ArrayList<RuntimeException>();
    try (var scope = Scope.open()) {
      var thread =
          Thread.ofPlatform()
              .start(() -> failures.add(assertThrows(IllegalStateException.class, scope::close)));
      thread.join();
      assertEquals(1, failures.size());
      assertArrayEquals(VALUES, made().floats());
    }
  }

  @Test
  void gradientModeIsRestored() {
    try (var _ = Scope.open()) {
      var leaf = made().requireGradient(true);
      try (var _ = Scope.withoutGradient()) {
        assertFalse(leaf.plus(1).requiresGradient());
        try (var _ = Scope.open()) {
          assertFalse(leaf.plus(1).requiresGradient());
        }
      }
      assertTrue(leaf.plus(1).requiresGradient());
      assertThrows(
          IllegalArgumentException.class,
          () -> {
            try (var _ = Scope.withoutGradient()) {
              throw new IllegalArgumentException();
            }
          });
      assertTrue(leaf.plus(1).requiresGradient());
    }
  }

  @Test
  void viewsKeepTheirMemory() {
    try (var _ = Scope.open()) {
      Tensor view;
      try (var inner = Scope.open()) {
        view = inner.keep(made().narrow(0, 1, 2));
      }
      assertArrayEquals(new float[] {2, 3}, view.floats());
    }
  }

  @Test
  void parametersOutliveScopes() {
    Map<String, Tensor> tensors = new LinkedHashMap<>();
    Parameters parameters;
    try (var _ = Scope.open()) {
      tensors.put("w", made());
      parameters = new Parameters(tensors);
    }
    assertArrayEquals(VALUES, parameters.get("w").floats());
    parameters.close();
    assertFreed(tensors.get("w"));
    assertThrows(IllegalArgumentException.class, () -> parameters.get("w"));
  }

  @Test
  void poisonedMemoryIsNotANumber() {
    try (var _ = Scope.open()) {
      Libtorch.poisonUninitialized(true);
      for (var type : ElementType.values()) {
        if (type.isFloatingPoint()) {
          for (double value : Tensor.uninitialized(made(), type, 7, 9).doubles()) {
            assertTrue(Double.isNaN(value), type::toString);
          }
        }
      }
      var whole = Tensor.uninitialized(made(), ElementType.INT64, 3);
      assertEquals(3, whole.longs().length);
      Libtorch.poisonUninitialized(false);
      assertFalse(Libtorch.poisoned());
    } finally {
      Libtorch.poisonUninitialized(false);
    }
  }

  @Test
  void wrongAmountOfDataIsRefused() {
    try (var _ = Scope.open()) {
      assertThrows(IllegalArgumentException.class, () -> Tensor.of(VALUES, 4));
      assertThrows(IllegalArgumentException.class, () -> Tensor.of(VALUES, 2));
      for (long length : new long[] {2, 4}) {
        var data = MemorySegment.ofArray(VALUES);
        assertThrows(
            IllegalArgumentException.class, () -> Tensor.of(data, ElementType.FLOAT32, length));
      }
      assertArrayEquals(
          VALUES, Tensor.of(MemorySegment.ofArray(VALUES), ElementType.FLOAT32, 3).floats());
    }
  }

  @Test
  void memoryNeedsAContiguousTensor() {
    try (var _ = Scope.open()) {
      var matrix = Tensor.of(new float[6], 2, 3);
      assertThrows(IllegalStateException.class, () -> matrix.transpose(0, 1).memory());
      assertEquals(24, matrix.transpose(0, 1).contiguous().memory().byteSize());
      assertNotEquals(0, matrix.memory().address());
    }
  }
}
