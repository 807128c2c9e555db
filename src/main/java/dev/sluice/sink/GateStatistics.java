package dev.sluice.sink;

import dev.sluice.InvalidInputException;
import dev.sluice.gate.GatePosition;
import dev.sluice.probe.Probe;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// How open the gates are, and what they leave of the attention's output (arXiv 2505.06708, section
/// 4 and figures 3 and 7).
public final class GateStatistics implements Probe {
  /// Bins of the histograms over [0, 1].
  public static final int BINS = 50;

  private final TreeMap<Integer, Map<String, Tally[]>> gates = new TreeMap<>();
  private final TreeMap<Integer, Sizes[]> outputs = new TreeMap<>();
  private long batch = 1;
  private long tokens = 1;

  /// Has seen nothing yet.
  public GateStatistics() {}

  /// A gate's scores over all tokens.
  ///
  /// @param count how many scores; a score that is the same for every token counts once per token
  /// @param standardDeviation over all scores, the root of their mean squared distance from the
  ///   mean
  /// @param belowTenth share of scores below 0.1
  /// @param belowHalf share of scores below 0.5
  /// @param firstTokenMean mean over the sequences' first tokens
  /// @param otherTokensMean mean over all tokens but these
  /// @param histogram counts in [BINS][#BINS] equal bins over [0, 1]; smaller and larger scores are
  ///   in the outer bins
  /// @param outside how many scores lie outside [0, 1]
  public record Scores(
      long count,
      double mean,
      double standardDeviation,
      double minimum,
      double maximum,
      double belowTenth,
      double belowHalf,
      double firstTokenMean,
      double otherTokensMean,
      List<Long> histogram,
      long outside) {
    public Scores {
      histogram = List.copyOf(histogram);
    }
  }

  /// One gate of one layer.
  ///
  /// @param position where the gate is: `sdpa`, `value`, …
  /// @param scores all heads together
  /// @param heads each head, for the gate on the output of scaled dot-product attention, or the one
  ///   that they share; else empty
  public record LayerGate(int layer, String position, Scores scores, List<Scores> heads) {
    public LayerGate {
      heads = List.copyOf(heads);
    }
  }

  /// Sizes |y| of a tensor's entries.
  ///
  /// @param belowHundredth share below 10⁻²
  /// @param belowThousandth share below 10⁻³
  public record Magnitude(
      double mean, double maximum, double belowHundredth, double belowThousandth) {}

  /// A layer's output of scaled dot-product attention before and after its gate; the same twice
  /// where it has none.
  public record LayerOutput(int layer, Magnitude before, Magnitude after) {}

  /// @param gates by layer, each layer's in the order in which they act; empty for a model without
  ///   gates
  /// @param outputs by layer
  public record Result(List<LayerGate> gates, List<LayerOutput> outputs) {
    public Result {
      gates = List.copyOf(gates);
      outputs = List.copyOf(outputs);
    }

    /// The paper's gate score: the mean over tokens and layers of the gates at a position.
    public double meanScore(GatePosition position) {
      return gates.stream()
          .filter(gate -> gate.position().equals(position.word()))
          .mapToDouble(gate -> gate.scores().mean())
          .average()
          .orElseThrow(
              () ->
                  new InvalidInputException(
                      "the model has no gate at the position '"
                          + position.word()
                          + "'; choose one that it has"));
    }
  }

  private static final class Tally {
    long count;
    double sum;
    double squares;
    double minimum = Double.POSITIVE_INFINITY;
    double maximum = Double.NEGATIVE_INFINITY;
    long belowTenth;
    long belowHalf;
    long firstCount;
    double firstSum;
    final long[] histogram = new long[BINS];
    long outside;

    void add(float score, long first, long others) {
      long times = first + others;
      count += times;
      sum += times * (double) score;
      squares += times * ((double) score * score);
      minimum = Math.min(minimum, score);
      maximum = Math.max(maximum, score);
      belowTenth += score < 0.1f ? times : 0;
      belowHalf += score < 0.5f ? times : 0;
      firstCount += first;
      firstSum += first * (double) score;
      histogram[Math.clamp((int) Math.floor((double) score * BINS), 0, BINS - 1)] += times;
      outside += score < 0 || score > 1 ? times : 0;
    }

