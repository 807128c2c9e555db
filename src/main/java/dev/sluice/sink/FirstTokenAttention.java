package dev.sluice.sink;

import dev.sluice.InvalidInputException;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/// How much of the attention goes to the first token.
///
/// For a sequence of n tokens, layer l and head h with weights A, the first token's share is α(l,
/// h) = 1/n · Σ_{i=1…n} A(i, 1). F-Attn (arXiv 2505.06708, table 4) is the mean of α over
/// sequences, heads and layers. Sink₁^ε (arXiv 2410.10781, section 3.2) is the share of all
/// (sequence, layer, head) with α > ε; there n = 64.
///
/// Attention that prefers no token has α = Hₙ/n, with Hₙ = Σ 1/i: 0.27 for 11 tokens, 0.013 for
/// 512. The result shows this floor beside the value, and both once more without the first queries,
/// where the floor is highest.
public final class FirstTokenAttention implements Probe {
  /// Queries at the start that the second mean leaves out.
  public static final int EXCLUDED_QUERIES = 4;

  /// ε of Sink₁^ε.
  public static final double SINK_THRESHOLD = 0.3;

  private final int excludedQueries;
  private final double threshold;
  private final TreeMap<Integer, Sums> layers = new TreeMap<>();

  /// With the usual four excluded queries and ε = 0.3.
  public FirstTokenAttention() {
    this(EXCLUDED_QUERIES, SINK_THRESHOLD);
  }

  public FirstTokenAttention(int excludedQueries, double threshold) {
    if (excludedQueries < 0) {
      throw new InvalidInputException(
          "the number of excluded queries must be at least 0, not " + excludedQueries);
    }
    if (!(threshold >= 0 && threshold < 1)) {
      throw new InvalidInputException(
          "the sink threshold must be at least 0 and below 1, not " + threshold);
    }
    this.excludedQueries = excludedQueries;
    this.threshold = threshold;
  }

  private static final class Sums {
    final double[] share;
    final double[] shareExcluding;
    final long[] sinks;
    double floor;
    double floorExcluding;
    long sequences;

    // of the pass that is under way, by sequence and head
    double[] all = {};
    double[] excluded = {};
    int queries;

    Sums(int heads) {
      this.share = new double[heads];
      this.shareExcluding = new double[heads];
      this.sinks = new long[heads];
    }

    void begin(int rows) {
      all = new double[rows];
      excluded = new double[rows];
    }
  }

  /// A layer's means over sequences and queries, and over heads where no head is named.
  ///
  /// @param mean α
  /// @param meanExcluding α over the queries that are not excluded
  /// @param sinkRate share of sequences and heads with α > ε
  /// @param heads α of each head
  /// @param headsExcluding the same over the queries that are not excluded
  public record Layer(
      int layer,
      double mean,
      double meanExcluding,
      double sinkRate,
      List<Double> heads,
      List<Double> headsExcluding) {
    public Layer {
      heads = List.copyOf(heads);
      headsExcluding = List.copyOf(headsExcluding);
    }
  }

  /// Means over layers, beside what uniform attention would give.
  ///
  /// @param sequences how many sequences were seen
  /// @param excludedQueries how many queries at the start the second mean leaves out
  /// @param threshold ε
  /// @param mean F-Attn
  /// @param uniformFloor F-Attn of uniform attention on sequences of the same lengths
  /// @param meanExcluding F-Attn over the queries that are not excluded
  /// @param uniformFloorExcluding the floor of that
  /// @param sinkRate Sink₁^ε, in [0, 1]
  public record Result(
      long sequences,
      int excludedQueries,
      double threshold,
      double mean,
      double uniformFloor,
      double meanExcluding,
      double uniformFloorExcluding,
      double sinkRate,
      List<Layer> layers) {
    public Result {
      layers = List.copyOf(layers);
    }
  }

  /// α of uniform causal attention: mean over queries i = excluded + 1 … n of 1/i; Hₙ/n when none
  /// is excluded.
  public static double uniformFloor(int tokens, int excludedQueries) {
    double sum = 0;
    for (int i = excludedQueries + 1; i <= tokens; i++) {
      sum += 1.0 / i;
    }
    return sum / (tokens - excludedQueries);
  }

