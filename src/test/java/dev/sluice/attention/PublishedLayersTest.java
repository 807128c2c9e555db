package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.sluice.gate.Gate;
import dev.sluice.operations.Precision;
import dev.sluice.operations.Rotation;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.RmsNorm;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Whole attention layers of published families, against loops over single numbers in float64 that
/// follow `transformers`' `modeling_*.py` of each.
class PublishedLayersTest {
  private static final int HIDDEN = 10;
  private static final int TOKENS = 23;
  private static final int WINDOW = 7;

  private static final Rotary ALL = new Rotary(150, new RopeScaling.None());

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  private static AttentionConfig layer(
      int heads, int keyValueHeads, int headDim, boolean qkNorm, boolean centred) {
    var norm = new RmsNorm(1e-5, centred);
    return new AttentionConfig(HIDDEN, heads, keyValueHeads, headDim, qkNorm, norm, ALL);
  }

  static Stream<Arguments> layers() {
    var sinks = AttentionVariant.PLAIN.with(SoftmaxSink.LEARNED);
    var yarn = new RopeScaling.Yarn(4, 16, 32, 1, null, false);
    var gptOss = layer(8, 2, 4, false, false).with(new Biases(true, true)).with(sinks);
    var afmoe = layer(4, 2, 6, true, false).with(List.of(Gate.SDPA_ELEMENTWISE));
    var step = layer(6, 2, 8, true, true).with(List.of(Gate.SDPA_HEADWISE));
    var laguna = layer(6, 3, 8, true, false).with(List.of(Gate.parse("sdpa-headwise-softplus")));
    return Stream.of(
        Arguments.of("gpt-oss, all tokens", gptOss.with(new Positions(new Rotary(150, yarn)))),
        Arguments.of(
            "gpt-oss, window",
            gptOss.with(new Positions(new Rotary(150, yarn)).withWindow(WINDOW))),
        Arguments.of("AFMoE, all tokens", afmoe.with(Positions.NONE)),
        Arguments.of("AFMoE, window", afmoe.with(new Positions(ALL).withWindow(WINDOW))),
        Arguments.of(
            "AFMoE with biases, window of one token",
            afmoe.with(new Biases(true, true)).with(new Positions(ALL).withWindow(1))),
        Arguments.of(
            "Step, half turns",
            step.with(new Positions(new Rotary(70, new RopeScaling.None(), 0.5)))),
        Arguments.of("Step, window", step.with(new Positions(ALL).withWindow(WINDOW))),
        Arguments.of("Laguna, half turns", laguna.with(new Positions(new Rotary(150, yarn, 0.5)))),
        Arguments.of("Laguna, window", laguna.with(new Positions(ALL).withWindow(WINDOW))),
        Arguments.of(
            "Laguna by element",
            laguna
                .with(List.of(Gate.parse("sdpa-elementwise-softplus")))
                .with(new Positions(ALL).withWindow(TOKENS - 1))));
  }

  /// Within 2e-6 of the largest number, in a whole pass and over a cache.
  @ParameterizedTest(name = "{0}")
  @MethodSource("layers")
  void layerFollowsTheReference(String name, AttentionConfig config) {
    var random = new SplittableRandom(name.hashCode());
    try (var _ = Scope.withoutGradient()) {
      var tensors = new LinkedHashMap<String, Tensor>();
      Attention.parameters(config)
          .forEach((key, spec) -> tensors.put(key, gaussian(random, spec.shape())));
      var x = gaussian(random, 1, TOKENS, HIDDEN);
      float[] expected = new Reference(config, tensors).attend(x.doubles());
      try (var parameters = new Parameters(tensors)) {
        var attention = new Attention(config, Precision.FLOAT32, 0, parameters, "");
        assertClose(expected, chunks(attention, config, x, List.of(TOKENS), false), 2e-6, name);
        for (var lengths : List.of(List.of(1), List.of(5, 1, 9), List.of(TOKENS))) {
          assertClose(
              expected, chunks(attention, config, x, lengths, true), 2e-6, name + " in " + lengths);
        }
      }
    }
  }

