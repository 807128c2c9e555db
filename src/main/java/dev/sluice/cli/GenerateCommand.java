package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.corpus.WindowRule;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generation;
import dev.sluice.generation.Generator;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.StopStrings;
import dev.sluice.generation.TextStream;
import dev.sluice.generation.TokenLogprob;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.serving.ModelFiles;
import dev.sluice.serving.SuggestedSampling;
import dev.sluice.tensor.Libtorch;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.training.BatchSettings;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;

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
      "  ./sluice generate path/to/qwen3 --prompt \"The sea\" --precision bfloat16",
      "  ./sluice generate model-Q4_K_M.gguf --prompt \"The sea\" --temperature 0.7 --min-p 0.05",
      "  ./sluice generate runs/NAME --prompt \"It was\" --temperature 1 --sequences 4 --json"
          + " texts.json",
      "  ./sluice generate path/to/qwen3 --prompt \"A whale as JSON:\" --json-schema whale.json"
    })
final class GenerateCommand implements Callable<Integer> {
  /// What the virtual machine reads for bytes that are no UTF-8.
  private static final char REPLACEMENT = '\uFFFD';

  /// Characters of what a user wrote that a sentence shows.
  private static final int SHOWN = 40;

  private static final int USUAL_TOKENS = 200;
  private static final int MOST_SEQUENCES = 256;
  private static final int MOST_LOGPROBS = 20;

  /// Tokens from which on their rate says something.
  private static final int LEAST_FOR_SHARE = 16;

  @Parameters(
      paramLabel = "CHECKPOINT",
      description =
          "A run directory, which stands for its newest checkpoint, a directory with config.json"
              + " and model.safetensors, or a .gguf file.")
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

  @Mixin private SamplingOptions sampling = new SamplingOptions();

  @Option(
      names = "--stop",
      paramLabel = "TEXT",
      description =
          "End the text where it would contain this, which is not printed; may be given several"
              + " times.")
  private List<String> stops = List.of();

  @Mixin private JsonOptions jsonOptions = new JsonOptions();

  @Option(
      names = "--json-after",
      paramLabel = "TOKEN",
      description =
          "Let the JSON begin after this token, such as </think>; any tokens may come before it.")
  private @Nullable String jsonAfter;

  @Option(
      names = "--sequences",
      paramLabel = "N",
      description =
          "How many texts continue the prompt at once, each with random numbers of its own."
              + " Default: 1.")
  private int sequences = 1;

  @Option(
      names = "--json",
      paramLabel = "FILE",
      description =
          "Also write the texts, their tokens and the tokens' log-probabilities to this file, with"
              + " a manifest.")
  private @Nullable Path json;

  @Option(
      names = "--logprobs",
      paramLabel = "N",
      description =
          "How many of the likeliest tokens --json shows at each place, besides the chosen one."
              + " Default: 0.")
  private int logprobs;

  @Option(names = "--weights", paramLabel = "FORMAT", description = ModelOptions.WEIGHTS)
  private @Nullable String weights;

  @Option(names = "--speculate", paramLabel = "KIND", description = ModelOptions.SPECULATE)
  private @Nullable String speculate;

  @Mixin private ModelOptions options = new ModelOptions();
  @Mixin private KeyValueCacheOption kvCache = new KeyValueCacheOption();

  @Spec private CommandSpec spec = CommandSpec.create();

  @Override
  public Integer call() throws IOException {
    var choice = sampling.over(SuggestedSampling.GREEDY);
    var sampler = choice.sampler();
    if (sequences < 1 || sequences > MOST_SEQUENCES) {
      throw new InvalidInputException(
          "--sequences %d is not possible; from 1 to %d are".formatted(sequences, MOST_SEQUENCES));
    }
    if (sampler.temperature() == 0 && sequences > 1) {
      Console.note("All %d texts are the same without --temperature above 0.".formatted(sequences));
    }
    if (speculate != null && sequences > 1) {
      throw new InvalidInputException(
          "--speculate is for one text, not for --sequences %d; leave one of them out"
              .formatted(sequences));
    }
    if (logprobs < 0 || logprobs > MOST_LOGPROBS) {
      throw new InvalidInputException(
          "--logprobs %d is not possible; from 0 to %d are".formatted(logprobs, MOST_LOGPROBS));
    }
    if (logprobs > 0 && json == null) {
      throw new InvalidInputException(
          "--logprobs %d is for --json, which is not given; add --json FILE".formatted(logprobs));
    }
    jsonOptions.read();
    if (jsonAfter != null && !jsonOptions.areGiven()) {
      throw new InvalidInputException(
          "--json-after %s is for --json-schema or --json-object, and none is given; add one"
              .formatted(Printable.brief(jsonAfter, SHOWN)));
    }
    if (json != null) {
      WholeFile.requirePlace(json);
    }
    try (var loaded = options.loadInPlace(model, weights, speculate)) {
      kvCache.apply(loaded.decoder());
      continueText(loaded, choice);
    }
    return 0;
  }

