package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.corpus.Rows;
import dev.sluice.evaluation.EvaluationTask.Kind;
import dev.sluice.evaluation.EvaluationTask.Labels;
import dev.sluice.evaluation.TaskDocument.Expected;
import dev.sluice.evaluation.TaskDocument.Question;
import dev.sluice.files.Sha256;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/// A task with its rows as questions.
///
/// @param source the file of rows
/// @param fingerprint of the task, the files, and how many rows were taken
public record TaskData(
    EvaluationTask task, Path source, List<TaskDocument> documents, String fingerprint) {
  /// As Python's `\s`.
  private static final Pattern SPACE =
      Pattern.compile("[\\s\\x1c-\\x1f]+", Pattern.UNICODE_CHARACTER_CLASS);

  private static final int SHOWN = 60;

  /// Reads the rows and makes the questions.
  ///
  /// @param examples the file that examples are taken from; null for the rows themselves, of which
  ///   the one in question is left out
  /// @param limit the most rows; 0 for all
  public static TaskData read(
      EvaluationTask task, Path source, @Nullable Path examples, int limit) {
    if (limit < 0) {
      throw new InvalidInputException("--limit must be at least 1, not " + limit);
    }
    int wanted = task.fewShot().examples();
    if (examples != null && wanted == 0) {
      throw new InvalidInputException(
          "the task %s takes no examples, so that %s would not be read; leave --examples out or give --num-examples"
              .formatted(task.name(), examples));
    }
    boolean own = wanted > 0 && examples == null;
    var rows = Rows.read(source, own ? 0 : limit);
    Path from = examples == null ? source : examples;
    List<ObjectNode> pool = wanted == 0 ? List.of() : own ? rows : Rows.read(from, 0);
    String poolName = from.toString();
    if (wanted > 0 && pool.size() < wanted + (own ? 1 : 0)) {
      throw new InvalidInputException(
          "the task %s takes %d examples and %s has %d rows%s; give a longer file or fewer examples"
              .formatted(
                  task.name(),
                  wanted,
                  poolName,
                  pool.size(),
                  own ? ", the question among them" : ""));
    }
    var making = new Making(task, String.valueOf(source.getFileName()), poolName, pool, own);
    List<TaskDocument> documents = new ArrayList<>();
    for (int row = 0; row < rows.size() && (limit == 0 || row < limit); row++) {
      documents.add(making.document(row, rows.get(row)));
    }
    return new TaskData(
        task, source, List.copyOf(documents), fingerprint(task, source, examples, limit));
  }

  private static String fingerprint(
      EvaluationTask task, Path source, @Nullable Path examples, int limit) {
    var digest = Sha256.digest();
    Sha256.update(digest, task.fingerprint());
    Sha256.update(digest, task.name());
    Sha256.update(digest, "limit " + limit);
    try {
      Sha256.update(digest, source);
      if (examples != null) {
        Sha256.update(digest, examples);
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return Sha256.hex(digest);
  }

  /// Makes documents in the order of rows, as examples are drawn in that order.
  private static final class Making {
    private final EvaluationTask task;
    private final String name;
    private final String poolName;
    private final List<ObjectNode> pool;
    private final boolean own;
    private final PythonRandom random;

    Making(EvaluationTask task, String name, String poolName, List<ObjectNode> pool, boolean own) {
      this.task = task;
      this.name = name;
      this.poolName = poolName;
      this.pool = pool;
      this.own = own;
      this.random = new PythonRandom(task.fewShot().seed());
    }

    TaskDocument document(int row, ObjectNode content) {
      String where = "row %d of %s".formatted(row, name);
      String group = task.group() == null ? "" : task.group().of(content, where);
      String before = task.fewShot().description() + examples(content);
      String delimiter = task.fewShot().delimiter();
      List<Question> questions = new ArrayList<>();
      Expected expected =
          switch (task.kind()) {
            case Kind.MultipleChoice kind -> {
              String context = before + clean(kind.context(), content, where);
              var choices = choices(kind.choices(), kind.choiceList(), content, where);
              choices.forEach(
                  choice -> questions.add(new Question.Pair(context, delimiter + choice)));
              boolean unconditional = task.metrics().contains(Metric.ACC_MUTUAL_INFO);
              if (unconditional) {
                choices.forEach(choice -> questions.add(new Question.Pair("", delimiter + choice)));
              }
              int target = target(kind.target(), kind.labels(), choices.size(), content, where);
              yield new Expected.Choice(target, choices, unconditional);
            }
            case Kind.ContextChoice kind -> {
              var contexts = choices(kind.contexts(), kind.contextList(), content, where);
              String continuation = delimiter + clean(kind.continuation(), content, where);
              contexts.forEach(
                  context -> questions.add(new Question.Pair(before + context, continuation)));
              int target = target(kind.target(), kind.labels(), contexts.size(), content, where);
              yield new Expected.Choice(target, contexts, false);
            }
            case Kind.Continuation kind -> {
              questions.add(
                  new Question.Pair(
                      before + clean(kind.context(), content, where),
                      delimiter + clean(kind.continuation(), content, where)));
              yield new Expected.Likely();
            }
            case Kind.Text kind -> {
              String text = kind.text().of(content, where);
              questions.add(new Question.Whole(task.cleaning().apply(text)));
              yield new Expected.Size(
                  SPACE.split(text, -1).length, text.getBytes(StandardCharsets.UTF_8).length);
            }
            case Kind.Answer kind -> {
              questions.add(new Question.Open(before + clean(kind.context(), content, where)));
              yield new Expected.Written(kind.answer().of(content, where));
            }
          };
      return new TaskDocument(row, group, questions, expected);
    }

    private String clean(Template template, ObjectNode row, String where) {
      return task.cleaning().apply(template.of(row, where));
    }

    private List<String> choices(
        List<Template> templates, @Nullable Template list, ObjectNode row, String where) {
      List<String> choices =
          (list != null
                  ? list.list(row, where)
                  : templates.stream().map(template -> template.of(row, where)).toList())
              .stream().map(task.cleaning()::apply).toList();
      if (choices.size() < 2) {
        throw new InvalidInputException(
            "%s has %s, and a question needs two choices or more; correct or remove it"
                .formatted(where, choices.isEmpty() ? "no choice" : "one choice alone"));
      }
      for (int i = 0; i < choices.size(); i++) {
        if (choices.get(i).isEmpty()) {
          throw new InvalidInputException(
              "%s has nothing in its choice %d; correct or remove it".formatted(where, i));
        }
      }
      return choices;
    }

    /// A number from 0 on, or a label. A whole number may be written as one with a fraction of
    /// zero, as tables do whose column has a gap.
    private static int target(
        Template template, @Nullable Labels labels, int choices, ObjectNode row, String where) {
      String text = template.of(row, where).strip();
      String whole = text.matches("\\d{1,6}\\.0+") ? text.substring(0, text.indexOf('.')) : text;
      int target;
      if (labels != null) {
        var named = labels.of(row, where);
        target = named.indexOf(named.contains(text) ? text : whole);
        if (target < 0) {
          throw new InvalidInputException(
              "%s has the target '%s', which is none of its labels %s; correct or remove it"
                  .formatted(where, Printable.brief(text, SHOWN), named));
        }
      } else {
        target =
            switch (text) {
              case "false" -> 0;
              case "true" -> 1;
              default -> whole.matches("\\d{1,6}") ? Integer.parseInt(whole) : -1;
            };
      }
      if (target < 0 || target >= choices) {
        throw new InvalidInputException(
            "%s has the target '%s', and it has %d choices, numbered from 0 on; correct it, or name 'labels' in the task"
                .formatted(where, Printable.brief(text, SHOWN), choices));
      }
      return target;
    }

    // -------------------------------------------------------------- examples

    /// The answered rows before a question, as lm-evaluation-harness writes and draws them: one
    /// stream of numbers for the whole task; one more is drawn where the question may be among
    /// them.
    private String examples(ObjectNode question) {
      int wanted = task.fewShot().examples();
      if (wanted == 0) {
        return "";
      }
      int count = own ? wanted + 1 : wanted;
      var drawn = task.fewShot().first() ? pool.subList(0, count) : random.sample(pool, count);
      var text = new StringBuilder();
      int taken = 0;
      for (var row : drawn) {
        if (taken < wanted && !(own && row.equals(question))) {
          text.append(example(row)).append(task.fewShot().separator());
          taken++;
        }
      }
      if (taken < wanted) {
        throw new InvalidInputException(
            "%s has rows that are the same as a question, so that %d examples cannot be had; remove them"
                .formatted(poolName, wanted));
      }
      return text.toString();
    }

    private String example(ObjectNode row) {
      String where = "a row of %s that is taken as an example".formatted(poolName);
      String delimiter = task.fewShot().delimiter();
      return switch (task.kind()) {
        case Kind.MultipleChoice kind -> {
          var choices = choices(kind.choices(), kind.choiceList(), row, where);
          int target = target(kind.target(), kind.labels(), choices.size(), row, where);
          yield clean(kind.context(), row, where) + delimiter + choices.get(target);
        }
        case Kind.ContextChoice kind -> {
          var contexts = choices(kind.contexts(), kind.contextList(), row, where);
          int target = target(kind.target(), kind.labels(), contexts.size(), row, where);
          yield contexts.get(target) + delimiter + clean(kind.continuation(), row, where);
        }
        case Kind.Continuation kind ->
            clean(kind.context(), row, where) + delimiter + clean(kind.continuation(), row, where);
        case Kind.Text kind -> kind.text().of(row, where);
        case Kind.Answer kind ->
            clean(kind.context(), row, where) + delimiter + kind.answer().of(row, where);
      };
    }
  }
}
