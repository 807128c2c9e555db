package dev.sluice.sink;

import dev.sluice.decoder.DecoderConfig;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// Which tokens attention goes to, wherever they stand: the start token, and sinks of other tokens,
/// such as delimiters.
///
/// **The start token** is the one that ends a document, and so stands before the next. For a query
/// that sees it at one or more earlier positions, the share of the query's attention that goes to
/// these, mean over such queries. Uniform attention gives that of the keys that hold it among all
/// that the query sees: the floor.
///
/// **Other tokens** by the importance of a key (Gu et al. 2024, arXiv 2410.10781, section 3.2) as
/// the queries after it have it: the mean of A(i, k) over the queries i > k that see k, taken over
/// all k that hold the token, but for the first position of a window, which [FirstTokenAttention]
/// measures. Uniform attention gives each of these pairs one over the number of keys that i sees.
/// The ratio of both is 1 for a token that attention does not prefer. A token is called a sink
/// where the ratio, over all heads, is at least [#SINK_RATIO]. Only tokens that stand at least
/// [#LEAST_COUNT] times in the windows are judged, and of these the [#MOST_JUDGED] most frequent:
/// few occurrences say little, and some tokens are seen by near queries alone.
public final class TokenAttention implements Probe {
  /// How often a token must stand in the windows, first positions apart.
  public static final int LEAST_COUNT = 8;

  /// How many times its uniform share a sink receives.
  public static final double SINK_RATIO = 2;

  /// Tokens that are judged at most.
  public static final int MOST_JUDGED = 4096;

  /// Tokens that are named of each head.
  public static final int NAMED_OF_A_HEAD = 3;

  /// Sinks that are named of the model.
  public static final int NAMED = 12;

  private final DecoderConfig model;
  private final Tokenizer tokenizer;
  private final int start;

  /// The judged tokens' ids, and where each stands among them.
  private final int[] ids;

  private final Map<Long, Integer> places = new HashMap<>();
  private final long[] counts;
  private final TreeMap<Integer, Sums[]> layers = new TreeMap<>();

  /// The judged token at each position of the window that is measured, −1 where there is none.
  private int[] judged = {};

  /// Of the window that is measured: how many of the tokens before a position are start tokens.
  private int[] startsBefore = {};

  /// Has seen nothing yet.
  ///
  /// @param windows that will be measured, each announced by [#begin]
  public TokenAttention(DecoderConfig model, Tokenizer tokenizer, List<long[]> windows) {
    this.model = model;
    this.tokenizer = tokenizer;
    this.start = tokenizer.knowsEndOfText() ? tokenizer.endOfText() : -1;
    Map<Long, Long> all = new HashMap<>();
    for (long[] window : windows) {
      for (int k = 1; k < window.length; k++) {
        all.merge(window[k], 1L, Long::sum);
      }
    }
    var most =
        all.entrySet().stream()
            .filter(token -> token.getValue() >= LEAST_COUNT)
            .sorted(
                Map.Entry.<Long, Long>comparingByValue()
                    .reversed()
                    .thenComparing(Map.Entry.comparingByKey()))
            .limit(MOST_JUDGED)
            .toList();
    this.ids = most.stream().mapToInt(token -> Math.toIntExact(token.getKey())).toArray();
    this.counts = most.stream().mapToLong(Map.Entry::getValue).toArray();
    for (int place = 0; place < most.size(); place++) {
      places.put(most.get(place).getKey(), place);
    }
  }

  /// Of a head.
  private static final class Sums {
    final double[] attention;
    double start;

    Sums(int tokens) {
      this.attention = new double[tokens];
    }
  }

  /// Of a layer: what does not depend on the head.
  private static final class Seen {
    final double[] uniform;
    final long[] pairs;
    double start;
    long queries;

    Seen(int tokens) {
      this.uniform = new double[tokens];
      this.pairs = new long[tokens];
    }
  }

  private final TreeMap<Integer, Seen> seen = new TreeMap<>();

  /// A token and the attention that it receives.
  ///
  /// @param text as the tokenizer has it; empty for a special token
  /// @param count how often it stands in the windows, first positions apart
  /// @param attention mean weight that a later query gives to it
  /// @param uniform what it would be of uniform attention
  public record Token(int id, String text, long count, double attention, double uniform) {
    /// How many times its uniform share it receives.
    public double times() {
      return attention / uniform;
    }
  }

  /// A layer's attention to the start token.
  ///
  /// @param mean over heads
  /// @param uniform what uniform attention would give in this layer
  public record StartLayer(int layer, double mean, double uniform, List<Double> heads) {
    public StartLayer {
      heads = List.copyOf(heads);
    }
  }

  /// Attention to the start token wherever it stands before a query.
  ///
  /// @param queries how many queries see one, in all windows
  /// @param mean over layers and heads
  /// @param uniform the floor
  public record StartToken(
      int id, long queries, double mean, double uniform, List<StartLayer> layers) {
    public StartToken {
      layers = List.copyOf(layers);
    }
  }

  /// The tokens that each head of a layer prefers, most preferred first.
  public record Layer(int layer, List<List<Token>> heads) {
    public Layer {
      heads = heads.stream().map(List::copyOf).toList();
    }
  }

  /// What was seen.
  ///
  /// @param startToken null where no query sees one
  /// @param judged how many tokens stand often enough
  /// @param sinks tokens that receive at least [#SINK_RATIO] times their uniform share over all
  ///   heads, at most [#NAMED], the most preferred first
  public record Result(
      @Nullable StartToken startToken, int judged, List<Token> sinks, List<Layer> layers) {
    public Result {
      sinks = List.copyOf(sinks);
      layers = List.copyOf(layers);
    }
  }

