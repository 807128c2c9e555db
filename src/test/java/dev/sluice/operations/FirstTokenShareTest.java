package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The share of attention on the first token against the column of all weights, with gradients.
///
/// Tolerance: 1e-5 of the largest number, since the score of the column is summed in another order
/// than the one in the log-sum-exp. In bfloat16 attention's result and its gradients are rounded:
/// 2⁻⁶ of the largest number, as in the test of attention itself.
class FirstTokenShareTest {
  private static final int SEPARATOR = 7;

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
  }

  private record Case(int window, @Nullable DocumentStarts documents, boolean sinks, int gate) {
    FirstTokenShare of(boolean fused, List<Tensor> given) {
      var operations = fused ? Operations.FUSED : Operations.COMPOSED;
      return operations.attentionWithFirstToken(
          given.get(0),
          given.get(1),
          given.get(2),
          sinks ? given.get(3) : null,
          gate == 0 ? null : given.get(4),
          window,
          documents);
    }

    Operation operation(boolean fused) {
      return given -> {
        var both = of(fused, given);
        return List.of(both.yBTNH(), both.shareBTN());
      };
    }
  }

  private @Nullable DocumentStarts documents(int batch, int tokens) {
    long[] ids = random.longs((long) batch * tokens, 0, 12).toArray();
    return DocumentStarts.of(ids, batch, tokens, tokens, OptionalInt.of(SEPARATOR));
  }

  @ParameterizedTest
  @CsvSource({"1,2,1,1,2", "2,7,4,2,6", "1,63,3,3,4", "2,65,4,1,8", "1,130,2,2,16", "3,9,6,2,1"})
  void valueAndGradients(int batch, int tokens, int heads, int keyValueHeads, int width) {
    for (int window : new int[] {0, 5}) {
      for (boolean masked : new boolean[] {false, true}) {
        for (boolean sinks : new boolean[] {false, true}) {
          for (int gate = 0; gate < 3; gate++) {
            var one = new Case(window, masked ? documents(batch, tokens) : null, sinks, gate);
            compare(one, batch, tokens, heads, keyValueHeads, width);
          }
        }
      }
    }
  }

  private void compare(Case one, int batch, int tokens, int heads, int keyValueHeads, int width) {
    var float32 = ElementType.FLOAT32;
    var logits =
        one.gate == 2
            ? gaussian(random, float32, batch, tokens, heads, width)
            : gaussian(random, float32, batch, tokens, heads);
    var given =
        new ArrayList<>(
            List.of(
                gaussian(random, float32, batch, tokens, heads, width),
                gaussian(random, float32, batch, tokens, keyValueHeads, width),
                gaussian(random, float32, batch, tokens, keyValueHeads, width),
                one.sinks
                    ? gaussian(random, float32, heads)
                    : gaussian(random, float32, heads).detach(),
                one.gate == 0 ? logits.detach() : logits));
    var upstreams =
        new ArrayList<@Nullable Tensor>(
            List.of(
                gaussian(random, float32, batch, tokens, heads, width).detach(),
                gaussian(random, float32, batch, tokens, heads).detach()));
    String what = "%s, %d × %d".formatted(one, batch, tokens);
    Differentiated.of(one.operation(true), given, upstreams)
        .assertClose(Differentiated.of(one.operation(false), given, upstreams), 1e-5, what);
  }

  /// A penalty alone, where nothing else depends on attention.
  @Test
  void shareAlone() {
    var float32 = ElementType.FLOAT32;
    var given =
        List.of(
            gaussian(random, float32, 2, 33, 4, 8),
            gaussian(random, float32, 2, 33, 2, 8),
            gaussian(random, float32, 2, 33, 2, 8).detach());
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(null);
    upstreams.add(Tensor.of(new float[] {1}, 1));
    var one = new Case(0, null, false, 0);
    Differentiated.of(one.operation(true), given, upstreams)
        .assertClose(Differentiated.of(one.operation(false), given, upstreams), 1e-5, "alone");
  }

  /// A query that sees one token gives it everything.
  @Test
  void oneToken() {
    var one = gaussian(random, ElementType.FLOAT32, 2, 1, 3, 4);
    var share = new Case(0, null, false, 0).of(true, List.of(one, one, one)).shareBTN();
    for (float each : share.floats()) {
      assertEquals(1, each, 1e-6);
    }
  }

  /// In bfloat16 the share is that of the rounded queries and keys, and attention is what it is
  /// without the share.
  @Test
  void bfloat16() {
    var type = ElementType.BFLOAT16;
    var given =
        List.of(
            gaussian(random, type, 2, 65, 4, 8),
            gaussian(random, type, 2, 65, 2, 8),
            gaussian(random, type, 2, 65, 2, 8));
    var one = new Case(0, null, false, 0);
    var fused = one.of(true, given);
    float[] share = fused.shareBTN().floats();
    float[] right = one.of(false, given).shareBTN().floats();
    for (int i = 0; i < right.length; i++) {
      assertEquals(right[i], share[i], 1e-5);
    }
    var plain =
        Operations.FUSED.attention(given.get(0), given.get(1), given.get(2), null, null, 0, null);
    assertEquals(0, plain.minus(fused.yBTNH()).absolute().max().item());
  }
}
