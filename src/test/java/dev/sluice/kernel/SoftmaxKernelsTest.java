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
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.kernel.KernelNumbers.Values;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;

/// Attention's softmax, tile after tile, against the softmax of whole rows in float64.
///
/// Tolerance as in [KernelCase]; a rounded exponent changes its power by as much as the exponent
/// itself, so that what an exponent is the difference of counts among the terms.
class SoftmaxKernelsTest {
  private static final Kernels[] BOTH = {SCALAR, VECTOR};

  /// Scores of the rows of some tokens, in tiles from left to right.
  ///
  /// @param tokens whose queries are the rows
  /// @param group rows of a token
  /// @param width columns of a tile
  /// @param before tiles before the one that holds the first token's own column
  /// @param window columns that a token sees, its own the last
  /// @param starts the first column that each token may see; null for all
  private record Strip(
      List<Floats> scores,
      int tokens,
      int group,
      int width,
      int before,
      double scale,
      int window,
      int @Nullable [] starts) {
    static final float UNSEEN = Float.NaN;

    /// @param values by number of the score in its row, of those that the row sees
    static Strip of(
        Arena arena, int tokens, int group, int width, int before, double scale, Values values) {
      return of(arena, tokens, group, width, before, scale, 1 << 20, null, values);
    }

    static Strip of(
        Arena arena,
        int tokens,
        int group,
        int width,
        int before,
        double scale,
        int window,
        int @Nullable [] starts,
        Values values) {
      var tiles = new ArrayList<Floats>();
      var strip = new Strip(tiles, tokens, group, width, before, scale, window, starts);
      for (int t = 0; t <= before; t++) {
        int first = t * width;
        tiles.add(
            fill(
                poisoned(arena, (long) strip.rows() * width, false),
                i ->
                    strip.sees(i / width, first + i % width)
                        ? values.at(first + i % width)
                        : UNSEEN));
      }
      return strip;
    }

    int rows() {
      return tokens * group;
    }

    CausalTile tile(int t) {
      int first = t * width;
      int[] within =
          starts == null ? null : Arrays.stream(starts).map(start -> start - first).toArray();
      return new CausalTile(
          rows(), width, 1L + (long) (before - t) * width, window, group, scale, within);
    }

    /// Whether row i sees a column of all tiles' columns.
    boolean sees(int i, int column) {
      int own = before * width + i / group;
      return column <= own
          && column > own - window
          && (starts == null || column >= starts[i / group]);
    }

    int columns() {
      return (before + 1) * width;
    }

    double score(int i, int column) {
      return scale * scores.get(column / width).get((long) i * width + column % width);
    }

    double largest(int i, int tiles) {
      double largest = Double.NEGATIVE_INFINITY;
      for (int j = 0; j < tiles * width; j++) {
        largest = sees(i, j) ? Math.max(largest, score(i, j)) : largest;
      }
      return largest;
    }

    double logSumExp(int i) {
      double largest = largest(i, before + 1);
      double sum = 0;
      for (int j = 0; j < columns(); j++) {
        sum += sees(i, j) ? Math.exp(score(i, j) - largest) : 0;
      }
      return largest + Math.log(sum);
    }

    Softmax softmax(Arena arena, Kernels kernels, boolean bfloat16) {
      var maxima = fill(poisoned(arena, rows(), false), _ -> Float.NEGATIVE_INFINITY);
      var sums = fill(poisoned(arena, rows(), false), _ -> 0);
      var weights = new ArrayList<Floats>();
      var factors = new ArrayList<Floats>();
      for (int t = 0; t <= before; t++) {
        weights.add(poisoned(arena, (long) rows() * width, bfloat16));
        factors.add(poisoned(arena, rows(), false));
        kernels.causalSoftmax(
            tile(t),
            scores.get(t).memory(),
            weights.getLast(),
            maxima.memory(),
            sums.memory(),
            factors.getLast().memory());
      }
      return new Softmax(weights, factors, maxima, sums);
    }

    @Override
    public String toString() {
      return "%d tokens of %d, %d tiles of %d, window %d, starts %s"
          .formatted(tokens, group, before + 1, width, window, Arrays.toString(starts));
    }
  }

