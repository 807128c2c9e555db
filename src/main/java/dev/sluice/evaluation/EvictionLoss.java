package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.evaluation.TaskDocument.Question;
import dev.sluice.probe.KeptKeys;
import dev.sluice.probe.Probe;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoubleConsumer;
import org.jspecify.annotations.Nullable;

/// What becomes of a text's loss when a cache keeps few keys: the purpose of a sink is that the
/// first ones must not be lost (StreamingLLM, arXiv 2309.17453). The text's windows are those of
/// its perplexity; only tokens are counted that come after the smaller of the caches is full, the
/// same for all.
///
/// @param kept which keys, in words
/// @param nats Σ −ln p
/// @param tokens how many were predicted
public record EvictionLoss(String kept, double nats, long tokens) {
  /// How many first keys StreamingLLM keeps.
  public static final int FIRST = 4;

  /// Measures with the last W keys, with the first [#FIRST] besides, and with all.
  ///
  /// @param window W
  /// @param progress takes the part that is done, from 0 to 1
  public static List<EvictionLoss> measure(
      Decoder decoder, RequestEncoder encoder, TaskData data, int window, DoubleConsumer progress) {
    int least = window + FIRST;
    List<TokenRequest> requests = new ArrayList<>();
    for (var document : data.documents()) {
      if (document.questions().getFirst() instanceof Question.Whole(String text)) {
        for (var each : encoder.rolling(text)) {
          int counted = Math.min(each.targets().length, each.inputs().length - least);
          if (counted > 0) {
            int all = each.targets().length;
            requests.add(
                new TokenRequest(
                    each.inputs(), Arrays.copyOfRange(each.targets(), all - counted, all), 0));
          }
        }
      }
    }
    if (requests.isEmpty()) {
      throw new InvalidInputException(
          "%s has no text of more than %d tokens, so that nothing is evicted; lower --eviction-window or give a longer text"
              .formatted(data.source(), least));
    }
    List<EvictionLoss> losses = new ArrayList<>();
    losses.add(loss("the last " + window, decoder, requests, new KeptKeys(0, window), progress, 0));
    losses.add(
        loss(
            "the first %d and the last %d".formatted(FIRST, window),
            decoder,
            requests,
            new KeptKeys(FIRST, window),
            progress,
            1));
    losses.add(loss("all", decoder, requests, null, progress, 2));
    return losses;
  }

  private static EvictionLoss loss(
      String words,
      Decoder decoder,
      List<TokenRequest> requests,
      @Nullable KeptKeys kept,
      DoubleConsumer progress,
      int part) {
    var probe =
        new Probe() {
          @Override
          public @Nullable KeptKeys keptKeys() {
            return kept;
          }
        };
    var scorer = new LikelihoodScorer(decoder, 1, probe);
    double nats = 0;
    long tokens = 0;
    for (int i = 0; i < requests.size(); i++) {
      // One at a time: what is shared would be continued from a state, which has all keys.
      nats -= scorer.score(List.of(requests.get(i))).getFirst().logLikelihood();
      tokens += requests.get(i).targets().length;
      progress.accept((part + (i + 1.0) / requests.size()) / 3);
    }
    return new EvictionLoss(words, nats, tokens);
  }

  /// exp of the mean loss.
  public double perplexity() {
    return Math.exp(nats / tokens);
  }
}
