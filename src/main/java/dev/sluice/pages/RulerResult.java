package dev.sluice.pages;

import dev.sluice.files.WholeFile;
import dev.sluice.provenance.RunManifest;
import dev.sluice.ruler.RulerMode;
import dev.sluice.ruler.RulerTask;
import dev.sluice.ruler.Scored;
import dev.sluice.ruler.TaskScore;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What `sluice ruler` found.
///
/// @param models in the order in which they were named; all are compared with the first
/// @param notes what a reader must know, such as tasks that do not fit
/// @param manifest where the numbers come from
public record RulerResult(
    RulerMode mode, List<Model> models, List<String> notes, RunManifest manifest) {
  /// Ranges of depth.
  public static final int DEPTHS = 10;

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  /// @param name of the run or checkpoint
  /// @param checkpoint its directory
  /// @param scores of each task and length
  public record Model(String name, String checkpoint, List<TaskScore> scores) {
    public Model {
      scores = List.copyOf(scores);
    }

    /// That of a task at a length, if there is one.
    public Optional<TaskScore> score(RulerTask task, int length) {
      return scores.stream()
          .filter(score -> score.task() == task && score.maxLength() == length)
          .findFirst();
    }

    /// The mean of all tasks at a length, as the mode tells it; NaN for none.
    public double mean(RulerMode mode, int length) {
      return at(length).mapToDouble(score -> score.total(mode)).average().orElse(Double.NaN);
    }

    Stream<TaskScore> at(int length) {
      return scores.stream().filter(score -> score.maxLength() == length);
    }

    /// The share of needles found in a range of depths at a length.
    Found found(int length, int depth) {
      var needles =
          at(length)
              .flatMap(score -> score.samples().stream())
              .flatMap(sample -> sample.needles().stream())
              .filter(needle -> Math.min(DEPTHS - 1, (int) (needle.depth() * DEPTHS)) == depth)
              .toList();
      return new Found(needles.size(), needles.stream().filter(Scored.Needle::found).count());
    }
  }

  /// @param needles that were asked for
  record Found(long needles, long found) {
    double share() {
      return needles == 0 ? Double.NaN : (double) found / needles;
    }
  }

  public RulerResult {
    models = List.copyOf(models);
    notes = List.copyOf(notes);
  }

  List<Integer> lengths() {
    return scores().map(TaskScore::maxLength).distinct().sorted().toList();
  }

  List<RulerTask> tasks() {
    return scores().map(TaskScore::task).distinct().sorted().toList();
  }

  boolean hasNeedles() {
    return scores()
        .flatMap(score -> score.samples().stream())
        .anyMatch(s -> !s.needles().isEmpty());
  }

  private Stream<TaskScore> scores() {
    return models.stream().flatMap(model -> model.scores().stream());
  }

  String manifestJson() {
    return JSON.writeValueAsString(manifest);
  }

  /// Writes all numbers as JSON. Scores and means are as the mode tells them; all else is from 0 to
  /// 1.
  public void write(Path file) throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("mode", mode.word());
    json.put("interval", "Wilson, 95 %");
    List<Object> all = new ArrayList<>();
    for (int i = 0; i < models.size(); i++) {
      var model = models.get(i);
      boolean compared = i > 0;
      Map<String, Object> of = new LinkedHashMap<>();
      of.put("name", model.name());
      of.put("checkpoint", model.checkpoint());
      of.put("scores", model.scores().stream().map(score -> json(score, compared)).toList());
      of.put("means", lengths().stream().map(length -> meanJson(model, length)).toList());
      if (hasNeedles()) {
        of.put("depths", depths(model));
      }
      all.add(of);
    }
    json.put("models", all);
    json.put("notes", notes);
    json.put("manifest", manifest);
    WholeFile.write(file, JSON.writeValueAsString(json) + "\n");
  }

  private Map<String, Object> json(TaskScore score, boolean compared) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("task", score.task().word());
    json.put("max_length", score.maxLength());
    json.put("mean_length", score.meanLength());
    json.put("samples", score.samples().size());
    json.put("nulls", score.nulls());
    json.put("score", score.total(mode));
    json.put("low", score.low());
    json.put("high", score.high());
    json.put("seconds", score.seconds());
    json.put("scores", score.samples().stream().map(Scored::score).toList());
    (compared ? difference(score) : Optional.<TaskScore.Difference>empty())
        .ifPresent(
            difference -> {
              json.put("minus_first", difference.mean());
              json.put(
                  "minus_first_half_width",
                  Double.isNaN(difference.halfWidth()) ? null : difference.halfWidth());
            });
    return json;
  }

  private Map<String, Object> meanJson(Model model, int length) {
    double mean = model.mean(mode, length);
    Map<String, @Nullable Object> json = new LinkedHashMap<>();
    json.put("max_length", length);
    json.put("tasks", model.at(length).count());
    json.put("score", Double.isNaN(mean) ? null : mean);
    @SuppressWarnings({"unchecked", "NullAway"}) // JSON has null for no score
    var values = (Map<String, Object>) (Map<String, ?>) json;
    return values;
  }

  private List<Object> depths(Model model) {
    List<Object> all = new ArrayList<>();
    for (int length : lengths()) {
      for (int depth = 0; depth < DEPTHS; depth++) {
        var found = model.found(length, depth);
        if (found.needles() > 0) {
          Map<String, Object> json = new LinkedHashMap<>();
          json.put("max_length", length);
          json.put("depth_from", (double) depth / DEPTHS);
          json.put("needles", found.needles());
          json.put("found", found.found());
          all.add(json);
        }
      }
    }
    return all;
  }

  /// Against the first model; empty where the prompts are others.
  Optional<TaskScore.Difference> difference(TaskScore score) {
    return models.getFirst().score(score.task(), score.maxLength()).flatMap(score::minus);
  }
}
