package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// The feed-forward layer as one operation, against the definition in float64.
class SwiGluTest {
  private final SplittableRandom random = new SplittableRandom(37);
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

  private static SwiGlu.Weights weights(List<Tensor> given, int expert) {
    int at = 1 + 3 * expert;
    return new SwiGlu.Weights(
        new Weight("gate", given.get(at)),
        new Weight("up", given.get(at + 1)),
        new Weight("down", given.get(at + 2)));
  }

  /// @return of x, gate, up and down
  private static Operation fused(Precision precision) {
    return given -> List.of(SwiGlu.apply(given.getFirst(), weights(given, 0), precision));
  }

  private static Tensor definition(Tensor x, SwiGlu.Weights w) {
    return x.linear(w.gate().leaf()).silu().times(x.linear(w.up().leaf())).linear(w.down().leaf());
  }

  private static Operation exactly() {
    return given -> List.of(definition(given.getFirst(), weights(given, 0)));
  }

  private List<Tensor> inputs(Precision precision, int rows, int hidden, int inner, int experts) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(gaussian(random, precision.elementType(), rows, hidden));
    for (int expert = 0; expert < experts; expert++) {
      inputs.add(scaled(inner, hidden));
      inputs.add(scaled(inner, hidden));
      inputs.add(scaled(hidden, inner));
    }
    return inputs;
  }

  /// A weight of such size that what it gives is of order one.
  private Tensor scaled(int out, int in) {
    double size = Math.scalb(1.0, -(31 - Integer.numberOfLeadingZeros(in)) / 2); // exact
    return rounded(random, out, in).times(size).detach().requireGradient(true);
  }

  private List<@Nullable Tensor> upstreams(Precision precision, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, precision.elementType(), shape).detach());
    return upstreams;
  }

  /// Float32 within 2e-6 of the largest number; in bfloat16, where five tensors are rounded on the
  /// way, 2⁻⁶ of it. More rows than the 256 that are worked on at a time, too.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void valuesAndGradients(Precision precision) {
    int[][] sizes = {{1, 1, 1}, {7, 5, 63}, {65, 65, 7}, {257, 7, 65}, {520, 33, 17}};
    for (int[] size : sizes) {
      var inputs = inputs(precision, size[0], size[1], size[2], 1);
      var upstreams = upstreams(precision, size[0], size[1]);
      String what = precision + " " + size[0] + " × " + size[1] + " × " + size[2];
      var exact = Differentiated.exact(exactly(), inputs, upstreams);
      Differentiated.of(fused(precision), inputs, upstreams)
          .assertClose(exact, tolerance(precision), what);
      Operation composed =
          given -> List.of(SwiGlu.composed(given.getFirst(), weights(given, 0), precision));
      Differentiated.of(composed, inputs, upstreams)
          .assertClose(exact, 2 * tolerance(precision), what + ", composed");
    }
  }

  private static double tolerance(Precision precision) {
    return precision == Precision.FLOAT32 ? 2e-6 : 0x1p-6;
  }

  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void onlyOneGradientIsWanted(Precision precision) {
    Differentiated.assertEachGradientAlone(
        fused(precision), inputs(precision, 300, 5, 7, 1), upstreams(precision, 300, 5));
  }

  /// Rows of experts: none, one, several pieces, more than the largest piece.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void experts(Precision precision) {
    long[] starts = {0, 0, 1, 8, 71, 71, 600, 663, 663};
    int experts = starts.length - 1;
    var inputs = inputs(precision, 663, 9, 33, experts);
    var upstreams = upstreams(precision, 663, 9);
    Operation exactly =
        given -> {
          var parts = new ArrayList<Tensor>();
          for (int expert = 0; expert < experts; expert++) {
            var rows =
                given.getFirst().narrow(0, starts[expert], starts[expert + 1] - starts[expert]);
            parts.add(definition(rows, weights(given, expert)));
          }
          return List.of(Tensor.concatenate(parts, 0));
        };
    Operation fused =
        given ->
            List.of(SwiGlu.apply(given.getFirst(), starts, ofExperts(given, experts), precision));
    Operation composed =
        given ->
            List.of(
                SwiGlu.composed(given.getFirst(), starts, ofExperts(given, experts), precision));
    var exact = Differentiated.exact(exactly, inputs, upstreams);
    Differentiated.of(fused, inputs, upstreams).assertClose(exact, tolerance(precision), "experts");
    Differentiated.of(composed, inputs, upstreams)
        .assertClose(exact, 2 * tolerance(precision), "experts, composed");
    Differentiated.assertEachGradientAlone(fused, inputs, upstreams);
  }

  private static List<SwiGlu.Weights> ofExperts(List<Tensor> given, int experts) {
    return IntStream.range(0, experts).mapToObj(expert -> weights(given, expert)).toList();
  }

  /// Weights' gradients of two passes add up, also those of an expert without rows.
  @Test
  void gradientsAddUp() {
    long[] starts = {0, 300, 300};
    var inputs = inputs(Precision.FLOAT32, 300, 5, 7, 2);
    var upstream = upstreams(Precision.FLOAT32, 300, 5).getFirst();
    var sums = new ArrayList<float[]>();
    for (int pass = 0; pass < 2; pass++) {
      SwiGlu.apply(inputs.getFirst(), starts, ofExperts(inputs, 2), Precision.FLOAT32)
          .backward(Objects.requireNonNull(upstream));
      for (var weight : inputs.subList(1, 7)) {
        sums.add(Objects.requireNonNull(weight.gradient()).floats());
      }
    }
    for (int weight = 0; weight < 6; weight++) {
      for (int i = 0; i < sums.get(weight).length; i++) {
        float once = sums.get(weight)[i];
        assertEquals(2 * once, sums.get(weight + 6)[i], 1e-5 * Math.max(1, Math.abs(once)));
      }
    }
  }

  /// Several dimensions, and a pass that records nothing: the same numbers.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void withoutGradients(Precision precision) {
    var inputs = inputs(precision, 262, 7, 33, 1);
    var x = inputs.getFirst().reshape(2, 131, 7);
    float[] recorded = SwiGlu.apply(x, weights(inputs, 0), precision).detach().floats();
    try (var _ = Scope.withoutGradient()) {
      var y = SwiGlu.apply(x, weights(inputs, 0), precision);
      assertArrayEquals(new long[] {2, 131, 7}, y.shape());
      assertArrayEquals(recorded, y.floats());
    }
  }
}
