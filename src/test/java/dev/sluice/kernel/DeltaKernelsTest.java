package dev.sluice.kernel;

import static dev.sluice.kernel.KernelNumbers.SCALAR;
import static dev.sluice.kernel.KernelNumbers.VECTOR;
import static dev.sluice.kernel.KernelNumbers.assertClose;
import static dev.sluice.kernel.KernelNumbers.assertPaddingUntouched;
import static dev.sluice.kernel.KernelNumbers.bytes;
import static dev.sluice.kernel.KernelNumbers.crc;
import static dev.sluice.kernel.KernelNumbers.fill;
import static dev.sluice.kernel.KernelNumbers.gaussian;
import static dev.sluice.kernel.KernelNumbers.poisoned;
import static dev.sluice.kernel.KernelNumbers.sigmoid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.KernelCase.Expected;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/// The kernels of Gated DeltaNet against their formulas in float64, with the tolerance of
/// [KernelCase].
class DeltaKernelsTest {
  private static final Kernels[] BOTH = {SCALAR, VECTOR};
  private static final int[] ROWS = {1, 7, 16, 63, 64, 65};
  private static final int[] WIDTHS = {1, 7, 16, 63, 64, 65, 130};

  private static String name(Kernels kernels, Object... sizes) {
    return kernels.getClass().getSimpleName() + " " + List.of(sizes);
  }

  private static void assertAll(Expected expected, Floats actual, String what) {
    double rounding = actual.bfloat16() ? 0x1p-8 : 0;
    assertEquals(expected.values().length, actual.length(), what);
    for (int i = 0; i < expected.values().length; i++) {
      int at = i;
      assertClose(
          expected.values()[i],
          actual.get(i),
          expected.terms()[i],
          rounding,
          () -> what + " [" + at + "]");
    }
    assertPaddingUntouched(actual, what);
  }

  private static Floats copy(Arena arena, Floats of) {
    return fill(poisoned(arena, of.length(), of.bfloat16()), of::get);
  }

  // ---------------------------------------------------------------- the convolution

  private record Convolved(
      Convolution sizes, Floats x, @Nullable Floats history, Floats weight, Floats dOut) {
    static Convolved of(Arena arena, Convolution sizes, boolean continued, boolean bfloat16) {
      var random = new SplittableRandom(19);
      long elements = sizes.batch() * sizes.tokens() * sizes.channels();
      long earlier = sizes.batch() * (sizes.width() - 1) * sizes.channels();
      return new Convolved(
          sizes,
          gaussian(arena, random, elements, bfloat16),
          continued ? gaussian(arena, random, earlier, bfloat16) : null,
          gaussian(arena, random, (long) sizes.channels() * sizes.width(), false),
          gaussian(arena, random, elements, bfloat16));
    }

    /// Channel c of token t of a sequence, which is negative before the first.
    private double at(long b, long t, int c) {
      int earlier = sizes.width() - 1;
      if (t >= 0) {
        return x.get((b * sizes.tokens() + t) * sizes.channels() + c);
      }
      return history == null ? 0 : history.get((b * earlier + earlier + t) * sizes.channels() + c);
    }

    /// Whether a token's result is made of an earlier one.
    private boolean reaches(long b, long t, long earlier) {
      var starts = sizes.starts();
      return starts == null || earlier >= starts[(int) (b * sizes.tokens() + t)];
    }

    /// What out, dx and the growth of dWeight are to be.
    private List<Expected> expected() {
      int width = sizes.width();
      var out = new Expected((int) x.length());
      var dx = new Expected((int) x.length());
      var dWeight = new Expected((int) weight.length());
      for (long b = 0; b < sizes.batch(); b++) {
        for (long t = 0; t < sizes.tokens(); t++) {
          for (int c = 0; c < sizes.channels(); c++) {
            double u = 0;
            double terms = 0;
            for (int i = 0; i < width; i++) {
              if (!reaches(b, t, t - width + 1 + i)) {
                continue;
              }
              double product = weight.get((long) c * width + i) * at(b, t - width + 1 + i, c);
              u += product;
              terms += Math.abs(product);
            }
            int place = (int) ((b * sizes.tokens() + t) * sizes.channels() + c);
            out.set(place, u * sigmoid(u), 1.1 * terms);
            // its slope is at most 1.1, and changes by at most 0.5 per unit of u
            double du = dOut.get(place) * sigmoid(u) * (1 + u * sigmoid(-u));
            double ofDu = Math.abs(dOut.get(place)) * (1.1 + terms);
            for (int i = 0; i < width; i++) {
              if (!reaches(b, t, t - width + 1 + i)) {
                continue;
              }
              int tap = c * width + i;
              double earlier = at(b, t - width + 1 + i, c);
              dWeight.add(tap, du * earlier, ofDu * Math.abs(earlier));
              if (t - width + 1 + i >= 0) {
                int to = place - (width - 1 - i) * sizes.channels();
                dx.add(to, du * weight.get(tap), ofDu * Math.abs(weight.get(tap)));
              }
            }
          }
        }
      }
      return List.of(out, dx, dWeight);
    }

    /// Out, dx and dWeight, which has been 1, of the channels between the cuts.
    private List<Floats> run(Arena arena, Kernels kernels, int... cuts) {
      var out = poisoned(arena, x.length(), x.bfloat16());
      var dx = poisoned(arena, x.length(), x.bfloat16());
      var dWeight = fill(poisoned(arena, weight.length(), false), _ -> 1);
      for (int i = 0; i + 1 < cuts.length; i++) {
        kernels.causalConvolution(x, history, weight, out, sizes, cuts[i], cuts[i + 1]);
        kernels.causalConvolutionBackward(
            dOut, x, history, weight, dx, dWeight, sizes, cuts[i], cuts[i + 1]);
      }
      return List.of(out, dx, dWeight);
    }
  }