  @Override
  public boolean wantsAttention(int layer) {
    return true;
  }

  @Override
  public void attention(int layer, int firstQuery, Tensor weightsBNRS) {
    int sequences = Math.toIntExact(weightsBNRS.size(0));
    int heads = Math.toIntExact(weightsBNRS.size(1));
    int queries = Math.toIntExact(weightsBNRS.size(2));
    int keys = Math.toIntExact(weightsBNRS.size(3));
    if (keys <= excludedQueries) {
      throw new InvalidInputException(
          "a sequence of "
              + keys
              + " tokens has no query left when the first "
              + excludedQueries
              + " are excluded; use longer ones, of at least 512 tokens if possible");
    }
    var sums = layers.computeIfAbsent(layer, _ -> new Sums(heads));
    if (firstQuery == 0) {
      sums.begin(sequences * heads);
    } else if (firstQuery != sums.queries) {
      throw new IllegalArgumentException(
          "queries from " + sums.queries + " on are next, not from " + firstQuery);
    }
    float[] firstKey = weightsBNRS.narrow(3, 0, 1).floats();
    for (int row = 0; row < sequences * heads; row++) {
      for (int i = 0; i < queries; i++) {
        double weight =
            NotFinite.require(firstKey[row * queries + i], "the attention weights of layer", layer);
        sums.all[row] += weight;
        sums.excluded[row] += firstQuery + i < excludedQueries ? weight : 0;
      }
    }
    sums.queries = firstQuery + queries;
    if (sums.queries == keys) {
      end(sums, sequences, heads);
    } else if (sums.queries > keys) {
      throw new IllegalArgumentException("a whole sequence is needed, not " + weightsBNRS);
    }
  }

  /// Takes up a pass whose last query was seen.
  private void end(Sums sums, int sequences, int heads) {
    int queries = sums.queries;
    for (int row = 0; row < sequences * heads; row++) {
      double share = sums.all[row] / queries;
      int head = row % heads;
      sums.share[head] += share;
      sums.shareExcluding[head] +=
          (sums.all[row] - sums.excluded[row]) / (queries - excludedQueries);
      sums.sinks[head] += share > threshold ? 1 : 0;
    }
    sums.floor += sequences * uniformFloor(queries, 0);
    sums.floorExcluding += sequences * uniformFloor(queries, excludedQueries);
    sums.sequences += sequences;
  }

  /// What was seen so far.
  public Result result() {
    List<Layer> results = new ArrayList<>();
    layers.forEach(
        (layer, sums) -> {
          List<Double> heads = divided(sums.share, sums.sequences);
          List<Double> excluding = divided(sums.shareExcluding, sums.sequences);
          double rate = mean(divided(toDouble(sums.sinks), sums.sequences));
          results.add(new Layer(layer, mean(heads), mean(excluding), rate, heads, excluding));
        });
    if (results.isEmpty()) {
      throw new IllegalStateException("no attention was seen");
    }
    // Every layer sees the same sequences.
    var any = layers.firstEntry().getValue();
    return new Result(
        any.sequences,
        excludedQueries,
        threshold,
        mean(results.stream().map(Layer::mean).toList()),
        any.floor / any.sequences,
        mean(results.stream().map(Layer::meanExcluding).toList()),
        any.floorExcluding / any.sequences,
        mean(results.stream().map(Layer::sinkRate).toList()),
        results);
  }

  private static double[] toDouble(long[] counts) {
    double[] values = new double[counts.length];
    for (int i = 0; i < counts.length; i++) {
      values[i] = counts[i];
    }
    return values;
  }

  private static List<Double> divided(double[] sums, long count) {
    List<Double> means = new ArrayList<>();
    for (double sum : sums) {
      means.add(sum / count);
    }
    return means;
  }

  private static double mean(List<Double> values) {
    return values.stream().mapToDouble(Double::doubleValue).sum() / values.size();
  }
}
