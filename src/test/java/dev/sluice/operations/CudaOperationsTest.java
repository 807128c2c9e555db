package dev.sluice.operations;

import static dev.sluice.tensor.Differentiated.gaussian;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.RotaryEmbedding;
import dev.sluice.cuda.KernelFamily;
import dev.sluice.cuda.Launcher;
import dev.sluice.cuda.TestedCard;
import dev.sluice.kernel.AdamWStep;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.function.DoubleSupplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/// The operations that have CUDA kernels, against their definitions in float64 from the same
/// numbers: within 1e-6 of the largest number, and half a bfloat16 ulp where it is stored so. On a
/// card with `-Dsluice.test.device=cuda`, else on the CPU, where the kernels run in an emulation,
/// also with threads and blocks taken up in the other order: no bit may depend on it.
class CudaOperationsTest {
  private static final ElementType[] TYPES = {ElementType.FLOAT32, ElementType.BFLOAT16};
  private static final RmsNorm NORM = new RmsNorm(1e-6);

  private final SplittableRandom random = new SplittableRandom(71);
  private Scope scope;

  @BeforeEach
  void open() {
    TestedCard.assumeThatItRuns();
    Libtorch.poisonUninitialized(true);
    scope = Scope.open();
  }

  @AfterEach
  void close() {
    if (scope != null) {
      scope.close();
    }
    Libtorch.poisonUninitialized(false);
  }

  /// An operation of a device.
  private interface Way {
    List<Tensor> apply(Operations operations, List<Tensor> given);
  }

  private static Operations kernels(Launcher launcher) {
    return new CudaOperations(launcher, EnumSet.allOf(KernelFamily.class));
  }

  private Tensor numbers(ElementType type, long... shape) {
    return there(gaussian(random, type, shape)).detach().requireGradient(true);
  }

  private static Tensor there(Tensor tensor) {
    return tensor.to(TestedCard.DEVICE);
  }

  /// Kernels against the definition, and each order of threads against the other.
  ///
  /// @param exact in float64
  private static void assertRight(
      Way way,
      Operation exact,
      List<Tensor> inputs,
      List<@Nullable Tensor> upstreams,
      double tolerance,
      String what) {
    List<Differentiated> each = new ArrayList<>();
    for (var launcher : TestedCard.launchers()) {
      var operations = kernels(launcher);
      each.add(Differentiated.of(given -> way.apply(operations, given), inputs, upstreams));
    }
    each.getFirst().assertClose(Differentiated.exact(exact, inputs, upstreams), tolerance, what);
    each.getFirst().assertEqualTo(each.getLast(), what);
  }

  // ---------------------------------------------------------------- the gate

  @ParameterizedTest
  @CsvSource({
    "1,1,1,1",
    "2,7,3,5",
    "1,65,2,63",
    "3,1,4,64",
    "1,8,1,128",
    "2,3,5,1",
    "2,9,3,8",
    "1,33,2,520"
  })
  void gate(long batch, long tokens, long heads, long width) {
    for (var yType : TYPES) {
      for (var zType : TYPES) {
        for (boolean elementwise : new boolean[] {true, false}) {
          for (boolean transposed : new boolean[] {true, false}) {
            var y =
                transposed
                    ? numbers(yType, batch, heads, tokens, width)
                    : numbers(yType, batch, tokens, heads, width);
            var z =
                elementwise
                    ? numbers(zType, batch, tokens, heads, width)
                    : numbers(zType, batch, tokens, heads);
            var upstream = numbers(zType, batch, tokens, heads, width).detach();
            var upstreams = new ArrayList<@Nullable Tensor>(List.of(upstream));
            Way way =
                (operations, given) ->
                    List.of(operations.sigmoidGate(asBTNH(given, transposed), given.getLast()));
            Operation exact =
                given -> List.of(SigmoidGate.composed(asBTNH(given, transposed), given.getLast()));
            assertRight(
                way,
                exact,
                List.of(y, z),
                upstreams,
                1e-6,
                yType + " " + zType + " " + elementwise);
            Differentiated.assertEachGradientAlone(
                given -> way.apply(kernels(TestedCard.launchers().getFirst()), given),
                List.of(y, z),
                upstreams);
          }
        }
      }
    }
  }

