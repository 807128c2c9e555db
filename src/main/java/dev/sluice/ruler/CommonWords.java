package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/// A numbered list in which ten words stand more often than others: the task `cwe`.
///
/// @param seed of the list's order, which is the same in all of NVIDIA's samples
record CommonWords(RulerMode mode, Haystack haystack, int maxLength, long seed)
    implements PromptMaker {
  private static final int COMMON = 10;
  private static final String PREFIX =
      "Answer: The top 10 words that appear most often in the list are:";

  private record WordList(String task, List<String> common) {
    String numbered() {
      return CommonWords.numbered(common);
    }
  }

  @Override
  public Prompt make(int size, int number, SplittableRandom random) {
    boolean small = maxLength < 4096;
    var solved = small ? list(20, 3, 1, random) : list(40, 10, 3, random);
    var list = small ? list(size, 6, 1, random) : list(size, 30, 3, random);
    String whole = list.task() + " " + PREFIX;
    return switch (mode) {
      case NVIDIA ->
          Prompt.counted(
              solved.task() + " " + PREFIX + " " + solved.numbered() + "\n" + list.task(),
              " " + PREFIX,
              list.common());
      // The port counts the solved example, and leaves it out.
      case LM_EVAL ->
          new Prompt(
              list.task(),
              "\n\n",
              PREFIX,
              list.common(),
              whole,
              solved.task()
                  + " "
                  + PREFIX
                  + solved.numbered()
                  + "\n"
                  + whole
                  + " "
                  + list.numbered());
    };
  }

  private WordList list(int words, int commonTimes, int otherTimes, SplittableRandom random) {
    var drawn = haystack.draw(words, random);
    var common = drawn.subList(0, Math.min(COMMON, words));
    List<String> all = new ArrayList<>();
    for (int i = 0; i < commonTimes; i++) {
      all.addAll(common);
    }
    for (int i = 0; i < otherTimes; i++) {
      all.addAll(drawn.subList(common.size(), words));
    }
    Draw.shuffle(all, mode == RulerMode.NVIDIA ? new SplittableRandom(seed) : random);
    return new WordList(
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most often.\n%s\nQuestion: What are the 10 most common words in the above list?"
            .formatted(numbered(all)),
        List.copyOf(common));
  }

  private static String numbered(List<String> words) {
    return IntStream.range(0, words.size())
        .mapToObj(i -> (i + 1) + ". " + words.get(i))
        .collect(Collectors.joining(" "));
  }

  @Override
  public int step() {
    return 10;
  }

  @Override
  public int floor(int number) {
    return mode == RulerMode.NVIDIA ? step() : 1;
  }

  @Override
  public boolean grows() {
    return mode == RulerMode.LM_EVAL;
  }

  @Override
  public int reserved() {
    return 120;
  }
}