  /// What a strip's tiles give.
  private record Softmax(List<Floats> weights, List<Floats> factors, Floats maxima, Floats sums) {
    /// What a weight of tile t is multiplied by in the end.
    double share(int i, int t) {
      double share = 1 / sums.get(i);
      for (int later = t + 1; later < factors.size(); later++) {
        share *= factors.get(later).get(i);
      }
      return share;
    }
  }

  /// Of documents of one token and of many, the first before the first tile's end.
  private static int[] starts(int tokens, int width, int before) {
    int[] starts = new int[tokens];
    int start = before * width / 2;
    for (int t = 0; t < tokens; t++) {
      start = t % 7 == 3 || t % 7 == 4 ? before * width + t : start;
      starts[t] = start;
    }
    return starts;
  }

  private static void everyStrip(Consumer<Strip> test) {
    double[] scales = {1, 1 / Math.sqrt(10), 0.125};
    for (int width : new int[] {1, 7, 16, 63, 65, 130}) {
      for (int tokens : new int[] {1, (width + 1) / 2, width}) {
        for (int group : new int[] {1, 3, 8}) {
          for (int before : new int[] {0, 1, 3}) {
            if (tokens * group > 200) {
              continue;
            }
            double scale = scales[(width + group + before) % scales.length];
            int[] windows = {1, 2, Math.max(1, width - 1), width, width + 1, 2 * width + 5};
            int one = windows[(width + tokens + group + before) % windows.length];
            for (int kind = 0; kind < 3; kind++) {
              int window = kind == 1 ? one : 1 << 20;
              int[] starts = kind == 2 ? starts(tokens, width, before) : null;
              try (var arena = Arena.ofConfined()) {
                var random = new SplittableRandom(31L * width + tokens);
                test.accept(
                    Strip.of(
                        arena,
                        tokens,
                        group,
                        width,
                        before,
                        scale,
                        window,
                        starts,
                        _ -> (float) (5 * random.nextGaussian())));
              }
            }
          }
        }
      }
    }
  }

  /// Maxima, sums, factors and weights together are the softmax of the whole row, and columns that
  /// a row does not see have no weight.
  private static void assertSoftmax(Strip strip, Softmax actual, double rounding, String what) {
    for (int i = 0; i < strip.rows(); i++) {
      String row = what + " " + strip + " row " + i;
      double largest = strip.largest(i, strip.before + 1);
      double logSumExp = strip.logSumExp(i);
      double sum = Math.exp(logSumExp - largest);
      double exponents = 0;
      for (int j = 0; j < strip.columns(); j++) {
        exponents = Math.max(exponents, strip.sees(i, j) ? Math.abs(strip.score(i, j)) : 0);
      }
      assertClose(largest, actual.maxima.get(i), Math.abs(largest), 0, () -> "maximum " + row);
      assertClose(sum, actual.sums.get(i), sum * (1 + 2 * exponents), 0, () -> "sum " + row);
      for (int t = 0; t <= strip.before; t++) {
        boolean none = Double.isInfinite(strip.largest(i, t + 1)); // has been seen yet
        double factor = none ? 1 : Math.exp(strip.largest(i, t) - strip.largest(i, t + 1));
        assertClose(
            factor,
            actual.factors.get(t).get(i),
            factor * (1 + 2 * exponents),
            0,
            () -> "factor " + row);
      }
      for (int j = 0; j < strip.columns(); j++) {
        String at = row + " column " + j;
        double weight = actual.weights.get(j / strip.width).get(at(strip, i, j));
        if (!strip.sees(i, j)) {
          assertEquals(0, weight, at);
          continue;
        }
        double p = Math.exp(strip.score(i, j) - logSumExp);
        double terms = p * (1 + strip.before) * (1 + 2 * exponents);
        assertClose(p, weight * actual.share(i, j / strip.width), terms, rounding, () -> at);
      }
    }
    for (var tile : actual.weights) {
      assertPaddingUntouched(tile, what + " weights");
    }
    for (var tile : actual.factors) {
      assertPaddingUntouched(tile, what + " factors");
    }
    assertPaddingUntouched(actual.maxima, what + " maxima");
    assertPaddingUntouched(actual.sums, what + " sums");
  }

  private static long at(Strip strip, int i, int column) {
    return (long) i * strip.width + column % strip.width;
  }

