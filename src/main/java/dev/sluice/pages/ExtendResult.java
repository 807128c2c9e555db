package dev.sluice.pages;

import dev.sluice.evaluation.PositionLoss;
import dev.sluice.files.WholeFile;
import dev.sluice.provenance.RunManifest;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// What `sluice extend` did and measured.
///
/// @param trained the context that the model was trained with, in tokens
/// @param before the context that it had
/// @param context the new one
/// @param steps of training after the change; 0 for none
/// @param models on the same held-out windows; empty where no text was given
/// @param written the model's directory
public record ExtendResult(
    int trained,
    int before,
    int context,
    int steps,
    List<Model> models,
    Path written,
    RunManifest manifest) {
  /// One of the models.
  ///
  /// @param positions how it knows them, in words
  public record Model(String name, String positions, PositionLoss loss) {}

  private static final JsonMapper JSON =
      JsonMapper.builder()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .build();

  public ExtendResult {
    models = List.copyOf(models);
  }

  /// How long the windows are that were measured; 0 for none.
  int measured() {
    return models.isEmpty() ? 0 : models.getFirst().loss().nats().length;
  }

  /// Ends of the pieces that a table tells apart: the trained context, twice it, and so on.
  int[] ends() {
    var ends = new ArrayList<Integer>();
    for (long end = trained; end < measured(); end *= 2) {
      ends.add((int) end);
    }
    ends.add(measured());
    return ends.stream().mapToInt(end -> end).toArray();
  }

  /// Writes all numbers and the manifest as JSON.
  public void write(Path file) throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("trained_context", trained);
    json.put("context_before", before);
    json.put("context", context);
    json.put("steps", steps);
    Map<String, Object> all = new LinkedHashMap<>();
    for (var model : models) {
      Map<String, Object> one = new LinkedHashMap<>();
      one.put("positions", model.positions());
      one.put("windows", model.loss().windows());
      Map<String, Object> pieces = new LinkedHashMap<>();
      int from = 0;
      for (int end : ends()) {
        pieces.put("%d-%d".formatted(from + 1, end), model.loss().mean(from, end));
        from = end;
      }
      one.put("nats_per_token", pieces);
      one.put("nats_by_position", model.loss().nats());
      all.put(model.name(), one);
    }
    json.put("models", all);
    json.put("written", written.toString());
    json.put("manifest", manifest);
    WholeFile.write(file, JSON.writeValueAsString(json) + "\n");
  }

  /// The manifest as JSON, for a page.
  String manifestJson() {
    return JSON.writeValueAsString(manifest);
  }
}
