package dev.sluice.study;

import dev.sluice.statistics.Statistics;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SequencedMap;
import java.util.function.Function;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/// What a study's trials say, as numbers; `pages` makes words, tables and pictures of them.
///
/// Arms are compared over the seeds that they share and no other: a seed that one of them has not
/// done, or on which it diverged, is left out for the other too.
public final class Comparisons {
  /// The grid's setting whose sweep has a sensitivity.
  public static final String LEARNING_RATE = "learning_rate";

  /// The level of the tests.
  private static final double LEVEL = 0.05;

  /// What measures inside models count as at least where they are compared by their logarithm: a
  /// thousandth, of attention or of |x|.
  private static final double SMALLEST = 1e-3;

  /// Measurements of an arm and of the one that it is compared with, on the seeds that both have.
  @SuppressWarnings("ArrayRecordComponent") // nobody compares pairs
  public record Pairs(List<Long> seeds, double[] ofArm, double[] ofBaseline) {
    public Pairs {
      seeds = List.copyOf(seeds);
    }

    public int count() {
      return seeds.size();
    }

    /// Arm minus baseline, seed by seed.
    public double[] differences() {
      return Statistics.differences(ofArm, ofBaseline);
    }

    /// The mean difference; NaN without pairs.
    public double mean() {
      return Statistics.mean(differences());
    }

    /// Half the width of its 95 % interval; NaN for fewer than two pairs.
    public double half() {
      return Statistics.interval95(differences());
    }

    /// The mean difference over the baseline's mean on the same seeds.
    public double relative() {
      return mean() / Statistics.mean(ofBaseline);
    }
  }

  /// An arm against the baseline at the same point of the grid, in held-out bits per byte.
  ///
  /// @param corrected p-value of no difference, with Holm's correction over all comparisons; NaN
  ///   for fewer than two pairs
  public record Comparison(Arm arm, Pairs pairs, double corrected) {
    /// Whether two pairs or more let it be tested.
    public boolean tested() {
      return !Double.isNaN(corrected);
    }

    public boolean shown() {
      return corrected <= LEVEL;
    }
  }

  /// The learning-rate sensitivity of a variant (arXiv 2309.14322, section 2.2): the mean over the
  /// learning rates of what its loss, at most that of [#boundedLoss], is above its best, in nats.
  ///
  /// @param bySeed for each seed on which all learning rates are done and not all diverged
  /// @param pairs with the baseline variant's; none for itself
  /// @param corrected as a comparison's, over all sensitivities
  public record Sensitivity(
      Variant variant, SequencedMap<Long, Double> bySeed, Pairs pairs, double corrected) {
    public double mean() {
      return Statistics.mean(bySeed.values().stream().mapToDouble(value -> value).toArray());
    }
  }

  /// Trials of several arms that may be shown side by side.
  ///
  /// @param seeds that all of them have; empty where no seed is common, and each arm then has its
  ///   own
  /// @param trials of each arm that has any, in the order of the seeds
  public record Shown(List<Long> seeds, SequencedMap<Arm, List<TrialResult>> trials) {}

  /// A point of the grid.
  ///
  /// @param best whether the baseline's loss is known to be lowest there
  public record Point(Map<String, String> settings, boolean best) {}

  private static final SequencedMap<Long, TrialResult> NONE = Collections.emptySortedMap();

  private final Study study;
  private final List<Arm> arms;
  private final Map<Arm, SequencedMap<Long, TrialResult>> done = new HashMap<>();
  private final Map<Arm, SequencedMap<Long, TrialResult>> finished = new HashMap<>();
  private final List<Comparison> comparisons;
  private final List<Inside> inside;
  private final List<Sensitivity> sensitivities;

  /// @param results what there is of the study's trials, in any order
  public Comparisons(Study study, List<TrialResult> results) {
    this.study = study;
    this.arms = study.arms();
    Map<Trial.Name, TrialResult> byName = new HashMap<>();
    results.forEach(result -> byName.put(result.name(), result));
    for (Arm arm : arms) {
      var all = new LinkedHashMap<Long, TrialResult>();
      for (long seed : study.seeds()) {
        var result = byName.get(new Trial.Name(arm.variant().name(), arm.point(), seed));
        if (result != null) {
          all.put(seed, result);
        }
      }
      done.put(arm, all);
      var survivors = new LinkedHashMap<>(all);
      survivors.values().removeIf(TrialResult::diverged);
      finished.put(arm, survivors);
    }
    this.comparisons = compared();
    this.inside = comparedInside();
    this.sensitivities = sweepsLearningRates() ? sensitive() : List.of();
  }

  // ---------------------------------------------------------------- trials

  /// The arm's trials that are done, by seed.
  public SequencedMap<Long, TrialResult> done(Arm arm) {
    return done.getOrDefault(arm, NONE);
  }

  /// Those that did not diverge.
  public SequencedMap<Long, TrialResult> finished(Arm arm) {
    return finished.getOrDefault(arm, NONE);
  }

