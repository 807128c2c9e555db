package dev.sluice.gate;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.probe.Probe;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Precision;
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
import org.junit.jupiter.params.provider.EnumSource;

/// The gate and the product after it as one operation, against the definition in float64.
class GateInLinearTest {
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
  }

  /// @return of y, logits and weight
  private static Operation fused(Precision precision) {
    return given ->
        List.of(precision.linear(new SigmoidGate(given.get(0), given.get(1)), given.get(2)));
  }

  private static Operation composed() {
    return given ->
        List.of(new SigmoidGate(given.get(0), given.get(1)).composed().linear(given.get(2)));
  }

  private List<Tensor> inputs(Precision precision, int tokens, int heads, int size, int scores) {
    return List.of(
        gaussian(random, precision.elementType(), 2, tokens, heads * size),
        gaussian(random, precision.elementType(), 2, tokens, scores),
        rounded(random, 33, heads * size));
  }

  private List<@Nullable Tensor> upstreams(Precision precision, int tokens) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, precision.elementType(), 2, tokens, 33).detach());
    return upstreams;
  }

  /// Within 1e-6 of the largest number; in bfloat16, where the gated tensor and its gradient are
  /// rounded on the way, 2⁻⁷ of it. More rows than the 256 that are worked on at a time, too.
  @ParameterizedTest
  @EnumSource
  void valuesAndGradients(Precision precision) {
    int[][] sizes = {{1, 1, 1}, {7, 3, 5}, {65, 2, 63}, {131, 5, 7}, {260, 2, 64}};
    for (int[] size : sizes) {
      int heads = size[1];
      for (int scores : new int[] {heads, heads * size[2]}) { // headwise, elementwise
        var inputs = inputs(precision, size[0], heads, size[2], scores);
        var upstreams = upstreams(precision, size[0]);
        double relative = precision == Precision.FLOAT32 ? 1e-6 : 0x1p-7;
        String what = precision + " T" + size[0] + " N" + heads + " H" + size[2] + " of " + scores;
        var exact = Differentiated.exact(composed(), inputs, upstreams);
        Differentiated.of(fused(precision), inputs, upstreams).assertClose(exact, relative, what);
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void onlyOneGradientIsWanted(Precision precision) {
    for (int scores : new int[] {3, 21}) {
      Differentiated.assertEachGradientAlone(
          fused(precision), inputs(precision, 150, 3, 7, scores), upstreams(precision, 150));
    }
  }

  @Test
  void onlyThePlainGateIsComputedWhereItIsMultiplied() {
    var y = gaussian(random, ElementType.FLOAT32, 1, 3, 8);
    var logits = gaussian(random, ElementType.FLOAT32, 1, 3, 8);
    var weight = Tensor.of(new float[64], 8, 8);
    var plain = new GateProjection(Gate.SDPA_ELEMENTWISE, weight);
    assertNotNull(plain.applyWhereMultiplied(y, logits, 0, Probe.NONE));
    assertNull(plain.applyWhereMultiplied(y.to(ElementType.BFLOAT16), logits, 0, Probe.NONE));
    var watching =
        new Probe() {
          @Override
          public boolean wantsGates(int layer) {
            return true;
          }
        };
    assertNull(plain.applyWhereMultiplied(y, logits, 0, watching));
    var additive = new GateProjection(Gate.SDPA_ELEMENTWISE.with(Combination.ADDITIVE), weight);
    assertNull(additive.applyWhereMultiplied(y, logits, 0, Probe.NONE));
    var wrong = gaussian(random, ElementType.FLOAT32, 1, 3, 5);
    String message =
        assertThrows(IllegalArgumentException.class, () -> new SigmoidGate(y, wrong)).getMessage();
    assertEquals(wrong + " do not gate " + y, message);
  }
}
