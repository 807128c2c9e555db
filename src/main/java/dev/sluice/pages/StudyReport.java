package dev.sluice.pages;

import dev.sluice.corpus.BigramBackcopy;
import dev.sluice.report.Cell;
import dev.sluice.report.HtmlReport;
import dev.sluice.report.LineChart;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.statistics.Statistics;
import dev.sluice.study.Arm;
import dev.sluice.study.Comparisons;
import dev.sluice.study.Comparisons.Comparison;
import dev.sluice.study.Comparisons.Inside;
import dev.sluice.study.Comparisons.Pairs;
import dev.sluice.study.Comparisons.Sensitivity;
import dev.sluice.study.Matching;
import dev.sluice.study.Measure;
import dev.sluice.study.Study;
import dev.sluice.study.TrialResult;
import dev.sluice.study.Variant;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.ToDoubleFunction;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// What a study says: sentences, tables, and a page with pictures.
public final class StudyReport {
  /// The page's title.
  public static final String TITLE = "Does a gate help?";

  /// Differences of single pairs that a sentence names.
  private static final int NAMED_DIFFERENCES = 10;

  /// Up to so many comparisons have sentences of their own.
  private static final int FEW = 4;

  /// Up to so many comparisons have rows for each measure inside the models.
  private static final int SOME = 12;

  private final Study study;
  private final Path directory;
  private final Comparisons comparisons;
  private final StudyFigures figures;
  private final List<String> mixtures;
  private final Map<Arm, Comparison> ofArm = new HashMap<>();

  /// @param results of the trials that are done
  public StudyReport(Study study, Path directory, List<TrialResult> results) {
    this(study, directory, results, TrialRecords.OF_FINISHED);
  }

  /// @param results of the trials that are done
  /// @param records of the trials
  public StudyReport(Study study, Path directory, List<TrialResult> results, TrialRecords records) {
    this.study = study;
    this.directory = directory;
    this.comparisons = new Comparisons(study, results);
    this.figures = new StudyFigures(study, directory, comparisons, records);
    this.mixtures = study.mixtures(directory);
    comparisons.comparisons().forEach(comparison -> ofArm.put(comparison.arm(), comparison));
  }

  // ---------------------------------------------------------------- words

  /// What can and what cannot be concluded, baseline against each variant.
  public List<String> sentences() {
    List<String> sentences = new ArrayList<>(inside());
    sentences.addAll(conclusions());
    figures.sinks().values().stream()
        .flatMap(sink -> sink.warnings().stream())
        .distinct()
        .forEach(sentences::add);
    untrainedPositions().ifPresent(sentences::add);
    sentences.addAll(mixtures);
    long done = 0;
    for (Arm arm : study.arms()) {
      int trials = comparisons.done(arm).size();
      int diverged = trials - comparisons.finished(arm).size();
      done += trials;
      if (diverged > 0) {
        sentences.add(
            "%s: %d of %d trials diverged; means and pairs leave them out, so they speak of the survivors only."
                .formatted(arm.name(), diverged, trials));
      }
    }
    long missing = (long) study.arms().size() * study.seeds().size() - done;
    if (missing > 0) {
      sentences.add(missing + " of the study's trials are not done yet.");
    }
    sentences.addAll(size());
    return sentences;
  }

  // ---------------------------------------------------------------- inside the models

  /// What the gates changed inside the models, where few are compared.
  private List<String> inside() {
    if (comparisons.comparisons().size() > FEW) {
      return List.of();
    }
    List<String> sentences = new ArrayList<>();
    for (Arm arm : study.arms()) {
      var of = comparisons.inside().stream().filter(one -> one.arm().equals(arm)).toList();
      if (of.isEmpty() || of.getFirst().logarithms().count() < 2) {
        continue;
      }
      var shown = of.stream().filter(Inside::shown).toList();
      var rest = of.stream().filter(one -> !one.shown()).map(one -> one.measure().words()).toList();
      sentences.add(
          "%s against %s, inside the models: %s.%s%s"
              .formatted(
                  arm.name(),
                  study.baseline(arm).name(),
                  shown.isEmpty()
                      ? "no difference shown in " + String.join("; ", rest)
                      : String.join("; ", shown.stream().map(StudyReport::change).toList()),
                  shown.isEmpty() || rest.isEmpty()
                      ? ""
                      : " No difference shown in: " + String.join("; ", rest) + ".",
                  sparsity(arm)));
    }
    return sentences;
  }

