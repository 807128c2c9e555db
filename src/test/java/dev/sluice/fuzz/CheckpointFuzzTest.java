package dev.sluice.fuzz;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.TestData;
import dev.sluice.attention.RopeScaling;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.checkpoint.SafetensorsDirectory;
import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.checkpoint.SafetensorsWriter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// The files of a checkpoint that comes from elsewhere.
class CheckpointFuzzTest {
  private static final DecoderConfig TINY =
      DecoderConfig.uniform(
          32,
          8,
          8,
          2,
          2,
          1,
          4,
          64,
          1e4,
          new RopeScaling.None(),
          1e-6,
          true,
          false,
          0.02,
          List.of(Gate.SDPA_HEADWISE));

  @TempDir Path directory;
  private Path model;

  @BeforeEach
  void write() throws IOException {
    model = Files.createDirectory(directory.resolve("model"));
    try (var decoder = Decoder.initialize(TINY, Precision.FLOAT32, Device.CPU, 1)) {
      ModelDirectory.write(model, decoder);
    }
  }

  private void load() {
    ModelDirectory.load(model, Precision.FLOAT32, Device.CPU, false).close();
  }

  /// Most bytes of a small file are its header; half of the changes leave its length right.
  private static byte[] safetensors(Mutations mutations, byte[] good) {
    long length = ByteBuffer.wrap(good).order(ByteOrder.LITTLE_ENDIAN).getLong();
    int headerEnd = Math.toIntExact(8 + length);
    if (mutations.below(3) == 0) {
      return mutations.bytes(good);
    }
    byte[] header = Arrays.copyOfRange(good, 8, headerEnd);
    byte[] changed = mutations.jsonFile(header);
    var out = new ByteArrayOutputStream();
    out.writeBytes(
        ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(changed.length).array());
    out.writeBytes(changed);
    out.write(good, headerEnd, good.length - headerEnd);
    return out.toByteArray();
  }

  @Test
  void weights() throws IOException {
    Path file = model.resolve(SafetensorsDirectory.SINGLE);
    byte[] good = Files.readAllBytes(file);
    var outcome =
        Fuzz.run(
            "model-safetensors",
            mutations -> safetensors(mutations, good),
            input -> {
              Files.write(file, input);
              load();
            });
    assertTrue(outcome.refused() > Fuzz.inputs() / 2, outcome::toString);
  }

  @Test
  void config() throws IOException {
    Path file = model.resolve("config.json");
    byte[] good = Files.readAllBytes(file);
    var outcome =
        Fuzz.run(
            "model-config",
            mutations -> mutations.jsonFile(good),
            input -> {
              Files.write(file, input);
              load();
            });
    assertTrue(outcome.refused() > 0 && outcome.read() > 0, outcome::toString);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "qwen3-yarn",
        "qwen3-next",
        "qwen3.5-sees",
        "qwen3.5-moe",
        "afmoe",
        "gpt-oss",
        "laguna-element",
        "step3.7"
      })
  void configOfTransformers(String family) throws IOException {
    Path from = TestData.GOLDEN.resolve(family);
    Files.copy(
        from.resolve("model.safetensors"),
        model.resolve("model.safetensors"),
        StandardCopyOption.REPLACE_EXISTING);
    Path file = model.resolve("config.json");
    byte[] good = Files.readAllBytes(from.resolve("config.json"));
    var outcome =
        Fuzz.run(
            "config-of-" + family,
            mutations -> mutations.jsonFile(good),
            input -> {
              Files.write(file, input);
              load();
            });
    assertTrue(outcome.refused() > 0 && outcome.read() > 0, outcome::toString);
  }

  @Test
  void index() throws IOException {
    Path single = model.resolve(SafetensorsDirectory.SINGLE);
    var map = new StringBuilder();
    try (var file = SafetensorsFile.open(single)) {
      var entries = file.entries();
      SafetensorsWriter.write(
          model.resolve("a.safetensors"), Map.of(), entries.subList(0, entries.size() / 2));
      SafetensorsWriter.write(
          model.resolve("b.safetensors"),
          Map.of(),
          entries.subList(entries.size() / 2, entries.size()));
      for (int i = 0; i < entries.size(); i++) {
        map.append(i == 0 ? "" : ",")
            .append(
                "\"%s\":\"%s\""
                    .formatted(
                        entries.get(i).name(),
                        i < entries.size() / 2 ? "a.safetensors" : "b.safetensors"));
      }
    }
    Files.delete(single);
    Path file = model.resolve(SafetensorsDirectory.INDEX);
    byte[] good =
        "{\"metadata\":{\"total_size\":1},\"weight_map\":{%s}}"
            .formatted(map)
            .getBytes(StandardCharsets.UTF_8);
    Files.write(file, good);
    load();
    var outcome =
        Fuzz.run(
            "model-index",
            mutations -> mutations.jsonFile(good),
            input -> {
              Files.write(file, input);
              load();
            });
    assertTrue(outcome.refused() > 0, outcome::toString);
  }
}
