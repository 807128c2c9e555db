package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Choice;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// How tokens are chosen where the user says nothing.
///
/// @param by whose suggestion it is, for people
public record SuggestedSampling(
    String by, double temperature, int topK, double topP, double minP, double repetition) {
  /// The file in which a model's makers suggest it.
  static final String FILE = "generation_config.json";

  private static final String WAY_OUT = "correct it or remove it";

  /// Always the likeliest token.
  public static final SuggestedSampling GREEDY = new SuggestedSampling("", 0, 0, 1, 0, 1);

  private static final SuggestedSampling OF_CHATS =
      new SuggestedSampling("no file of the model says how", 0.7, 0, 0.95, 0, 1);

  /// What a model's makers suggest in `generation_config.json`, which draws only where it says so;
  /// else what suits most models in a chat.
  public static SuggestedSampling ofChat(Path checkpoint) {
    Path file =
        Files.isDirectory(checkpoint) ? checkpoint.resolve(FILE) : checkpoint.resolveSibling(FILE);
    if (!Files.exists(file)) {
      return OF_CHATS;
    }
    ObjectNode config = JsonFile.object(file, JsonFile.SMALL, WAY_OUT);
    if (!config.has("do_sample") && !config.has("temperature") && !config.has("top_p")) {
      return OF_CHATS;
    }
    JsonNode sampling = config.path("do_sample");
    if (!sampling.isMissingNode() && !sampling.isNull() && !sampling.isBoolean()) {
      throw wrong(file, "do_sample", sampling, "true or false");
    }
    boolean draws = sampling.asBoolean(false);
    double topK = draws ? number(file, config, "top_k", 50) : 0;
    if (topK != (int) topK) {
      throw wrong(file, "top_k", config.path("top_k"), "a whole number");
    }
    var suggested =
        new SuggestedSampling(
            "as %s says".formatted(file.getFileName()),
            draws ? number(file, config, "temperature", 1) : 0,
            (int) topK,
            draws ? number(file, config, "top_p", 1) : 1,
            draws ? number(file, config, "min_p", 0) : 0,
            number(file, config, "repetition_penalty", 1));
    try {
      suggested.requirePossible();
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(file, e.getMessage()), e);
    }
    return suggested;
  }

  /// As it is suggested, with random numbers of a seed.
  public Choice choice(long seed) {
    return new Choice(
        new Sampler(temperature, topK, topP, minP, seed),
        new LogitAdjustments(repetition, 0, 0, Map.of()));
  }

  /// Refuses what no token can be chosen by.
  private void requirePossible() {
    var _ = choice(0);
  }

  private static InvalidInputException wrong(
      Path file, String name, JsonNode value, String wanted) {
    return new InvalidInputException(
        "%s: %s must be %s, not %s; %s"
            .formatted(file, name, wanted, Printable.brief(value, 60), WAY_OUT));
  }

  private static double number(Path file, ObjectNode config, String name, double otherwise) {
    JsonNode value = config.path(name);
    if (value.isMissingNode() || value.isNull()) {
      return otherwise;
    }
    if (!value.isNumber()) {
      throw wrong(file, name, value, "a number");
    }
    return value.asDouble();
  }
}
