package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.ALL;
import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;
import static dev.sluice.kernel.KernelNumbers.assertRange;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.crc;
import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static dev.sluice.kernel.KernelNumbers.sigmoid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.SplittableRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// The gate's and the optimizer's vector kernels against the definition, and the definition against
/// formulas in float64; and what all kernels share.
///
/// Tolerance: a float32 result may differ by 4 ulp of the sum of its terms' magnitudes, 4 · 2⁻²³ ·
/// Σ|terms|, and by 16 of the smallest normal number where a factor is subnormal and may be zero
/// instead. Where both results are then rounded to bfloat16 they may fall on two sides of a tie:
/// one bfloat16 ulp, 2⁻⁷ of the result, is added.
class KernelsTest {
  private static final int[] ROWS = {1, 7, 8, 15, 16, 17, 63, 65, 257};
  private static final int[] WIDTHS = {1, 2, 7, 16, 63, 64, 65, 128};
  private static final float[] EXTREME = {
    0f,
    -0f,
    Float.MIN_VALUE,
    1e-20f,
    17f,
    -17f,
    88f,
    -88f,
    88.8f,
    -88.8f,
    103f,
    -103f,
    105f,
    -105f,
    1e4f,
    -1e4f,
    Float.MAX_VALUE,
    -Float.MAX_VALUE,
    Float.POSITIVE_INFINITY,
    Float.NEGATIVE_INFINITY,
    Float.NaN
  };

  /// The element types that meet in a gate; logits, result and upstream gradient share one.
  enum Types {
    ALL_FLOAT32(false, false),
    FLOAT32_GATED_IN_BFLOAT16(false, true),
    ALL_BFLOAT16(true, true);

    private final boolean y;
    private final boolean z;

    Types(boolean y, boolean z) {
      this.y = y;
      this.z = z;
    }
  }

  /// The tensors of one gate.
  private record Case(Floats y, Floats z, Floats upstream, int rows, int width) {
    static Case random(Arena arena, Types types, int rows, int width, long seed) {
      var random = new SplittableRandom(seed);
      var made =
          new Case(
              poisoned(arena, (long) rows * width, types.y),
              poisoned(arena, rows, types.z),
              poisoned(arena, (long) rows * width, types.z),
              rows,
              width);
      fill(made.y, i -> (float) random.nextGaussian());
      fill(made.z, i -> (float) (4 * random.nextGaussian()));
      fill(made.upstream, i -> (float) random.nextGaussian());
      return made;
    }

    Floats forward(Arena arena, Kernels kernels, int... cuts) {
      var out = poisoned(arena, y.length(), z.bfloat16());
      for (int i = 0; i + 1 < cuts.length; i++) {
        kernels.sigmoidGate(y, z, out, width, cuts[i], cuts[i + 1]);
      }
      return out;
    }

    Gradients backward(Arena arena, Kernels kernels, int... cuts) {
      var dy = poisoned(arena, y.length(), y.bfloat16());
      var dz = poisoned(arena, z.length(), z.bfloat16());
      for (int i = 0; i + 1 < cuts.length; i++) {
        kernels.sigmoidGateBackward(upstream, y, z, dy, dz, width, cuts[i], cuts[i + 1]);
      }
      return new Gradients(dy, dz);
    }
  }

  private record Gradients(Floats dy, Floats dz) {}

  private static void assertClose(
      double expected, double actual, double terms, boolean rounded, String what) {
    KernelNumbers.assertClose(expected, actual, terms, rounded ? 0x1p-7 : 0, () -> what);
  }

