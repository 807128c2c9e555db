package dev.sluice.ruler;

import dev.sluice.statistics.Statistics;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/// The scores of a model on a task at a length.
///
/// @param maxLength the length asked for
/// @param samples in their order, at least one
public record TaskScore(RulerTask task, int maxLength, List<Scored> samples) {
  /// Of the normal distribution, for 95 %.
  private static final double QUANTILE = 1.959963984540054;

  public TaskScore {
    samples = List.copyOf(samples);
  }

  private double[] scores() {
    return samples.stream().mapToDouble(Scored::score).toArray();
  }

  /// As the mode tells it: NVIDIA of 100 with two decimals, the port of 1.
  public double total(RulerMode mode) {
    return StringMatch.total(mode, scores());
  }

  /// From 0 to 1.
  public double mean() {
    return Statistics.mean(scores());
  }

  /// The lower end of Wilson's 95 % interval, from 0 to 1. Where answers are counted in part it is
  /// at least as wide as need be, since of all scores with a mean those of 0 and 1 vary most.
  public double low() {
    return Math.max(0, centre() - reach());
  }

  /// The upper end of that interval.
  public double high() {
    return Math.min(1, centre() + reach());
  }

  private double centre() {
    double n = samples.size();
    double z2 = QUANTILE * QUANTILE;
    return (mean() + z2 / (2 * n)) / (1 + z2 / n);
  }

  private double reach() {
    double n = samples.size();
    double z2 = QUANTILE * QUANTILE;
    double p = mean();
    return QUANTILE / (1 + z2 / n) * Math.sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  }

  /// How many answers are empty.
  public long nulls() {
    return samples.stream().filter(Scored::isNull).count();
  }

  /// Tokens used on the average, what is generated included.
  public double meanLength() {
    return samples.stream().mapToInt(Scored::length).average().orElse(Double.NaN);
  }

  /// Seconds that all answers took.
  public double seconds() {
    return samples.stream().mapToDouble(Scored::seconds).sum();
  }

  /// What this model has more than another on the same prompts.
  ///
  /// @param pairs of answers
  /// @param mean difference of the scores, from −1 to 1
  /// @param halfWidth of its 95 % interval by Student's t; NaN for one pair
  public record Difference(int pairs, double mean, double halfWidth) {}

  /// The paired difference; empty where the prompts are others, as they are for another tokenizer.
  public Optional<Difference> minus(TaskScore other) {
    Map<String, Double> others = new HashMap<>();
    other.samples().forEach(sample -> others.put(sample.prompt(), sample.score()));
    double[] differences =
        samples.stream()
            .filter(sample -> others.containsKey(sample.prompt()))
            .mapToDouble(sample -> sample.score() - others.getOrDefault(sample.prompt(), 0.0))
            .toArray();
    return differences.length < samples.size() || samples.size() != other.samples().size()
        ? Optional.empty()
        : Optional.of(
            new Difference(
                differences.length,
                Statistics.mean(differences),
                Statistics.interval95(differences)));
  }
}
