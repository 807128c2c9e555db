package dev.sluice.evaluation;

import dev.sluice.evaluation.EvaluationTask.Kind;
import dev.sluice.evaluation.TaskDocument.Expected;
import dev.sluice.statistics.Statistics;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.OptionalDouble;
import java.util.function.IntToDoubleFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.DoubleStream;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// A measure of answers, with the meaning and the name that it has in lm-evaluation-harness.
public enum Metric {
  /// Whether the right choice has the largest Σ ln p; of a continuation, whether the model would
  /// write it.
  ACC(Summary.MEAN, true, true),
  /// Whether it has the largest Σ ln p / characters.
  ACC_NORM(Summary.MEAN, true, true),
  /// Whether it has the largest Σ ln p / bytes.
  ACC_BYTES(Summary.MEAN, true, false),
  /// Whether it has the largest Σ ln p − Σ ln p without context.
  ACC_MUTUAL_INFO(Summary.MEAN, true, false),
  /// Σ (p − r)² over choices, r 1 for the right one and 0 for others, with p = softmax Σ ln p.
  BRIER_SCORE(Summary.MEAN_WITHOUT_ERROR, false, false),
  /// exp(−mean Σ ln p) over continuations.
  PERPLEXITY(Summary.EXP_OF_MEAN, false, true),
  /// exp(−Σ ln p / words).
  WORD_PERPLEXITY(Summary.EXP_OF_RATE, false, true),
  /// exp(−Σ ln p / bytes).
  BYTE_PERPLEXITY(Summary.EXP_OF_RATE, false, true),
  /// −Σ ln p / (bytes · ln 2).
  BITS_PER_BYTE(Summary.BITS_OF_RATE, false, true),
  /// exp(−Σ ln p / tokens): of one tokenizer only.
  TOKEN_PERPLEXITY(Summary.EXP_OF_RATE, false, false),
  /// Whether the first match in what was written is the answer.
  EXACT_MATCH(Summary.MEAN, true, true),
  /// Whether the last match of the other pattern is.
  EXACT_MATCH_LAST(Summary.MEAN, true, false);

  /// What becomes of the rows' values.
  private enum Summary {
    MEAN,
    /// The harness gives no error for it.
    MEAN_WITHOUT_ERROR,
    EXP_OF_MEAN,
    EXP_OF_RATE,
    BITS_OF_RATE
  }

  /// A metric of some rows.
  ///
  /// @param standardError empty where the harness gives none
  public record Value(double value, OptionalDouble standardError) {}

  /// What a row adds.
  ///
  /// @param value of a mean, or Σ ln p
  /// @param weight by which a rate is divided; 1 of a mean
  public record Share(double value, double weight) {}

  private static final int RESAMPLES = 1000;

  private final Summary summary;
  private final boolean higherIsBetter;
  private final boolean usual;

  Metric(Summary summary, boolean higherIsBetter, boolean usual) {
    this.summary = summary;
    this.higherIsBetter = higherIsBetter;
    this.usual = usual;
  }

  /// Its name in files and tables.
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  public boolean higherIsBetter() {
    return higherIsBetter;
  }

  /// Whether a row's value is 0 or 1.
  public boolean isAccuracy() {
    return summary == Summary.MEAN;
  }

  /// Whether it is measured unless the task says what is.
  boolean usual() {
    return usual;
  }

  /// The metrics that a kind of task has.
  static List<Metric> of(Kind kind) {
    return switch (kind) {
      case Kind.MultipleChoice _ -> List.of(ACC, ACC_NORM, ACC_BYTES, ACC_MUTUAL_INFO, BRIER_SCORE);
      case Kind.ContextChoice _ -> List.of(ACC, BRIER_SCORE);
      case Kind.Continuation _ -> List.of(PERPLEXITY, ACC);
      case Kind.Text _ ->
          List.of(WORD_PERPLEXITY, BYTE_PERPLEXITY, BITS_PER_BYTE, TOKEN_PERPLEXITY);
      case Kind.Answer answer ->
          answer.extractLast() == null
              ? List.of(EXACT_MATCH)
              : List.of(EXACT_MATCH, EXACT_MATCH_LAST);
    };
  }

  // ---------------------------------------------------------------- of a row

  /// What a row adds.
  ///
  /// @param kind of the row's task
  Share of(Kind kind, TaskDocument document, List<Response> responses) {
    return switch (document.expected()) {
      case Expected.Choice choice -> new Share(ofChoice(choice, responses), 1);
      case Expected.Likely _ ->
          new Share(
              this == ACC
                  ? responses.getFirst().greedy() ? 1 : 0
                  : responses.getFirst().logLikelihood(),
              1);
      case Expected.Size size ->
          new Share(
              responses.getFirst().logLikelihood(),
              this == WORD_PERPLEXITY
                  ? size.words()
                  : this == TOKEN_PERPLEXITY ? responses.getFirst().tokens() : size.bytes());
      case Expected.Written written ->
          new Share(
              ofAnswer((Kind.Answer) kind, written, String.valueOf(responses.getFirst().text())),
              1);
    };
  }