  /// What transformers 5.18 gives in float32 for the last token, of a layer whose parameter p,
  /// counted from 1 in the order of [Attention#parameters], has the numbers 0.3 sin(0.7 i + p), and
  /// of inputs 1.5 sin(0.7 i).
  private static final Map<String, float[]> TRANSFORMERS =
      Map.of(
          "gpt-oss, all tokens",
              new float[] {
                -7.3785925f,
                5.5050201f,
                -2.0547440f,
                -1.7092347f,
                4.5604768f,
                -7.6501622f,
                8.5950384f,
                -8.4846878f,
                7.3062592f,
                -4.0561552f
              },
          "gpt-oss, window",
              new float[] {
                -6.5547996f,
                4.8765945f,
                -1.7252774f,
                -1.6854317f,
                4.1873288f,
                -6.9891787f,
                7.7551775f,
                -7.6043992f,
                6.5306506f,
                -3.5130816f
              },
          "AFMoE, all tokens",
              new float[] {
                -0.1416319f,
                -0.0027781f,
                0.1441916f,
                -0.1300738f,
                -0.0243471f,
                0.1525062f,
                -0.1161656f,
                -0.0454762f,
                0.1580654f,
                -0.1001585f
              },
          "AFMoE, window",
              new float[] {
                -0.1198722f,
                -0.0652656f,
                0.1800051f,
                -0.1005834f,
                -0.0873318f,
                0.1810472f,
                -0.0794773f,
                -0.1078203f,
                0.1788183f,
                -0.0569352f
              },
          "Laguna, half turns",
              new float[] {
                1.4440459f,
                0.0126570f,
                -1.4586158f,
                1.6663568f,
                -0.4595292f,
                -1.1373922f,
                1.7687826f,
                -0.8986548f,
                -0.7343398f,
                1.7439543f
              },
          "Laguna, window",
              new float[] {
                1.7542614f,
                1.9511224f,
                -4.0001998f,
                2.6535120f,
                0.9457402f,
                -3.7421544f,
                3.3618567f,
                -0.1276824f,
                -3.2148814f,
                3.8283353f
              },
          "Laguna by element",
              new float[] {
                0.9860811f,
                -0.8854415f,
                0.0331515f,
                0.8472810f,
                -1.0084578f,
                0.3135555f,
                0.6475235f,
                -1.0589203f,
                0.5714005f,
                0.4011804f
              },
          "Step, half turns",
              new float[] {
                -5.6837811f,
                5.1076088f,
                -0.1955925f,
                -4.8824630f,
                5.8157997f,
                -1.8121098f,
                -3.7298782f,
                6.1055770f,
                -3.2982569f,
                -2.3089499f
              },
          "Step, window",
              new float[] {
                -5.8321347f,
                5.6846499f,
                -0.7114713f,
                -4.8656745f,
                6.3123536f,
                -2.4004819f,
                -3.5491569f,
                6.4859204f,
                -3.9167919f,
                -1.9772974f
              });

  /// Within 1e-5 of the largest number.
  @ParameterizedTest(name = "{0}")
  @MethodSource("layers")
  void layerEqualsTheReferencesOwn(String name, AttentionConfig config) {
    assumeTrue(TRANSFORMERS.containsKey(name));
    try (var _ = Scope.withoutGradient()) {
      var tensors = new LinkedHashMap<String, Tensor>();
      Attention.parameters(config)
          .forEach((key, spec) -> tensors.put(key, wave(0.3, tensors.size() + 1, spec.shape())));
      var x = wave(1.5, 0, 1, TOKENS, HIDDEN);
      try (var parameters = new Parameters(tensors)) {
        var attention = new Attention(config, Precision.FLOAT32, 0, parameters, "");
        float[] all = chunks(attention, config, x, List.of(TOKENS), false);
        float[] last = Arrays.copyOfRange(all, all.length - HIDDEN, all.length);
        float[] expected = Objects.requireNonNull(TRANSFORMERS.get(name));
        assertClose(expected, last, 1e-5, name);
      }
    }
  }

  private static Tensor wave(double height, double phase, long... shape) {
    double[] values = new double[(int) Arrays.stream(shape).reduce(1, Math::multiplyExact)];
    Arrays.setAll(values, i -> height * Math.sin(0.7 * i + phase));
    return Tensor.of(values, shape).to(ElementType.FLOAT32);
  }

  private static float[] chunks(
      Attention attention,
      AttentionConfig config,
      Tensor x,
      List<Integer> lengths,
      boolean cached) {
    var parts = new ArrayList<Tensor>();
    try (var state = new SequenceState(1, TOKENS)) {
      var past = state.past(state.take());
      for (int from = 0; from < TOKENS; ) {
        int length = Math.min(TOKENS - from, lengths.get(parts.size() % lengths.size()));
        past.begin(1, length);
        parts.add(
            attention.forward(
                x.narrow(1, from, length),
                rotation(config, from, length),
                null,
                cached ? past : null,
                Probe.NONE));
        past.advance(length);
        from += length;
      }
      return Tensor.concatenate(parts, 1).floats();
    }
  }

  private static @Nullable Rotation rotation(AttentionConfig config, int from, int tokens) {
    return config
        .positions()
        .rotary()
        .map(
            rotary ->
                new RotaryEmbedding(rotary, config.headDim()).rotation(from, tokens, Device.CPU))
        .orElse(null);
  }

