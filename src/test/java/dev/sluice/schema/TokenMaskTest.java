package dev.sluice.schema;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tokenizer.ByteTokenizer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class TokenMaskTest {
  private static final int END = 256;
  private static final int WALKS = 24;
  private static final int LOOKS = 30;

  /// Bytes, an end token, and tokens that join parts of JSON or cut characters.
  private static final Vocabulary JOINED = new Vocabulary(joined(), Set.of(END));

  private static final Vocabulary BYTES =
      new Vocabulary(new ByteTokenizer().tokenBytes(), Set.of(new ByteTokenizer().endOfText()));

  private static byte[][] joined() {
    List<byte[]> bytes = new ArrayList<>();
    for (int b = 0; b < END; b++) {
      bytes.add(new byte[] {(byte) b});
    }
    bytes.add("<end>".getBytes(StandardCharsets.UTF_8));
    bytes.add(new byte[0]); // a special token
    for (String token :
        List.of(
            "{\"",
            "\":",
            "\": ",
            "\": \"",
            "\"},",
            "\", \"",
            "\"]}",
            "]}",
            "}}",
            "},\n  {",
            "[[",
            "[]",
            "{}",
            "tru",
            "true",
            "rue,",
            "null]",
            "12",
            "120",
            "-1",
            ".5",
            "0.",
            "e1",
            "1e",
            "abc",
            " the",
            "ab\"",
            "xy\",\"",
            "\\n",
            "\\\"",
            "\\u00",
            "d83d\\",
            "\\ud83d",
            "\\udc0b",
            "e9",
            "é",
            "鯨",
            "🐋",
            "\"é",
            "é\"",
            "\n",
            "\n    ",
            "  ",
            "\t",
            "name",
            "name\": ",
            "\"age\": ",
            "kind\":\"circle\",\"r\":",
            "[true, false]",
            "red\"",
            "\"ready\",",
            "12,1")) {
      bytes.add(token.getBytes(StandardCharsets.UTF_8));
    }
    bytes.add(new byte[] {'"', (byte) 0xC3});
    bytes.add(new byte[] {(byte) 0xA9, '"'});
    bytes.add(new byte[] {(byte) 0x9F, (byte) 0x90});
    bytes.add(new byte[] {(byte) 0x8B, '"', ':'});
    bytes.add(new byte[] {(byte) 0xED, (byte) 0xA0}); // half of a pair
    bytes.add(new byte[] {'a', 'b', 'c'}); // a second token of the same bytes
    return bytes.toArray(byte[][]::new);
  }

  static List<List<String>> samples() {
    return SchemaSamples.ALL;
  }

  private static JsonSchema schema(String text) {
    return JsonSchema.of("the schema", SchemaSamples.json(text));
  }

  /// Every text that the mask lets be made is valid, and on the way the mask is what its definition
  /// says: the tokens whose bytes alone may follow, and the end where the value is complete.
  @ParameterizedTest
  @MethodSource("samples")
  void whateverIsChosenTheTextIsValid(List<String> sample) {
    var schema = schema(sample.getFirst());
    var definition = new SchemaDefinition(SchemaSamples.json(sample.getFirst()));
    var random = new SplittableRandom(11);
    for (var vocabulary : List.of(BYTES, JOINED)) {
      var mask = new TokenMask(schema, vocabulary);
      int ended = 0;
      for (int walk = 0; walk < WALKS; walk++) {
        int[] looks = {walk == 0 ? LOOKS : 0};
        byte[] bytes =
            SchemaSamples.walk(
                mask,
                vocabulary,
                SchemaSamples.beginning(sample, random),
                random,
                (state, allowed) -> {
                  if (looks[0]-- > 0) {
                    assertEquals(byDefinition(state, vocabulary, mask), allowed);
                  }
                });
        if (bytes != null) {
          String text = new String(bytes, StandardCharsets.UTF_8);
          assertFalse(text.contains("\uFFFD"), text);
          assertTrue(definition.allows(SchemaSamples.exactly(text)), text);
          ended++;
        }
      }
      assertTrue(ended > 2, "only " + ended + " walks ended");
    }
  }

  private static BitSet byDefinition(JsonState state, Vocabulary vocabulary, TokenMask mask) {
    var allowed = new BitSet();
    for (int id = 0; id < vocabulary.size(); id++) {
      byte[] bytes = vocabulary.bytes(id);
      allowed.set(
          id,
          mask.isEnd(id) ? state.isComplete() : bytes.length > 0 && !state.after(bytes).isDead());
    }
    return allowed;
  }

  /// Each sample, and whatever is like it but for one part, can be written exactly where it is
  /// valid, with the blanks that others write.
  @ParameterizedTest
  @MethodSource("samples")
  void exactlyWhatIsValidCanBeWritten(List<String> sample) {
    var schema = schema(sample.getFirst());
    var definition = new SchemaDefinition(SchemaSamples.json(sample.getFirst()));
    int valid = 0;
    int invalid = 0;
    for (String given : sample.subList(1, sample.size())) {
      assertTrue(definition.allows(SchemaSamples.json(given)), given);
      for (var value : SchemaSamples.like(SchemaSamples.json(given))) {
        boolean isValid = definition.allows(value);
        for (int style = 0; style < 3; style++) {
          String text = SchemaSamples.written(value, style);
          var state = JsonState.start(schema).after(text.getBytes(StandardCharsets.UTF_8));
          assertEquals(isValid, state.isComplete(), text);
        }
        valid += isValid ? 1 : 0;
        invalid += isValid ? 0 : 1;
      }
    }
    assertTrue(valid > 0 && (invalid > 0 || sample.getFirst().equals("{}")));
  }

  @Test
  void logitsOfOtherTokensAreExcluded() {
    var mask = new TokenMask(schema("{'type': 'boolean'}"), JOINED);
    float[] logits = new float[JOINED.size() + 100]; // a model has rows that no token has
    mask.restrict(mask.start(), logits);
    var allowed = mask.allowed(mask.start());
    for (int id = 0; id < logits.length; id++) {
      assertEquals(allowed.get(id) ? 0 : Float.NEGATIVE_INFINITY, logits[id], "token " + id);
    }
    assertTrue(allowed.get('t') && allowed.get('\n') && !allowed.get(END), allowed::toString);
    JsonState done = mask.after(mask.after(mask.after(mask.start(), '\n'), 't'), 'r');
    done = mask.after(mask.after(done, 'u'), 'e');
    assertEquals(BitSet.valueOf(new long[] {0, 0, 0, 0, 1}), mask.allowed(done));
    assertThrows(IllegalArgumentException.class, () -> mask.after(mask.start(), 'x'));
    assertThrows(IllegalArgumentException.class, () -> mask.after(mask.start(), END + 1));
  }

  /// Tokens by their classes are what each token is by itself, from every state of a pattern.
  @ParameterizedTest
  @ValueSource(
      strings = {
        "^.{1,40}$",
        "^[a-z]{0,9}é?$",
        "^(abc|ab)+$",
        "^[^a]{2,5}[0-9]*$",
        "^\\\\ud83d\\\\udc0b{1,3}$",
        "^[A-Z]{2}-\\\\d{4}$",
        "x"
      })
  void classesOfTokensAreTheTokens(String pattern) {
    SchemaSamples.requireEqualClasses(JOINED, pattern);
    SchemaSamples.requireEqualClasses(BYTES, pattern);
  }

  @Test
  void wordsOfManyCharactersHaveNoClasses() {
    var letters = IntStream.range('A', 'z').mapToObj(Character::toString).toList();
    assertNull(CharacterAutomaton.ofWords(letters).classes());
    assertNotNull(CharacterAutomaton.ofWords(List.of("abc", "bcd")).classes());
  }

  @Test
  void blanksAndDepthAreBounded() {
    var mask = new TokenMask(JsonSchema.anyObject(), BYTES);
    String deep = "{\"a\":" + "[".repeat(JsonSchema.LEVELS - 1);
    var state = mask.start().after(deep.getBytes(StandardCharsets.UTF_8));
    assertFalse(state.isDead());
    assertTrue(state.after(new byte[] {'['}).isDead());
    assertFalse(state.after(new byte[] {']'}).isDead());
    assertTrue(mask.start().after("{ \n".getBytes(StandardCharsets.UTF_8)).isDead());
    assertTrue(mask.start().after("{\n     ".getBytes(StandardCharsets.UTF_8)).isDead());
    assertTrue(mask.start().after("\n\n\n".getBytes(StandardCharsets.UTF_8)).isDead());
  }

  /// Many ways to read the same text do not become more and more, and the text stays valid.
  @Test
  void readingsAreBounded() {
    String many = "{'type':'object','properties':{'c':{'$ref':'#'},'x%d':{}}}";
    String[] alternatives =
        IntStream.range(0, 18).mapToObj(i -> many.formatted(i)).toArray(String[]::new);
    var schema = schema("{'anyOf': [" + String.join(",", alternatives) + "]}");
    String deep = "{'c':{'c':{'c':{'c':".replace('\'', '"');
    var state = JsonState.start(schema).after(deep.getBytes(StandardCharsets.UTF_8));
    assertFalse(state.isDead());
    assertTrue(state.frames().size() <= ByteAutomaton.MOST_READINGS);
    var mask = new TokenMask(schema, BYTES);
    var random = new SplittableRandom(5);
    for (int i = 0; i < 2; i++) {
      byte[] text =
          SchemaSamples.walk(
              mask, BYTES, deep.getBytes(StandardCharsets.UTF_8), random, (_, _) -> {});
      assertTrue(SchemaSamples.exactly(new String(text, StandardCharsets.UTF_8)).isObject());
    }
  }

  @Test
  void vocabulariesThatCannotWriteJsonAreRefused() {
    byte[][] without = joined();
    without['}'] = new byte[0];
    var refusal =
        assertThrows(InvalidInputException.class, () -> new Vocabulary(without, Set.of(END)));
    assertTrue(refusal.getMessage().contains("0x7D"), refusal.getMessage());
    refusal = assertThrows(InvalidInputException.class, () -> new Vocabulary(joined(), Set.of()));
    assertTrue(refusal.getMessage().contains("--eos-token"), refusal.getMessage());
    var mask = new TokenMask(JsonSchema.anyObject(), JOINED);
    refusal =
        assertThrows(
            InvalidInputException.class, () -> mask.restrict(mask.start(), new float[END]));
    assertTrue(refusal.getMessage().contains("256 tokens"), refusal.getMessage());
  }
}
