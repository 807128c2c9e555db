package dev.sluice.ruler;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.files.JsonFile;
import dev.sluice.ruler.StringMatch.Metric;
import java.util.List;
import java.util.stream.IntStream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import tools.jackson.databind.JsonNode;

class StringMatchTest {
  private static double nvidia(Metric metric, String prediction, String... references) {
    return StringMatch.score(RulerMode.NVIDIA, metric, prediction, List.of(references));
  }

  @Test
  void controlCharactersBecomeLineEndsOneByOne() {
    assertEquals("a\n\nb", StringMatch.postprocessed(" a\r\nb\u0007"));
    assertEquals("x\u007Fy", StringMatch.postprocessed("x\u007Fy"));
  }

  @Test
  void whiteSpaceIsPythons() {
    assertEquals("a", StringMatch.postprocessed("\u00A0\u0085\u3000a\u2029\u001F"));
    assertEquals("\u200Ba\uFEFF", StringMatch.postprocessed("\u200Ba\uFEFF"));
  }

  @Test
  void nothingIsNull() {
    assertTrue(StringMatch.isNull("\u0000 \n"));
    assertFalse(StringMatch.isNull("\u200B"));
  }

  @Test
  void countsAllOrPart() {
    assertEquals(0.5, nvidia(Metric.ALL, "Blue and red", "BLUE", "green"));
    assertEquals(1, nvidia(Metric.PART, "Blue and red", "BLUE", "green"));
    assertEquals(0, nvidia(Metric.PART, "yellow", "BLUE", "green"));
    assertEquals(
        0.5,
        StringMatch.score(RulerMode.LM_EVAL, Metric.PART, "Blue and red", List.of("BLUE", "g")));
  }

  @Test
  void aReferenceWithoutCharactersIsAlwaysThere() {
    assertEquals(1, nvidia(Metric.ALL, "", ""));
  }

  @Test
  void noReferencesAreRefused() {
    assertThrows(InvalidInputException.class, () -> nvidia(Metric.ALL, "a"));
  }

  @Test
  void totalsAreRoundedAsPythonRounds() {
    assertEquals(66.67, StringMatch.total(RulerMode.NVIDIA, 1, 1, 0));
    assertEquals(2.0 / 3, StringMatch.total(RulerMode.LM_EVAL, 1, 1, 0));
    assertEquals(12.5, StringMatch.total(RulerMode.NVIDIA, 0.125));
  }

  @Test
  @Tag("shared")
  void equalsBothScorers() {
    var scores =
        JsonFile.object(
            TestData.SHARED.resolve("golden/ruler/scores.json"), JsonFile.SMALL, "restore it");
    var rows = StreamSupport.stream(scores.path("rows").spliterator(), false).toList();
    assertEquals(62, rows.size());
    for (var row : rows) {
      String prediction = row.path("prediction").asString();
      String about = row.path("about").asString();
      assertEquals(
          row.path("postprocessed").asString(), StringMatch.postprocessed(prediction), about);
      assertEquals(row.path("null").asBoolean(), StringMatch.isNull(prediction), about);
      assertEquals(
          row.path("string_match_all").asDouble(),
          total(RulerMode.NVIDIA, Metric.ALL, List.of(row)),
          about);
      assertEquals(
          row.path("string_match_part").asDouble(),
          total(RulerMode.NVIDIA, Metric.PART, List.of(row)),
          about);
      var port = row.path("lm_eval");
      assertEquals(
          port.path("string_match_all").asDouble(),
          total(RulerMode.LM_EVAL, Metric.ALL, List.of(row)),
          1e-12,
          about);
      assertEquals(
          port.path("string_match_part").asDouble(),
          total(RulerMode.LM_EVAL, Metric.PART, List.of(row)),
          1e-12,
          about);
    }
    var summary = scores.path("summary_of_evaluate_py");
    var third = IntStream.range(0, rows.size()).filter(i -> i % 3 == 0).mapToObj(rows::get);
    assertEquals(
        summary.path("niah_multivalue").path("score").asDouble(),
        total(RulerMode.NVIDIA, Metric.ALL, rows));
    assertEquals(
        summary.path("vt").path("score").asDouble(),
        total(RulerMode.NVIDIA, Metric.ALL, third.toList()));
    assertEquals(
        summary.path("qa_1").path("score").asDouble(), total(RulerMode.NVIDIA, Metric.PART, rows));
    assertEquals(
        scores.path("lm_eval_aggregate").path("mean_of_part").asDouble(),
        total(RulerMode.LM_EVAL, Metric.PART, rows),
        1e-12);
  }

  private static double total(RulerMode mode, Metric metric, List<JsonNode> rows) {
    return StringMatch.total(
        mode,
        rows.stream()
            .mapToDouble(
                row ->
                    StringMatch.score(
                        mode,
                        metric,
                        row.path("prediction").asString(),
                        StreamSupport.stream(row.path("references").spliterator(), false)
                            .map(JsonNode::asString)
                            .toList()))
            .toArray());
  }
}
