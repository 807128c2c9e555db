package dev.sluice.kernel;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Objects;
import java.util.SplittableRandom;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MachineAttentionTest {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final Kernels DEFINITION = new ScalarKernels();

  private static Edge queryEdge;
  private static Edge keyEdge;
  private static Edge valueEdge;
  private static Edge stateEdge;
  private static Edge resultEdge;
  private static Edge sumEdge;

  @BeforeAll
  static void prepare() {
    assumeTrue(
        MachineAttention.of(16, false) != null,
        "needs AVX-512, and a system that runs code made here");
    queryEdge = new Edge();
    keyEdge = new Edge();
    valueEdge = new Edge();
    stateEdge = new Edge();
    resultEdge = new Edge();
    sumEdge = new Edge();
  }

  private static MemorySegment numbers(Edge edge, int count, double size, SplittableRandom random) {
    return kept(edge, count, size, random, false).memory();
  }

  private static Floats kept(
      Edge edge, int count, double size, SplittableRandom random, boolean bfloat16) {
    var numbers = new Floats(edge.last((bfloat16 ? 2L : 4L) * count), bfloat16);
    for (int i = 0; i < count; i++) {
      numbers.set(i, (float) (size * random.nextGaussian()));
    }
    return numbers;
  }

  /// The results of all queries, then the logarithms of their sums.
  private static float[][] attend(
      MemorySegment q, Floats k, Floats v, int count, int group, int width) {
    var y = resultEdge.last(4L * group * width);
    var sums = sumEdge.last(4L * group);
    var attention = Objects.requireNonNull(MachineAttention.of(width, k.bfloat16()));
    var state = stateEdge.last(4 * attention.stateNumbers(group));
    attention.attend(q, k, v, count, group, 0.3, state, y, sums);
    return new float[][] {y.toArray(FLOAT), sums.toArray(FLOAT)};
  }

  private static float[][] defined(
      MemorySegment q, Floats k, Floats v, int count, int group, int width) {
    var y = resultEdge.last(4L * group * width);
    var sums = sumEdge.last(4L * group);
    DEFINITION.oneTokenAttention(q, k, v, count, group, width, 0.3, y, sums);
    return new float[][] {y.toArray(FLOAT), sums.toArray(FLOAT)};
  }

  /// Heads of 176 and more take two runs of values; 700 keys of them two calls.
  @ParameterizedTest
  @ValueSource(ints = {16, 32, 64, 80, 128, 176, 256})
  void attentionIsTheDefinitions(int width) {
    var random = new SplittableRandom(width);
    for (int count : new int[] {1, 2, 15, 16, 17, 31, 32, 33, 63, 150, 700}) {
      for (double size : new double[] {0.1, 2, 30}) {
        int group = 1 + count % 3;
        var q = numbers(queryEdge, group * width, size, random);
        for (boolean bfloat16 : new boolean[] {false, true}) {
          var k = kept(keyEdge, count * width, 1, random, bfloat16);
          var v = kept(valueEdge, count * width, 1, random, bfloat16);
          float[][] expected = defined(q, k, v, count, group, width);
          float[][] actual = attend(q, k, v, count, group, width);
          // A score is a sum of products of this size, and so wrong by as much in proportion.
          float allowed = (float) (1e-5 + 2e-6 * size * Math.sqrt(width));
          assertArrayEquals(expected[0], actual[0], allowed, count + " keys " + bfloat16);
          assertArrayEquals(expected[1], actual[1], 10 * allowed, count + " keys " + bfloat16);
        }
      }
    }
  }

  @Test
  void aQueryDoesNotDependOnItsNeighbours() {
    var random = new SplittableRandom(1);
    int width = 64;
    var q = numbers(queryEdge, 5 * width, 1, random);
    var k = kept(keyEdge, 77 * width, 1, random, true);
    var v = kept(valueEdge, 77 * width, 1, random, true);
    float[] together = attend(q, k, v, 77, 5, width)[0];
    for (int g = 0; g < 5; g++) {
      float[] alone = attend(q.asSlice(4L * g * width, 4L * width), k, v, 77, 1, width)[0];
      assertArrayEquals(Arrays.copyOfRange(together, g * width, (g + 1) * width), alone);
    }
  }

  /// What is bfloat16 is worth as much as the same numbers in float32, to the bit.
  @ParameterizedTest
  @ValueSource(ints = {16, 48, 128, 256})
  void theBitsAreThoseOfTheSameNumbersInFloat32(int width) {
    var random = new SplittableRandom(width);
    for (int count : new int[] {1, 16, 33, 700}) {
      var q = numbers(queryEdge, 2 * width, 1, random);
      var k = kept(keyEdge, count * width, 1, random, true);
      var v = kept(valueEdge, count * width, 1, random, true);
      float[][] rounded = attend(q, k, v, count, 2, width);
      float[][] wide = attend(q, widened(k), widened(v), count, 2, width);
      assertArrayEquals(wide[0], rounded[0]);
      assertArrayEquals(wide[1], rounded[1]);
    }
  }

  private static Floats widened(Floats numbers) {
    var wide = Floats.float32(Arena.ofAuto().allocate(4 * numbers.length(), 4));
    for (long i = 0; i < numbers.length(); i++) {
      wide.set(i, numbers.get(i));
    }
    return wide;
  }

  /// The first seven keys are alike, and the others of no weight: so are those after the last.
  @Test
  void whatIsFarBelowCountsNothing() {
    int width = 16;
    var q = queryEdge.last(4L * width);
    var k = keyEdge.last(4L * 40 * width);
    var v = valueEdge.last(4L * 40 * width);
    for (int i = 0; i < 40 * width; i++) {
      q.set(FLOAT, 4L * (i % width), 1);
      k.set(FLOAT, 4L * i, i < 7 * width ? 100 : -100);
      v.set(FLOAT, 4L * i, i < 7 * width ? 3 : 1e30f);
    }
    float[][] seen = attend(q, Floats.float32(k), Floats.float32(v), 40, 1, width);
    assertEquals(3, seen[0][0], 1e-6);
    assertEquals(480 + Math.log(7), seen[1][0], 1e-4);
  }

  @Test
  void whatIsNoNumberShows() {
    var random = new SplittableRandom(2);
    int width = 32;
    for (int bad : new int[] {0, 20, 36}) { // in a block, in another, among the last
      for (boolean inKey : new boolean[] {true, false}) {
        var q = numbers(queryEdge, width, 1, random);
        var k = numbers(keyEdge, 37 * width, 1, random);
        var v = numbers(valueEdge, 37 * width, 1, random);
        (inKey ? k : v).set(FLOAT, 4L * bad * width, Float.NaN);
        float[][] seen = attend(q, Floats.float32(k), Floats.float32(v), 37, 1, width);
        assertTrue(Float.isNaN(seen[0][0]), bad + " " + inKey);
        assertEquals(inKey, Float.isNaN(seen[0][1]), bad + " " + inKey);
        assertEquals(inKey, Float.isNaN(seen[1][0]), bad + " " + inKey);
      }
    }
  }

  @Test
  void sizesAreChecked() {
    for (int width : new int[] {-16, 0, 8, 24, 272}) {
      assertNull(MachineAttention.of(width, false));
    }
    var attention = Objects.requireNonNull(MachineAttention.of(64, false));
    assertSame(attention, MachineAttention.of(64, false)); // and not made anew at each token
    var memory = queryEdge.last(4L * 64);
    var kept = Floats.float32(memory);
    assertThrows(
        IllegalArgumentException.class,
        () ->
            attention.attend(
                memory, kept, Floats.bfloat16(memory), 1, 1, 1, memory, memory, memory));
    assertThrows(
        IndexOutOfBoundsException.class,
        () -> attention.attend(memory, kept, kept, 2, 1, 1, memory, memory, memory));
    assertThrows(
        IllegalArgumentException.class,
        () -> attention.attend(memory, kept, kept, 0, 1, 1, memory, memory, memory));
  }
}
