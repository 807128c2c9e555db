package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;

/// Random choices.
final class Draw {
  private Draw() {}

  /// So many different numbers below a bound, in the order in which they were drawn.
  static List<Integer> sample(int bound, int count, SplittableRandom random) {
    if (count > bound) {
      throw new IllegalArgumentException("%d of %d".formatted(count, bound));
    }
    Set<Integer> drawn = new LinkedHashSet<>();
    for (int j = bound - count; j < bound; j++) { // Floyd's algorithm
      int number = random.nextInt(j + 1);
      drawn.add(drawn.contains(number) ? j : number);
    }
    var order = new ArrayList<>(drawn);
    shuffle(order, random);
    return order;
  }

  /// Puts a list in a random order.
  static <T> void shuffle(List<T> list, SplittableRandom random) {
    for (int i = list.size() - 1; i > 0; i--) {
      int other = random.nextInt(i + 1);
      T kept = list.get(i);
      list.set(i, list.get(other));
      list.set(other, kept);
    }
  }

  /// Letters from `first` to `last`.
  static String letters(int count, char first, char last, SplittableRandom random) {
    var word = new StringBuilder();
    for (int i = 0; i < count; i++) {
      word.append((char) random.nextInt(first, last + 1));
    }
    return word.toString();
  }
}
