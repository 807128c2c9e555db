package dev.sluice.pages;

import dev.sluice.evaluation.EvaluationTask;
import dev.sluice.evaluation.EvictionLoss;
import dev.sluice.evaluation.Metric;
import dev.sluice.evaluation.PairedDifference;
import dev.sluice.evaluation.TaskResult;
import dev.sluice.files.WholeFile;
import dev.sluice.provenance.RunManifest;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What `sluice evaluate` found.
///
/// @param models in the order in which they were named, at least one
/// @param notes what a reader must know of how they were asked
/// @param manifest where the numbers come from
public record EvaluationResult(List<Model> models, List<String> notes, RunManifest manifest) {
  /// A model with its answers.
  ///
  /// @param name told apart from the others
  /// @param checkpoint its directory
  /// @param run that it is of, or empty
  /// @param step after which it was saved, where its name says so
  /// @param results of each task, in one order for all models
  /// @param evictions what became of a text's loss when early keys were given up
  public record Model(
      String name,
      String checkpoint,
      String run,
      OptionalLong step,
      List<TaskResult> results,
      List<Eviction> evictions) {
    public Model {
      results = List.copyOf(results);
      evictions = List.copyOf(evictions);
    }
  }

  /// A text's loss with few keys kept.
  ///
  /// @param task whose texts
  public record Eviction(String task, EvictionLoss loss) {}

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  public EvaluationResult {
    models = List.copyOf(models);
    notes = List.copyOf(notes);
  }

  /// The tasks that all models were asked.
  public List<EvaluationTask> tasks() {
    return models.getFirst().results().stream().map(result -> result.data().task()).toList();
  }

  String manifestJson() {
    return JSON.writeValueAsString(manifest);
  }

  /// How a model's answers to a task differ from the first model's.
  PairedDifference difference(int model, int task, Metric metric) {
    return PairedDifference.of(
        metric,
        models.getFirst().results().get(task).shares(metric),
        models.get(model).results().get(task).shares(metric));
  }

  /// Writes everything as JSON.
  public void write(Path file) throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    List<Object> models = new ArrayList<>();
    for (int i = 0; i < this.models.size(); i++) {
      models.add(json(i));
    }
    json.put("models", models);
    json.put("notes", notes);
    json.put("manifest", manifest);
    WholeFile.write(file, JSON.writeValueAsString(json) + "\n");
  }

  private Map<String, Object> json(int index) {
    var model = models.get(index);
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", model.name());
    json.put("checkpoint", model.checkpoint());
    if (model.step().isPresent()) {
      json.put("step", model.step().getAsLong());
    }
    List<Object> tasks = new ArrayList<>();
    for (int task = 0; task < model.results().size(); task++) {
      tasks.add(json(index, task));
    }
    json.put("tasks", tasks);
    if (!model.evictions().isEmpty()) {
      json.put(
          "evictions",
          model.evictions().stream()
              .map(
                  each -> {
                    Map<String, Object> loss = new LinkedHashMap<>();
                    loss.put("task", each.task());
                    loss.put("kept", each.loss().kept());
                    loss.put("tokens", each.loss().tokens());
                    put(loss, "nats", each.loss().nats());
                    put(loss, "perplexity", each.loss().perplexity());
                    return loss;
                  })
              .toList());
    }
    return json;
  }

  private Map<String, Object> json(int model, int task) {
    var result = models.get(model).results().get(task);
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", result.data().task().name());
    json.put("data", result.data().source().toString());
    json.put("fingerprint", result.data().fingerprint());
    json.put("examples", result.data().task().fewShot().examples());
    json.put("rows", result.data().documents().size());
    json.put("cut_rows", Arrays.stream(result.cutRows()).boxed().toList());
    Map<String, Object> metrics = new LinkedHashMap<>();
    for (var metric : result.data().task().metrics()) {
      var value = json(result.value(metric));
      if (model > 0) {
        var difference = difference(model, task, metric);
        Map<String, Object> paired = new LinkedHashMap<>();
        paired.put("from", models.getFirst().name());
        paired.put("difference", difference.difference());
        put(paired, "low", difference.low());
        put(paired, "high", difference.high());
        put(paired, "mcnemar_p", difference.pValue());
        value.put("paired", paired);
      }
      var groups = result.groups(metric);
      if (!groups.isEmpty()) {
        Map<String, Object> byGroup = new LinkedHashMap<>();
        groups.forEach((name, each) -> byGroup.put(name, json(each)));
        value.put("groups", byGroup);
      }
      metrics.put(metric.word(), value);
    }
    json.put("metrics", metrics);
    return json;
  }

  private static Map<String, Object> json(Metric.Value value) {
    Map<String, Object> json = new LinkedHashMap<>();
    put(json, "value", value.value());
    value.standardError().ifPresent(error -> put(json, "standard_error", error));
    return json;
  }

  /// JSON has no numbers that are not finite.
  private static void put(Map<String, Object> json, String key, double value) {
    if (Double.isFinite(value)) {
      json.put(key, value);
    }
  }
}
