package dev.sluice.cli;

import dev.sluice.generation.Choice;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import dev.sluice.serving.SuggestedSampling;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// How the next token is chosen, the same for every command that writes text.
final class SamplingOptions {
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
  private Map<Integer, Bias> logitBias = Map.of();

  @Option(names = "--seed", paramLabel = "N", description = "Of the sampling. Default: 1.")
  private long seed = 1;

  /// What is added to a logit.
  record Bias(double added) {
    private static final double NONE_OF_IT = Double.NEGATIVE_INFINITY;

    /// @throws NumberFormatException if it is no number
    static Bias parse(String text) {
      return new Bias(text.equals(String.valueOf(NONE_OF_IT)) ? NONE_OF_IT : Main.finite(text));
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
  Choice over(SuggestedSampling suggested) {
    double chosen = temperature != null ? temperature : suggested.temperature();
    var choice =
        new Choice(
            new Sampler(
                chosen,
                topK != null ? topK : suggested.topK(),
                topP != null ? topP : suggested.topP(),
                minP != null ? minP : suggested.minP(),
                seed),
            new LogitAdjustments(
                repetitionPenalty != null ? repetitionPenalty : suggested.repetition(),
                presencePenalty,
                frequencyPenalty,
                logitBias.entrySet().stream()
                    .collect(Collectors.toMap(Map.Entry::getKey, bias -> bias.getValue().added))));
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
