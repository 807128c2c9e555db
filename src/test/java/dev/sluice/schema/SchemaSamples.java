package dev.sluice.schema;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.StreamReadFeature;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// Schemas with values that they allow, and ways to write values and to walk through a mask.
final class SchemaSamples {
  /// Reads numbers exactly and refuses a name given twice.
  private static final JsonMapper JSON =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
          .build();

  /// A schema, then values.
  static final List<List<String>> ALL =
      List.of(
          List.of(
              "{}",
              "{'a': [1, 2.5, -300, true, null, {}], 'b c': {'ü': '鯨 🐋', '': []}}",
              "'a \\\\ \\' \\n \\u0001'",
              "0"),
          List.of(
              """
              {"type": "object", "additionalProperties": false, "required": ["name", "age"],
               "properties": {"name": {"type": "string"}, "names": {"type": "boolean"},
                "age": {"type": ["integer", "null"]}, "näh": {"const": null}}}
              """,
              "{'name': 'Ishmael', 'age': 31}",
              "{'age': null, 'names': false, 'name': '', 'näh': null}"),
          List.of(
              """
              {"type": "object", "properties": {"a": {"type": "string"}, "ab": false},
               "additionalProperties": {"type": "integer"}, "required": ["b"]}
              """,
              "{'a': 'x', 'b': 2, 'aab': 3, 'c': -4}"),
          List.of(
              "{'type': 'array', 'prefixItems': [{'type': 'string'}, {'type': 'number'}],"
                  + " 'items': {'type': 'boolean'}, 'minItems': 1, 'maxItems': 4}",
              "['a', -1.25, true, false]",
              "['']"),
          List.of(
              "{'type': 'array', 'items': {'enum': ['red', 'ready', 1, 12, 2.5, null, [1, {}],"
                  + " {'a': 1}]}, 'minItems': 2}",
              "['red', 'ready', 1, 12, 2.5, null]",
              "[[1, {}], {'a': 1}, 12, 1]"),
          List.of(
              """
              {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "required": ["value"],
               "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"},
               {"type": "null"}]}}, "additionalProperties": false}}}
              """,
              "{'value': 1, 'next': {'value': -2, 'next': {'next': null, 'value': 0}}}"),
          List.of(
              """
              {"oneOf": [
                {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number", "exclusiveMinimum": 0}},
                 "required": ["kind", "r"], "additionalProperties": false},
                {"type": "object", "properties": {"kind": {"const": "text"}, "r": {"type": "string", "maxLength": 3}},
                 "required": ["kind", "r"]},
                {"type": "array", "items": {"$ref": "#"}}]}
              """,
              "{'kind': 'circle', 'r': 0.5}",
              "[{'r': '鯨🐋a', 'kind': 'text', 'more': 1}, [], [{'kind': 'circle', 'r': 12}]]"),
          List.of(
              "{'type': 'array', 'items': {'type': 'integer', 'minimum': -15, 'maximum': 120}}",
              "[-15, -9, -1, 0, 7, 99, 100, 120]"),
          List.of(
              "{'type': 'array', 'items': {'type': 'number', 'minimum': -0.25, 'exclusiveMaximum':"
                  + " 31.5}}",
              "[-0.25, 0, 0.001, 3.14, 31.49, 31, 4]"),
          List.of(
              "{'type': 'array', 'items': {'type': 'string', 'pattern':"
                  + " '^[a-zé]+(-\\\\d{2,3})?$|x.y'}}",
              "['abc', 'éa-123', 'zz-12', 'oh x-y', 'x.y']"),
          List.of(
              "{'type': 'array', 'items': {'type': 'string', 'minLength': 2, 'maxLength': 4}}",
              "['ab', 'é🐋鯨', '\\n\\n\\n\\n', 'abcd']"),
          List.of(
              "{'type': 'array', 'items': {'type': 'string', 'minLength': 2, 'maxLength': 40}}",
              "['ab', 'abcdefghijklmnopqrstuvwxyz', 'abcdefghijklmnopqrstuvwxyz01234567890abc']"),
          List.of(
              "{'type': 'array', 'items': {'type': 'string', 'pattern': '[0-9]', 'minLength': 3,"
                  + " 'maxLength': 5}}",
              "['a1b', '12345', '\\n\\n3']"),
          List.of(
              "{'type': 'object', 'properties': {'a': {'type': 'array', 'items': {}, 'maxItems':"
                  + " 2}}, 'required': ['a']}",
              "{'a': [{}, 'x'], 'd': {'a': 5}}"),
          List.of("{'type': ['boolean', 'null', 'number']}", "true", "null", "-0.5", "17"));

  private SchemaSamples() {}

  /// JSON in which apostrophes stand for quotation marks.
  static JsonNode json(String text) {
    return JSON.readTree(text.contains("\"") ? text : text.replace('\'', '"'));
  }

  static JsonNode exactly(String text) {
    return JSON.readTree(text);
  }

  /// A value as others write it.
  ///
  /// @param style 0 without blanks, 1 with a space after commas and colons, 2 in indented lines
  static String written(JsonNode value, int style) {
    var text = new StringBuilder();
    write(value, style, 0, text);
    return text.toString();
  }

  private static void write(JsonNode value, int style, int level, StringBuilder text) {
    if (!value.isContainer()) {
      text.append(value.isNumber() ? value.decimalValue().toPlainString() : value.toString());
      return;
    }
    text.append(value.isObject() ? '{' : '[');
    int members = 0;
    for (var property : value.properties()) {
      separate(members++, style, level + 1, text);
      text.append(JSON.writeValueAsString(property.getKey())).append(style > 0 ? ": " : ":");
      write(property.getValue(), style, level + 1, text);
    }
    for (JsonNode item : value.isArray() ? value : JSON.createArrayNode()) {
      separate(members++, style, level + 1, text);
      write(item, style, level + 1, text);
    }
    if (members > 0 && style == 2) {
      text.append('\n').repeat("  ", level);
    }
    text.append(value.isObject() ? '}' : ']');
  }

