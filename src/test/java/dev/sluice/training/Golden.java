package dev.sluice.training;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.checkpoint.SafetensorsFile;
import dev.sluice.files.JsonFile;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import tools.jackson.databind.JsonNode;

/// What references answered, in JSON and safetensors.
final class Golden {
  private Golden() {}

  /// The case of that name in a list of them.
  static JsonNode named(Path file, String list, String name) {
    for (JsonNode one : JsonFile.object(file, JsonFile.LARGE, "").path(list)) {
      if (one.path("case").asString().equals(name)) {
        return one;
      }
    }
    throw new AssertionError("no case " + name);
  }

  static Tensor tensor(SafetensorsFile file, String name) {
    var entry = file.entry(name);
    return Tensor.of(
        entry.data(), entry.type(), entry.shape().stream().mapToLong(Long::longValue).toArray());
  }

  /// Within 1e-3 and 1e-4 of the value, which is what the references promise.
  static void assertSums(JsonNode sums, Tensor values, String what) {
    double sum = 0;
    double squares = 0;
    for (double value : values.to(ElementType.FLOAT64).doubles()) {
      sum += value;
      squares += value * value;
    }
    double expected = sums.path("sum").asDouble();
    assertEquals(expected, sum, 1e-3 + 1e-4 * Math.abs(expected), what);
    double expectedSquares = sums.path("sum_of_squares").asDouble();
    assertEquals(expectedSquares, squares, 1e-3 + 1e-4 * expectedSquares, what);
  }
}
