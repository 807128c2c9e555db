package dev.sluice.checkpoint;

import dev.sluice.checkpoint.SafetensorsFile.Entry;
import dev.sluice.tensor.ElementType;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/// A tensor of a file before its numbers are there: a file's layout needs no more.
record StoredTensor(String name, ElementType type, List<Long> shape) {
  /// The order of the reference implementation: element types in the reverse of its declaration
  /// order (which never leaves a tensor less aligned than its elements need), within one type by
  /// the UTF-8 bytes of the name.
  static final Comparator<StoredTensor> REFERENCE_ORDER =
      Comparator.comparingInt((StoredTensor tensor) -> -referenceRank(tensor.type()))
          .thenComparing(
              tensor -> tensor.name().getBytes(StandardCharsets.UTF_8), Arrays::compareUnsigned);

  StoredTensor {
    shape = List.copyOf(shape);
  }

  static StoredTensor of(Entry entry) {
    return new StoredTensor(entry.name(), entry.type(), entry.shape());
  }

  /// How many bytes its numbers have.
  long bytes() {
    return SafetensorsHeader.bytes(type, shape);
  }

  private static int referenceRank(ElementType type) {
    return switch (type) {
      case BOOL -> 0;
      case UINT8 -> 1;
      case FLOAT16 -> 2;
      case BFLOAT16 -> 3;
      case INT32 -> 4;
      case FLOAT32 -> 5;
      case FLOAT64 -> 6;
      case INT64 -> 7;
    };
  }
}
