package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import java.nio.file.Path;
import java.util.List;
import tools.jackson.databind.node.ObjectNode;

final class ParquetRows {
  private ParquetRows() {}

  static List<ObjectNode> read(Path file, int most) {
    if (most < 0) {
      return List.of();
    }
    throw new InvalidInputException(file + " is Parquet " + most);
  }
}
