package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.Sha256;
import dev.sluice.files.TomlFile;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// What a model is asked about each row of a file, and what its answers are measured by: a TOML
/// file of a few lines.
///
/// ```toml
/// kind = "multiple-choice"
/// context = "Question: {goal}\nAnswer:"
/// choices = ["{sol1}", "{sol2}"]
/// target = "{label}"
/// metrics = ["acc", "acc_norm"]
/// ```
///
/// @param name what it is called
/// @param kind of question
/// @param metrics in the order of tables
/// @param fewShot the answered rows that stand before each question
/// @param cleaning what becomes of contexts, choices and texts before the model sees them
/// @param group by which results are also told apart, or null
/// @param fingerprint of its text
public record EvaluationTask(
    String name,
    Kind kind,
    List<Metric> metrics,
    FewShot fewShot,
    Cleaning cleaning,
    @Nullable Template group,
    String fingerprint) {
  /// What choices are called by: the same names in every row, or those in a field of it.
  public record Labels(List<String> names, @Nullable Template list) {
    List<String> of(ObjectNode row, String where) {
      return list == null ? names : list.list(row, where);
    }
  }

  /// What is asked.
  public sealed interface Kind {
    /// Which of several texts is likeliest after a context.
    ///
    /// @param context before all choices
    /// @param choices one each; empty where a field of the row lists them
    /// @param choiceList that field, or null
    /// @param target the number of the right one, from 0 on, or its label
    /// @param labels the choices' labels in their order, or null
    record MultipleChoice(
        Template context,
        List<Template> choices,
        @Nullable Template choiceList,
        Template target,
        @Nullable Labels labels)
        implements Kind {}

    /// After which of several contexts a text is likeliest.
    ///
    /// @param contexts as the choices of [MultipleChoice]
    record ContextChoice(
        List<Template> contexts,
        @Nullable Template contextList,
        Template continuation,
        Template target,
        @Nullable Labels labels)
        implements Kind {}

    /// How likely a continuation is, and whether the model would write it.
    record Continuation(Template context, Template continuation) implements Kind {}

    /// How likely a whole text is.
    record Text(Template text) implements Kind {}

    /// What the model writes, against the row's answer.
    ///
    /// @param answer that stands in examples, and that is compared after `ignore`
    /// @param stop texts that end the model's
    /// @param maxTokens the most that it writes
    /// @param extract finds the answer in what the model writes, its first match; null for all of
    ///   it
    /// @param extractLast the same for its last match
    /// @param ignore what is left out of both before they are compared
    record Answer(
        Template context,
        Template answer,
        List<String> stop,
        int maxTokens,
        @Nullable Pattern extract,
        @Nullable Pattern extractLast,
        List<Pattern> ignore)
        implements Kind {}
  }

  /// Answered rows before each question.
  ///
  /// @param examples how many
  /// @param first whether they are the first of the file of examples; else they are drawn as
  ///   lm-evaluation-harness draws them
  /// @param seed of the drawing
  /// @param separator behind each
  /// @param description before all
  /// @param delimiter between a context and what follows it, in questions too
  public record FewShot(
      int examples,
      boolean first,
      long seed,
      String separator,
      String description,
      String delimiter) {}

  /// The tasks that come with Sluice.
  public static final List<String> SHIPPED =
      List.of(
          "lambada",
          "piqa",
          "arc-easy",
          "arc-challenge",
          "hellaswag",
          "winogrande",
          "boolq",
          "blimp",
          "wikitext",
          "gsm8k",
          "text");

  private static final int SHOWN = 60;
  private static final int MOST_EXAMPLES = 1000;
  private static final int MOST_NEW_TOKENS = 1 << 16;
  private static final String KINDS = "multiple-choice, context-choice, continuation, text, answer";

  public EvaluationTask {
    metrics = List.copyOf(metrics);
  }

  /// A task that comes with Sluice, or one in a `.toml` file.
  public static EvaluationTask named(String name) {
    if (name.endsWith(".toml")) {
      Path file = Path.of(name);
      var content = TomlFile.read(file);
      String bare = String.valueOf(file.getFileName());
      return new Reading(content, file.toString())
          .task(bare.substring(0, bare.length() - ".toml".length()));
    }
    if (!SHIPPED.contains(name)) {
      throw new InvalidInputException(
          "there is no task '%s'; known are %s, and a file of your own that ends in .toml"
              .formatted(Printable.brief(name, SHOWN), String.join(", ", SHIPPED)));
    }
    String file = name + ".toml";
    try (InputStream in = EvaluationTask.class.getResourceAsStream(file)) {
      if (in == null) {
        throw new IllegalStateException("the task " + file + " is missing in Sluice");
      }
      String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
      return new Reading(TomlFile.parse(file, text), "the task " + name).task(name);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// The same with another number of examples.
  public EvaluationTask withExamples(int examples) {
    var changed =
        new FewShot(
            examples,
            fewShot.first(),
            fewShot.seed(),
            fewShot.separator(),
            fewShot.description(),
            fewShot.delimiter());
    requireExamples(examples, "--num-examples");
    return new EvaluationTask(
        name, kind, metrics, changed, cleaning, group, fingerprint + ":examples=" + examples);
  }

  private static void requireExamples(int examples, String what) {
    if (examples < 0 || examples > MOST_EXAMPLES) {
      throw new InvalidInputException(
          "%s must be from 0 to %d, not %d".formatted(what, MOST_EXAMPLES, examples));
    }
  }

  /// Takes the keys out of a file; what is left at the end was not known.
  private static final class Reading {
    private final ObjectNode content;
    private final String where;
    private final String fingerprint;
    private final Set<String> known = new TreeSet<>();

    Reading(ObjectNode content, String where) {
      this.content = content;
      this.where = where;
      this.fingerprint = Sha256.hex(content.toString().getBytes(StandardCharsets.UTF_8));
    }

    EvaluationTask task(String fileName) {
      String name = textOr("name", fileName);
      String word = text("kind");
      Kind kind =
          switch (word) {
            case "multiple-choice" ->
                new Kind.MultipleChoice(
                    template("context"),
                    templates("choices"),
                    listTemplate("choices"),
                    templateOfNumber("target"),
                    labels());
            case "context-choice" ->
                new Kind.ContextChoice(
                    templates("contexts"),
                    listTemplate("contexts"),
                    template("continuation"),
                    templateOfNumber("target"),
                    labels());
            case "continuation" ->
                new Kind.Continuation(template("context"), template("continuation"));
            case "text" -> new Kind.Text(template("text"));
            case "answer" ->
                new Kind.Answer(
                    template("context"),
                    template("answer"),
                    texts("stop"),
                    number("max_tokens", 256, 1, MOST_NEW_TOKENS),
                    pattern("extract"),
                    pattern("extract_last"),
                    texts("ignore").stream().map(each -> compiled(each, "ignore")).toList());
            default ->
                throw new InvalidInputException(
                    "%s has the kind '%s'; known are %s"
                        .formatted(where, Printable.brief(word, SHOWN), KINDS));
          };
      var metrics = metrics(kind);
      var fewShot = fewShot(kind);
      Template group = optional("group");
      var cleaning = Cleaning.parse(textOr("cleaning", "none"), where);
      for (String key : content.propertyNames()) {
        if (!known.contains(key)) {
          throw new InvalidInputException(
              "%s has the key '%s', which a task of the kind %s does not have; its keys are %s"
                  .formatted(where, Printable.brief(key, SHOWN), word, String.join(", ", known)));
        }
      }
      return new EvaluationTask(name, kind, metrics, fewShot, cleaning, group, fingerprint);
    }

    private FewShot fewShot(Kind kind) {
      if (kind instanceof Kind.Text) {
        return new FewShot(0, true, 0, "", "", "");
      }
      String sampler = textOr("sampler", "random");
      if (!sampler.equals("random") && !sampler.equals("first")) {
        throw new InvalidInputException(
            "%s has the sampler '%s'; use random or first"
                .formatted(where, Printable.brief(sampler, SHOWN)));
      }
      int examples = number("examples", 0, 0, MOST_EXAMPLES);
      boolean spaced = !(kind instanceof Kind.Continuation);
      return new FewShot(
          examples,
          sampler.equals("first"),
          number("seed", 1234, 0, Integer.MAX_VALUE),
          textOr("separator", "\n\n"),
          textOr("description", ""),
          textOr("delimiter", spaced ? " " : ""));
    }

    private List<Metric> metrics(Kind kind) {
      List<String> words = texts("metrics");
      var possible = Metric.of(kind);
      if (words.isEmpty()) {
        return possible.stream().filter(Metric::usual).toList();
      }
      List<Metric> metrics = new ArrayList<>();
      for (String word : words) {
        metrics.add(
            possible.stream()
                .filter(metric -> metric.word().equals(word))
                .findFirst()
                .orElseThrow(
                    () ->
                        new InvalidInputException(
                            "%s has the metric '%s'; its kind has %s"
                                .formatted(
                                    where,
                                    Printable.brief(word, SHOWN),
                                    possible.stream()
                                        .map(Metric::word)
                                        .collect(Collectors.joining(", "))))));
      }
      if (metrics.stream().distinct().count() < metrics.size()) {
        throw new InvalidInputException(where + " names a metric twice; remove one");
      }
      return metrics;
    }

    private JsonNode take(String key) {
      known.add(key);
      return content.path(key);
    }

    private String text(String key) {
      var value = take(key);
      if (value.isMissingNode()) {
        throw new InvalidInputException("%s lacks the key '%s'; add it".formatted(where, key));
      }
      return string(value, key);
    }

    private String textOr(String key, String otherwise) {
      var value = take(key);
      return value.isMissingNode() ? otherwise : string(value, key);
    }

    private String string(JsonNode value, String key) {
      if (!value.isString()) {
        throw wrong(key, "a text", value);
      }
      return value.asString();
    }

    private InvalidInputException wrong(String key, String expected, JsonNode value) {
      return new InvalidInputException(
          "%s: '%s' must be %s, not %s"
              .formatted(where, key, expected, Printable.brief(value, SHOWN)));
    }

    private Template template(String key) {
      return Template.parse(text(key), "'%s' of %s".formatted(key, where));
    }

    private @Nullable Template optional(String key) {
      return take(key).isMissingNode() ? null : template(key);
    }

    private @Nullable Labels labels() {
      var value = take("labels");
      if (value.isMissingNode()) {
        return null;
      }
      return value.isString()
          ? new Labels(List.of(), template("labels"))
          : new Labels(texts("labels"), null);
    }

    private Template templateOfNumber(String key) {
      var value = take(key);
      return value.isInt()
          ? Template.parse(value.asString(), where)
          : Template.parse(text(key), "'%s' of %s".formatted(key, where));
    }

    /// Those of a list; none where the key is one template.
    private List<Template> templates(String key) {
      var value = take(key);
      if (value.isString()) {
        return List.of();
      }
      if (value.isMissingNode()) {
        throw new InvalidInputException("%s lacks the key '%s'; add it".formatted(where, key));
      }
      var sources = texts(key);
      if (sources.size() < 2) {
        throw new InvalidInputException(
            "%s: '%s' needs two texts or more, or one field that lists them".formatted(where, key));
      }
      return sources.stream()
          .map(source -> Template.parse(source, "'%s' of %s".formatted(key, where)))
          .toList();
    }

    private @Nullable Template listTemplate(String key) {
      return take(key).isString() ? template(key) : null;
    }

    private List<String> texts(String key) {
      var value = take(key);
      if (value.isMissingNode()) {
        return List.of();
      }
      if (!value.isArray()) {
        throw wrong(key, "a list of texts", value);
      }
      List<String> texts = new ArrayList<>();
      value.forEach(each -> texts.add(string(each, key)));
      return texts;
    }

    private int number(String key, int otherwise, int least, int most) {
      var value = take(key);
      if (value.isMissingNode()) {
        return otherwise;
      }
      if (!value.isInt() || value.asInt() < least || value.asInt() > most) {
        throw wrong(key, "a whole number from %d to %d".formatted(least, most), value);
      }
      return value.asInt();
    }

    private @Nullable Pattern pattern(String key) {
      return take(key).isMissingNode() ? null : compiled(text(key), key);
    }

    private Pattern compiled(String expression, String key) {
      try {
        return Pattern.compile(expression);
      } catch (PatternSyntaxException e) {
        throw new InvalidInputException(
            "%s: '%s' is not a regular expression (%s): %s"
                .formatted(where, key, e.getDescription(), Printable.brief(expression, SHOWN)),
            e);
      }
    }
  }
}
