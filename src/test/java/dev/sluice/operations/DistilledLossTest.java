package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static dev.sluice.tensor.Differentiated.rounded;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.operations.DistilledLoss.Direction;
import dev.sluice.operations.DistilledLoss.Shares;
import dev.sluice.operations.DistilledLoss.Teacher;
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

/// Cross-entropy and divergence straight from hidden states against the definition in float64 from
/// the same rounded numbers.
///
/// Tolerance: 1e-5 of the largest number, as both softmaxes are rounded before their difference is
/// taken. In bfloat16 that of [NextTokenLossTest].
class DistilledLossTest {
  private final SplittableRandom random = new SplittableRandom(43);
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

  private static Operation fused(ElementType type, Shares shares) {
    return given ->
        List.of(
            DistilledLoss.apply(
                    given.get(0),
                    new Weight("head", given.get(1)),
                    given.get(2),
                    new Teacher(given.get(3), new Weight("other head", given.get(4))),
                    type,
                    shares)
                .total());
  }

  private static Operation definition(Shares shares) {
    return given -> {
      var rows = given.get(0).reshape(-1, given.get(0).size(-1));
      var theirs = given.get(3).reshape(-1, given.get(3).size(-1));
      return List.of(
          DistilledLoss.ofLogits(
                  rows.linear(given.get(1)),
                  theirs.linear(given.get(4)),
                  given.get(2).reshape(-1),
                  shares)
              .total());
    };
  }

  /// Some tokens have no target, so that the two means are over different tokens.
  private Tensor targets(int vocabulary, int rows, int tokens) {
    long[] targets = random.longs((long) rows * tokens, 0, vocabulary).toArray();
    for (int i = tokens - 1; i < targets.length && tokens > 1; i += tokens) {
      targets[i] = DistilledLoss.NO_TARGET;
    }
    return Tensor.of(targets, rows, tokens);
  }

  @ParameterizedTest
  @CsvSource({
    "1,3,2,9,FROM_OTHER", "2,7,5,17,FROM_OTHER", "2,65,7,63,FROM_OTHER", "1,70,3,70001,FROM_OTHER",
    "1,3,2,9,FROM_THIS", "2,7,5,17,FROM_THIS", "2,65,7,63,FROM_THIS", "1,70,3,70001,FROM_THIS"
  })
  void valueAndGradients(int batch, int tokens, int width, int vocabulary, Direction direction) {
    for (var precision : List.of(Precision.FLOAT32, Precision.BFLOAT16)) {
      var type = precision.elementType();
      var given =
          List.of(
              gaussian(random, type, batch, tokens, width),
              rounded(random, vocabulary, width),
              targets(vocabulary, batch, tokens),
              gaussian(random, type, batch, tokens, width + 2).detach(),
              rounded(random, vocabulary, width + 2).detach());
      for (var shares :
          List.of(
              new Shares(1, 0.5, direction, 0),
              new Shares(0.2, 3, direction, 1e-2),
              new Shares(0, 1, direction, 0))) {
        if (vocabulary > 1000 && (shares.zLoss() == 0 || type == ElementType.BFLOAT16)) {
          continue; // a large vocabulary takes long
        }
        String what = "%s %s of %d".formatted(type, shares, vocabulary);
        List<Tensor> upstream = List.of(Tensor.of(new double[] {-0.37}, 1));
        Differentiated.of(fused(type, shares), given, nullable(upstream))
            .assertClose(
                Differentiated.exact(definition(shares), given, nullable(upstream)),
                type == ElementType.FLOAT32 ? 1e-5 : 0x1p-7,
                what);
      }
    }
  }

  private static List<@Nullable Tensor> nullable(List<Tensor> tensors) {
    return new ArrayList<>(tensors);
  }

  /// The model's own answers diverge from themselves by nothing at all, and pull nowhere.
  @Test
  void ownAnswersGiveExactlyNothing() {
    var hidden = gaussian(random, ElementType.FLOAT32, 2, 33, 7);
    var head = new Weight("head", rounded(random, 65, 7).detach());
    for (Direction direction : Direction.values()) {
      var loss =
          DistilledLoss.apply(
              hidden,
              head,
              targets(65, 2, 33),
              new Teacher(hidden.detach(), head),
              ElementType.FLOAT32,
              new Shares(0, 1, direction, 0));
      assertEquals(0, loss.divergence().item());
      loss.total().backward();
      double largest = Objects.requireNonNull(hidden.gradient()).absolute().max().item();
      assertEquals(0, largest);
    }
  }

  /// The parts are told apart, and those of the composed operation are the same.
  @Test
  void parts() {
    var hidden = gaussian(random, ElementType.FLOAT32, 3, 21, 5);
    var head = new Weight("head", rounded(random, 31, 5));
    var teacher =
        new Teacher(
            gaussian(random, ElementType.FLOAT32, 3, 21, 4).detach(),
            new Weight("other head", rounded(random, 31, 4).detach()));
    var targets = targets(31, 3, 21);
    var shares = new Shares(0.5, 2, Direction.FROM_OTHER, 1e-2);
    var fused = DistilledLoss.apply(hidden, head, targets, teacher, ElementType.FLOAT32, shares);
    var composed =
        DistilledLoss.composed(hidden, head, targets, teacher, ElementType.FLOAT32, shares);
    for (var one : List.of(fused, composed)) {
      double z = Objects.requireNonNull(one.zLoss()).item();
      assertEquals(
          0.5 * one.crossEntropy().item() + 2 * one.divergence().item() + z,
          one.total().item(),
          1e-5);
    }
    assertEquals(composed.crossEntropy().item(), fused.crossEntropy().item(), 1e-5);
    assertEquals(composed.divergence().item(), fused.divergence().item(), 1e-5);
  }
}
