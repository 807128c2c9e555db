package dev.sluice.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import tools.jackson.databind.node.JsonNodeFactory;

class JsonSchemaTest {
  private static JsonSchema schema(String text) {
    return JsonSchema.of("the schema", SchemaSamples.json(text));
  }

  private static boolean allows(JsonSchema schema, String text) {
    return JsonState.start(schema).after(text.getBytes(StandardCharsets.UTF_8)).isComplete();
  }

  private static String refusal(String text) {
    var refusal = assertThrows(InvalidInputException.class, () -> schema(text));
    String message = refusal.getMessage();
    assertTrue(message.startsWith("the schema "), message);
    assertEquals(1, message.lines().count());
    return message;
  }

  /// What could change which values are valid is refused with its place, and never passed over.
  @ParameterizedTest
  @CsvSource(
      delimiter = ';',
      quoteCharacter = '`',
      value = {
        "{'properties': {'a': {'not': {}}}} ; #/properties/a: the keyword not",
        "{'items': {'uniqueItems': true}} ; #/items: the keyword uniqueItems",
        "{'requird': ['a']} ; #: the keyword requird",
        "{'multipleOf': 2} ; the keyword multipleOf",
        "{'patternProperties': {}} ; the keyword patternProperties",
        "{'properties': {'a': {'$id': 'b'}}} ; #/properties/a: the keyword $id",
        "{'if': {}} ; the keyword if",
        "{'type': 'text'} ; the type \"text\" is none of object, array",
        "{'type': []} ; type is an empty array",
        "{'anyOf': [{'type': 'string'}], 'minLength': 1} ; anyOf stands beside minLength",
        "{'$ref': '#', 'type': 'string'} ; $ref stands beside type",
        "{'enum': ['a'], 'maxLength': 3} ; enum stands beside maxLength",
        "{'enum': 'a'} ; enum is \"a\" and no array",
        "{'allOf': [{}, {}]} ; allOf of several",
        "{'anyOf': []} ; anyOf is an array and no array of schemas",
        "{'anyOf': {}} ; anyOf is an object",
        "{'items': [{}]} ; prefixItems",
        "{'properties': []} ; properties is an array",
        "{'required': 'a'} ; required is \"a\"",
        "{'minItems': -1} ; minItems is -1",
        "{'maxLength': 1.5} ; maxLength is 1.5",
        "{'minimum': '0'} ; minimum is \"0\"",
        "{'type': 'integer', 'exclusiveMinimum': true} ; exclusiveMinimum is true",
        "{'$ref': 'https://example.org/a.json'} ; the reference",
        "{'$ref': '#/$defs/a'} ; points at nothing",
        "{'$ref': '#/%'} ; no escape",
        "7 ; 7 is no schema",
        "{'properties': {'a': 7}} ; #/properties/a: 7 is no schema",
        "{'pattern': '('} ; a ')' is missing",
        "{'pattern': 'a(?=b)'} ; look around",
        "{'pattern': '(a)\\\\1'} ; the escape \\1",
        "{'pattern': '\\\\bword'} ; the escape \\b",
        "{'pattern': '\\\\p{L}'} ; the escape \\p",
        "{'pattern': '[z-a]'} ; a range of a class",
        "{'pattern': 'a**'} ; a repetition is repeated",
        "{'pattern': '[a'} ; a ']' is missing",
        "{'pattern': 'a{2,1}'} ; repeats less",
        "{'pattern': 'a{9999}'} ; more than 4000 parts",
        "{'pattern': '((a{60}){60}){60}'} ; more than 4000 parts",
        "{'pattern': '(a|b)*a(a|b){14}$'} ; more than 4000 states",
        "{'pattern': '^[a-z]+$', 'maxLength': 100000} ; say the length in the pattern",
        "false ; allows no value",
        "{'type': 'string', 'minLength': 3, 'maxLength': 2} ; allows no value",
        "{'type': 'integer', 'minimum': 2.1, 'maximum': 2.9} ; allows no value",
        "{'type': 'integer', 'enum': ['a', 1.5]} ; allows no value",
        "{'type': 'string', 'pattern': 'a^b'} ; allows no value",
        "{'type': 'array', 'minItems': 1, 'items': {'$ref': '#'}} ; allows no value",
        "{'type': 'object', 'properties': {'a': {'$ref': '#'}}, 'required': ['a']} ; without an"
            + " end",
        "{'type': 'object', 'required': ['a'], 'additionalProperties': false} ; allows no value",
        "{'$ref': '#'} ; allows no value",
      })
  void whatIsNotFollowedIsRefusedWithItsPlace(String schema, String words) {
    assertTrue(refusal(schema).contains(words), refusal(schema));
  }

