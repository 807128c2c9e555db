package dev.sluice.schema;

import dev.sluice.files.JsonFile;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import tools.jackson.databind.JsonNode;

/// A JSON Schema (drafts 2019-09 and 2020-12) as far as it is understood: shapes of values, by
/// number. A keyword that is not understood and could change which values are valid is refused,
/// with its place; [#notes] says what else was decided.
///
/// Objects have their properties in any order. Values nest at most [#LEVELS] deep.
public final class JsonSchema {
  /// How deep arrays and objects nest: fewer than the usual readers of JSON take.
  public static final int LEVELS = 64;

  /// The most bytes of a schema's file.
  public static final long LARGEST = 1L << 20;

  /// No shape.
  static final int NONE = -1;

  private static final String WAY_OUT = "give a file with a JSON Schema";

  private final List<Shape> shapes;
  private final int root;
  private final int[] nesting;
  private final List<String> notes;

  JsonSchema(List<Shape> shapes, int root, List<String> notes) {
    this.shapes = List.copyOf(shapes);
    this.root = root;
    this.nesting = nesting(shapes);
    this.notes = List.copyOf(notes);
  }

  /// Reads a file.
  public static JsonSchema read(Path file) {
    return of(file.toString(), JsonFile.read(file, LARGEST, WAY_OUT));
  }

  /// @param name which messages begin with: `schema.json`
  public static JsonSchema of(String name, JsonNode schema) {
    return new SchemaReader(name, schema).read();
  }

  /// Any object.
  public static JsonSchema anyObject() {
    return SchemaReader.anyObject();
  }

  /// What is to be told of the schema, in sentences.
  public List<String> notes() {
    return notes;
  }

  int root() {
    return root;
  }

  Shape shape(int number) {
    return shapes.get(number);
  }

  /// Whether a value of a shape can be written where so many arrays and objects are open.
  boolean fits(int number, int level) {
    return number != NONE && nesting[number] <= LEVELS - level;
  }

  /// How deep the flattest value of each shape nests; more than [#LEVELS] where there is none or it
  /// nests deeper. The least solution, from above: each round settles one more level.
  private static int[] nesting(List<Shape> shapes) {
    int[] nesting = new int[shapes.size()];
    Arrays.fill(nesting, LEVELS + 1);
    boolean changed = true;
    while (changed) {
      changed = false;
      for (int i = 0; i < nesting.length; i++) {
        int now = Math.min(nesting(shapes.get(i), nesting), LEVELS + 1);
        changed |= now != nesting[i];
        nesting[i] = now;
      }
    }
    return nesting;
  }

  private static int nesting(Shape shape, int[] known) {
    return switch (shape) {
      case Shape.Union union ->
          union.alternatives().stream().mapToInt(each -> known[each]).min().orElse(LEVELS + 1);
      case Shape.Text _, Shape.Numeric _, Shape.Literals _ -> 0;
      case Shape.Items items -> {
        int deepest = items.fewest() > items.most() ? LEVELS : 0;
        for (int i = 0; i < Math.min(items.fewest(), items.first().size() + 1); i++) {
          int item = items.item(i);
          deepest = Math.max(deepest, item == NONE ? LEVELS : known[item]);
        }
        yield 1 + deepest;
      }
      case Shape.Members members ->
          1
              + members.required().stream()
                  .map(property -> known[members.shapes().get(property)])
                  .max()
                  .orElse(0);
    };
  }
}
