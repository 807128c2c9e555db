package dev.sluice.corpus;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// The rows of a Parquet file as objects: a struct is an object, a list an array, a list of structs
/// an object of lists. Columns of other kinds than strings, numbers and truth values, and lists of
/// lists, are left out.
final class ParquetRows {
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;

  private ParquetRows() {}

  /// The first `most` rows.
  static List<ObjectNode> read(Path path, int most) {
    String name = path.toString();
    try {
      List<ParquetFile.Leaf> leaves;
      try (var file = new ParquetFile(path, name, 0)) {
        leaves = file.leaves();
      }
      List<ObjectNode> rows = new ArrayList<>();
      for (int i = 0; i < leaves.size(); i++) {
        var leaf = leaves.get(i);
        if ((leaf.foreign() == null || leaf.number() != null) && leaf.repetitions() <= 1) {
          try (var file = new ParquetFile(path, name, i)) {
            fill(rows, leaf, new ParquetPages(file, name), most);
          }
        }
      }
      return rows;
    } catch (InvalidInputException e) {
      throw e;
    } catch (IOException | RuntimeException | OutOfMemoryError e) {
      throw new InvalidInputException(
          "%s cannot be read as Parquet (%s); copy it again, or convert it to .jsonl"
              .formatted(
                  name,
                  switch (e) {
                    case IOException failure -> Failures.words(failure);
                    case OutOfMemoryError _ -> "there is not enough memory for it";
                    default -> "its contents contradict each other";
                  }),
          e);
    }
  }

  /// Puts a column's values into the rows.
  private static void fill(
      List<ObjectNode> rows, ParquetFile.Leaf leaf, ParquetPages pages, int most)
      throws IOException {
    var names = names(leaf);
    int row = -1;
    ArrayNode list = null;
    while (pages.advance()) {
      boolean begins = !pages.continues();
      if (begins) {
        if (++row == most) {
          return;
        }
        while (rows.size() <= row) {
          rows.add(NODES.objectNode());
        }
      }
      if (row < 0) {
        throw new IOException("a list begins before its row");
      }
      var value = value(pages.value(), leaf.number());
      if (leaf.repetitions() == 0) {
        put(rows.get(row), names, value);
        continue;
      }
      if (begins) {
        list = NODES.arrayNode();
        // Below the list itself nothing is there.
        boolean isNull = pages.definition() < leaf.repeatedDefinitions() - 1;
        put(rows.get(row), names, isNull ? NODES.nullNode() : list);
      }
      if (list != null && pages.definition() >= leaf.repeatedDefinitions()) {
        list.add(value);
      }
    }
  }

  /// The path of a value in a row: of a list without its repeated part and that of its element.
  private static List<String> names(ParquetFile.Leaf leaf) {
    if (leaf.repetitions() == 0) {
      return leaf.path();
    }
    var names = new ArrayList<>(leaf.path().subList(0, Math.max(1, leaf.repeatedAt())));
    if (leaf.repeatedAt() > 0 && leaf.repeatedAt() + 2 < leaf.path().size()) {
      names.addAll(leaf.path().subList(leaf.repeatedAt() + 2, leaf.path().size()));
    }
    return names;
  }

  private static void put(ObjectNode row, List<String> names, JsonNode value) {
    var at = row;
    for (String name : names.subList(0, names.size() - 1)) {
      at = at.path(name) instanceof ObjectNode inner ? inner : at.putObject(name);
    }
    at.set(names.getLast(), value);
  }

  private static JsonNode value(
      @Nullable ParquetValues value, ParquetFile.@Nullable Primitive number) {
    if (value == null) {
      return NODES.nullNode();
    }
    var bytes =
        ByteBuffer.wrap(value.bytes, value.from, value.to - value.from)
            .order(ByteOrder.LITTLE_ENDIAN);
    if (number == null) {
      return NODES.stringNode(StandardCharsets.UTF_8.decode(bytes).toString());
    }
    return switch (number) {
      case TRUTH -> NODES.booleanNode(bytes.get() != 0);
      case INT32 -> NODES.numberNode(bytes.getInt());
      case INT64 -> NODES.numberNode(bytes.getLong());
      case FLOAT -> NODES.numberNode(bytes.getFloat());
      case DOUBLE -> NODES.numberNode(bytes.getDouble());
    };
  }
}
