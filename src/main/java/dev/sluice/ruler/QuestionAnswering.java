package dev.sluice.ruler;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// A question among documents of which some hold the answer: the tasks `qa_1` and `qa_2`.
///
/// @param seed of the documents' order, which is the same in all samples
record QuestionAnswering(RulerMode mode, Questions questions, long seed) implements PromptMaker {
  private static final String PREFIX = "Answer:";
  private static final String SENTENCE =
      "Answer the question based on the given documents. Only give me the answer and do not output"
          + " any other words.";

  @Override
  public @Nullable Prompt make(int size, int number, SplittableRandom random) {
    var question = questions.questions().get(number);
    var chosen = documents(size, question, random);
    if (chosen == null) {
      return null;
    }
    Draw.shuffle(chosen, new SplittableRandom(seed));
    String context =
        IntStream.range(0, chosen.size())
            .mapToObj(
                i -> "Document %d:\n%s".formatted(i + 1, questions.documents().get(chosen.get(i))))
            .collect(Collectors.joining("\n\n"));
    String input =
        "%s\n\nThe following are given documents.\n\n%s\n\n%s\n\nQuestion: %s"
            .formatted(SENTENCE, context, SENTENCE, question.query());
    return switch (mode) {
      case NVIDIA -> Prompt.counted(input, " " + PREFIX, question.outputs());
      case LM_EVAL ->
          new Prompt(
              input,
              " ",
              PREFIX,
              question.outputs(),
              input,
              input + " ['" + String.join("', '", question.outputs()) + "']");
    };
  }

  /// The question's own, then those of its article, then others; all, again and again, where more
  /// are asked for than there are.
  private @Nullable List<Integer> documents(
      int size, Questions.Question question, SplittableRandom random) {
    int all = questions.documents().size();
    List<Integer> chosen = new ArrayList<>();
    if (size >= all) {
      int most = mode == RulerMode.NVIDIA ? size : all;
      for (int i = 0; i < most; i++) {
        chosen.add(i % all);
      }
      return chosen;
    }
    int more = size - question.own().size();
    if (more < 0) {
      return null;
    }
    chosen.addAll(question.own());
    var related = question.related();
    if (more <= related.size()) {
      Draw.sample(related.size(), more, random).forEach(i -> chosen.add(related.get(i)));
      return chosen;
    }
    chosen.addAll(related);
    var taken = new HashSet<>(chosen);
    var others = IntStream.range(0, all).filter(i -> !taken.contains(i)).toArray();
    int missing = Math.min(others.length, more - related.size());
    Draw.sample(others.length, missing, random).forEach(i -> chosen.add(others[i]));
    return chosen;
  }

  @Override
  public int step() {
    return 10;
  }

  @Override
  public int floor(int number) {
    return mode == RulerMode.NVIDIA ? step() : questions.questions().get(number).own().size();
  }

  @Override
  public int most() {
    return mode == RulerMode.LM_EVAL ? questions.documents().size() : Integer.MAX_VALUE;
  }

  @Override
  public boolean grows() {
    return mode == RulerMode.LM_EVAL;
  }

  @Override
  public int reserved() {
    return 32;
  }

  @Override
  public int samples() {
    return questions.questions().size();
  }
}
