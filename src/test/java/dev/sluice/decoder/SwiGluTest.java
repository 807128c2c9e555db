package dev.sluice.decoder;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;

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

/// SwiGLU and the product after it as one operation, against the definition in float64.
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

  /// @return of gate, up and weight
  private static Operation fused(Precision precision) {
    return given -> List.of(precision.linear(new SwiGlu(given.get(0), given.get(1)), given.get(2)));
  }

  private static Operation composed() {
    return given -> List.of(new SwiGlu(given.get(0), given.get(1)).composed().linear(given.get(2)));
  }

  private List<Tensor> inputs(Precision precision, int rows, int inner, int out) {
    return List.of(
        gaussian(random, precision.elementType(), rows, inner),
        gaussian(random, precision.elementType(), rows, inner),
        rounded(random, out, inner));
  }

  private List<@Nullable Tensor> upstreams(Precision precision, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, precision.elementType(), shape).detach());
    return upstreams;
  }

  /// Within 1e-6 of the largest number; in bfloat16, where SwiGLU and its upstream gradient are
  /// rounded on the way, 2⁻⁷ of it. More rows than the 256 that are worked on at a time, too.
  @ParameterizedTest
  @EnumSource
  void valuesAndGradients(Precision precision) {
    int[][] sizes = {{1, 1, 1}, {7, 63, 5}, {65, 7, 65}, {257, 65, 7}, {520, 17, 33}};
    for (int[] size : sizes) {
      var inputs = inputs(precision, size[0], size[1], size[2]);
      var upstreams = upstreams(precision, size[0], size[2]);
      double relative = precision == Precision.FLOAT32 ? 1e-6 : 0x1p-7;
      String what = precision + " " + size[0] + " × " + size[1] + " × " + size[2];
      var exact = Differentiated.exact(composed(), inputs, upstreams);
      Differentiated.of(fused(precision), inputs, upstreams).assertClose(exact, relative, what);
    }
  }

  @ParameterizedTest
  @EnumSource
  void onlyOneGradientIsWanted(Precision precision) {
    Differentiated.assertEachGradientAlone(
        fused(precision), inputs(precision, 300, 7, 5), upstreams(precision, 300, 5));
  }

  /// Gate and up as the model makes them: two results of one product, each with several dimensions.
  @Test
  void feedForward() {
    var given =
        List.of(
            gaussian(random, ElementType.FLOAT32, 2, 131, 7),
            rounded(random, 17, 7),
            rounded(random, 17, 7),
            rounded(random, 5, 17));
    Operation fused =
        tensors -> {
          var inner =
              Precision.FLOAT32.linear(tensors.getFirst(), List.of(tensors.get(1), tensors.get(2)));
          var swiGlu = new SwiGlu(inner.getFirst(), inner.getLast());
          return List.of(Precision.FLOAT32.linear(swiGlu, tensors.getLast()));
        };
    Operation composed =
        tensors -> {
          var x = tensors.getFirst();
          var inner = x.linear(tensors.get(1)).silu().times(x.linear(tensors.get(2)));
          return List.of(inner.linear(tensors.getLast()));
        };
    var upstreams = upstreams(Precision.FLOAT32, 2, 131, 5);
    Differentiated.of(fused, given, upstreams)
        .assertClose(Differentiated.exact(composed, given, upstreams), 1e-6, "feed-forward");
  }
}