  private static Tensor asBTNH(List<Tensor> given, boolean transposed) {
    return transposed ? given.getFirst().transpose(1, 2) : given.getFirst();
  }

  /// As attention leaves it, the result is contiguous and y is read where it lies.
  @Test
  void theTranspositionCostsNoPass() {
    var y = numbers(ElementType.BFLOAT16, 2, 3, 7, 16).transpose(1, 2);
    var z = numbers(ElementType.BFLOAT16, 2, 7, 3, 16);
    var out = kernels(TestedCard.launchers().getFirst()).sigmoidGate(y, z);
    assertEquals(3 * 16, out.stride(1));
    assertEquals(out, out.contiguous());
  }

  // ---------------------------------------------------------------- residual and norm

  @ParameterizedTest
  @CsvSource({"1,1,65", "2,7,63", "1,63,7", "1,65,16", "3,47,130", "1,1,257", "1,17,2", "2,9,264"})
  void residualNorm(long batch, long tokens, long width) {
    for (var type : TYPES) {
      for (var added : new @Nullable ElementType[] {null, ElementType.FLOAT32, type}) {
        for (int used = 1; used < 4; used++) {
          for (boolean centred : new boolean[] {false, true}) {
            var norm = new RmsNorm(1e-6, centred);
            var inputs = new ArrayList<Tensor>();
            inputs.add(numbers(ElementType.FLOAT32, batch, tokens, width));
            if (added != null) {
              inputs.add(numbers(added, batch, tokens, width));
            }
            inputs.add(numbers(ElementType.FLOAT32, width));
            var upstreams = new ArrayList<@Nullable Tensor>();
            upstreams.add(
                (used & 1) == 0
                    ? null
                    : numbers(ElementType.FLOAT32, batch, tokens, width).detach());
            upstreams.add((used & 2) == 0 ? null : numbers(type, batch, tokens, width).detach());
            Way way =
                (operations, given) ->
                    both(
                        operations.residualNorm(
                            given.getFirst(),
                            given.size() == 3 ? given.get(1) : null,
                            given.getLast(),
                            norm,
                            type));
            Operation exact =
                given ->
                    both(
                        ResidualNorm.composed(
                            given.getFirst(),
                            given.size() == 3 ? given.get(1) : null,
                            given.getLast(),
                            norm,
                            ElementType.FLOAT64));
            assertRight(way, exact, inputs, upstreams, 1e-6, type + " + " + added + " " + used);
          }
        }
      }
    }
  }

  private static List<Tensor> both(ResidualNorm norm) {
    return List.of(norm.sumBTD(), norm.normedBTD());
  }

  @Test
  void onlyOneGradientOfTheNormIsWanted() {
    Way way =
        (operations, given) ->
            both(
                operations.residualNorm(
                    given.getFirst(), given.get(1), given.getLast(), NORM, ElementType.BFLOAT16));
    var upstreams =
        new ArrayList<@Nullable Tensor>(
            List.of(
                numbers(ElementType.FLOAT32, 3, 47, 7).detach(),
                numbers(ElementType.BFLOAT16, 3, 47, 7).detach()));
    Differentiated.assertEachGradientAlone(
        given -> way.apply(kernels(TestedCard.launchers().getFirst()), given),
        List.of(
            numbers(ElementType.FLOAT32, 3, 47, 7),
            numbers(ElementType.BFLOAT16, 3, 47, 7),
            numbers(ElementType.FLOAT32, 7)),
        upstreams);
  }

  // ---------------------------------------------------------------- heads

