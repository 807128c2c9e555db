package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// The convolution as one operation against the definition in float64, and the definition against
/// the sum that it is.
class ShortConvolutionTest {
  private static final int THREADS = Threads.count();

  private final SplittableRandom random = new SplittableRandom(59);
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
    Threads.count(THREADS);
  }

  /// Of x, the weight and, if there is one, the history, in the tensors' own type.
  private static Operation fused() {
    return given ->
        List.of(ShortConvolution.apply(given.get(0), given.get(1), history(given), null));
  }

  private static Operation composed() {
    return given ->
        List.of(ShortConvolution.composed(given.get(0), given.get(1), history(given), null));
  }

  private static @Nullable Tensor history(List<Tensor> given) {
    return given.size() > 2 ? given.get(2) : null;
  }

  private List<Tensor> inputs(
      ElementType type, long batch, long tokens, long channels, long width, boolean continued) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(gaussian(random, type, batch, tokens, channels));
    inputs.add(rounded(random, channels, width));
    if (continued) {
      inputs.add(gaussian(random, type, batch, width - 1, channels).detach());
    }
    return inputs;
  }

  private List<@Nullable Tensor> upstreams(ElementType type, long... shape) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(gaussian(random, type, shape).detach());
    return upstreams;
  }

  @Test
  void valuesAndGradients() {
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
      for (int width : new int[] {1, 2, 4, 7}) {
        for (int tokens : new int[] {1, 2, 3, 63, 65, 300}) {
          for (boolean continued : new boolean[] {false, true}) {
            if (continued && width == 1) {
              continue; // of no tokens
            }
            var inputs = inputs(type, 2, tokens, 70, width, continued);
            var upstreams = upstreams(type, 2, tokens, 70);
            Differentiated.of(fused(), inputs, upstreams)
                .assertClose(
                    Differentiated.exact(composed(), inputs, upstreams),
                    2e-6,
                    type + " " + tokens + " × " + width + " " + continued);
          }
        }
      }
    }
  }

  @Test
  void eachGradientAlone() {
    Differentiated.assertEachGradientAlone(
        fused(),
        inputs(ElementType.FLOAT32, 2, 9, 300, 4, true),
        upstreams(ElementType.FLOAT32, 2, 9, 300));
  }

  @Test
  void gradientsOfTheWeightAreSummed() {
    var x = gaussian(random, ElementType.FLOAT32, 1, 5, 3);
    var weight = rounded(random, 3, 4);
    ShortConvolution.apply(x, weight, null, null).sum().backward();
    double[] once = weight.gradient().doubles();
    ShortConvolution.apply(x, weight, null, null).sum().backward();
    double[] twice = weight.gradient().doubles();
    for (int i = 0; i < once.length; i++) {
      assertEquals(2 * once[i], twice[i], 1e-6);
    }
  }

  @Test
  void sameBitsOnAnyNumberOfThreads() {
    var inputs = inputs(ElementType.BFLOAT16, 2, 70, 1000, 4, true);
    var upstreams = upstreams(ElementType.BFLOAT16, 2, 70, 1000);
    Threads.count(1);
    var alone = Differentiated.of(fused(), inputs, upstreams);
    for (int threads = 2; threads <= 3; threads++) {
      Threads.count(threads);
      Differentiated.of(fused(), inputs, upstreams).assertEqualTo(alone, threads + " threads");
    }
  }

  /// Every cut, also into pieces that are shorter than the history.
  @Test
  void piecesEqualOnePassToTheLastBit() {
    try (var _ = Scope.withoutGradient()) {
      for (long width : new long[] {1, 2, 4, 6}) {
        var inputs = inputs(ElementType.BFLOAT16, 2, 11, 20, width, false);
        var x = inputs.getFirst();
        var weight = inputs.getLast();
        double[] whole = ShortConvolution.apply(x, weight, null, null).doubles();
        for (int piece = 1; piece < 11; piece++) {
          Tensor history = null;
          var parts = new ArrayList<Tensor>();
          for (int from = 0; from < 11; from += piece) {
            var part = x.narrow(1, from, Math.min(piece, 11 - from));
            parts.add(ShortConvolution.apply(part, weight, history, null));
            history = ShortConvolution.history(part, weight, history);
          }
          assertArrayEquals(whole, Tensor.concatenate(parts, 1).doubles());
        }
      }
    }
  }

  @Test
  void theDefinitionIsTheSum() {
    try (var _ = Scope.withoutGradient()) {
      var inputs = inputs(ElementType.FLOAT32, 2, 6, 3, 4, true);
      double[] x = inputs.get(0).doubles();
      double[] w = inputs.get(1).doubles();
      double[] h = inputs.get(2).doubles();
      double[] y =
          composed()
              .apply(inputs.stream().map(t -> t.detach().to(ElementType.FLOAT64)).toList())
              .getFirst()
              .doubles();
      for (int b = 0; b < 2; b++) {
        for (int t = 0; t < 6; t++) {
          for (int c = 0; c < 3; c++) {
            double u = 0;
            for (int i = 0; i < 4; i++) {
              int at = t - 3 + i;
              u += w[c * 4 + i] * (at < 0 ? h[(b * 3 + 3 + at) * 3 + c] : x[(b * 6 + at) * 3 + c]);
            }
            assertEquals(u / (1 + Math.exp(-u)), y[(b * 6 + t) * 3 + c], 1e-14);
          }
        }
      }
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    var x = gaussian(random, ElementType.FLOAT32, 2, 5, 3);
    var weight = rounded(random, 3, 4);
    var history = gaussian(random, ElementType.FLOAT32, 2, 3, 3);
    for (Runnable call :
        List.<Runnable>of(
            () -> ShortConvolution.apply(x, rounded(random, 4, 4), null, null),
            () -> ShortConvolution.apply(x, weight, history.detach().narrow(1, 0, 2), null),
            () ->
                ShortConvolution.apply(x, weight, history.detach().to(ElementType.BFLOAT16), null),
            () -> ShortConvolution.apply(x, weight, history, null))) { // which wants a gradient
      assertThrows(IllegalArgumentException.class, call::run);
    }
  }
}
