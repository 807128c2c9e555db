package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Choice;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// How the next token is chosen, the same for every command that writes text.
final class SamplingOptions {
  private static final String GENERATION = "generation_config.json";
  private static final String WAY_OUT = "correct it or remove it";

  @Option(
      names = "--temperature",
      paramLabel = "T",
      description =
          "0 takes the likeliest token, 1 samples as the model says. Default: 0, in a chat what the"
              + " model's generation_config.json says, else 0.7.")
  private @Nullable Double temperature;

  @Option(
      names = "--top-k",
      paramLabel = "K",
      description = "Sample from the K likeliest; 0 is all. Default: 0, in a chat what that says.")
  private @Nullable Integer topK;

  @Option(
      names = "--top-p",
      paramLabel = "P",
      description =
          "Sample from the likeliest that hold this share of the probability. Default: 1, in a chat"
              + " what that says, else 0.95.")
  private @Nullable Double topP;

  @Option(
      names = "--min-p",
      paramLabel = "P",
      description =
          "Sample from tokens at least P times as likely as the likeliest; 0 is all. Default: 0, in"
              + " a chat what that says.")
  private @Nullable Double minP;

  @Option(
      names = "--repetition-penalty",
      paramLabel = "R",
      description =
          "Divide positive logits of tokens that the prompt or the text has, and multiply negative"
              + " ones; 1 is none. Default: 1, in a chat what that says.")
  private @Nullable Double repetitionPenalty;

  @Option(
      names = "--presence-penalty",
      paramLabel = "R",
      description = "Take R from the logits of tokens that the text has. Default: 0.")
  private double presencePenalty;

  @Option(
      names = "--frequency-penalty",
      paramLabel = "R",
      description = "Take R from the logits of tokens for each time the text has them. Default: 0.")
  private double frequencyPenalty;

  @Option(
      names = "--logit-bias",
      paramLabel = "ID=NUMBER",
      description =
          "Add a number to the logit of a token, -Infinity to exclude it; may be given several"
              + " times.")
  private Map<Integer, Double> logitBias = Map.of();

  @Option(names = "--seed", paramLabel = "N", description = "Of the sampling. Default: 1.")
  private long seed = 1;

  /// What holds where the user says nothing.
  ///
  /// @param by whose suggestion it is, for people
  record Suggested(
      String by, double temperature, int topK, double topP, double minP, double repetition) {
    /// Always the likeliest token.
    static final Suggested GREEDY = new Suggested("", 0, 0, 1, 0, 1);

    private static final Suggested OF_CHATS =
        new Suggested("no file of the model says how", 0.7, 0, 0.95, 0, 1);

    /// What a model's makers suggest in `generation_config.json`, which draws only where it says
    /// so; else what suits most models in a chat.
    static Suggested ofChat(Path checkpoint) {
      Path file =
          Files.isDirectory(checkpoint)
              ? checkpoint.resolve(GENERATION)
              : checkpoint.resolveSibling(GENERATION);
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
          new Suggested(
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

    /// Refuses what no token can be chosen by.
    private void requirePossible() {
      var _ = new Sampler(temperature, topK, topP, minP, 0);
      var _ = new LogitAdjustments(repetition, 0, 0, Map.of());
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

  /// For people.
  static String words(Choice choice) {
    var sampler = choice.sampler();
    double repetition = choice.adjustments().repetition();
    return (sampler.temperature() == 0
            ? "always the likeliest token"
            : String.format(
                Locale.ROOT,
                "temperature %s, top-k %s, top-p %s, min-p %s",
                sampler.temperature(),
                sampler.topK() == 0 ? "all" : sampler.topK(),
                sampler.topP(),
                sampler.minP()))
        + (repetition == 1 ? "" : ", repetition penalty " + repetition);
  }

  /// What the user said, over what was suggested.
  Choice over(Suggested suggested) {
    double chosen = temperature != null ? temperature : suggested.temperature;
    var choice =
        new Choice(
            new Sampler(
                chosen,
                topK != null ? topK : suggested.topK,
                topP != null ? topP : suggested.topP,
                minP != null ? minP : suggested.minP,
                seed),
            new LogitAdjustments(
                repetitionPenalty != null ? repetitionPenalty : suggested.repetition,
                presencePenalty,
                frequencyPenalty,
                logitBias));
    if (chosen == 0 && (topK != null || topP != null || minP != null)) {
      Console.note("--top-k, --top-p and --min-p change nothing without --temperature above 0.");
    }
    return choice;
  }

  /// Whether the user said all of how tokens are chosen.
  boolean isGiven() {
    return temperature != null
        && (temperature == 0 || (topK != null && topP != null && minP != null))
        && repetitionPenalty != null;
  }

  long seed() {
    return seed;
  }
}