  /// Both kernels' results against float64 sums over the very numbers that they read.
  private static void assertGate(Case c, Floats out, Gradients gradients, String what) {
    boolean roundedY = c.y.bfloat16();
    boolean roundedZ = c.z.bfloat16();
    for (int r = 0; r < c.rows; r++) {
      double score = sigmoid(c.z.get(r));
      double slope = score * sigmoid(-c.z.get(r));
      double dz = 0;
      double terms = 0;
      for (long i = (long) r * c.width; i < (long) (r + 1) * c.width; i++) {
        double y = c.y.get(i);
        double d = c.upstream.get(i);
        String at = what + " [" + r + ", " + (i - (long) r * c.width) + "] z " + c.z.get(r);
        assertClose(y * score, out.get(i), Math.abs(y * score), roundedZ, "out " + at);
        assertClose(d * score, gradients.dy.get(i), Math.abs(d * score), roundedY, "dy " + at);
        dz += d * y * slope;
        terms += Math.abs(d * y * slope);
      }
      assertClose(dz, gradients.dz.get(r), terms, roundedZ, "dz " + what + " row " + r);
    }
  }

  @ParameterizedTest
  @EnumSource
  void gateIsRightOnUglySizes(Types types) {
    for (int rows : ROWS) {
      for (int width : WIDTHS) {
        try (var arena = Arena.ofConfined()) {
          var c = Case.random(arena, types, rows, width, 31L * rows + width);
          String what = types + " " + rows + " × " + width;
          for (var kernels : ALL) {
            assertGate(
                c,
                c.forward(arena, kernels, 0, rows),
                c.backward(arena, kernels, 0, rows),
                kernels.getClass().getSimpleName() + " " + what);
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void vectorKernelsEqualTheDefinition(Types types) {
    for (int rows : ROWS) {
      for (int width : WIDTHS) {
        try (var arena = Arena.ofConfined()) {
          var c = Case.random(arena, types, rows, width, 37L * rows + width);
          var expected = c.forward(arena, SCALAR, 0, rows);
          var actual = c.forward(arena, VECTOR, 0, rows);
          var expectedGradients = c.backward(arena, SCALAR, 0, rows);
          var gradients = c.backward(arena, VECTOR, 0, rows);
          for (int r = 0; r < rows; r++) {
            double terms = 0;
            for (int i = r * width; i < (r + 1) * width; i++) {
              double out = expected.get(i);
              assertClose(out, actual.get(i), Math.abs(out), types.z, "out");
              double dy = expectedGradients.dy.get(i);
              assertClose(dy, gradients.dy.get(i), Math.abs(dy), types.y, "dy");
              terms += Math.abs(c.upstream.get(i) * c.y.get(i));
            }
            double slope = sigmoid(c.z.get(r)) * sigmoid(-c.z.get(r));
            double dz = expectedGradients.dz.get(r);
            assertClose(dz, gradients.dz.get(r), terms * slope, types.z, "dz");
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void onlyTheRangeIsWritten(Types types) {
    for (var kernels : ALL) {
      for (int rows : ROWS) {
        for (int width : WIDTHS) {
          try (var arena = Arena.ofConfined()) {
            var c = Case.random(arena, types, rows, width, 41L * rows + width);
            int from = rows / 3;
            int to = rows - rows / 4;
            assertRange(
                c.forward(arena, kernels, 0, rows),
                c.forward(arena, kernels, from, to),
                from * width,
                to * width,
                "out");
            var whole = c.backward(arena, kernels, 0, rows);
            var part = c.backward(arena, kernels, from, to);
            assertRange(whole.dy, part.dy, from * width, to * width, "dy");
            assertRange(whole.dz, part.dz, from, to, "dz");
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void splitDoesNotChangeABit(Types types) {
    for (int rows : ROWS) {
      for (int width : WIDTHS) {
        try (var arena = Arena.ofConfined()) {
          var c = Case.random(arena, types, rows, width, 43L * rows + width);
          byte[] out = bytes(c.forward(arena, VECTOR, 0, rows));
          var gradients = c.backward(arena, VECTOR, 0, rows);
          for (int[] cuts : new int[][] {{0, rows / 2, rows}, {0, rows / 3, rows * 2 / 3, rows}}) {
            assertArrayEquals(out, bytes(c.forward(arena, VECTOR, cuts)));
            var parts = c.backward(arena, VECTOR, cuts);
            assertArrayEquals(bytes(gradients.dy), bytes(parts.dy));
            assertArrayEquals(bytes(gradients.dz), bytes(parts.dz));
          }
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void extremeLogits(Types types) {
    for (int width : new int[] {1, 7, 64}) {
      try (var arena = Arena.ofConfined()) {
        var c = Case.random(arena, types, EXTREME.length, width, 47);
        fill(c.z, i -> EXTREME[i]);
        for (var kernels : ALL) {
          var out = c.forward(arena, kernels, 0, c.rows);
          var gradients = c.backward(arena, kernels, 0, c.rows);
          assertGate(c, out, gradients, kernels.getClass().getSimpleName() + " " + types);
          for (int r = 0; r < c.rows; r++) {
            float y = c.y.get((long) r * width);
            if (c.z.get(r) >= 1e4f) {
              assertEquals(types.z ? Floats.widen(Floats.round(y)) : y, out.get((long) r * width));
              assertEquals(0, gradients.dz.get(r), 0);
            }
            if (c.z.get(r) <= -1e4f) {
              assertEquals(0, out.get((long) r * width), 0);
              assertEquals(0, gradients.dz.get(r), 0);
            }
          }
        }
      }
    }
  }

  @Test
  void notANumberPropagates() {
    try (var arena = Arena.ofConfined()) {
      for (var kernels : ALL) {
        for (var types : Types.values()) {
          for (int width : new int[] {1, 65}) {
            var c = Case.random(arena, types, 17, width, 53);
            c.y.set(0, Float.NaN);
            c.z.set(9, Float.NaN);
            var out = c.forward(arena, kernels, 0, 17);
            var gradients = c.backward(arena, kernels, 0, 17);
            for (int i = 0; i < 17 * width; i++) {
              assertEquals(i == 0 || i / width == 9, Float.isNaN(out.get(i)));
              assertEquals(i / width == 9, Float.isNaN(gradients.dy.get(i)));
            }
            for (int r = 0; r < 17; r++) {
              assertEquals(r == 0 || r == 9, Float.isNaN(gradients.dz.get(r)));
            }
          }
        }
      }
    }
  }

  /// Before the compiler takes a method over, the Vector API runs as plain Java; a run may not
  /// depend on when that happens. Library functions of whole vectors and sums across lanes do.
  @Test
  void interpretedAndCompiledBitsAreTheSame() throws IOException, InterruptedException {
    var java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
    var child =
        new ProcessBuilder(
                java,
                "-Xint",
                "-XX:+UseSerialGC",
                "--add-exports=java.base/jdk.internal.module=ALL-UNNAMED",
                "-XX:+UnlockExperimentalVMOptions",
                "-XX:+EnableVectorSupport",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Digest.class.getName())
            .redirectErrorStream(true) // the module that is loaded late warns of nothing
            .start();
    String compiled = null;
    for (int i = 0; i < 400; i++) {
      compiled = digest();
    }
    String interpreted = new String(child.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(child.waitFor(60, TimeUnit.SECONDS));
    assertEquals(0, child.exitValue());
    assertEquals("VectorKernels " + compiled, interpreted.strip());
  }

  /// Prints which kernels there are without machine code, which loads the Vector API's module, and
  /// [#digest].
  static final class Digest {
    private Digest() {}

    public static void main(String[] args) {
      System.out.print(VectorModule.kernels().getClass().getSimpleName() + " ");
      System.out.println(digest());
    }
  }

  /// A checksum over the results of all vector kernels.
  private static String digest() {
    var checksum = new StringBuilder();
    for (var types : Types.values()) {
      for (int width : new int[] {1, 7, 128}) {
        try (var arena = Arena.ofConfined()) {
          var c = Case.random(arena, types, 128, width, 59L + width);
          var gradients = c.backward(arena, VECTOR, 0, 128);
          for (var result :
              new Floats[] {c.forward(arena, VECTOR, 0, 128), gradients.dy, gradients.dz}) {
            checksum.append(crc(bytes(result))).append(' ');
          }
        }
      }
    }
    try (var arena = Arena.ofConfined()) {
      NormKernelsTest.sample(arena).forEach(c -> checksum.append(c.digest()));
      FeedForwardKernelsTest.sample(arena).forEach(c -> checksum.append(c.digest()));
      LossKernelsTest.sample(arena).forEach(c -> checksum.append(c.digest()));
    }
    checksum.append(SoftmaxKernelsTest.digest());
    checksum.append(DeltaKernelsTest.digest());
    var optimizer = new AdamWCase(257, 61);
    VECTOR.adamW(
        optimizer.parameter,
        optimizer.gradient,
        optimizer.first,
        optimizer.second,
        STEP,
        0,
        optimizer.elements());
    return checksum + crc(optimizer.parameter.toArray(ValueLayout.JAVA_BYTE));
  }

  // ---------------------------------------------------------------- AdamW

  private static final AdamWStep STEP = new AdamWStep(3e-4, 0.9, 0.999, 1e-8, 0.1, 3, 0.37);

  /// The tensors of one AdamW step, on the heap.
  private record AdamWCase(
      MemorySegment parameter, MemorySegment gradient, MemorySegment first, MemorySegment second) {
    AdamWCase(int elements, long seed) {
      this(array(elements), array(elements), array(elements), array(elements));
      var random = new SplittableRandom(seed);
      for (int i = 0; i < elements; i++) {
        double size = Math.pow(10, random.nextInt(-6, 3));
        set(parameter, i, random.nextGaussian());
        set(gradient, i, random.nextGaussian() * size);
        set(first, i, random.nextGaussian() * size);
        set(second, i, Math.abs(random.nextGaussian()) * size * size);
      }
      set(gradient, 0, 0);
      set(first, 0, 0);
      set(second, 0, 0);
    }

    int elements() {
      return (int) (parameter.byteSize() / 4);
    }

    private static MemorySegment array(int elements) {
      return MemorySegment.ofArray(new float[elements]);
    }

    static void set(MemorySegment memory, int i, double value) {
      memory.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) value);
    }
  }

  private static double at(MemorySegment memory, int i) {
    return memory.getAtIndex(ValueLayout.JAVA_FLOAT, i);
  }

  /// Against the formula in float64, 4 ulp of the terms that make a value.
  @Test
  void adamWFollowsTheFormula() {
    for (var kernels : ALL) {
      for (double beta2 : new double[] {0.95, 0.999}) {
        for (int t : new int[] {1, 2, 1000}) {
          for (int elements : ROWS) {
            var step = new AdamWStep(3e-4, 0.9, beta2, 1e-8, 0.1, t, 0.37);
            assertAdamW(kernels, step, new AdamWCase(elements, 67L + elements), 0, elements);
            assertAdamW(
                kernels,
                step,
                new AdamWCase(elements, 71L + elements),
                elements / 3,
                elements - elements / 4);
          }
        }
      }
    }
  }

  private static void assertAdamW(Kernels kernels, AdamWStep step, AdamWCase c, int from, int to) {
    var before = new AdamWCase(c.elements(), 0);
    before.parameter.copyFrom(c.parameter);
    before.gradient.copyFrom(c.gradient);
    before.first.copyFrom(c.first);
    before.second.copyFrom(c.second);
    kernels.adamW(c.parameter, c.gradient, c.first, c.second, step, from, to);
    assertEquals(-1, before.gradient.mismatch(c.gradient));
    double eta = step.learningRate();
    for (int i = 0; i < c.elements(); i++) {
      double theta = at(before.parameter, i);
      double m = at(before.first, i);
      double v = at(before.second, i);
      if (i < from || i >= to) {
        assertEquals(theta, at(c.parameter, i));
        assertEquals(m, at(c.first, i));
        assertEquals(v, at(c.second, i));
        continue;
      }
      String what = kernels.getClass().getSimpleName() + " " + step + " element " + i;
      double g = at(before.gradient, i) * step.gradientScale();
      double newM = step.beta1() * m + (1 - step.beta1()) * g;
      double newV = step.beta2() * v + (1 - step.beta2()) * g * g;
      double root = Math.sqrt(newV) / Math.sqrt(1 - Math.pow(step.beta2(), step.step()));
      double rate = eta / (1 - Math.pow(step.beta1(), step.step()));
      double update = rate * newM / (root + step.epsilon());
      double termsM = Math.abs(step.beta1() * m) + Math.abs((1 - step.beta1()) * g);
      assertClose(newM, at(c.first, i), termsM, false, "m of " + what);
      assertClose(newV, at(c.second, i), newV, false, "v of " + what);
      double termsUpdate = rate * termsM / (root + step.epsilon());
      assertClose(
          theta - eta * step.weightDecay() * theta - update,
          at(c.parameter, i),
          Math.abs(theta) + termsUpdate,
          false,
          "θ of " + what);
      // θ hides a wrong update behind its own size, so the step is looked at by itself from θ = 0.
      var alone = new AdamWCase(1, 0);
      AdamWCase.set(alone.parameter, 0, 0);
      AdamWCase.set(alone.gradient, 0, at(before.gradient, i));
      AdamWCase.set(alone.first, 0, m);
      AdamWCase.set(alone.second, 0, v);
      kernels.adamW(alone.parameter, alone.gradient, alone.first, alone.second, step, 0, 1);
      assertClose(-update, at(alone.parameter, 0), 2 * termsUpdate, false, "update of " + what);
    }
  }

  @Test
  void adamWSplitDoesNotChangeABit() {
    for (int elements : ROWS) {
      var whole = new AdamWCase(elements, 73);
      VECTOR.adamW(whole.parameter, whole.gradient, whole.first, whole.second, STEP, 0, elements);
      for (int[] cuts :
          new int[][] {
            {0, elements / 2, elements}, {0, elements / 3, elements * 2 / 3, elements}
          }) {
        var parts = new AdamWCase(elements, 73);
        for (int i = 0; i + 1 < cuts.length; i++) {
          VECTOR.adamW(
              parts.parameter,
              parts.gradient,
              parts.first,
              parts.second,
              STEP,
              cuts[i],
              cuts[i + 1]);
        }
        assertEquals(-1, whole.parameter.mismatch(parts.parameter));
        assertEquals(-1, whole.first.mismatch(parts.first));
        assertEquals(-1, whole.second.mismatch(parts.second));
      }
    }
  }

  // ---------------------------------------------------------------- bfloat16

  @Test
  void everyBfloat16SurvivesTheWayThroughFloat32() {
    for (int bits = 0; bits < 1 << 16; bits++) {
      float wide = Floats.widen((short) bits);
      assertEquals(bits << 16, Float.floatToRawIntBits(wide));
      boolean notANumber = (bits & 0x7F80) == 0x7F80 && (bits & 0x7F) != 0;
      assertEquals(notANumber ? (short) (bits | 0x40) : (short) bits, Floats.round(wide));
    }
  }

  @Test
  void roundingIsToNearestAndTiesGoToEven() {
    assertRounds(0x3F80, 0x3F80_7FFF); // just below the tie
    assertRounds(0x3F80, 0x3F80_8000); // tie, even stays
    assertRounds(0x3F81, 0x3F80_8001); // just above the tie
    assertRounds(0x3F82, 0x3F81_8000); // tie, odd goes up
    assertRounds(0xBF80, 0xBF80_8000); // the same below zero
    assertRounds(0xBF82, 0xBF81_8000);
    assertRounds(0x4000, 0x3FFF_8000); // up into the next binade
    assertRounds(0x7F80, 0x7F7F_FFFF); // the largest float32 is nearer to infinity
    assertRounds(0x7F7F, 0x7F7F_7FFF);
    assertRounds(0x7F80, 0x7F80_0000);
    assertRounds(0xFF80, 0xFF80_0000);
    assertRounds(0x0000, 0x0000_8000); // subnormal tie
    assertRounds(0x0001, 0x0000_8001);
    assertRounds(0x8000, 0x8000_0001); // −0
    assertRounds(0x7FC0, 0x7F80_0001); // a NaN whose payload would be cut off stays NaN
    assertRounds(0xFFC0, 0xFF80_0001);
  }

  private static void assertRounds(int bfloat16, int float32) {
    assertEquals(
        (short) bfloat16,
        Floats.round(Float.intBitsToFloat(float32)),
        () -> Integer.toHexString(float32));
  }

  /// With z = ∞ the gate is y · 1: what is left is the vector code's load and store.
  @Test
  void vectorRoundingEqualsScalarRounding() {
    int[] tails = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    int elements = (1 << 16) * tails.length;
    float[] values = new float[elements];
    for (int i = 0; i < elements; i++) {
      values[i] = Float.intBitsToFloat(i / tails.length << 16 | tails[i % tails.length]);
    }
    try (var arena = Arena.ofConfined()) {
      var y = Floats.float32(MemorySegment.ofArray(values));
      for (int width : new int[] {1, 96}) {
        var z = poisoned(arena, elements / width, true);
        fill(z, i -> Float.POSITIVE_INFINITY);
        var out = poisoned(arena, elements, true);
        VECTOR.sigmoidGate(y, z, out, width, 0, elements / width);
        for (int i = 0; i < elements; i++) {
          float actual = out.get(i);
          float expected = Floats.widen(Floats.round(values[i]));
          assertEquals(Float.floatToIntBits(expected), Float.floatToIntBits(actual));
        }
      }
    }
  }

  // ---------------------------------------------------------------- threads

  @AfterEach
  void allThreads() {
    Threads.count(Runtime.getRuntime().availableProcessors());
  }

  @Test
  void everyItemIsGivenToOneThread() {
    for (int count : new int[] {1, 2, 3, 7}) {
      Threads.count(count);
      for (int length : new int[] {0, 1, 2, 5, 63, 257}) {
        for (int grain : new int[] {1, 8, 1000}) {
          var seen = new AtomicIntegerArray(length);
          Threads.split(
              length,
              grain,
              (from, to) -> {
                for (long i = from; i < to; i++) {
                  seen.incrementAndGet((int) i);
                }
              });
          for (int i = 0; i < length; i++) {
            assertEquals(1, seen.get(i), count + " threads, item " + i + " of " + length);
          }
        }
      }
    }
  }

  /// A kernel that fails may not leave others writing into memory that the caller then frees.
  @Test
  void failureWaitsForTheOtherThreads() {
    Threads.count(3);
    var done = new AtomicIntegerArray(3);
    var failure =
        assertThrows(
            RuntimeException.class,
            () ->
                Threads.split(
                    3,
                    1,
                    (from, _) -> {
                      if (from == 0) {
                        throw new IllegalArgumentException("the first piece");
                      }
                      sleep(50);
                      done.set((int) from, 1);
                    }));
    assertTrue(String.valueOf(failure).contains("the first piece"), failure::toString);
    assertEquals("[0, 1, 1]", done.toString());
    var other =
        assertThrows(
            RuntimeException.class,
            () ->
                Threads.split(
                    3,
                    1,
                    (from, _) -> {
                      if (from == 1) {
                        throw new IllegalArgumentException("the second piece");
                      }
                    }));
    assertTrue(other.getMessage().contains("the second piece"), other::toString);
  }

  private static void sleep(long milliseconds) {
    try {
      Thread.sleep(milliseconds);
    } catch (InterruptedException e) {
      throw new AssertionError(e);
    }
  }

  @Test
  void thoseUnderTestAreChosen() {
    boolean machineCode = MachineAttention.of(16, false) != null;
    assertEquals(
        machineCode ? MachineKernels.class : VectorKernels.class, Kernels.FASTEST.getClass());
    assertEquals(VectorKernels.class, VectorModule.kernels().getClass());
  }
}