  private static List<Convolution> convolutions() {
    var all = new ArrayList<Convolution>();
    for (int width : new int[] {1, 2, 4, 5}) {
      for (int tokens : new int[] {1, 3, 7, 130}) {
        all.add(new Convolution(2, tokens, 17, width));
      }
    }
    for (int width : new int[] {1, 2, 5}) { // documents of four, one and two tokens, and of seven
      all.add(
          new Convolution(
              2, 7, 33, width, new int[] {0, 0, 0, 0, 4, 5, 5, /* */ 0, 0, 0, 0, 0, 0, 0}));
    }
    for (int channels : new int[] {1, 16, 63, 255, 257, 600}) {
      all.add(new Convolution(1, 5, channels, 4));
    }
    return all;
  }

  /// One token by [Kernels#convolutionStep] is what [Kernels#causalConvolution] makes of it,
  /// wherever the channels are cut.
  @Test
  void aStepOfTheConvolutionIsTheConvolution() {
    for (var kernels : BOTH) {
      for (int width : new int[] {1, 2, 4, 5}) {
        for (int channels : new int[] {1, 15, 16, 33, 128, 257}) {
          var random = new SplittableRandom(channels + width);
          try (var arena = Arena.ofConfined()) {
            var sizes = new Convolution(1, 1, channels, width);
            int kept = (width - 1) * channels;
            var x = fill(poisoned(arena, channels, false), _ -> (float) random.nextDouble(-3, 3));
            var weight =
                fill(
                    poisoned(arena, width * channels, false),
                    _ -> (float) random.nextDouble(-1, 1));
            var history = fill(poisoned(arena, kept, false), _ -> (float) random.nextDouble(-3, 3));
            var turned = poisoned(arena, width * channels, false);
            for (int i = 0; i < width * channels; i++) {
              turned.set((long) (i % width) * channels + i / width, weight.get(i));
            }
            var expected = poisoned(arena, channels, false);
            kernels.causalConvolution(x, history, weight, expected, sizes, 0, channels);
            var later = new float[kept];
            for (int i = 0; i < kept; i++) {
              later[i] =
                  i < kept - channels ? history.get(i + channels) : x.get(i - kept + channels);
            }
            var out = poisoned(arena, channels, false);
            int[] cuts = {0, channels / 3, channels / 3, channels};
            for (int i = 0; i + 1 < cuts.length; i++) {
              kernels.convolutionStep(
                  x.memory(),
                  history.memory(),
                  turned.memory(),
                  out.memory(),
                  channels,
                  width,
                  cuts[i],
                  cuts[i + 1]);
            }
            String name = kernels.getClass().getSimpleName() + " " + sizes;
            for (int c = 0; c < channels; c++) {
              assertEquals(expected.get(c), out.get(c), name);
            }
            for (int i = 0; i < kept; i++) {
              assertEquals(later[i], history.get(i), name);
            }
          }
        }
      }
    }
  }