  private double ofChoice(Expected.Choice choice, List<Response> responses) {
    int n = choice.choices().size();
    IntToDoubleFunction sum = i -> responses.get(i).logLikelihood();
    return switch (this) {
      case ACC -> isBest(choice, sum);
      case ACC_NORM -> isBest(choice, i -> sum.applyAsDouble(i) / characters(choice, i));
      case ACC_BYTES -> isBest(choice, i -> sum.applyAsDouble(i) / bytes(choice, i));
      case ACC_MUTUAL_INFO ->
          isBest(choice, i -> sum.applyAsDouble(i) - responses.get(n + i).logLikelihood());
      case BRIER_SCORE -> brier(choice, IntStream.range(0, n).mapToDouble(sum));
      default -> throw new IllegalStateException(this + " of choices");
    };
  }

  private static double characters(Expected.Choice choice, int i) {
    String text = choice.choices().get(i);
    return text.codePointCount(0, text.length());
  }

  private static double bytes(Expected.Choice choice, int i) {
    return choice.choices().get(i).getBytes(StandardCharsets.UTF_8).length;
  }

  /// 1 if the right choice has the largest value, the first of equal ones.
  private static double isBest(Expected.Choice choice, IntToDoubleFunction value) {
    int best = 0;
    for (int i = 1; i < choice.choices().size(); i++) {
      best = value.applyAsDouble(i) > value.applyAsDouble(best) ? i : best;
    }
    return best == choice.target() ? 1 : 0;
  }

  private static double brier(Expected.Choice choice, DoubleStream logs) {
    double[] p = logs.toArray();
    double largest = Arrays.stream(p).max().orElse(0);
    double total = Arrays.stream(p).map(log -> Math.exp(log - largest)).sum();
    double score = 0;
    for (int i = 0; i < p.length; i++) {
      double miss = Math.exp(p[i] - largest) / total - (i == choice.target() ? 1 : 0);
      score += miss * miss;
    }
    return score;
  }

  private double ofAnswer(Kind.Answer kind, Expected.Written written, String text) {
    var found =
        this == EXACT_MATCH
            ? match(kind.extract(), text, false)
            : match(kind.extractLast(), text, true);
    return comparable(kind, found).equals(comparable(kind, written.reference())) ? 1 : 0;
  }

  /// The first or last match: of its groups the first that is not empty, or all of it where it has
  /// none.
  private static String match(@Nullable Pattern pattern, String text, boolean last) {
    if (pattern == null) {
      return text;
    }
    Matcher matcher = pattern.matcher(text);
    String found = "[invalid]";
    while (matcher.find()) {
      found =
          matcher.groupCount() == 0
              ? matcher.group()
              : IntStream.rangeClosed(1, matcher.groupCount())
                  .mapToObj(matcher::group)
                  .flatMap(Stream::ofNullable)
                  .filter(group -> !group.isEmpty())
                  .findFirst()
                  .orElse("");
      if (!last) {
        break;
      }
    }
    return found.strip();
  }

  private static String comparable(Kind.Answer kind, String text) {
    String left = text;
    for (var pattern : kind.ignore()) {
      left = pattern.matcher(left).replaceAll("");
    }
    return left.toLowerCase(Locale.ROOT);
  }

  // ---------------------------------------------------------------- of all rows

  /// The metric of rows.
  public Value of(List<Share> shares) {
    double[] values = shares.stream().mapToDouble(Share::value).toArray();
    double[] weights = shares.stream().mapToDouble(Share::weight).toArray();
    return new Value(summarised(values, weights), standardError(values));
  }

  double summarised(double[] values, double[] weights) {
    return switch (summary) {
      case MEAN, MEAN_WITHOUT_ERROR -> Statistics.mean(values);
      case EXP_OF_MEAN -> Math.exp(-Statistics.mean(values));
      case EXP_OF_RATE -> Math.exp(-sum(values) / sum(weights));
      case BITS_OF_RATE -> -sum(values) / sum(weights) / Math.log(2);
    };
  }

  /// Of a mean by its formula, of the exponential of one by the harness's bootstrap.
  private OptionalDouble standardError(double[] values) {
    int n = values.length;
    if (n < 2) {
      return OptionalDouble.empty();
    }
    return switch (summary) {
      case MEAN -> OptionalDouble.of(Statistics.standardDeviation(values) / Math.sqrt((double) n));
      case EXP_OF_MEAN -> {
        var random = new PythonRandom(0);
        double[] drawn = new double[RESAMPLES];
        for (int i = 0; i < RESAMPLES; i++) {
          drawn[i] = Math.exp(-Statistics.mean(random.choices(values)));
        }
        yield OptionalDouble.of(Statistics.standardDeviation(drawn));
      }
      case MEAN_WITHOUT_ERROR, EXP_OF_RATE, BITS_OF_RATE -> OptionalDouble.empty();
    };
  }

  private static double sum(double[] values) {
    return Arrays.stream(values).sum();
  }
}
