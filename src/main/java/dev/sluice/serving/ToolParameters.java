package dev.sluice.serving;

import java.util.EnumSet;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import tools.jackson.core.JsonPointer;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.JsonNodeType;
import tools.jackson.databind.node.MissingNode;

/// Which types of JSON the schema of a tool lets an argument have, as far as it says so: by `type`,
/// `enum` and `const`, through `anyOf`, `oneOf`, `allOf` and references.
final class ToolParameters {
  /// Of a schema that says nothing.
  static final Set<JsonNodeType> ANY =
      Set.of(
          JsonNodeType.OBJECT,
          JsonNodeType.ARRAY,
          JsonNodeType.STRING,
          JsonNodeType.NUMBER,
          JsonNodeType.BOOLEAN,
          JsonNodeType.NULL);

  private static final int DEEPEST = 64;
  private static final List<String> UNIONS = List.of("anyOf", "oneOf");
  private static final String ALL_OF = "allOf";
  private static final String REFERENCE = "$ref";
  private static final String PROPERTIES = "properties";

  private final JsonNode document;
  private final JsonNode schema; // behind references

  ToolParameters(JsonNode document) {
    this.document = document;
    JsonNode at = document;
    for (int depth = 0; depth < DEEPEST && at.has(REFERENCE); depth++) {
      at = target(at.path(REFERENCE));
    }
    this.schema = at;
  }

  /// Whether the tool takes no arguments at all.
  boolean areNone() {
    return schema.path(PROPERTIES).isEmpty()
        && !schema.has(ALL_OF)
        && UNIONS.stream().noneMatch(schema::has);
  }

  /// The types that an argument may have.
  Set<JsonNodeType> types(String name) {
    return types(schema.path(PROPERTIES).path(name), 0, new IdentityHashMap<>());
  }

  /// @param known the types of schemas that were met; none while one is open, as a schema that
  ///   refers to itself allows nothing by that
  private Set<JsonNodeType> types(JsonNode of, int depth, Map<JsonNode, Set<JsonNodeType>> known) {
    if (!of.isObject() || depth == DEEPEST) {
      return ANY;
    }
    var before = known.putIfAbsent(of, Set.of());
    if (before != null) {
      return before;
    }
    var types = EnumSet.copyOf(said(of));
    for (String union : UNIONS) {
      if (of.path(union).isArray()) {
        var some = EnumSet.noneOf(JsonNodeType.class);
        of.path(union).forEach(each -> some.addAll(types(each, depth + 1, known)));
        types.retainAll(some);
      }
    }
    of.path(ALL_OF).forEach(each -> types.retainAll(types(each, depth + 1, known)));
    if (of.has(REFERENCE)) {
      types.retainAll(types(target(of.path(REFERENCE)), depth + 1, known));
    }
    known.put(of, types);
    return types;
  }

  /// What a schema says by itself.
  private static Set<JsonNodeType> said(JsonNode schema) {
    if (schema.has("const")) {
      return Set.of(schema.path("const").getNodeType());
    }
    var types = EnumSet.noneOf(JsonNodeType.class);
    if (schema.path("enum").isArray()) {
      schema.path("enum").forEach(value -> types.add(value.getNodeType()));
    } else if (schema.path("type").isArray()) {
      schema.path("type").forEach(type -> types.addAll(named(type)));
    } else if (schema.has("type")) {
      types.addAll(named(schema.path("type")));
    } else if (schema.has(PROPERTIES)) {
      types.add(JsonNodeType.OBJECT);
    } else if (schema.has("items")) {
      types.add(JsonNodeType.ARRAY);
    } else {
      types.addAll(ANY);
    }
    return types;
  }

  private static Set<JsonNodeType> named(JsonNode type) {
    return switch (type.asString("")) {
      case "object" -> Set.of(JsonNodeType.OBJECT);
      case "array" -> Set.of(JsonNodeType.ARRAY);
      case "string" -> Set.of(JsonNodeType.STRING);
      case "number", "integer" -> Set.of(JsonNodeType.NUMBER);
      case "boolean" -> Set.of(JsonNodeType.BOOLEAN);
      case "null" -> Set.of(JsonNodeType.NULL);
      default -> Set.of();
    };
  }

  /// What a reference points at in this document; missing where that is nothing.
  private JsonNode target(JsonNode reference) {
    String text = reference.asString("");
    try {
      return text.startsWith("#")
          ? document.at(JsonPointer.compile(text.substring(1)))
          : MissingNode.getInstance();
    } catch (IllegalArgumentException _) {
      return MissingNode.getInstance();
    }
  }
}
