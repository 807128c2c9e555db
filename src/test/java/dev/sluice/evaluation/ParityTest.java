package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.tensor.Device;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Sluice equals the reference implementations on their own checkpoints.
class ParityTest {

  @ParameterizedTest
  @ValueSource(
      strings = {"paper-baseline", "paper-headwise", "paper-elementwise", "qwen3", "qwen3-yarn"})
  void equalsTheReference(String name) {
    var result = Parity.check(TestData.GOLDEN.resolve(name), 2e-4, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  /// The reference loads what Sluice saves: its answers for a checkpoint that Sluice trained and
  /// saved.
  @Test
  void theReferenceLoadsWhatSluiceSaves() {
    var result = Parity.check(TestData.GOLDEN.resolve("saved-by-sluice"), 2e-5, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  @Test
  void aWrongAnswerIsFound(@TempDir Path copy) throws Exception {
    Path original = TestData.GOLDEN.resolve("saved-by-sluice");
    for (String file : new String[] {"config.json", "model.safetensors", "golden.safetensors"}) {
      Files.copy(original.resolve(file), copy.resolve(file));
    }
    String config = Files.readString(copy.resolve("config.json"));
    Files.writeString(
        copy.resolve("config.json"),
        config.replace("\"rope_theta\" : 10000.0", "\"rope_theta\" : 9000.0"));
    assertFalse(Parity.check(copy, 2e-5, Device.CPU).passed());
  }
}
