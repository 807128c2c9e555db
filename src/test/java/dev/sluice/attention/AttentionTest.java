package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.gate.Activation;
import dev.sluice.gate.Combination;
import dev.sluice.gate.Gate;
import dev.sluice.gate.GateInit;
import dev.sluice.gate.GateInput;
import dev.sluice.gate.GatePosition;
import dev.sluice.gate.Granularity;
import dev.sluice.gate.Sharing;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Attention with every gate, through a decoder of two small layers.
class AttentionTest {
  private static final int TOKENS = 9;

  private static final List<Activation> ACTIVATIONS =
      List.of(
          new Activation.Sigmoid(),
          new Activation.ScaledSigmoid(2),
          new Activation.NonSparseSigmoid(),
          new Activation.Silu(),
          new Activation.Softplus(),
          new Activation.Identity(),
          new Activation.LinearClip());

  private Scope scope;

  @BeforeEach
  void open() {
    Libtorch.poisonUninitialized(true);
    scope = Scope.withoutGradient();
  }

  @AfterEach
  void close() {
    scope.close();
    Libtorch.poisonUninitialized(false);
  }

  private static DecoderConfig config(List<Gate> gates) {
    return DecoderConfig.uniform(
        13, 12, 16, 2, 4, 2, 6, 64, 100, new RopeScaling.None(), 1e-6, true, true, 0.3, gates);
  }

  /// What a decoder may have besides gates, alone and together with them.
  private static List<DecoderConfig> variants() {
    var plain = AttentionVariant.PLAIN;
    // Normed alone: a sink's factor would be normed away, and of the first token's exclusive output
    // only the rounding is left, which the norm would make large.
    var normed = plain.with(SdpaNonlinearity.RMS_NORM);
    // Not one of two: a norm takes a key's only score away, and leaves its router no gradient.
    var exclusive =
        new AttentionVariant(
            SoftmaxSink.LEARNED, true, SdpaNonlinearity.SILU, new SwitchHead(true, 3, 2));
    var turning = config(List.of()).attention().positions();
    var windowed = config(List.of()).mapAttention(a -> a.with(turning.withWindow(4)));
    // Without a rotation the norm is what tells a key's bias from one that all keys have.
    var still = config(List.of()).mapAttention(a -> a.with(Positions.NONE));
    var biased = windowed.mapAttention(a -> a.with(new Biases(true, true)));
    return List.of(
        windowed,
        windowed.with(List.of(Gate.parse("sdpa-headwise-softplus"))),
        still,
        still.mapAttention(a -> a.with(new Biases(true, false))),
        biased.with(plain.with(SoftmaxSink.LEARNED)),
        biased.with(exclusive).with(List.of(Gate.SDPA_ELEMENTWISE)),
        config(List.of()).with(plain.with(SoftmaxSink.OFF_BY_ONE)),
        config(List.of()).with(plain.with(SoftmaxSink.LEARNED)),
        config(List.of()).with(plain.withExclusive(true)),
        config(List.of()).with(plain.with(SdpaNonlinearity.RMS_NORM)),
        config(List.of()).with(plain.with(SdpaNonlinearity.SILU)),
        config(List.of()).with(plain.with(new SwitchHead(false, 4, 2))),
        config(List.of()).with(plain.with(new SwitchHead(true, 3, 3))),
        config(List.of()).with(new ResidualVariant(true, 0, 0)),
        config(List.of()).with(new ResidualVariant(false, 1, 0)),
        config(List.of()).with(new ResidualVariant(false, 0, 3)),
        config(List.of(Gate.SDPA_HEADWISE)).with(exclusive),
        config(List.of(Gate.SDPA_ELEMENTWISE)).with(normed).with(new ResidualVariant(true, 1, 3)));
  }

  /// A decoder whose input-independent gates, which start at zero, have random weights too.
  private static Decoder decoder(List<Gate> gates) {
    return decoder(config(gates));
  }

