package dev.sluice.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ModelSourceTest {
  @TempDir Path directory;

  /// Images and archives give all files one time, and models of one shape have one size.
  @Test
  void otherWeightsAreAnotherModelThoughTheirFileLooksTheSame() throws IOException {
    Files.writeString(directory.resolve("config.json"), "{}");
    var weights = new byte[3_000_001];
    new Random(1).nextBytes(weights);
    String first = fingerprint(weights);
    assertEquals(first, fingerprint(weights));
    var others = new byte[weights.length];
    new Random(2).nextBytes(others);
    assertNotEquals(first, fingerprint(others));
    weights[weights.length - 1]++;
    assertNotEquals(first, fingerprint(weights));
    Files.writeString(directory.resolve("config.json"), "{ }");
    weights[weights.length - 1]--;
    assertNotEquals(first, fingerprint(weights));
  }

  /// What Sluice saved is known by its content alone.
  @Test
  void aCopyOfACheckpointIsTheSameModel() throws IOException {
    Files.writeString(directory.resolve("config.json"), "{}");
    Path file = Files.write(directory.resolve("model.safetensors"), new byte[100]);
    Path moments = Files.write(directory.resolve("optimizer.safetensors"), new byte[100]);
    var source = new ModelSource(directory, null);
    String before = source.weightsFingerprint();
    Files.setLastModifiedTime(file, FileTime.fromMillis(0));
    assertNotEquals(before, source.weightsFingerprint());
    Files.writeString(directory.resolve("SHA256SUMS"), "");
    String summed = source.weightsFingerprint();
    Files.setLastModifiedTime(file, FileTime.fromMillis(1));
    Files.write(moments, new byte[101]);
    assertEquals(summed, source.weightsFingerprint());
  }

  private String fingerprint(byte[] weights) throws IOException {
    Path file = Files.write(directory.resolve("model.safetensors"), weights);
    Files.setLastModifiedTime(file, FileTime.fromMillis(0));
    return new ModelSource(directory, null).weightsFingerprint();
  }
}