  @Test
  void convolutionFollowsTheFormula() {
    for (var sizes : convolutions()) {
      for (boolean continued : new boolean[] {false, true}) {
        for (boolean bfloat16 : new boolean[] {false, true}) {
          try (var arena = Arena.ofConfined()) {
            var convolved = Convolved.of(arena, sizes, continued, bfloat16);
            var expected = convolved.expected();
            for (int i = 0; i < expected.getLast().values().length; i++) {
              expected.getLast().add(i, 1, 1);
            }
            for (var kernels : BOTH) {
              var results = convolved.run(arena, kernels, 0, sizes.channels());
              for (int i = 0; i < results.size(); i++) {
                assertAll(expected.get(i), results.get(i), name(kernels, sizes, continued, i));
              }
            }
          }
        }
      }
    }
  }

  @Test
  void convolutionIsTheSameInPiecesAndWritesItsChannelsOnly() {
    try (var arena = Arena.ofConfined()) {
      var sizes = new Convolution(2, 9, 300, 4);
      for (boolean bfloat16 : new boolean[] {false, true}) {
        var convolved = Convolved.of(arena, sizes, true, bfloat16);
        for (var kernels : BOTH) {
          var whole = convolved.run(arena, kernels, 0, 300);
          var pieces = convolved.run(arena, kernels, 0, 7, 64, 290, 300);
          var part = convolved.run(arena, kernels, 64, 290);
          for (int i = 0; i < 3; i++) {
            assertArrayEquals(bytes(whole.get(i)), bytes(pieces.get(i)), name(kernels, i));
            for (int at = 0; at < part.get(i).length(); at++) {
              int channel = i == 2 ? at / 4 : at % 300;
              boolean own = channel >= 64 && channel < 290;
              float otherwise = i == 2 ? 1 : Float.NaN;
              assertEquals(own ? whole.get(i).get(at) : otherwise, part.get(i).get(at));
            }
          }
        }
      }
    }
  }

  // ---------------------------------------------------------------- a chunk

  private record Chunk(int n, double[] decays, float[] rates, Floats scores, Floats products) {
    /// @param strength of the decay at each token
    static Chunk of(Arena arena, int n, double strength) {
      var random = new SplittableRandom(23);
      double[] decays = new double[n];
      float[] rates = new float[n];
      double sum = 0;
      for (int i = 0; i < n; i++) {
        sum -= strength * random.nextDouble();
        decays[i] = sum;
        rates[i] = i % 5 == 0 ? 0 : (float) random.nextDouble();
      }
      return new Chunk(
          n,
          decays,
          rates,
          gaussian(arena, random, 2L * n * n, false),
          gaussian(arena, random, 2L * n * n, false));
    }

    private double factor(int i, int j) {
      double decay = decays[i] - decays[j];
      return decay < -48 * Math.log(2) ? 0 : Math.exp(decay);
    }

    /// The exponent is rounded twice, and the factor is off by as much of itself.
    private double rounded(int i, int j) {
      return 1 + decays[j] - decays[i];
    }
  }

  private static final double[] STRENGTHS = {0, 0.1, 3, 100};