  @ParameterizedTest(name = "{0} × {1} × {2} × {3}, {4} turned")
  @CsvSource({
    "1,1,1,2,2",
    "2,7,3,6,6",
    "1,65,2,64,64",
    "3,5,4,16,16",
    "2,63,1,8,4",
    "1,9,5,48,32",
    "1,3,2,128,128",
    "1,5,2,130,64",
    "2,33,3,32,0",
    "1,2,3,256,64"
  })
  void heads(long batch, long tokens, long heads, long width, int turned) {
    for (var type : TYPES) {
      for (boolean normed : new boolean[] {true, false}) {
        if (!normed && turned == 0) {
          continue;
        }
        var rotation = turned == 0 ? null : rotation(tokens, turned);
        var inputs = new ArrayList<Tensor>();
        inputs.add(numbers(type, batch, tokens, heads, width));
        if (normed) {
          inputs.add(numbers(ElementType.FLOAT32, width));
        }
        var upstreams =
            new ArrayList<@Nullable Tensor>(
                List.of(numbers(type, batch, tokens, heads, width).detach()));
        Way way =
            (operations, given) ->
                List.of(
                    operations.rotatedHeads(
                        given.getFirst(), normed ? given.getLast() : null, NORM, rotation));
        Operation exact =
            given -> {
              var x = given.getFirst();
              var u = normed ? x.rmsNorm(given.getLast(), NORM.epsilon()) : x;
              return List.of(rotation == null ? u : wide(rotation).rotate(u));
            };
        assertRight(way, exact, inputs, upstreams, 1e-6, type + " " + normed);
      }
    }
  }

  private static Rotation rotation(long tokens, int width) {
    return new RotaryEmbedding(new Rotary(100, new RopeScaling.None()), width)
        .rotation(3, Math.toIntExact(tokens), TestedCard.DEVICE);
  }

  private static Rotation wide(Rotation rotation) {
    return new Rotation(
        rotation.cosines().to(ElementType.FLOAT64), rotation.sines().to(ElementType.FLOAT64));
  }

  /// Each row of the batch at positions of its own.
  @Test
  void rowsAtPositionsOfTheirOwn() {
    var angles = numbers(ElementType.FLOAT32, 3, 5, 1, 4).detach();
    var rotation = new Rotation(angles, angles.times(0.5));
    var x = numbers(ElementType.FLOAT32, 3, 5, 2, 8);
    assertRight(
        (operations, given) ->
            List.of(operations.rotatedHeads(given.getFirst(), null, NORM, rotation)),
        given -> List.of(wide(rotation).rotate(given.getFirst())),
        List.of(x),
        new ArrayList<@Nullable Tensor>(List.of(numbers(ElementType.FLOAT32, 3, 5, 2, 8).detach())),
        1e-6,
        "rows");
  }

  // ---------------------------------------------------------------- feed-forward

  /// Products are libtorch's, whose rounding in bfloat16 is the larger part.
  @ParameterizedTest
  @EnumSource(names = {"FLOAT32", "BFLOAT16"})
  void swiGlu(Precision precision) {
    for (long[] shape : new long[][] {{1, 1, 1}, {7, 5, 9}, {65, 16, 63}, {63, 24, 64}}) {
      var inputs =
          List.of(
              numbers(ElementType.FLOAT32, shape[0], shape[1]),
              numbers(ElementType.FLOAT32, shape[2], shape[1]),
              numbers(ElementType.FLOAT32, shape[2], shape[1]),
              numbers(ElementType.FLOAT32, shape[1], shape[2]));
      var upstreams =
          new ArrayList<@Nullable Tensor>(
              List.of(numbers(precision.elementType(), shape[0], shape[1]).detach()));
      assertRight(
          (operations, given) -> List.of(operations.swiGlu(given.getFirst(), of(given), precision)),
          given ->
              List.of(
                  given
                      .getFirst()
                      .linear(given.get(1))
                      .silu()
                      .times(given.getFirst().linear(given.get(2)))
                      .linear(given.get(3))),
          inputs,
          upstreams,
          precision == Precision.FLOAT32 ? 2e-6 : 0x1p-6,
          "feed-forward");
    }
  }

  private static SwiGlu.Weights of(List<Tensor> given) {
    return new SwiGlu.Weights(
        new Weight("gate", given.get(1)),
        new Weight("up", given.get(2)),
        new Weight("down", given.get(3)));
  }

  /// The activation alone, to its last bit but one.
  @Test
  void activation() {
    for (var type : TYPES) {
      for (long elements : new long[] {1, 7, 64, 1000, 2055}) {
        assertActivation(type, elements);
      }
    }
  }

