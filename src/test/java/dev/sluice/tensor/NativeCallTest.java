package dev.sluice.tensor;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

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
}
