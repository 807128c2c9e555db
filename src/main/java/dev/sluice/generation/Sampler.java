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

  /// So many of the likeliest are kept in order while logits are gone through once.
  private static final int FEW = 256;

  /// By how much less likely tokens are looked at next, where the likelier are not enough.
  private static final double STEP = 1.0 / 64;

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
    if (topK == 0 && topP == 1 && minP == 0) {
      return choose(logits, largest, likeliest, random);
    }
    double all = topK == 0 && topP < 1 ? sum(logits, largest) : Double.NaN;
    int[] ids =
        topK > 0
            ? likeliest(logits, Math.min(topK, logits.length))
            : topP < 1 ? likeliest(logits, largest, topP * all) : atLeast(logits, largest, minP);
    double[] upTo = new double[ids.length]; // cumulative
    double sum = 0;
    for (int i = 0; i < ids.length; i++) {
      sum += weight(logits[ids[i]], largest);
      upTo[i] = sum;
    }
    int kept = ids.length;
    if (topP < 1) {
      double wanted = topP * (topK == 0 ? all : sum);
      kept = 1;
      while (kept < ids.length && upTo[kept - 1] < wanted) {
        kept++;
      }
    }
    if (minP > 0) {
      int likely = 0;
      double upToLikely = 0;
      for (int i = 0; i < kept; i++) {
        double weight = weight(logits[ids[i]], largest);
        if (weight >= minP) { // the likeliest token's is 1
          ids[likely] = ids[i];
          upToLikely += weight;
          upTo[likely++] = upToLikely;
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

  /// One of all tokens.
  private int choose(float[] logits, double largest, int likeliest, RandomGenerator random) {
    double wanted = random.nextDouble() * sum(logits, largest);
    double upTo = 0;
    for (int id = 0; id < logits.length; id++) {
      upTo += weight(logits[id], largest);
      if (upTo > wanted) {
        return id;
      }
    }
    return likeliest; // as above
  }

  /// What a token weighs beside the likeliest.
  private double weight(float logit, double largest) {
    return Exponential.ofNegative((largest - logit) / temperature);
  }

  private double sum(float[] logits, double largest) {
    double sum = 0;
    for (float logit : logits) {
      sum += weight(logit, largest);
    }
    return sum;
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

  /// The ids of the k largest logits, the largest first.
  private static int[] likeliest(float[] logits, int k) {
    if (k > FEW) {
      long[] ranked = new long[logits.length];
      Arrays.setAll(ranked, id -> rank(logits[id], id));
      Arrays.sort(ranked);
      return ids(ranked, k);
    }
    long[] first = new long[k];
    int count = 0;
    float least = Float.NEGATIVE_INFINITY; // of those when all places are taken
    for (int id = 0; id < logits.length; id++) {
      if (count < k || logits[id] > least) { // an equal one ranks behind
        long rank = rank(logits[id], id);
        int at = count < k ? count++ : k - 1;
        for (; at > 0 && first[at - 1] > rank; at--) {
          first[at] = first[at - 1];
        }
        first[at] = rank;
        least = logits[(int) first[count - 1]];
      }
    }
    return ids(first, k);
  }

  /// Ids, the likeliest first, that together weigh as much or more, or all.
  private int[] likeliest(float[] logits, double largest, double wanted) {
    for (double least = STEP; ; least *= STEP) {
      int[] ids = least < Double.MIN_NORMAL ? all(logits) : atLeast(logits, largest, least);
      double weight = 0;
      for (int id : ids) {
        weight += weight(logits[id], largest);
      }
      if (weight >= wanted || ids.length == logits.length) {
        long[] ranked = new long[ids.length];
        Arrays.setAll(ranked, i -> rank(logits[ids[i]], ids[i]));
        Arrays.sort(ranked);
        return ids(ranked, ids.length);
      }
    }
  }

  /// The ids, in order, of tokens that weigh as much or more, and perhaps of some that weigh hardly
  /// less.
  private int[] atLeast(float[] logits, double largest, double least) {
    double lowest = largest + temperature * (Math.log(least) - 1e-6);
    int count = 0;
    for (float logit : logits) {
      count += logit >= lowest ? 1 : 0;
    }
    int[] ids = new int[count];
    for (int id = 0, at = 0; at < count; id++) {
      if (logits[id] >= lowest) {
        ids[at++] = id;
      }
    }
    return ids;
  }

  private static int[] all(float[] logits) {
    int[] ids = new int[logits.length];
    Arrays.setAll(ids, id -> id);
    return ids;
  }

  /// Smaller for larger logits, and among equal ones for smaller ids.
  private static long rank(float logit, int id) {
    int bits = Float.floatToIntBits(logit + 0f); // −0 becomes 0, its equal
    int ascending = bits < 0 ? bits ^ 0x7FFFFFFF : bits;
    return ((long) ~ascending << 32) | id;
  }

  private static int[] ids(long[] ranked, int count) {
    int[] ids = new int[count];
    Arrays.setAll(ids, i -> (int) ranked[i]);
    return ids;
  }
}
