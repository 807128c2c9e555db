package dev.sluice.evaluation;

import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.IntStream;

/// All answers of a model to a task.
///
/// @param answers of every document, by its place
public record TaskResult(TaskData data, Map<Integer, List<Response>> answers) {
  public TaskResult {
    answers = Map.copyOf(answers);
    if (answers.size() != data.documents().size()) {
      throw new IllegalArgumentException(
          "%d answers to %d documents".formatted(answers.size(), data.documents().size()));
    }
  }

  private List<Response> answers(int document) {
    return Objects.requireNonNull(answers.get(document));
  }

  /// What each row adds to a metric, in the order of rows.
  public List<Metric.Share> shares(Metric metric) {
    return IntStream.range(0, data.documents().size())
        .mapToObj(i -> metric.of(data.task().kind(), data.documents().get(i), answers(i)))
        .toList();
  }

  public Metric.Value value(Metric metric) {
    return metric.of(shares(metric));
  }

  /// A metric of each group of rows; none where the task tells no groups apart.
  public Map<String, Metric.Value> groups(Metric metric) {
    var shares = shares(metric);
    var names = new TreeSet<String>();
    data.documents().forEach(document -> names.add(document.group()));
    Map<String, Metric.Value> values = new TreeMap<>();
    for (String name : names) {
      if (!name.isEmpty()) {
        values.put(
            name,
            metric.of(
                IntStream.range(0, shares.size())
                    .filter(i -> data.documents().get(i).group().equals(name))
                    .mapToObj(shares::get)
                    .toList()));
      }
    }
    return values;
  }

  /// The rows that lost their start because the model's context is too short.
  public int[] cutRows() {
    return IntStream.range(0, data.documents().size())
        .filter(i -> answers(i).stream().anyMatch(response -> response.cut() > 0))
        .map(i -> data.documents().get(i).row())
        .toArray();
  }
}
