package dev.sluice.openai;

import com.sun.net.httpserver.HttpExchange;
import dev.sluice.Printable;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.Semaphore;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// One request and its answer, with limits of size and of the time that a client may take.
final class Exchange {
  private static final int BLOCK = 1 << 14;
  private static final int LONGEST_ENCODING = 40;
  private static final int LONGEST_HEADER = 500;
  private static final int BYTE_ORDER_MARK = 0xFEFF;

  /// Of a body that nobody wanted: a client that sends before it listens hears the answer then.
  private static final long MOST_DRAINED = 64L << 20;

  private static final Duration DRAIN_TIME = Duration.ofSeconds(5);

  private final HttpExchange http;
  private final Guard.Watch watch;
  private final ApiServer.Limits limits;
  private final Semaphore bodies;
  private @Nullable OutputStream stream;
  private boolean events;
  private long written = System.nanoTime(); // when something was, or the request came
  private int held; // permits of the bodies

  /// @param bodies a permit for each kilobyte of the bodies that are held at the same time
  Exchange(HttpExchange http, Guard.Watch watch, ApiServer.Limits limits, Semaphore bodies) {
    this.http = http;
    this.watch = watch;
    this.limits = limits;
    this.bodies = bodies;
  }

  String method() {
    return http.getRequestMethod();
  }

  String path() {
    return http.getRequestURI().getRawPath();
  }

  /// The value of a header; null where it is absent or there are several.
  @Nullable String header(String name) {
    var values = http.getRequestHeaders().get(name);
    return values == null || values.size() != 1 ? null : values.getFirst();
  }

  boolean hasHeader(String name) {
    return http.getRequestHeaders().containsKey(name);
  }

  void setHeader(String name, String value) {
    http.getResponseHeaders().set(name, value);
  }

  /// Whether some of the answer is on its way, so that it cannot be an error any more.
  boolean hasBegun() {
    return http.getResponseCode() >= 0;
  }

  // ---------------------------------------------------------------- the request

  /// The body as JSON.
  JsonNode json() throws IOException {
    var encodings = http.getRequestHeaders().getOrDefault("Content-Encoding", List.of());
    if (!encodings.stream().allMatch("identity"::equalsIgnoreCase)) {
      throw ApiException.unsupported(
          "a body of Content-Encoding %s is not read; send it as it is"
              .formatted(Printable.brief(String.join(", ", encodings), LONGEST_ENCODING)));
    }
    byte[] body = body();
    try {
      String text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString();
      boolean isMarked = !text.isEmpty() && text.charAt(0) == BYTE_ORDER_MARK;
      return Json.parsed(null, isMarked ? text.substring(1) : text);
    } catch (CharacterCodingException _) {
      throw ApiException.invalid(null, "the body is not UTF-8 text");
    }
  }

  private byte[] body() throws IOException {
    String length = header("Content-Length");
    if (length != null && length.matches("\\d+") && isTooLong(length)) {
      throw tooLarge();
    }
    watch.begin(limits.requestTime());
    var body = new ByteArrayOutputStream();
    InputStream in = http.getRequestBody();
    byte[] block = new byte[BLOCK];
    for (int read = in.read(block); read >= 0; read = in.read(block)) {
      if (body.size() + read > limits.bodyBytes()) {
        throw tooLarge();
      }
      hold(body.size() + read);
      body.write(block, 0, read);
    }
    watch.end();
    return body.toByteArray();
  }

  private boolean isTooLong(String length) {
    return length.length() > 9 || Integer.parseInt(length) > limits.bodyBytes();
  }

  private ApiException tooLarge() {
    return ApiException.tooLarge(
        "the body has more than %d bytes; send less".formatted(limits.bodyBytes()));
  }

  private void hold(int bytes) {
    int more = bytes / 1024 + 1 - held;
    if (more > 0) {
      if (!bodies.tryAcquire(more)) {
        throw ApiException.busy(
            1, "too many large requests come at the same time; ask again later");
      }
      held += more;
    }
  }

  /// Says that the body is needed no more.
  void releaseBody() {
    bodies.release(held);
    held = 0;
  }

  // ---------------------------------------------------------------- the answer