  /// `attention to the first token, strongest head: 3.1 %, not 71.0 % (a ratio of 0.04, 95 %
  /// interval 0.02 to 0.08)`.
  private static String change(Inside one) {
    return "%s: %s, not %s (a ratio of %s, 95 %% interval %s to %s)"
        .formatted(
            one.measure().words(),
            inUnit(one.measure(), one.ofArm()),
            inUnit(one.measure(), one.ofBaseline()),
            Numbers.significant(one.ratio(0), 2),
            Numbers.significant(one.ratio(-1), 2),
            Numbers.significant(one.ratio(1), 2));
  }

  private static String inUnit(Measure measure, double value) {
    return measure.isShare() ? Numbers.fixed(100 * value, 1) + " %" : Numbers.fixed(value, 1);
  }

  private String sparsity(Arm arm) {
    var below =
        comparisons.finished(arm).values().stream()
            .map(TrialResult::inside)
            .flatMap(Stream::ofNullable)
            .map(TrialResult.Inside::scoresBelowTenth)
            .flatMap(Stream::ofNullable)
            .mapToDouble(share -> 100 * share)
            .toArray();
    var mean =
        comparisons.finished(arm).values().stream()
            .map(TrialResult::meanGate)
            .flatMap(Stream::ofNullable)
            .mapToDouble(score -> score)
            .toArray();
    return below.length < 2
        ? ""
        : " Its gate scores: mean %s ± %s; %s %% ± %s of them are below 0.1 (± 95 %% intervals)."
            .formatted(
                Numbers.fixed(Statistics.mean(mean), 2),
                Numbers.fixed(Statistics.interval95(mean), 2),
                Numbers.fixed(Statistics.mean(below), 0),
                Numbers.fixed(Statistics.interval95(below), 0));
  }

  private Table insideTable() {
    var columns = armColumns();
    columns.addAll(
        List.of("measure", "baseline's", "variant's", "ratio", "95 % interval", "p, corrected"));
    var table = titled("Inside the models").columns(columns.toArray(String[]::new));
    for (Inside one : comparisons.inside()) {
      int pairs = one.logarithms().count();
      var row = armCells(one.arm());
      row.addAll(
          List.of(
              Cell.of(one.measure().words()),
              new Cell.Quantity(one.ofBaseline(), inUnit(one.measure(), one.ofBaseline())),
              new Cell.Quantity(one.ofArm(), inUnit(one.measure(), one.ofArm())),
              Cell.significant(one.ratio(0), 2),
              pairs < 2
                  ? Cell.missing()
                  : Cell.of(
                      Numbers.significant(one.ratio(-1), 2)
                          + " to "
                          + Numbers.significant(one.ratio(1), 2)),
              Double.isNaN(one.corrected())
                  ? Cell.missing()
                  : new Cell.Quantity(one.corrected(), probability(one.corrected()))));
      table = table.row(row);
    }
    return table.footnote(
        "Geometric means, and ratios of models of the same seed, since the scale of these differs"
            + " from seed to seed; p: paired t-test of the logarithms with Holm's correction over"
            + " all rows. What is below a thousandth counts as one.");
  }

  // ---------------------------------------------------------------- losses

  /// What the statistics say.
  public List<String> conclusions() {
    List<String> sentences = new ArrayList<>();
    if (comparisons.comparisons().size() <= FEW) {
      comparisons.comparisons().forEach(comparison -> sentences.add(sentence(comparison)));
    } else {
      sentences.addAll(manyComparisons());
    }
    power().ifPresent(sentences::add);
    comparisons.sensitivities().forEach(sensitivity -> sentences.add(sentence(sensitivity)));
    return sentences;
  }

  /// Sinks that are measured on longer windows than the models were trained with.
  private Optional<String> untrainedPositions() {
    int window =
        figures.sinks().values().stream().mapToInt(sink -> sink.longestWindow()).max().orElse(0);
    int trained =
        study.arms().stream()
            .mapToInt(arm -> study.config(arm).batch().sequenceLength())
            .min()
            .orElse(window);
    return window > trained + 1 // a window has one token more than a sequence
        ? Optional.of(
            "Sinks are measured on windows of %d tokens, longer than the %d that models were trained with: attention at the positions beyond is of a kind that they never learned."
                .formatted(window, trained))
        : Optional.empty();
  }

