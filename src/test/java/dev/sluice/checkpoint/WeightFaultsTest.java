package dev.sluice.checkpoint;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// Weights that do not fit their `config.json`, in checkpoints of every family: one sentence that
/// names the tensor.
class WeightFaultsTest {
  private static final Path GOLDEN = Path.of("src/test/resources/golden");
  private static final String WEIGHTS = "model.safetensors";
  private static final int SOME = 12;
  private static final JsonMapper JSON = JsonMapper.builder().build();

  @TempDir private Path directory;

  static Stream<String> families() throws IOException {
    try (var folders = Files.list(GOLDEN)) {
      return folders
          .filter(folder -> Files.isRegularFile(folder.resolve(WEIGHTS)))
          .map(folder -> folder.getFileName().toString())
          .sorted()
          .toList()
          .stream();
    }
  }

  private ObjectNode header(String family) throws IOException {
    byte[] file = Files.readAllBytes(GOLDEN.resolve(family).resolve(WEIGHTS));
    int length = (int) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong();
    return (ObjectNode) JSON.readTree(new String(file, 8, length, StandardCharsets.UTF_8));
  }

  /// What is said of the checkpoint with another header before the same numbers.
  private String refusal(String family, UnaryOperator<ObjectNode> change) throws IOException {
    byte[] file = Files.readAllBytes(GOLDEN.resolve(family).resolve(WEIGHTS));
    int length = (int) ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN).getLong();
    byte[] header = JSON.writeValueAsBytes(change.apply(header(family)));
    Path place = Files.createTempDirectory(directory, family);
    for (String other : List.of("config.json", "generation_config.json")) {
      if (Files.exists(GOLDEN.resolve(family).resolve(other))) {
        Files.copy(GOLDEN.resolve(family).resolve(other), place.resolve(other));
      }
    }
    var changed =
        ByteBuffer.allocate(8 + header.length + file.length - 8 - length)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putLong(header.length)
            .put(header)
            .put(file, 8 + length, file.length - 8 - length);
    Files.write(place.resolve(WEIGHTS), changed.array());
    String message =
        String.valueOf(
            assertThrows(
                    InvalidInputException.class,
                    () -> ModelDirectory.load(place, Precision.FLOAT32, Device.CPU, false).close())
                .getMessage());
    assertFalse(message.contains("\n"), message);
    return message;
  }

  /// Names of tensors that the text part reads, in an order drawn from the family's name.
  private List<String> some(String family) throws IOException {
    var names = new ArrayList<String>();
    for (String name : header(family).propertyNames()) {
      if (!name.equals("__metadata__") && !name.matches("mtp.*|vi[ts].*|.*visual.*")) {
        names.add(name);
      }
    }
    Collections.shuffle(names, new Random(family.hashCode()));
    return names.subList(0, Math.min(SOME, names.size()));
  }

  @ParameterizedTest
  @MethodSource("families")
  void missingTensors(String family) throws IOException {
    for (String name : some(family)) {
      String message =
          refusal(
              family,
              header -> {
                header.set("model.nobody_knows.weight", header.remove(name));
                return header;
              });
      assertTrue(
          message.contains(last(name)) || message.contains("nobody_knows"), name + ": " + message);
    }
  }

  @ParameterizedTest
  @MethodSource("families")
  void surplusTensors(String family) throws IOException {
    String surplus = "model.layers.0.nobody_knows.weight";
    String message =
        refusal(
            family,
            header -> {
              var empty = JSON.createObjectNode().put("dtype", "F32");
              empty.putArray("shape").add(0);
              empty.putArray("data_offsets").add(0).add(0);
              header.set(surplus, empty);
              return header;
            });
    assertTrue(message.contains("nobody_knows"), message);
  }

  @ParameterizedTest
  @MethodSource("families")
  void wrongShapes(String family) throws IOException {
    int tried = 0;
    for (String name : some(family)) {
      var shape = header(family).get(name).get("shape");
      long[] sizes = shape.valueStream().mapToLong(size -> size.longValue()).toArray();
      if (sizes.length < 2 || Arrays.stream(sizes).distinct().count() < 2) {
        continue;
      }
      String message =
          refusal(
              family,
              header -> {
                var changed = ((ObjectNode) header.get(name)).putArray("shape");
                for (int i = sizes.length - 1; i >= 0; i--) {
                  changed.add(sizes[i]);
                }
                return header;
              });
      assertTrue(message.contains(last(name)), name + ": " + message);
      tried++;
    }
    assertFalse(tried == 0, "no tensor of " + family + " has two sizes");
  }

  /// What every spelling of a name ends in.
  private static String last(String name) {
    String[] parts = name.split("\\.");
    String last = parts[parts.length - 1];
    return last.equals("weight") || last.equals("bias") ? parts[parts.length - 2] : last;
  }
}
