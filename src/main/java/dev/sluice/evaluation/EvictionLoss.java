package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.evaluation.TaskDocument.Question;
import dev.sluice.files.AppendedFile;
import dev.sluice.files.JsonFile;
import dev.sluice.probe.KeptKeys;
import dev.sluice.probe.Probe;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.DoubleConsumer;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.json.JsonMapper;

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

  /// What a window of the text lost, as it stands in a file.
  ///
  /// @param kept as in [EvictionLoss]
  /// @param window its number
  private record Line(String kept, int window, double nats) {}

  private static final String WAY_OUT = "remove it, so that the text is measured again";

  private static final JsonMapper JSON =
      JsonFile.mapper().enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES).build();

  /// Measures with the last W keys, with the first [#FIRST] besides, and with all.
  ///
  /// @param window W
  /// @param file of what each window of the text lost, as it comes: what stands there is not
  ///   measured again; of this model, text and W alone
  /// @param progress takes the part that is done, from 0 to 1
  public static List<EvictionLoss> measure(
      Decoder decoder,
      RequestEncoder encoder,
      TaskData data,
      int window,
      Path file,
      DoubleConsumer progress)
      throws IOException {
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
    Map<String, @Nullable KeptKeys> caches = new LinkedHashMap<>();
    caches.put("the last " + window, new KeptKeys(0, window));
    caches.put(
        "the first %d and the last %d".formatted(FIRST, window), new KeptKeys(FIRST, window));
    caches.put("all", null);
    var known = known(file, caches.keySet(), requests.size());
    long tokens = requests.stream().mapToLong(request -> request.targets().length).sum();
    List<EvictionLoss> losses = new ArrayList<>();
    try (var lines = AppendedFile.open(file)) {
      int done = 0;
      for (var cache : caches.entrySet()) {
        String kept = cache.getKey();
        var scorer = new LikelihoodScorer(decoder, 1, probe(cache.getValue()));
        var before = known.getOrDefault(kept, Map.of());
        double nats = 0;
        for (int i = 0; i < requests.size(); i++) {
          Double loss = before.get(i);
          if (loss == null) {
            // One at a time: what is shared would be continued from a state, which has all keys.
            loss = -scorer.score(List.of(requests.get(i))).getFirst().logLikelihood();
            lines.line(JSON.writeValueAsString(new Line(kept, i, loss)));
          }
          nats += loss;
          progress.accept(++done / (3.0 * requests.size()));
        }
        losses.add(new EvictionLoss(kept, nats, tokens));
      }
    }
    return losses;
  }

  private static Map<String, Map<Integer, Double>> known(Path file, Set<String> kept, int windows)
      throws IOException {
    Map<String, Map<Integer, Double>> known = new HashMap<>();
    for (String text : AppendedFile.lines(file, JsonFile.LARGE, WAY_OUT)) {
      try {
        var line = JSON.readValue(text, Line.class);
        if (!kept.contains(line.kept()) || line.window() < 0 || line.window() >= windows) {
          throw new InvalidInputException(
              "%s has losses of another text than this; %s".formatted(file, WAY_OUT));
        }
        known.computeIfAbsent(line.kept(), _ -> new HashMap<>()).put(line.window(), line.nats());
      } catch (JacksonException e) {
        throw new InvalidInputException(
            "%s has a line that is no loss (%s); %s"
                .formatted(file, JsonFile.problem(text, e), WAY_OUT),
            e);
      }
    }
    return known;
  }

  private static Probe probe(@Nullable KeptKeys kept) {
    return new Probe() {
      @Override
      public @Nullable KeptKeys keptKeys() {
        return kept;
      }
    };
  }

  /// exp of the mean loss.
  public double perplexity() {
    return Math.exp(nats / tokens);
  }
}