  @Test
  void scoresFollowTheFormula() {
    for (int n : ROWS) {
      for (double strength : STRENGTHS) {
        try (var arena = Arena.ofConfined()) {
          var chunk = Chunk.of(arena, n, strength);
          var system = new Expected(n * n);
          var weights = new Expected(n * n);
          for (int i = 0; i < n; i++) {
            for (int j = 0; j <= i; j++) {
              double weight = chunk.scores.get((long) (n + i) * n + j) * chunk.factor(i, j);
              weights.set(i * n + j, weight, Math.abs(weight) * chunk.rounded(i, j));
              if (j < i) {
                double score = chunk.scores.get((long) i * n + j) * chunk.factor(i, j);
                double value = chunk.rates[i] * score;
                system.set(i * n + j, value, Math.abs(value) * chunk.rounded(i, j));
              }
            }
          }
          for (var kernels : BOTH) {
            var actualSystem = poisoned(arena, (long) n * n, false);
            var actualWeights = poisoned(arena, (long) n * n, false);
            kernels.deltaScores(
                chunk.scores.memory(),
                chunk.decays,
                chunk.rates,
                actualSystem.memory(),
                actualWeights.memory(),
                n);
            assertAll(system, actualSystem, name(kernels, n, strength, "system"));
            assertAll(weights, actualWeights, name(kernels, n, strength, "weights"));
          }
        }
      }
    }
  }

  @Test
  void gradientOfScoresFollowsTheFormula() {
    for (int n : ROWS) {
      for (double strength : STRENGTHS) {
        try (var arena = Arena.ofConfined()) {
          var chunk = Chunk.of(arena, n, strength);
          var before = gaussian(arena, new SplittableRandom(29), 2L * n * n, false);
          var dScores = new Expected(2 * n * n);
          var dDecays = new Expected(n);
          var dRates = new Expected(n);
          for (int i = 0; i < 2 * n * n; i++) {
            dScores.set(i, before.get(i), Math.abs(before.get(i)));
          }
          for (int i = 0; i < n; i++) {
            dDecays.add(i, 2, 2);
            dRates.add(i, 3, 3);
            for (int j = 0; j <= i; j++) {
              int key = i * n + j;
              int query = (n + i) * n + j;
              double more = chunk.rounded(i, j);
              double dWeight = chunk.products.get(query) * chunk.factor(i, j);
              dScores.add(query, dWeight, more * Math.abs(dWeight));
              if (j < i) {
                double d = -chunk.products.get(key) * chunk.factor(i, j);
                double ofRate = d * chunk.scores.get(key);
                dScores.add(key, d * chunk.rates[i], more * Math.abs(d));
                dRates.add(i, ofRate, more * Math.abs(ofRate));
                double first = ofRate * chunk.rates[i];
                double second = dWeight * chunk.scores.get(query);
                double terms = more * (Math.abs(first) + Math.abs(second));
                dDecays.add(i, first + second, terms);
                dDecays.add(j, -first - second, terms);
              }
            }
          }
          for (var kernels : BOTH) {
            var actual = copy(arena, before);
            double[] decays = filled(n, 2);
            double[] rates = filled(n, 3);
            kernels.deltaScoresBackward(
                chunk.scores.memory(),
                chunk.products.memory(),
                chunk.decays,
                chunk.rates,
                actual.memory(),
                decays,
                rates,
                n);
            assertAll(dScores, actual, name(kernels, n, strength, "dScores"));
            assertAll(dDecays, floats(arena, decays), name(kernels, n, strength, "dDecays"));
            assertAll(dRates, floats(arena, rates), name(kernels, n, strength, "dRates"));
          }
        }
      }
    }
  }

  private static double[] filled(int count, double value) {
    double[] made = new double[count];
    java.util.Arrays.fill(made, value);
    return made;
  }

  private static Floats floats(Arena arena, double[] values) {
    return fill(poisoned(arena, values.length, false), i -> (float) values[i]);
  }

  private static Floats strictlyLower(Arena arena, SplittableRandom random, int n) {
    return fill(
        poisoned(arena, (long) n * n, false),
        i -> i % n < i / n ? (float) (random.nextGaussian() / Math.sqrt(n)) : 0);
  }

