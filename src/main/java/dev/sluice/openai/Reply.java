package dev.sluice.openai;

import dev.sluice.InvalidInputException;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.TokenLogprob;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.RefusedException;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.Ticket;
import dev.sluice.serving.Ticket.Event;
import dev.sluice.serving.TokenWatch;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// Makes the answer to a request out of what becomes of it, as one object or as events: what
/// [ChatReply] and [CompletionReply] have in common.
abstract class Reply {
  /// The logarithm of a probability that JSON has no number for.
  private static final double NEVER = -9999;

  /// What was seen is told to six places.
  private static final double WATCH_DIGITS = 1e6;

  static final JsonNodeFactory JSON = JsonNodeFactory.instance;

  private final Exchange exchange;
  private final ServedModel model;
  private final Common common;
  private final String id;
  private final long created;
  private int promptTokens;
  private int cachedTokens;
  private int newTokens;
  private int thoughtTokens;

  /// One text of the answer.
  final class Choice implements AnswerText.Listener {
    final int index;
    final StringBuilder thoughts = new StringBuilder();
    final StringBuilder text = new StringBuilder();
    final ArrayNode calls = JSON.arrayNode();

    /// Of tokens that no event has told yet, or all where there are no events.
    final List<TokenLogprob> logprobs = new ArrayList<>();

    /// What was seen of tokens, likewise.
    final ArrayNode watched = JSON.arrayNode();

    final AnswerText reader;
    @Nullable String ending;

    Choice(int index) {
      this.index = index;
      this.reader = reader(this);
    }

    @Override
    public void onThought(String piece) {
      if (common.stream()) {
        tell(this, thought(piece));
      } else {
        thoughts.append(piece);
      }
    }

    @Override
    public void onText(String piece) {
      if (common.stream()) {
        tell(this, text(piece));
      } else {
        text.append(piece);
      }
    }

    @Override
    public void onCall(String name, String arguments) {
      ObjectNode call = calls.addObject();
      call.put(
          "id",
          "call_%s_%d_%d".formatted(id.substring(id.indexOf('-') + 1), index, calls.size() - 1));
      call.put("type", "function");
      call.putObject("function").put("name", name).put("arguments", arguments);
      if (common.stream()) {
        ObjectNode numbered = JSON.objectNode();
        numbered.put("index", calls.size() - 1);
        numbered.setAll(call);
        ObjectNode delta = JSON.objectNode();
        delta.putArray("tool_calls").add(numbered);
        tell(this, delta);
      }
    }
  }

  Reply(Exchange exchange, ServedModel model, Common common, String id, long created) {
    this.exchange = exchange;
    this.model = model;
    this.common = common;
    this.id = id;
    this.created = created;
  }

  /// What kind of object the answer is: `chat.completion`.
  abstract String kind();

  /// What kind of object an event is.
  abstract String eventKind();

  /// What reads the tokens of a text.
  abstract AnswerText reader(Choice choice);

  /// What an event of a piece of text adds to a choice.
  abstract ObjectNode text(String piece);

  /// What an event of a piece of thoughts adds to a choice.
  abstract ObjectNode thought(String piece);

  /// Puts into a choice of an event what is new.
  abstract void add(ObjectNode choice, @Nullable ObjectNode news);

  /// Puts a whole text into a choice of the answer.
  abstract void addWhole(ObjectNode choice, Choice text);

  /// The log-probabilities of tokens in the form of the protocol.
  abstract ObjectNode logprobs(List<TokenLogprob> tokens);

  /// Whether the first event of a choice tells something.
  abstract @Nullable ObjectNode opening();

  ServedModel model() {
    return model;
  }

  /// Answers until all texts have ended.
  ///
  /// @param tickets of which each has as many texts as the request asks for
  void run(List<Ticket> tickets, List<Integer> promptLengths)
      throws IOException, InterruptedException {
    var choices = new ArrayList<Choice>();
    if (common.stream()) {
      exchange.beginEvents();
    }
    try {
      for (int i = 0; i < tickets.size(); i++) {
        promptTokens += promptLengths.get(i);
        var own = new ArrayList<Choice>();
        for (int k = 0; k < common.sequences(); k++) {
          own.add(begin(i * common.sequences() + k));
        }
        follow(tickets.get(i), own);
        choices.addAll(own);
      }
    } catch (UncheckedIOException e) {
      throw e.getCause();
    } catch (ApiException e) {
      if (!exchange.hasBegun()) {
        throw e;
      }
      exchange.failure(e);
      return;
    }
    if (!common.stream()) {
      ObjectNode answer = envelope(kind());
      ArrayNode all = answer.putArray("choices");
      choices.forEach(choice -> all.add(whole(choice)));
      answer.set("usage", usage());
      exchange.finish(answer);
      return;
    }
    if (common.usage()) {
      ObjectNode last = envelope(eventKind());
      last.putArray("choices");
      last.set("usage", usage());
      exchange.event(last);
    }
    exchange.done();
  }

  private Choice begin(int index) {
    var choice = new Choice(index);
    ObjectNode opening = opening();
    if (common.stream() && opening != null) {
      tell(choice, opening);
    }
    return choice;
  }