  private static Decoder decoder(DecoderConfig config) {
    var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 3);
    var random = new SplittableRandom(37);
    decoder
        .parameters()
        .all()
        .forEach(
            (name, tensor) -> {
              boolean constant =
                  name.endsWith("sinks")
                      || name.endsWith("_proj.bias")
                      || name.endsWith("gate_up.weight")
                      || (name.contains(".gates.") && tensor.shape().length == 1);
              if (constant) {
                float[] values = new float[(int) tensor.elements()];
                for (int i = 0; i < values.length; i++) {
                  values[i] = (float) (0.5 + random.nextGaussian());
                }
                tensor.detach().copyFrom(Tensor.of(values, tensor.shape()));
              }
            });
    return decoder;
  }

  /// Token ids `[2, 9]`.
  private static Tensor ids() {
    var random = new SplittableRandom(41);
    long[] ids = new long[2 * TOKENS];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = random.nextInt(13);
    }
    return Tensor.of(ids, 2, TOKENS);
  }

  private static List<Gate> legal() {
    var gates = new ArrayList<Gate>();
    for (var position : GatePosition.values()) {
      for (var granularity : Granularity.values()) {
        for (var sharing : Sharing.values()) {
          if (position == GatePosition.DENSE_OUTPUT
              && (granularity == Granularity.HEADWISE || sharing == Sharing.HEAD_SHARED)) {
            continue;
          }
          for (var combination : Combination.values()) {
            for (var activation : ACTIVATIONS) {
              for (var input : List.of(new GateInput.HiddenState(), new GateInput.None())) {
                gates.add(
                    new Gate(
                        position,
                        granularity,
                        sharing,
                        combination,
                        activation,
                        input,
                        new GateInit.Normal()));
              }
            }
          }
          for (var input :
              List.of(
                  new GateInput.TruncatedHiddenState(5),
                  new GateInput.LowRank(3),
                  new GateInput.Value(),
                  new GateInput.HeadOutput())) {
            if (input instanceof GateInput.HeadOutput && position != GatePosition.SDPA_OUTPUT) {
              continue;
            }
            var gate =
                Gate.SDPA_ELEMENTWISE.with(position).with(granularity).with(sharing).with(input);
            gates.add(gate);
            gates.add(gate.with(new GateInit.Bias(0.5)));
          }
        }
      }
    }
    return gates;
  }

  /// The logits `[2, T, V]` of a pass in chunks of these lengths.
  private static float[] cached(Decoder decoder, Tensor ids, Probe probe, int... chunks) {
    var parts = new ArrayList<Tensor>();
    try (var state = new SequenceState(2, TOKENS)) {
      var cache = state.past(state.take(), state.take());
      int start = 0;
      for (int chunk : chunks) {
        var hidden = decoder.hiddenStates(ids.narrow(1, start, chunk), cache, probe);
        parts.add(decoder.logits(hidden));
        start += chunk;
        assertArrayEquals(new int[] {start, start}, cache.lengths());
      }
      assertEquals(TOKENS, start);
      return Tensor.concatenate(parts, 1).floats();
    }
  }

  private static float[] full(Decoder decoder, Tensor ids, Probe probe) {
    return decoder.logits(decoder.hiddenStates(ids, null, probe)).floats();
  }

  /// Within 2e-6 of the largest magnitude.
  private static void assertClose(float[] expected, float[] actual, String what) {
    float largest = 1;
    for (float value : expected) {
      assertFalse(Float.isNaN(value), what);
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, 2e-6f * largest, what);
  }

  @Test
  void cachedDecodingEqualsTheFullPassForEveryGate() {
    var gates = legal();
    assertEquals((4 * 2 * 2 + 1) * (2 * 7 * 2 + 3 * 2) + 4 * 2, gates.size());
    for (Gate gate : gates) {
      assertCachedEqualsFull(config(List.of(gate)), gate.name());
    }
  }

  @Test
  void cachedDecodingEqualsTheFullPassForEveryVariant() {
    for (var config : variants()) {
      assertCachedEqualsFull(config, config.toString());
    }
  }

  private static void assertCachedEqualsFull(DecoderConfig config, String what) {
    try (var _ = Scope.open();
        var decoder = decoder(config)) {
      var ids = ids();
      float[] expected = full(decoder, ids, Probe.NONE);
      assertClose(
          expected,
          cached(decoder, ids, Probe.NONE, 1, 1, 1, 1, 1, 1, 1, 1, 1),
          what + " one by one");
      assertClose(expected, cached(decoder, ids, Probe.NONE, 5, 1, 3), what + " in chunks");
      assertClose(expected, full(decoder, ids, new Watching()), what + " explicitly");
    }
  }

  /// One expert of one is the headwise gate on the values, bit for bit.
  @Test
  void oneExpertOfOneIsTheValueGate() {
    var variant = AttentionVariant.PLAIN.with(new SwitchHead(false, 1, 1));
    var gate = Gate.parse("value-headwise");
    try (var gated = decoder(List.of(gate));
        var switched = decoder(config(List.of()).with(variant))) {
      for (var entry : switched.parameters().all().entrySet()) {
        String name = entry.getKey().replace("v_router.", "gates.value.");
        entry.getValue().detach().copyFrom(gated.parameters().get(name));
      }
      assertArrayEquals(full(gated, ids(), Probe.NONE), full(switched, ids(), Probe.NONE));
    }
  }

  /// Gradients of every parameter through the fused pass equal those through the explicit one.
  @Test
  void gradientsOfEveryVariantAreThoseOfTheDefinition() {
    scope.close();
    scope = Scope.open(); // with gradients
    for (var config : variants()) {
      try (var _ = Scope.open();
          var decoder = decoder(config)) {
        var gradients = new ArrayList<Map<String, float[]>>();
        for (var probe : List.of(Probe.NONE, new Watching())) {
          var hidden = decoder.hiddenStates(ids(), null, probe);
          var weights =
              Tensor.of(
                  new SplittableRandom(3).doubles(hidden.elements()).toArray(), hidden.shape());
          hidden.times(weights.to(ElementType.FLOAT32)).sum().backward();
          var found = new LinkedHashMap<String, float[]>();
          decoder
              .parameters()
              .all()
              .forEach(
                  (name, tensor) -> {
                    found.put(name, Objects.requireNonNull(tensor.gradient(), name).floats());
                    tensor.clearGradient();
                  });
          gradients.add(found);
        }
        gradients
            .getFirst()
            .forEach(
                (name, gradient) -> {
                  double largest = 0;
                  for (float value : gradient) {
                    largest = Math.max(largest, Math.abs(value));
                  }
                  assertTrue(largest > 0, name + " has no gradient in " + config);
                  assertArrayEquals(
                      Objects.requireNonNull(gradients.getLast().get(name)),
                      gradient,
                      (float) (2e-5 * largest),
                      name + " of " + config);
                });
      }
    }
  }

  @Test
  void everyVariantMatters() {
    var ids = ids();
    for (var config : variants()) {
      try (var _ = Scope.open();
          var decoder = decoder(config);
          var plain = decoder(config(config.attention().gates()))) {
        float[] with = full(decoder, ids, Probe.NONE);
        float[] without = full(plain, ids, Probe.NONE);
        double difference = 0;
        for (int i = 0; i < with.length; i++) {
          difference = Math.max(difference, Math.abs(with[i] - without[i]));
        }
        assertTrue(difference > 1e-3, config.toString());
      }
    }
  }

  @Test
  void cachedDecodingWithAllPositionsAtOnceAndWithNone() {
    var all = new ArrayList<Gate>();
    for (var position : GatePosition.values()) {
      all.add(Gate.SDPA_ELEMENTWISE.with(position));
    }
    for (List<Gate> gates : List.of(List.<Gate>of(), all)) {
      try (var decoder = decoder(gates)) {
        var ids = ids();
        float[] expected = full(decoder, ids, Probe.NONE);
        assertClose(expected, cached(decoder, ids, Probe.NONE, 5, 1, 3), "in chunks");
        assertClose(expected, cached(decoder, ids, Probe.NONE, 1, 8), "one, then the rest");
      }
    }
  }

  /// A gate that does nothing would pass every other test here.
  @Test
  void everyGateMatters() {
    var ids = ids();
    float[] plain;
    try (var decoder = decoder(List.of())) {
      plain = full(decoder, ids, Probe.NONE);
    }
    for (Gate gate : legal()) {
      try (var _ = Scope.open();
          var decoder = decoder(List.of(gate))) {
        float[] gated = full(decoder, ids, Probe.NONE);
        double difference = 0;
        for (int i = 0; i < plain.length; i++) {
          difference = Math.max(difference, Math.abs(plain[i] - gated[i]));
        }
        assertTrue(difference > 1e-4 || hasNoEffect(gate), gate.name());
      }
    }
  }

  /// The norm after the gate undoes one positive factor for a whole query or key head.
  private static boolean hasNoEffect(Gate gate) {
    boolean normed = gate.position() == GatePosition.QUERY || gate.position() == GatePosition.KEY;
    return normed
        && gate.granularity() == Granularity.HEADWISE
        && gate.combination() == Combination.MULTIPLICATIVE;
  }

  @Test
  void laterTokensDoNotMatter() {
    try (var decoder = decoder(List.of(Gate.SDPA_ELEMENTWISE))) {
      var ids = ids();
      float[] expected = full(decoder, ids.narrow(1, 0, 4), Probe.NONE);
      float[] whole =
          decoder.logits(decoder.hiddenStates(ids, null, Probe.NONE)).narrow(1, 0, 4).floats();
      assertClose(expected, whole, "the first four tokens");
    }
  }

  /// Asks for the attention weights and keeps them.
  private static final class Watching implements Probe {
    private final List<float[]> weights = new ArrayList<>();
    private final List<long[]> shapes = new ArrayList<>();

    @Override
    public boolean wantsAttention(int layer) {
      return true;
    }

    @Override
    public void attention(int layer, int firstQuery, Tensor weightsBNTS) {
      weights.add(weightsBNTS.floats());
      shapes.add(weightsBNTS.shape());
    }

    @Override
    public boolean wantsGates(int layer) {
      return true;
    }
  }

  /// Of a long sequence the weights come in blocks, each row a distribution over what it may see.
  @Test
  void explicitAttentionOfLongSequencesComesInBlocks() {
    int tokens = 2100; // times four heads: more than is made explicit at a time
    try (var decoder = decoder(List.of(Gate.SDPA_HEADWISE));
        var _ = Scope.withoutGradient()) {
      var random = new SplittableRandom(5);
      long[] ids = random.longs(tokens, 0, decoder.config().vocabSize()).toArray();
      var idsBT = Tensor.of(ids, 1, tokens);
      var starts = new ArrayList<Integer>();
      var probe =
          new Probe() {
            @Override
            public boolean wantsAttention(int layer) {
              return layer == 0;
            }

            @Override
            public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
              starts.add(firstQuery);
              float[] weights = weightsBNRS.floats();
              int rows = Math.toIntExact(weightsBNRS.size(2));
              for (int head = 0; head < weightsBNRS.size(1); head++) {
                for (int row = 0; row < rows; row++) {
                  int at = (head * rows + row) * tokens;
                  double seen = 0;
                  for (int j = 0; j <= firstQuery + row; j++) {
                    seen += weights[at + j];
                  }
                  assertEquals(1, seen, 1e-5);
                }
              }
            }
          };
      float[] explicit = decoder.logits(decoder.hiddenStates(idsBT, null, probe)).floats();
      assertTrue(starts.size() > 1, "one block only: " + starts);
      assertClose(
          decoder.logits(decoder.hiddenStates(idsBT, null, Probe.NONE)).floats(),
          explicit,
          "in blocks");
    }
  }

  @Test
  void explicitAttentionEqualsTheFusedOne() {
    for (Gate gate : List.of(Gate.SDPA_ELEMENTWISE, Gate.SDPA_HEADWISE.with(GatePosition.VALUE))) {
      try (var decoder = decoder(List.of(gate))) {
        var ids = ids();
        float[] expected = full(decoder, ids, Probe.NONE);
        assertClose(expected, full(decoder, ids, new Watching()), "full pass");
        assertClose(expected, cached(decoder, ids, new Watching(), 5, 1, 3), "in chunks");
      }
    }
  }

  @Test
  void weightsAreCausalAndSumToOne() {
    try (var decoder = decoder(List.of(Gate.SDPA_HEADWISE))) {
      var ids = ids();
      var probe = new Watching();
      full(decoder, ids, probe);
      cached(decoder, ids, probe, 5, 1, 3);
      assertEquals(8, probe.weights.size());
      for (int pass = 0; pass < probe.weights.size(); pass++) {
        long[] shape = probe.shapes.get(pass);
        int queries = (int) shape[2];
        int keys = (int) shape[3];
        int[] expectedQueries = {TOKENS, TOKENS, 5, 5, 1, 1, 3, 3};
        int[] expectedKeys = {TOKENS, TOKENS, 5, 5, 6, 6, 9, 9};
        assertArrayEquals(new long[] {2, 4, expectedQueries[pass], expectedKeys[pass]}, shape);
        float[] weights = probe.weights.get(pass);
        for (int row = 0; row < weights.length / keys; row++) {
          int last = keys - queries + row % queries;
          double sum = 0;
          for (int key = 0; key < keys; key++) {
            float weight = weights[row * keys + key];
            sum += weight;
            assertTrue(key <= last ? weight > 0 : weight == 0, "query " + row + ", key " + key);
          }
          assertEquals(1, sum, 1e-6);
        }
      }
    }
  }

  /// What a probe is shown ends with the window, in a full pass and over a cache.
  @Test
  void weightsWithinAWindow() {
    int window = 4;
    var positions = config(List.of()).attention().positions().withWindow(window);
    try (var decoder = decoder(config(List.of()).mapAttention(a -> a.with(positions)))) {
      var probe = new Watching();
      full(decoder, ids(), probe);
      cached(decoder, ids(), probe, 5, 1, 3);
      for (int pass = 0; pass < probe.weights.size(); pass++) {
        int queries = (int) probe.shapes.get(pass)[2];
        int keys = (int) probe.shapes.get(pass)[3];
        float[] weights = probe.weights.get(pass);
        for (int row = 0; row < weights.length / keys; row++) {
          int own = keys - queries + row % queries;
          double sum = 0;
          for (int key = 0; key < keys; key++) {
            float weight = weights[row * keys + key];
            sum += weight;
            boolean seen = key <= own && key > own - window;
            assertTrue(seen ? weight > 0 : weight == 0, "query " + own + ", key " + key);
          }
          assertEquals(1, sum, 1e-6);
        }
      }
    }
  }

  /// Gates whose score is exactly one leave every position as it is.
  @Test
  void scoreOfOneEqualsNoGate() {
    var ids = ids();
    float[] plain;
    try (var decoder = decoder(List.of())) {
      plain = full(decoder, ids, Probe.NONE);
    }
    for (var position : GatePosition.values()) {
      for (var granularity : Granularity.values()) {
        if (position == GatePosition.DENSE_OUTPUT && granularity == Granularity.HEADWISE) {
          continue;
        }
        var gate = Gate.SDPA_ELEMENTWISE.with(position).with(granularity);
        var none = gate.with(new GateInput.None());
        assertGivesPlain(plain, ids, none, 1e4);
        assertGivesPlain(plain, ids, none.with(new Activation.Identity()), 1);
        assertGivesPlain(plain, ids, none.with(new Activation.LinearClip()), 1e4);
        assertGivesPlain(plain, ids, none.with(new Activation.NonSparseSigmoid()), 1e4);
        var twice = new Activation.ScaledSigmoid(2);
        assertGivesPlain(plain, ids, gate.with(twice).with(new GateInit.Zeros()), 0);
        var added = gate.with(Combination.ADDITIVE).with(new Activation.Identity());
        assertGivesPlain(plain, ids, added.with(new GateInit.Zeros()), 0);
      }
    }
  }

  private static void assertGivesPlain(float[] plain, Tensor ids, Gate gate, double weight) {
    try (var _ = Scope.open();
        var decoder = decoder(List.of(gate))) {
      decoder
          .parameters()
          .all()
          .forEach(
              (name, tensor) -> {
                if (name.contains(".gates.")) {
                  tensor.fill(weight);
                }
              });
      assertArrayEquals(plain, full(decoder, ids, Probe.NONE), gate.name());
    }
  }

  /// The same decoder decodes where gradients are recorded; the cache takes no part in them.
  @Test
  void cacheHoldsNoGraph() {
    try (var decoder = decoder(List.of(Gate.SDPA_ELEMENTWISE))) {
      float[] expected = full(decoder, ids(), Probe.NONE);
      scope.close();
      scope = Scope.open();
      assertClose(expected, cached(decoder, ids(), Probe.NONE, 5, 1, 3), "with gradients");
      try (var state = new SequenceState(2, TOKENS)) {
        var cache = state.past(state.take(), state.take());
        decoder.hiddenStates(ids(), cache, Probe.NONE);
        cache.begin(2, 0);
        var added = Tensor.zeros(ElementType.FLOAT32, 1, 2, 0, 6);
        assertFalse(cache.keys(0, 0, added).requiresGradient());
        assertFalse(cache.values(1, 1, added).requiresGradient());
      }
    }
  }

  @Test
  void cacheRefusesWhatDoesNotFit() {
    try (var state = new SequenceState(1, 4)) {
      var cache = state.past(state.take());
      var two = Tensor.zeros(ElementType.FLOAT32, 1, 1, 3, 2);
      cache.begin(1, 3);
      cache.keys(0, 0, two);
      cache.advance(3);
      cache.begin(1, 1);
      assertThrows(IllegalStateException.class, () -> cache.keys(0, 0, two));
      var otherBatch = Tensor.zeros(ElementType.FLOAT32, 3, 1, 1, 2);
      assertThrows(RuntimeException.class, () -> cache.keys(0, 0, otherBatch));
    }
  }
}