  /// Says which fields were without effect.
  void note(Collection<String> ignored) {
    if (!ignored.isEmpty()) {
      String names = Printable.brief(String.join(", ", ignored), LONGEST_HEADER);
      setHeader("Sluice-Ignored", names.replaceAll("[^ -~]", "?"));
    }
  }

  void answer(int status, JsonNode json) throws IOException {
    answer(status, "application/json", json.toString());
  }

  void answer(int status, String type, String text) throws IOException {
    byte[] body = text.getBytes(StandardCharsets.UTF_8);
    setHeader("Content-Type", type);
    watch.begin(limits.writeTime());
    if (method().equals("HEAD")) {
      setHeader("Content-Length", String.valueOf(body.length));
      http.sendResponseHeaders(status, -1);
    } else {
      http.sendResponseHeaders(status, body.length);
      http.getResponseBody().write(body);
      http.getResponseBody().flush();
    }
    watch.end();
  }

  /// Throws away what is left of the request, of which there is something where it was refused: the
  /// JDK's server would read some of it before it closes, for as long as the client likes. What
  /// follows has this time, too.
  void drain() throws IOException {
    watch.begin(DRAIN_TIME.compareTo(limits.requestTime()) < 0 ? DRAIN_TIME : limits.requestTime());
    InputStream in = http.getRequestBody();
    byte[] block = new byte[BLOCK];
    long left = MOST_DRAINED;
    for (int read = in.read(block); read >= 0 && left > 0; read = in.read(block)) {
      left -= read;
    }
  }

  /// The answer to a request that is refused.
  void refuse(ApiException e) throws IOException {
    if (e.retrySeconds() > 0) {
      setHeader("Retry-After", String.valueOf(e.retrySeconds()));
    }
    answer(e.status(), error(e));
  }

  private static ObjectNode error(ApiException e) {
    ObjectNode root = Json.MAPPER.createObjectNode();
    ObjectNode error = root.putObject("error");
    error.put("message", e.sentence());
    error.put("type", e.type());
    error.put("param", e.param());
    error.put("code", e.code());
    return root;
  }

  /// Begins an answer of events.
  void beginEvents() throws IOException {
    events = true;
    setHeader("Content-Type", "text/event-stream");
    setHeader("X-Accel-Buffering", "no");
    begin();
  }

  private OutputStream begin() throws IOException {
    watch.begin(limits.writeTime());
    http.sendResponseHeaders(200, 0);
    watch.end();
    stream = http.getResponseBody();
    return stream;
  }

  void event(ObjectNode data) throws IOException {
    write("data: " + data + "\n\n");
  }

  /// An event that has a name.
  void event(String name, ObjectNode data) throws IOException {
    write("event: " + name + "\ndata: " + data + "\n\n");
  }

  /// The end of a stream.
  void done() throws IOException {
    write("data: [DONE]\n\n");
  }

  /// An error after the answer has begun, which is its end: an event, or else a connection that
  /// breaks, as nothing else says that there is no answer.
  void failure(ApiException e) throws IOException {
    if (events) {
      event(error(e));
    } else {
      Thread.currentThread().interrupt(); // with that the next write closes the channel
      write(" ");
    }
  }

  /// Where nothing was written for some time: shows that the server is at work, and learns whether
  /// the client is still there. It is a comment between events, or a blank before JSON.
  void pingWhereQuiet() throws IOException {
    if (System.nanoTime() - written < limits.ping().toNanos()) {
      return;
    }
    if (events) {
      write(": ping\n\n");
    } else {
      if (stream == null) {
        setHeader("Content-Type", "application/json");
        begin();
      }
      write(" ");
    }
  }

  /// The answer as JSON, also after pings.
  void finish(ObjectNode json) throws IOException {
    if (stream == null) {
      answer(200, json);
    } else {
      write(json.toString());
    }
  }

  private void write(String text) throws IOException {
    if (stream == null) {
      throw new IllegalStateException("the answer has not begun");
    }
    watch.begin(limits.writeTime());
    stream.write(text.getBytes(StandardCharsets.UTF_8));
    stream.flush();
    watch.end();
    written = System.nanoTime();
  }

  /// How long to wait before a ping.
  Duration untilPing() {
    return limits.ping();
  }
}