  private static Tensor gaussian(SplittableRandom random, long... shape) {
    long count = Arrays.stream(shape).reduce(1, Math::multiplyExact);
    return Tensor.of(random.doubles(count, -1, 1).toArray(), shape).to(ElementType.FLOAT32);
  }

  private static void assertClose(float[] expected, float[] actual, double share, String what) {
    float largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, (float) share * largest, what);
  }

  /// A layer's meaning, token by token.
  private record Reference(AttentionConfig c, Map<String, Tensor> tensors) {
    private double[] numbers(String name) {
      return Objects.requireNonNull(tensors.get(name), name).doubles();
    }

    float[] attend(double[] x) {
      int size = c.headDim();
      int group = c.attentionHeads() / c.keyValueHeads();
      double[][] q = new double[TOKENS][];
      double[][] k = new double[TOKENS][];
      double[][] v = new double[TOKENS][];
      float[] out = new float[TOKENS * HIDDEN];
      for (int t = 0; t < TOKENS; t++) {
        double[] token = Arrays.copyOfRange(x, t * HIDDEN, (t + 1) * HIDDEN);
        q[t] = turned(normed(projected(token, "q_proj"), "q_norm.weight"), t);
        k[t] = turned(normed(projected(token, "k_proj"), "k_norm.weight"), t);
        v[t] = projected(token, "v_proj");
        int window = c.positions().window();
        double[] y = new double[c.attentionHeads() * size];
        for (int n = 0; n < c.attentionHeads(); n++) {
          int from = window == 0 ? 0 : Math.max(0, t - window + 1);
          double[] weights = new double[t + 1];
          double sum =
              c.variant().sink() == SoftmaxSink.LEARNED ? Math.exp(numbers("sinks")[n]) : 0;
          for (int j = from; j <= t; j++) {
            double score = 0;
            for (int h = 0; h < size; h++) {
              score += q[t][n * size + h] * k[j][n / group * size + h];
            }
            weights[j] = Math.exp(score / Math.sqrt(size));
            sum += weights[j];
          }
          for (int j = from; j <= t; j++) {
            for (int h = 0; h < size; h++) {
              y[n * size + h] += weights[j] / sum * v[j][n / group * size + h];
            }
          }
        }
        gate(token, y);
        double[] result = projected(y, "o_proj");
        for (int d = 0; d < HIDDEN; d++) {
          out[t * HIDDEN + d] = (float) result[d];
        }
      }
      return out;
    }

    private double[] projected(double[] x, String name) {
      return product(
          x, numbers(name + ".weight"), tensors.containsKey(name + ".bias") ? name : null);
    }

    private double[] product(double[] x, double[] weight, @Nullable String biased) {
      double[] y =
          biased == null ? new double[weight.length / x.length] : numbers(biased + ".bias");
      for (int i = 0; i < y.length; i++) {
        for (int j = 0; j < x.length; j++) {
          y[i] += weight[i * x.length + j] * x[j];
        }
      }
      return y;
    }

    private double[] normed(double[] x, String name) {
      if (!c.qkNorm()) {
        return x;
      }
      int size = c.headDim();
      double[] weight = numbers(name);
      double[] y = new double[x.length];
      for (int start = 0; start < x.length; start += size) {
        double squares = 0;
        for (int h = 0; h < size; h++) {
          squares += x[start + h] * x[start + h];
        }
        double root = Math.sqrt(squares / size + c.norm().epsilon());
        for (int h = 0; h < size; h++) {
          y[start + h] = x[start + h] / root * (weight[h] + (c.norm().centred() ? 1 : 0));
        }
      }
      return y;
    }

    private double[] turned(double[] x, int position) {
      if (c.positions().rotary().isEmpty()) {
        return x;
      }
      var rotary = c.positions().rotary().get();
      int size = c.headDim();
      int half = (int) (size * rotary.share()) / 2;
      float[] frequencies = rotary.scaling().inverseFrequencies(rotary.theta(), 2 * half, 1);
      double scale = rotary.scaling().scale();
      double[] y = x.clone();
      for (int start = 0; start < x.length; start += size) {
        for (int i = 0; i < half; i++) {
          double cos = scale * Math.cos((double) position * frequencies[i]);
          double sin = scale * Math.sin((double) position * frequencies[i]);
          y[start + i] = x[start + i] * cos - x[start + half + i] * sin;
          y[start + half + i] = x[start + half + i] * cos + x[start + i] * sin;
        }
      }
      return y;
    }

    private void gate(double[] token, double[] y) {
      for (var gate : c.gates()) {
        double[] logits = product(token, numbers("gates.sdpa.weight"), null);
        for (int i = 0; i < y.length; i++) {
          double z = logits[i * logits.length / y.length];
          y[i] *=
              gate.name().contains("softplus") ? Math.log1p(Math.exp(z)) : 1 / (1 + Math.exp(-z));
        }
      }
    }
  }
}
