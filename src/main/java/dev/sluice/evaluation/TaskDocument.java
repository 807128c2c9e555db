package dev.sluice.evaluation;

import java.util.List;

/// A row as questions to a model, with what is needed to judge the answers.
///
/// @param row its number in the file, from 0 on
/// @param group that it counts to besides all; empty for none
/// @param questions in the order of the answers
public record TaskDocument(int row, String group, List<Question> questions, Expected expected) {
  /// A question.
  public sealed interface Question {
    /// How likely is this continuation?
    record Pair(String context, String continuation) implements Question {}

    /// How likely is this text?
    record Whole(String text) implements Question {}

    /// What follows?
    record Open(String context) implements Question {}
  }

  /// What the answers are compared with.
  public sealed interface Expected {
    /// @param target the number of the right choice
    /// @param choices the texts by whose length sums are divided
    /// @param unconditional whether as many questions without context follow
    record Choice(int target, List<String> choices, boolean unconditional) implements Expected {}

    /// Nothing but how likely the continuation is.
    record Likely() implements Expected {}

    /// @param words of the text, as it was before cleaning
    /// @param bytes likewise
    record Size(long words, long bytes) implements Expected {}

    /// @param reference what is compared, before `ignore`
    record Written(String reference) implements Expected {}
  }

  public TaskDocument {
    questions = List.copyOf(questions);
  }
}
