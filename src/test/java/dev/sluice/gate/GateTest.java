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

  private static final List<GateInput> INPUTS =
      List.of(
          new GateInput.HiddenState(),
          new GateInput.None(),
          new GateInput.TruncatedHiddenState(12),
          new GateInput.LowRank(16),
          new GateInput.Value(),
          new GateInput.HeadOutput());

  private static final List<GateInit> INITS =
      List.of(
          new GateInit.Normal(),
          new GateInit.Zeros(),
          new GateInit.Bias(10),
          new GateInit.Bias(-1.25e-5));

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
              for (var input : INPUTS) {
                for (var init : INITS) {
                  boolean ofOutput = input instanceof GateInput.HeadOutput;
                  boolean biasOnly =
                      input instanceof GateInput.None && init instanceof GateInit.Bias;
                  if (biasOnly || (ofOutput && position != GatePosition.SDPA_OUTPUT)) {
                    continue;
                  }
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
    int arithmetic = 2 * ACTIVATIONS.size();
    int inputsAndInits = 5 * INITS.size() - 2;
    assertEquals(
        (4 * 2 * 2 + 1) * arithmetic * inputsAndInits + 2 * 2 * arithmetic * INITS.size(),
        names.size());
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
    assertEquals(
        "sdpa-headwise-sigmoid*2.0-first*12-zero-init",
        Gate.SDPA_HEADWISE
            .with(new Activation.ScaledSigmoid(2))
            .with(new GateInput.TruncatedHiddenState(12))
            .with(new GateInit.Zeros())
            .name());
    assertEquals(
        Gate.SDPA_ELEMENTWISE.with(new GateInput.LowRank(16)).with(new GateInit.Bias(10)),
        Gate.parse("sdpa-elementwise-rank*16-bias*10"));
    assertEquals(
        Gate.SDPA_HEADWISE.with(new GateInput.HeadOutput()),
        Gate.parse("sdpa-headwise-from-output"));
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
        "sdpa-headwise-sigmoid*1e999",
        "sdpa-headwise-sigmoid*1e39",
        "sdpa-headwise-bias*-1e39",
        "sdpa-headwise-first",
        "sdpa-headwise-first*",
        "sdpa-headwise-first*-1",
        "sdpa-headwise-first*1.5",
        "sdpa-headwise-rank*x",
        "sdpa-headwise-from-query",
        "sdpa-headwise-bias*",
        "sdpa-headwise-bias*10-zero-init",
        "sdpa-headwise-zero-init-first*12"
      })
  void unknownNamesAreRefused(String name) {
    var failure = assertThrows(InvalidInputException.class, () -> Gate.parse(name));
    String sentence = failure.getMessage();
    if (!name.matches(".*1e\\d+")) {
      assertTrue(sentence.contains("'" + name + "'"), sentence);
      assertTrue(sentence.contains("sdpa-headwise"), sentence);
      assertTrue(sentence.contains("linear-clip"), sentence);
    }
  }

  @Test
  void whatIsNoDimensionIsNamed() {
    for (String part : List.of("rank*9999999999", "first*2147483648", "rank*" + "7".repeat(5000))) {
      String sentence =
          assertThrows(InvalidInputException.class, () -> Gate.parse("sdpa-headwise-" + part))
              .getMessage();
      assertTrue(sentence.contains("is more than a model has dimensions"), sentence);
      assertTrue(sentence.length() < 200, sentence);
    }
    String sentence =
        assertThrows(InvalidInputException.class, () -> Gate.parse("x".repeat(100_000)))
            .getMessage();
    assertTrue(sentence.contains("use none, sdpa-headwise") && sentence.length() < 700, sentence);
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

  /// What cannot be computed is refused by name, with what would be right.
  @Test
  void inputsThatCannotBeAreRefused() {
    for (String name :
        List.of(
            "value-headwise-from-output",
            "dense-elementwise-from-output",
            "sdpa-headwise-input-independent-bias*10",
            "sdpa-headwise-first*0",
            "sdpa-headwise-rank*0",
            "sdpa-headwise-bias*1e999")) {
      var failure = assertThrows(InvalidInputException.class, () -> Gate.parse(name), name);
      assertEquals(-1, failure.getMessage().indexOf('\n'), failure.getMessage());
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

  /// Neither 0 nor infinity takes the place of the number in a name.
  @Test
  void numbersBeyondFloat32AreRefused() {
    for (String number : List.of("1e-400", "-2e-999", "1e-60", "1e400", "1e60")) {
      for (String word : List.of("bias", "sigmoid")) {
        var e =
            assertThrows(
                InvalidInputException.class,
                () -> Gate.parse("sdpa-headwise-" + word + "*" + number));
        assertEquals(1, e.getMessage().lines().count(), e::getMessage);
      }
    }
    assertEquals(new GateInit.Bias(0), Gate.parse("sdpa-headwise-bias*0e-400").init());
  }
}
