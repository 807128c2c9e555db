package dev.sluice.operations;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.kernel.Threads;
import dev.sluice.tensor.Differentiated;
import dev.sluice.tensor.Differentiated.Operation;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.DoubleSupplier;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// The rule in chunks against the definition token by token in float64, and the definition against
/// plain loops and finite differences.
class DeltaRuleTest {
  private static final int THREADS = Threads.count();

  private final SplittableRandom random = new SplittableRandom(53);
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

  // ---------------------------------------------------------------- inputs

  private static Operation fused(DeltaHeads heads) {
    return given ->
        results(DeltaRule.apply(given.get(0), given.get(1), given.get(2), state(given), heads));
  }

  private static Operation composed(DeltaHeads heads) {
    return given ->
        results(DeltaRule.composed(given.get(0), given.get(1), given.get(2), state(given), heads));
  }

  private static @Nullable Tensor state(List<Tensor> given) {
    return given.size() > 3 ? given.get(3) : null;
  }

  private static List<Tensor> results(DeltaRule.Result result) {
    return List.of(result.yBTNV(), result.state());
  }

  private Tensor drawn(DoubleSupplier numbers, long... shape) {
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) numbers.getAsDouble();
    }
    return Tensor.of(values, shape).requireGradient(true);
  }

  /// Channels, decays, rates and, if wanted, a state.
  private List<Tensor> inputs(
      ElementType type,
      int batch,
      int tokens,
      DeltaHeads heads,
      DoubleSupplier decay,
      DoubleSupplier rate,
      boolean withState) {
    var inputs = new ArrayList<Tensor>();
    inputs.add(
        drawn(random::nextGaussian, batch, tokens, heads.channels())
            .to(type)
            .detach()
            .requireGradient(true));
    inputs.add(drawn(decay, batch, tokens, heads.valueHeads()));
    inputs.add(drawn(rate, batch, tokens, heads.valueHeads()));
    if (withState) {
      inputs.add(
          drawn(
              random::nextGaussian,
              batch,
              heads.valueHeads(),
              heads.keyWidth(),
              heads.valueWidth()));
    }
    return inputs;
  }

  private double mildDecay() {
    return -0.3 * random.nextDouble();
  }

  private List<@Nullable Tensor> upstreams(
      ElementType type, int batch, int tokens, DeltaHeads heads) {
    var upstreams = new ArrayList<@Nullable Tensor>();
    upstreams.add(
        drawn(random::nextGaussian, batch, tokens, heads.valueHeads(), heads.valueWidth())
            .detach()
            .to(type));
    upstreams.add(
        drawn(random::nextGaussian, batch, heads.valueHeads(), heads.keyWidth(), heads.valueWidth())
            .detach());
    return upstreams;
  }

  private void assertFollowsTheDefinition(
      ElementType type,
      int batch,
      int tokens,
      DeltaHeads heads,
      DoubleSupplier decay,
      DoubleSupplier rate,
      boolean withState,
      String what) {
    try (var _ = Scope.open()) {
      var inputs = inputs(type, batch, tokens, heads, decay, rate, withState);
      var upstreams = upstreams(type, batch, tokens, heads);
      var exact = Differentiated.exact(composed(heads), inputs, upstreams);
      Differentiated.of(fused(heads), inputs, upstreams)
          .assertClose(
              exact,
              sizes(exact),
              1e-5,
              "%s, %s, B=%d, T=%d, %s".formatted(what, type, batch, tokens, heads));
    }
  }

  /// For each number the largest one of its tensor, and at least 1e-8: where nothing is left but
  /// what has decayed below 2⁻⁴⁸, it counts as zero.
  private static Differentiated sizes(Differentiated exact) {
    var parts = new ArrayList<Differentiated.Part>();
    for (var part : exact.parts()) {
      double[] sizes = part.values() == null ? null : part.values().clone();
      if (sizes != null) {
        double largest = Arrays.stream(sizes).map(Math::abs).max().orElseThrow();
        Arrays.fill(sizes, Math.max(largest, 1e-8));
      }
      parts.add(new Differentiated.Part(part.name(), part.type(), sizes));
    }
    return new Differentiated(parts);
  }

  // ---------------------------------------------------------------- against the definition

  /// Float32 within 1e-5 of the largest number of each tensor; bfloat16, in which nothing but the
  /// tensors is stored, half an ulp more.
  @Test
  void valuesAndGradients() {
    for (var type : List.of(ElementType.FLOAT32, ElementType.BFLOAT16)) {
      for (int tokens : new int[] {1, 2, 15, 63, 64, 65, 200}) {
        assertFollowsTheDefinition(
            type,
            2,
            tokens,
            new DeltaHeads(2, 4, 16, 24),
            this::mildDecay,
            random::nextDouble,
            tokens % 2 == 0,
            "usual");
      }
    }
  }

  @Test
  void headsOfAllShapes() {
    int[][] shapes = {{1, 1, 1, 1}, {1, 1, 7, 5}, {3, 3, 5, 7}, {2, 6, 33, 65}, {1, 2, 64, 128}};
    for (int[] s : shapes) {
      assertFollowsTheDefinition(
          ElementType.FLOAT32,
          1 + s[1] % 2,
          70,
          new DeltaHeads(s[0], s[1], s[2], s[3]),
          this::mildDecay,
          random::nextDouble,
          s[1] % 2 == 0,
          "shape");
    }
  }

  @Test
  void valueHeadsApart() {
    int[][] shapes = {{2, 4, 16, 24}, {3, 9, 5, 7}, {2, 2, 8, 8}, {1, 3, 8, 6}};
    for (int[] s : shapes) {
      assertFollowsTheDefinition(
          ElementType.FLOAT32,
          2,
          70,
          new DeltaHeads(s[0], s[1], s[2], s[3], DeltaHeads.Order.APART),
          this::mildDecay,
          random::nextDouble,
          true,
          "apart");
    }
  }

  /// A head is the same wherever it stands, to the bit, in chunks and in steps.
  @Test
  void theOrderOfValueHeadsChangesNoBit() {
    try (var _ = Scope.withoutGradient()) {
      var together = new DeltaHeads(2, 6, 12, 20);
      var apart = together.with(DeltaHeads.Order.APART);
      int[] order = new int[6]; // the head in `together` that is the i-th in `apart`
      for (int i = 0; i < 6; i++) {
        order[i] = together.valueHead(apart.keyHead(i), i / 2);
      }
      assertArrayEquals(new int[] {0, 3, 1, 4, 2, 5}, order);
      for (int tokens : new int[] {1, 2, 100}) {
        var inputs =
            inputs(
                ElementType.FLOAT32,
                2,
                tokens,
                together,
                this::mildDecay,
                random::nextDouble,
                true);
        long keys = 2L * 2 * 12;
        var mixed = inputs.get(0);
        var values = mixed.narrow(2, keys, 120).reshape(2, tokens, 6, 20);
        var moved =
            Tensor.concatenate(
                List.of(
                    mixed.narrow(2, 0, keys), inOrder(values, 2, order).reshape(2, tokens, 120)),
                2);
        var decays = inOrder(inputs.get(1), 2, order);
        var rates = inOrder(inputs.get(2), 2, order);
        var state = inOrder(inputs.get(3), 1, order);
        var expected =
            DeltaRule.apply(mixed, inputs.get(1), inputs.get(2), inputs.get(3), together);
        var found = DeltaRule.apply(moved, decays, rates, state, apart);
        assertArrayEquals(
            inOrder(expected.yBTNV(), 2, order).floats(), found.yBTNV().floats(), "y");
        assertArrayEquals(
            inOrder(expected.state(), 1, order).floats(), found.state().floats(), "state");
        if (tokens < 3) {
          var left = Tensor.of(inputs.get(3).floats(), inputs.get(3).shape());
          var y = DeltaRule.steps(mixed, inputs.get(1), inputs.get(2), left, null, together);
          var itsLeft = Tensor.of(state.floats(), state.shape());
          var its = DeltaRule.steps(moved, decays, rates, itsLeft, null, apart);
          assertArrayEquals(inOrder(y, 2, order).floats(), its.floats(), "y of steps");
          assertArrayEquals(inOrder(left, 1, order).floats(), itsLeft.floats(), "left");
        }
      }
    }
  }

  private static Tensor inOrder(Tensor x, int dimension, int... order) {
    var parts = Arrays.stream(order).mapToObj(i -> x.narrow(dimension, i, 1)).toList();
    return Tensor.concatenate(parts, dimension);
  }

  /// Decays of any strength, at which the quotients of what has decayed since a chunk's start would
  /// overflow, and rates at both ends.
  @Test
  void extremeDecaysAndRates() {
    var heads = new DeltaHeads(1, 2, 16, 8);
    DoubleSupplier[] decays = {
      () -> 0,
      () -> -50,
      () -> -1000,
      () -> Double.NEGATIVE_INFINITY,
      () -> random.nextDouble() < 0.1 ? -60 * random.nextDouble() : 0,
      () -> -5 * random.nextDouble(),
      () -> -1e-6 * random.nextDouble()
    };
    DoubleSupplier[] rates = {() -> 0, () -> 1, random::nextDouble, () -> random.nextInt(2)};
    for (int d = 0; d < decays.length; d++) {
      for (int r = 0; r < rates.length; r++) {
        assertFollowsTheDefinition(
            ElementType.FLOAT32, 1, 130, heads, decays[d], rates[r], true, d + " and " + r);
      }
    }
  }

  @Test
  void manyChunks() {
    assertFollowsTheDefinition(
        ElementType.FLOAT32,
        1,
        1000,
        new DeltaHeads(1, 1, 32, 32),
        () -> -0.01 * random.nextDouble(),
        random::nextDouble,
        true,
        "long");
  }

  /// The same key again and again, of which the triangular system is furthest from the identity.
  @Test
  void equalKeys() {
    var heads = new DeltaHeads(1, 1, 8, 8);
    var inputs = inputs(ElementType.FLOAT32, 1, 130, heads, () -> 0, () -> 1, true);
    try (var _ = Scope.withoutGradient()) {
      var keys = inputs.getFirst().narrow(2, 8, 8);
      keys.copyFrom(keys.narrow(1, 0, 1));
    }
    var upstreams = upstreams(ElementType.FLOAT32, 1, 130, heads);
    Differentiated.of(fused(heads), inputs, upstreams)
        .assertClose(Differentiated.exact(composed(heads), inputs, upstreams), 1e-5, "equal keys");
  }

  @Test
  void zerosHaveNoLengthAndNoNaN() {
    var heads = new DeltaHeads(1, 1, 8, 8);
    var zeros = Tensor.zeros(ElementType.FLOAT32, 1, 70, heads.channels()).requireGradient(true);
    var inputs =
        List.of(zeros, drawn(this::mildDecay, 1, 70, 1), drawn(random::nextDouble, 1, 70, 1));
    var upstreams = upstreams(ElementType.FLOAT32, 1, 70, heads);
    Differentiated.of(fused(heads), inputs, upstreams)
        .assertClose(Differentiated.exact(composed(heads), inputs, upstreams), 1e-5, "zeros");
  }

  @Test
  void onlyTheResultsOrOnlyTheStateMatter() {
    var heads = new DeltaHeads(1, 2, 6, 10);
    var inputs =
        inputs(ElementType.FLOAT32, 2, 100, heads, this::mildDecay, random::nextDouble, true);
    for (int ignored = 0; ignored < 2; ignored++) {
      var upstreams = upstreams(ElementType.FLOAT32, 2, 100, heads);
      upstreams.set(ignored, null);
      Differentiated.of(fused(heads), inputs, upstreams)
          .assertClose(
              Differentiated.exact(composed(heads), inputs, upstreams), 1e-5, "without " + ignored);
    }
  }

  @Test
  void eachGradientAlone() {
    var heads = new DeltaHeads(1, 2, 6, 10);
    Differentiated.assertEachGradientAlone(
        fused(heads),
        inputs(ElementType.FLOAT32, 1, 70, heads, this::mildDecay, random::nextDouble, true),
        upstreams(ElementType.FLOAT32, 1, 70, heads));
  }

  /// Without gradients states are changed in place; that must give the same bits.
  @Test
  void sameBitsWithoutGradients() {
    var heads = new DeltaHeads(2, 4, 12, 20);
    var inputs =
        inputs(ElementType.FLOAT32, 2, 200, heads, this::mildDecay, random::nextDouble, true);
    double[] before = inputs.getLast().doubles();
    var recorded = fused(heads).apply(inputs);
    List<Tensor> bare;
    try (var inner = Scope.withoutGradient()) {
      bare = fused(heads).apply(inputs);
      bare.forEach(inner::keep);
    }
    for (int i = 0; i < 2; i++) {
      assertTrue(recorded.get(i).requiresGradient());
      assertArrayEquals(recorded.get(i).detach().doubles(), bare.get(i).doubles());
    }
    assertArrayEquals(before, inputs.getLast().doubles(), "the state that was given");
  }

  @Test
  void sameBitsOnAnyNumberOfThreads() {
    var heads = new DeltaHeads(3, 6, 12, 20);
    var inputs =
        inputs(ElementType.BFLOAT16, 2, 200, heads, this::mildDecay, random::nextDouble, true);
    var upstreams = upstreams(ElementType.BFLOAT16, 2, 200, heads);
    Threads.count(1);
    var alone = Differentiated.of(fused(heads), inputs, upstreams);
    for (int threads = 2; threads <= 3; threads++) {
      Threads.count(threads);
      Differentiated.of(fused(heads), inputs, upstreams).assertEqualTo(alone, threads + " threads");
    }
  }

  // ---------------------------------------------------------------- in pieces

  private static List<Tensor> part(List<Tensor> inputs, long from, long to) {
    return inputs.subList(0, 3).stream()
        .map(input -> input.narrow(1, from, to - from).contiguous())
        .toList();
  }

  private static void assertNear(Tensor expected, Tensor actual, String what) {
    double[] right = expected.doubles();
    double[] values = actual.doubles();
    assertEquals(right.length, values.length, what);
    double largest = Arrays.stream(right).map(Math::abs).max().orElseThrow();
    for (int i = 0; i < right.length; i++) {
      assertEquals(right[i], values[i], 2e-6 * largest, what);
    }
  }

  /// A sequence in two pieces, or token by token, equals one pass.
  @Test
  void piecesEqualOnePass() {
    try (var _ = Scope.withoutGradient()) {
      var heads = new DeltaHeads(2, 4, 24, 40);
      int tokens = 150;
      var inputs =
          inputs(ElementType.FLOAT32, 2, tokens, heads, this::mildDecay, random::nextDouble, true);
      var whole = fused(heads).apply(inputs);
      for (int cut : new int[] {1, 2, 63, 64, 65, 100, 128, 149}) {
        var first = new ArrayList<>(part(inputs, 0, cut));
        first.add(inputs.get(3));
        var left = fused(heads).apply(first);
        var second = new ArrayList<>(part(inputs, cut, tokens));
        second.add(left.get(1));
        var right = fused(heads).apply(second);
        var y = Tensor.concatenate(List.of(left.get(0), right.get(0)), 1);
        assertNear(whole.get(0), y, "y cut at " + cut);
        assertNear(whole.get(1), right.get(1), "state cut at " + cut);
      }
      for (int threads = 1; threads <= 3; threads++) {
        Threads.count(threads);
        var state = Tensor.of(inputs.get(3).floats(), inputs.get(3).shape());
        var results = new ArrayList<Tensor>();
        for (int t = 0; t < tokens; t++) {
          var token = part(inputs, t, t + 1);
          results.add(
              DeltaRule.steps(token.get(0), token.get(1), token.get(2), state, null, heads));
        }
        assertNear(whole.get(0), Tensor.concatenate(results, 1), "y by steps");
        assertNear(whole.get(1), state, "state by steps");
      }
    }
  }

  @Test
  void stepOfBfloat16() {
    try (var _ = Scope.withoutGradient()) {
      var heads = new DeltaHeads(1, 3, 17, 70);
      var inputs =
          inputs(ElementType.BFLOAT16, 2, 1, heads, this::mildDecay, random::nextDouble, true);
      var wide =
          DeltaRule.composed(
              inputs.get(0).to(ElementType.FLOAT64),
              inputs.get(1).to(ElementType.FLOAT64),
              inputs.get(2).to(ElementType.FLOAT64),
              inputs.get(3).to(ElementType.FLOAT64),
              heads);
      var state = Tensor.of(inputs.get(3).floats(), inputs.get(3).shape());
      var y = DeltaRule.steps(inputs.get(0), inputs.get(1), inputs.get(2), state, null, heads);
      assertEquals(ElementType.BFLOAT16, y.type());
      assertNear(wide.state(), state, "state");
      double[] right = wide.yBTNV().doubles();
      double[] values = y.doubles();
      for (int i = 0; i < right.length; i++) {
        assertEquals(right[i], values[i], 0x1p-8 * Math.abs(right[i]) + 1e-6, "y");
      }
    }
  }

  /// Two tokens at once have the bits of one after the other, and so has the state between them.
  @Test
  void stepsAtOnceAreStepsOneByOne() {
    try (var _ = Scope.withoutGradient()) {
      var heads = new DeltaHeads(2, 6, 24, 40);
      var inputs =
          inputs(ElementType.FLOAT32, 2, 2, heads, this::mildDecay, random::nextDouble, true);
      for (int threads = 1; threads <= 3; threads++) {
        Threads.count(threads);
        var state = Tensor.of(inputs.get(3).floats(), inputs.get(3).shape());
        var between = Tensor.zeros(ElementType.FLOAT32, state.shape());
        var both =
            DeltaRule.steps(inputs.get(0), inputs.get(1), inputs.get(2), state, between, heads);
        var alone = Tensor.of(inputs.get(3).floats(), inputs.get(3).shape());
        for (int t = 0; t < 2; t++) {
          if (t == 1) {
            assertArrayEquals(alone.floats(), between.floats(), "between");
          }
          var token = part(inputs, t, t + 1);
          var y = DeltaRule.steps(token.get(0), token.get(1), token.get(2), alone, null, heads);
          assertArrayEquals(y.floats(), both.narrow(1, t, 1).floats(), "token " + t);
        }
        assertArrayEquals(alone.floats(), state.floats(), "at the end");
      }
    }
  }

  // ---------------------------------------------------------------- the definition itself

  /// The rule in plain loops, in float64.
  private static double[] plainly(
      double[] mixed, double[] g, double[] beta, double[] states, int batch, DeltaHeads heads) {
    int n = heads.valueHeads();
    int k = heads.keyWidth();
    int v = heads.valueWidth();
    int tokens = g.length / n / batch;
    double[] y = new double[batch * tokens * n * v];
    for (int b = 0; b < batch; b++) {
      for (int head = 0; head < n; head++) {
        int s = (b * n + head) * k * v;
        for (int t = 0; t < tokens; t++) {
          int token = (b * tokens + t) * heads.channels();
          int shared =
              heads.order() == DeltaHeads.Order.TOGETHER
                  ? head / heads.group()
                  : head % heads.keyHeads();
          double[] query = unit(mixed, token + shared * k, k);
          double[] key = unit(mixed, token + (heads.keyHeads() + shared) * k, k);
          int value = token + 2 * heads.keyHeads() * k + head * v;
          int rate = (b * tokens + t) * n + head;
          for (int j = 0; j < v; j++) {
            double read = 0;
            for (int i = 0; i < k; i++) {
              states[s + i * v + j] *= Math.exp(g[rate]);
              read += states[s + i * v + j] * key[i];
            }
            double change = beta[rate] * (mixed[value + j] - read);
            double seen = 0;
            for (int i = 0; i < k; i++) {
              states[s + i * v + j] += key[i] * change;
              seen += states[s + i * v + j] * query[i] / Math.sqrt(k);
            }
            y[((b * tokens + t) * n + head) * v + j] = seen;
          }
        }
      }
    }
    return y;
  }

  private static double[] unit(double[] x, int from, int count) {
    double[] part = Arrays.copyOfRange(x, from, from + count);
    double squares = Arrays.stream(part).map(a -> a * a).sum();
    return Arrays.stream(part).map(a -> a / Math.sqrt(squares + 1e-6)).toArray();
  }

  @Test
  void theDefinitionIsTheFormula() {
    for (var order : DeltaHeads.Order.values()) {
      assertIsTheFormula(new DeltaHeads(2, 6, 5, 3, order));
    }
  }

  private void assertIsTheFormula(DeltaHeads heads) {
    try (var _ = Scope.withoutGradient()) {
      var wide =
          inputs(ElementType.FLOAT32, 2, 9, heads, this::mildDecay, random::nextDouble, true)
              .stream()
              .map(input -> input.detach().to(ElementType.FLOAT64))
              .toList();
      var result = composed(heads).apply(wide);
      double[] states = wide.get(3).doubles();
      double[] y =
          plainly(
              wide.get(0).doubles(),
              wide.get(1).doubles(),
              wide.get(2).doubles(),
              states,
              2,
              heads);
      assertArrayEquals(y, result.get(0).doubles(), 1e-13);
      assertArrayEquals(states, result.get(1).doubles(), 1e-13);
    }
  }

  /// Central differences of the definition in float64; with h = 1e-5 they are off by about h² and
  /// 1e-16 / h.
  @Test
  void theDefinitionsGradientsAreTheSlopes() {
    var heads = new DeltaHeads(1, 2, 3, 2);
    var inputs =
        inputs(ElementType.FLOAT32, 1, 5, heads, this::mildDecay, random::nextDouble, true);
    var upstreams = upstreams(ElementType.FLOAT32, 1, 5, heads);
    var parts = Differentiated.exact(composed(heads), inputs, upstreams).parts();
    for (int k = 0; k < inputs.size(); k++) {
      double[] gradient = parts.get(2 + k).values();
      for (int i = 0; i < inputs.get(k).elements(); i++) {
        double slope =
            (loss(heads, inputs, upstreams, k, i, 1e-5)
                    - loss(heads, inputs, upstreams, k, i, -1e-5))
                / 2e-5;
        assertEquals(slope, gradient[i], 1e-8 * (1 + Math.abs(slope)), "input " + k + " at " + i);
      }
    }
  }

  /// Σ results · upstreams when one number is moved.
  private static double loss(
      DeltaHeads heads,
      List<Tensor> inputs,
      List<@Nullable Tensor> upstreams,
      int moved,
      int at,
      double by) {
    try (var _ = Scope.withoutGradient()) {
      var given = new ArrayList<Tensor>();
      for (int k = 0; k < inputs.size(); k++) {
        double[] values = inputs.get(k).doubles();
        if (k == moved) {
          values[at] += by;
        }
        given.add(Tensor.of(values, inputs.get(k).shape()));
      }
      var results = composed(heads).apply(given);
      double loss = 0;
      for (int r = 0; r < 2; r++) {
        var upstream = upstreams.get(r);
        if (upstream != null) {
          loss += results.get(r).times(upstream.to(ElementType.FLOAT64)).sum().item();
        }
      }
      return loss;
    }
  }

  // ---------------------------------------------------------------- refusals

  @Test
  void whatDoesNotFitIsRefused() {
    var heads = new DeltaHeads(1, 2, 3, 2);
    var mixed = Tensor.zeros(ElementType.FLOAT32, 1, 5, heads.channels());
    var rates = Tensor.zeros(ElementType.FLOAT32, 1, 5, 2);
    for (var wrong :
        List.of(
            Tensor.zeros(ElementType.FLOAT32, 1, 5, 1),
            Tensor.zeros(ElementType.FLOAT32, 1, 4, 2),
            Tensor.zeros(ElementType.BFLOAT16, 1, 5, 2))) {
      assertRefused("decays", () -> DeltaRule.apply(mixed, wrong, rates, null, heads));
      assertRefused("rates", () -> DeltaRule.apply(mixed, rates, wrong, null, heads));
      assertRefused("state", () -> DeltaRule.apply(mixed, rates, rates, wrong, heads));
    }
    assertRefused(
        "no delta rule", () -> DeltaRule.apply(mixed.narrow(2, 0, 9), rates, rates, null, heads));
    var state = Tensor.zeros(ElementType.FLOAT32, 1, 2, 3, 2);
    var growing = rates.plus(0.1);
    assertRefused(
        "a factor of at most 1, not 0.1",
        () -> DeltaRule.apply(mixed, growing, rates, null, heads));
    assertRefusedAsInput(
        "linear_num_value_heads (3) is not a multiple of linear_num_key_heads (2)",
        () -> new DeltaHeads(2, 3, 4, 4));
    assertRefusedAsInput(
        "linear_key_head_dim must be positive, not 0", () -> new DeltaHeads(1, 1, 0, 4));
  }

  private static void assertRefusedAsInput(
      String words, org.junit.jupiter.api.function.Executable call) {
    var refusal = assertThrows(InvalidInputException.class, call);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }

  private static void assertRefused(String words, org.junit.jupiter.api.function.Executable call) {
    var refusal = assertThrows(IllegalArgumentException.class, call);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }
}