  /// What may be shown side by side of the trials that did not diverge.
  public Shown finished(List<Arm> some) {
    return shown(some, this::finished);
  }

  private Shown shown(List<Arm> some, Function<Arm, SequencedMap<Long, TrialResult>> trialsOf) {
    var all = new LinkedHashMap<Arm, SequencedMap<Long, TrialResult>>();
    some.forEach(arm -> all.put(arm, trialsOf.apply(arm)));
    all.values().removeIf(Map::isEmpty);
    var common = new LinkedHashSet<Long>(all.isEmpty() ? List.of() : study.seeds());
    all.values().forEach(bySeed -> common.retainAll(bySeed.keySet()));
    var trials = new LinkedHashMap<Arm, List<TrialResult>>();
    all.forEach(
        (arm, bySeed) ->
            trials.put(
                arm,
                bySeed.values().stream()
                    .filter(result -> common.isEmpty() || common.contains(result.seed()))
                    .toList()));
    return new Shown(List.copyOf(common), trials);
  }

  private static Pairs pairs(
      Map<Long, Double> ofArm, Map<Long, Double> ofBaseline, List<Long> seeds) {
    var common =
        seeds.stream()
            .filter(seed -> ofArm.containsKey(seed) && ofBaseline.containsKey(seed))
            .toList();
    return new Pairs(
        common,
        common.stream().mapToDouble(ofArm::get).toArray(),
        common.stream().mapToDouble(ofBaseline::get).toArray());
  }

  // ---------------------------------------------------------------- losses

  /// Every arm but the baselines against the baseline at its point of the grid.
  public List<Comparison> comparisons() {
    return comparisons;
  }

  private List<Comparison> compared() {
    var compared = arms.stream().filter(arm -> !arm.equals(study.baseline(arm))).toList();
    var pairs =
        compared.stream()
            .map(arm -> pairs(arm, study.baseline(arm), TrialResult::bitsPerByte))
            .toList();
    double[] corrected = corrected(pairs);
    List<Comparison> comparisons = new ArrayList<>();
    for (int i = 0; i < pairs.size(); i++) {
      comparisons.add(new Comparison(compared.get(i), pairs.get(i), corrected[i]));
    }
    return comparisons;
  }

  /// A measure of two arms on the seeds that both finished.
  public Pairs pairs(Arm arm, Arm baseline, ToDoubleFunction<TrialResult> measure) {
    return pairs(measured(arm, measure), measured(baseline, measure), study.seeds());
  }

  /// What is not measured, NaN, is left out.
  private Map<Long, Double> measured(Arm arm, ToDoubleFunction<TrialResult> measure) {
    Map<Long, Double> measured = new HashMap<>();
    finished(arm)
        .forEach(
            (seed, result) -> {
              double value = measure.applyAsDouble(result);
              if (!Double.isNaN(value)) {
                measured.put(seed, value);
              }
            });
    return measured;
  }

  // ---------------------------------------------------------------- inside the models

  /// A measure of an arm's models against the baseline's at the same point of the grid. Such
  /// measures are positive and their scale differs from seed to seed, so that their ratios are
  /// compared: the pairs are of logarithms.
  ///
  /// @param logarithms natural, of both
  /// @param corrected p-value of no difference, with Holm's correction over all such comparisons of
  ///   the study; NaN for fewer than two pairs
  public record Inside(Arm arm, Measure measure, Pairs logarithms, double corrected) {
    public boolean shown() {
      return corrected <= LEVEL;
    }

    /// The geometric mean of the arm's models.
    public double ofArm() {
      return Math.exp(Statistics.mean(logarithms.ofArm()));
    }

    /// The geometric mean of the baseline's models.
    public double ofBaseline() {
      return Math.exp(Statistics.mean(logarithms.ofBaseline()));
    }

    /// Their ratio, or an end of its 95 % interval.
    ///
    /// @param at -1 for the lower end, 0 for the middle, 1 for the upper end
    public double ratio(int at) {
      return Math.exp(logarithms.mean() + (at == 0 ? 0 : at * logarithms.half()));
    }
  }

  /// Every arm but the baselines by every measure that both have.
  public List<Inside> inside() {
    return inside;
  }

  private List<Inside> comparedInside() {
    List<Inside> found = new ArrayList<>();
    for (Arm arm : arms) {
      Arm baseline = study.baseline(arm);
      for (Measure measure :
          arm.equals(baseline) ? List.<Measure>of() : List.of(Measure.values())) {
        var pairs =
            pairs(arm, baseline, result -> Math.log(Math.max(SMALLEST, measure.of(result))));
        if (pairs.count() > 0) {
          found.add(new Inside(arm, measure, pairs, Double.NaN));
        }
      }
    }
    double[] corrected = corrected(found.stream().map(Inside::logarithms).toList());
    return IntStream.range(0, found.size())
        .mapToObj(
            i ->
                new Inside(
                    found.get(i).arm(),
                    found.get(i).measure(),
                    found.get(i).logarithms(),
                    corrected[i]))
        .toList();
  }

