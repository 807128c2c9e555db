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
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// A server with a small random model and a real tokenizer, and a client of it.
final class TestServer implements AutoCloseable {
  static final JsonMapper JSON = JsonMapper.shared();

  /// The control tokens of chats, which the tokenizer of the tests has besides.
  private static final List<String> CONTROLS =
      List.of("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>");

  private static final int SPECIAL = 2; // the first so many have no text

  private static final String TEMPLATE =
      """
      {%- if tools %}<|im_start|>system
      {{ tools | tojson }}<|im_end|>
      {% endif %}
      {%- for m in messages %}<|im_start|>{{ m.role }}
      {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>
      {{ c.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>
      {% endfor %}
      {%- if add_generation_prompt %}<|im_start|>assistant
      {% if enable_thinking is defined and enable_thinking %}<think>
      {% else %}<think>

      </think>

      {% endif %}{% endif %}\
      """;

  final Decoder decoder;
  final Tokenizer tokenizer;
  final ChatFormat format;
  final ConcurrentLinkedQueue<Throwable> faults = new ConcurrentLinkedQueue<>();
  final HttpClient client = HttpClient.newHttpClient();

  /// @param directory for its files
  TestServer(Path directory) throws IOException {
    this(directory, TinyModel.open(directory.resolve("model"), Precision.BFLOAT16), TEMPLATE);
  }

  /// @param decoder which it takes over
  /// @param template of chats
  TestServer(Path directory, Decoder decoder, String template) throws IOException {
    this.decoder = decoder;
    var source =
        (ObjectNode)
            JSON.readTree(
                Files.readString(
                    Path.of("src/test/resources/dev/sluice/tokenizer/tokenizer.json")));
    for (int i = 0; i < CONTROLS.size(); i++) {
      ObjectNode token = source.withArray("added_tokens").addObject();
      token.put("id", 385 + i).put("content", CONTROLS.get(i)).put("single_word", false);
      token.put("lstrip", false).put("rstrip", false).put("normalized", false);
      token.put("special", i < SPECIAL);
    }
    Path file = directory.resolve("tokenizer.json");
    Files.writeString(file, source.toString());
    tokenizer = Tokenizers.load(file.toString());
    format = new ChatFormat(ChatTemplates.of("here", template, Map.of()), tokenizer);
  }

  /// What clients of usual speed never meet, but for pings.
  static ApiServer.Limits limits() {
    return new ApiServer.Limits(
        100_000, Duration.ofSeconds(20), Duration.ofSeconds(20), Duration.ofMillis(20), 64, 24);
  }

  ServedModel model() {
    int end = tokenizer.controlTokens().get("<|im_end|>");
    return new ServedModel(
        "tiny/model",
        "test",
        tokenizer,
        format,
        tokenizer::encode,
        Set.of(384),
        Set.of(384, end),
        new Choice(Sampler.GREEDY));
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
    var any = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
    return new ApiServer(model(), engine, any, key, limits, faults::add);
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