  /// How much the models saw, and whether all saw it alike.
  private List<String> size() {
    var configs = study.arms().stream().map(study::config).toList();
    var tokens =
        configs.stream()
            .mapToLong(
                config ->
                    (long) config.optimization().steps()
                        * config.batch().batchSize()
                        * config.batch().sequenceLength()
                        * config.batch().gradientAccumulation())
            .summaryStatistics();
    List<String> sentences = new ArrayList<>();
    if (configs.stream().map(config -> config.batch().sequenceLength()).distinct().count() > 1) {
      sentences.add(
          "The sequence length differs: held-out losses are of windows of different lengths, and a"
              + " longer one is easier on average.");
    }
    if (configs.stream().map(config -> config.batch().documentMask()).distinct().count() > 1) {
      sentences.add(
          "document_mask differs: held-out losses are measured with the mask that each model was"
              + " trained with, so that a token of one sees more of the text before it.");
    }
    String trained =
        (tokens.getMin() == tokens.getMax()
                ? "Each model trained on " + Numbers.count(tokens.getMin())
                : "The models trained on %s to %s"
                    .formatted(Numbers.count(tokens.getMin()), Numbers.count(tokens.getMax())))
            + " tokens.";
    parametersAdded().ifPresent(sentences::add);
    sentences.add(
        isMade()
            ? trained
                + " The text is made, not language, and the models are chosen so that the effect"
                + " forms in minutes: bigram–backcopy (Guo et al. 2024, arXiv 2410.13835), where"
                + " attention has work to do after one character in four and nothing to add"
                + " elsewhere. What carries over to language models is the cause: softmax must give"
                + " its weight to something, and parks it on the first token, unless a gate can"
                + " close. What does not carry over are the sizes, and anything about the loss."
                + " Give --data for your own text."
            : trained
                + " The paper's effects are of models with billions of parameters and hundreds of"
                + " billions of tokens; in small models the effect of a gate is often smaller than"
                + " the noise between seeds, and attention sinks are only beginning to form.");
    return sentences;
  }

  /// Where variants were not made equal to the baseline in parameters.
  private Optional<String> parametersAdded() {
    if (study.matching() != Matching.NONE) {
      return Optional.empty();
    }
    List<String> different = new ArrayList<>();
    for (Arm arm : rows()) {
      var pairs = comparisons.pairs(arm, study.baseline(arm), TrialResult::parameters);
      if (pairs.count() > 0 && pairs.mean() != 0) {
        different.add(
            "%s has %s %% parameters".formatted(arm.name(), signed(100 * pairs.relative(), 1)));
      }
    }
    return different.isEmpty()
        ? Optional.empty()
        : Optional.of(
            "Variants are not made equal in parameters (--match none): against the baseline %s."
                .formatted(String.join(", ", different)));
  }

  private boolean isMade() {
    return study.base().text().data().equals(BigramBackcopy.NAME);
  }

  private String sentence(Comparison c) {
    String baseline = study.baseline(c.arm()).name();
    var pairs = c.pairs();
    if (pairs.count() == 0) {
      return c.arm().name()
          + ": no pair of finished trials with "
          + baseline
          + " yet, so nothing can be said.";
    }
    String what =
        "%s against %s: held-out loss %s on average over %d paired seed%s (%s)."
            .formatted(
                c.arm().name(),
                baseline,
                pairs.mean() == 0
                    ? "the same"
                    : "%s by %s bits per byte"
                        .formatted(
                            pairs.mean() < 0 ? "lower" : "higher",
                            Numbers.fixed(Math.abs(pairs.mean()), 4)),
                pairs.count(),
                pairs.count() == 1 ? "" : "s",
                differences(pairs));
    return what + " " + verdict(c);
  }

  private static String differences(Pairs pairs) {
    String named =
        String.join(
            ", ",
            Arrays.stream(pairs.differences())
                .limit(NAMED_DIFFERENCES)
                .mapToObj(value -> signed(value, 4))
                .toList());
    int more = pairs.count() - NAMED_DIFFERENCES;
    return more > 0 ? named + " and " + more + " more" : named;
  }

