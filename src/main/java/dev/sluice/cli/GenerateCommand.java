package dev.sluice.cli;

import dev.sluice.corpus.WindowRule;
import dev.sluice.generation.Generation;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.generation.TextStream;
import dev.sluice.report.Numbers;
import dev.sluice.training.BatchSettings;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice generate`: continues a text.
@Command(
    name = "generate",
    customSynopsis = "sluice generate CHECKPOINT [--prompt TEXT] [OPTIONS]",
    description = {
      "Continues a text with a trained model. Prints the prompt and what follows, as it comes.",
      "",
      "Takes the likeliest token each time; --temperature 0.8 --top-p 0.95 makes it livelier."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice generate runs/NAME --prompt \"It was\"",
      "  ./sluice generate runs/NAME --prompt \"It was\" --temperature 0.8 --top-p 0.95 --seed 2",
      "  ./sluice generate path/to/qwen3 --prompt \"The sea\" --precision bfloat16"
    })
final class GenerateCommand implements Callable<Integer> {
  private static final int USUAL_TOKENS = 200;

  @Parameters(
      paramLabel = "CHECKPOINT",
      description =
          "A run directory, which stands for its newest checkpoint, or a directory with config.json"
              + " and model.safetensors.")
  private Path model = Path.of("");

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description = "The text to continue. Default: none.")
  private String prompt = "";

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      description = "The most tokens to add. Default: " + USUAL_TOKENS + ".")
  private @Nullable Integer maxTokens;

  @Option(
      names = "--temperature",
      paramLabel = "T",
      description = "0 takes the likeliest token, 1 samples as the model says. Default: 0.")
  private double temperature;

  @Option(
      names = "--top-k",
      paramLabel = "K",
      description = "Sample from the K likeliest; 0 is all. Default: 0.")
  private int topK;

  @Option(
      names = "--top-p",
      paramLabel = "P",
      description =
          "Sample from the likeliest that hold this share of the probability. Default: 1.")
  private double topP = 1;

  @Option(names = "--seed", paramLabel = "N", description = "Of the sampling. Default: 1.")
  private long seed = 1;

  @Mixin private ModelOptions options = new ModelOptions();

  @Override
  public Integer call() {
    var sampler = new Sampler(temperature, topK, topP, seed);
    if (temperature == 0 && (topK != 0 || topP != 1)) {
      Console.note("--top-k and --top-p change nothing without --temperature above 0.");
    }
    try (var loaded = options.loadInPlace(model)) {
      continueText(loaded, sampler);
    }
    return 0;
  }

  private void continueText(ModelOptions.Loaded loaded, Sampler sampler) {
    var tokenizer = loaded.tokenizer();
    var rule =
        loaded
            .source()
            .trainedOnSequences()
            .map(BatchSettings::windowRule)
            .orElse(WindowRule.STREAM);
    if (rule == WindowRule.DOCUMENTS) {
      Console.note(
          "The model was trained on sequences that begin with a start token, and so does the"
              + " prompt.");
    }
    int[] ids = rule.prompt(prompt, tokenizer);
    if (loaded.stopIds().isEmpty()) {
      Console.note("No file says which token ends a text, so only --max-tokens ends it.");
    }
    int room = loaded.decoder().config().context() - ids.length;
    int most = maxTokens != null ? maxTokens : Math.clamp(room, 1, USUAL_TOKENS);
    var text = new TextStream(tokenizer::decode);
    var clock = new Clock();
    Generation generation;
    generation =
        new Generator(loaded.decoder())
            .generate(
                ids,
                sampler,
                most,
                loaded.stopIds(),
                token -> {
                  if (clock.tokens++ == 0) {
                    clock.first = System.nanoTime();
                    Console.stream(prompt);
                  }
                  clock.withoutText += token >= tokenizer.vocabularySize() ? 1 : 0;
                  Console.stream(text.add(token));
                  return true;
                });
    if (clock.tokens == 0) {
      Console.stream(prompt);
    }
    Console.stream(text.finish());
    Console.print("");
    Console.note(
        "%d tokens%s; %d of prompt in %s s, then %s tokens/s."
            .formatted(
                generation.tokens().size(),
                switch (generation.ending()) {
                  case STOP_TOKEN -> ", ended by the model";
                  case LENGTH, CALLER -> "";
                },
                ids.length,
                Numbers.fixed(clock.promptSeconds(), 2),
                clock.rate()));
    if (clock.withoutText > 0) {
      Console.note(
          "%d of these tokens have numbers that the tokenizer of %d tokens does not have, so they show no text; check that it is the model's."
              .formatted(clock.withoutText, tokenizer.vocabularySize()));
    }
  }

  /// Reading the prompt and writing tokens differ too much in speed to be averaged.
  private static final class Clock {
    private final long began = System.nanoTime();
    private long first;
    private int tokens;
    private int withoutText;

    double promptSeconds() {
      return ((tokens == 0 ? System.nanoTime() : first) - began) / 1e9;
    }

    String rate() {
      return tokens < 2
          ? "–"
          : Numbers.fixed((tokens - 1) / ((System.nanoTime() - first) / 1e9), 1);
    }
  }
}
