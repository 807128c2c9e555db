package dev.sluice.openai;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.chat.ChatFormat;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import dev.sluice.serving.Engine;
import dev.sluice.serving.EngineLimits;
import dev.sluice.serving.FilesInPlace;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.TinyModel;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.template.ChatTemplates;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;

/// A server with a small random model and a real tokenizer, and a client of it.
final class TestServer implements AutoCloseable {
  static final JsonMapper JSON = JsonMapper.shared();

  private static final Path CHAT = Path.of("samples/tiny-chat");

  final Decoder decoder;
  final Tokenizer tokenizer;
  final ChatFormat format;
  final ConcurrentLinkedQueue<Throwable> faults = new ConcurrentLinkedQueue<>();
  final HttpClient client = HttpClient.newHttpClient();

  /// @param directory for its files
  TestServer(Path directory) throws IOException {
    this(
        TinyModel.open(directory.resolve("model"), Precision.BFLOAT16),
        Objects.requireNonNull(ChatTemplates.find(CHAT)));
  }

  /// @param decoder which it takes over
  /// @param templates of chats
  TestServer(Decoder decoder, ChatTemplates templates) {
    this.decoder = decoder;
    this.tokenizer = Tokenizers.load(CHAT.toString());
    this.format = new ChatFormat(templates, tokenizer);
  }

  /// What clients of usual speed never meet, but for pings.
  static ApiServer.Limits limits() {
    return new ApiServer.Limits(
        100_000, Duration.ofSeconds(20), Duration.ofSeconds(20), Duration.ofMillis(20), 64, 24);
  }

  ServedModel model() {
    return model(Set.of(384), Set.of(384, tokenizer.controlTokens().get("<|im_end|>")));
  }

  /// A model whose texts end only where a request says so.
  ServedModel endlessModel() {
    return model(Set.of(), Set.of());
  }

  private ServedModel model(Set<Integer> stopIds, Set<Integer> turnEnds) {
    return new ServedModel(
        "tiny/model",
        "test",
        tokenizer,
        format,
        tokenizer::encode,
        stopIds,
        turnEnds,
        new Choice(Sampler.GREEDY),
        FilesInPlace.NONE);
  }

  Engine engine(int slots, int waiting, @Nullable PrefixCache cache) {
    return engine(slots, waiting, TinyModel.CONTEXT, cache);
  }

  Engine engine(int slots, int waiting, int context, @Nullable PrefixCache cache) {
    return new Engine(
        new Generator(decoder),
        new EngineLimits(slots, context, 1L << 30, waiting, 64),
        cache,
        Reuse.EXACT);
  }

  ApiServer server(Engine engine, @Nullable String key, ApiServer.Limits limits)
      throws IOException {
    return server(model(), engine, key, limits);
  }

  ApiServer server(ServedModel model, Engine engine, @Nullable String key, ApiServer.Limits limits)
      throws IOException {
    var any = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    return new ApiServer(model, engine, any, key, limits, faults::add);
  }

  HttpResponse<String> post(ApiServer server, String path, String body, String... headers)
      throws IOException, InterruptedException {
    var request =
        HttpRequest.newBuilder(server.address().resolve(path)).POST(BodyPublishers.ofString(body));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return client.send(request.build(), BodyHandlers.ofString());
  }

  HttpResponse<String> get(ApiServer server, String path, String... headers)
      throws IOException, InterruptedException {
    var request = HttpRequest.newBuilder(server.address().resolve(path));
    if (headers.length > 0) {
      request.headers(headers);
    }
    return client.send(request.build(), BodyHandlers.ofString());
  }

  /// The answer to a request that is well formed.
  JsonNode ask(ApiServer server, String path, String body)
      throws IOException, InterruptedException {
    var answer = post(server, path, body);
    assertTrue(answer.statusCode() == 200, () -> body + " → " + answer.body());
    return JSON.readTree(answer.body());
  }

  /// The events of a stream, but for the pings and the last one, which must be there.
  List<JsonNode> stream(ApiServer server, String path, String body)
      throws IOException, InterruptedException {
    var answer = post(server, path, body);
    assertTrue(answer.statusCode() == 200, () -> body + " → " + answer.body());
    assertTrue(answer.headers().firstValue("Content-Type").orElse("").equals("text/event-stream"));
    assertTrue(answer.body().endsWith("data: [DONE]\n\n"), answer::body);
    return Arrays.stream(answer.body().split("\n\n"))
        .filter(event -> !event.startsWith(": ping") && !event.equals("data: [DONE]"))
        .map(event -> JSON.readTree(event.substring("data: ".length())))
        .toList();
  }

  @Override
  public void close() {
    client.close();
    decoder.close();
  }
}
