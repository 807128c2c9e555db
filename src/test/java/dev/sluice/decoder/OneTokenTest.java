package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.attention.Biases;
import dev.sluice.attention.Positions;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.attention.SoftmaxSink;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.gate.Gate;
import dev.sluice.kernel.StoredMatrix;
import dev.sluice.kernel.Threads;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// A token in steps against the pass that everything else takes, which somebody who watches takes
/// too: bit for bit.
class OneTokenTest {
  private static final int VOCABULARY = 48;
  private static final int HIDDEN = 256;
  private static final int INNER = 256;

  /// Watches nothing, but is somebody.
  private static final Probe SOMEBODY = new Probe() {};

  private final int threads = Threads.count();

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void restore() {
    Libtorch.poisonUninitialized(false);
    Threads.count(threads);
  }

  /// Two of three layers are Gated DeltaNet.
  private static DecoderConfig hybrid(DeltaHeads heads, int convolutionWidth) {
    var plain = config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
    var net = new GatedDeltaNetConfig(HIDDEN, heads, convolutionWidth, 1e-6);
    var last = plain.layers().getLast();
    var delta = new LayerConfig(new MixerConfig.DeltaNet(net), last.feedForward(), last.residual());
    return new DecoderConfig(
        VOCABULARY, HIDDEN, List.of(delta, last, delta), 96, plain.norm(), true, 0.3, 1);
  }

  private static DecoderConfig config(UnaryOperator<AttentionConfig> change) {
    return config(
        change, new FeedForwardConfig(HIDDEN, INNER, Experts.NONE), ResidualVariant.PLAIN);
  }

