package dev.sluice.decoder;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
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
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/// A token in steps against the pass that everything else takes, which somebody who watches takes
/// too: bit for bit.
class OneTokenTest {
  private static final int VOCABULARY = 48;
  private static final int HIDDEN = 128;
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
    var norm = new RmsNorm(1e-6);
    var attention =
        new AttentionConfig(HIDDEN, 8, 2, 32, true, norm, new Rotary(1e4, new RopeScaling.None()));
    var feedForward = new FeedForwardConfig(HIDDEN, INNER, Experts.NONE);
    var changed = new LayerConfig(change.apply(attention), feedForward, ResidualVariant.PLAIN);
    var plain = new LayerConfig(attention, feedForward, ResidualVariant.PLAIN);
    return new DecoderConfig(
        VOCABULARY, HIDDEN, List.of(changed, plain, changed), 96, norm, true, 0.3, 1);
  }

  /// A random model whose matrices are stored in that format.
  private static Decoder stored(DecoderConfig config, WeightFormat format) {
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
                var memory = Arena.ofAuto().allocate(format.bytes(numbers.length), 8);
                format.quantize(numbers, 0, numbers.length, memory, 0);
                var matrix = new StoredMatrix(format, memory, spec.shape()[0], spec.shape()[1]);
                weights.add(
                    new Weight(name, spec, matrix.isToBePacked() ? matrix.packed(memory) : matrix));
              });
      return new Decoder(config, Precision.FLOAT32, Device.CPU, new Parameters(weights, () -> {}));
    }
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
    cases.add(Arguments.of("no history", hybrid(new DeltaHeads(1, 2, 7, 16), 1), format));
    return cases.stream();
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

  /// The hidden states of all tokens after a prompt, and of two that the others' past is taken up
  /// by.
  private static List<float[]> tokens(Decoder decoder, long[] text, Probe probe) {
    List<float[]> hidden = new ArrayList<>();
    try (var state = new SequenceState(1, text.length)) {
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
  @CsvSource({"2, true", "3, true", "8, true", "2, false", "3, false", "8, false"})
  void tokensOfSeveralSequences(int sequences, boolean hybrid) {
    var config =
        hybrid
            ? hybrid(new DeltaHeads(2, 4, 32, 16), 4)
            : config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE)));
    try (var decoder = stored(config, WeightFormat.Q4_0);
        var _ = Scope.withoutGradient()) {
      var expected = together(decoder, sequences, SOMEBODY);
      assertArrayEquals(expected, together(decoder, sequences, Probe.NONE));
      int last = sequences - 1;
      long[] text = new Random(last).longs(20, 0, VOCABULARY).toArray();
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

  /// The hidden states after four tokens of each.
  private static float[] together(Decoder decoder, int sequences, Probe probe) {
    try (var state = new SequenceState(sequences, 40)) {
      List<Slot> slots = new ArrayList<>();
      long[][] texts = new long[sequences][];
      for (int i = 0; i < sequences; i++) {
        texts[i] = new Random(i).longs(20, 0, VOCABULARY).toArray();
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

  private static Stream<Arguments> others() {
    return Stream.of(
        Arguments.of(
            "a gate elsewhere", config(c -> c.with(List.of(Gate.parse("value-elementwise"))))),
        Arguments.of(
            "two gates",
            config(c -> c.with(List.of(Gate.SDPA_ELEMENTWISE, Gate.parse("query-headwise"))))),
        Arguments.of(
            "a sink", config(c -> c.with(AttentionVariant.PLAIN.with(SoftmaxSink.OFF_BY_ONE)))));
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
