package dev.sluice.openai;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.Sha256;
import dev.sluice.serving.Engine;
import dev.sluice.serving.RefusedException;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.Ticket;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.net.InetSocketAddress;
import java.net.SocketException;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.ObjectNode;

/// Answers requests of OpenAI's protocol.
///
/// Without a key it answers only whoever asked for this machine by its own name, and never a page
/// of elsewhere: no page may have a browser ask in its place. Nothing of requests or answers is
/// written anywhere.
public final class ApiServer implements AutoCloseable {
  /// What a client may take.
  ///
  /// @param bodyBytes of a request
  /// @param requestTime for a request's head, and for its body
  /// @param writeTime for a piece of the answer, until the client has taken it
  /// @param ping after which a client that waits hears that it is not forgotten
  /// @param exchanges at the same time; more are not accepted
  /// @param usualTokens of an answer where the request does not say
  public record Limits(
      int bodyBytes,
      Duration requestTime,
      Duration writeTime,
      Duration ping,
      int exchanges,
      int usualTokens) {
    /// What suits most.
    public static Limits usual(int usualTokens) {
      return new Limits(
          4 << 20,
          Duration.ofSeconds(30),
          Duration.ofSeconds(30),
          Duration.ofSeconds(5),
          512,
          usualTokens);
    }
  }

  /// Kilobytes of the bodies that are read at the same time.
  private static final int BODIES = 16 << 10;

  private static final int WAITING_CONNECTIONS = 128;
  private static final String BEARER = "Bearer ";
  private static final String MODELS = "/models/";

  /// The names of this machine, with any port: another one may be passed on to it.
  private static final Pattern LOCAL =
      Pattern.compile("(?i)(localhost|127\\.0\\.0\\.1|\\[::1])(:\\d{1,5})?");

  private static final ScopedValue<Guard.Watch> WATCH = ScopedValue.newInstance();

  private final ServedModel model;
  private final Engine engine;
  private final byte @Nullable [] key; // its SHA-256
  private final Limits limits;
  private final Consumer<Throwable> onFault;
  private final HttpServer server;
  private final Guard guard = new Guard();
  private final Semaphore free;
  private final Semaphore bodies = new Semaphore(BODIES);
  private final AtomicLong numbers = new AtomicLong();
  private final LongAdder faults = new LongAdder();
  private final Page page = Page.read();
  private final long created = Instant.now().getEpochSecond();

  /// Begins to serve.
  ///
  /// @param engine of the model, which ends with the server
  /// @param address port 0 is any that is free
  /// @param key that clients have to give; null for none, which is for the loopback address alone
  /// @param onFault hears of faults of the program
  /// @throws InvalidInputException if the address cannot be had
  public ApiServer(
      ServedModel model,
      Engine engine,
      InetSocketAddress address,
      @Nullable String key,
      Limits limits,
      Consumer<Throwable> onFault)
      throws IOException {
    requireKey(address, key);
    this.model = model;
    this.engine = engine;
    this.key = key == null ? null : hash(key);
    this.limits = limits;
    this.onFault = onFault;
    this.free = new Semaphore(limits.exchanges());
    this.server = bound(address);
    server.setExecutor(this::execute);
    server.createContext("/", this::handle);
    server.start();
  }

  /// Refuses to serve other machines without a key.
  ///
  /// @throws InvalidInputException if there is none and the address is not for this machine alone
  public static void requireKey(InetSocketAddress address, @Nullable String key) {
    if (key == null && !address.getAddress().isLoopbackAddress()) {
      throw new InvalidInputException(
          "%s can be reached from other machines, and without a key anyone there could use the model; give a key, or serve at 127.0.0.1"
              .formatted(address.getHostString()));
    }
  }

  private static HttpServer bound(InetSocketAddress address) throws IOException {
    try {
      return HttpServer.create(address, WAITING_CONNECTIONS);
    } catch (SocketException e) {
      throw new InvalidInputException(
          "%s:%d cannot be served at (%s); give another host or port"
              .formatted(address.getHostString(), address.getPort(), Failures.words(e)),
          e);
    }
  }

  /// Where it answers.
  public URI address() {
    var address = server.getAddress();
    String host = address.getAddress().getHostAddress();
    return URI.create(
        "http://" + (host.contains(":") ? "[" + host + "]" : host) + ":" + address.getPort() + "/");
  }

  /// Whether no other machine can reach it.
  public boolean isForThisMachineAlone() {
    return server.getAddress().getAddress().isLoopbackAddress();
  }

  /// How many answers a fault of the program has ended.
  public long faults() {
    return faults.sum();
  }

  /// Each request on a thread of its own.
  private void execute(Runnable request) {
    if (!free.tryAcquire()) {
      throw new RejectedExecutionException("busy");
    }
    Thread.ofVirtual()
        .start(
            () -> {
              try (var watch = guard.watch()) {
                watch.begin(limits.requestTime());
                ScopedValue.where(WATCH, watch).run(request);
              } finally {
                free.release();
              }
            });
  }

