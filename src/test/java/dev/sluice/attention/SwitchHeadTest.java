package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SwitchHeadTest {
  private static Tensor gaussian(int seed, ElementType type, long... shape) {
    var random = new SplittableRandom(seed);
    long count = 1;
    for (long length : shape) {
      count *= length;
    }
    double[] values = new double[(int) count];
    for (int i = 0; i < values.length; i++) {
      values[i] = 2 * random.nextGaussian();
    }
    return Tensor.of(values, shape).to(type);
  }

  @ParameterizedTest
  @CsvSource({"1, 1, 1, 7", "2, 1, 3, 1", "4, 2, 2, 63", "8, 8, 1, 65", "5, 3, 7, 6"})
  void valuesAndGradientsAreThoseOfTheDefinition(int experts, int chosen, int heads, int size) {
    var switchHead = new SwitchHead(false, experts, chosen);
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
      try (var _ = Scope.open()) {
        var y = gaussian(1, type, 2, 9, (long) experts * heads, size).requireGradient(true);
        var z = gaussian(2, type, 2, 9, (long) experts * heads).requireGradient(true);
        var upstream = gaussian(3, type, 2, 9, heads, size);
        var exact =
            Differentiated.exact(
                in -> List.of(switchHead.composed(in.get(0), in.get(1))),
                List.of(y, z),
                List.of(upstream));
        Differentiated.of(
                in -> List.of(switchHead.apply(in.get(0), in.get(1))),
                List.of(y, z),
                List.of(upstream))
            .assertClose(
                exact, type == ElementType.FLOAT32 ? 2e-6 : 0x1p-7, switchHead.word() + " " + type);
      }
    }
  }

  /// By hand: the two of three experts with the larger scores, each times its score; the other's
  /// value and logit have no gradient.
  @Test
  void chosenExpertsAreSummed() {
    try (var _ = Scope.open()) {
      var y = Tensor.of(new float[] {10, 20, 40}, 1, 1, 3, 1).requireGradient(true);
      var z = Tensor.of(new float[] {0, -1, 3}, 1, 1, 3).requireGradient(true);
      var sum = new SwitchHead(false, 3, 2).apply(y, z);
      double third = 1 / (1 + Math.exp(-3));
      assertEquals(10 * 0.5 + 40 * third, sum.item(), 1e-5);
      sum.sum().backward();
      var dy = Objects.requireNonNull(y.gradient()).floats();
      var dz = Objects.requireNonNull(z.gradient()).floats();
      assertEquals(0.5, dy[0], 1e-6);
      assertEquals(0, dy[1]);
      assertEquals(third, dy[2], 1e-6);
      assertEquals(10 * 0.25, dz[0], 1e-6);
      assertEquals(0, dz[1]);
      assertEquals(40 * third * (1 - third), dz[2], 1e-5);
    }
  }

  /// Of equal scores the first experts are taken, never more than asked for.
  @Test
  void equalScores() {
    try (var _ = Scope.open()) {
      var y = Tensor.of(new float[] {1, 10, 100, 1000}, 1, 1, 4, 1);
      var z = Tensor.of(new float[4], 1, 1, 4);
      assertEquals(5.5, new SwitchHead(false, 4, 2).apply(y, z).item());
    }
  }

  @ParameterizedTest
  @CsvSource({"none", "value-1-choose-1", "value-8-choose-2", "key-value-4-choose-4"})
  void wordsAreReadBack(String word) {
    assertEquals(word, SwitchHead.parse(word).word());
  }

  @ParameterizedTest
  @CsvSource({"value-2-choose-3", "value-2-choose-0", "query-2-choose-1", "value-99999-choose-1"})
  void otherWordsAreRefused(String word) {
    var refusal = assertThrows(InvalidInputException.class, () -> SwitchHead.parse(word));
    assertTrue(refusal.getMessage().matches(".*(chosen, not|use none).*"), refusal.getMessage());
  }
}