    void add(Tally other) {
      count += other.count;
      sum += other.sum;
      squares += other.squares;
      minimum = Math.min(minimum, other.minimum);
      maximum = Math.max(maximum, other.maximum);
      belowTenth += other.belowTenth;
      belowHalf += other.belowHalf;
      firstCount += other.firstCount;
      firstSum += other.firstSum;
      Arrays.setAll(histogram, bin -> histogram[bin] + other.histogram[bin]);
      outside += other.outside;
    }

    Scores scores() {
      double mean = sum / count;
      return new Scores(
          count,
          mean,
          Math.sqrt(Math.max(0, squares / count - mean * mean)),
          minimum,
          maximum,
          (double) belowTenth / count,
          (double) belowHalf / count,
          firstSum / firstCount,
          (sum - firstSum) / (count - firstCount),
          Arrays.stream(histogram).boxed().toList(),
          outside);
    }
  }

  private static final class Sizes {
    long count;
    double sum;
    float maximum;
    long belowHundredth;
    long belowThousandth;

    void add(float[] values, int layer) {
      for (float value : values) {
        float size = Math.abs(NotFinite.require(value, "the attention outputs of layer", layer));
        sum += size;
        maximum = Math.max(maximum, size);
        belowHundredth += size < 1e-2f ? 1 : 0;
        belowThousandth += size < 1e-3f ? 1 : 0;
      }
      count += values.length;
    }

    Magnitude magnitude() {
      return new Magnitude(
          sum / count, maximum, (double) belowHundredth / count, (double) belowThousandth / count);
    }
  }

  @Override
  public boolean wantsGates(int layer) {
    return true;
  }

  /// Scores that do not depend on the input come once for all tokens, so their number must be known
  /// from elsewhere.
  @Override
  public void residual(int index, Tensor xBTD) {
    batch = xBTD.size(0);
    tokens = xBTD.size(1);
  }

  @Override
  public void gate(int layer, String position, Tensor scores) {
    long sequences = scores.size(0);
    long positions = scores.size(1);
    int heads = Math.toIntExact(scores.size(2));
    int perHead = Math.toIntExact(scores.size(3));
    var tallies =
        gates
            .computeIfAbsent(layer, _ -> new LinkedHashMap<>())
            .computeIfAbsent(position, _ -> tallies(heads));
    // A dimension of 1 stands for as many sequences, or tokens, as the pass has.
    long copies = sequences == 1 ? batch : 1;
    long othersPerScore = positions == 1 ? tokens - 1 : 0;
    float[] values = scores.floats();
    int i = 0;
    for (long sequence = 0; sequence < sequences; sequence++) {
      for (long token = 0; token < positions; token++) {
        long first = token == 0 ? copies : 0;
        long others = token == 0 ? copies * othersPerScore : copies;
        for (int head = 0; head < heads; head++) {
          for (int h = 0; h < perHead; h++) {
            float score = NotFinite.require(values[i++], "the gate scores of layer", layer);
            tallies[head].add(score, first, others);
          }
        }
      }
    }
  }

  private static Tally[] tallies(int heads) {
    var tallies = new Tally[heads];
    Arrays.setAll(tallies, _ -> new Tally());
    return tallies;
  }

  @Override
  public void sdpaOutput(int layer, Tensor beforeBTNH, Tensor afterBTNH) {
    var sizes = outputs.computeIfAbsent(layer, _ -> new Sizes[] {new Sizes(), new Sizes()});
    sizes[0].add(beforeBTNH.floats(), layer);
    sizes[1].add(afterBTNH.floats(), layer);
  }

  /// What was seen so far.
  public Result result() {
    List<LayerGate> layerGates = new ArrayList<>();
    gates.forEach(
        (layer, positions) ->
            positions.forEach(
                (position, heads) -> layerGates.add(layerGate(layer, position, heads))));
    List<LayerOutput> layerOutputs = new ArrayList<>();
    outputs.forEach(
        (layer, sizes) ->
            layerOutputs.add(new LayerOutput(layer, sizes[0].magnitude(), sizes[1].magnitude())));
    return new Result(layerGates, layerOutputs);
  }

  private static LayerGate layerGate(int layer, String position, Tally[] heads) {
    var all = new Tally();
    for (Tally head : heads) {
      all.add(head);
    }
    boolean perHead = position.equals(GatePosition.SDPA_OUTPUT.word());
    return new LayerGate(
        layer,
        position,
        all.scores(),
        perHead ? Arrays.stream(heads).map(Tally::scores).toList() : List.of());
  }
}