  @Test
  void tilesTogetherAreTheSoftmaxOfTheRow() {
    everyStrip(
        strip -> {
          try (var arena = Arena.ofConfined()) {
            for (var kernels : BOTH) {
              String what = kernels.getClass().getSimpleName();
              assertSoftmax(strip, strip.softmax(arena, kernels, false), 0, what);
              assertSoftmax(strip, strip.softmax(arena, kernels, true), 0x1p-8, what);
            }
          }
        });
  }

  /// By every part of the result, within the sum of what both may be off.
  @Test
  void vectorSoftmaxEqualsTheDefinition() {
    everyStrip(
        strip -> {
          try (var arena = Arena.ofConfined()) {
            var expected = strip.softmax(arena, SCALAR, false);
            var actual = strip.softmax(arena, VECTOR, false);
            for (int i = 0; i < strip.rows(); i++) {
              String row = strip + " row " + i;
              double m = expected.maxima.get(i);
              assertEquals(m, actual.maxima.get(i), row);
              double sum = expected.sums.get(i);
              assertClose(sum, actual.sums.get(i), sum * (1 + 2 * Math.abs(m)), 0, () -> row);
              for (int t = 0; t <= strip.before; t++) {
                assertEquals(expected.factors.get(t).get(i), actual.factors.get(t).get(i), row);
              }
              for (int j = 0; j < strip.columns(); j++) {
                double weight = expected.weights.get(j / strip.width).get(at(strip, i, j));
                double score = strip.sees(i, j) ? Math.abs(strip.score(i, j)) : 0;
                assertClose(
                    weight,
                    actual.weights.get(j / strip.width).get(at(strip, i, j)),
                    weight * (1 + score + Math.abs(m)),
                    0,
                    () -> row);
              }
            }
          }
        });
  }

  /// Scores that leave one column all the weight, and scores that leave all columns the same.
  @Test
  void extremeScores() {
    for (double scale : new double[] {0.125, 1 / Math.sqrt(10), 1 / Math.sqrt(6)}) {
      for (float size : new float[] {1e6f, 1e8f, 1e10f, 1e20f, 1e30f, 1e38f}) {
        for (float sign : new float[] {1, -1}) {
          assertOneTakesAll(scale, j -> sign * size * (1 + (j * 37 % 65) / 65f));
        }
      }
      assertOneTakesAll(scale, j -> j == 3 ? 0 : Float.NEGATIVE_INFINITY);
      assertOneTakesAll(scale, j -> j == 3 ? Float.MAX_VALUE : -Float.MAX_VALUE);
      for (float same : new float[] {0, 1e-38f, -1e30f, 1e30f, Float.MAX_VALUE}) {
        try (var arena = Arena.ofConfined()) {
          var strip = Strip.of(arena, 5, 2, 65, 2, scale, _ -> same);
          for (var kernels : BOTH) {
            var actual = strip.softmax(arena, kernels, false);
            for (int i = 0; i < strip.rows(); i++) {
              int seen = 2 * 65 + 1 + i / 2;
              assertEquals(seen, actual.sums.get(i), 0, () -> same + " " + kernels.getClass());
              assertEquals(1, actual.weights.getFirst().get(at(strip, i, 64)));
              assertEquals(1, actual.factors.getLast().get(i));
            }
          }
        }
      }
    }
  }

  /// @param scores of which one is so much larger than all others that it takes all weight
  private static void assertOneTakesAll(double scale, Values scores) {
    try (var arena = Arena.ofConfined()) {
      var strip = Strip.of(arena, 65, 1, 65, 0, scale, scores);
      for (var kernels : BOTH) {
        for (boolean bfloat16 : new boolean[] {false, true}) {
          var actual = strip.softmax(arena, kernels, bfloat16);
          var logSumExp = poisoned(arena, 65, false);
          int best = 0;
          for (int i = 3; i < 65; i++) {
            for (int j = 0; j <= i; j++) {
              best = scores.at(j) > scores.at(best) ? j : best;
            }
            String what = kernels.getClass().getSimpleName() + " " + scores.at(best) + " row " + i;
            assertEquals(1, actual.sums.get(i), what);
            for (int j = 0; j < 65; j++) {
              double weight = actual.weights.getFirst().get(at(strip, i, j));
              assertEquals(j == best ? 1 : 0, weight, 0, what);
            }
            logSumExp.set(i, actual.maxima.get(i));
          }
          var zeros = fill(poisoned(arena, 65 * 65, false), _ -> 0);
          var weights = poisoned(arena, 65 * 65, bfloat16);
          backward(kernels, strip, 0, zeros, logSumExp, zeros, weights, zeros);
          for (int i = 3; i < 65; i++) {
            for (int j = 0; j < 65; j++) {
              float before = actual.weights.getFirst().get(at(strip, i, j));
              assertEquals(before, weights.get(at(strip, i, j)), 0, "backward " + scores.at(best));
            }
          }
        }
      }
    }
  }

