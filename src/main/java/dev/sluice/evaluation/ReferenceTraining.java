package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.files.JsonFile;
import dev.sluice.optimizer.AdamW;
import dev.sluice.settings.Settings;
import dev.sluice.tensor.Scope;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// The steps that a reference took, as `training.json` says.
///
/// @param learningRate of all steps
/// @param clipNorm the largest global gradient norm
/// @param steps at least one
/// @param finalParameters after the last step, by name
record ReferenceTraining(
    AdamW.Settings settings,
    double learningRate,
    double clipNorm,
    List<Step> steps,
    Map<String, Sums> finalParameters) {
  /// What a step began with: the loss in nats, and the gradient's norm before clipping.
  record Step(double loss, double gradientNorm) {}

  /// Of a parameter's values.
  record Sums(double sum, double sumOfSquares) {}

  private static final String WAY_OUT = "write it again";

  /// Every key is needed, none is passed over, every number is finite.
  static ReferenceTraining read(Path file) {
    var json = JsonFile.object(file, JsonFile.SMALL, WAY_OUT);
    requireKeys(
        file, "it", json, Set.of("hyper_parameters", "steps", "final_parameters"), Set.of());
    var settings = object(file, "hyper_parameters", json.path("hyper_parameters"));
    requireKeys(
        file,
        "hyper_parameters",
        settings,
        Set.of("lr", "beta1", "beta2", "eps", "weight_decay", "clip_norm"),
        Set.of("optimizer", "steps"));
    if (settings.has("optimizer")
        && !settings.path("optimizer").asString("").equalsIgnoreCase("AdamW")) {
      throw wrong(file, "hyper_parameters.optimizer", settings.path("optimizer"), "\"AdamW\"");
    }
    var steps = steps(file, json.path("steps"));
    if (settings.has("steps")
        && number(file, "hyper_parameters", settings, "steps") != steps.size()) {
      throw wrong(
          file,
          "hyper_parameters.steps",
          settings.path("steps"),
          "the number of its steps, " + steps.size());
    }
    return new ReferenceTraining(
        new AdamW.Settings(
            within(file, settings, "beta1", 0, 1),
            within(file, settings, "beta2", 0, 1),
            within(file, settings, "eps", Double.MIN_VALUE, Double.MAX_VALUE),
            within(file, settings, "weight_decay", 0, Double.MAX_VALUE)),
        within(file, settings, "lr", Double.MIN_VALUE, Double.MAX_VALUE),
        within(file, settings, "clip_norm", Double.MIN_VALUE, Double.MAX_VALUE),
        steps,
        sums(file, object(file, "final_parameters", json.path("final_parameters"))));
  }

  private static List<Step> steps(Path file, JsonNode node) {
    if (!(node instanceof ArrayNode all) || all.isEmpty()) {
      throw wrong(file, "steps", node, "a list of at least one step");
    }
    List<Step> steps = new ArrayList<>();
    for (JsonNode one : all) {
      String what = "steps[%d]".formatted(steps.size());
      var step = object(file, what, one);
      requireKeys(file, what, step, Set.of("loss", "grad_norm"), Set.of());
      steps.add(new Step(number(file, what, step, "loss"), number(file, what, step, "grad_norm")));
    }
    return steps;
  }

  private static Map<String, Sums> sums(Path file, ObjectNode node) {
    Map<String, Sums> sums = new LinkedHashMap<>();
    for (var parameter : node.properties()) {
      String what = "final_parameters." + parameter.getKey();
      var one = object(file, what, parameter.getValue());
      requireKeys(file, what, one, Set.of("sum", "sum_of_squares"), Set.of());
      sums.put(
          parameter.getKey(),
          new Sums(number(file, what, one, "sum"), number(file, what, one, "sum_of_squares")));
    }
    return sums;
  }

  private static ObjectNode object(Path file, String what, JsonNode node) {
    if (node instanceof ObjectNode object) {
      return object;
    }
    throw wrong(file, what, node, "an object");
  }

  private static void requireKeys(
      Path file, String what, ObjectNode node, Set<String> needed, Set<String> allowed) {
    for (String key : needed) {
      if (!node.has(key)) {
        throw new InvalidInputException(
            "%s: %s has no %s; %s".formatted(file, brief(what), key, WAY_OUT));
      }
    }
    for (String key : node.propertyNames()) {
      if (!needed.contains(key) && !allowed.contains(key)) {
        throw new InvalidInputException(
            "%s: %s has a %s, which is compared with nothing; leave it out"
                .formatted(file, brief(what), brief(key)));
      }
    }
  }

  private static double number(Path file, String what, ObjectNode node, String key) {
    JsonNode value = node.path(key);
    double number = value.isNumber() ? Double.parseDouble(value.asString()) : Double.NaN;
    if (!Double.isFinite(number)) {
      throw wrong(file, what + "." + key, value, "a finite number");
    }
    return Settings.number("%s: %s.%s".formatted(file, what, key), value.asString());
  }

  /// From `least` to below `limit`.
  private static double within(
      Path file, ObjectNode settings, String key, double least, double limit) {
    double number = number(file, "hyper_parameters", settings, key);
    if (!(number >= least && number < limit)) {
      throw wrong(
          file,
          "hyper_parameters." + key,
          settings.path(key),
          limit == 1 ? "in [0, 1)" : least == 0 ? "0 or more" : "a positive number");
    }
    return number;
  }

  private static InvalidInputException wrong(
      Path file, String what, JsonNode found, String wanted) {
    return new InvalidInputException(
        "%s: %s must be %s, not %s; %s"
            .formatted(file, brief(what), wanted, brief(found), WAY_OUT));
  }

  private static String brief(Object value) {
    return Printable.brief(value, 80);
  }

  /// Refuses sums that are not of exactly this model's parameters.
  ///
  /// @param directory of the model, for messages
  void requireParameters(Path directory, ModelDirectory.Opened model) {
    try (var _ = Scope.withoutGradient()) {
      var names = model.packed(finalParameters.keySet()).keySet();
      requireAll(directory, names, finalParameters.keySet(), "names no sums of");
      requireAll(directory, finalParameters.keySet(), names, "names the unknown parameter");
    }
  }

  private static void requireAll(
      Path directory, Set<String> all, Set<String> there, String problem) {
    var missing = new HashSet<>(all);
    missing.removeAll(there);
    if (!missing.isEmpty()) {
      throw new InvalidInputException(
          "training.json in %s %s %s; %s"
              .formatted(
                  directory,
                  problem,
                  brief(missing.stream().sorted().findFirst().orElse("")),
                  WAY_OUT));
    }
  }
}
