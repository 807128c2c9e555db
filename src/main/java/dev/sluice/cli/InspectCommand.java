package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.evaluation.HeldOutLoss;
import dev.sluice.pages.InspectReport;
import dev.sluice.pages.InspectResult;
import dev.sluice.probe.Probe;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.TextTable;
import dev.sluice.sink.SinkReport;
import dev.sluice.tensor.Libtorch;
import dev.sluice.training.BatchSettings;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;
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

/// `sluice inspect`: measures sinks, massive activations and gates of a trained model.
@Command(
    name = "inspect",
    customSynopsis = "sluice inspect RUN_OR_CHECKPOINT [--data FILE] [OPTIONS]",
    description = {
      "Measures attention sinks, massive activations and gates of a trained model on a text; prints"
          + " tables and writes inspect.json and inspect.html.",
      "",
      "First-token attention stands beside the floor that uniform attention would have, and once"
          + " more without the first queries; use 512 tokens or more."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice inspect runs/NAME",
      "  ./sluice inspect runs/NAME/checkpoints/step-00000100 --windows 32",
      "  ./sluice inspect runs/NAME --force-gate 0.15",
      "  ./sluice inspect path/to/qwen3 --data book.txt --tokens 1024 --output qwen3-sinks"
    })
final class InspectCommand implements Callable<Integer> {
  /// Scores are about one; much larger ones only overflow.
  private static final double LARGEST_SCORE = 1000;

  @Parameters(
      paramLabel = "RUN_OR_CHECKPOINT",
      description =
          "A run directory, which stands for its newest checkpoint, a directory with config.json"
              + " and model.safetensors, or a .gguf file.")
  private Path model = Path.of("");

  @Option(
      names = "--data",
      paramLabel = "FILE",
      description =
          "A .txt, .jsonl (also .gz, .zst) or Parquet file or a folder of them; moby-dick is the"
              + " bundled book. Default: what the run held out, else moby-dick.")
  private @Nullable String data;

  @Option(
      names = "--text-field",
      paramLabel = "NAME",
      description =
          "The JSON field or Parquet column that holds the text. Default: ${DEFAULT-VALUE}.")
  private String textField = "text";

  @Option(
      names = "--windows",
      paramLabel = "N",
      description = "Windows, spread evenly over the text. Default: ${DEFAULT-VALUE}.")
  private int windows = 8;

  @Option(
      names = "--tokens",
      paramLabel = "N",
      description =
          "Tokens of a window. Default: as many as the model was trained with, where its run says"
              + " so, else 512.")
  private @Nullable Integer tokens;

  @Option(
      names = "--force-gate",
      paramLabel = "SCORE",
      description =
          "Also measure the loss with all gates forced to this score, in all layers and in each"
              + " alone; 0 closes a gate, 1 opens it.")
  private @Nullable Double forced;

  @Option(
      names = "--output",
      paramLabel = "DIR",
      description =
          "Where to write. Default: inspect in the run directory, or ./inspect-NAME for a"
              + " checkpoint.")
  private @Nullable Path output;

  @Mixin private ModelOptions options = new ModelOptions();

  @Spec private CommandSpec spec;

  @SuppressWarnings("NullAway.Init") // picocli sets the spec
  InspectCommand() {}

  @Override
  public Integer call() throws IOException {
    if (forced != null && !(Math.abs(forced) <= LARGEST_SCORE)) {
      throw new InvalidInputException(
          "--force-gate must be a number such as 0.15, of at most %.0f in size, not %s"
              .formatted(LARGEST_SCORE, forced));
    }
    try (var loaded = options.load(model)) {
      var decoder = loaded.decoder();
      Path directory = directory(loaded.source());
      int length = length(loaded);
      var text =
          InspectedText.read(loaded.source(), loaded.tokenizer(), data, textField, windows, length);
      text.windows().forEach(decoder.config()::requireInVocabulary);
      if (forced != null && gatedLayers(decoder.config()).isEmpty()) {
        throw new InvalidInputException(
            "--force-gate %s needs a model with gates; %s has none"
                .formatted(forced, loaded.source().name()));
      }
      InspectResult result;
      InspectReport view;
      Path page = directory.resolve("inspect.html");
      try (var _ =
          ReportDirectory.own(directory, commandLine(), List.of("inspect.json", "inspect.html"))) {
        result = measure(loaded, text, length);
        view = new InspectReport(result);
        result.write(directory.resolve("inspect.json"));
        view.page(commandLine()).writeTo(page);
      }
      view.tables().forEach(table -> Console.print(TextTable.of(table).toString()));
      view.summary().forEach(Console::print);
      result.warnings().forEach(warning -> Console.note("Warning: " + warning));
      Console.print("Report: " + page);
    }
    return 0;
  }

