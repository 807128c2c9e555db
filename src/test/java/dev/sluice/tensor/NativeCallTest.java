package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.io.IOException;
import org.bytedeco.pytorch.LongVector;
import org.junit.jupiter.api.Test;

class NativeCallTest {
  @Test
  void aFailureNamesItsCallAndAnErrorStaysWhatItIs() {
    var cause = new IllegalArgumentException("status 3");
    var failed = NativeCall.failed("mmap", cause);
    assertEquals("mmap failed: status 3", failed.getMessage());
    assertSame(cause, failed.getCause());
    var error = new OutOfMemoryError("none left");
    assertSame(error, assertThrows(OutOfMemoryError.class, () -> NativeCall.failed("mmap", error)));
  }

  /// Real failures, so that a libtorch with other words is noticed.
  @Test
  void realFailuresForLackOfMemoryAreSeen() {
    var libtorchs =
        assertThrows(RuntimeException.class, () -> Tensor.zeros(ElementType.FLOAT32, 1L << 50));
    assertTrue(NativeCall.ranOutOfMemory(libtorchs), libtorchs::toString);
    assertTrue(NativeCall.isNative(libtorchs));
    var standardLibrarys = assertThrows(RuntimeException.class, () -> new LongVector(1L << 56));
    assertTrue(NativeCall.ranOutOfMemory(standardLibrarys), standardLibrarys::toString);
    try (var _ = Scope.open()) {
      var like = Tensor.zeros(ElementType.FLOAT32, 1);
      var pools =
          assertThrows(
              OutOfMemoryError.class,
              () -> Tensor.uninitialized(like, ElementType.FLOAT32, 1L << 50));
      assertTrue(NativeCall.ranOutOfMemory(pools));
    }
  }

  /// libtorch puts a list of its calls behind its words.
  @Test
  void theWordsOfAFailureAreOneLine() {
    try (var _ = Scope.open()) {
      var shapes =
          assertThrows(
              RuntimeException.class,
              () ->
                  Tensor.zeros(ElementType.FLOAT32, 2).plus(Tensor.zeros(ElementType.FLOAT32, 3)));
      assertTrue(String.valueOf(shapes.getMessage()).lines().count() > 1, shapes::toString);
      assertTrue(NativeCall.words(shapes).contains("must match the size"), shapes::toString);
      assertEquals(1, NativeCall.words(shapes).lines().count());
    }
    assertEquals("null", NativeCall.words(new RuntimeException((String) null)));
  }

  @Test
  void otherFailuresAreNotForLackOfMemory() {
    try (var _ = Scope.open()) {
      var shapes =
          assertThrows(
              RuntimeException.class,
              () ->
                  Tensor.zeros(ElementType.FLOAT32, 2).plus(Tensor.zeros(ElementType.FLOAT32, 3)));
      assertTrue(NativeCall.isNative(shapes), shapes::toString);
      assertFalse(NativeCall.ranOutOfMemory(shapes));
    }
    for (String words :
        new String[] {"can't allocate memory", "CUDA out of memory", "std::bad_alloc", ""}) {
      assertFalse(NativeCall.ranOutOfMemory(new InvalidInputException("no field " + words)));
      assertFalse(NativeCall.ranOutOfMemory(new RuntimeException(words)));
      assertFalse(NativeCall.ranOutOfMemory(new IOException(words)));
    }
    assertFalse(NativeCall.ranOutOfMemory(new RuntimeException((String) null)));
  }
}