  private static void separate(int members, int style, int level, StringBuilder text) {
    text.append(members > 0 ? "," : "");
    if (style == 2) {
      text.append('\n').repeat("  ", level);
    } else if (style == 1 && members > 0) {
      text.append(' ');
    }
  }

  /// A value and what is like it but for one part: left out, or another value in its place.
  static List<JsonNode> like(JsonNode value) {
    List<JsonNode> all = new ArrayList<>(OTHERS);
    all.add(value);
    if (value instanceof ObjectNode object) {
      for (String name : object.propertyNames()) {
        var without = object.deepCopy();
        without.remove(name);
        all.add(without);
        for (JsonNode other : like(object.get(name))) {
          all.add(object.deepCopy().set(name, other));
        }
      }
      for (String name : List.of("a", "b", "zz", "kind", "next")) {
        all.add(object.deepCopy().set(name, OTHERS.getFirst()));
      }
    }
    if (value instanceof ArrayNode array) {
      for (int i = 0; i < array.size(); i++) {
        var without = array.deepCopy();
        without.remove(i);
        all.add(without);
        for (JsonNode other : like(array.get(i))) {
          var changed = array.deepCopy();
          changed.set(i, other);
          all.add(changed);
        }
      }
      all.add(array.deepCopy().add(true));
    }
    return all;
  }

  private static final List<JsonNode> OTHERS =
      List.of(
          json("7"),
          json("-16"),
          json("121"),
          json("31.5"),
          json("-0.2500001"),
          json("0"),
          json("true"),
          json("null"),
          json("''"),
          json("'red'"),
          json("'re'"),
          json("'1234567 é'"),
          json("[]"),
          json("{}"),
          json("[true]"),
          json("{'a': 'x'}"));

  /// A text that goes on with allowed tokens, chosen at random; after some of them what closes
  /// something comes first, so that it ends. Null where it did not, in a string of which chance
  /// does not find the end.
  ///
  /// @param begun the text's beginning
  static byte @Nullable [] walk(
      TokenMask mask, Vocabulary vocabulary, byte[] begun, SplittableRandom random, Look look) {
    var text = new ByteArrayOutputStream();
    text.writeBytes(begun);
    JsonState state = mask.start().after(begun);
    int patience = random.nextInt(30);
    for (int tokens = 0; tokens < 150; tokens++) {
      var allowed = mask.allowed(state);
      look.at(state, allowed);
      int[] ids = allowed.stream().toArray();
      if (ids.length == 0) {
        throw new AssertionError("nothing may follow " + text);
      }
      boolean isEnding = tokens > patience || random.nextInt(8) == 0;
      int chosen = isEnding ? closing(state, mask, vocabulary, ids) : -1;
      chosen = chosen < 0 ? ids[random.nextInt(ids.length)] : chosen;
      if (mask.isEnd(chosen)) {
        return text.toByteArray();
      }
      text.writeBytes(vocabulary.bytes(chosen));
      state = mask.after(state, chosen);
    }
    return null;
  }

  /// A piece of a value that is a sample, from its beginning to anywhere.
  static byte[] beginning(List<String> sample, SplittableRandom random) {
    var value = json(sample.get(1 + random.nextInt(sample.size() - 1)));
    byte[] whole = written(value, random.nextInt(3)).getBytes(StandardCharsets.UTF_8);
    return Arrays.copyOf(whole, random.nextInt(whole.length + 1));
  }

  /// An allowed token that closes what is open, or -1.
  private static int closing(JsonState state, TokenMask mask, Vocabulary vocabulary, int[] ids) {
    boolean isInString =
        state.frames().stream()
            .anyMatch(frame -> frame instanceof Frame.InText || frame instanceof Frame.InName);
    for (int id : ids) {
      byte[] bytes = vocabulary.bytes(id);
      boolean closes =
          bytes.length == 1 && (isInString ? bytes[0] == '"' : bytes[0] == ']' || bytes[0] == '}');
      if (closes || mask.isEnd(id)) {
        return id;
      }
    }
    return -1;
  }

  /// Sees each state on the way.
  interface Look {
    void at(JsonState state, BitSet allowed);
  }

  /// That [TokenClasses] gives what [Vocabulary#inside] does, from every state.
  ///
  /// @param pattern as JSON has it
  static void requireEqualClasses(Vocabulary vocabulary, String pattern) {
    var schema =
        JsonSchema.of(
            "the schema", json("{\"type\": \"string\", \"pattern\": \"" + pattern + "\"}"));
    Shape shape = schema.shape(schema.root());
    while (shape instanceof Shape.Union union) {
      shape = schema.shape(union.alternatives().getFirst());
    }
    var automaton = Objects.requireNonNull(((Shape.Text) shape).automaton());
    var classes = Objects.requireNonNull(TokenClasses.of(vocabulary, automaton));
    for (int state = 0; state < automaton.states(); state++) {
      var each = vocabulary.inside(StringLexer.BODY, automaton, state);
      var together = classes.inside(state);
      assertArrayEquals(each.staying().words, together.staying().words, "state " + state);
      assertEquals(Set.copyOf(each.closing()), Set.copyOf(together.closing()), "state " + state);
    }
  }
}
