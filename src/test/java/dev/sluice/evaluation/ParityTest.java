package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tensor.Device;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Sluice equals the reference implementations on their own checkpoints.
class ParityTest {
  private static final Path GOLDEN = Path.of("../shared/golden");

  @ParameterizedTest
  @ValueSource(
      strings = {"paper-baseline", "paper-headwise", "paper-elementwise", "qwen3", "qwen3-yarn"})
  void equalsTheReference(String name) {
    assertTrue(Files.isDirectory(GOLDEN), "the golden checkpoints are missing: " + GOLDEN);
    var result = Parity.check(GOLDEN.resolve(name), 2e-4, Device.CPU);
    result.lines().forEach(line -> System.out.println(name + " " + line));
    assertTrue(result.passed(), result.lines()::toString);
  }
}
