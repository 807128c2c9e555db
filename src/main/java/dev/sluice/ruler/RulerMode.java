package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import java.util.Arrays;
import java.util.Locale;

/// Whose RULER it is. The two differ in prompts and in scores, so that their numbers must not be
/// compared.
public enum RulerMode {
  /// NVIDIA's own programs.
  NVIDIA,
  /// The port in EleutherAI's lm-evaluation-harness, 0.4.13.
  LM_EVAL;

  /// The name on the command line.
  public String word() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }

  /// @throws InvalidInputException if there is no such mode
  public static RulerMode parse(String word) {
    return Arrays.stream(values())
        .filter(mode -> mode.word().equals(word))
        .findFirst()
        .orElseThrow(
            () ->
                new InvalidInputException(
                    "unknown mode '%s'; use nvidia or lm-eval"
                        .formatted(Printable.brief(word, 60))));
  }
}