  private static List<Integer> gatedLayers(DecoderConfig model) {
    return IntStream.range(0, model.layers().size())
        .filter(
            layer ->
                model.layers().get(layer).attention().filter(a -> !a.gates().isEmpty()).isPresent())
        .boxed()
        .toList();
  }

  /// T: what the user asks for, else what the model was trained with, as far as its context goes.
  private int length(ModelOptions.Loaded loaded) {
    int longest = loaded.decoder().config().context();
    if (tokens == null) {
      int usual =
          loaded
              .source()
              .trainedOnSequences()
              .map(BatchSettings::sequenceLength)
              .orElse(SinkReport.RECOMMENDED_TOKENS);
      return Math.min(usual, longest);
    }
    if (tokens > longest) {
      throw new InvalidInputException(
          "--tokens %d exceeds the model's context of %d tokens; use fewer"
              .formatted(tokens, longest));
    }
    return tokens;
  }

  private Path directory(ModelSource source) {
    if (output != null) {
      return ReportDirectory.require(output);
    }
    Path run = source.run();
    if (run == null) {
      return Path.of("inspect-" + source.name());
    }
    return run.resolve(
        model.equals(source.checkpoint())
            ? "inspect-" + source.checkpoint().getFileName()
            : "inspect");
  }

  private InspectResult measure(ModelOptions.Loaded loaded, InspectedText text, int length) {
    var progress = new SlowProgress("pass");
    var gated = gatedLayers(loaded.decoder().config());
    int count = text.windows().size();
    long all = (forced == null ? 2L : gated.size() + 3L) * count;
    var separator =
        loaded
            .source()
            .trainedOnSequences()
            .map(trained -> trained.separator(loaded.tokenizer()))
            .orElse(OptionalInt.empty());
    var watched =
        SinkReport.byDocument(
            text.windows().stream().map(window -> Arrays.copyOf(window, length)).toList(),
            separator);
    var sinks =
        SinkReport.measure(
            loaded.decoder(),
            watched,
            loaded.tokenizer(),
            done -> progress.advanced((long) count * done / watched.size(), all));
    double nats = 0;
    long predicted = 0;
    for (int i = 0; i < count; i++) {
      var loss =
          HeldOutLoss.measure(loaded.decoder(), List.of(text.windows().get(i)), 1, separator);
      nats += loss.totalNats();
      predicted += loss.tokens();
      progress.advanced((long) count + i + 1, all);
    }
    List<InspectResult.Intervention> interventions = new ArrayList<>();
    if (forced != null) {
      List<@Nullable Integer> alone = new ArrayList<>();
      alone.add(null); // all of them first
      alone.addAll(gated);
      for (int i = 0; i < alone.size(); i++) {
        var loss = forcedLoss(loaded, text, separator, alone.get(i), forced);
        interventions.add(new InspectResult.Intervention(alone.get(i), forced, loss.bitsPerByte()));
        progress.advanced((i + 3L) * count, all);
      }
    }
    return new InspectResult(
        loaded.source().name(),
        loaded.source().checkpoint().toString(),
        loaded.decoder().config(),
        new InspectResult.Text(text.name(), text.tokens(), text.warnings()),
        new HeldOutLoss(nats, predicted, text.bytes()),
        sinks,
        interventions,
        manifest(loaded, text, length));
  }

  /// The loss with the gates of one layer, or of all for null, forced to a score.
  private static HeldOutLoss forcedLoss(
      ModelOptions.Loaded loaded,
      InspectedText text,
      OptionalInt separator,
      @Nullable Integer layer,
      double score) {
    var probe =
        new Probe() {
          @Override
          public OptionalDouble forcedScore(int at, String position) {
            return layer == null || at == layer ? OptionalDouble.of(score) : OptionalDouble.empty();
          }
        };
    return HeldOutLoss.measure(loaded.decoder(), text.windows(), text.bytes(), 1, separator, probe);
  }

  private RunManifest manifest(ModelOptions.Loaded loaded, InspectedText text, int length) {
    Map<String, Object> config = new LinkedHashMap<>();
    config.put("checkpoint", loaded.source().checkpoint().toString());
    config.put("text", text.name());
    config.put("tokenizer", loaded.tokenizer().describe());
    config.put("windows", text.windows().size());
    config.put("tokens", length);
    config.put("precision", options.precision());
    config.put("device", loaded.decoder().device().toString());
    return new RunManifest(
        Version.commit(),
        spec.commandLine().getParseResult().originalArgs(),
        config,
        Map.of(),
        text.fingerprint(),
        Libtorch.version(),
        RunManifest.Machine.current(),
        Instant.now());
  }

  private String commandLine() {
    return "sluice " + String.join(" ", spec.commandLine().getParseResult().originalArgs());
  }
}
