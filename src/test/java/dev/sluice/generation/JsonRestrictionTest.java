package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.RopeScaling;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.operations.Precision;
import dev.sluice.schema.JsonSchema;
import dev.sluice.schema.TokenMask;
import dev.sluice.schema.Vocabulary;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.ByteTokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A random model of bytes is made to write JSON.
class JsonRestrictionTest {
  private static final JsonMapper JSON = JsonFile.mapper().build();
  private static final ByteTokenizer BYTES = new ByteTokenizer();
  private static final Set<Integer> STOPS = Set.of(BYTES.endOfText());
  private static final int[] PROMPT = BYTES.encode("JSON:");

  private static final String SCHEMA =
      """
      {"type": "object", "additionalProperties": false, "required": ["name", "age"],
       "properties": {"name": {"type": "string", "maxLength": 5},
                      "age": {"type": "integer", "minimum": 0, "maximum": 150},
                      "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2}}}
      """;

  private static Decoder decoder;

  @BeforeAll
  static void initialize() {
    decoder =
        Decoder.initialize(
            DecoderConfig.uniform(
                260, // more than there are bytes
                16,
                24,
                2,
                4,
                2,
                8,
                256,
                10_000,
                new RopeScaling.None(),
                1e-6,
                true,
                false,
                0.5,
                List.of()),
            Precision.FLOAT32,
            Device.CPU,
            7);
  }

  @AfterAll
  static void close() {
    decoder.close();
  }

  private static TokenMask mask() {
    var schema = JsonSchema.of("the schema", JSON.readTree(SCHEMA));
    return new TokenMask(schema, new Vocabulary(BYTES.tokenBytes(), STOPS));
  }

  private static List<Generation> generate(
      List<? extends Restriction> restrictions, int most, Generator.Listener listener) {
    return new Generator(decoder)
        .generate(
            Prompt.of(PROMPT),
            new Choice(new Sampler(1, 0, 1, 5), LogitAdjustments.NONE, restrictions::get),
            most,
            STOPS,
            restrictions.size(),
            listener);
  }

  @Test
  void severalSequencesAreValidEachInItsOwnWay() {
    var mask = mask();
    var restrictions =
        List.of(
            new JsonRestriction(mask, OptionalInt.empty()),
            new JsonRestriction(mask, OptionalInt.empty()),
            new JsonRestriction(mask, OptionalInt.empty()));
    Set<String> texts = new HashSet<>();
    int i = 0;
    for (var generation : generate(restrictions, 120, (_, _, _) -> true)) {
      assertEquals(Ending.STOP_TOKEN, generation.ending());
      assertTrue(restrictions.get(i++).isComplete());
      String text = BYTES.decode(generation.ids());
      JsonNode value = JSON.readTree(text);
      assertTrue(value.get("name").stringValue().codePoints().count() <= 5, text);
      assertTrue(value.get("age").intValue() >= 0 && value.get("age").intValue() <= 150, text);
      texts.add(text);
    }
    assertEquals(3, texts.size());
  }

  /// Where the tokens that were asked for are too few, the text is the beginning of a value, and
  /// that is told.
  @Test
  void textsThatEndEarlyAreNotComplete() {
    var restriction = new JsonRestriction(mask(), OptionalInt.empty());
    var generation = generate(List.of(restriction), 9, (_, _, _) -> true).getFirst();
    assertEquals(Ending.LENGTH, generation.ending());
    assertFalse(restriction.isComplete());
    assertTrue(BYTES.decode(generation.ids()).strip().startsWith("{"));
  }

  /// Before the token that arms it, all is as without it, and from there on JSON follows.
  @Test
  void thinkingIsFree() {
    var free = generate(List.of(Restriction.NONE), 40, (_, _, _) -> true).getFirst().tokens();
    int mark = free.get(20);
    int until = free.indexOf(mark);
    var restriction = new JsonRestriction(mask(), OptionalInt.of(mark));
    var all = generate(List.of(restriction), 120, (_, _, _) -> true).getFirst();
    assertEquals(free.subList(0, until + 1), all.tokens().subList(0, until + 1));
    int[] json = Arrays.copyOfRange(all.ids(), until + 1, all.ids().length);
    assertTrue(JSON.readTree(BYTES.decode(json)).isObject());
    assertTrue(restriction.isComplete());
    var never = new JsonRestriction(mask(), OptionalInt.of(259));
    never.restrict(new float[260]);
    never.chosen(1);
    assertFalse(never.isComplete());
  }

  /// What is told of a token's probability is what the model gave.
  @Test
  void listenersSeeTheLogitsOfTheModel() {
    List<float[]> seen = new ArrayList<>();
    var restriction = new JsonRestriction(mask(), OptionalInt.empty());
    var _ = generate(List.of(restriction), 4, (_, _, logits) -> seen.add(logits.clone()));
    for (float[] logits : seen) {
      assertEquals(260, logits.length);
      for (float logit : logits) {
        assertNotEquals(Float.NEGATIVE_INFINITY, logit);
      }
    }
  }

  /// A bias that excludes all that the schema allows ends in a sentence.
  @Test
  void whatIsExcludedStaysExcluded() {
    var adjustments =
        new LogitAdjustments(
            1,
            0,
            0,
            Map.of(
                (int) '{', Double.NEGATIVE_INFINITY,
                (int) ' ', Double.NEGATIVE_INFINITY,
                (int) '\n', Double.NEGATIVE_INFINITY));
    var refusal =
        assertThrows(
            InvalidInputException.class,
            () ->
                new Generator(decoder)
                    .generate(
                        Prompt.of(PROMPT),
                        new Choice(
                            Sampler.GREEDY,
                            adjustments,
                            _ -> new JsonRestriction(mask(), OptionalInt.empty())),
                        5,
                        STOPS,
                        1,
                        (_, _, _) -> true));
    assertTrue(refusal.getMessage().contains("none of the 260 tokens"), refusal.getMessage());
  }
}
