package dev.sluice.evaluation;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.fuzz.Fuzz;
import dev.sluice.tensor.Device;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// A reference's answers, broken: refused, or compared.
class ParityFuzzTest {
  private static final Path SAVED = Path.of("src/test/resources/golden/saved-by-sluice");

  @TempDir private Path directory;

  private Path copy(String... files) throws IOException {
    for (String file : files) {
      Files.copy(SAVED.resolve(file), directory.resolve(file));
    }
    return directory;
  }

  @Test
  void headersOfAnswers() throws IOException {
    Path folder = copy("config.json", "model.safetensors");
    byte[] good = Files.readAllBytes(SAVED.resolve("golden.safetensors"));
    int length = Math.toIntExact(ByteBuffer.wrap(good).order(ByteOrder.LITTLE_ENDIAN).getLong());
    byte[] header = Arrays.copyOfRange(good, 8, 8 + length);
    var outcome =
        Fuzz.run(
            "golden-header",
            mutations -> {
              byte[] changed = mutations.jsonFile(header);
              var all = ByteBuffer.allocate(8 + changed.length + good.length - 8 - length);
              return all.order(ByteOrder.LITTLE_ENDIAN)
                  .putLong(changed.length)
                  .put(changed)
                  .put(good, 8 + length, good.length - 8 - length)
                  .array();
            },
            input -> {
              Files.write(folder.resolve("golden.safetensors"), input);
              var _ = Parity.check(folder, 2e-5, Device.CPU);
            });
    assertTrue(outcome.refused() > Fuzz.inputs() / 4, outcome::toString);
  }

  @Test
  void trainings() throws IOException {
    Path file = directory.resolve("training.json");
    byte[] good = Files.readAllBytes(SAVED.resolve("training.json"));
    var outcome =
        Fuzz.run(
            "golden-training",
            mutations -> mutations.jsonFile(good),
            input -> {
              Files.write(file, input);
              var _ = ReferenceTraining.read(file);
            });
    assertTrue(outcome.refused() > Fuzz.inputs() / 4, outcome::toString);
  }
}