  private static void backward(
      Kernels kernels,
      Strip strip,
      int tile,
      Floats dWeights,
      Floats logSumExp,
      Floats delta,
      Floats weights,
      Floats dScores) {
    kernels.causalSoftmaxBackward(
        strip.tile(tile),
        strip.scores.get(tile).memory(),
        dWeights.memory(),
        logSumExp.memory(),
        delta.memory(),
        weights,
        dScores);
  }

  @Test
  void notANumberPropagates() {
    try (var arena = Arena.ofConfined()) {
      for (int column : new int[] {0, 15, 16, 64, 65, 129}) {
        var strip = Strip.of(arena, 7, 3, 65, 2, 0.3, j -> j == column ? Float.NaN : j % 5);
        for (var kernels : BOTH) {
          for (boolean bfloat16 : new boolean[] {false, true}) {
            var actual = strip.softmax(arena, kernels, bfloat16);
            for (int i = 0; i < strip.rows(); i++) {
              assertTrue(Float.isNaN(actual.sums.get(i)));
              assertTrue(
                  Float.isNaN(actual.weights.get(column / 65).get(at(strip, i, column))),
                  () -> column + " " + kernels.getClass());
            }
          }
        }
      }
      var random = new SplittableRandom(3);
      var strip = Strip.of(arena, 7, 3, 65, 0, 0.3, j -> j == 0 ? Float.NaN : 1);
      var dWeights = gaussian(arena, random, 21 * 65, false);
      dWeights.set(3 * 65 + 1, Float.NaN); // of the first row with a second column
      var sums = fill(poisoned(arena, 21, false), i -> i == 8 ? Float.NaN : 5);
      var delta = fill(poisoned(arena, 21, false), i -> i == 16 ? Float.NaN : 1);
      for (var kernels : BOTH) {
        var weights = poisoned(arena, 21 * 65, false);
        var dScores = poisoned(arena, 21 * 65, false);
        backward(kernels, strip, 0, dWeights, sums, delta, weights, dScores);
        for (int i = 0; i < 21; i++) {
          for (int j = 0; j < 65; j++) {
            boolean seen = j <= i / 3;
            boolean wrongWeight = seen && (j == 0 || i == 8);
            boolean wrong = wrongWeight || (seen && i == 16) || (i == 3 && j == 1);
            assertEquals(wrongWeight, Float.isNaN(weights.get(i * 65L + j)));
            assertEquals(wrong, Float.isNaN(dScores.get(i * 65L + j)));
          }
        }
      }
    }
  }

  @Test
  void backwardFollowsTheFormulaAndVectorEqualsTheDefinition() {
    everyStrip(
        strip -> {
          backwardFollowsTheFormula(strip, strip.before);
          if (strip.before > 0) {
            backwardFollowsTheFormula(strip, strip.before - 1);
          }
        });
  }