  private void assertActivation(ElementType type, long elements) {
    List<Differentiated> each = new ArrayList<>();
    var inputs = List.of(numbers(type, elements), numbers(type, elements));
    var upstreams = new ArrayList<@Nullable Tensor>(List.of(numbers(type, elements).detach()));
    for (var launcher : TestedCard.launchers()) {
      each.add(
          Differentiated.of(
              given -> List.of(CudaSwiGlu.apply(launcher, given.getFirst(), given.getLast())),
              inputs,
              upstreams));
    }
    each.getFirst()
        .assertClose(
            Differentiated.exact(
                given -> List.of(given.getFirst().silu().times(given.getLast())),
                inputs,
                upstreams),
            1e-6,
            type + " " + elements);
    each.getFirst().assertEqualTo(each.getLast(), type + " " + elements);
  }

  @Test
  void expertsHaveWeightsOfTheirOwn() {
    var x = numbers(ElementType.FLOAT32, 9, 5);
    var experts = new ArrayList<SwiGlu.Weights>();
    for (int i = 0; i < 3; i++) {
      experts.add(
          new SwiGlu.Weights(
              new Weight("gate", numbers(ElementType.FLOAT32, 7, 5)),
              new Weight("up", numbers(ElementType.FLOAT32, 7, 5)),
              new Weight("down", numbers(ElementType.FLOAT32, 5, 7))));
    }
    long[] starts = {0, 4, 4, 9};
    assertArrayEquals(
        Operations.COMPOSED.swiGlu(x, starts, experts, Precision.FLOAT32).floats(),
        kernels(TestedCard.launchers().getFirst())
            .swiGlu(x, starts, experts, Precision.FLOAT32)
            .floats(),
        1e-5f);
  }

  // ---------------------------------------------------------------- the delta rule

  private static Way delta(DeltaHeads heads) {
    return (operations, given) ->
        both(
            operations.deltaRule(
                given.get(0),
                given.get(1),
                given.get(2),
                given.size() > 3 ? given.get(3) : null,
                heads));
  }

  private static List<Tensor> both(DeltaRule.Result result) {
    return List.of(result.yBTNV(), result.state());
  }

