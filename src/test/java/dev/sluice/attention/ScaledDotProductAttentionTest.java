package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.gate.Granularity;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.function.DoubleUnaryOperator;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The fused attention against the explicit one: values and the gradients of queries, keys and
/// values.
class ScaledDotProductAttentionTest {
  private static final Probe EXPLICIT =
      new Probe() {
        @Override
        public boolean wantsAttention(int layer) {
          return true;
        }
      };

  @BeforeEach
  void poison() {
    Libtorch.poisonUninitialized(true);
  }

  @AfterEach
  void stopPoisoning() {
    Libtorch.poisonUninitialized(false);
  }

  /// Float32 to the last digits; bfloat16 within the rounding of what goes into its products, 2⁻⁸
  /// of each term.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5}")
  @CsvSource({
    "1,1,1,1,2,FLOAT32",
    "2,6,2,7,6,FLOAT32",
    "1,4,4,63,10,FLOAT32",
    "1,4,1,65,16,FLOAT32",
    "3,2,1,130,8,FLOAT32",
    "1,2,1,1100,4,FLOAT32",
    "1,1,1,513,6,FLOAT32",
    "1,3,1,530,10,FLOAT32",
    "1,8,1,600,8,FLOAT32",
    "1,1,1,1025,2,FLOAT32",
    "2,6,2,1030,16,FLOAT32",
    "1,8,1,1100,32,FLOAT32",
    "1,1,1,1,2,BFLOAT16",
    "2,6,2,7,6,BFLOAT16",
    "1,4,1,65,16,BFLOAT16",
    "1,3,1,200,32,BFLOAT16",
    "1,1,1,600,10,BFLOAT16",
    "2,6,2,513,8,BFLOAT16",
    "1,8,1,530,64,BFLOAT16",
    "1,1,1,1100,6,BFLOAT16",
    "1,3,1,1025,16,BFLOAT16",
    "1,8,1,1030,2,BFLOAT16"
  })
  void fusedEqualsExplicit(
      int batch, int heads, int keyValueHeads, int tokens, int headSize, ElementType type) {
    var random = new Random(tokens);
    float[] q = floats(random, batch * heads * tokens * headSize);
    float[] k = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] v = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] upstream = floats(random, q.length);
    float[][][] results = new float[2][][];
    for (int way = 0; way < 2; way++) {
      try (var _ = Scope.open()) {
        // both start from the same rounded numbers
        var qBTNH = Tensor.of(q, batch, tokens, heads, headSize).to(type).requireGradient(true);
        var kBTMH =
            Tensor.of(k, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var vBTMH =
            Tensor.of(v, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var y =
            ScaledDotProductAttention.attend(
                qBTNH,
                kBTMH,
                vBTMH,
                null,
                null,
                0,
                null,
                null,
                0,
                way == 0 ? Probe.NONE : EXPLICIT);
        y.backward(Tensor.of(upstream, batch, tokens, heads, headSize).to(type).to(y.type()));
        results[way] =
            new float[][] {
              y.detach().floats(),
              qBTNH.gradient().floats(),
              kBTMH.gradient().floats(),
              vBTMH.gradient().floats()
            };
      }
    }
    String[] names = {"y", "dq", "dk", "dv"};
    assertClose(names, results, largest -> type == ElementType.FLOAT32 ? 2e-5 : 0x1p-6 * largest);
  }

  /// A sink per head, as a gate on fused attention and as a column of the explicit softmax: values
  /// and the gradients of queries, keys, values and sinks.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5}")
  @CsvSource({
    "1,1,1,1,2,FLOAT32",
    "2,6,2,7,6,FLOAT32",
    "1,8,1,65,16,FLOAT32",
    "1,3,1,530,10,FLOAT32",
    "2,6,2,130,8,BFLOAT16"
  })
  void sinkAsGateEqualsSinkInSoftmax(
      int batch, int heads, int keyValueHeads, int tokens, int headSize, ElementType type) {
    var random = new Random(tokens);
    float[] q = floats(random, batch * heads * tokens * headSize);
    float[] k = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] v = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] s = floats(random, heads);
    float[] upstream = floats(random, q.length);
    float[][][] results = new float[2][][];
    for (int way = 0; way < 2; way++) {
      try (var _ = Scope.open()) {
        var qBTNH = Tensor.of(q, batch, tokens, heads, headSize).to(type).requireGradient(true);
        var kBTMH =
            Tensor.of(k, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var vBTMH =
            Tensor.of(v, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var sinksN = Tensor.of(s, heads).requireGradient(true);
        var y =
            ScaledDotProductAttention.attend(
                qBTNH,
                kBTMH,
                vBTMH,
                sinksN,
                null,
                0,
                null,
                null,
                0,
                way == 0 ? Probe.NONE : EXPLICIT);
        y.backward(Tensor.of(upstream, batch, tokens, heads, headSize).to(type).to(y.type()));
        results[way] =
            new float[][] {
              y.detach().floats(),
              qBTNH.gradient().floats(),
              kBTMH.gradient().floats(),
              vBTMH.gradient().floats(),
              sinksN.gradient().floats()
            };
      }
    }
    String[] names = {"y", "dq", "dk", "dv", "ds"};
    assertClose(
        names,
        results,
        largest -> type == ElementType.FLOAT32 ? 2e-5 * Math.max(1, largest) : 0x1p-5 * largest);
  }

  /// The gate inside attention, and after the explicit one: values and the gradients of queries,
  /// keys, values and the gate's logits, of which some saturate.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5} {6}")
  @CsvSource({
    "1,1,1,1,2,FLOAT32,HEADWISE",
    "1,1,1,1,2,FLOAT32,ELEMENTWISE",
    "2,6,2,7,6,FLOAT32,HEADWISE",
    "2,6,2,7,6,FLOAT32,ELEMENTWISE",
    "1,8,1,65,16,FLOAT32,HEADWISE",
    "3,2,1,130,10,FLOAT32,ELEMENTWISE",
    "1,3,1,530,10,FLOAT32,HEADWISE",
    "1,3,1,1100,6,FLOAT32,ELEMENTWISE",
    "2,4,4,63,1,FLOAT32,HEADWISE",
    "2,6,2,7,6,BFLOAT16,HEADWISE",
    "2,6,2,513,8,BFLOAT16,ELEMENTWISE",
    "1,8,1,530,64,BFLOAT16,HEADWISE",
    "1,4,1,65,16,BFLOAT16,ELEMENTWISE"
  })
  void gateInsideEqualsGateAfter(
      int batch,
      int heads,
      int keyValueHeads,
      int tokens,
      int headSize,
      ElementType type,
      Granularity granularity) {
    var random = new Random(tokens);
    boolean headwise = granularity == Granularity.HEADWISE;
    float[] q = floats(random, batch * heads * tokens * headSize);
    float[] k = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] v = floats(random, batch * keyValueHeads * tokens * headSize);
    float[] z = floats(random, batch * heads * tokens * (headwise ? 1 : headSize));
    z[0] = 40;
    z[z.length / 2] = -40;
    float[] upstream = floats(random, q.length);
    float[][][] results = new float[2][][];
    for (int way = 0; way < 2; way++) {
      try (var _ = Scope.open()) {
        var qBTNH = Tensor.of(q, batch, tokens, heads, headSize).to(type).requireGradient(true);
        var kBTMH =
            Tensor.of(k, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var vBTMH =
            Tensor.of(v, batch, tokens, keyValueHeads, headSize).to(type).requireGradient(true);
        var logits =
            (headwise
                    ? Tensor.of(z, batch, tokens, heads)
                    : Tensor.of(z, batch, tokens, heads, headSize))
                .to(type)
                .requireGradient(true);
        var y =
            ScaledDotProductAttention.attend(
                qBTNH,
                kBTMH,
                vBTMH,
                null,
                logits,
                0,
                null,
                null,
                0,
                way == 0 ? Probe.NONE : EXPLICIT);
        y.backward(Tensor.of(upstream, batch, tokens, heads, headSize).to(type));
        results[way] =
            new float[][] {
              y.detach().floats(),
              qBTNH.gradient().floats(),
              kBTMH.gradient().floats(),
              vBTMH.gradient().floats(),
              logits.gradient().floats()
            };
      }
    }
    String[] names = {"y", "dq", "dk", "dv", "dz"};
    assertClose(names, results, largest -> type == ElementType.FLOAT32 ? 2e-5 : 0x1p-6 * largest);
  }

  /// What attention is made of and its upstream, and what it gives with them.
  private record Case(
      int batch, int heads, int keyValueHeads, int tokens, int headSize, ElementType type) {
    /// Values, then the gradients of queries, keys, values, and of sinks and logits where there are
    /// any.
    float[][] results(int window, boolean sinks, @Nullable Granularity gate, Probe probe) {
      var random = new Random(tokens);
      long[] shape = {batch, tokens, heads, headSize};
      long[] shared = {batch, tokens, keyValueHeads, headSize};
      try (var _ = Scope.open()) {
        var inputs = new ArrayList<Tensor>();
        inputs.add(gaussian(random, shape).to(type));
        inputs.add(gaussian(random, shared).to(type));
        inputs.add(gaussian(random, shared).to(type));
        var sinksN = gaussian(random, heads);
        var logits =
            gate == Granularity.HEADWISE
                ? gaussian(random, batch, tokens, heads)
                : gaussian(random, shape);
        if (sinks) {
          inputs.add(sinksN);
        }
        if (gate != null) {
          logits = logits.to(type);
          inputs.add(logits);
        }
        inputs.forEach(input -> input.requireGradient(true));
        var y =
            ScaledDotProductAttention.attend(
                inputs.get(0),
                inputs.get(1),
                inputs.get(2),
                sinks ? sinksN : null,
                gate == null ? null : logits,
                window,
                null,
                null,
                0,
                probe);
        y.backward(gaussian(random, shape).to(y.type()));
        var results = new ArrayList<float[]>();
        results.add(y.detach().floats());
        inputs.forEach(input -> results.add(input.gradient().floats()));
        return results.toArray(float[][]::new);
      }
    }
  }

  private static Tensor gaussian(Random random, long... shape) {
    int count = 1;
    for (long length : shape) {
      count *= (int) length;
    }
    return Tensor.of(floats(random, count), shape);
  }

  /// A window, with sinks and a gate too: values and all gradients. Windows end within tiles and on
  /// their borders, and are shorter and longer than a tile is wide.
  @ParameterizedTest(name = "B{0} N{1} M{2} T{3} H{4} {5} window {6} sinks {7} gate {8}")
  @CsvSource({
    "1,1,1,1,2,FLOAT32,1,false,",
    "2,6,2,7,6,FLOAT32,1,false,",
    "2,6,2,7,6,FLOAT32,3,true,ELEMENTWISE",
    "1,4,1,65,16,FLOAT32,64,false,HEADWISE",
    "1,8,1,530,10,FLOAT32,1,true,",
    "1,8,1,530,10,FLOAT32,37,true,HEADWISE",
    "2,3,1,530,10,FLOAT32,128,false,",
    "1,2,1,1100,4,FLOAT32,64,true,",
    "1,2,2,1100,4,FLOAT32,511,false,ELEMENTWISE",
    "1,2,1,1100,4,FLOAT32,512,false,",
    "1,1,1,1100,6,FLOAT32,513,false,",
    "1,3,1,1100,6,FLOAT32,1099,true,",
    "1,6,2,1500,6,FLOAT32,700,false,",
    "2,6,2,7,6,BFLOAT16,3,true,HEADWISE",
    "1,8,1,530,64,BFLOAT16,100,false,ELEMENTWISE",
    "1,3,1,1100,16,BFLOAT16,600,false,"
  })
  void windowEqualsExplicit(
      int batch,
      int heads,
      int keyValueHeads,
      int tokens,
      int headSize,
      ElementType type,
      int window,
      boolean sinks,
      @Nullable Granularity gate) {
    var c = new Case(batch, heads, keyValueHeads, tokens, headSize, type);
    float[][][] results = {
      c.results(window, sinks, gate, Probe.NONE), c.results(window, sinks, gate, EXPLICIT)
    };
    var names = new ArrayList<>(List.of("y", "dq", "dk", "dv"));
    if (sinks) {
      names.add("ds");
    }
    if (gate != null) {
      names.add("dz");
    }
    assertClose(
        names.toArray(String[]::new),
        results,
        largest -> type == ElementType.FLOAT32 ? 2e-5 * Math.max(1, largest) : 0x1p-5 * largest);
  }

  /// A window that hides nothing leaves every bit as it is.
  @Test
  void wideWindows() {
    for (var gate : new Granularity[] {null, Granularity.HEADWISE}) {
      for (int tokens : new int[] {1, 65, 600}) {
        var c = new Case(2, 6, 2, tokens, 10, ElementType.FLOAT32);
        float[][] without = c.results(0, false, gate, Probe.NONE);
        for (int window : new int[] {tokens, tokens + 1, Integer.MAX_VALUE}) {
          float[][] with = c.results(window, false, gate, Probe.NONE);
          for (int i = 0; i < without.length; i++) {
            assertArrayEquals(without[i], with[i], "window " + window + ": " + i);
          }
        }
      }
    }
  }

  /// The definition itself, in float64: of query i the keys i − window + 1 … i.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 5, 8, 9, 10})
  void windowOfTheDefinition(int window) {
    int tokens = 9;
    var random = new Random(window);
    try (var _ = Scope.withoutGradient()) {
      var query = gaussian(random, 1, tokens, 1, 1);
      var key = gaussian(random, 1, tokens, 1, 1);
      var value = gaussian(random, 1, tokens, 1, 1);
      double[] q = query.doubles();
      double[] k = key.doubles();
      double[] v = value.doubles();
      for (var probe : List.of(Probe.NONE, EXPLICIT)) {
        double[] y =
            ScaledDotProductAttention.attend(
                    query, key, value, null, null, window, null, null, 0, probe)
                .doubles();
        for (int i = 0; i < tokens; i++) {
          double sum = 0;
          double weighted = 0;
          for (int j = Math.max(0, i - window + 1); j <= i; j++) {
            sum += Math.exp(q[i] * k[j]);
            weighted += Math.exp(q[i] * k[j]) * v[j];
          }
          assertEquals(weighted / sum, y[i], 1e-6, "query " + i);
        }
      }
    }
  }

  /// Keys and values that are views of other orders.
  @Test
  void transposedTensors() {
    try (var _ = Scope.open()) {
      var random = new Random(3);
      float[] numbers = floats(random, 2 * 65 * 4 * 6);
      var qBNTH = Tensor.of(numbers, 2, 4, 65, 6).requireGradient(true);
      var kBMTH = Tensor.of(floats(random, 2 * 65 * 2 * 6), 2, 2, 65, 6).requireGradient(true);
      var vMBTH = Tensor.of(floats(random, 2 * 65 * 2 * 6), 2, 2, 65, 6).requireGradient(true);
      var upstream = Tensor.of(numbers, 2, 4, 65, 6).transpose(1, 2);
      float[][][] results = new float[2][][];
      for (int way = 0; way < 2; way++) {
        var y =
            ScaledDotProductAttention.attend(
                qBNTH.transpose(1, 2),
                kBMTH.transpose(1, 2),
                vMBTH.transpose(0, 1).transpose(1, 2),
                null,
                null,
                0,
                null,
                null,
                0,
                way == 0 ? Probe.NONE : EXPLICIT);
        y.backward(upstream);
        results[way] =
            new float[][] {
              y.detach().contiguous().floats(),
              qBNTH.gradient().floats(),
              kBMTH.gradient().floats(),
              vMBTH.gradient().floats()
            };
        qBNTH.clearGradient();
        kBMTH.clearGradient();
        vMBTH.clearGradient();
      }
      for (int i = 0; i < 4; i++) {
        assertArrayEquals(results[1][i], results[0][i], 2e-5f, "y, dq, dk or dv: " + i);
      }
    }
  }

  /// Both ways' tensors, element by element.
  ///
  /// @param tolerance from a tensor's largest magnitude
  private static void assertClose(
      String[] names, float[][][] results, DoubleUnaryOperator tolerance) {
    for (int i = 0; i < names.length; i++) {
      double largest = 0;
      for (float value : results[1][i]) {
        largest = Math.max(largest, Math.abs(value));
      }
      double allowed = tolerance.applyAsDouble(largest);
      for (int j = 0; j < results[1][i].length; j++) {
        assertEquals(results[1][i][j], results[0][i][j], allowed, names[i] + "[" + j + "]");
      }
    }
  }

  private static float[] floats(Random random, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
