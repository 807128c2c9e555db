package dev.sluice.gate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.function.DoubleUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GateTest {
  private static final List<Activation> ACTIVATIONS =
      List.of(
          new Activation.Sigmoid(),
          new Activation.ScaledSigmoid(2),
          new Activation.ScaledSigmoid(0.1),
          new Activation.ScaledSigmoid(1.25e-5),
          new Activation.ScaledSigmoid(3e10),
          new Activation.ScaledSigmoid(-2),
          new Activation.NonSparseSigmoid(),
          new Activation.Silu(),
          new Activation.Softplus(),
          new Activation.Identity(),
          new Activation.LinearClip());

  /// Every gate that may be asked for.
  private static List<Gate> legal() {
    var gates = new ArrayList<Gate>();
    for (var position : GatePosition.values()) {
      for (var granularity : Granularity.values()) {
        for (var sharing : Sharing.values()) {
          boolean heads = position != GatePosition.DENSE_OUTPUT;
          if (!heads && (granularity == Granularity.HEADWISE || sharing == Sharing.HEAD_SHARED)) {
            continue;
          }
          for (var combination : Combination.values()) {
            for (var activation : ACTIVATIONS) {
              for (var input : List.of(new GateInput.HiddenState(), new GateInput.None())) {
                for (var init : List.of(new GateInit.Normal(), new GateInit.Zeros())) {
                  gates.add(
                      new Gate(
                          position, granularity, sharing, combination, activation, input, init));
                }
              }
            }
          }
        }
      }
    }
    return gates;
  }

  @Test
  void everyNameIsReadBack() {
    var names = new HashSet<String>();
    for (Gate gate : legal()) {
      assertTrue(names.add(gate.name()), () -> "two gates are called " + gate.name());
      assertEquals(gate, Gate.parse(gate.name()), gate.name());
    }
    assertEquals((4 * 2 * 2 + 1) * 2 * ACTIVATIONS.size() * 2 * 2, names.size());
  }

  @Test
  void names() {
    assertEquals("sdpa-headwise", Gate.SDPA_HEADWISE.name());
    assertEquals("sdpa-elementwise", Gate.SDPA_ELEMENTWISE.name());
    assertEquals(
        "value-elementwise-shared-additive-silu",
        Gate.SDPA_ELEMENTWISE
            .with(GatePosition.VALUE)
            .with(Sharing.HEAD_SHARED)
            .with(Combination.ADDITIVE)
            .with(new Activation.Silu())
            .name());
    assertEquals(Gate.SDPA_HEADWISE, Gate.parse(" SDPA-Headwise\n"));
    assertEquals(Gate.SDPA_HEADWISE, Gate.parse("sdpa-headwise-sigmoid"));
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "",
        "-",
        "sdpa",
        "sdpa-",
        "headwise",
        "sdpa-rowwise",
        "output-headwise",
        "sdpa-headwise-",
        "sdpa-headwisezero-init",
        "sdpa-headwise-zero",
        "sdpa-headwise-relu",
        "sdpa-headwise-zero-init-shared",
        "sdpa-headwise-shared-shared",
        "sdpa-headwise-silu-softplus",
        "sdpa-headwise-sigmoid*2-silu",
        "sdpa-headwise-sigmoid-silu",
        "sdpa-headwise-sigmoid*",
        "sdpa-headwise-sigmoid*x",
        "sdpa-headwise-sigmoid*2d",
        "sdpa-headwise-sigmoid*nan",
        "sdpa-headwise-sigmoid*infinity",
        "sdpa-headwise-sigmoid*1e999"
      })
  void unknownNamesAreRefused(String name) {
    var failure = assertThrows(InvalidInputException.class, () -> Gate.parse(name));
    String sentence = failure.getMessage();
    if (!name.contains("1e999")) {
      assertTrue(sentence.contains("'" + name + "'"), sentence);
      assertTrue(sentence.contains("sdpa-headwise"), sentence);
      assertTrue(sentence.contains("linear-clip"), sentence);
    }
  }

  @Test
  void denseOutputHasNoHeads() {
    for (String name : List.of("dense-headwise", "dense-elementwise-shared")) {
      var failure = assertThrows(InvalidInputException.class, () -> Gate.parse(name));
      assertTrue(failure.getMessage().contains("dense output has no heads"), failure::getMessage);
    }
    assertThrows(
        InvalidInputException.class, () -> Gate.SDPA_HEADWISE.with(GatePosition.DENSE_OUTPUT));
  }

  @Test
  void inputsThatAreNotImplementedAreRefused() {
    for (var input :
        List.of(
            new GateInput.TruncatedHiddenState(16),
            new GateInput.LowRank(8),
            new GateInput.Value(),
            new GateInput.HeadOutput())) {
      var failure = assertThrows(InvalidInputException.class, () -> Gate.SDPA_HEADWISE.with(input));
      String sentence = failure.getMessage();
      assertTrue(sentence.contains("not implemented yet"), sentence);
      assertEquals(-1, sentence.indexOf('\n'), sentence);
    }
  }

  @Test
  void factorsMustBeNumbers() {
    for (double factor : new double[] {Double.NaN, Double.POSITIVE_INFINITY, 0}) {
      assertThrows(InvalidInputException.class, () -> new Activation.ScaledSigmoid(factor));
    }
  }

  @Test
  void numberOfLogits() {
    assertEquals(6, Gate.SDPA_HEADWISE.logits(6, 64));
    assertEquals(384, Gate.SDPA_ELEMENTWISE.logits(6, 64));
    assertEquals(6, Gate.SDPA_HEADWISE.with(Sharing.HEAD_SHARED).logits(6, 64));
    assertEquals(384, Gate.SDPA_ELEMENTWISE.with(GatePosition.DENSE_OUTPUT).logits(1, 384));
  }

  @Test
  void activationsFollowTheirFormulas() {
    assertActivation(new Activation.Sigmoid(), GateTest::sigmoid);
    assertActivation(new Activation.ScaledSigmoid(2), z -> 2 * sigmoid(z));
    assertActivation(new Activation.NonSparseSigmoid(), z -> 0.5 + 0.5 * sigmoid(z));
    assertActivation(new Activation.Silu(), z -> z * sigmoid(z));
    assertActivation(
        new Activation.Softplus(), z -> Math.log1p(Math.exp(-Math.abs(z))) + Math.max(z, 0));
    assertActivation(new Activation.Identity(), z -> z);
    assertActivation(new Activation.LinearClip(), z -> Math.clamp(0.1 * z + 0.5, 0, 1));
  }

  private static double sigmoid(double z) {
    return 1 / (1 + Math.exp(-z));
  }

  private static void assertActivation(Activation activation, DoubleUnaryOperator formula) {
    double[] logits = {-100, -30, -6, -5, -1.5, -1e-3, 0, 1e-3, 0.5, 4.9, 5, 5.1, 19, 21, 100};
    double[] expected = new double[logits.length];
    for (int i = 0; i < logits.length; i++) {
      expected[i] = formula.applyAsDouble(logits[i]);
    }
    try (var _ = Scope.open()) {
      // libtorch's softplus is the identity beyond 20, where ln(1 + e⁻ᶻ) < 2.1e-9
      assertArrayEquals(
          expected,
          activation.scores(Tensor.of(logits, logits.length)).doubles(),
          2.1e-9,
          activation::word);
    }
  }
}
