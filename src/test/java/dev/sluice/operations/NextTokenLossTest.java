package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// The loss straight from hidden states against the definition in float64 from the same rounded
/// numbers.
///
/// Tolerance: 1e-6 of the largest number. In bfloat16 the gradients of logits are rounded, by up to
/// 2⁻⁸ of each, and those of hidden states once more when the loss is scaled: 2⁻⁷ of the largest
/// number, and half a bfloat16 ulp for the first rounding of hidden states' gradients.
class NextTokenLossTest {
  private final SplittableRandom random = new SplittableRandom(41);
  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  private static Weight head(Tensor leaf) {
    return new Weight("head", leaf);
  }

  private static Operation fused(ElementType type) {
    return fused(type, 0);
  }

  private static Operation fused(ElementType type, double zLoss) {
    return given -> List.of(total(given.get(0), given.get(1), given.get(2), type, zLoss));
  }

  private static Tensor total(
      Tensor hidden, Tensor table, Tensor targets, ElementType type, double zLoss) {
    return NextTokenLoss.apply(hidden, head(table), targets, type, zLoss).total();
  }

  private static Operation composed(ElementType type, double zLoss) {
    return given ->
        List.of(
            NextTokenLoss.composed(given.get(0), head(given.get(1)), given.get(2), type, zLoss)
                .total());
  }

  private static List<Tensor> definition(List<Tensor> given) {
    return definition(0).apply(given);
  }

  /// [NextTokenLoss#composed] but for its cast of logits to float32.
  private static Operation definition(double zLoss) {
    return given -> {
      var rows = given.get(0).reshape(-1, given.get(0).size(-1));
      var logits = rows.linear(given.get(1));
      return List.of(NextTokenLoss.ofLogits(logits, given.get(2).reshape(-1), zLoss).total());
    };
  }

  /// The first and the last token of the vocabulary are among them.
  private Tensor targets(int vocabulary, long... shape) {
    int count = 1;
    for (long length : shape) {
      count *= (int) length;
    }
    long[] targets = random.longs(count, 0, vocabulary).toArray();
    targets[0] = vocabulary - 1;
    targets[count / 2] = 0;
    return Tensor.of(targets, shape);
  }

  /// Hidden states that make logits of size 1, as a larger logit's rounding changes its power more.
  private Tensor hidden(ElementType type, long... shape) {
    var hidden = gaussian(random, ElementType.FLOAT32, shape).detach();
    double size = 1 / Math.sqrt((double) shape[shape.length - 1]);
    return hidden.times(size).to(type).detach().requireGradient(true);
  }

