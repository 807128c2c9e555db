package dev.sluice.schema;

import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.StreamSupport;
import tools.jackson.databind.JsonNode;

/// JSON Schema by its plain definition: whether a whole value is valid. `oneOf` counts as `anyOf`.
final class SchemaDefinition {
  private final JsonNode document;

  SchemaDefinition(JsonNode document) {
    this.document = document;
  }

  boolean allows(JsonNode value) {
    return allows(document, value);
  }

  private boolean allows(JsonNode schema, JsonNode value) {
    if (schema.isBoolean()) {
      return schema.booleanValue();
    }
    if (schema.has("$ref")) {
      return allows(document.at(schema.get("$ref").stringValue().substring(1)), value);
    }
    for (String key : List.of("anyOf", "oneOf")) {
      if (schema.has(key) && all(schema.get(key)).stream().noneMatch(s -> allows(s, value))) {
        return false;
      }
    }
    if (schema.has("allOf") && !all(schema.get("allOf")).stream().allMatch(s -> allows(s, value))) {
      return false;
    }
    if (schema.has("enum") && !all(schema.get("enum")).contains(value)) {
      return false;
    }
    if (schema.has("const") && !schema.get("const").equals(value)) {
      return false;
    }
    if (schema.has("type")) {
      var types =
          schema.get("type").isArray() ? all(schema.get("type")) : List.of(schema.get("type"));
      if (types.stream().noneMatch(type -> isOf(type.stringValue(), value))) {
        return false;
      }
    }
    return (!value.isObject() || allowsObject(schema, value))
        && (!value.isArray() || allowsArray(schema, value))
        && (!value.isString() || allowsString(schema, value.stringValue()))
        && (!value.isNumber() || allowsNumber(schema, value));
  }

  private static List<JsonNode> all(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).toList();
  }

  private static boolean isOf(String type, JsonNode value) {
    return switch (type) {
      case "object" -> value.isObject();
      case "array" -> value.isArray();
      case "string" -> value.isString();
      case "number" -> value.isNumber();
      case "integer" -> value.isNumber() && value.decimalValue().stripTrailingZeros().scale() <= 0;
      case "boolean" -> value.isBoolean();
      default -> value.isNull();
    };
  }

  private boolean allowsObject(JsonNode schema, JsonNode value) {
    for (JsonNode name : schema.path("required")) {
      if (!value.has(name.stringValue())) {
        return false;
      }
    }
    for (var property : value.properties()) {
      JsonNode own = schema.path("properties").path(property.getKey());
      JsonNode rule = own.isMissingNode() ? schema.path("additionalProperties") : own;
      if (!rule.isMissingNode() && !allows(rule, property.getValue())) {
        return false;
      }
    }
    return true;
  }

  private boolean allowsArray(JsonNode schema, JsonNode value) {
    JsonNode prefix = schema.path("prefixItems");
    for (int i = 0; i < value.size(); i++) {
      JsonNode rule = i < prefix.size() ? prefix.get(i) : schema.path("items");
      if (!rule.isMissingNode() && !allows(rule, value.get(i))) {
        return false;
      }
    }
    return value.size() >= schema.path("minItems").asInt(0)
        && value.size() <= schema.path("maxItems").asInt(Integer.MAX_VALUE);
  }

  private static boolean allowsString(JsonNode schema, String value) {
    int length = value.codePointCount(0, value.length());
    return length >= schema.path("minLength").asInt(0)
        && length <= schema.path("maxLength").asInt(Integer.MAX_VALUE)
        && (!schema.has("pattern")
            || Pattern.compile(schema.get("pattern").stringValue()).matcher(value).find());
  }

  private static boolean allowsNumber(JsonNode schema, JsonNode value) {
    var number = value.decimalValue();
    return (!schema.has("minimum") || number.compareTo(schema.get("minimum").decimalValue()) >= 0)
        && (!schema.has("maximum") || number.compareTo(schema.get("maximum").decimalValue()) <= 0)
        && (!schema.has("exclusiveMinimum")
            || number.compareTo(schema.get("exclusiveMinimum").decimalValue()) > 0)
        && (!schema.has("exclusiveMaximum")
            || number.compareTo(schema.get("exclusiveMaximum").decimalValue()) < 0);
  }
}