  private String verdict(Comparison c) {
    int pairs = c.pairs().count();
    if (!c.tested()) {
      return "From one seed nothing can be concluded.";
    }
    String few =
        pairs < 5
            ? " (with %d seeds it is wide and rests on a guess of the noise; use --seeds 5 or more to decide)"
                .formatted(pairs)
            : "";
    String test = p(c.corrected()) + (tested() > 1 ? " after correction" : "");
    return c.shown()
        ? "The difference is shown: %s, %s%s.".formatted(interval(c.pairs(), 4), test, few)
        : "No difference shown: %s, %s%s.".formatted(interval(c.pairs(), 4), test, few);
  }

  private static String interval(Pairs pairs, int decimals) {
    return "95 %% interval %s to %s"
        .formatted(
            signed(pairs.mean() - pairs.half(), decimals),
            signed(pairs.mean() + pairs.half(), decimals));
  }

  private long tested() {
    return comparisons.comparisons().stream().filter(Comparison::tested).count();
  }

  private List<String> manyComparisons() {
    var tested = comparisons.comparisons().stream().filter(Comparison::tested).toList();
    int all = comparisons.comparisons().size();
    String baseline = study.variants().getFirst().name();
    if (tested.isEmpty()) {
      return List.of(
          "None of the %d comparisons with %s has two pairs of finished trials, so nothing can be said."
              .formatted(all, baseline));
    }
    List<String> sentences = new ArrayList<>();
    var shown = tested.stream().filter(Comparison::shown).toList();
    var pairs = tested.stream().mapToInt(c -> c.pairs().count()).summaryStatistics();
    String how =
        "paired t-tests over %s seeds at 5 %%, with Holm's correction for %d comparisons"
            .formatted(
                pairs.getMin() == pairs.getMax()
                    ? String.valueOf(pairs.getMin())
                    : pairs.getMin() + " to " + pairs.getMax(),
                tested.size());
    sentences.add(
        shown.isEmpty()
            ? "No variant is shown to differ from %s (%s), which does not say that none does."
                .formatted(baseline, how)
            : "%d of %d comparisons show a difference to %s in held-out loss (%s): %s."
                .formatted(
                    shown.size(),
                    tested.size(),
                    baseline,
                    how,
                    String.join(
                        "; ",
                        shown.stream()
                            .map(
                                c ->
                                    "%s %s bits per byte (%s)"
                                        .formatted(
                                            c.arm().name(),
                                            signed(c.pairs().mean(), 4),
                                            interval(c.pairs(), 4)))
                            .toList())));
    if (!shown.isEmpty() && shown.size() < tested.size()) {
      sentences.add("Of the others no difference is shown, which does not say that there is none.");
    }
    if (tested.size() < all) {
      sentences.add(
          "%d comparisons have no two pairs of finished trials and were not tested."
              .formatted(all - tested.size()));
    }
    return sentences;
  }

  /// What the study could have seen.
  private Optional<String> power() {
    int seeds = study.seeds().size();
    return comparisons
        .deviation()
        .map(
            deviation ->
                ("Differences between paired seeds scatter with a standard deviation of %s bits per"
                        + " byte: one comparison over %d seeds would show a true difference of %s"
                        + " in four of five such studies, over %d seeds one of %s.")
                    .formatted(
                        Numbers.fixed(deviation, 4),
                        seeds,
                        Numbers.fixed(Statistics.detectable(deviation, seeds), 4),
                        4 * seeds,
                        Numbers.fixed(Statistics.detectable(deviation, 4 * seeds), 4)));
  }

  private String sentence(Sensitivity sensitivity) {
    var pairs = sensitivity.pairs();
    int seeds = sensitivity.bySeed().size();
    String what =
        "%s: learning-rate sensitivity %s nats over %d seed%s"
            .formatted(
                sensitivity.variant().name(),
                Numbers.fixed(sensitivity.mean(), 3),
                seeds,
                seeds == 1 ? "" : "s");
    if (pairs.count() < 2) {
      return what + ".";
    }
    long tests = comparisons.sensitivities().stream().filter(s -> s.pairs().count() > 1).count();
    return what
        + ", %s against %s on the %d seeds of both (%s, %s%s)."
            .formatted(
                signed(pairs.mean(), 3),
                study.variants().getFirst().name(),
                pairs.count(),
                interval(pairs, 3),
                p(sensitivity.corrected()),
                tests > 1 ? " after correction" : "");
  }

  // ---------------------------------------------------------------- tables

