package dev.sluice.attention;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.sluice.InvalidInputException;
import dev.sluice.TestData;
import dev.sluice.operations.Rotation;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import tools.jackson.databind.json.JsonMapper;

class RopeTest {
  private static final RopeScaling NONE = new RopeScaling.None();

  /// Numbers of an independent float64 implementation.
  private static final Path GOLDEN = TestData.GOLDEN.resolve("yarn.json");

  @ParameterizedTest
  @CsvSource({
    "yarn_128_1e+06_4_32768, 128, 1e6, 4, 32768",
    "yarn_64_1e+07_4_262144, 64, 1e7, 4, 262144",
    "yarn_128_10000_4_4096, 128, 1e4, 4, 4096"
  })
  void yarnFollowsTheReference(
      String key, int dimensions, double theta, double factor, int original) throws IOException {
    var golden = JsonMapper.shared().readTree(GOLDEN.toFile()).path(key);
    var yarn = new RopeScaling.Yarn(factor, original);
    float[] actual = yarn.inverseFrequencies(theta, dimensions, 1);
    assertEquals(dimensions / 2, actual.length);
    assertEquals(dimensions / 2, golden.path("inv_freq").size());
    for (int i = 0; i < actual.length; i++) {
      double expected = golden.path("inv_freq").get(i).asDouble();
      // float32 frequencies, whose exponent is a float32 too: ln θ · ½ ulp more
      assertEquals(expected, actual[i], 1e-6 * expected, key + " at " + i);
    }
    assertEquals(golden.path("attention_factor").asDouble(), yarn.scale(), 1e-15);
  }

  @Test
  void yarnByFactorOneChangesNothing() {
    var yarn = new RopeScaling.Yarn(1, 4096);
    assertArrayEquals(
        NONE.inverseFrequencies(1e4, 64, 1), yarn.inverseFrequencies(1e4, 64, 1), 1e-9f);
    assertEquals(1, yarn.scale());
    assertEquals(1, NONE.scale());
    assertEquals(1.5, new RopeScaling.Yarn(4, 4096, 32, 1, 1.5, true).scale());
  }

