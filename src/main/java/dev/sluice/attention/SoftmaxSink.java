package dev.sluice.attention;

import dev.sluice.InvalidInputException;
import java.util.Locale;

/// What may take attention besides the keys: an extra score s in the softmax's denominator, so that
/// a query's weights sum to less than one. With it attention is attention without it times σ(LSE −
/// s), a headwise gate whose logit comes from the scores' log-sum-exp.
public enum SoftmaxSink {
  /// Plain softmax.
  NONE,
  /// s = 0 for all heads: softmax off by one.
  OFF_BY_ONE,
  /// A learned s per head that starts at zero, as in gpt-oss.
  LEARNED;

  /// Reads `none`, `off-by-one` or `learned`.
  public static SoftmaxSink parse(String word) {
    for (SoftmaxSink sink : values()) {
      if (sink.word().equals(word.toLowerCase(Locale.ROOT))) {
        return sink;
      }
    }
    throw new InvalidInputException(
        "unknown softmax sink '" + word + "'; use none, off-by-one or learned");
  }

  public String word() {
    return name().toLowerCase(Locale.ROOT).replace('_', '-');
  }
}