  /// Losses and what the trained models do, a row per variant and point of the grid.
  public List<Table> tables() {
    int compared = comparisons.comparisons().size();
    if (comparisons.inside().isEmpty() || compared > SOME) {
      return List.of(losses(), behaviour());
    }
    return compared <= FEW
        ? List.of(insideTable(), losses(), behaviour())
        : List.of(losses(), behaviour(), insideTable());
  }

  /// The arms that have trials.
  private List<Arm> rows() {
    return study.arms().stream().filter(arm -> !comparisons.done(arm).isEmpty()).toList();
  }

  /// The seeds that rows with finished trials rest on: one list where all have the same, so that
  /// their means can be compared.
  private List<List<Long>> seedsOfRows() {
    return rows().stream()
        .map(arm -> List.copyOf(comparisons.finished(arm).keySet()))
        .filter(seeds -> !seeds.isEmpty())
        .distinct()
        .toList();
  }

  private boolean seedsDiffer() {
    return seedsOfRows().size() > 1;
  }

  private Table losses() {
    boolean published = study.variants().stream().anyMatch(variant -> variant.published() > 0);
    var columns = armColumns();
    columns.addAll(List.of("bits per byte", "difference, 95 %", "change", "p, corrected"));
    if (published) {
      columns.addAll(List.of("paper's perplexity", "paper's change of loss"));
    }
    columns.addAll(List.of("parameters", "tokens/s"));
    var table =
        titled("Held-out loss, mean ± standard deviation").columns(columns.toArray(String[]::new));
    for (Arm arm : rows()) {
      var finished = comparisons.finished(arm).values();
      var row = armCells(arm);
      row.add(spread(finished, TrialResult::bitsPerByte, 4));
      row.addAll(difference(ofArm.get(arm)));
      if (published) {
        row.addAll(published(arm.variant()));
      }
      row.add(
          finished.isEmpty() ? Cell.missing() : Cell.of(finished.iterator().next().parameters()));
      row.add(
          Cell.of(
              Math.round(
                  Statistics.mean(
                      values(comparisons.done(arm).values(), TrialResult::tokensPerSecond)))));
      table = table.row(row);
    }
    table =
        footnoted(table)
            .footnote(
                "Difference: to %s of the same seed, mean with the half-width of its 95 %% interval; change: the same over the baseline's loss on those seeds. p:"
                        .formatted(study.variants().getFirst().name())
                    + " paired t-test with Holm's correction over all rows.");
    return published
        ? table.footnote(
            "The paper's numbers are of far larger models (arXiv 2505.06708) and come without"
                + " intervals; its change is that of the logarithm of the perplexity.")
        : table;
  }

  private Table titled(String title) {
    var seeds = seedsOfRows();
    int planned = study.seeds().size();
    return Table.titled(
        switch (seeds.size()) {
          case 0 -> title;
          case 1 ->
              "%s over %d%s seed%s"
                  .formatted(
                      title,
                      seeds.getFirst().size(),
                      seeds.getFirst().size() < planned ? " of " + planned : "",
                      planned == 1 ? "" : "s");
          default -> title + " over each row's own seeds";
        });
  }

  private Table footnoted(Table table) {
    return seedsDiffer()
        ? table.footnote(
            "Rows rest on different seeds, so their means cannot be compared; the differences can,"
                + " which are over the seeds of both.")
        : table;
  }

  private static List<Cell> difference(@Nullable Comparison c) {
    if (c == null || c.pairs().count() == 0) {
      return List.of(Cell.missing(), Cell.missing(), Cell.missing());
    }
    var pairs = c.pairs();
    return List.of(
        pairs.count() < 2
            ? new Cell.Quantity(pairs.mean(), signed(pairs.mean(), 4))
            : Cell.interval(pairs.mean(), pairs.half()),
        new Cell.Quantity(pairs.relative(), signed(100 * pairs.relative(), 2) + " %"),
        c.tested() ? new Cell.Quantity(c.corrected(), probability(c.corrected())) : Cell.missing());
  }

  private List<Cell> published(Variant variant) {
    double baseline = study.variants().getFirst().published();
    if (!(variant.published() > 0) || !(baseline > 0)) {
      return List.of(Cell.missing(), Cell.missing());
    }
    double change = Math.log(variant.published()) / Math.log(baseline) - 1;
    return List.of(
        Cell.of(variant.published(), 3),
        change == 0 ? Cell.missing() : new Cell.Quantity(change, signed(100 * change, 2) + " %"));
  }

