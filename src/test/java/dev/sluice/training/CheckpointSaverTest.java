package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.Test;

class CheckpointSaverTest {
  private static final Path PLACE = Path.of("step-00000001");

  /// A disk that takes for ever does not hold up who began the save.
  @Test
  void goesOnWhileItWrites() throws Exception {
    var writing = new CountDownLatch(1);
    var disk = new CountDownLatch(1);
    try (var saver = new CheckpointSaver()) {
      saver.begin(
          1,
          PLACE,
          0.5,
          () -> {
            writing.countDown();
            try {
              disk.await();
            } catch (InterruptedException e) {
              throw new IOException(e);
            }
          });
      writing.await();
      assertNull(saver.finished());
      assertThrows(IllegalStateException.class, () -> saver.begin(2, PLACE, 0, () -> {}));
      disk.countDown();
      var saved = saver.await();
      assertNotNull(saved);
      assertEquals(1, saved.step());
      assertEquals(0.5, saved.pauseSeconds());
      assertNull(saved.failure());
      assertNull(saver.await());
    }
  }

  @Test
  void tellsWhyASaveFailedAndTakesTheNext() {
    try (var saver = new CheckpointSaver()) {
      var full = new IOException("no space left");
      saver.begin(
          1,
          PLACE,
          0,
          () -> {
            throw full;
          });
      assertSame(full, saver.await().failure());
      saver.begin(2, PLACE, 0, () -> {});
      assertNull(saver.await().failure());
    }
  }

  @Test
  void aDefectIsNotTakenForAFullDisk() {
    try (var saver = new CheckpointSaver()) {
      saver.begin(
          1,
          PLACE,
          0,
          () -> {
            throw new IllegalStateException("defect");
          });
      assertThrows(IllegalStateException.class, saver::await);
    }
  }
}