  private static List<@Nullable Tensor> upstream(double scale) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(Tensor.of(new double[] {scale}, 1));
    return upstreams;
  }

  private static double tolerance(ElementType type) {
    return type == ElementType.FLOAT32 ? 1e-6 : 0x1p-7;
  }

  /// With several blocks of 64 tokens, and with a vocabulary so large that no more than one block's
  /// gradients are held at a time. The loss is alone, or a part of what is minimized.
  @ParameterizedTest
  @CsvSource({"1,1,1,1", "1,7,5,17", "2,65,7,63", "3,43,16,65", "1,200,65,257", "1,70,3,131101"})
  void valueAndGradients(int batch, int tokens, int width, int vocabulary) {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var type = precision.elementType();
      var given =
          List.of(
              hidden(type, batch, tokens, width),
              rounded(random, vocabulary, width),
              targets(vocabulary, batch, tokens));
      for (double scale : vocabulary > 1000 ? new double[] {-3} : new double[] {1, 0.37, -3}) {
        String what = type + " " + batch + " × " + tokens + " of " + vocabulary + " by " + scale;
        var exact = Differentiated.exact(NextTokenLossTest::definition, given, upstream(scale));
        var actual = Differentiated.of(fused(type), given, upstream(scale));
        actual.assertClose(exact, tolerance(type), what);
        assertLoss(exact, actual, 1e-6);
        if (type == ElementType.FLOAT32) {
          Differentiated.of(composed(type, 0), given, upstream(scale))
              .assertClose(exact, tolerance(type), what + ", composed");
        }
      }
    }
  }

  /// With weights that make it small beside the cross-entropy and large.
  @ParameterizedTest
  @CsvSource({"1,1,1,2", "1,7,5,17", "2,65,7,63", "1,200,65,257"})
  void zLossValueAndGradients(int batch, int tokens, int width, int vocabulary) {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var type = precision.elementType();
      var given =
          List.of(
              hidden(type, batch, tokens, width),
              rounded(random, vocabulary, width),
              targets(vocabulary, batch, tokens));
      for (double weight : new double[] {1e-4, 0.3}) {
        for (double scale : new double[] {1, -3}) {
          String what = "%s %d of %d, z %s by %s".formatted(type, tokens, width, weight, scale);
          var exact = Differentiated.exact(definition(weight), given, upstream(scale));
          var actual = Differentiated.of(fused(type, weight), given, upstream(scale));
          actual.assertClose(exact, tolerance(type), what);
          assertLoss(exact, actual, 1e-6);
          if (type == ElementType.FLOAT32) {
            Differentiated.of(composed(type, weight), given, upstream(scale))
                .assertClose(exact, tolerance(type), what + ", composed");
          }
        }
      }
    }
  }

  /// The definition's own gradients are those of its formula, in float64 against differences.
  @Test
  void zLossGradientsAreDifferences() {
    double step = 1e-5;
    double weight = 0.3;
    double[] start = random.doubles(5 * 7, -2, 2).toArray();
    var targets = Tensor.of(new long[] {0, 6, 3, 3, 1}, 5);
    var logits = Tensor.of(start, 5, 7).requireGradient(true);
    NextTokenLoss.ofLogits(logits, targets, weight).total().backward();
    double[] gradient = Objects.requireNonNull(logits.gradient()).doubles();
    for (int i = 0; i < start.length; i++) {
      double[] values = new double[2];
      for (int side = 0; side < 2; side++) {
        double[] moved = start.clone();
        moved[i] += side == 0 ? -step : step;
        values[side] = zLossByHand(moved, targets.longs(), 7, weight);
      }
      assertEquals((values[1] - values[0]) / (2 * step), gradient[i], 1e-9, "logit " + i);
    }
  }

  private static double zLossByHand(
      double[] logits, long[] targets, int vocabulary, double weight) {
    double sum = 0;
    for (int r = 0; r < targets.length; r++) {
      double powers = 0;
      for (int j = 0; j < vocabulary; j++) {
        powers += Math.exp(logits[r * vocabulary + j]);
      }
      double log = Math.log(powers);
      sum += log - logits[r * vocabulary + (int) targets[r]] + weight * log * log;
    }
    return sum / targets.length;
  }

  /// The reported cross-entropy is that of a run without it, bit for bit, and the rest is told.
  @Test
  void zLossIsToldApart() {
    var hidden = gaussian(random, ElementType.FLOAT32, 2, 165, 7);
    var head = rounded(random, 63, 7);
    var targets = targets(63, 2, 165);
    var plain = NextTokenLoss.apply(hidden, head(head), targets, ElementType.FLOAT32, 0);
    assertSame(plain.total(), plain.crossEntropy());
    assertNull(plain.zLoss());
    for (boolean fused : new boolean[] {true, false}) {
      var with =
          fused
              ? NextTokenLoss.apply(hidden, head(head), targets, ElementType.FLOAT32, 0.25)
              : NextTokenLoss.composed(hidden, head(head), targets, ElementType.FLOAT32, 0.25);
      double z = Objects.requireNonNull(with.zLoss()).item();
      assertEquals(
          plain.total().item(), with.crossEntropy().item(), fused ? Double.MIN_VALUE : 1e-6);
      assertEquals(with.total().item(), with.crossEntropy().item() + z, 1e-6);
      assertTrue(z > 0.25 * 1e-3, "" + z);
    }
  }

  /// The loss itself is float32 whatever goes into the products.
  private static void assertLoss(Differentiated exact, Differentiated actual, double relative) {
    double expected = loss(exact);
    assertEquals(expected, loss(actual), relative * Math.abs(expected) + 0x1p-23);
  }

  private static double loss(Differentiated differentiated) {
    double[] values = differentiated.parts().getFirst().values();
    assert values != null;
    return values[0];
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void onlyOneGradientIsWanted(Precision precision) {
    var type = precision.elementType();
    var given = List.of(hidden(type, 2, 65, 7), rounded(random, 63, 7), targets(63, 2, 65));
    Differentiated.assertEachGradientAlone(fused(type), given, upstream(0.37));
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void transposedHiddenStatesAndTargets(Precision precision) {
    var type = precision.elementType();
    var given = List.of(hidden(type, 65, 2, 7), rounded(random, 63, 7), targets(63, 65, 2));
    Operation fused =
        tensors ->
            fused(type)
                .apply(
                    List.of(
                        tensors.get(0).transpose(0, 1),
                        tensors.get(1),
                        tensors.get(2).transpose(0, 1)));
    // a mean has no order
    var exact = Differentiated.exact(NextTokenLossTest::definition, given, upstream(1));
    Differentiated.of(fused, given, upstream(1)).assertClose(exact, tolerance(type), "transposed");
  }

  /// In mixed precision hidden states may be float32; they are rounded, and so is their gradient.
  @Test
  void wideHiddenStates() {
    var narrow = gaussian(random, ElementType.BFLOAT16, 1, 65, 7);
    var wide = narrow.detach().to(ElementType.FLOAT32).requireGradient(true);
    var head = rounded(random, 63, 7);
    var targets = targets(63, 1, 65);
    var fused = fused(ElementType.BFLOAT16);
    var expected = Differentiated.of(fused, List.of(narrow, head, targets), upstream(0.5));
    Differentiated.of(fused, List.of(wide, head, targets), upstream(0.5))
        .assertEqualTo(expected, "wide");
  }

  /// One table gives the embedding and the logits; both passes add to one gradient, twice.
  @Test
  void tiedTable() {
    var table = rounded(random, 63, 7);
    var ids = targets(63, 2, 65);
    var targets = targets(63, 2, 65);
    Operation fused =
        given -> {
          var table1 = given.getFirst();
          var once =
              total(
                  TokenEmbedding.apply(new Weight("table", table1), ids),
                  table1,
                  targets,
                  ElementType.FLOAT32,
                  0);
          once.times(2).backward();
          var again =
              total(
                  TokenEmbedding.apply(new Weight("table", table1), targets),
                  table1,
                  ids,
                  ElementType.FLOAT32,
                  0);
          return List.of(again);
        };
    Operation composed =
        given -> {
          var table1 = given.getFirst();
          definition(List.of(table1.embedding(ids), table1, targets))
              .getFirst()
              .times(2)
              .backward();
          return definition(List.of(table1.embedding(targets), table1, ids));
        };
    Differentiated.of(fused, List.of(table), upstream(0.37))
        .assertClose(Differentiated.exact(composed, List.of(table), upstream(0.37)), 1e-6, "tied");
  }

  /// Neither what is recorded nor the number of threads changes a bit of the loss.
  @Test
  void lossIsTheSameHoweverItIsComputed() {
    var hidden = gaussian(random, ElementType.FLOAT32, 2, 165, 7);
    var head = rounded(random, 63, 7);
    var targets = targets(63, 2, 165);
    Threads.count(1);
    double loss = total(hidden, head, targets, ElementType.FLOAT32, 0).item();
    for (int threads = 1; threads <= 3; threads++) {
      Threads.count(threads);
      assertEquals(loss, total(hidden, head, targets, ElementType.FLOAT32, 0).item());
      try (var _ = Scope.withoutGradient()) {
        assertEquals(loss, total(hidden, head, targets, ElementType.FLOAT32, 0).item());
      }
    }
  }
}