  @Test
  void triangularSystemsAreSolved() {
    for (int n : ROWS) {
      for (int width : WIDTHS) {
        for (boolean transposed : new boolean[] {false, true}) {
          try (var arena = Arena.ofConfined()) {
            var random = new SplittableRandom(31);
            var lower = strictlyLower(arena, random, n);
            var x = gaussian(arena, random, (long) n * width, false);
            var expected = new Expected(n * width);
            for (int step = 0; step < n; step++) {
              int i = transposed ? n - 1 - step : step;
              for (int c = 0; c < width; c++) {
                expected.set(i * width + c, x.get((long) i * width + c), 1);
                for (int before = 0; before < step; before++) {
                  int j = transposed ? n - 1 - before : before;
                  double factor = lower.get(transposed ? (long) j * n + i : (long) i * n + j);
                  expected.add(
                      i * width + c,
                      -factor * expected.values()[j * width + c],
                      Math.abs(factor) * expected.terms()[j * width + c]);
                }
              }
            }
            for (var kernels : BOTH) {
              var actual = copy(arena, x);
              kernels.solveUnitTriangle(lower.memory(), actual.memory(), transposed, n, width);
              assertAll(expected, actual, name(kernels, n, width, transposed));
            }
          }
        }
      }
    }
  }

  @Test
  void scaledRowsAreAddedAndTheirDotsTaken() {
    for (int rows : new int[] {1, 7, 65}) {
      for (int width : WIDTHS) {
        try (var arena = Arena.ofConfined()) {
          var random = new SplittableRandom(37);
          var x = gaussian(arena, random, (long) rows * width, false);
          var base = gaussian(arena, random, (long) rows * width, false);
          var sums = gaussian(arena, random, (long) rows * width, false);
          var factors = gaussian(arena, random, rows, false);
          var expected = new Expected(rows * width);
          var dots = new Expected(rows);
          for (int i = 0; i < rows * width; i++) {
            double scaled = (double) factors.get(i / width) * x.get(i);
            expected.set(i, sums.get(i) + scaled, Math.abs(sums.get(i)) + Math.abs(scaled));
            dots.add(i / width, scaled * base.get(i), Math.abs(scaled * base.get(i)));
          }
          for (var kernels : BOTH) {
            var actual = copy(arena, sums);
            var actualDots = poisoned(arena, rows, false);
            kernels.addScaledRows(
                x.memory(),
                factors.memory(),
                base.memory(),
                actual.memory(),
                actualDots.memory(),
                rows,
                width);
            assertAll(expected, actual, name(kernels, rows, width, "sums"));
            assertAll(dots, actualDots, name(kernels, rows, width, "dots"));
          }
        }
      }
    }
  }

  // ---------------------------------------------------------------- one token

  @Test
  void stepFollowsTheFormula() {
    for (int keyWidth : new int[] {1, 7, 16, 65}) {
      for (int valueWidth : WIDTHS) {
        for (boolean bfloat16 : new boolean[] {false, true}) {
          for (float[] rates : new float[][] {{0.9f, 0.7f}, {0, 1}, {1, 0}}) {
            assertStep(keyWidth, valueWidth, bfloat16, rates[0], rates[1]);
          }
        }
      }
    }
  }