  @Test
  void whatWasDecidedIsSaid() {
    assertEquals(
        List.of("#/properties/at: format \"date\" is not enforced."),
        schema("{'type': 'object', 'properties': {'at': {'type': 'string', 'format': 'date'}}}")
            .notes());
    assertEquals(
        List.of("#: there is no type, so object is meant, which is what required is about."),
        schema("{'required': ['a'], 'title': 'A', 'x-order': 1}").notes());
    assertEquals(List.of(), schema("{'title': 'anything', '$defs': {'a': {'not': {}}}}").notes());
  }

  /// Where the alternatives of a `oneOf` are seen to exclude each other, nothing need be said.
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{'type': 'string'}, {'type': 'integer'} | true",
        "{'type': 'null'}, {'type': 'boolean'}, {'type': 'array'} | true",
        "{'const': 'a'}, {'enum': ['b', 'ab']} | true",
        "{'pattern': '^a'}, {'pattern': '^b'} | true",
        "{'required': ['k'], 'properties': {'k': {'const': 1}}}, {'type': 'array'} | true",
        "{'required': ['k'], 'properties': {'k': {'const': 'x'}}},"
            + " {'required': ['k'], 'properties': {'k': {'const': 'y'}}} | true",
        "{'required': ['k'], 'properties': {'k': {'const': 'x'}}},"
            + " {'properties': {'k': {'const': 'y'}}} | false",
        "{'type': 'string'}, {'const': 'a'} | false",
        "{'type': 'number'}, {'type': 'integer'} | false",
        "{'const': 1}, {'type': 'number'} | false",
        "{'pattern': 'a'}, {'pattern': 'b'} | false",
        "{'type': 'string'}, {'type': 'string'} | false",
      })
  void oneOfIsToldWhereAlternativesMayMeet(String alternatives, boolean isDisjoint) {
    boolean isTold =
        schema("{'oneOf': [" + alternatives + "]}").notes().stream()
            .anyMatch(note -> note.contains("oneOf is read as anyOf"));
    assertEquals(!isDisjoint, isTold);
  }

  /// What would take long or much memory ends in a sentence, or is simply followed.
  @Test
  void hostileSchemasEnd(@TempDir Path folder) throws Exception {
    // References to references, and each with two ways on.
    String chain =
        IntStream.range(0, 1000)
            .mapToObj(
                i ->
                    "'d%d': {'anyOf': [{'$ref': '#/$defs/d%d'}, {'$ref': '#/$defs/d%d'}]}"
                        .formatted(i, i + 1, i + 1))
            .collect(Collectors.joining(","));
    var many = schema("{'$ref': '#/$defs/d0', '$defs': {" + chain + ", 'd1000': {'const': 1}}}");
    assertTrue(allows(many, "1"));
    // An enum that is followed, one that is too large, and too many schemas.
    String words =
        IntStream.range(0, 15_000).mapToObj(i -> "'w" + i + "'").collect(Collectors.joining(","));
    assertTrue(allows(schema("{'enum': [" + words + "]}"), "\"w14999\""));
    String longer = words.replace("w", "a rather long word ");
    assertTrue(refusal("{'enum': [" + longer + "]}").contains("more than 262144 characters"));
    String arrays = "[],".repeat(10_000) + "[]";
    assertTrue(refusal("{'enum': [" + arrays + "]}").contains("more than 10000 schemas"));
    String alternatives =
        IntStream.range(0, 300)
            .mapToObj(i -> "{'maxLength': " + i + "}")
            .collect(Collectors.joining(","));
    assertTrue(refusal("{'anyOf': [" + alternatives + "]}").contains("256 alternatives"));
    // Numbers whose digits would fill the memory.
    assertTrue(allows(schema("{'type': 'integer', 'minimum': -1e999999999}"), "-12"));
    assertTrue(refusal("{'type': 'integer', 'minimum': 1e999999999}").contains("no value"));
    var infinite =
        JsonNodeFactory.instance.numberNode(Double.POSITIVE_INFINITY); // as 1e999 is read
    var bounded = JsonNodeFactory.instance.objectNode();
    bounded.put("type", "integer").set("maximum", infinite);
    assertTrue(allows(JsonSchema.of("the schema", bounded), "12"));
    var listed = JsonNodeFactory.instance.objectNode().set("const", infinite);
    assertThrows(InvalidInputException.class, () -> JsonSchema.of("the schema", listed));
    assertTrue(allows(schema("{'type': 'number', 'minimum': 1e-999999999}"), "0.1"));
    // A tree of patterns that explodes, deep files and long ones.
    assertTrue(refusal("{'pattern': '" + "(a?){30}".repeat(60) + "'}").contains("pattern"));
    assertTrue(refusal("{'pattern': '" + "(".repeat(9000) + "'}").contains("nested"));
    Path file = folder.resolve("schema.json");
    Files.writeString(file, "{\"items\":".repeat(5000));
    var deep = assertThrows(InvalidInputException.class, () -> JsonSchema.read(file));
    assertTrue(deep.getMessage().contains("deeper"), deep.getMessage());
    Files.writeString(file, "{\"title\":\"" + "a".repeat(1 << 20) + "\"}");
    var large = assertThrows(InvalidInputException.class, () -> JsonSchema.read(file));
    assertTrue(large.getMessage().contains("schema.json"), large.getMessage());
  }

  /// Enumerated values are texts or spelled as they stand; names and texts may be escaped.
  @Test
  void textsMayBeEscaped() {
    var schema = schema("{'enum': ['a/ü', '🐋', 'x\\u0001']}");
    for (String text :
        List.of(
            "'a/ü'", "'\\\\u0061\\\\/\\\\u00FC'", "'🐋'", "'\\\\ud83d\\\\uDC0B'", "'x\\\\u0001'")) {
      String json = text.replace('\'', '"').replace("\\\\", "\\");
      assertTrue(allows(schema, json), json);
    }
    for (String begun : List.of("\"b", "\"\\u00FD", "\"\\ud83c", "\"a\\/\\n", "\"🐊")) {
      var state = JsonState.start(schema).after(begun.getBytes(StandardCharsets.UTF_8));
      assertTrue(state.isDead(), begun);
    }
  }

  /// The automaton of a pattern finds what `java.util.regex` finds.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "a",
        "^a",
        "a$",
        "^a$",
        "^$",
        "a|b",
        "^(a|ba)*$",
        "^a?b+c*$",
        "(ab){2}",
        "^[^ab]{1,2}$",
        "^a{2,}b{0,1}$",
        "a.c",
        "^\\d\\D\\w\\W\\s\\S$",
        "^[\\d\\-x]+$",
        "(^a|b)c?(d|$)",
        "^(?:a|b)c+?$",
        "[.*+]",
        "^\\u0061\\x62$",
        "^é|ü$",
        "^(a|b|c)*abc$",
        "^.*$",
        "[a-c]{3}1$",
        "a||b",
        "^()$"
      })
  void patternsAreThoseOfEcma262(String pattern) throws Exception {
    var automaton = RegularExpression.automaton(pattern);
    var expected = Pattern.compile(pattern);
    var random = new SplittableRandom(3);
    int[] letters = "aaabbbccd1- .*éü\n".codePoints().toArray();
    for (int i = 0; i < 2000; i++) {
      int[] text = new int[random.nextInt(7)];
      for (int j = 0; j < text.length; j++) {
        text[j] = letters[random.nextInt(letters.length)];
      }
      String string = new String(text, 0, text.length);
      int state = 0;
      for (int j = 0; j < text.length && state >= 0; j++) {
        state = automaton.next(state, text[j]);
      }
      // In Java's $ also stands before the last line break.
      boolean isAccepted = state >= 0 && automaton.accepts(state);
      if (!string.endsWith("\n") || !pattern.contains("$")) {
        assertEquals(expected.matcher(string).find(), isAccepted, "'" + string + "'");
      }
    }
  }

  @Test
  void anyObjectIsAnObject() {
    assertTrue(allows(JsonSchema.anyObject(), "{\"a\": [{}, null]}"));
    assertTrue(
        JsonState.start(JsonSchema.anyObject())
            .after("[".getBytes(StandardCharsets.UTF_8))
            .isDead());
    assertEquals(List.of(), JsonSchema.of("x", JsonNodeFactory.instance.booleanNode(true)).notes());
  }
}
