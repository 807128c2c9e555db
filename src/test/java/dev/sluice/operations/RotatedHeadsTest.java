package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertSame;

import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.RotaryEmbedding;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// QK-norm and rotation as one operation, and composed, against the definition in float64 from the
/// same numbers: within 1e-6 of the largest number, and half a bfloat16 ulp where it is stored so.
class RotatedHeadsTest {
  private static final double EPSILON = 1e-6;
  private static final RmsNorm NORM = new RmsNorm(EPSILON);

  private final SplittableRandom random = new SplittableRandom(47);
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

  private static Rotation rotation(long tokens, long width) {
    return new RotaryEmbedding(new Rotary(100, new RopeScaling.None()), Math.toIntExact(width))
        .rotation(3, Math.toIntExact(tokens), Device.CPU);
  }

  /// @param given x, and the weight if there is a norm
  private static Operation fused(@Nullable Rotation rotation) {
    return given -> List.of(RotatedHeads.apply(given.getFirst(), weight(given), NORM, rotation));
  }

  private static Operation composed(@Nullable Rotation rotation) {
    return given -> List.of(RotatedHeads.composed(given.getFirst(), weight(given), NORM, rotation));
  }

  /// [RotatedHeads#composed] but for its casts to float32.
  private static Operation definition(Rotation rotation) {
    return given -> {
      var x = given.getFirst();
      var weight = weight(given);
      var wide =
          new Rotation(
              rotation.cosines().to(ElementType.FLOAT64), rotation.sines().to(ElementType.FLOAT64));
      return List.of(wide.rotate(weight == null ? x : x.rmsNorm(weight, EPSILON)));
    };
  }

  private static @Nullable Tensor weight(List<Tensor> given) {
    return given.size() == 2 ? given.getLast() : null;
  }

  private List<Tensor> inputs(ElementType type, boolean normed, long... shape) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(gaussian(random, type, shape));
    if (normed) {
      inputs.add(gaussian(random, ElementType.FLOAT32, shape[3]));
    }
    return inputs;
  }

  private List<@Nullable Tensor> upstream(ElementType type, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, shape).detach());
    return upstreams;
  }

  /// Two sequences start at the same position; more tokens than two of the blocks that weight
  /// gradients are summed by, 64.
  @ParameterizedTest
  @CsvSource({"1,1,1,2", "2,7,3,6", "1,65,2,10", "2,63,1,32", "3,47,3,64", "1,7,8,128", "2,5,2,96"})
  void valuesAndGradients(int batch, int tokens, int heads, int width) {
    long[] shape = {batch, tokens, heads, width};
    var rotation = rotation(tokens, width);
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var type = precision.elementType();
      for (boolean normed : new boolean[] {false, true}) {
        var inputs = inputs(type, normed, shape);
        var upstreams = upstream(type, shape);
        String what = type + " " + List.of(batch, tokens, heads, width) + " normed " + normed;
        var exact = Differentiated.exact(definition(rotation), inputs, upstreams);
        Differentiated.of(fused(rotation), inputs, upstreams).assertClose(exact, 1e-6, what);
        Differentiated.of(composed(rotation), inputs, upstreams)
            .assertClose(exact, 1e-6, what + ", composed");
      }
    }
  }

  /// The norm alone, as in a layer that no position turns; without it too, nothing is done.
  @ParameterizedTest
  @CsvSource({"1,1,1,2", "2,65,3,10", "2,47,3,64"})
  void withoutARotation(int batch, int tokens, int heads, int width) {
    long[] shape = {batch, tokens, heads, width};
    Operation definition = given -> List.of(given.getFirst().rmsNorm(given.getLast(), EPSILON));
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var type = precision.elementType();
      var inputs = inputs(type, true, shape);
      var upstreams = upstream(type, shape);
      var exact = Differentiated.exact(definition, inputs, upstreams);
      Differentiated.of(fused(null), inputs, upstreams).assertClose(exact, 1e-6, "fused " + type);
      Differentiated.of(composed(null), inputs, upstreams)
          .assertClose(exact, 1e-6, "composed " + type);
      var x = inputs.getFirst();
      assertSame(x, RotatedHeads.apply(x, null, NORM, null));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void transposedTensors(Precision precision) {
    var type = precision.elementType();
    var rotation = rotation(43, 32);
    Operation fused =
        given ->
            List.of(
                RotatedHeads.apply(
                    given.getFirst().transpose(1, 2), given.getLast(), NORM, rotation));
    Operation definition =
        given ->
            definition(rotation).apply(List.of(given.getFirst().transpose(1, 2), given.getLast()));
    var inputs = inputs(type, true, 2, 3, 43, 32);
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, 2, 3, 43, 32).detach().transpose(1, 2));
    Differentiated.of(fused, inputs, upstreams)
        .assertClose(Differentiated.exact(definition, inputs, upstreams), 1e-6, "transposed");
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void onlyOneGradientIsWanted(Precision precision) {
    var type = precision.elementType();
    Differentiated.assertEachGradientAlone(
        fused(rotation(43, 32)), inputs(type, true, 2, 43, 3, 32), upstream(type, 2, 43, 3, 32));
    Differentiated.assertEachGradientAlone(
        fused(rotation(43, 6)), inputs(type, false, 2, 43, 3, 6), upstream(type, 2, 43, 3, 6));
  }

  /// Also the weight's gradient, whose sums have one order.
  @Test
  void threadsDoNotChangeABit() {
    var rotation = rotation(165, 32);
    var inputs = inputs(ElementType.FLOAT32, true, 2, 165, 3, 32);
    var upstreams = upstream(ElementType.FLOAT32, 2, 165, 3, 32);
    Threads.count(1);
    var once = Differentiated.of(fused(rotation), inputs, upstreams);
    for (int threads = 2; threads <= 3; threads++) {
      Threads.count(threads);
      Differentiated.of(fused(rotation), inputs, upstreams).assertEqualTo(once, "threads");
    }
    assertArrayEquals(new long[] {2, 165, 3, 32}, inputs.getFirst().shape());
  }
}
