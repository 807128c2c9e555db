package dev.sluice.ruler;

import java.util.List;
import java.util.SplittableRandom;
import org.jspecify.annotations.Nullable;

/// Makes the prompts of one task, of any size.
///
/// The sentences of the templates are those of NVIDIA's RULER, (c) 2024 NVIDIA CORPORATION, under
/// the Apache License 2.0; see NOTICE.
interface PromptMaker {
  /// A prompt before it is numbered.
  ///
  /// @param input what stands before the answer prefix
  /// @param between input and prefix
  /// @param outputs the references
  /// @param counted whose tokens are held against the length
  /// @param probed whose tokens decide the size at first
  record Prompt(
      String input,
      String between,
      String answerPrefix,
      List<String> outputs,
      String counted,
      String probed) {
    /// As NVIDIA counts: the prompt itself.
    static Prompt counted(String input, String answerPrefix, List<String> outputs) {
      String whole = input + answerPrefix;
      return new Prompt(input, "", answerPrefix, outputs, whole, whole);
    }

    String text() {
      return input + between + answerPrefix;
    }
  }

  /// Makes one.
  ///
  /// @param size in the task's units, at least 1: words, lines, documents
  /// @param number of the sample
  /// @return null where there is none of that size
  @Nullable Prompt make(int size, int number, SplittableRandom random);

  /// By how much sizes change.
  int step();

  /// The first size that is tried.
  default int start() {
    return step();
  }

  /// The size below which nothing is tried.
  int floor(int number);

  /// The largest size that there is.
  default int most() {
    return Integer.MAX_VALUE;
  }

  /// Whether sizes grow step by step until the prompt is too long; else they are halved.
  boolean grows();

  /// Tokens that are kept free for the answer.
  int reserved();

  /// How many samples there can be.
  default int samples() {
    return Integer.MAX_VALUE;
  }
}
