package dev.sluice.evaluation;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// Python's `random.Random`: MT19937 (Matsumoto, Nishimura 1998) and the ways in which Python draws
/// from it, so that the same seed takes the same examples as lm-evaluation-harness.
final class PythonRandom {
  private static final int SIZE = 624;
  private static final int MIDDLE = 397;

  private final int[] state = new int[SIZE];
  private int index = SIZE;

  /// @param seed at least 0, below 2³²
  PythonRandom(long seed) {
    if (seed < 0 || seed >= 1L << 32) {
      throw new IllegalArgumentException("a seed of %d".formatted(seed));
    }
    begin(19_650_218);
    int i = 1;
    for (int k = SIZE; k > 0; k--) {
      state[i] = (state[i] ^ (state[i - 1] ^ (state[i - 1] >>> 30)) * 1_664_525) + (int) seed;
      i = next(i);
    }
    for (int k = SIZE - 1; k > 0; k--) {
      state[i] = (state[i] ^ (state[i - 1] ^ (state[i - 1] >>> 30)) * 1_566_083_941) - i;
      i = next(i);
    }
    state[0] = 0x80000000;
  }

  private void begin(int seed) {
    state[0] = seed;
    for (int i = 1; i < SIZE; i++) {
      state[i] = 1_812_433_253 * (state[i - 1] ^ (state[i - 1] >>> 30)) + i;
    }
  }

  private int next(int i) {
    if (i + 1 < SIZE) {
      return i + 1;
    }
    state[0] = state[SIZE - 1];
    return 1;
  }

  /// The next 32 bits.
  private int bits() {
    if (index == SIZE) {
      for (int i = 0; i < SIZE; i++) {
        int y = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7FFFFFFF);
        state[i] = state[(i + MIDDLE) % SIZE] ^ (y >>> 1) ^ ((y & 1) == 0 ? 0 : 0x9908B0DF);
      }
      index = 0;
    }
    int y = state[index++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9D2C5680;
    y ^= (y << 15) & 0xEFC60000;
    return y ^ (y >>> 18);
  }

  /// `random()`: uniform in [0, 1).
  double uniform() {
    int high = bits() >>> 5;
    int low = bits() >>> 6;
    return (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0;
  }

  /// `_randbelow(n)`: uniform in 0 … n − 1.
  private int below(int n) {
    int width = Integer.SIZE - Integer.numberOfLeadingZeros(n);
    int drawn = bits() >>> (Integer.SIZE - width);
    while (drawn < 0 || drawn >= n) {
      drawn = bits() >>> (Integer.SIZE - width);
    }
    return drawn;
  }

  /// `sample(population, count)`: some of them, none twice.
  <T> List<T> sample(List<T> population, int count) {
    int n = population.size();
    if (count > n) {
      throw new IllegalArgumentException("%d of %d".formatted(count, n));
    }
    List<T> chosen = new ArrayList<>();
    double enough = 21;
    if (count > 5) {
      enough += Math.pow(4, Math.ceil(Math.log(count * 3) / Math.log(4)));
    }
    if (n <= enough) {
      List<T> pool = new ArrayList<>(population);
      for (int i = 0; i < count; i++) {
        int at = below(n - i);
        chosen.add(pool.get(at));
        pool.set(at, pool.get(n - i - 1));
      }
      return chosen;
    }
    Set<Integer> taken = new HashSet<>();
    while (chosen.size() < count) {
      int at = below(n);
      if (taken.add(at)) {
        chosen.add(population.get(at));
      }
    }
    return Collections.unmodifiableList(chosen);
  }

  /// `choices(values, k=len(values))`: as many of them, each drawn from all.
  double[] choices(double[] values) {
    double[] drawn = new double[values.length];
    for (int i = 0; i < drawn.length; i++) {
      drawn[i] = values[(int) (uniform() * values.length)];
    }
    return drawn;
  }
}
