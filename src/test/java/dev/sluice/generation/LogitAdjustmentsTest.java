package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.TinyDecoders;
import dev.sluice.gate.Gate;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class LogitAdjustmentsTest {
  @Test
  void penaltiesAndBiasesComeInOrder() {
    float[] logits = {2, -2, 3, 1, 0};
    var adjustments = new LogitAdjustments(2, 0.5, 0.25, Map.of(4, 7.0));
    adjustments.apply(
        logits, new boolean[] {true, true, false, true, false}, new int[] {0, 3, 0, 1, 0});
    // halved or doubled where seen, then less 0.5 and 0.25 a time where the text has it
    assertArrayEquals(new float[] {1, -4 - 0.5f - 0.75f, 3, 0.5f - 0.75f, 7}, logits);
  }

  @Test
  void refusesWhatIsNoPenalty() {
    for (double bad : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
      assertThrows(InvalidInputException.class, () -> new LogitAdjustments(bad, 0, 0, Map.of()));
    }
    assertThrows(
        InvalidInputException.class, () -> new LogitAdjustments(1, Double.NaN, 0, Map.of()));
    assertThrows(
        InvalidInputException.class,
        () -> new LogitAdjustments(1, 0, 0, Map.of(3, Double.POSITIVE_INFINITY)));
  }

  /// Texts at once are those that each seed's number gives alone, whichever end earlier.
  @Test
  void severalSequencesAreThoseAlone() {
    int[] prompt = {3, 1, 4, 1, 5};
    try (var decoder = TinyDecoders.random(Gate.SDPA_ELEMENTWISE)) {
      var generator = new Generator(decoder);
      var sampler = new Sampler(1.5, 0, 1, 0.01, 11);
      var together =
          generator.generate(
              Prompt.of(prompt), new Choice(sampler), 20, Set.of(7), 4, (_, _, _) -> true);
      assertEquals(generator.generate(prompt, sampler, 20, Set.of(7)), together.getFirst());
      assertNotEquals(together.get(0), together.get(1));
      List<Integer> seen = new ArrayList<>();
      var cut =
          generator.generate(
              Prompt.of(prompt),
              new Choice(sampler),
              20,
              Set.of(7),
              4,
              (sequence, token, _) -> {
                if (sequence == 2) {
                  seen.add(token);
                }
                return sequence != 0;
              });
      assertEquals(1, cut.getFirst().tokens().size());
      assertEquals(together.get(2), cut.get(2));
      assertEquals(seen, cut.get(2).tokens());
    }
  }

  @Test
  void anExcludedTokenNeverComes() {
    int[] prompt = {3, 1, 4};
    try (var decoder = TinyDecoders.random()) {
      var generator = new Generator(decoder);
      int first = generator.generate(prompt, Sampler.GREEDY, 1, Set.of()).tokens().getFirst();
      var without = new LogitAdjustments(1, 0, 0, Map.of(first, Double.NEGATIVE_INFINITY));
      var text =
          generator
              .generate(
                  Prompt.of(prompt),
                  new Choice(Sampler.GREEDY, without),
                  12,
                  Set.of(),
                  1,
                  (_, _, _) -> true)
              .getFirst();
      assertEquals(false, text.tokens().contains(first));
      var beyond = new LogitAdjustments(1, 0, 0, Map.of(1_000_000, 1.0));
      assertThrows(
          InvalidInputException.class,
          () ->
              generator.generate(
                  Prompt.of(prompt),
                  new Choice(Sampler.GREEDY, beyond),
                  1,
                  Set.of(),
                  1,
                  (_, _, _) -> true));
    }
  }
}