  private static double[] corrected(List<Pairs> pairs) {
    return Statistics.holm(
        pairs.stream().mapToDouble(p -> Statistics.pValue(p.differences())).toArray());
  }

  /// The median over the comparisons of the differences' standard deviation: what decides how small
  /// a difference the study can show. Empty without two pairs.
  public Optional<Double> deviation() {
    double[] deviations =
        comparisons.stream()
            .filter(comparison -> comparison.pairs().count() >= 2)
            .mapToDouble(c -> Statistics.standardDeviation(c.pairs().differences()))
            .toArray();
    return deviations.length == 0 ? Optional.empty() : Optional.of(Statistics.median(deviations));
  }

  // ---------------------------------------------------------------- grids

  /// Whether the grid is one of learning rates.
  public boolean sweepsLearningRates() {
    return study.grid().size() == 1
        && study.grid().getOrDefault(LEARNING_RATE, List.of()).size() > 1;
  }

  /// Of all variants that have any, the baseline's first; empty without a sweep.
  public List<Sensitivity> sensitivities() {
    return sensitivities;
  }

  private List<Sensitivity> sensitive() {
    var baseline = study.variants().getFirst();
    var ofBaseline = sensitivity(baseline);
    List<Variant> variants = new ArrayList<>();
    List<SequencedMap<Long, Double>> bySeed = new ArrayList<>();
    List<Pairs> pairs = new ArrayList<>();
    for (Variant variant : study.variants()) {
      var values = sensitivity(variant);
      if (!values.isEmpty()) {
        variants.add(variant);
        bySeed.add(values);
        pairs.add(pairs(values, variant.equals(baseline) ? Map.of() : ofBaseline, study.seeds()));
      }
    }
    double[] corrected = corrected(pairs);
    List<Sensitivity> sensitivities = new ArrayList<>();
    for (int i = 0; i < variants.size(); i++) {
      sensitivities.add(
          new Sensitivity(variants.get(i), bySeed.get(i), pairs.get(i), corrected[i]));
    }
    return sensitivities;
  }

  private SequencedMap<Long, Double> sensitivity(Variant variant) {
    var rates = arms.stream().filter(arm -> arm.variant().equals(variant)).toList();
    var sensitivity = new LinkedHashMap<Long, Double>();
    for (long seed : study.seeds()) {
      var trials = rates.stream().flatMap(arm -> Stream.ofNullable(done(arm).get(seed))).toList();
      double[] losses = trials.stream().mapToDouble(Comparisons::boundedLoss).toArray();
      double best = Arrays.stream(losses).min().orElse(Double.NaN);
      if (trials.size() == rates.size()
          && !trials.stream().allMatch(TrialResult::diverged)
          && !Double.isNaN(best)) {
        sensitivity.put(seed, Statistics.mean(losses) - best);
      }
    }
    return sensitivity;
  }

  /// Held-out loss in nats, at most that of a model that has learned nothing
  /// ([TrialResult#lossBound]), which stands for a diverged one; not bounded, and NaN for a
  /// diverged one, where that is not known.
  public static double boundedLoss(TrialResult result) {
    return result.diverged()
        ? result.lossBound()
        : Double.isNaN(result.lossBound())
            ? result.heldOutLoss()
            : Math.min(result.heldOutLoss(), result.lossBound());
  }

  /// The bounded losses of all arms that have trials, over the same seeds.
  public Shown sweep() {
    return shown(arms, this::done);
  }

  /// Where the baseline's bounded loss is lowest over the seeds that are done at all points at
  /// which it has a finished trial; without such seeds, the first such point.
  public Point shownPoint() {
    var baselines =
        arms.stream()
            .filter(arm -> arm.equals(study.baseline(arm)) && !finished(arm).isEmpty())
            .toList();
    if (baselines.isEmpty()) {
      var any = arms.stream().filter(arm -> !finished(arm).isEmpty()).findFirst();
      return new Point(any.orElse(arms.getFirst()).point(), false);
    }
    var shown = shown(baselines, this::done);
    Arm best = baselines.getFirst();
    double lowest = Double.POSITIVE_INFINITY;
    for (Arm arm : shown.seeds().isEmpty() ? List.<Arm>of() : baselines) {
      double loss =
          Statistics.mean(
              shown.trials().getOrDefault(arm, List.of()).stream()
                  .mapToDouble(Comparisons::boundedLoss)
                  .toArray());
      if (loss < lowest) {
        best = arm;
        lowest = loss;
      }
    }
    boolean all =
        arms.stream().allMatch(arm -> !arm.equals(study.baseline(arm)) || !done(arm).isEmpty());
    return new Point(best.point(), all && Double.isFinite(lowest));
  }
}
