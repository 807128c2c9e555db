package dev.sluice.generation;

import dev.sluice.InvalidInputException;
import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;

/// Chooses the next token from logits, in the order of `transformers`: temperature, then the `topK`
/// likeliest, then the fewest of these that hold `topP` of their probability, then those that are
/// at least `minP` times as likely as the likeliest. Equal logits rank by id, the lowest first.
///
/// @param temperature divides the logits; 0 takes the likeliest token
/// @param topK how many tokens stay; 0 for all
/// @param topP how much of the probability stays, in (0, 1]
/// @param minP the least share of the likeliest token's probability, in [0, 1]; 0 for none
/// @param seed of the random numbers; a greedy choice draws none, any other exactly one
public record Sampler(double temperature, int topK, double topP, double minP, long seed) {
  /// Always the likeliest token.
  public static final Sampler GREEDY = new Sampler(0, 0, 1, 0);

  /// Where sequences of one seed differ: an odd number, as good as any but the golden ratio's
  /// fraction. That one is `SplittableRandom`'s own step, with which each sequence would draw the
  /// numbers of the one before, one place later.
  private static final long NEXT_SEQUENCE = 0xD134_2543_DE82_EF95L;

  /// Without a least share.
  public Sampler(double temperature, int topK, double topP, long seed) {
    this(temperature, topK, topP, 0, seed);
  }

  public Sampler {
    if (!(temperature >= 0) || temperature == Double.POSITIVE_INFINITY) {
      throw new InvalidInputException(
          "temperature must be a number of at least 0, not "
              + temperature
              + "; 0 takes the likeliest token, 1 samples as the model says");
    }
    if (topK < 0) {
      throw new InvalidInputException("top-k must be at least 0, not " + topK + "; 0 keeps all");
    }
    if (!(topP > 0 && topP <= 1)) {
      throw new InvalidInputException(
          "top-p must be above 0 and at most 1, not " + topP + "; 1 keeps all");
    }
    if (!(minP >= 0 && minP <= 1)) {
      throw new InvalidInputException(
          "min-p must be at least 0 and at most 1, not " + minP + "; 0 keeps all");
    }
  }

  /// The same with other random numbers.
  public Sampler reseeded(long other) {
    return new Sampler(temperature, topK, topP, minP, other);
  }

  /// A new stream of this sampler's random numbers.
  public RandomGenerator random() {
    return random(0);
  }

  /// That of one of several sequences, which does not depend on the others.
  public RandomGenerator random(int sequence) {
    return new SplittableRandom(seed + sequence * NEXT_SEQUENCE);
  }

  /// The chosen token id.
  ///
  /// @param logits one per token; −∞ excludes a token
  /// @param random from [#random], kept for the whole text
  public int choose(float[] logits, RandomGenerator random) {
    int likeliest = likeliest(logits);
    if (temperature == 0) {
      return likeliest;
    }
    double largest = logits[likeliest];
    int[] ids = candidates(logits);
    double[] upTo = new double[ids.length]; // cumulative, relative to the likeliest token
    double sum = 0;
    for (int i = 0; i < ids.length; i++) {
      sum += Math.exp((logits[ids[i]] - largest) / temperature);
      upTo[i] = sum;
    }
    int kept = ids.length;
    if (topP < 1) {
      kept = 1;
      while (kept < ids.length && upTo[kept - 1] < topP * sum) {
        kept++;
      }
    }
    if (minP > 0) {
      int likely = 0;
      sum = 0;
      for (int i = 0; i < kept; i++) {
        double weight = Math.exp((logits[ids[i]] - largest) / temperature);
        if (weight >= minP) { // the likeliest token's is 1
          ids[likely] = ids[i];
          sum += weight;
          upTo[likely++] = sum;
        }
      }
      kept = likely;
    }
    double wanted = random.nextDouble() * upTo[kept - 1];
    for (int i = 0; i < kept; i++) {
      if (upTo[i] > wanted) {
        return ids[i];
      }
    }
    return likeliest; // the product was rounded up to the total
  }

  /// The likeliest token, or an error when the logits cannot be ranked.
  private static int likeliest(float[] logits) {
    float largest = Float.NEGATIVE_INFINITY;
    for (float logit : logits) { // NaN, if one is
      largest = Math.max(largest, logit);
    }
    if (!(largest < Float.POSITIVE_INFINITY)) {
      int id = 0;
      while (logits[id] < Float.POSITIVE_INFINITY) {
        id++;
      }
      throw new InvalidInputException(
          "the model's logit for token id "
              + id
              + " is "
              + logits[id]
              + ", so no token can be chosen; check the checkpoint, or run it in float32");
    }
    for (int id = 0; id < logits.length && largest > Float.NEGATIVE_INFINITY; id++) {
      if (logits[id] == largest) {
        return id;
      }
    }
    throw new InvalidInputException(
        "none of the "
            + logits.length
            + " tokens is allowed: every logit is -Infinity; exclude fewer tokens");
  }

  /// The ids that top-k leaves, the likeliest first; in their own order when nothing depends on it.
  private int[] candidates(float[] logits) {
    int[] ids = new int[logits.length];
    if (topK == 0 && topP == 1) {
      Arrays.setAll(ids, id -> id);
      return ids;
    }
    long[] ranked = new long[logits.length];
    for (int id = 0; id < ranked.length; id++) {
      int bits = Float.floatToIntBits(logits[id] + 0f); // −0 becomes 0, its equal
      int ascending = bits < 0 ? bits ^ 0x7FFFFFFF : bits;
      ranked[id] = ((long) ~ascending << 32) | id;
    }
    Arrays.sort(ranked);
    Arrays.setAll(ids, i -> (int) ranked[i]);
    return topK == 0 || topK >= ids.length ? ids : Arrays.copyOf(ids, topK);
  }
}
