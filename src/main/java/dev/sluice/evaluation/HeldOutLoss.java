package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.operations.DocumentStarts;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;

/// How well a model predicts held-out text: Σ −ln p(token | tokens before it in its window).
///
/// The logarithms of probabilities are taken and summed in float64, in the windows' order. The same
/// model, windows, batch size and threads give the same bits; a model that answers with NaN gives
/// NaN.
///
/// @param totalNats Σ −ln p over the predicted tokens
/// @param tokens how many tokens were predicted
/// @param bytes how many bytes of text they stand for
public record HeldOutLoss(double totalNats, long tokens, long bytes) {
  private static final int BATCH_SIZE = 8;

  // Logits that are widened to float64 at a time: 256 MiB.
  private static final long LOGITS_AT_ONCE = 1 << 25;

  public HeldOutLoss {
    requirePositive("tokens", tokens);
    requirePositive("bytes", bytes);
  }

  private static void requirePositive(String what, long count) {
    if (count < 1) {
      throw new InvalidInputException(
          "a held-out loss needs a positive number of predicted " + what + ", not " + count);
    }
  }

  /// Measures with eight windows at a time.
  public static HeldOutLoss measure(Decoder decoder, List<long[]> windows, long bytes) {
    return measure(decoder, windows, bytes, OptionalInt.empty());
  }

  /// The same for windows of several documents.
  ///
  /// @param separator of documents, where a token is to see its own document alone; empty where it
  ///   sees its whole window
  public static HeldOutLoss measure(
      Decoder decoder, List<long[]> windows, long bytes, OptionalInt separator) {
    return measure(decoder, windows, bytes, separator, Probe.NONE);
  }

  /// The same with a probe, which may change what gates do.
  public static HeldOutLoss measure(
      Decoder decoder, List<long[]> windows, long bytes, OptionalInt separator, Probe probe) {
    return measure(decoder, windows, bytes, BATCH_SIZE, separator, probe);
  }

  /// Predicts the tokens 1 … T of every window, each from those before it in the same window.
  ///
  /// @param windows T + 1 token ids each; T may differ
  /// @param bytes bytes of text behind all predicted tokens, which makes models with different
  ///   tokenizers comparable
  /// @param batchSize how many windows of equal length go through the model at a time
  public static HeldOutLoss measure(
      Decoder decoder, List<long[]> windows, long bytes, int batchSize) {
    return measure(decoder, windows, bytes, batchSize, OptionalInt.empty(), Probe.NONE);
  }

  /// The same with a mask of documents, and with a probe, which may force gates.
  public static HeldOutLoss measure(
      Decoder decoder,
      List<long[]> windows,
      long bytes,
      int batchSize,
      OptionalInt separator,
      Probe probe) {
    if (windows.isEmpty()) {
      throw new InvalidInputException(
          "there are no held-out windows to measure the loss on; give a longer text or shorter"
              + " windows");
    }
    if (batchSize < 1) {
      throw new InvalidInputException("batch size must be at least 1, not " + batchSize);
    }
    requirePositive("bytes", bytes);
    double nats = 0;
    long tokens = 0;
    for (int begin = 0; begin < windows.size(); ) {
      int end = sameLength(windows, begin, batchSize);
      nats += nats(decoder, windows.subList(begin, end), separator, probe);
      tokens += (end - begin) * (windows.get(begin).length - 1L);
      begin = end;
    }
    return new HeldOutLoss(nats, tokens, bytes);
  }

  /// The end of the batch that starts at `begin`.
  private static int sameLength(List<long[]> windows, int begin, int batchSize) {
    int end = begin + 1;
    while (end < windows.size()
        && end - begin < batchSize
        && windows.get(end).length == windows.get(begin).length) {
      end++;
    }
    return end;
  }

  private static double nats(
      Decoder decoder, List<long[]> windows, OptionalInt separator, Probe probe) {
    int length = windows.getFirst().length;
    if (length < 2) {
      throw new InvalidInputException(
          "a held-out window has " + length + " tokens; it needs at least 2 to predict one");
    }
    long[] inputs = new long[windows.size() * (length - 1)];
    long[] targets = new long[inputs.length];
    for (int i = 0; i < windows.size(); i++) {
      long[] window = windows.get(i);
      decoder.config().requireInVocabulary(window);
      System.arraycopy(window, 0, inputs, i * (length - 1), length - 1);
      System.arraycopy(window, 1, targets, i * (length - 1), length - 1);
    }
    try (var _ = Scope.withoutGradient()) {
      var ids = Tensor.of(inputs, windows.size(), length - 1).to(decoder.device());
      var documents = DocumentStarts.of(inputs, windows.size(), length - 1, length - 1, separator);
      if (documents != null) {
        documents.bring(ids);
      }
      var hidden = decoder.hiddenStatesByDocument(ids, documents, probe);
      return nats(decoder, hidden.reshape(inputs.length, hidden.size(-1)), targets);
    }
  }

  /// A few rows at a time, because all logits of a large vocabulary would not fit.
  private static double nats(Decoder decoder, Tensor hiddenRows, long[] targets) {
    int rows = Math.toIntExact(Math.max(1, LOGITS_AT_ONCE / decoder.config().vocabSize()));
    double nats = 0;
    for (int begin = 0; begin < targets.length; begin += rows) {
      int end = Math.min(begin + rows, targets.length);
      try (var _ = Scope.withoutGradient()) {
        var logits = decoder.logits(hiddenRows.narrow(0, begin, end - begin));
        var wanted =
            Tensor.of(Arrays.copyOfRange(targets, begin, end), end - begin).to(decoder.device());
        nats += logits.to(ElementType.FLOAT64).crossEntropy(wanted).item() * (end - begin);
      }
    }
    return nats;
  }

  /// Mean next-token loss: Σ −ln p / tokens.
  public double nats() {
    return totalNats / tokens;
  }

  /// Perplexity per token: exp of [#nats]. Not comparable across tokenizers.
  public double perplexity() {
    return Math.exp(nats());
  }

  /// Σ −ln p / (ln 2 · bytes): comparable across tokenizers.
  public double bitsPerByte() {
    return totalNats / (Math.log(2) * bytes);
  }
}
