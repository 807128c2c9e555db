package dev.sluice.ruler;

import dev.sluice.InvalidInputException;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.List;
import java.util.Locale;

/// RULER's scores: whether the references stand somewhere in a prediction, whatever their case.
public final class StringMatch {
  /// How the references of one sample are counted.
  public enum Metric {
    /// The share of the references that are there.
    ALL,
    /// Whether any of them is there. The port of lm-evaluation-harness counts the share here, too.
    PART
  }

  private StringMatch() {}

  /// A prediction as it is searched: each control character below a space is a line end, and
  /// nothing that Python calls white space is at either end.
  public static String postprocessed(String prediction) {
    String stripped = stripped(prediction);
    var text = new StringBuilder(stripped);
    for (int i = 0; i < text.length(); i++) {
      if (text.charAt(i) < ' ') {
        text.setCharAt(i, '\n');
      }
    }
    return stripped(text.toString());
  }

  /// Whether nothing was answered.
  public static boolean isNull(String prediction) {
    return postprocessed(prediction).isEmpty();
  }

  /// The score of one sample, from 0 to 1.
  ///
  /// @param prediction as the model gave it
  /// @param references at least one; one without characters is always there
  public static double score(
      RulerMode mode, Metric metric, String prediction, List<String> references) {
    if (references.isEmpty()) {
      throw new InvalidInputException(
          "a sample without references cannot be scored; give it outputs, or leave it out");
    }
    String text = lower(postprocessed(prediction));
    long found = references.stream().filter(reference -> text.contains(lower(reference))).count();
    return switch (metric) {
      case ALL -> (double) found / references.size();
      case PART ->
          switch (mode) {
            case NVIDIA -> found > 0 ? 1 : 0;
            case LM_EVAL -> (double) found / references.size();
          };
    };
  }

  /// Whether one reference stands in a prediction.
  public static boolean contains(String prediction, String reference) {
    return lower(postprocessed(prediction)).contains(lower(reference));
  }

  /// The score of all samples as the mode tells it: NVIDIA of 100 with two decimals, the port of 1.
  /// NaN for none.
  public static double total(RulerMode mode, double... scores) {
    double sum = 0;
    for (double score : scores) {
      sum += score;
    }
    double mean = sum / scores.length;
    return switch (mode) {
      case NVIDIA ->
          Double.isNaN(mean)
              ? mean
              : new BigDecimal(mean * 100).setScale(2, RoundingMode.HALF_EVEN).doubleValue();
      case LM_EVAL -> mean;
    };
  }

  private static String lower(String text) {
    return text.toLowerCase(Locale.ROOT);
  }

  private static String stripped(String text) {
    int from = 0;
    int to = text.length();
    while (from < to && isSpace(text.charAt(from))) {
      from++;
    }
    while (to > from && isSpace(text.charAt(to - 1))) {
      to--;
    }
    return text.substring(from, to);
  }

  /// What `str.isspace` of Python says.
  private static boolean isSpace(char c) {
    return (c >= '\t' && c <= '\r')
        || (c >= 0x1C && c <= ' ')
        || c == 0x85
        || c == 0xA0
        || c == 0x1680
        || (c >= 0x2000 && c <= 0x200A)
        || c == 0x2028
        || c == 0x2029
        || c == 0x202F
        || c == 0x205F
        || c == 0x3000;
  }
}