  private Table behaviour() {
    var columns = armColumns();
    columns.addAll(
        List.of(
            "first-token attention",
            "uniform",
            "sink rate",
            "largest |x|",
            "mean gate",
            "spikes",
            "diverged"));
    var table =
        titled("Attention, activations and stability, mean ± standard deviation")
            .columns(columns.toArray(String[]::new));
    for (Arm arm : rows()) {
      var all = comparisons.done(arm).values();
      var finished = comparisons.finished(arm).values();
      var gated = finished.stream().filter(result -> result.meanGate() != null).toList();
      var row = armCells(arm);
      row.addAll(
          List.of(
              spread(finished, TrialResult::firstTokenAttention, 4),
              finished.isEmpty()
                  ? Cell.missing()
                  : Cell.of(finished.iterator().next().uniformFloor(), 4),
              spread(finished, TrialResult::sinkRate, 3),
              spread(finished, TrialResult::largestActivation, 1),
              spread(
                  gated, result -> result.meanGate() == null ? Double.NaN : result.meanGate(), 3),
              Cell.of(Statistics.mean(values(all, TrialResult::spikes)), 1),
              Cell.of((long) all.size() - finished.size())));
      table = table.row(row);
    }
    return footnoted(table)
        .footnote(
            "First-token attention: mean over layers, heads and queries but the first 4; uniform is"
                + " what attention without preferences would give. Sink rate: share of heads that"
                + " give the first token more than 30 %.")
        .footnote(
            "Largest |x|: the largest activation of the residual stream after any block. Spikes:"
                + " events of the training loss at least "
                + TrialResult.SPIKE
                + " nats above the median of the 101 steps around, per trial.");
  }

  /// Headers of what says which arm a row is about: the variant and the grid's settings, and the
  /// seeds where rows differ in them.
  private List<String> armColumns() {
    var columns = new ArrayList<>(List.of("variant"));
    study.grid().keySet().forEach(setting -> columns.add(setting.replace('_', ' ')));
    if (seedsDiffer()) {
      columns.add("seeds");
    }
    return columns;
  }

  private List<Cell> armCells(Arm arm) {
    String name = arm.variant().name();
    var finished = comparisons.finished(arm).keySet();
    var cells =
        new ArrayList<>(List.of(Cell.of(finished.isEmpty() ? name + " (all diverged)" : name)));
    study.grid().keySet().forEach(key -> cells.add(value(arm.point().getOrDefault(key, ""))));
    if (seedsDiffer()) {
      cells.add(finished.isEmpty() ? Cell.missing() : Cell.of(ranges(List.copyOf(finished))));
    }
    return cells;
  }

  /// A setting's value, which is sorted as a number where it is one.
  private static Cell value(String value) {
    try {
      return new Cell.Quantity(Double.parseDouble(value), value);
    } catch (NumberFormatException _) {
      return Cell.of(value);
    }
  }

  private static Cell spread(
      Collection<TrialResult> trials, ToDoubleFunction<TrialResult> value, int decimals) {
    double[] values = values(trials, value);
    return switch (values.length) {
      case 0 -> Cell.missing();
      case 1 -> Cell.of(values[0], decimals);
      default -> Cell.interval(Statistics.mean(values), Statistics.standardDeviation(values));
    };
  }

  private static double[] values(
      Collection<TrialResult> results, ToDoubleFunction<TrialResult> value) {
    return results.stream().mapToDouble(value).toArray();
  }

  // ---------------------------------------------------------------- page

  /// Writes `report.html` into the study's directory.
  ///
  /// @param command as the user gave it
  /// @param manifest what the report carries about its making
  public Path writePage(String command, Map<String, Object> manifest) throws IOException {
    Path file = directory.resolve("report.html");
    var page = HtmlReport.titled(TITLE).written(Instant.now()).command(command).manifest(manifest);
    addTo(page);
    page.writeTo(file);
    return file;
  }

  /// Adds sentences, tables and figures to a page.
  public void addTo(HtmlReport page) {
    sentences().forEach(page::summary);
    if (!figures.sinks().isEmpty()) {
      lead(page);
    }
    page.section("The numbers");
    tables().forEach(page::table);
    if (comparisons.sweepsLearningRates()) {
      page.section("Learning rates").figure(figures.sweep());
    }
    losses(page);
    if (!figures.sinks().isEmpty()) {
      attention(page);
    }
  }

