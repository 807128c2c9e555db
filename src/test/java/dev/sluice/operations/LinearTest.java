package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.FusedOp;
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

/// Products of one input with several weights, against the definition in float64 from the same
/// rounded numbers: within 4 ulp of Σ|terms|, and half a bfloat16 ulp where the result is stored
/// so.
class LinearTest {
  private static final double ULPS = 4 * 0x1p-23;

  private final SplittableRandom random = new SplittableRandom(23);
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
  }

  private static Weight weight(Tensor leaf) {
    return new Weight("w", leaf);
  }

  private static List<Weight> weights(List<Tensor> leaves) {
    return leaves.stream().map(LinearTest::weight).toList();
  }

  /// The first input with all others as weights.
  private static Operation fused(ElementType type) {
    return inputs ->
        Linear.apply(inputs.getFirst(), weights(inputs.subList(1, inputs.size())), type);
  }

  private static Operation composed(ElementType type) {
    return inputs ->
        Linear.composed(inputs.getFirst(), weights(inputs.subList(1, inputs.size())), type);
  }

  private static List<Tensor> magnitudes(List<Tensor> tensors) {
    return tensors.stream()
        .map(tensor -> tensor.detach().absolute().requireGradient(tensor.requiresGradient()))
        .toList();
  }

  private static List<@Nullable Tensor> magnitudesOf(List<@Nullable Tensor> tensors) {
    var magnitudes = new ArrayList<@Nullable Tensor>();
    for (var tensor : tensors) {
      magnitudes.add(tensor == null ? null : tensor.detach().absolute());
    }
    return magnitudes;
  }

  private static void assertRight(
      ElementType type, List<Tensor> inputs, List<@Nullable Tensor> upstreams, String what) {
    var exact = Differentiated.exact(composed(ElementType.FLOAT64), inputs, upstreams);
    // All of it is linear in every factor, so that magnitudes give the sums of magnitudes.
    var terms =
        Differentiated.exact(
            composed(ElementType.FLOAT64), magnitudes(inputs), magnitudesOf(upstreams));
    var actual = Differentiated.of(fused(type), inputs, upstreams);
    actual.assertClose(exact, terms, ULPS, what);
    if (type == ElementType.FLOAT32) {
      var defined = Differentiated.of(composed(type), inputs, upstreams);
      defined.assertClose(exact, terms, ULPS, what + ", composed");
    }
  }

  private List<@Nullable Tensor> upstreams(ElementType type, long rows, int... widths) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    for (int width : widths) {
      upstreams.add(gaussian(random, type, rows, width).requireGradient(false));
    }
    return upstreams;
  }

  /// Also more rows than are worked on at a time, 256.
  @ParameterizedTest
  @CsvSource({"1,1,1", "7,1,63", "1,65,7", "63,7,65", "65,63,1", "257,65,7", "600,16,130"})
  void valuesAndGradients(int rows, int in, int out) {
    for (var type : new ElementType[] {ElementType.FLOAT32, ElementType.BFLOAT16}) {
      var x = gaussian(random, type, rows, in);
      var one = rounded(random, out, in);
      var two = rounded(random, 5, in);
      var three = rounded(random, 1, in);
      String what = type + " " + rows + " × " + in + " × " + out;
      assertRight(type, List.of(x, one), upstreams(type, rows, out), what);
      assertRight(
          type, List.of(x, one, two, three), upstreams(type, rows, out, 5, 1), what + ", three");
    }
  }

  /// Logits of bfloat16 inputs, against the definition: the result has all bits of the float32 sum,
  /// and its gradient is rounded only where it is multiplied.
  @Test
  void logitsAreNotRounded() {
    var x = gaussian(random, ElementType.BFLOAT16, 65, 63);
    var weight = rounded(random, 33, 63);
    var upstream = List.<@Nullable Tensor>of(rounded(random, 65, 33).requireGradient(false));
    Operation logits =
        inputs -> List.of(Precision.BFLOAT16.logits(inputs.getFirst(), weight(inputs.getLast())));
    var exact = Differentiated.exact(composed(ElementType.FLOAT64), List.of(x, weight), upstream);
    var terms =
        Differentiated.exact(
            composed(ElementType.FLOAT64), magnitudes(List.of(x, weight)), magnitudesOf(upstream));
    var actual = Differentiated.of(logits, List.of(x, weight), upstream);
    assertEquals(ElementType.FLOAT32, logits.apply(List.of(x, weight)).getFirst().type());
    actual.assertClose(exact, terms, ULPS, "logits");
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void unusedResultsCountForNothing(ElementType type) {
    var inputs =
        List.of(
            gaussian(random, type, 65, 7),
            rounded(random, 3, 7),
            rounded(random, 5, 7),
            rounded(random, 4, 7));
    for (int used = 1; used < 7; used++) {
      var upstreams = upstreams(type, 65, 3, 5, 4);
      for (int i = 0; i < 3; i++) {
        upstreams.set(i, (used >> i & 1) == 1 ? upstreams.get(i) : null);
      }
      assertRight(type, inputs, upstreams, "used " + Integer.toBinaryString(used));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void onlyOneGradientIsWanted(ElementType type) {
    var inputs =
        List.of(gaussian(random, type, 65, 7), rounded(random, 3, 7), rounded(random, 5, 7));
    Differentiated.assertEachGradientAlone(fused(type), inputs, upstreams(type, 65, 3, 5));
  }

  /// Leading dimensions are kept; an input that is not contiguous is read right.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void transposedInput(ElementType type) {
    var x = gaussian(random, type, 3, 43, 7);
    var weight = rounded(random, 5, 7);
    var upstream = gaussian(random, type, 43, 3, 5).transpose(0, 1).contiguous().transpose(0, 1);
    Operation fused =
        inputs ->
            Linear.apply(inputs.getFirst().transpose(0, 1), weights(inputs.subList(1, 2)), type);
    Operation composed =
        inputs -> List.of(inputs.getFirst().transpose(0, 1).contiguous().linear(inputs.getLast()));
    assertArrayEquals(
        new long[] {43, 3, 5},
        fused.apply(List.of(x, weight)).getFirst().shape(),
        "leading dimensions");
    var inputs = List.of(x, weight);
    var upstreams = new ArrayList<@Nullable Tensor>(List.of(upstream.detach()));
    Differentiated.of(fused, inputs, upstreams)
        .assertClose(
            Differentiated.exact(composed, inputs, upstreams),
            Differentiated.exact(composed, magnitudes(inputs), magnitudesOf(upstreams)),
            ULPS,
            type.toString());
  }

  /// In mixed precision an input may be float32 and is rounded; its gradient is, too.
  @Test
  void wideInputOfANarrowProduct() {
    var x = gaussian(random, ElementType.FLOAT32, 65, 7);
    var weight = gaussian(random, ElementType.FLOAT32, 5, 7);
    var upstream = gaussian(random, ElementType.BFLOAT16, 65, 5).requireGradient(false);
    Linear.apply(x, weights(List.of(weight)), ElementType.BFLOAT16).getFirst().backward(upstream);
    var narrow = x.detach().to(ElementType.BFLOAT16).requireGradient(true);
    var rounded = weight.detach().to(ElementType.BFLOAT16).to(ElementType.FLOAT32);
    rounded.requireGradient(true);
    Linear.apply(narrow, weights(List.of(rounded)), ElementType.BFLOAT16)
        .getFirst()
        .backward(upstream);
    var dx = Objects.requireNonNull(x.gradient());
    assertEquals(ElementType.FLOAT32, dx.type());
    assertArrayEquals(gradient(narrow), dx.floats());
    assertArrayEquals(gradient(rounded), gradient(weight));
  }

  private static float[] gradient(Tensor leaf) {
    return Objects.requireNonNull(leaf.gradient()).floats();
  }

  /// The second pass adds to the memory that the first one made.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void gradientsAddUpOverTwoPasses(ElementType type) {
    var weights = List.of(rounded(random, 3, 7), rounded(random, 65, 7));
    var expected = List.of(new double[3 * 7], new double[65 * 7]);
    var addresses = new ArrayList<Long>();
    for (int pass = 0; pass < 2; pass++) {
      var x = gaussian(random, type, 130, 7);
      var alone = weights.stream().map(w -> w.detach().requireGradient(true)).toList();
      var upstreams =
          List.of(
              gaussian(random, type, 130, 3).detach(), gaussian(random, type, 130, 65).detach());
      loss(Linear.apply(x, weights(weights), type), upstreams).backward();
      loss(Linear.apply(x, weights(alone), type), upstreams).backward();
      for (int i = 0; i < 2; i++) {
        double[] more = Objects.requireNonNull(alone.get(i).gradient()).doubles();
        var gradient = Objects.requireNonNull(weights.get(i).gradient());
        addresses.add(gradient.memory().address());
        double[] actual = gradient.doubles();
        for (int j = 0; j < actual.length; j++) {
          expected.get(i)[j] += more[j];
          assertEquals(expected.get(i)[j], actual[j], 260 * ULPS);
        }
      }
    }
    assertEquals(addresses.subList(0, 2), addresses.subList(2, 4));
  }

  private static Tensor loss(List<Tensor> results, List<Tensor> upstreams) {
    return results
        .getFirst()
        .times(upstreams.getFirst())
        .sum()
        .plus(results.getLast().times(upstreams.getLast()).sum());
  }

  /// Only float32 leaves have a gradient's memory to add to; others take the definition. The
  /// experts of a mixture that get no tokens: their gradients are there, as those of others are,
  /// and whoever watches gradients hears of them.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void sumsOverNoRowsAreZero(Precision precision) {
    var first = gaussian(random, ElementType.FLOAT32, 5, 7);
    var second = gaussian(random, ElementType.FLOAT32, 3, 7);
    var none = gaussian(random, precision.elementType(), 2, 7).narrow(0, 1, 0);
    for (var weights : List.of(List.of(first), List.of(first, second))) {
      var told = new ArrayList<Tensor>();
      FusedOp.watchGradients(told::add);
      var sum = Tensor.zeros(ElementType.FLOAT32, 1);
      for (var result : precision.linear(none, weights(weights))) {
        assertEquals(0, result.elements());
        assertEquals(2, result.shape().length);
        sum = sum.plus(result.to(ElementType.FLOAT32).sum());
      }
      sum.sum().backward();
      FusedOp.watchGradients(null);
      assertEquals(weights.size(), told.size());
      for (var weight : weights) {
        float[] gradient = Objects.requireNonNull(weight.gradient()).floats();
        assertArrayEquals(new float[gradient.length], gradient);
      }
    }
    // and what there is stays
    precision
        .linear(gaussian(random, precision.elementType(), 2, 7), weight(first))
        .to(ElementType.FLOAT32)
        .sum()
        .backward();
    float[] before = Objects.requireNonNull(first.gradient()).floats();
    precision.linear(none, weight(first)).sum().backward();
    assertArrayEquals(before, Objects.requireNonNull(first.gradient()).floats());
  }

  @Test
  void weightsThatAreNoLeavesTakeTheDefinition() {
    var leaf = gaussian(random, ElementType.FLOAT32, 5, 7);
    assertTrue(weight(leaf).takesGradient());
    assertFalse(weight(leaf.times(2)).takesGradient());
    assertFalse(weight(gaussian(random, ElementType.BFLOAT16, 5, 7)).takesGradient());
    assertFalse(
        weight(gaussian(random, ElementType.FLOAT32, 7, 5).transpose(0, 1)).takesGradient());
    var x = gaussian(random, ElementType.FLOAT32, 3, 7);
    var inputs = List.of(x, leaf);
    var upstreams = upstreams(ElementType.FLOAT32, 3, 5);
    Operation byPrecision =
        given ->
            List.of(Precision.FLOAT32.linear(given.getFirst(), weight(given.getLast().times(2))));
    Operation definition = given -> List.of(given.getFirst().linear(given.getLast().times(2)));
    Differentiated.of(byPrecision, inputs, upstreams)
        .assertEqualTo(Differentiated.of(definition, inputs, upstreams), "no leaf");
  }
}
