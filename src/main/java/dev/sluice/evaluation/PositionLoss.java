package dev.sluice.evaluation;

import dev.sluice.decoder.Decoder;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.function.IntConsumer;

/// How well each place of a window is predicted, from all tokens before it: whether a model uses
/// more context, and whether it breaks beyond the context that it was trained with.
///
/// @param nats mean −ln p over the windows, by place from 0
/// @param windows how many there were
@SuppressWarnings("ArrayRecordComponent") // nobody compares them
public record PositionLoss(double[] nats, int windows) {
  // Logits that are there at a time: 128 MiB.
  private static final long LOGITS_AT_ONCE = 1 << 25;

  /// Measures one window at a time.
  ///
  /// @param windows T + 1 ids each
  /// @param separator of documents, where a token is to see its own document alone; empty where it
  ///   sees its whole window
  /// @param done hears after each window how many are measured
  public static PositionLoss measure(
      Decoder decoder, List<long[]> windows, OptionalInt separator, IntConsumer done) {
    double[] sums = new double[windows.getFirst().length - 1];
    int measured = 0;
    for (long[] window : windows) {
      add(decoder, window, separator, sums);
      done.accept(++measured);
    }
    for (int at = 0; at < sums.length; at++) {
      sums[at] /= windows.size();
    }
    return new PositionLoss(sums, windows.size());
  }

  private static void add(Decoder decoder, long[] window, OptionalInt separator, double[] sums) {
    int length = window.length - 1;
    decoder.config().requireInVocabulary(window);
    int vocabulary = decoder.config().vocabSize();
    int rows = Math.toIntExact(Math.clamp(LOGITS_AT_ONCE / vocabulary, 1, length));
    try (var _ = Scope.withoutGradient()) {
      var ids = Tensor.of(Arrays.copyOf(window, length), 1, length).to(decoder.device());
      var documents = DocumentStarts.of(window, 1, length + 1, length, separator);
      if (documents != null) {
        documents.bring(ids);
      }
      var hidden = decoder.hiddenStatesByDocument(ids, documents, Probe.NONE);
      for (int begin = 0; begin < length; begin += rows) {
        int end = Math.min(begin + rows, length);
        try (var _ = Scope.withoutGradient()) {
          float[] logits = decoder.logits(hidden.narrow(1, begin, end - begin)).floats();
          for (int at = begin; at < end; at++) {
            sums[at] += loss(logits, (at - begin) * vocabulary, vocabulary, (int) window[at + 1]);
          }
        }
      }
    }
  }

  /// −ln of the softmax of `vocabulary` logits from `first` on, in float64.
  private static double loss(float[] logits, int first, int vocabulary, int target) {
    double largest = Double.NEGATIVE_INFINITY;
    for (int i = first; i < first + vocabulary; i++) {
      largest = Math.max(largest, logits[i]);
    }
    double sum = 0;
    for (int i = first; i < first + vocabulary; i++) {
      sum += Math.exp(logits[i] - largest);
    }
    return largest + Math.log(sum) - logits[first + target];
  }

  /// The mean over places from `from` to before `to`.
  public double mean(int from, int to) {
    return Arrays.stream(nats, from, to).average().orElse(Double.NaN);
  }
}
