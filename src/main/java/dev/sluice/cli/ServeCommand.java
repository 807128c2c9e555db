package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.DirectoryLock;
import dev.sluice.openai.ApiServer;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Numbers;
import dev.sluice.serving.Engine;
import dev.sluice.serving.EngineLimits;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.SuggestedSampling;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.training.BatchSettings;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice serve`: a model for programs that speak OpenAI's protocol.
@Command(
    name = "serve",
    customSynopsis = "sluice serve MODEL [--port PORT] [OPTIONS]",
    description = {
      "Answers requests of OpenAI's protocol: /v1/chat/completions, /v1/responses, /v1/completions,"
          + " /v1/models, and /tokenize, /detokenize, /health, /metrics. Many texts are written at"
          + " once, and what requests have in common at their beginning is read once. At / stands a"
          + " page to talk with the model, which shows what attention and gates did.",
      "",
      "It answers this machine alone, at http://127.0.0.1:PORT/v1, whoever has an account on it."
          + " For other machines give --host and --api-key, and put a reverse proxy with TLS before"
          + " it: the server itself does not encrypt. Ctrl-C lets the answers end that have begun,"
          + " for at most --grace seconds.",
      "",
      "How tokens are chosen is for requests to say; the options below hold where they do not."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice serve path/to/qwen3",
      "  ./sluice serve model-Q4_K_M.gguf --port 8080 --slots 4 --prefix-cache runs/read.cache",
      "  SLUICE_API_KEY=secret ./sluice serve path/to/qwen3 --host 0.0.0.0",
      "  curl http://127.0.0.1:8080/v1/chat/completions -d"
          + " '{\"messages\":[{\"role\":\"user\",\"content\":\"Why is the sea salt?\"}]}'"
    })
final class ServeCommand implements Callable<Integer> {
  private static final int LARGEST_PORT = 65535;
  private static final long LOOK_MILLIS = 100;
  private static final String KEY = "SLUICE_API_KEY";

  /// Of the machine's memory, for the texts that are written at a time.
  private static final int STATE_SHARE = 4;

  @Parameters(
      paramLabel = "MODEL",
      description =
          "A directory with config.json, weights and a tokenizer, or a .gguf file. Without a chat"
              + " template it continues plain texts alone.")
  private Path model = Path.of("");

  @Option(
      names = "--host",
      paramLabel = "ADDRESS",
      description =
          "The address to listen on; 0.0.0.0 is all of this machine. Any but this machine's own"
              + " loopback address needs a key. Default: ${DEFAULT-VALUE}.")
  private String host = "127.0.0.1";

  @Option(
      names = "--port",
      paramLabel = "PORT",
      description = "The port; 0 is one that is free. Default: ${DEFAULT-VALUE}.")
  private int port = 8080;

  @Option(
      names = "--api-key",
      paramLabel = "KEY",
      description =
          "What clients have to give, as OpenAI's do. Other users of this machine can see it in the"
              + " list of processes; the variable "
              + KEY
              + " they cannot. Default: that variable, else none.")
  private @Nullable String apiKey;

  @Option(
      names = "--name",
      paramLabel = "NAME",
      description = "The model's name for clients, who may give any. Default: its file's.")
  private @Nullable String name;

  @Option(
      names = "--slots",
      paramLabel = "N",
      description =
          "The most texts that are written at a time. Up to 8 go through the model together."
              + " Default: ${DEFAULT-VALUE}.")
  private int slots = 8;

  @Option(
      names = "--queue",
      paramLabel = "N",
      description =
          "The most requests that wait for that; more are told to come again. Default:"
              + " ${DEFAULT-VALUE}.")
  private int queue = 64;

  @Option(
      names = "--context",
      paramLabel = "N",
      description = "The most tokens of a text with its prompt. Default: the model's context.")
  private @Nullable Integer context;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      description =
          "The most tokens of an answer where the request does not say. Default: ${DEFAULT-VALUE}.")
  private int maxTokens = 2048;

  @Option(
      names = "--memory",
      paramLabel = "GIB",
      description =
          "Memory for what the model keeps of the texts that are written. A request begins when"
              + " there is enough for the longest that it may become. Default: a quarter of the"
              + " machine's.")
  private @Nullable Double memory;

  @Option(
      names = "--cache-memory",
      paramLabel = "GIB",
      description =
          "Memory for what was read of prompts, so that others that begin alike are not read again;"
              + " 0 keeps nothing. Default: a quarter of the machine's.")
  private @Nullable Double cacheMemory;

  @Option(
      names = "--prefix-cache",
      paramLabel = "FILE",
      description =
          "Keep that in this file from one start to the next; it is written when the server ends,"
              + " as many bytes as it takes in memory. It holds what clients have written. One"
              + " server has it at a time, and a file of another kind is not written over.")
  private @Nullable Path cacheFile;

  @Option(
      names = "--reuse",
      paramLabel = "KIND",
      description =
          "exact: an answer has the same bits whether its prompt was kept or not. longest: answers"
              + " are not read again either when they are part of the next prompt; what follows may"
              + " differ by rounding. Default: ${DEFAULT-VALUE}.")
  private String reuse = "exact";

  @Option(
      names = "--piece",
      paramLabel = "N",
      description =
          "The most tokens of prompts that are read before those who write get their next token."
              + " Default: ${DEFAULT-VALUE}.")
  private int piece = 256;

  @Option(
      names = "--grace",
      paramLabel = "SECONDS",
      description =
          "How long answers may go on after Ctrl-C or SIGTERM. Default: ${DEFAULT-VALUE}.")
  private int grace = 30;

  @Option(
      names = "--chat-template",
      paramLabel = "FILE",
      description = "A template in the place of the model's own.")
  private @Nullable Path template;

  @Mixin private SamplingOptions sampling = new SamplingOptions();

  @Option(names = "--weights", paramLabel = "FORMAT", description = ModelOptions.WEIGHTS)
  private @Nullable String weights;

  @Mixin private ModelOptions options = new ModelOptions();
  @Mixin private KeyValueCacheOption kvCache = new KeyValueCacheOption();

  ServeCommand() {}

  @Override
  public Integer call() throws IOException {
    if (port < 0 || port > LARGEST_PORT) {
      throw new InvalidInputException(
          "--port must be 1 to %d, or 0 for any that is free, not %d"
              .formatted(LARGEST_PORT, port));
    }
    if (grace < 0 || maxTokens < 1) {
      throw new InvalidInputException(
          "--grace must be at least 0 and --max-tokens at least 1, not %d and %d"
              .formatted(grace, maxTokens));
    }
    var kind = reuse();
    String key = apiKey != null ? apiKey : System.getenv(KEY);
    if (key != null && key.isBlank()) {
      throw new InvalidInputException(
          "the key of --api-key or %s is empty; give one, or neither of them".formatted(KEY));
    }
    var address = address();
    ApiServer.requireKey(address, key);
    long stateBytes = bytes("--memory", memory, 1, STATE_SHARE);
    long cacheBytes = bytes("--cache-memory", cacheMemory, 0, STATE_SHARE);
    int least = context != null ? context : Integer.MAX_VALUE;
    var _ = new EngineLimits(slots, least, stateBytes, queue, piece); // before a model is loaded
    if (cacheFile == null) {
      return serve(address, key, kind, stateBytes, cacheBytes);
    }
    if (cacheBytes == 0) {
      throw new InvalidInputException(
          "--cache-memory 0 keeps nothing, so that --prefix-cache %s would stay as it is; leave one of them out"
              .formatted(cacheFile));
    }
    PrefixCache.requireReplaceable(cacheFile); // and not only at the end
    Path whole = cacheFile.toAbsolutePath();
    try (var lock =
        DirectoryLock.ownPart(
            Objects.requireNonNull(whole.getParent()),
            String.valueOf(whole.getFileName()),
            "serve --prefix-cache " + cacheFile)) {
      if (lock.warning() != null) {
        Console.note(lock.warning());
      }
      return serve(address, key, kind, stateBytes, cacheBytes);
    }
  }

  private int serve(
      InetSocketAddress address, @Nullable String key, Reuse kind, long stateBytes, long cacheBytes)
      throws IOException {
    try (var loaded = options.loadInPlace(model, weights, null)) {
      kvCache.apply(loaded.decoder());
      var generator = loaded.generator();
      int most = Math.min(generator.room(0), loaded.decoder().config().context());
      if (context != null && (context < 2 || context > most)) {
        throw new InvalidInputException(
            "--context must be from 2 to the model's %d, not %d".formatted(most, context));
      }
      var limits =
          new EngineLimits(slots, context != null ? context : most, stateBytes, queue, piece);
      String of = Served.cacheModel(loaded.source(), options, generator, weights);
      try (var cache =
          cacheBytes == 0 ? null : Served.cache(generator, of, cacheFile, true, cacheBytes)) {
        var engine = new Engine(generator, limits, cache, kind);
        try (var server =
            new ApiServer(
                served(loaded),
                engine,
                address,
                key,
                ApiServer.Limits.usual(maxTokens),
                ServeCommand::tellFault)) {
          if (!serve(server, engine, loaded.source())) {
            Console.error("the engine has failed; the lines above say where");
            return Main.FAILED;
          }
        } finally {
          engine.close();
        }
        if (cacheFile != null && cache != null) {
          save(cache, cacheFile);
        }
      }
    }
    return 130;
  }

  private Reuse reuse() {
    return switch (reuse) {
      case "exact" -> Reuse.EXACT;
      case "longest" -> Reuse.LONGEST;
      default ->
          throw new InvalidInputException(
              "--reuse %s is unknown; there are exact and longest"
                  .formatted(Printable.brief(reuse, 40)));
    };
  }

  private InetSocketAddress address() {
    try {
      return new InetSocketAddress(InetAddress.getByName(host), port);
    } catch (UnknownHostException e) {
      throw new InvalidInputException(
          "--host %s is no address of this machine".formatted(Printable.brief(host, 80)), e);
    }
  }

  private static long bytes(String option, @Nullable Double given, int least, int share) {
    if (given == null) {
      return RunManifest.Machine.current().memoryBytes() / share;
    }
    double bytes = given * (1L << 30);
    if (!(bytes >= least && bytes < 1L << 50)) {
      throw new InvalidInputException("%s %s is not possible".formatted(option, given));
    }
    return (long) bytes;
  }

  private ServedModel served(ModelOptions.Loaded loaded) {
    var source = loaded.source();
    var templates = Served.templates(source, template);
    var tokenizer = loaded.tokenizer();
    var rule = source.trainedOnSequences().map(BatchSettings::windowRule);
    if (templates == null) {
      Console.note(
          "%s has no chat template, so it continues plain texts alone; --chat-template gives it one."
              .formatted(source.name()));
    }
    if (loaded.stopIds().isEmpty()) {
      Console.note("No file says which token ends a text, so only a number of tokens does.");
    }
    var suggested =
        templates == null
            ? SuggestedSampling.GREEDY
            : SuggestedSampling.ofChat(source.checkpoint());
    suggested.notes().forEach(note -> Console.note(note + "."));
    var choice = sampling.over(suggested);
    Console.note(
        "Where a request does not say: %s, %d tokens."
            .formatted(SamplingOptions.words(choice), maxTokens));
    return source
        .files()
        .served(
            name != null ? name : source.name(),
            "sluice-" + Version.commit(),
            tokenizer,
            templates,
            rule,
            loaded.stopIds(),
            choice);
  }

  /// Until it is interrupted.
  ///
  /// @return false if it ended otherwise
  private boolean serve(ApiServer server, Engine engine, ModelSource source) {
    Interruption.watch(
        "Answers that have begun may end, for at most %d s; no more requests are taken."
            .formatted(grace));
    Console.note(
        "%d slots of at most %d tokens, %s for them; a queue of %d."
            .formatted(
                slots, engine.mostTokens(1), Numbers.bytes(engine.limits().memoryBytes()), queue));
    if (!server.isForThisMachineAlone()) {
      Console.note(
          "ATTENTION: other machines can reach this server, and what it says to them is not"
              + " encrypted. Put a reverse proxy with TLS before it.");
    }
    Console.print("Serving %s at %sv1 (Ctrl-C ends it)".formatted(source.name(), server.address()));
    var oldGeneration = new OldGeneration();
    try {
      while (!Interruption.requested() && engine.isOpen()) {
        Thread.sleep(LOOK_MILLIS);
        oldGeneration.collectInTime();
      }
    } catch (InterruptedException _) {
      Thread.currentThread().interrupt();
    }
    boolean interrupted = engine.isOpen();
    server.close(Duration.ofSeconds(grace));
    return interrupted;
  }

  private static void save(PrefixCache cache, Path file) throws IOException {
    cache.save(file);
    Console.note("What was read is kept in %s (%s).".formatted(file, Numbers.bytes(cache.bytes())));
  }

  /// Where in the program, and nothing that a client has said: its words may be in the message.
  private static void tellFault(Throwable fault) {
    var lines = new StringBuilder("A fault in Sluice: " + fault.getClass().getName());
    for (var at : fault.getStackTrace()) {
      lines.append("\n  at ").append(at);
    }
    Console.note(lines.toString());
  }
}
