package dev.sluice.serving;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileTime;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FilesInPlaceTest {
  @TempDir Path directory;

  @Test
  void whatIsWrittenOverIsNoticed() throws IOException {
    Path weights = Files.write(directory.resolve("model.safetensors"), new byte[10_000]);
    Files.createSymbolicLink(directory.resolve("other.safetensors"), directory.resolve("gone"));
    var files = FilesInPlace.of(directory);
    files.requireUnchanged();
    Path adapter = directory.resolve("adapter_model.safetensors"); // which is not read
    Files.write(Files.write(adapter, new byte[10]), new byte[20]);
    Files.setLastModifiedTime(weights, FileTime.fromMillis(0)); // a touch is no change
    files.requireUnchanged();
    byte[] others = new byte[10_000];
    others[9_999] = 1;
    Files.write(weights, others);
    var refusal = assertThrows(RefusedException.class, files::requireUnchanged);
    assertEquals(0, refusal.retrySeconds());
    assertEquals(
        "model.safetensors was written over while the model runs; begin anew",
        refusal.getMessage());
    Files.write(weights, new byte[0]);
    assertThrows(RefusedException.class, files::requireUnchanged);
  }

  @Test
  void whatTakesItsPlaceIsNotIt() throws IOException {
    Path weights = Files.write(directory.resolve("model.safetensors"), new byte[10_000]);
    var files = FilesInPlace.of(directory);
    Path other = Files.write(directory.resolve("other"), new byte[20_000]);
    Files.move(other, weights, StandardCopyOption.REPLACE_EXISTING);
    files.requireUnchanged();
    Files.delete(weights);
    files.requireUnchanged();
  }
}
