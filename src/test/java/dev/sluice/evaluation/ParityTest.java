package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.tensor.Device;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
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

  /// What people bring: `transformers`' answers for configurations that leave keys out or
  /// contradict themselves, wrapped names, fused experts, tied models with heads of their own.
  @ParameterizedTest
  @MethodSource
  void equalsTransformers(Path checkpoint) {
    var result = Parity.check(checkpoint, 2e-5, Device.CPU);
    assertTrue(result.passed(), result.lines()::toString);
  }

  static List<Path> equalsTransformers() throws IOException {
    try (var folders = Files.list(Path.of("src/test/resources/checkpoints"))) {
      return folders.sorted().toList();
    }
  }

  @Test
  void whatHasToBeKnownIsTold() {
    var result =
        Parity.check(
            Path.of("src/test/resources/checkpoints/tied-but-different"), 2e-5, Device.CPU);
    assertEquals(1, result.notes().size());
    assertTrue(result.notes().getFirst().contains("tie_word_embeddings is true, but"));
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
