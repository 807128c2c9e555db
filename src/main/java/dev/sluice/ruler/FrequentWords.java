package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.TreeSet;
import org.jspecify.annotations.Nullable;

/// Made-up words whose frequencies follow Zipf's law with exponent 2, the most frequent of which
/// are dots: the task `fwe`.
///
/// @param seed of the words' order, which is the same in all samples
record FrequentWords(RulerMode mode, int maxLength, long seed) implements PromptMaker {
  private static final double ZETA_OF_2 = Math.PI * Math.PI / 6;
  private static final int ANSWERS = 3;
  private static final String PREFIX =
      "Answer: According to the coded text above, the three most frequently appeared words are:";

  @Override
  public @Nullable Prompt make(int size, int number, SplittableRandom random) {
    int different = room() / 50;
    if (count(size, ANSWERS + 1) < 1 || different < ANSWERS + 1) {
      return null; // an answer would not stand in the text
    }
    var sorted = new TreeSet<String>();
    while (sorted.size() < different) {
      sorted.add(Draw.letters(6, 'a', 'z', random));
    }
    List<String> words = new ArrayList<>(sorted);
    Draw.shuffle(words, new SplittableRandom(seed));
    words.set(0, "...");
    List<String> all = new ArrayList<>();
    for (int rank = 1; rank <= different; rank++) {
      for (int i = count(size, rank); i > 0; i--) {
        all.add(words.get(rank - 1));
      }
    }
    Draw.shuffle(all, new SplittableRandom(seed));
    String input =
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded words. %s\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared words in the above coded text?"
            .formatted(String.join(" ", all));
    var outputs = List.copyOf(words.subList(1, 1 + ANSWERS));
    String whole = input + " " + PREFIX;
    return switch (mode) {
      case NVIDIA -> Prompt.counted(input, " " + PREFIX, outputs);
      case LM_EVAL -> new Prompt(input, " ", PREFIX, outputs, whole, whole);
    };
  }

  private static int count(int size, int rank) {
    return (int) (size * Math.pow(rank, -2) / ZETA_OF_2);
  }

  /// NVIDIA takes the generated tokens off, the port does not.
  private int room() {
    return maxLength - reserved();
  }

  @Override
  public int step() {
    return Math.max(1, room() / 32);
  }

  @Override
  public int start() {
    return Math.max(1, room() / 6);
  }

  @Override
  public int floor(int number) {
    return 1;
  }

  @Override
  public boolean grows() {
    return true;
  }

  @Override
  public int reserved() {
    return mode == RulerMode.NVIDIA ? 50 : 0;
  }
}
