package dev.sluice.watch;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.report.LiveReport;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.BindException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/// Gives the page of what is watched to browsers on this machine, and to nobody else: it listens on
/// the loopback address, and answers only whoever asked for that address by its name, so that no
/// page from elsewhere can have a browser ask under a name of its own. A request names one of two
/// things that there are, never a file.
///
/// The page is made anew when it is asked for, at most once in a second; while nobody asks, nothing
/// is read.
public final class WatchServer implements AutoCloseable {
  private static final byte[] LOOPBACK = {127, 0, 0, 1};

  /// Requests that are answered at the same time; more are refused.
  private static final int MOST_REQUESTS = 32;

  /// The longest that a request may take, with its answer.
  private static final Duration LONGEST_REQUEST = Duration.ofSeconds(20);

  private static final int WAITING_CONNECTIONS = 32;

  /// `after=12`, as the page's script asks.
  private static final Pattern AFTER = Pattern.compile("after=(\\d{1,18})");

  private final Watched watched;
  private final Duration fresh;
  private final LiveReport live = new LiveReport();
  private final HttpServer server;
  private final ScheduledExecutorService clock;
  private final Semaphore free = new Semaphore(MOST_REQUESTS);
  private final Set<String> names;
  private final Object refreshing = new Object();
  private long refreshed;

  /// Begins to serve.
  ///
  /// @param port 0 for any that is free
  /// @throws InvalidInputException if the port is in use, or not this user's to take, or if there
  ///   is nothing to show
  public WatchServer(Watched watched, int port) throws IOException {
    this(watched, port, Duration.ofSeconds(1));
  }

  /// @param fresh for how long a page is given without looking again
  WatchServer(Watched watched, int port, Duration fresh) throws IOException {
    this.watched = watched;
    this.fresh = fresh;
    live.show(watched.page());
    refreshed = System.nanoTime();
    server = bound(port);
    int bound = server.getAddress().getPort();
    names =
        bound == 80
            ? Set.of("127.0.0.1", "localhost", "127.0.0.1:80", "localhost:80")
            : Set.of("127.0.0.1:" + bound, "localhost:" + bound);
    clock = Executors.newSingleThreadScheduledExecutor(Thread.ofPlatform().daemon().factory());
    server.setExecutor(this::execute);
    server.createContext("/", this::answer);
    server.start();
  }

  private static HttpServer bound(int port) throws IOException {
    try {
      return HttpServer.create(
          new InetSocketAddress(InetAddress.getByAddress(LOOPBACK), port), WAITING_CONNECTIONS);
    } catch (BindException e) {
      throw new InvalidInputException(
          "port %d of this machine cannot be taken (%s); give another --port, or none for any that is free"
              .formatted(port, Failures.words(e)),
          e);
    }
  }

  /// Where the page is.
  public URI address() {
    return URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/");
  }

  /// Answers a request on a thread of its own, which is interrupted, and its connection closed with
  /// that, when it takes too long.
  private void execute(Runnable request) {
    if (!free.tryAcquire()) {
      throw new RejectedExecutionException("busy");
    }
    Thread.ofVirtual()
        .start(
            () -> {
              var thread = Thread.currentThread();
              var end =
                  clock.schedule(
                      thread::interrupt, LONGEST_REQUEST.toMillis(), TimeUnit.MILLISECONDS);
              try {
                request.run();
              } finally {
                end.cancel(false);
                free.release();
              }
            });
  }

  private void answer(HttpExchange exchange) throws IOException {
    try (exchange) {
      var headers = exchange.getResponseHeaders();
      headers.set("Content-Security-Policy", LiveReport.contentSecurityPolicy());
      headers.set("X-Content-Type-Options", "nosniff");
      headers.set("X-Frame-Options", "DENY");
      headers.set("Cross-Origin-Resource-Policy", "same-origin");
      headers.set("Cross-Origin-Opener-Policy", "same-origin");
      headers.set("Referrer-Policy", "no-referrer");
      headers.set("Cache-Control", "no-store");
      var hosts = exchange.getRequestHeaders().getOrDefault("Host", List.of());
      if (hosts.size() != 1 || !names.contains(hosts.getFirst())) {
        say(exchange, 403, "This server answers only to " + address());
        return;
      }
      if (!Set.of("GET", "HEAD").contains(exchange.getRequestMethod())) {
        headers.set("Allow", "GET, HEAD");
        say(exchange, 405, "Only GET and HEAD are answered");
        return;
      }
      var uri = exchange.getRequestURI();
      switch (uri.getRawPath()) {
        case "/" -> {
          refresh();
          send(exchange, 200, "text/html", live.html());
        }
        case "/live" -> {
          var after = AFTER.matcher(String.valueOf(uri.getRawQuery()));
          if (!after.matches()) {
            say(exchange, 400, "Ask for /live?after= and the number of a revision");
            return;
          }
          refresh();
          send(exchange, 200, "application/json", live.changes(Long.parseLong(after.group(1))));
        }
        default -> say(exchange, 404, "There is nothing but " + address());
      }
    }
  }

  private static void say(HttpExchange exchange, int code, String sentence) throws IOException {
    send(exchange, code, "text/plain", sentence + ".\n");
  }

  private static void send(HttpExchange exchange, int code, String type, String text)
      throws IOException {
    byte[] body = text.getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", type + "; charset=utf-8");
    if (exchange.getRequestMethod().equals("HEAD")) {
      exchange.getResponseHeaders().set("Content-Length", String.valueOf(body.length));
      exchange.sendResponseHeaders(code, -1);
      return;
    }
    exchange.sendResponseHeaders(code, body.length);
    exchange.getResponseBody().write(body);
  }

  /// Looks again at what is watched. What cannot be shown is told on the page, which stands as it
  /// was.
  private void refresh() {
    synchronized (refreshing) {
      if (System.nanoTime() - refreshed < fresh.toNanos()) {
        return;
      }
      try {
        live.show(watched.page());
      } catch (InvalidInputException e) {
        live.trouble(sentence(String.valueOf(e.getMessage())));
      } catch (IOException | UncheckedIOException e) {
        live.trouble(sentence("It cannot be read: " + Failures.words(e)));
      }
      refreshed = System.nanoTime();
    }
  }

  private static String sentence(String message) {
    return message.endsWith(".") ? message : message + ".";
  }

  /// Stops at once.
  @Override
  public void close() {
    server.stop(0);
    clock.shutdownNow();
  }
}
