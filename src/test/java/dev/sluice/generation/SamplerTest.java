package dev.sluice.generation;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.InvalidInputException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class SamplerTest {
  private static final float MINUS_INFINITY = Float.NEGATIVE_INFINITY;

  @Test
  void greedyTakesTheLowestOfEqualIds() {
    assertEquals(1, greedy(0f, 2f, 2f, 1f));
    assertEquals(0, greedy(-0f, 0f));
    assertEquals(0, greedy(0f, -0f));
    assertEquals(2, greedy(MINUS_INFINITY, MINUS_INFINITY, -3f));
  }

  private static int greedy(float... logits) {
    return Sampler.GREEDY.choose(logits, Sampler.GREEDY.random());
  }

  @Test
  void oneCandidateIsTheGreedyChoice() {
    var random = new SplittableRandom(3);
    for (int repeat = 0; repeat < 200; repeat++) {
      float[] logits = new float[31];
      for (int id = 0; id < logits.length; id++) {
        logits[id] = random.nextInt(-4, 5); // many ties
      }
      int expected = greedy(logits);
      assertEquals(expected, new Sampler(1.5, 1, 1, repeat).choose(logits, random));
      assertEquals(expected, new Sampler(1.5, 0, 1e-9, repeat).choose(logits, random));
    }
  }

  @Test
  void frequenciesAreTheSoftmaxOfWhatIsLeft() {
    float[] logits = {1f, 3f, MINUS_INFINITY, 2f, 0f};
    frequencies(new Sampler(1, 0, 1, 5), logits, 0.0871, 0.6439, 0, 0.2369, 0.0321);
    frequencies(new Sampler(2, 0, 1, 5), logits, 0.1674, 0.4551, 0, 0.2760, 0.1015);
    frequencies(new Sampler(1, 2, 1, 5), logits, 0, 0.7311, 0, 0.2689, 0);
    frequencies(new Sampler(1, 0, 0.7, 5), logits, 0, 0.7311, 0, 0.2689, 0);
    frequencies(new Sampler(1, 0, 0.9, 5), logits, 0.0900, 0.6652, 0, 0.2447, 0);
    // 0.7 of the two that top-k leaves is one: 0.7311.
    frequencies(new Sampler(1, 2, 0.7, 5), logits, 0, 1, 0, 0, 0);
  }

  private static void frequencies(Sampler sampler, float[] logits, double... expected) {
    int draws = 40_000;
    double[] counted = new double[logits.length];
    var random = sampler.random();
    for (int i = 0; i < draws; i++) {
      counted[sampler.choose(logits, random)] += 1.0 / draws;
    }
    assertArrayEquals(expected, counted, 0.01); // four standard errors
  }

  @Test
  void topPStopsWhereItsShareIsReached() {
    float[] equal = {0f, 0f, 0f, 0f};
    frequencies(new Sampler(1, 0, 0.5, 1), equal, 0.5, 0.5, 0, 0);
    frequencies(new Sampler(1, 0, 0.51, 1), equal, 1 / 3., 1 / 3., 1 / 3., 0);
  }

  @Test
  void manyCandidatesAreRankedByLogit() {
    float[] logits = new float[1000];
    for (int id = 0; id < logits.length; id++) {
      logits[id] = (id * 389 % 1000 - 500) / 10f; // both signs, each value once
    }
    var sampler = new Sampler(1000, 3, 1, 0);
    var random = sampler.random();
    for (int i = 0; i < 100; i++) {
      assertTrue(logits[sampler.choose(logits, random)] >= 49.7f);
    }
  }

  /// The definition: all tokens are ranked, and then as many kept as each setting says.
  private static int definition(Sampler sampler, float[] logits, double uniform) {
    Integer[] ranked = new Integer[logits.length];
    Arrays.setAll(ranked, id -> id);
    boolean inOrder = sampler.topK() == 0 && sampler.topP() == 1; // else of ids
    if (!inOrder) {
      Arrays.sort(ranked, Comparator.comparing((Integer id) -> -(logits[id] + 0f)));
    }
    double largest = Float.NEGATIVE_INFINITY;
    for (float logit : logits) {
      largest = Math.max(largest, logit);
    }
    List<Integer> ids = new ArrayList<>(List.of(ranked));
    if (sampler.topK() > 0) {
      ids = ids.subList(0, Math.min(sampler.topK(), ids.size()));
    }
    double[] weights = new double[logits.length];
    double all = 0;
    for (int id : ids) {
      weights[id] = Math.exp((logits[id] - largest) / sampler.temperature());
      all += weights[id];
    }
    double sum = 0;
    List<Integer> likeliest = new ArrayList<>();
    for (int id : ids) {
      if (sampler.topP() == 1 || sum < sampler.topP() * all || likeliest.isEmpty()) {
        likeliest.add(id);
        sum += weights[id];
      }
    }
    likeliest.removeIf(id -> weights[id] < sampler.minP());
    sum = likeliest.stream().mapToDouble(id -> weights[id]).reduce(0, Double::sum);
    double upTo = 0;
    for (int id : likeliest) {
      upTo += weights[id];
      if (upTo > uniform * sum) {
        return id;
      }
    }
    throw new AssertionError("none of " + likeliest);
  }

  @Test
  void choicesAreThoseOfTheDefinition() {
    var random = new SplittableRandom(8);
    Set<Integer> chosen = new HashSet<>();
    for (int repeat = 0; repeat < 3000; repeat++) {
      float[] logits = new float[1 + random.nextInt(repeat % 10 == 0 ? 2000 : 30)];
      double spread = Math.pow(10, random.nextInt(-2, 3));
      for (int id = 0; id < logits.length; id++) {
        logits[id] =
            switch (random.nextInt(6)) {
              case 0 -> random.nextInt(-2, 3); // ties
              case 1 -> id == 0 ? -0f : MINUS_INFINITY;
              default -> (float) (spread * random.nextGaussian());
            };
      }
      int[] counts = {0, 1, 2, 20, 256, 257, 1000, logits.length, logits.length + 1};
      double[] shares = {1, 1, 0.95, 0.5, 1e-9, 1 - 1e-12};
      double[] least = {0, 0, 0.05, 1, 1e-12};
      var sampler =
          new Sampler(
              Math.pow(10, random.nextInt(-2, 3)),
              counts[random.nextInt(counts.length)],
              shares[random.nextInt(shares.length)],
              least[random.nextInt(least.length)],
              repeat);
      int expected = definition(sampler, logits, sampler.random().nextDouble());
      assertEquals(expected, sampler.choose(logits, sampler.random()), sampler::toString);
      chosen.add(expected);
    }
    assertTrue(chosen.size() > 50, chosen.size() + " tokens");
  }

  @Test
  void exponentialsAreThoseOfTheDefinition() {
    var random = new SplittableRandom(9);
    for (int i = 0; i < 100_000; i++) {
      double x = random.nextDouble() * Math.pow(10, random.nextInt(-20, 3));
      double expected = Math.exp(-x);
      double tolerance = 1e-13 * expected + Double.MIN_NORMAL;
      assertEquals(expected, Exponential.ofNegative(x), tolerance, () -> "of " + x);
    }
    assertEquals(1, Exponential.ofNegative(0));
    assertEquals(1, Exponential.ofNegative(-0.0));
    assertEquals(0, Exponential.ofNegative(745));
    assertEquals(0, Exponential.ofNegative(Double.POSITIVE_INFINITY));
    assertTrue(Exponential.ofNegative(Math.nextDown(745)) < Double.MIN_NORMAL);
  }

  @Test
  void tinyTemperatureDoesNotOverflow() {
    assertEquals(1, new Sampler(1e-300, 0, 1, 0).choose(new float[] {-3e38f, 3e38f}, random()));
  }

  private static SplittableRandom random() {
    return new SplittableRandom(0);
  }

  @Test
  void logitsThatCannotBeRankedAreRefused() {
    for (var sampler : new Sampler[] {Sampler.GREEDY, new Sampler(1, 2, 0.5, 0)}) {
      refuses("token id 1 is NaN", () -> sampler.choose(new float[] {0, Float.NaN}, random()));
      refuses(
          "token id 0 is Infinity",
          () -> sampler.choose(new float[] {Float.POSITIVE_INFINITY, 0}, random()));
      refuses("none of the 1", () -> sampler.choose(new float[] {MINUS_INFINITY}, random()));
    }
  }

  @Test
  void settingsOutOfRangeAreRefused() {
    refuses("temperature", () -> new Sampler(-0.1, 0, 1, 0));
    refuses("temperature", () -> new Sampler(Double.NaN, 0, 1, 0));
    refuses("temperature", () -> new Sampler(Double.POSITIVE_INFINITY, 0, 1, 0));
    refuses("top-k", () -> new Sampler(1, -1, 1, 0));
    refuses("top-p", () -> new Sampler(1, 0, 0, 0));
    refuses("top-p", () -> new Sampler(1, 0, 1.01, 0));
    refuses("top-p", () -> new Sampler(1, 0, Double.NaN, 0));
  }

  private static void refuses(String words, Runnable choice) {
    var refusal = assertThrows(InvalidInputException.class, choice::run);
    assertTrue(refusal.getMessage().contains(words), refusal.getMessage());
  }

  /// The numbers of one sequence are not those of another, also not at other places.
  @Test
  void sequencesShareNoNumbers() {
    var sampler = new Sampler(1, 0, 1, 3);
    var drawn = new HashSet<Long>();
    for (int sequence = 0; sequence < 8; sequence++) {
      var random = sampler.random(sequence);
      for (int i = 0; i < 50; i++) {
        assertTrue(drawn.add(random.nextLong()), "sequence " + sequence + ", number " + i);
      }
    }
  }
}