  /// @throws IOException when the client has gone, or takes too long: only so the JDK's server
  ///   forgets its connection
  private void handle(HttpExchange http) throws IOException {
    WATCH.get().end();
    var exchange = new Exchange(http, WATCH.get(), limits, bodies);
    try (http) {
      try {
        answer(exchange);
      } catch (ApiException e) {
        exchange.refuse(e);
      } catch (InvalidInputException | RefusedException e) {
        exchange.refuse(Reply.refusal(e));
      } catch (RuntimeException | StackOverflowError | OutOfMemoryError e) {
        faults.increment();
        onFault.accept(e);
        if (!exchange.hasBegun()) {
          exchange.refuse(ApiException.fault());
        }
      } finally {
        exchange.releaseBody();
      }
      exchange.drain();
    } catch (InterruptedException _) {
      throw new InterruptedIOException("the client takes too long");
    }
  }

  private void answer(Exchange exchange) throws IOException, InterruptedException {
    exchange.setHeader("X-Content-Type-Options", "nosniff");
    exchange.setHeader("Cache-Control", "no-store");
    requireNear(exchange);
    String path = exchange.path();
    if (path.startsWith("/v1/")) {
      path = path.substring("/v1".length());
    }
    switch (path) { // those for which no key is needed, as they tell nothing
      case "/health" -> {
        require(exchange, "GET", "HEAD");
        health(exchange);
      }
      case "/" -> {
        require(exchange, "GET", "HEAD");
        exchange.setHeader("Content-Security-Policy", page.policy());
        exchange.setHeader("Referrer-Policy", "no-referrer");
        exchange.answer(200, Page.TYPE, page.html());
      }
      default -> answerWithKey(exchange, path);
    }
  }

  private void answerWithKey(Exchange exchange, String path)
      throws IOException, InterruptedException {
    requireKey(exchange);
    switch (path) {
      case "/chat/completions" -> {
        require(exchange, "POST");
        chat(exchange);
      }
      case "/responses" -> {
        require(exchange, "POST");
        respond(exchange);
      }
      case "/completions" -> {
        require(exchange, "POST");
        complete(exchange);
      }
      case "/models" -> {
        require(exchange, "GET", "HEAD");
        ObjectNode list = Json.MAPPER.createObjectNode().put("object", "list");
        list.putArray("data").add(described());
        exchange.answer(200, list);
      }
      case "/tokenize" -> {
        require(exchange, "POST");
        tokenize(exchange);
      }
      case "/detokenize" -> {
        require(exchange, "POST");
        detokenize(exchange);
      }
      case "/metrics" -> {
        require(exchange, "GET", "HEAD");
        exchange.answer(200, Metrics.TYPE, Metrics.of(engine, faults()));
      }
      default -> {
        if (!path.startsWith(MODELS)) {
          throw ApiException.notFound(
              "there is no such path; there are /v1/chat/completions, /v1/responses,"
                  + " /v1/completions, /v1/models, /tokenize, /detokenize, /health and /metrics");
        }
        require(exchange, "GET", "HEAD");
        model(exchange, path.substring(MODELS.length()));
      }
    }
  }

  // ---------------------------------------------------------------- who asks

  /// Without a key: only clients that know this machine as itself, and no page of elsewhere. A page
  /// of this server's own is near.
  private void requireNear(Exchange exchange) {
    String host = exchange.header("Host");
    if (key == null && (host == null || !LOCAL.matcher(host).matches())) {
      throw ApiException.forbidden("this server answers only those who ask for " + address());
    }
    if (exchange.hasHeader("Origin")) {
      String origin = exchange.header("Origin");
      if (origin == null
          || host == null
          || !(origin.equals("http://" + host) || origin.equals("https://" + host))) {
        throw ApiException.forbidden("pages of other origins are not answered");
      }
    }
  }

  private void requireKey(Exchange exchange) {
    if (key == null) {
      return;
    }
    String bearer = exchange.header("Authorization");
    String given =
        bearer != null && bearer.startsWith(BEARER)
            ? bearer.substring(BEARER.length())
            : exchange.header("X-Api-Key");
    if (given == null || !MessageDigest.isEqual(key, hash(given))) {
      exchange.setHeader("WWW-Authenticate", "Bearer");
      throw ApiException.unauthorized(
          given == null
              ? "a key is needed; give it as Authorization: Bearer KEY"
              : "the key is not this server's");
    }
  }

  /// Of one length for all keys, so that comparing tells nothing of theirs.
  private static byte[] hash(String key) {
    var digest = Sha256.digest();
    Sha256.update(digest, key);
    return digest.digest();
  }

  private static void require(Exchange exchange, String... methods) {
    if (!Set.of(methods).contains(exchange.method())) {
      exchange.setHeader("Allow", String.join(", ", methods));
      throw ApiException.methodNotAllowed(
          "only %s is answered there".formatted(String.join(" and ", methods)));
    }
  }