  private static void backwardFollowsTheFormula(Strip strip, int tile) {
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(strip.width);
      int rows = strip.rows();
      // what no row sees is not read
      var dWeights =
          fill(
              poisoned(arena, (long) rows * strip.width, false),
              i ->
                  strip.sees(i / strip.width, tile * strip.width + i % strip.width)
                      ? (float) random.nextGaussian()
                      : Strip.UNSEEN);
      var delta = gaussian(arena, random, rows, false);
      var sums = fill(poisoned(arena, rows, false), i -> (float) strip.logSumExp(i));
      for (boolean bfloat16 : new boolean[] {false, true}) {
        var results = new ArrayList<Floats>();
        for (var kernels : BOTH) {
          var weights = poisoned(arena, (long) rows * strip.width, bfloat16);
          var dScores = poisoned(arena, (long) rows * strip.width, bfloat16);
          backward(kernels, strip, tile, dWeights, sums, delta, weights, dScores);
          assertBackward(strip, tile, dWeights, sums, delta, weights, dScores);
          results.add(weights);
          results.add(dScores);
        }
        assertSame(strip, tile, dWeights, delta, results, bfloat16);
      }
    }
  }

  private static void assertBackward(
      Strip strip,
      int tile,
      Floats dWeights,
      Floats logSumExp,
      Floats delta,
      Floats weights,
      Floats dScores) {
    double rounding = weights.bfloat16() ? 0x1p-8 : 0;
    for (int i = 0; i < strip.rows(); i++) {
      for (int j = 0; j < strip.width; j++) {
        long at = at(strip, i, j);
        int column = tile * strip.width + j;
        String what = strip + " row " + i + " column " + column;
        if (!strip.sees(i, column)) {
          assertEquals(0, weights.get(at), 0, what);
          assertEquals(0, dScores.get(at), 0, what);
          continue;
        }
        double score = strip.score(i, column);
        double p = Math.exp(score - logSumExp.get(i));
        double exponents = 1 + Math.abs(score) + Math.abs(logSumExp.get(i));
        assertClose(p, weights.get(at), p * exponents, rounding, () -> "weight " + what);
        double d = strip.scale * p * ((double) dWeights.get(at) - delta.get(i));
        double terms = strip.scale * p * (Math.abs(dWeights.get(at)) + Math.abs(delta.get(i)));
        assertClose(d, dScores.get(at), terms * exponents, rounding, () -> "dScore " + what);
      }
    }
    assertPaddingUntouched(weights, "weights " + strip);
    assertPaddingUntouched(dScores, "dScores " + strip);
  }

  /// @param results weights and dScores of the definition, then of the vector kernel
  private static void assertSame(
      Strip strip,
      int tile,
      Floats dWeights,
      Floats delta,
      List<Floats> results,
      boolean bfloat16) {
    double rounding = bfloat16 ? 0x1p-7 : 0;
    for (int i = 0; i < strip.rows(); i++) {
      double logSumExp = Math.abs(strip.logSumExp(i));
      for (int j = 0; j < strip.width; j++) {
        long at = at(strip, i, j);
        int column = tile * strip.width + j;
        if (!strip.sees(i, column)) {
          continue;
        }
        double p = results.get(0).get(at);
        double exponents = 1 + Math.abs(strip.score(i, column)) + logSumExp;
        assertClose(p, results.get(2).get(at), p * exponents, rounding, () -> "weight " + strip);
        assertClose(
            results.get(1).get(at),
            results.get(3).get(at),
            strip.scale * p * exponents * (Math.abs(dWeights.get(at)) + Math.abs(delta.get(i))),
            rounding,
            () -> "dScore " + strip);
      }
    }
  }

  /// A row's result does not depend on the rows that it is worked on with.
  @Test
  void splitDoesNotChangeABit() {
    try (var arena = Arena.ofConfined()) {
      var random = new SplittableRandom(11);
      var strip = Strip.of(arena, 21, 3, 65, 1, 0.3, _ -> (float) (5 * random.nextGaussian()));
      for (var kernels : BOTH) {
        var whole = strip.softmax(arena, kernels, true);
        int split = 5;
        for (boolean last : new boolean[] {false, true}) {
          int from = last ? split : 0;
          int tokens = last ? 21 - split : split;
          long rows = 3L * tokens;
          var tiles = new ArrayList<Floats>();
          for (var tile : strip.scores) {
            tiles.add(tile.from(3L * from * 65));
          }
          var maxima = fill(poisoned(arena, rows, false), _ -> Float.NEGATIVE_INFINITY);
          var sums = fill(poisoned(arena, rows, false), _ -> 0);
          for (int t = 0; t < 2; t++) {
            var weights = poisoned(arena, rows * 65, true);
            var factors = poisoned(arena, rows, false);
            kernels.causalSoftmax(
                new CausalTile((int) rows, 65, 1L + (1 - t) * 65 + from, 200, 3, 0.3),
                tiles.get(t).memory(),
                weights,
                maxima.memory(),
                sums.memory(),
                factors.memory());
            assertPart(whole.weights.get(t), weights, 3 * from * 65);
            assertPart(whole.factors.get(t), factors, 3 * from);
          }
          assertPart(whole.maxima, maxima, 3 * from);
          assertPart(whole.sums, sums, 3 * from);
        }
      }
    }
  }

  private static void assertPart(Floats whole, Floats part, int from) {
    var same = new Floats(whole.from(from).memory().asSlice(0, part.memory().byteSize()), false);
    assertArrayEquals(bytes(same), bytes(part));
    assertFalse(Float.isNaN(part.get(0)));
  }

  /// A checksum over what the vector kernels write.
  static String digest() {
    try (var arena = Arena.ofConfined()) {
      var checksum = new StringBuilder();
      for (boolean bfloat16 : new boolean[] {false, true}) {
        var random = new SplittableRandom(13);
        var strip = Strip.of(arena, 21, 3, 65, 1, 0.3, _ -> (float) (5 * random.nextGaussian()));
        var softmax = strip.softmax(arena, VECTOR, bfloat16);
        var dWeights = gaussian(arena, random, 63 * 65, false);
        var weights = poisoned(arena, 63 * 65, bfloat16);
        var dScores = poisoned(arena, 63 * 65, bfloat16);
        backward(VECTOR, strip, 1, dWeights, softmax.maxima, softmax.sums, weights, dScores);
        for (var result :
            List.of(
                softmax.weights.getLast(),
                softmax.factors.getLast(),
                softmax.maxima,
                softmax.sums,
                weights,
                dScores)) {
          checksum.append(crc(bytes(result))).append(' ');
        }
      }
      return checksum.toString();
    }
  }

  /// The diagonal begins below the first rows: these stay as they were, and the others are what
  /// they are without them. What a row does not see is NaN.
  @Test
  void rowsThatSeeNothingOfATile() {
    int group = 3;
    int blind = 5; // tokens
    int tokens = 9;
    for (int width : new int[] {1, 16, 37}) {
      for (var kernels : BOTH) {
        try (var arena = Arena.ofConfined()) {
          var random = new SplittableRandom(width);
          int rows = tokens * group;
          var tile = new CausalTile(rows, width, 1 - blind, 200, group, 0.3);
          var scores =
              fill(
                  poisoned(arena, (long) rows * width, false),
                  i ->
                      i % width < tile.seen(i / width) ? (float) random.nextGaussian() : Float.NaN);
          var weights = poisoned(arena, (long) rows * width, false);
          var maxima = fill(poisoned(arena, rows, false), i -> i / 10f - 1);
          var sums = fill(poisoned(arena, rows, false), i -> 1 + i);
          var factors = poisoned(arena, rows, false);
          kernels.causalSoftmax(
              tile, scores.memory(), weights, maxima.memory(), sums.memory(), factors.memory());

          int first = blind * group;
          var seeing = new CausalTile(rows - first, width, 1, 200, group, 0.3);
          var itsWeights = poisoned(arena, (long) rows * width, false);
          var itsMaxima = fill(poisoned(arena, rows, false), i -> i / 10f - 1);
          var itsSums = fill(poisoned(arena, rows, false), i -> 1 + i);
          var itsFactors = poisoned(arena, rows, false);
          kernels.causalSoftmax(
              seeing,
              scores.from((long) first * width).memory(),
              itsWeights.from((long) first * width),
              itsMaxima.from(first).memory(),
              itsSums.from(first).memory(),
              itsFactors.from(first).memory());
          for (int i = 0; i < rows; i++) {
            String row = kernels.getClass().getSimpleName() + " width " + width + " row " + i;
            assertEquals(itsMaxima.get(i), maxima.get(i), row);
            assertEquals(itsSums.get(i), sums.get(i), row);
            assertEquals(i < first ? 1 : itsFactors.get(i), factors.get(i), row);
            for (int j = 0; j < width; j++) {
              long at = (long) i * width + j;
              assertEquals(i < first ? 0 : itsWeights.get(at), weights.get(at), row);
            }
          }
        }
      }
    }
  }
}