  /// Two of three layers are mixtures, whose router may be any.
  private static DecoderConfig mixture(Router router, SharedExpert shared) {
    var experts = new Experts(12, 3, 0, 0).with(router).with(shared);
    return config(
        c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)),
        new FeedForwardConfig(HIDDEN, INNER, experts),
        ResidualVariant.PLAIN);
  }

  private static final SharedExpert SHARED = new SharedExpert(512, true, new Glu.Swish());

  private static DecoderConfig config(
      UnaryOperator<AttentionConfig> change, FeedForwardConfig changedTo, ResidualVariant form) {
    var norm = new RmsNorm(1e-6);
    var attention =
        new AttentionConfig(HIDDEN, 8, 2, 32, true, norm, new Rotary(1e4, new RopeScaling.None()));
    var dense = new FeedForwardConfig(HIDDEN, INNER, Experts.NONE);
    var changed = new LayerConfig(change.apply(attention), changedTo, form);
    var plain = new LayerConfig(attention, dense, ResidualVariant.PLAIN);
    return new DecoderConfig(
        VOCABULARY, HIDDEN, List.of(changed, plain, changed), 96, norm, true, 0.3, 1);
  }

  /// A random model whose matrices are stored in that format.
  private static Decoder stored(DecoderConfig config, WeightFormat format) {
    return random(config, format, StoredMatrix.DIGITS);
  }

  /// @param format of its matrices; null for a model that is trained
  /// @param digits of what is multiplied with them
  private static Decoder random(DecoderConfig config, @Nullable WeightFormat format, int digits) {
    try (var scope = Scope.withoutGradient();
        var made = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 5)) {
      var random = new Random(3);
      List<Weight> weights = new ArrayList<>();
      made.parameters()
          .weights()
          .forEach(
              (name, weight) -> {
                var spec = weight.spec();
                float[] numbers = weight.leaf().floats();
                if (!spec.isMatrix() || name.endsWith("conv1d.weight")) {
                  for (int i = 0; i < numbers.length; i++) {
                    numbers[i] = (float) (1 + random.nextGaussian() / 3);
                  }
                  var tensor = Tensor.of(numbers, spec.shape());
                  weights.add(new Weight(name, spec, scope.keep(tensor)));
                  return;
                }
                if (format == null) {
                  weights.add(new Weight(name, spec, scope.keep(Tensor.of(numbers, spec.shape()))));
                  return;
                }
                var memory = Arena.ofAuto().allocate(format.bytes(numbers.length), 8);
                write(format, numbers, memory, random);
                var matrix =
                    new StoredMatrix(format, memory, spec.shape()[0], spec.shape()[1])
                        .withDigits(digits);
                weights.add(
                    new Weight(name, spec, matrix.isToBePacked() ? matrix.packed(memory) : matrix));
              });
      return new Decoder(config, Precision.FLOAT32, Device.CPU, new Parameters(weights, () -> {}));
    }
  }

  private static void write(WeightFormat format, float[] numbers, MemorySegment to, Random random) {
    if (format != WeightFormat.MXFP4) {
      format.quantize(numbers, 0, numbers.length, to, 0);
      return;
    }
    byte[] bytes = new byte[(int) to.byteSize()]; // a format that is only read
    random.nextBytes(bytes);
    for (int at = 0; at < bytes.length; at += format.blockBytes()) {
      bytes[at] = (byte) random.nextInt(121, 124);
    }
    to.copyFrom(MemorySegment.ofArray(bytes));
  }

  private static Stream<Arguments> written() {
    List<Arguments> cases = new ArrayList<>();
    for (var format :
        List.of(WeightFormat.F32, WeightFormat.BF16, WeightFormat.Q8_0, WeightFormat.Q4_0)) {
      cases.add(Arguments.of("plain", config(c -> c), format));
    }
    var format = WeightFormat.Q8_0;
    cases.add(
        Arguments.of("elementwise", config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE))), format));
    cases.add(Arguments.of("headwise", config(c -> c.with(List.of(Gate.SDPA_HEADWISE))), format));
    cases.add(Arguments.of("window", config(c -> c.with(c.positions().withWindow(5))), format));
    cases.add(Arguments.of("no positions", config(c -> c.with(Positions.NONE)), format));
    for (var heads :
        List.of(
            new DeltaHeads(2, 4, 32, 16),
            new DeltaHeads(2, 6, 32, 16, DeltaHeads.Order.APART),
            new DeltaHeads(3, 3, 32, 32))) {
      for (var its : List.of(WeightFormat.F32, WeightFormat.Q8_0)) {
        cases.add(Arguments.of(heads.toString(), hybrid(heads, 4), its));
      }
    }
    for (var its :
        List.of(
            WeightFormat.F32,
            WeightFormat.F16,
            WeightFormat.BF16,
            WeightFormat.Q8_0,
            WeightFormat.Q4_0,
            WeightFormat.Q4_K,
            WeightFormat.Q6_K,
            WeightFormat.MXFP4)) {
      cases.add(Arguments.of("mixture", mixture(Router.SOFTMAX, SHARED), its));
    }
    var sigmoids =
        new Router(Router.Score.SIGMOID, new Router.Weighting.Shares(1e-20), 2.5, false, true, 0);
    var ungated = new SharedExpert(256, false, new Glu.Swish());
    cases.add(Arguments.of("sigmoids", mixture(sigmoids, ungated), format));
    var capped =
        new Router(Router.Score.SOFTMAX, new Router.Weighting.AsScored(), 1, true, false, 5);
    cases.add(Arguments.of("scores as weights", mixture(capped, SharedExpert.NONE), format));
    cases.add(Arguments.of("afmoe", afmoe(sigmoids, ungated), format));
    for (var sink : List.of(SoftmaxSink.LEARNED, SoftmaxSink.OFF_BY_ONE)) {
      for (var glu : List.of(new Glu.ClampedInputs(7, 1.702), new Glu.ClampedFactors(0.1))) {
        for (var its : List.of(WeightFormat.MXFP4, WeightFormat.BF16, WeightFormat.Q8_0)) {
          cases.add(Arguments.of("gpt-oss " + sink + " " + glu, gptOss(sink, glu), its));
        }
      }
    }
    cases.add(Arguments.of("no history", hybrid(new DeltaHeads(1, 2, 7, 16), 1), format));
    return cases.stream();
  }

  private static DecoderConfig afmoe(Router router, SharedExpert shared) {
    var experts = new Experts(12, 3, 0, 0).with(router).with(shared);
    var feedForward = new FeedForwardConfig(HIDDEN, INNER, experts);
    return config(
            c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)).with(new Biases(true, false)),
            feedForward,
            new ResidualVariant(true, 0, 0))
        .withEmbeddingMultiplier(Math.sqrt(HIDDEN));
  }

  private static DecoderConfig gptOss(SoftmaxSink sink, Glu glu) {
    var router =
        new Router(Router.Score.SOFTMAX, new Router.Weighting.Shares(0), 1, true, false, 0);
    var experts = new Experts(12, 3, 0, 0).with(router);
    return config(
        c -> c.with(AttentionVariant.PLAIN.with(sink)).with(new Biases(true, true)),
        new FeedForwardConfig(HIDDEN, INNER, glu, true, experts),
        ResidualVariant.PLAIN);
  }

  @ParameterizedTest(name = "{0}, {2}")
  @MethodSource("written")
  void aTokenHasTheBitsOfThePass(String name, DecoderConfig config, WeightFormat format) {
    long[] text = new Random(1).longs(90, 0, VOCABULARY).toArray();
    try (var decoder = stored(config, format);
        var _ = Scope.withoutGradient()) {
      assertTrue(decoder.isWrittenDown(), name);
      List<float[]> expected = tokens(decoder, text, SOMEBODY);
      for (int count : new int[] {1, 2, 3}) {
        Threads.count(count);
        List<float[]> found = tokens(decoder, text, Probe.NONE);
        for (int i = 0; i < expected.size(); i++) {
          assertArrayEquals(
              expected.get(i), found.get(i), "token %d, %d threads".formatted(i, count));
        }
      }
    }
  }

  /// And they are others than with keys and values in float32, but not by much.
  @ParameterizedTest
  @ValueSource(strings = {"attention", "window", "gptOss", "hybrid"})
  void keysAndValuesInBfloat16(String name) {
    var config =
        switch (name) {
          case "attention" -> config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
          case "window" -> config(c -> c.with(c.positions().withWindow(5)));
          case "gptOss" -> gptOss(SoftmaxSink.LEARNED, new Glu.ClampedInputs(7, 1.702));
          default -> hybrid(new DeltaHeads(2, 4, 32, 16), 4);
        };
    long[] text = new Random(1).longs(90, 0, VOCABULARY).toArray();
    try (var decoder = stored(config, WeightFormat.BF16);
        var _ = Scope.withoutGradient()) {
      assertTrue(decoder.isWrittenDown(), name);
      List<float[]> exact = tokens(decoder, text, Probe.NONE);
      decoder.keepKeysAndValuesIn(ElementType.BFLOAT16);
      List<float[]> expected = tokens(decoder, text, SOMEBODY);
      List<float[]> found = tokens(decoder, text, Probe.NONE);
      double different = 0;
      double all = 0;
      for (int i = 0; i < expected.size(); i++) {
        assertArrayEquals(expected.get(i), found.get(i), "token " + i);
        for (int j = 0; j < HIDDEN; j++) {
          different += Math.pow((double) exact.get(i)[j] - found.get(i)[j], 2);
          all += Math.pow(exact.get(i)[j], 2);
        }
      }
      double difference = Math.sqrt(different / all);
      assertTrue(difference > 1e-5 && difference < 0.02, "bfloat16 costs " + difference);
    }
  }

  @Test
  void whereNoneAreKept() {
    var hybrid = hybrid(new DeltaHeads(2, 4, 32, 16), 4);
    var delta = hybrid.layers().getFirst();
    var config =
        new DecoderConfig(
            VOCABULARY, HIDDEN, List.of(delta, delta), 96, hybrid.norm(), true, 0.3, 1);
    try (var decoder = stored(config, WeightFormat.BF16)) {
      decoder.keepKeysAndValuesIn(ElementType.FLOAT32);
      assertThrows(
          InvalidInputException.class, () -> decoder.keepKeysAndValuesIn(ElementType.BFLOAT16));
    }
  }

  /// The hidden states of all tokens after a prompt, and of two that the others' past is taken up
  /// by.
  private static List<float[]> tokens(Decoder decoder, long[] text, Probe probe) {
    List<float[]> hidden = new ArrayList<>();
    try (var state = decoder.newState(1, text.length)) {
      var past = state.past(state.take());
      int prompt = 3;
      decoder.hiddenStates(Tensor.of(Arrays.copyOf(text, prompt), 1, prompt), past, probe);
      for (int i = prompt; i < text.length - 2; i++) {
        var one = Tensor.of(new long[] {text[i]}, 1, 1);
        hidden.add(decoder.hiddenStates(one, past, probe).floats());
      }
      long[] last = {text[text.length - 2], text[text.length - 1]};
      hidden.add(decoder.hiddenStates(Tensor.of(last, 1, 2), past, SOMEBODY).floats());
    }
    return hidden;
  }

  /// Tokens of sequences of different lengths at once have the bits of the pass, and of each alone.
  @ParameterizedTest
  @CsvSource({
    "2, hybrid, Q4_0, 2",
    "3, hybrid, Q4_0, 2",
    "8, hybrid, Q4_0, 2",
    "2, attention, Q4_0, 2",
    "3, attention, Q4_0, 2",
    "8, attention, Q4_0, 2",
    "2, mixture, Q4_0, 2",
    "3, mixture, BF16, 2",
    "8, mixture, Q4_0, 2",
    "8, mixture, Q8_0, 2",
    "8, mixture, Q4_K, 2",
    "8, mixture, BF16, 2",
    "8, mixture, F32, 2",
    "16, mixture, Q4_0, 2",
    "16, mixture, BF16, 2",
    "8, gptOss, MXFP4, 2",
    "8, afmoe, Q8_0, 2",
    "3, hybrid, Q4_0, 1",
    "8, mixture, Q8_0, 1",
    "16, attention, Q4_0, 1",
    "8, mixture, Q6_K, 1"
  })
  void tokensOfSeveralSequences(int sequences, String name, WeightFormat format, int digits) {
    var config =
        switch (name) {
          case "hybrid" -> hybrid(new DeltaHeads(2, 4, 32, 16), 4);
          case "attention" -> config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
          case "mixture" -> mixture(Router.SOFTMAX, SHARED);
          case "gptOss" -> gptOss(SoftmaxSink.LEARNED, new Glu.ClampedInputs(7, 1.702));
          default -> afmoe(Router.SOFTMAX, SHARED);
        };
    try (var decoder = random(config, format, digits);
        var _ = Scope.withoutGradient()) {
      assertTrue(decoder.isWrittenDown());
      var expected = together(decoder, sequences, SOMEBODY);
      assertArrayEquals(expected, together(decoder, sequences, Probe.NONE));
      int last = sequences - 1;
      long[] text = new Random(last).longs(40, 0, VOCABULARY).toArray();
      try (var state = new SequenceState(1, 40)) {
        var past = state.past(state.take());
        int prompt = 1 + 2 * last;
        decoder.hiddenStates(Tensor.of(Arrays.copyOf(text, prompt), 1, prompt), past, Probe.NONE);
        float[] alone = {};
        for (int i = 0; i < 4; i++) {
          var one = Tensor.of(new long[] {text[prompt + i]}, 1, 1);
          alone = decoder.hiddenStates(one, past, Probe.NONE).floats();
        }
        assertArrayEquals(alone, Arrays.copyOfRange(expected, last * HIDDEN, sequences * HIDDEN));
      }
    }
  }

  /// Twelve experts, of which 16 texts choose three each, are chosen by several.
  @Test
  void expertsAreChosenBySeveralTexts() {
    try (var decoder = stored(mixture(Router.SOFTMAX, SHARED), WeightFormat.Q8_0);
        var _ = Scope.withoutGradient();
        var state = new SequenceState(16, 8)) {
      var slots = Stream.generate(state::take).limit(16).toList();
      long[] ids = new Random(2).longs(16, 0, VOCABULARY).toArray();
      ids[15] = ids[0]; // and two texts the same ones
      var hidden = decoder.hiddenStates(Tensor.of(ids, 16, 1), state.past(slots), Probe.NONE);
      float[] all = hidden.floats();
      for (int i = 0; i < 16; i++) {
        try (var own = new SequenceState(1, 8)) {
          var one = Tensor.of(new long[] {ids[i]}, 1, 1);
          assertArrayEquals(
              decoder.hiddenStates(one, own.past(own.take()), SOMEBODY).floats(),
              Arrays.copyOfRange(all, i * HIDDEN, (i + 1) * HIDDEN));
        }
      }
    }
  }

  /// The hidden states after four tokens of each.
  private static float[] together(Decoder decoder, int sequences, Probe probe) {
    try (var state = new SequenceState(sequences, 40)) {
      List<Slot> slots = new ArrayList<>();
      long[][] texts = new long[sequences][];
      for (int i = 0; i < sequences; i++) {
        texts[i] = new Random(i).longs(40, 0, VOCABULARY).toArray();
        int prompt = 1 + 2 * i;
        slots.add(state.take());
        var ids = Tensor.of(Arrays.copyOf(texts[i], prompt), 1, prompt);
        decoder.hiddenStates(ids, state.past(slots.get(i)), Probe.NONE);
      }
      float[] hidden = {};
      for (int step = 0; step < 4; step++) {
        long[] ids = new long[sequences];
        for (int i = 0; i < sequences; i++) {
          ids[i] = texts[i][1 + 2 * i + step];
        }
        var tokens = Tensor.of(ids, sequences, 1);
        hidden = decoder.hiddenStates(tokens, state.past(slots), probe).floats();
      }
      return hidden;
    }
  }

  private static Stream<DecoderConfig> mixtures() {
    return written()
        .map(its -> (DecoderConfig) its.get()[1])
        .filter(
            its -> its.layers().stream().anyMatch(each -> each.feedForward().experts().count() > 0))
        .distinct();
  }

  /// A mixture that only runs computes what libtorch's operations say, by which it is trained.
  @ParameterizedTest
  @MethodSource("mixtures")
  void aMixtureThatRunsIsTheOneThatIsTrained(DecoderConfig config) {
    long[] text = new Random(4).longs(24, 0, VOCABULARY).toArray();
    try (var runs = stored(config, WeightFormat.F32);
        var trained = random(config, null, StoredMatrix.DIGITS);
        var _ = Scope.withoutGradient()) {
      for (int count : new int[] {1, 2, 24}) {
        var ids = Tensor.of(Arrays.copyOf(text, count), 1, count);
        float[] expected = trained.hiddenStates(ids, null, Probe.NONE).floats();
        float[] found = runs.hiddenStates(ids, null, Probe.NONE).floats();
        assertArrayEquals(expected, found, 3e-5f, count + " tokens");
      }
    }
  }

  private static Stream<Arguments> others() {
    return Stream.of(
        Arguments.of(
            "a gate elsewhere", config(c -> c.with(List.of(Gate.parse("value-elementwise"))))),
        Arguments.of(
            "two gates",
            config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE, Gate.parse("query-headwise"))))),
        Arguments.of("exclusive", config(c -> c.with(AttentionVariant.PLAIN.withExclusive(true)))),
        Arguments.of(
            "a clipped sum",
            config(
                c -> c,
                new FeedForwardConfig(HIDDEN, INNER, Experts.NONE),
                new ResidualVariant(false, 3, 0))));
  }

  /// What is not written down goes as ever.
  @ParameterizedTest(name = "{0}")
  @MethodSource("others")
  void othersAreNotWrittenDown(String name, DecoderConfig config) {
    try (var decoder = stored(config, WeightFormat.Q8_0);
        var _ = Scope.withoutGradient()) {
      assertFalse(decoder.isWrittenDown(), name);
      long[] text = new Random(1).longs(8, 0, VOCABULARY).toArray();
      var expected = tokens(decoder, text, SOMEBODY);
      assertArrayEquals(expected.getLast(), tokens(decoder, text, Probe.NONE).getLast());
    }
  }

  @Test
  void aTrainedModelIsNotWrittenDown() {
    try (var decoder = Decoder.initialize(config(c -> c), Precision.FLOAT32, Device.CPU, 5)) {
      assertFalse(decoder.isWrittenDown());
    }
  }

  /// A token that the table does not have is refused, and a sequence of its own goes on.
  @Test
  void noSuchToken() {
    try (var decoder = stored(config(c -> c), WeightFormat.Q8_0);
        var state = new SequenceState(2, 8);
        var _ = Scope.withoutGradient()) {
      for (long token : new long[] {-1, VOCABULARY}) {
        var slot = state.take();
        var past = state.past(slot);
        var ids = Tensor.of(new long[] {token}, 1, 1);
        assertThrows(
            IndexOutOfBoundsException.class, () -> decoder.hiddenStates(ids, past, Probe.NONE));
        state.release(slot);
      }
      var past = state.past(state.take());
      var hidden = decoder.hiddenStates(Tensor.of(new long[] {7}, 1, 1), past, Probe.NONE);
      assertEquals(1, past.lengths()[0]);
      for (float number : hidden.memory().toArray(ValueLayout.JAVA_FLOAT)) {
        assertTrue(Float.isFinite(number));
      }
    }
  }
}