  /// Says which window the next pass goes over, which is one row.
  void begin(long[] window) {
    judged = new int[window.length];
    startsBefore = new int[window.length + 1];
    for (int k = 0; k < window.length; k++) {
      judged[k] = k == 0 ? -1 : places.getOrDefault(window[k], -1);
      startsBefore[k + 1] = startsBefore[k] + (window[k] == start ? 1 : 0);
    }
  }

  @Override
  public boolean wantsAttention(int layer) {
    return true;
  }

  @Override
  public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
    int heads = Math.toIntExact(weightsBNRS.size(1));
    int queries = Math.toIntExact(weightsBNRS.size(2));
    int keys = Math.toIntExact(weightsBNRS.size(3));
    if (weightsBNRS.size(0) != 1 || keys != judged.length) {
      throw new IllegalArgumentException(
          "a window of %d tokens was announced, not %s".formatted(judged.length, weightsBNRS));
    }
    int window = model.layers().get(layer).attention().orElseThrow().positions().window();
    count(layer, firstQuery, queries, window);
    var sums =
        layers.computeIfAbsent(
            layer,
            _ -> {
              var each = new Sums[heads];
              Arrays.setAll(each, _ -> new Sums(ids.length));
              return each;
            });
    for (int head = 0; head < heads; head++) {
      float[] weights = weightsBNRS.narrow(1, head, 1).floats();
      var sum = sums[head];
      for (int r = 0; r < queries; r++) {
        int query = firstQuery + r;
        for (int k = firstSeen(query, window); k < query; k++) {
          double weight =
              NotFinite.require(weights[r * keys + k], "the attention weights of layer", layer);
          if (judged[k] >= 0) {
            sum.attention[judged[k]] += weight;
          }
          if (startsBefore[k + 1] > startsBefore[k]) {
            sum.start += weight;
          }
        }
      }
    }
  }

  private static int firstSeen(int query, int window) {
    return window == 0 ? 0 : Math.max(0, query + 1 - window);
  }

  /// Takes up what uniform attention of these queries would give.
  private void count(int layer, int firstQuery, int queries, int window) {
    var of = seen.computeIfAbsent(layer, _ -> new Seen(ids.length));
    for (int query = firstQuery; query < firstQuery + queries; query++) {
      int first = firstSeen(query, window);
      double share = 1.0 / (query + 1 - first);
      for (int k = first; k < query; k++) {
        if (judged[k] >= 0) {
          of.uniform[judged[k]] += share;
          of.pairs[judged[k]]++;
        }
      }
      int starts = startsBefore[query] - startsBefore[first];
      if (starts > 0) {
        of.start += starts * share;
        of.queries++;
      }
    }
  }

  /// What was seen so far.
  public Result result() {
    if (layers.isEmpty()) {
      throw new IllegalStateException("no attention was seen");
    }
    double[] attention = new double[ids.length];
    double[] uniform = new double[ids.length];
    long[] pairs = new long[ids.length];
    var named = new ArrayList<Layer>();
    layers.forEach(
        (layer, heads) -> {
          var of = seen(layer);
          var tokens = new ArrayList<List<Token>>();
          for (var head : heads) {
            for (int place = 0; place < ids.length; place++) {
              attention[place] += head.attention[place];
              uniform[place] += of.uniform[place];
              pairs[place] += of.pairs[place];
            }
            tokens.add(preferred(head.attention, of.uniform, of.pairs, 0, NAMED_OF_A_HEAD));
          }
          named.add(new Layer(layer, tokens));
        });
    return new Result(
        startToken().orElse(null),
        ids.length,
        preferred(attention, uniform, pairs, SINK_RATIO, NAMED),
        named);
  }

  private Seen seen(int layer) {
    return Optional.ofNullable(seen.get(layer)).orElseThrow();
  }

  /// The most preferred tokens.
  ///
  /// @param least ratio
  private List<Token> preferred(
      double[] attention, double[] uniform, long[] pairs, double least, int most) {
    var tokens = new ArrayList<Token>();
    for (int place = 0; place < ids.length; place++) {
      if (pairs[place] > 0 && attention[place] >= least * uniform[place]) {
        tokens.add(
            new Token(
                ids[place],
                tokenizer.decode(new int[] {ids[place]}),
                counts[place],
                attention[place] / pairs[place],
                uniform[place] / pairs[place]));
      }
    }
    tokens.sort(Comparator.comparingDouble(Token::times).reversed().thenComparingInt(Token::id));
    return List.copyOf(tokens.subList(0, Math.min(most, tokens.size())));
  }

  private Optional<StartToken> startToken() {
    var results = new ArrayList<StartLayer>();
    long queries = 0;
    for (var layer : layers.entrySet()) {
      var of = seen(layer.getKey());
      if (of.queries == 0) {
        continue; // none in any window of keys
      }
      var heads = Arrays.stream(layer.getValue()).map(head -> head.start / of.queries).toList();
      results.add(new StartLayer(layer.getKey(), mean(heads), of.start / of.queries, heads));
      queries = Math.max(queries, of.queries);
    }
    return results.isEmpty()
        ? Optional.empty()
        : Optional.of(
            new StartToken(
                start,
                queries,
                mean(results.stream().map(StartLayer::mean).toList()),
                mean(results.stream().map(StartLayer::uniform).toList()),
                results));
  }

  private static double mean(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).average().orElseThrow();
  }
}