  /// What is written of one of the sequences.
  private final class Text {
    private final TextStream stream;
    private final StopStrings stopStrings = new StopStrings(stops);
    private final StringBuilder written = new StringBuilder();
    private final Restriction restriction;
    private final List<TokenLogprob> tokens = new ArrayList<>();

    Text(Tokenizer tokenizer, Restriction restriction) {
      this.restriction = restriction;
      this.stream = new TextStream(tokenizer::decode);
    }

    /// Takes up a token and prints what is surely part of the text; whether the text goes on.
    boolean add(int token, float[] logits) {
      if (json != null) {
        tokens.add(TokenLogprob.of(token, logits, logprobs));
      }
      print(stopStrings.add(stream.add(token)));
      return !stopStrings.found();
    }

    /// Whether the JSON that was asked for is there and whole.
    boolean isCompleteJson() {
      return restriction instanceof JsonRestriction value
          && value.isComplete()
          && !stopStrings.found();
    }

    void finish() {
      print(stopStrings.add(stream.finish()));
      print(stopStrings.finish());
    }

    private void print(String piece) {
      written.append(piece);
      if (sequences == 1) {
        Console.stream(piece);
      }
    }
  }

  private void continueText(ModelOptions.Loaded loaded, Choice choice) throws IOException {
    var tokenizer = loaded.tokenizer();
    var rule = loaded.source().trainedOnSequences().map(BatchSettings::windowRule);
    if (rule.equals(Optional.of(WindowRule.DOCUMENTS))) {
      Console.note(
          "The model was trained on sequences that begin with a start token, and so does the"
              + " prompt.");
    }
    int[] ids = ModelFiles.prompt(rule, prompt, tokenizer);
    if (prompt.indexOf(REPLACEMENT) >= 0) {
      Console.note(
          "The prompt holds U+FFFD, which stands for bytes that are no UTF-8, and is read as that"
              + " character.");
    }
    if (loaded.stopIds().isEmpty()) {
      Console.note("No file says which token ends a text, so only --max-tokens ends it.");
    }
    var generator = loaded.generator();
    int room = generator.room(ids.length);
    int most = maxTokens != null ? maxTokens : Math.clamp(room, 1, USUAL_TOKENS);
    var restrictions = jsonOptions.restrictions(loaded, loaded.stopIds(), jsonBegins(tokenizer));
    var texts =
        IntStream.range(0, sequences)
            .mapToObj(_ -> new Text(tokenizer, restrictions.get()))
            .toList();
    var startedAt = Instant.now();
    var clock = new Clock();
    var progress = new SlowProgress("token");
    var generated =
        generator.generate(
            Prompt.of(ids),
            new Choice(
                choice.sampler(),
                choice.adjustments(),
                sequence -> texts.get(sequence).restriction),
            most,
            loaded.stopIds(),
            sequences,
            new Generator.Listener() {
              @Override
              public boolean onRead(int tokens, int total) {
                progress.advanced(tokens, total, "reading the prompt");
                return true;
              }

              @Override
              public boolean onToken(int sequence, int token, float[] logits) {
                if (clock.tokens++ == 0) {
                  clock.first = System.nanoTime();
                  if (sequences == 1) {
                    Console.stream(prompt);
                  }
                }
                clock.withoutText += token >= tokenizer.vocabularySize() ? 1 : 0;
                return texts.get(sequence).add(token, logits);
              }
            });
    clock.ended = System.nanoTime();
    if (clock.tokens == 0 && sequences == 1) {
      Console.stream(prompt);
    }
    texts.forEach(Text::finish);
    if (sequences == 1) {
      Console.print("");
    } else {
      for (int i = 0; i < sequences; i++) {
        Console.print("[%d] %s%s%n".formatted(i + 1, prompt, texts.get(i).written));
      }
    }
    String ofLimit =
        sequences == 1 && speculate == null && clock.tokens >= LEAST_FOR_SHARE
            ? WeightReading.of(loaded.decoder(), ids.length + clock.tokens / 2)
                .map(reading -> reading.words(clock.tokensPerSecond()))
                .orElse("")
            : "";
    Console.note(
        "%d tokens%s; %d of prompt in %s s, then %s tokens/s%s%s."
            .formatted(
                clock.tokens,
                ending(generated, texts),
                ids.length,
                Numbers.fixed(clock.promptSeconds(), 2),
                clock.rate(),
                ofLimit,
                ModelOptions.drafts(
                    speculate, generated.getFirst().accepted(), generated.getFirst().drafted())));
    long incomplete = texts.stream().filter(text -> !text.isCompleteJson()).count();
    if (jsonOptions.areGiven() && incomplete > 0) {
      Console.note(
          "The JSON %sis not complete, since the text ended before; --max-tokens gives it more."
              .formatted(sequences == 1 ? "" : "of %d texts ".formatted(incomplete)));
    }
    if (clock.withoutText > 0) {
      Console.note(
          "%d of these tokens have numbers that the tokenizer of %d tokens does not have, so they show no text; check that it is the model's."
              .formatted(clock.withoutText, tokenizer.vocabularySize()));
    }
    if (json != null) {
      write(json, loaded, ids, texts, generated, clock, startedAt);
    }
  }