  @Test
  void yarnRefusesWhatMakesNoSense() {
    for (double factor : new double[] {0.5, 0, -1, Double.NaN}) {
      assertThrows(InvalidInputException.class, () -> new RopeScaling.Yarn(factor, 4096));
    }
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Yarn(4, 0));
  }

  /// Frequencies of `transformers` 5.18: kept, mixed and divided.
  @Test
  void llama3FollowsTheReference() {
    var published = new RopeScaling.Llama3(8, 8192, 1, 4);
    float[] expected = {
      1f,
      0.19392276f,
      0.037606031f,
      0.0072926651f,
      0.00052484602f,
      3.4281024e-05f,
      6.6478697e-06f,
      1.2891732e-06f
    };
    assertClose(expected, published.inverseFrequencies(5e5, 16, 1));
    var shorter = new RopeScaling.Llama3(2, 64, 1, 32);
    float[] mixed = {
      0.64815998f, 0.27821246f, 0.12708037f, 0.060180631f, 0.029437749f, 0.014500679f
    };
    assertClose(mixed, shorter.inverseFrequencies(70, 12, 1));
    assertEquals(1, published.scale());
  }

  private static void assertClose(float[] expected, float[] actual) {
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], 1e-6 * expected[i], "frequency " + i);
    }
  }

  @Test
  void factorsDivideFrequencies() {
    var llama = new RopeScaling.Llama3(8, 8192, 1, 4);
    var factors = llama.asFactors(5e5, 16);
    assertClose(llama.inverseFrequencies(5e5, 16, 1), factors.inverseFrequencies(5e5, 16, 1));
    assertEquals(8, factors.factor());
    assertEquals(new RopeScaling.None(), new RopeScaling.Llama3(1, 64, 1, 4).asFactors(5e5, 16));
    assertThrows(InvalidInputException.class, () -> factors.inverseFrequencies(5e5, 8, 1));
    for (double bad : new double[] {0, -1, Double.NaN, 1e300}) {
      assertThrows(InvalidInputException.class, () -> new RopeScaling.Factors(List.of(1.0, bad)));
    }
  }

  @Test
  void llama3RefusesWhatMakesNoSense() {
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Llama3(0.5, 64, 1, 4));
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Llama3(2, 0, 1, 4));
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Llama3(2, 64, 0, 4));
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Llama3(2, 64, 4, 4));
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Llama3(2, 64, 1, Double.NaN));
  }

  /// Frequencies of `transformers` 5.18, of 16 dimensions with the base 10,000.
  @Test
  void linearDividesAllPositions() {
    float[] expected = {
      0.25f, 0.079056941f, 0.025f, 0.0079056937f, 0.0024999999f, 0.00079056941f, 0.00025f
    };
    float[] actual = new RopeScaling.Linear(4).inverseFrequencies(1e4, 16, 1);
    assertClose(expected, Arrays.copyOf(actual, 7));
    assertEquals(1, new RopeScaling.Linear(4).scale());
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Linear(0.9));
  }

  /// The base is that of the pass: `10,000 · (4 · 256 / 64 − 3)^(16 / 14)`.
  @Test
  void dynamicGrowsWithTheSequence() {
    var dynamic = new RopeScaling.Dynamic(4, 64);
    assertArrayEquals(NONE.inverseFrequencies(1e4, 16, 1), dynamic.inverseFrequencies(1e4, 16, 64));
    double base = 1e4 * Math.pow(13, 16 / 14.0);
    float[] longer = dynamic.inverseFrequencies(1e4, 16, 256);
    for (int i = 0; i < 8; i++) {
      double expected = Math.pow(base, -i / 8.0);
      assertEquals(expected, longer[i], 1e-6 * expected);
    }
    assertEquals(256, dynamic.context(64));
    assertEquals(64, new RopeScaling.Linear(4).context(64));
    assertThrows(InvalidInputException.class, () -> new RopeScaling.Dynamic(4, 0));
    try (var _ = Scope.open()) {
      var rope = new RotaryEmbedding(new Rotary(1e4, dynamic), 16);
      var plain = new RotaryEmbedding(new Rotary(1e4, NONE), 16);
      var grown = new RotaryEmbedding(new Rotary(1e4 * Math.pow(13, 16 / 14.0), NONE), 16);
      // each row of a batch by its own length
      float[] rows = rope.rotation(new int[] {3, 251}, 5, Device.CPU).cosines().floats();
      assertArrayEquals(
          plain.rotation(3, 5, Device.CPU).cosines().floats(), Arrays.copyOf(rows, 5 * 8));
      assertArrayEquals(
          grown.rotation(251, 5, Device.CPU).cosines().floats(),
          Arrays.copyOfRange(rows, 5 * 8, 2 * 5 * 8),
          1e-5f);
    }
  }

  /// What is kept of the longest sequence is what a shorter one has, unless its length matters;
  /// what was given outlives it.
  @Test
  void whatIsKeptIsWhatWouldBeMade() {
    for (var scaling : new RopeScaling[] {NONE, new RopeScaling.Dynamic(4, 6)}) {
      var rotary = new Rotary(1e4, scaling);
      try (var _ = Scope.open();
          var rope = new RotaryEmbedding(rotary, 16)) {
        Rotation first = rope.rotation(0, 9, Device.CPU);
        float[] before = first.cosines().floats();
        for (int tokens : new int[] {9, 5, 12, 7, 9, 1}) {
          try (var _ = Scope.open();
              var fresh = new RotaryEmbedding(rotary, 16)) {
            var kept = rope.rotation(0, tokens, Device.CPU);
            var made = fresh.rotation(0, tokens, Device.CPU);
            assertArrayEquals(made.cosines().floats(), kept.cosines().floats());
            assertArrayEquals(made.sines().floats(), kept.sines().floats());
          }
        }
        assertArrayEquals(before, first.cosines().floats()); // longer ones took its place
      }
    }
  }

  @Test
  void plainFrequencies() {
    float[] inverse = NONE.inverseFrequencies(10_000, 8, 1);
    assertArrayEquals(new float[] {1, 0.1f, 0.01f, 0.001f}, inverse, 1e-8f);
  }

  private static Tensor gaussian(long seed, long... shape) {
    var random = new SplittableRandom(seed);
    int elements = 1;
    for (long length : shape) {
      elements *= (int) length;
    }
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return Tensor.of(values, shape);
  }

  @Test
  void rotationFollowsItsFormula() {
    try (var _ = Scope.open()) {
      int tokens = 7;
      int size = 6;
      var x = gaussian(17, 2, tokens, 3, size);
      var rope = new RotaryEmbedding(new Rotary(100, NONE), size);
      int start = 11;
      float[] before = x.floats();
      float[] after = rope.rotation(start, tokens, Device.CPU).rotate(x).floats();
      for (int head = 0; head < 2 * tokens * 3; head++) {
        int position = start + head / 3 % tokens;
        for (int i = 0; i < size / 2; i++) {
          double angle = position * Math.pow(100, -2.0 * i / size);
          double first = before[head * size + i];
          double second = before[head * size + i + size / 2];
          assertEquals(
              first * Math.cos(angle) - second * Math.sin(angle), after[head * size + i], 1e-5);
          assertEquals(
              second * Math.cos(angle) + first * Math.sin(angle),
              after[head * size + i + size / 2],
              1e-5);
        }
      }
    }
  }

  @Test
  void rotationKeepsNorms() {
    try (var _ = Scope.open()) {
      int size = 64;
      var x = gaussian(19, 1, 65, 2, size);
      for (var scaling : new RopeScaling[] {NONE, new RopeScaling.Yarn(4, 32)}) {
        var rope = new RotaryEmbedding(new Rotary(1e4, scaling), size);
        float[] before = x.floats();
        float[] after = rope.rotation(30_000, 65, Device.CPU).rotate(x).floats();
        for (int head = 0; head < 65 * 2; head++) {
          double expected = norm(before, head * size, size) * scaling.scale();
          assertEquals(expected, norm(after, head * size, size), 1e-6 * expected);
        }
      }
    }
  }

  private static double norm(float[] values, int from, int length) {
    double sum = 0;
    for (int i = from; i < from + length; i++) {
      sum += (double) values[i] * values[i];
    }
    return Math.sqrt(sum);
  }

  @Test
  void positionZeroIsTheIdentity() {
    try (var _ = Scope.open()) {
      var x = gaussian(23, 2, 1, 3, 8);
      var rotation = new RotaryEmbedding(new Rotary(1e4, NONE), 8).rotation(0, 1, Device.CPU);
      assertArrayEquals(x.floats(), rotation.rotate(x).floats());
    }
  }

  /// Scores depend on the distance alone.
  @Test
  void productsDependOnTheDistance() {
    try (var _ = Scope.open()) {
      var q = gaussian(29, 1, 1, 1, 16);
      var k = gaussian(31, 1, 1, 1, 16);
      var rope = new RotaryEmbedding(new Rotary(1e4, NONE), 16);
      double near = product(rope, q, k, 5, 2);
      assertEquals(near, product(rope, q, k, 105, 102), 1e-4);
      assertEquals(near, product(rope, q, k, 3, 0), 1e-5);
    }
  }

  private static double product(RotaryEmbedding rope, Tensor q, Tensor k, int at, int from) {
    return rope.rotation(at, 1, Device.CPU)
        .rotate(q)
        .times(rope.rotation(from, 1, Device.CPU).rotate(k))
        .sum()
        .item();
  }
}
