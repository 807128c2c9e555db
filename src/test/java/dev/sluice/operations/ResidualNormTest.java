package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.RmsNorm;
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
import org.junit.jupiter.params.provider.EnumSource;

/// The fused residual and norm, and the composed one, against the definition in float64 from the
/// same numbers: within 1e-6 of the largest number, and half a bfloat16 ulp where it is stored so.
class ResidualNormTest {
  private static final double EPSILON = 1e-6;
  private static final RmsNorm NORM = new RmsNorm(EPSILON);

  /// Up to more rows than two of the blocks that weight gradients are summed by, 64.
  private static final long[][] SHAPES = {
    {1, 1, 65}, {2, 7, 63}, {1, 63, 7}, {1, 65, 16}, {3, 47, 130}, {1, 1, 257}
  };

  private final SplittableRandom random = new SplittableRandom(31);
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

  /// A way to compute it.
  private interface Way {
    ResidualNorm apply(Tensor x, @Nullable Tensor y, Tensor weight, RmsNorm norm, ElementType type);
  }

  /// @param given x, y if it is there, and the weight
  private static Operation operation(Way way, ElementType type) {
    return given -> {
      var y = given.size() == 3 ? given.get(1) : null;
      var both = way.apply(given.getFirst(), y, given.getLast(), NORM, type);
      return List.of(both.sumBTD(), both.normedBTD());
    };
  }