  // ---------------------------------------------------------------- what is answered

  private void health(Exchange exchange) throws IOException {
    if (!engine.isOpen()) {
      throw ApiException.unavailable("the server takes no more requests");
    }
    model.requireUnchanged();
    exchange.answer(200, Json.MAPPER.createObjectNode().put("status", "ok"));
  }

  private ObjectNode described() {
    return Json.MAPPER
        .createObjectNode()
        .put("id", model.name())
        .put("object", "model")
        .put("created", created)
        .put("owned_by", "sluice")
        .put("max_model_len", engine.mostTokens(1))
        .put(Common.WATCH, engine.isWatchable());
  }

  private void model(Exchange exchange, String encoded) throws IOException {
    String name;
    try {
      name = URLDecoder.decode(encoded, StandardCharsets.UTF_8);
    } catch (IllegalArgumentException _) {
      name = "";
    }
    if (!name.equals(model.name())) {
      throw ApiException.notFound("there is no such model; there is " + model.name());
    }
    exchange.answer(200, described());
  }

  private static Fields fields(Exchange exchange) throws IOException {
    return Fields.of(exchange.json());
  }

  private void chat(Exchange exchange) throws IOException, InterruptedException {
    long number = numbers.incrementAndGet();
    var fields = fields(exchange);
    model.requireUnchanged();
    var request = ChatRequest.read(fields, model, engine, number, limits.usualTokens());
    exchange.note(fields.ignored());
    exchange.releaseBody();
    var ticket = engine.submit(request.text());
    try {
      new ChatReply(exchange, model, request, number, now())
          .run(List.of(ticket), List.of(request.text().ids().length));
    } finally {
      ticket.cancel();
    }
  }

  private void respond(Exchange exchange) throws IOException, InterruptedException {
    long number = numbers.incrementAndGet();
    var fields = fields(exchange);
    model.requireUnchanged();
    var request = ResponsesRequest.read(fields, model, engine, number, limits.usualTokens());
    exchange.note(fields.ignored());
    exchange.releaseBody();
    var ticket = engine.submit(request.chat().text());
    try {
      new ResponsesReply(exchange, model, request, number, now()).run(ticket);
    } finally {
      ticket.cancel();
    }
  }

  private void complete(Exchange exchange) throws IOException, InterruptedException {
    long number = numbers.incrementAndGet();
    var fields = fields(exchange);
    model.requireUnchanged();
    var request = CompletionRequest.read(fields, model, engine, number, limits.usualTokens());
    exchange.note(fields.ignored());
    exchange.releaseBody();
    var tickets = new ArrayList<Ticket>();
    try {
      request.prompts().forEach(prompt -> tickets.add(engine.submit(prompt.text())));
      new CompletionReply(exchange, model, request, number, now())
          .run(
              tickets,
              request.prompts().stream().map(prompt -> prompt.text().ids().length).toList());
    } finally {
      tickets.forEach(Ticket::cancel);
    }
  }

  private static long now() {
    return Instant.now().getEpochSecond();
  }

  private void tokenize(Exchange exchange) throws IOException {
    var fields = fields(exchange);
    fields.text("model");
    String content = fields.text("content");
    String text = content == null ? fields.requiredText("prompt") : content;
    // llama.cpp's clients ask for the content alone, and vLLM's for what a prompt becomes
    boolean begins = fields.flag("add_special", fields.flag("add_special_tokens", content == null));
    fields.requireAllKnown();
    int[] ids =
        Fields.at(
            content == null ? "prompt" : "content",
            () -> begins ? model.encode(text) : model.tokenizer().encode(text));
    ObjectNode answer = Json.MAPPER.createObjectNode();
    ArrayNode tokens = answer.putArray("tokens");
    for (int id : ids) {
      tokens.add(id);
    }
    exchange.answer(
        200, answer.put("count", ids.length).put("max_model_len", engine.mostTokens(1)));
  }

  private void detokenize(Exchange exchange) throws IOException {
    var fields = fields(exchange);
    fields.text("model");
    List<JsonNode> tokens = fields.list("tokens", limits.bodyBytes());
    fields.requireAllKnown();
    int[] ids = new int[tokens.size()];
    for (int i = 0; i < ids.length; i++) {
      String at = "tokens[%d]".formatted(i);
      ids[i] = (int) Fields.whole(at, tokens.get(i), 0, model.tokenizer().vocabularySize() - 1);
    }
    String text = model.tokenizer().decode(ids);
    exchange.answer(200, Json.MAPPER.createObjectNode().put("content", text).put("prompt", text));
  }

  /// Takes no more requests, lets those end that were taken, and stops.
  ///
  /// @param longest after which they are broken off
  public void close(Duration longest) {
    engine.close(longest);
    server.stop(1);
    guard.close();
  }

  /// Stops at once.
  @Override
  public void close() {
    close(Duration.ZERO);
  }
}