  private static void assertStep(
      int keyWidth, int valueWidth, boolean bfloat16, float decay, float rate) {
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(41);
      var key = gaussian(arena, random, keyWidth, false);
      var query = gaussian(arena, random, keyWidth, false);
      var value = gaussian(arena, random, valueWidth, bfloat16);
      var before = gaussian(arena, random, (long) keyWidth * valueWidth, false);
      var state = new Expected(keyWidth * valueWidth);
      var out = new Expected(valueWidth);
      for (int j = 0; j < valueWidth; j++) {
        double change = value.get(j);
        double terms = Math.abs(change);
        for (int i = 0; i < keyWidth; i++) {
          double read = (double) decay * before.get((long) i * valueWidth + j) * key.get(i);
          change -= read;
          terms += Math.abs(read);
        }
        for (int i = 0; i < keyWidth; i++) {
          int at = i * valueWidth + j;
          double kept = (double) decay * before.get(at);
          double written = rate * change * key.get(i);
          double ofWritten = rate * terms * Math.abs(key.get(i));
          state.set(at, kept + written, Math.abs(kept) + ofWritten);
          out.add(
              j,
              query.get(i) * (kept + written),
              Math.abs(query.get(i)) * (Math.abs(kept) + ofWritten));
        }
      }
      for (var kernels : BOTH) {
        var actual = copy(arena, before);
        var y = poisoned(arena, valueWidth, bfloat16);
        kernels.deltaStep(
            key.memory(),
            query.memory(),
            value,
            decay,
            rate,
            actual.memory(),
            y,
            keyWidth,
            valueWidth);
        String what = name(kernels, keyWidth, valueWidth, bfloat16, decay, rate);
        assertAll(state, actual, what + " state");
        assertAll(out, y, what + " out");
      }
    }
  }

  // ---------------------------------------------------------------- bits

  /// What is not a number in a score of later keys does not reach the results, in one that is seen
  /// it does.
  @Test
  void notANumberGoesWhereItIsSeen() {
    try (var arena = Arena.ofConfined()) {
      for (var kernels : BOTH) {
        var chunk = Chunk.of(arena, 16, 0.1);
        chunk.scores.set(3 * 16 + 9, Float.NaN);
        chunk.scores.set((16 + 4) * 16 + 2, Float.NaN);
        var system = poisoned(arena, 256, false);
        var weights = poisoned(arena, 256, false);
        kernels.deltaScores(
            chunk.scores.memory(),
            chunk.decays,
            chunk.rates,
            system.memory(),
            weights.memory(),
            16);
        for (int i = 0; i < 256; i++) {
          assertTrue(Float.isFinite(system.get(i)));
          assertEquals(i == 4 * 16 + 2, Float.isNaN(weights.get(i)));
        }
      }
    }
  }

  /// A checksum over what the vector kernels write.
  static String digest() {
    var checksum = new StringBuilder();
    try (var arena = Arena.ofConfined()) {
      var sizes = new Convolution(1, 5, 33, 4);
      for (var result : Convolved.of(arena, sizes, true, true).run(arena, VECTOR, 0, 33)) {
        checksum.append(crc(bytes(result))).append(' ');
      }
      int n = 33;
      var random = new SplittableRandom(43);
      var chunk = Chunk.of(arena, n, 0.1);
      var system = poisoned(arena, (long) n * n, false);
      var weights = poisoned(arena, (long) n * n, false);
      var dScores = fill(poisoned(arena, 2L * n * n, false), _ -> 1);
      double[] dDecays = new double[n];
      double[] dRates = new double[n];
      VECTOR.deltaScores(
          chunk.scores.memory(), chunk.decays, chunk.rates, system.memory(), weights.memory(), n);
      VECTOR.deltaScoresBackward(
          chunk.scores.memory(),
          chunk.products.memory(),
          chunk.decays,
          chunk.rates,
          dScores.memory(),
          dDecays,
          dRates,
          n);
      var x = gaussian(arena, random, 70L * n, false);
      var lower = strictlyLower(arena, random, n);
      VECTOR.solveUnitTriangle(lower.memory(), x.memory(), false, n, 70);
      VECTOR.solveUnitTriangle(lower.memory(), x.memory(), true, n, 70);
      var sums = gaussian(arena, random, 70L * n, false);
      var dots = poisoned(arena, n, false);
      var factors = gaussian(arena, random, n, false);
      VECTOR.addScaledRows(
          x.memory(), factors.memory(), x.memory(), sums.memory(), dots.memory(), n, 70);
      var y = poisoned(arena, 70, true);
      VECTOR.deltaStep(factors.memory(), dots.memory(), sums, 0.9f, 0.5f, x.memory(), y, n, 70);
      for (var result :
          List.of(
              system,
              weights,
              dScores,
              floats(arena, dDecays),
              floats(arena, dRates),
              x,
              sums,
              dots,
              y)) {
        checksum.append(crc(bytes(result))).append(' ');
      }
    }
    return checksum.toString();
  }
}