  private void follow(Ticket ticket, List<Choice> choices)
      throws IOException, InterruptedException {
    int cached = 0;
    int open = choices.size();
    while (open > 0) {
      switch (ticket.next(exchange.untilPing())) {
        case null -> {}
        case Event.Read read -> cached = read.cachedTokens();
        case Event.Token token -> add(ticket, choices.get(token.sequence()), token);
        case Event.Ended ended -> {
          end(choices.get(ended.sequence()), ended.ending());
          open--;
        }
        case Event.Failed failed -> throw refusal(failed.cause());
      }
      exchange.pingWhereQuiet();
    }
    cachedTokens += cached;
  }

  private void add(Ticket ticket, Choice choice, Event.Token token) {
    var reader = choice.reader;
    if (reader.hasEnded()) {
      return; // chosen before the engine heard that no more is wanted
    }
    newTokens++;
    if (token.logprob() != null) {
      choice.logprobs.add(token.logprob());
    }
    if (token.watch() != null) {
      choice.watched.add(watched(token.token(), token.watch()));
    }
    reader.add(token.token());
    if (reader.hasEnded()) {
      ticket.stop(token.sequence());
    }
  }

  private void end(Choice choice, Ending ending) {
    var reader = choice.reader;
    reader.finish();
    thoughtTokens += reader.thoughtTokens();
    choice.ending =
        switch (reader.ending(ending)) {
          case CALLS -> "tool_calls";
          case LENGTH -> "length";
          case STOP, CANCELLED -> "stop";
        };
    if (common.stream()) {
      tell(choice, null);
    }
  }

  /// What whoever asked is told of a failure.
  static ApiException refusal(RuntimeException cause) {
    return switch (cause) {
      case InvalidInputException e -> ApiException.invalid(null, String.valueOf(e.getMessage()));
      case RefusedException e when e.retrySeconds() > 0 ->
          ApiException.busy(e.retrySeconds(), String.valueOf(e.getMessage()));
      case RefusedException e -> ApiException.unavailable(String.valueOf(e.getMessage()));
      default -> ApiException.fault();
    };
  }

  private void tell(Choice choice, @Nullable ObjectNode news) {
    ObjectNode event = envelope(eventKind());
    ObjectNode one = event.putArray("choices").addObject();
    one.put("index", choice.index);
    add(one, news);
    if (choice.logprobs.isEmpty()) {
      one.putNull("logprobs");
    } else {
      one.set("logprobs", logprobs(choice.logprobs));
      choice.logprobs.clear();
    }
    if (!choice.watched.isEmpty()) {
      one.set(Common.WATCH, choice.watched.deepCopy());
      choice.watched.removeAll();
    }
    one.put("finish_reason", choice.ending);
    try {
      exchange.event(event);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private ObjectNode whole(Choice choice) {
    ObjectNode one = JSON.objectNode();
    one.put("index", choice.index);
    addWhole(one, choice);
    if (choice.logprobs.isEmpty()) {
      one.putNull("logprobs");
    } else {
      one.set("logprobs", logprobs(choice.logprobs));
    }
    if (common.watches()) {
      one.set(Common.WATCH, choice.watched);
    }
    one.put("finish_reason", choice.ending);
    return one;
  }

  /// What was seen as a token was chosen, with a number for each layer, null where it has nothing
  /// to see.
  private ObjectNode watched(int token, TokenWatch watch) {
    ObjectNode seen = JSON.objectNode();
    seen.put("token", model.text(token));
    seen.set("first_token_attention", byLayer(watch.firstTokenAttention()));
    ObjectNode scores = seen.putObject("gate_scores");
    new TreeMap<>(watch.gateScores())
        .forEach((position, values) -> scores.set(position, byLayer(values)));
    return seen;
  }

  private static ArrayNode byLayer(float[] values) {
    ArrayNode array = JSON.arrayNode();
    for (float value : values) {
      if (Float.isFinite(value)) {
        array.add(Math.rint(value * WATCH_DIGITS) / WATCH_DIGITS);
      } else {
        array.addNull();
      }
    }
    return array;
  }

  private ObjectNode envelope(String kind) {
    ObjectNode answer = JSON.objectNode();
    answer.put("id", id);
    answer.put("object", kind);
    answer.put("created", created);
    answer.put("model", model.name());
    answer.put("system_fingerprint", model.version());
    return answer;
  }

  private ObjectNode usage() {
    ObjectNode usage = JSON.objectNode();
    usage.put("prompt_tokens", promptTokens);
    usage.put("completion_tokens", newTokens);
    usage.put("total_tokens", promptTokens + newTokens);
    usage.putObject("prompt_tokens_details").put("cached_tokens", cachedTokens);
    usage.putObject("completion_tokens_details").put("reasoning_tokens", thoughtTokens);
    return usage;
  }

  /// The bytes of a token alone.
  JsonNode bytes(int token) {
    byte[] own = model.bytes(token);
    if (own == null) {
      return JSON.nullNode();
    }
    ArrayNode bytes = JSON.arrayNode();
    for (byte each : own) {
      bytes.add(each & 0xFF);
    }
    return bytes;
  }

  static double finite(double logprob) {
    return Double.isFinite(logprob) ? logprob : NEVER;
  }
}