  private OptionalInt jsonBegins(Tokenizer tokenizer) {
    if (jsonAfter == null) {
      return OptionalInt.empty();
    }
    int[] ids = tokenizer.encode(jsonAfter);
    if (ids.length != 1) {
      throw new InvalidInputException(
          "--json-after %s is %d tokens of this model and must be one; name a token of its vocabulary"
              .formatted(Printable.brief(jsonAfter, SHOWN), ids.length));
    }
    return OptionalInt.of(ids[0]);
  }

  private String ending(List<Generation> generated, List<Text> texts) {
    if (sequences > 1) {
      return " in %d texts".formatted(sequences);
    }
    return switch (generated.getFirst().ending()) {
      case STOP_TOKEN -> ", ended by the model";
      case CALLER -> texts.getFirst().stopStrings.found() ? ", ended by a stop string" : "";
      case LENGTH -> "";
    };
  }

  private void write(
      Path file,
      ModelOptions.Loaded loaded,
      int[] ids,
      List<Text> texts,
      List<Generation> generated,
      Clock clock,
      Instant startedAt)
      throws IOException {
    List<Map<String, Object>> all = new ArrayList<>();
    for (int i = 0; i < texts.size(); i++) {
      Map<String, Object> one = new LinkedHashMap<>();
      one.put("text", texts.get(i).written.toString());
      one.put("ending", generated.get(i).ending().name().toLowerCase(Locale.ROOT));
      if (jsonOptions.areGiven()) {
        one.put("json_complete", texts.get(i).isCompleteJson());
      }
      one.put(
          "tokens",
          texts.get(i).tokens.stream().map(token -> token.shown(loaded.tokenizer())).toList());
      all.add(one);
    }
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("prompt", prompt);
    result.put("prompt_tokens", ids.length);
    result.put("prompt_seconds", clock.promptSeconds());
    result.put("tokens_per_second", clock.tokensPerSecond());
    if (speculate != null) {
      result.put("drafted", generated.getFirst().drafted());
      result.put("accepted", generated.getFirst().accepted());
    }
    result.put("texts", all);
    result.put("manifest", manifest(loaded, startedAt));
    var mapper =
        JsonFile.mapper()
            .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
            .enable(SerializationFeature.INDENT_OUTPUT)
            .build();
    WholeFile.write(file, mapper.writeValueAsString(result) + "\n");
  }

  private RunManifest manifest(ModelOptions.Loaded loaded, Instant startedAt) {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("checkpoint", loaded.source().checkpoint().toString());
    config.put("tokenizer", loaded.tokenizer().describe());
    config.put("precision", options.precision());
    config.put("kv_cache", kvCache.type().toString());
    config.put("device", loaded.decoder().device().toString());
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config,
        Map.of("sampling", sampling.seed()),
        "none", // nothing is read but the prompt, which is in the command line
        Libtorch.version(),
        RunManifest.Machine.current(),
        startedAt);
  }

  /// Reading the prompt and writing tokens differ too much in speed to be averaged.
  private static final class Clock {
    private final long began = System.nanoTime();
    private long first;
    private long ended;
    private int tokens;
    private int withoutText;

    double promptSeconds() {
      return ((tokens == 0 ? ended : first) - began) / 1e9;
    }

    double tokensPerSecond() {
      return tokens < 2 ? 0 : (tokens - 1) / ((ended - first) / 1e9);
    }

    String rate() {
      return tokens < 2 ? "–" : Numbers.fixed(tokensPerSecond(), 1);
    }
  }
}