  private List<Tensor> inputs(@Nullable ElementType added, long... shape) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(gaussian(random, ElementType.FLOAT32, shape));
    if (added != null) {
      inputs.add(gaussian(random, added, shape));
    }
    inputs.add(gaussian(random, ElementType.FLOAT32, shape[2]));
    return inputs;
  }

  private List<@Nullable Tensor> upstreams(ElementType type, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, ElementType.FLOAT32, shape).detach());
    upstreams.add(gaussian(random, type, shape).detach());
    return upstreams;
  }

  private static void assertRight(
      ElementType type, List<Tensor> inputs, List<@Nullable Tensor> upstreams, String what) {
    var exact =
        Differentiated.exact(
            operation(ResidualNorm::composed, ElementType.FLOAT64), inputs, upstreams);
    var fused = Differentiated.of(operation(ResidualNorm::apply, type), inputs, upstreams);
    var composed = Differentiated.of(operation(ResidualNorm::composed, type), inputs, upstreams);
    fused.assertClose(exact, 1e-6, what);
    composed.assertClose(exact, 1e-6, what + ", composed");
  }

  /// With an addition in the product's type, as the model has it, and without one; whichever of the
  /// results the loss depends on.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void valuesAndGradients(Precision precision) {
    var type = precision.elementType();
    for (long[] shape : SHAPES) {
      for (var added : new @Nullable ElementType[] {null, ElementType.FLOAT32, type}) {
        for (int used = 1; used < 4; used++) {
          var upstreams = upstreams(type, shape);
          for (int i = 0; i < 2; i++) {
            upstreams.set(i, (used >> i & 1) == 1 ? upstreams.get(i) : null);
          }
          String what = shape[0] + " × " + shape[1] + " × " + shape[2] + " + " + added;
          assertRight(type, inputs(added, shape), upstreams, what + " used " + used);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void onlyOneGradientIsWanted(Precision precision) {
    var type = precision.elementType();
    for (var added : new @Nullable ElementType[] {null, ElementType.FLOAT32, type}) {
      Differentiated.assertEachGradientAlone(
          operation(ResidualNorm::apply, type), inputs(added, 3, 47, 7), upstreams(type, 3, 47, 7));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void transposedTensors(Precision precision) {
    var type = precision.elementType();
    Way transposed =
        (x, y, weight, epsilon, wanted) ->
            ResidualNorm.apply(
                x.transpose(0, 1),
                Objects.requireNonNull(y).transpose(0, 1),
                weight,
                epsilon,
                wanted);
    Way composed =
        (x, y, weight, epsilon, wanted) ->
            ResidualNorm.composed(
                x.transpose(0, 1),
                Objects.requireNonNull(y).transpose(0, 1),
                weight,
                epsilon,
                wanted);
    var inputs = inputs(type, 3, 43, 7);
    var upstreams = new ArrayList<@Nullable Tensor>();
    for (var upstream : upstreams(type, 3, 43, 7)) {
      upstreams.add(Objects.requireNonNull(upstream).transpose(0, 1)); // not contiguous
    }
    Differentiated.of(operation(transposed, type), inputs, upstreams)
        .assertClose(
            Differentiated.exact(operation(composed, ElementType.FLOAT64), inputs, upstreams),
            1e-6,
            "transposed");
  }

  /// A stream through several of them, with a product in between, as in the model: gradients are
  /// handed from one fused operation to the other.
  @Test
  void chained() {
    var given =
        List.of(
            gaussian(random, ElementType.FLOAT32, 2, 43, 7),
            gaussian(random, ElementType.FLOAT32, 7),
            gaussian(random, ElementType.FLOAT32, 7, 7),
            gaussian(random, ElementType.FLOAT32, 7),
            gaussian(random, ElementType.FLOAT32, 7, 7),
            gaussian(random, ElementType.FLOAT32, 7));
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, ElementType.FLOAT32, 2, 43, 7).detach());
    Operation fused = tensors -> List.of(stream(ResidualNorm::apply, Precision.FLOAT32, tensors));
    Operation composed = tensors -> List.of(stream(ResidualNorm::composed, null, tensors));
    Differentiated.of(fused, given, upstreams)
        .assertClose(Differentiated.exact(composed, given, upstreams), 2e-6, "chained");
  }

  private static Tensor stream(Way way, @Nullable Precision precision, List<Tensor> given) {
    var type = given.getFirst().type();
    var first = way.apply(given.get(0), null, given.get(1), NORM, type);
    var y = linear(precision, first.normedBTD(), given.get(2));
    var second = way.apply(first.sumBTD(), y, given.get(3), NORM, type);
    var z = linear(precision, second.normedBTD(), given.get(4));
    return way.apply(second.sumBTD(), z, given.get(5), NORM, type).normedBTD();
  }

  private static Tensor linear(@Nullable Precision precision, Tensor x, Tensor weight) {
    return precision == null ? x.linear(weight) : precision.linear(x, new Weight("w", weight));
  }

  @Test
  void weightGradientAddsUpOverTwoPasses() {
    var weight = gaussian(random, ElementType.FLOAT32, 7);
    var x = gaussian(random, ElementType.FLOAT32, 3, 43, 7).detach();
    var upstream = gaussian(random, ElementType.FLOAT32, 3, 43, 7).detach();
    float[] once = new float[7];
    for (int pass = 1; pass <= 2; pass++) {
      ResidualNorm.apply(x, null, weight, NORM, ElementType.FLOAT32).normedBTD().backward(upstream);
      float[] sum = Objects.requireNonNull(weight.gradient()).floats();
      once = pass == 1 ? sum : once;
      for (int j = 0; j < 7; j++) {
        assertEquals(pass * once[j], sum[j], 129 * 0x1p-23);
      }
    }
  }

  /// Of rows of one element nothing but the sign is left, and next to nothing of a gradient: what
  /// cancels is `s · dOut · weight`, of which it may be 4 ulp off.
  @Test
  void rowsOfOneElement() {
    for (var added : new @Nullable ElementType[] {null, ElementType.FLOAT32}) {
      var given = inputs(added, 1, 65, 1);
      var upstreams = upstreams(ElementType.FLOAT32, 1, 65, 1);
      upstreams.set(0, null);
      var exact =
          Differentiated.exact(
              operation(ResidualNorm::composed, ElementType.FLOAT64), given, upstreams);
      var fused =
          Differentiated.of(operation(ResidualNorm::apply, ElementType.FLOAT32), given, upstreams);
      double[] sums = Objects.requireNonNull(exact.parts().getFirst().values());
      double[] dOut = Objects.requireNonNull(upstreams.getLast()).doubles();
      double[] expected = Objects.requireNonNull(exact.parts().get(2).values());
      double[] actual = Objects.requireNonNull(fused.parts().get(2).values());
      for (int i = 0; i < 65; i++) {
        double s = 1 / Math.sqrt(sums[i] * sums[i] + EPSILON);
        double terms = 2 * s * Math.abs(dOut[i] * given.getLast().detach().item());
        assertEquals(expected[i], actual[i], 4 * 0x1p-23 * terms, "row " + i);
      }
    }
  }

  /// Without an addition the stream goes on as it is.
  @Test
  void nothingAdded() {
    var x = gaussian(random, ElementType.FLOAT32, 2, 7, 5).detach();
    var weight = gaussian(random, ElementType.FLOAT32, 5).detach();
    var both = ResidualNorm.apply(x, null, weight, NORM, ElementType.BFLOAT16);
    assertArrayEquals(x.floats(), both.sumBTD().floats());
    assertEquals(ElementType.BFLOAT16, both.normedBTD().type());
  }
}
