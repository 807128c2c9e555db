package dev.sluice.ruler;

import java.util.List;

/// The score of one answer.
///
/// @param prompt the sample's fingerprint
/// @param score from 0 to 1
/// @param isNull whether nothing was answered
/// @param length tokens used, what is generated included
/// @param seconds the answer took
/// @param needles of a task with needles: each reference that stands in the prompt
public record Scored(
    String prompt, double score, boolean isNull, int length, double seconds, List<Needle> needles) {
  /// @param depth where the reference stands in the prompt, from 0 to 1
  /// @param found whether the answer has it
  public record Needle(double depth, boolean found) {}

  public Scored {
    needles = List.copyOf(needles);
  }

  /// Scores an answer.
  public static Scored of(RulerMode mode, Sample sample, Answers.Answer answer) {
    var task = sample.task();
    String prediction = answer.prediction();
    return new Scored(
        sample.fingerprint(),
        StringMatch.score(mode, task.metric(), prediction, sample.outputs()),
        StringMatch.isNull(prediction),
        answer.promptTokens() + task.newTokens(),
        answer.seconds(),
        !task.hasNeedle()
            ? List.of()
            : sample.outputs().stream()
                .filter(output -> !Double.isNaN(sample.depth(output)))
                .map(
                    output ->
                        new Needle(sample.depth(output), StringMatch.contains(prediction, output)))
                .toList());
  }
}
