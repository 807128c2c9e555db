package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.SequencedMap;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// The keys of a `config.json`, or of an object in it, read by type. What nobody asked for is known
/// at the end. A key whose value is null counts as absent.
final class ConfigKeys {
  private final ObjectNode json;
  private final String place;
  private final Set<String> asked = new HashSet<>();

  /// @param place what stands before a key's name in messages: empty, or `rope_scaling.`
  ConfigKeys(ObjectNode json, String place) {
    this.json = json;
    this.place = place;
  }

  /// A key's name as messages have it.
  String named(String key) {
    return place + key;
  }

  /// Whether the key is there with a value other than null.
  boolean has(String key) {
    return value(key) != null;
  }

  /// Whether the key is there, be it null.
  boolean names(String key) {
    return json.has(key);
  }

  /// A value of whatever kind, or null.
  @Nullable JsonNode value(String key) {
    asked.add(key);
    JsonNode value = json.get(key);
    return value == null || value.isNull() ? null : value;
  }

  @Nullable Integer integer(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    if (!value.isIntegralNumber()) {
      throw wrong(key, "a whole number", value);
    }
    if (!value.canConvertToInt()) {
      throw wrong(key, "a number that a model can have", value);
    }
    return value.asInt();
  }

  /// A finite number.
  @Nullable Double number(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    if (!value.isNumber()) {
      throw wrong(key, "a number", value);
    }
    if (!Double.isFinite(value.numberValue().doubleValue())) {
      throw new InvalidInputException(
          named(key) + " is larger than any number that is computed with");
    }
    return value.numberValue().doubleValue();
  }

  @Nullable Boolean flag(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    if (!value.isBoolean()) {
      throw wrong(key, "true or false", value);
    }
    return value.asBoolean();
  }

  @Nullable String word(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    if (!value.isString()) {
      throw wrong(key, "a word in quotes", value);
    }
    return value.stringValue();
  }

  /// The words of a list, or null.
  @Nullable List<String> words(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    List<String> words = new ArrayList<>();
    if (value instanceof ArrayNode list) {
      for (JsonNode word : list) {
        if (word.isString()) {
          words.add(word.stringValue());
        }
      }
    }
    if (!value.isArray() || words.size() < value.size()) {
      throw wrong(key, "a list of words", value);
    }
    return words;
  }

  /// An object with keys of its own, or null.
  @Nullable ConfigKeys object(String key) {
    JsonNode value = value(key);
    if (value == null) {
      return null;
    }
    if (!(value instanceof ObjectNode object)) {
      throw wrong(key, "an object in braces", value);
    }
    return new ConfigKeys(object, named(key) + ".");
  }

  boolean isEmpty() {
    return json.isEmpty();
  }

  /// What nobody asked for and is not null, in the order of the file.
  SequencedMap<String, JsonNode> left() {
    SequencedMap<String, JsonNode> left = new LinkedHashMap<>();
    for (var field : json.properties()) {
      if (!asked.contains(field.getKey()) && !field.getValue().isNull()) {
        left.put(field.getKey(), field.getValue());
      }
    }
    return left;
  }

  /// All keys, in the order of the file.
  List<String> all() {
    return List.copyOf(json.propertyNames());
  }

  /// The sentence's start for a value that is not what it must be.
  InvalidInputException wrong(String key, String must, JsonNode value) {
    return new InvalidInputException(
        "%s must be %s, not %s"
            .formatted(Printable.brief(named(key), 80), must, Printable.brief(value, 80)));
  }

  @Override
  public String toString() {
    return Printable.brief(json, 200);
  }
}
