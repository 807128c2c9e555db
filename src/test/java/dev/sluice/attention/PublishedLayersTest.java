package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.sluice.attention.RotaryEmbedding.Rotation;
import dev.sluice.gate.Gate;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Precision;
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
        Arguments.of("gpt-oss, window", gptOss.with(new Positions(ALL).withWindow(WINDOW))),
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
        assertClose(expected, chunks(attention, config, x, List.of(TOKENS), false), name);
        for (var lengths : List.of(List.of(1), List.of(5, 1, 9), List.of(TOKENS))) {
          assertClose(
              expected, chunks(attention, config, x, lengths, true), name + " in " + lengths);
        }
      }
    }
  }

  private static float[] chunks(
      Attention attention,
      AttentionConfig config,
      Tensor x,
      List<Integer> lengths,
      boolean cached) {
    var parts = new ArrayList<Tensor>();
    try (var past = new SequenceState(1, TOKENS)) {
      for (int from = 0; from < TOKENS; ) {
        int length = Math.min(TOKENS - from, lengths.get(parts.size() % lengths.size()));
        parts.add(
            attention.forward(
                x.narrow(1, from, length),
                rotation(config, from, length),
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
    int count = 1;
    for (long length : shape) {
      count *= (int) length;
    }
    return Tensor.of(random.doubles(count, -1, 1).toArray(), shape).to(ElementType.FLOAT32);
  }

  private static void assertClose(float[] expected, float[] actual, String what) {
    float largest = 0;
    for (float value : expected) {
      largest = Math.max(largest, Math.abs(value));
    }
    assertArrayEquals(expected, actual, 2e-6f * largest, what);
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
      float[] frequencies = rotary.scaling().inverseFrequencies(rotary.theta(), 2 * half);
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