  private Tensor drawn(DoubleSupplier numbers, long... shape) {
    float[] values = new float[Math.toIntExact(Arrays.stream(shape).reduce(1, (a, b) -> a * b))];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) numbers.getAsDouble();
    }
    return there(Tensor.of(values, shape)).requireGradient(true);
  }

  /// Channels, decays, rates and, if wanted, a state.
  private List<Tensor> deltaInputs(
      ElementType type,
      int batch,
      int tokens,
      DeltaHeads heads,
      DoubleSupplier decay,
      boolean withState) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(numbers(type, batch, tokens, heads.channels()));
    inputs.add(drawn(decay, batch, tokens, heads.valueHeads()));
    inputs.add(drawn(random::nextDouble, batch, tokens, heads.valueHeads()));
    if (withState) {
      inputs.add(
          numbers(
              ElementType.FLOAT32,
              batch,
              heads.valueHeads(),
              heads.keyWidth(),
              heads.valueWidth()));
    }
    return inputs;
  }

  private List<@Nullable Tensor> deltaUpstreams(
      ElementType type, int batch, int tokens, DeltaHeads heads) {
    return new ArrayList<>(
        List.of(
            numbers(type, batch, tokens, heads.valueHeads(), heads.valueWidth()).detach(),
            numbers(
                    ElementType.FLOAT32,
                    batch,
                    heads.valueHeads(),
                    heads.keyWidth(),
                    heads.valueWidth())
                .detach()));
  }

  private void assertDelta(
      ElementType type,
      int batch,
      int tokens,
      DeltaHeads heads,
      DoubleSupplier decay,
      boolean withState) {
    assertDelta(
        heads,
        deltaInputs(type, batch, tokens, heads, decay, withState),
        deltaUpstreams(type, batch, tokens, heads),
        type + " " + tokens + " " + heads);
  }

  /// Within 2e-6 of the largest number of each part, as each token adds its rounding to a state.
  /// What goes into the parts is around one and may cancel, so that it is not less than 2e-7, and
  /// 2e-6 of the decays' gradient, which is a difference of sums.
  private static void assertDelta(
      DeltaHeads heads, List<Tensor> inputs, List<@Nullable Tensor> upstreams, String what) {
    List<Differentiated> each = new ArrayList<>();
    for (var launcher : TestedCard.launchers()) {
      var operations = kernels(launcher);
      each.add(
          Differentiated.of(given -> delta(heads).apply(operations, given), inputs, upstreams));
    }
    var exact =
        Differentiated.exact(
            given -> delta(heads).apply(Operations.COMPOSED, given), inputs, upstreams);
    var sizes = new ArrayList<Differentiated.Part>();
    for (var part : exact.parts()) {
      double[] values = part.values() == null ? null : part.values().clone();
      if (values != null) {
        double largest = Arrays.stream(values).map(Math::abs).max().orElseThrow();
        boolean ofDecays = part.name().equals("gradient of input 1");
        Arrays.fill(values, Math.max(largest, ofDecays ? 1 : 0.1));
      }
      sizes.add(new Differentiated.Part(part.name(), part.type(), values));
    }
    each.getFirst().assertClose(exact, new Differentiated(sizes), 2e-6, what);
    each.getFirst().assertEqualTo(each.getLast(), what);
  }

  @ParameterizedTest(name = "{0} × {1} tokens, {2} and {3} heads of {4} and {5}")
  @CsvSource({
    "1,1,1,1,1,1",
    "2,2,2,4,16,24",
    "1,15,1,1,7,5",
    "2,16,2,2,33,9",
    "1,17,2,6,5,65",
    "2,65,1,3,64,64",
    "1,70,1,2,64,128",
    "1,33,1,1,130,7",
    "1,200,1,2,16,8",
    "1,5,1,1,3,1024",
    "1,3,1,1,1024,2"
  })
  void deltaRule(
      int batch, int tokens, int keyHeads, int valueHeads, int keyWidth, int valueWidth) {
    var heads = new DeltaHeads(keyHeads, valueHeads, keyWidth, valueWidth);
    for (var type : TYPES) {
      for (boolean withState : new boolean[] {false, true}) {
        assertDelta(type, batch, tokens, heads, () -> -0.3 * random.nextDouble(), withState);
      }
    }
  }

  /// Decays of any strength, and a document's first token, before which all is forgotten.
  @Test
  void decaysOfAnyStrength() {
    var heads = new DeltaHeads(1, 2, 16, 8);
    List<DoubleSupplier> decays =
        List.of(
            () -> 0,
            () -> -1000,
            () -> Double.NEGATIVE_INFINITY,
            () -> random.nextDouble() < 0.1 ? -256 : -0.2 * random.nextDouble(),
            () -> -5 * random.nextDouble(),
            () -> -1e-6 * random.nextDouble());
    for (var decay : decays) {
      assertDelta(ElementType.FLOAT32, 2, 130, heads, decay, true);
    }
  }

  /// Nothing of a document reaches the next one or comes back from it: not one bit.
  @Test
  void documentsDoNotKnowOneAnother() {
    var heads = new DeltaHeads(1, 2, 8, 12);
    int tokens = 40;
    int second = 23;
    var inputs =
        deltaInputs(ElementType.FLOAT32, 1, tokens, heads, () -> -0.3 * random.nextDouble(), false);
    try (var _ = Scope.withoutGradient()) {
      var first = inputs.get(1).narrow(1, second, 1);
      first.copyFrom(first.plus(-256));
    }
    var upstreams = deltaUpstreams(ElementType.FLOAT32, 1, tokens, heads);
    var operations = kernels(TestedCard.launchers().getFirst());
    var together =
        Differentiated.of(given -> delta(heads).apply(operations, given), inputs, upstreams);
    int rest = tokens - second;
    var alone =
        Differentiated.of(
            given -> delta(heads).apply(operations, given),
            inputs.stream()
                .map(
                    input ->
                        input.narrow(1, second, rest).contiguous().detach().requireGradient(true))
                .toList(),
            new ArrayList<>(
                Arrays.asList(
                    upstreams.getFirst().narrow(1, second, rest).contiguous(),
                    upstreams.getLast())));
    for (int part : new int[] {0, 2, 3, 4}) {
      double[] all = Objects.requireNonNull(together.parts().get(part).values());
      double[] own = Objects.requireNonNull(alone.parts().get(part).values());
      assertArrayEquals(
          own,
          Arrays.copyOfRange(all, all.length - own.length, all.length),
          together.parts().get(part).name());
    }
    double[] dDecays = Objects.requireNonNull(together.parts().get(3).values());
    assertEquals(0, dDecays[second * 2]);
  }

  @Test
  void onlyTheResultsOrOnlyTheStateMatter() {
    var heads = new DeltaHeads(1, 2, 6, 10);
    for (int ignored = 0; ignored < 2; ignored++) {
      var upstreams = deltaUpstreams(ElementType.BFLOAT16, 2, 20, heads);
      upstreams.set(ignored, null);
      var inputs = deltaInputs(ElementType.BFLOAT16, 2, 20, heads, () -> -0.1, true);
      assertDelta(heads, inputs, upstreams, "without " + ignored);
      Differentiated.assertEachGradientAlone(
          given -> delta(heads).apply(kernels(TestedCard.launchers().getFirst()), given),
          inputs,
          upstreams);
    }
  }

  /// A token's bits do not depend on how many come with it, and what a text leaves is taken up.
  @Test
  void tokensInPieces() {
    var heads = new DeltaHeads(2, 4, 12, 20);
    var operations = kernels(TestedCard.launchers().getFirst());
    try (var _ = Scope.withoutGradient()) {
      var inputs = deltaInputs(ElementType.FLOAT32, 2, 40, heads, () -> -0.1, true);
      var all = delta(heads).apply(operations, inputs);
      var state = inputs.getLast();
      int at = 0;
      for (int count : new int[] {1, 16, 17, 6}) {
        var piece = new ArrayList<Tensor>();
        for (var input : inputs.subList(0, 3)) {
          piece.add(input.narrow(1, at, count));
        }
        piece.add(state);
        var some = delta(heads).apply(operations, piece);
        assertArrayEquals(
            all.getFirst().narrow(1, at, count).contiguous().floats(), some.getFirst().floats());
        state = some.getLast();
        at += count;
      }
      assertArrayEquals(all.getLast().floats(), state.floats());
    }
  }

  /// Few tokens of a decoder leave their states in place, and what they were before the last one.
  @Test
  void deltaSteps() {
    var heads = new DeltaHeads(1, 2, 8, 6);
    try (var _ = Scope.withoutGradient()) {
      for (int tokens = 1; tokens <= 2; tokens++) {
        var mixed = numbers(ElementType.FLOAT32, 2, tokens, heads.channels());
        var logits =
            new DeltaRates.Logits(
                numbers(ElementType.FLOAT32, 2, tokens, 2),
                numbers(ElementType.FLOAT32, 2, tokens, 2),
                numbers(ElementType.FLOAT32, 2),
                numbers(ElementType.FLOAT32, 2));
        var given = numbers(ElementType.FLOAT32, 2, 2, 8, 6);
        List<List<Tensor>> left = new ArrayList<>();
        List<Operations> ways =
            List.of(Operations.COMPOSED, kernels(TestedCard.launchers().getFirst()));
        for (var way : ways) {
          var states = rows(given);
          var before = rows(given.times(0));
          var all = new ArrayList<Tensor>();
          all.add(way.deltaSteps(mixed, logits, states, before, heads));
          all.addAll(states);
          all.addAll(before);
          left.add(all);
        }
        for (int i = 0; i < left.getFirst().size(); i++) {
          assertArrayEquals(
              left.getFirst().get(i).floats(), left.getLast().get(i).floats(), 1e-5f, "" + i);
        }
      }
    }
  }

  private static List<Tensor> rows(Tensor states) {
    var rows = new ArrayList<Tensor>();
    for (int row = 0; row < states.size(0); row++) {
      rows.add(states.narrow(0, row, 1).times(1));
    }
    return rows;
  }

  @Test
  void aDecayAboveZeroMakesNaN() {
    var heads = new DeltaHeads(1, 1, 4, 4);
    try (var _ = Scope.withoutGradient()) {
      var inputs = deltaInputs(ElementType.FLOAT32, 1, 3, heads, () -> 1e-3, false);
      var y = delta(heads).apply(kernels(TestedCard.launchers().getFirst()), inputs).getFirst();
      assertTrue(Float.isNaN(y.floats()[0]));
    }
  }

  // ---------------------------------------------------------------- the loss

  @ParameterizedTest(name = "{0} tokens of {1}, vocabulary {2}, z-loss {3}")
  @CsvSource({"1,1,2,0", "7,5,9,0", "65,16,63,1e-2", "63,8,264,0", "5,7,2049,1e-3", "130,3,65,0"})
  void loss(int tokens, long width, long vocabulary, double zLoss) {
    for (var type : TYPES) {
      var inputs =
          List.of(
              numbers(type, tokens, width),
              there(Differentiated.rounded(random, vocabulary, width))
                  .detach()
                  .requireGradient(true),
              there(Tensor.of(random.longs(tokens, 0, vocabulary).toArray(), tokens)));
      for (double scale : new double[] {1, 0.3}) {
        var upstreams =
            new ArrayList<@Nullable Tensor>(
                List.of(there(Tensor.of(new float[] {(float) scale}, 1))));
        assertRight(
            (operations, given) ->
                List.of(
                    operations
                        .nextTokenLoss(
                            given.getFirst(),
                            new Weight("head", given.get(1)),
                            given.get(2),
                            type,
                            zLoss)
                        .total()),
            given ->
                List.of(
                    NextTokenLoss.ofLogits(
                            given.getFirst().linear(given.get(1)), given.get(2), zLoss)
                        .total()
                        .reshape(1)),
            inputs,
            upstreams,
            type == ElementType.FLOAT32 ? 1e-6 : 0x1p-6,
            type + " × " + scale);
      }
    }
  }

  @Test
  void theParts() {
    var hidden = numbers(ElementType.FLOAT32, 9, 5);
    var head = new Weight("head", numbers(ElementType.FLOAT32, 7, 5));
    var targets = there(Tensor.of(random.longs(9, 0, 7).toArray(), 9));
    var operations = kernels(TestedCard.launchers().getFirst());
    var expected =
        Operations.COMPOSED.nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0.1);
    var actual = operations.nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0.1);
    assertEquals(expected.crossEntropy().item(), actual.crossEntropy().item(), 1e-5);
    assertEquals(expected.zLoss().item(), actual.zLoss().item(), 1e-5);
    assertNull(operations.nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0).zLoss());
  }

  @Test
  void aTargetOutsideTheVocabularyMakesTheLossNaN() {
    var hidden = numbers(ElementType.FLOAT32, 2, 5).detach();
    var head = new Weight("head", numbers(ElementType.FLOAT32, 7, 5).detach());
    var operations = kernels(TestedCard.launchers().getFirst());
    for (long target : new long[] {-1, 7}) {
      var targets = there(Tensor.of(new long[] {3, target}, 2));
      var loss = operations.nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0);
      assertTrue(Double.isNaN(loss.total().item()));
    }
  }

  /// The largest and the smallest logits that float32 has, and −∞.
  @Test
  void extremeLogits() {
    var head = new Weight("head", there(Tensor.of(new float[] {1, -1, 0}, 3, 1)));
    var targets = there(Tensor.of(new long[] {0, 1, 2, 0}, 4));
    float[] states = {0, -1e30f, 1e-30f, 88};
    var hidden = there(Tensor.of(states, 4, 1)).requireGradient(true);
    var operations = kernels(TestedCard.launchers().getFirst());
    assertEquals(
        Operations.COMPOSED
            .nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0)
            .total()
            .item(),
        operations.nextTokenLoss(hidden, head, targets, ElementType.FLOAT32, 0).total().item(),
        1e-6);
  }

  // ---------------------------------------------------------------- the optimizer

  private List<AdamWUpdate> updates(long[][] shapes, SplittableRandom same) {
    var updates = new ArrayList<AdamWUpdate>();
    for (int i = 0; i < shapes.length; i++) {
      var step = new AdamWStep(1e-2, 0.9, 0.999, 1e-8, i % 2 == 0 ? 0.1 : 0, 3, 0.7);
      updates.add(
          new AdamWUpdate(
              new Weight("w" + i, there(gaussian(same, ElementType.FLOAT32, shapes[i]))),
              there(gaussian(same, ElementType.FLOAT32, shapes[i])).detach(),
              there(gaussian(same, ElementType.FLOAT32, shapes[i])).detach(),
              there(gaussian(same, ElementType.FLOAT32, shapes[i])).detach().absolute(),
              step));
    }
    return updates;
  }

  @Test
  void adamW() {
    long[][] shapes = {{1}, {7}, {63, 65}, {8192}, {8193}, {3, 8191}, {5}};
    try (var _ = Scope.withoutGradient()) {
      var expected = updates(shapes, new SplittableRandom(5));
      Operations.COMPOSED.adamW(expected);
      for (var launcher : TestedCard.launchers()) {
        var actual = updates(shapes, new SplittableRandom(5));
        var operations = kernels(launcher);
        operations.adamW(actual);
        for (int i = 0; i < shapes.length; i++) {
          assertArrayEquals(
              expected.get(i).parameter().floats(), actual.get(i).parameter().floats(), 1e-6f);
          assertArrayEquals(
              expected.get(i).first().floats(), actual.get(i).first().floats(), 1e-6f);
          assertArrayEquals(
              expected.get(i).second().floats(), actual.get(i).second().floats(), 1e-6f);
        }
      }
    }
  }

  /// The bfloat16 form of a weight that a kernel has moved is made anew, and a table that was kept
  /// does not hide that tensors stand elsewhere.
  @Test
  void whatTheOptimizerMovesIsNoticed() {
    try (var _ = Scope.withoutGradient()) {
      var operations = kernels(TestedCard.launchers().getFirst());
      for (int round = 0; round < 3; round++) {
        var updates = updates(new long[][] {{3, 5}, {7}}, new SplittableRandom(round));
        var weight = updates.getFirst().weight();
        var before = weight.of(ElementType.BFLOAT16).floats();
        operations.adamW(updates);
        operations.adamW(updates);
        var after = weight.of(ElementType.BFLOAT16).floats();
        assertArrayEquals(
            weight.leaf().to(ElementType.BFLOAT16).floats(), after, "in round " + round);
        assertTrue(before[0] != after[0]);
      }
    }
  }

  @Test
  void norm() {
    var tensors = new ArrayList<Tensor>();
    for (long[] shape :
        new long[][] {{7}, {300, 301}, {1, 1}, {8192}, {8193}, {2, 8191}, {1}, {129}}) {
      tensors.add(numbers(ElementType.FLOAT32, shape).detach());
    }
    tensors.add(numbers(ElementType.FLOAT32, 5, 3).detach().transpose(0, 1));
    var norms = new ArrayList<Double>();
    for (var launcher : TestedCard.launchers()) {
      norms.add(kernels(launcher).norm(tensors).item());
    }
    double expected = Operations.COMPOSED.norm(tensors).item();
    assertEquals(expected, norms.getFirst(), 1e-6 * expected);
    assertEquals(norms.getFirst(), norms.getLast());
  }

  // ---------------------------------------------------------------- all

  /// What kernels do not take has the definition's result.
  @Test
  void otherTypesTakeTheDefinition() {
    var operations = kernels(TestedCard.launchers().getFirst());
    var y = numbers(ElementType.FLOAT32, 2, 3, 2, 5).to(ElementType.FLOAT64);
    var z = numbers(ElementType.FLOAT32, 2, 3, 2).to(ElementType.FLOAT64);
    assertEquals(ElementType.FLOAT64, operations.sigmoidGate(y, z).type());
    assertArrayEquals(
        Operations.COMPOSED.sigmoidGate(y, z).doubles(), operations.sigmoidGate(y, z).doubles());
    var wide = numbers(ElementType.FLOAT32, 1, 1, 8200);
    assertArrayEquals(
        Operations.COMPOSED
            .residualNorm(wide, null, wide.reshape(8200).detach(), NORM, ElementType.FLOAT32)
            .normedBTD()
            .floats(),
        operations
            .residualNorm(wide, null, wide.reshape(8200).detach(), NORM, ElementType.FLOAT32)
            .normedBTD()
            .floats());
    var nothing = numbers(ElementType.FLOAT32, 0, 3, 2, 5);
    assertEquals(
        0, operations.sigmoidGate(nothing, numbers(ElementType.FLOAT32, 0, 3, 2)).elements());
  }

  @Test
  void theCpuTakesNone() {
    var onCpu = Tensor.zeros(ElementType.FLOAT32, 1);
    assertEquals(Device.CPU, onCpu.device());
    assertEquals(Operations.FUSED, Operations.of(onCpu));
  }
}