  /// Adds what there is before any trial is done: the curves of those that have begun.
  public void addCurves(HtmlReport page) {
    losses(page);
    page.figure(firstToken());
    growth(page);
    gateScores().ifPresent(page::figure);
  }

  private void losses(HtmlReport page) {
    page.section("Loss");
    for (var point : study.arms().stream().map(Arm::point).distinct().toList()) {
      page.figure(figures.curves("Training loss", point, "loss", "nats per token", 0.9))
          .figure(
              figures.curves("Held-out loss", point, "held_out_bits_per_byte", "bits per byte", 0));
    }
  }

  private void growth(HtmlReport page) {
    page.section("How sinks grow during training")
        .figure(figures.curves("Share of heads with a sink", "sink_rate", "share of heads"))
        .figure(figures.curves("Largest activation", "largest_activation", "largest |x|"));
  }

  /// Empty where no model has gates.
  private Optional<LineChart> gateScores() {
    return Optional.of(figures.curves("Mean gate score", "mean_gate_score", "mean over all gates"))
        .filter(chart -> !chart.series().isEmpty());
  }

  /// The pictures that answer first.
  private void lead(HtmlReport page) {
    page.section("What the gate changes")
        .prose(
            "Each picture in a sentence. Maps: where each query (row) looks; a bright first column"
                + " is an attention sink. Curve: how much attention the first token gets while the"
                + " models learn."
                + (figures.hasGates()
                    ? " Histogram: how far the gates are open; scores near 0 let a head add nothing"
                        + " without a sink."
                    : ""));
    figures.strongestMap().ifPresent(page::figure);
    page.figure(firstToken());
    if (figures.hasGates()) {
      page.figure(figures.gateHistograms());
    }
  }

  private LineChart firstToken() {
    return figures.curves(
        "Attention to the first token", "first_token_attention", "share of attention");
  }

  private void attention(HtmlReport page) {
    var point = figures.point();
    page.section("Where attention goes")
        .prose(
            "Attention of the models of %s on the first held-out window, mean over heads. A bright first column is an attention sink. Compare the panels of one layer: the colour scale is the same. %s%s"
                .formatted(
                    figures.whose(),
                    LayerFigures.COUNTED,
                    study.grid().isEmpty()
                        ? ""
                        : " Of the grid, %s: %s."
                            .formatted(
                                point.best()
                                    ? "the point is shown at which the baseline is best"
                                    : "this point is shown",
                                describe(point.settings()))));
    figures.attentionMaps().forEach(page::figure);
    page.figure(figures.sinkMaps())
        .figure(figures.firstTokenBars())
        .figure(figures.activationBars());
    growth(page);
    if (figures.hasGates()) {
      page.section("What the gates do");
      figures.gateMaps().ifPresent(page::figure);
      gateScores().ifPresent(page::figure);
    }
  }

  // ---------------------------------------------------------------- text of numbers

  static String describe(Map<String, String> point) {
    return String.join(
        ", ", point.entrySet().stream().map(one -> one.getKey() + " " + one.getValue()).toList());
  }

  /// `seed 4`, or `seeds 1 to 3, 5`.
  public static String seeds(List<Long> seeds) {
    return (seeds.size() == 1 ? "seed " : "seeds ") + ranges(seeds);
  }

  private static String ranges(List<Long> seeds) {
    List<String> ranges = new ArrayList<>();
    for (int i = 0; i < seeds.size(); ) {
      int last = i;
      while (last + 1 < seeds.size() && seeds.get(last + 1) == seeds.get(last) + 1) {
        last++;
      }
      ranges.add(
          last == i
              ? String.valueOf(seeds.get(i))
              : seeds.get(i) + (last == i + 1 ? ", " : " to ") + seeds.get(last));
      i = last + 1;
    }
    return String.join(", ", ranges);
  }

  private static String signed(double value, int decimals) {
    return String.format(Locale.ROOT, "%+." + decimals + "f", value);
  }

  private static String p(double p) {
    return p < 0.001 ? "p < 0.001" : "p = " + Numbers.fixed(p, 3);
  }

  private static String probability(double p) {
    return p < 0.001 ? "< 0.001" : Numbers.fixed(p, 3);
  }
}
