package dev.sluice.openai;

import dev.sluice.generation.Generation.Ending;
import dev.sluice.serving.Answer;
import dev.sluice.serving.AnswerText;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.Ticket;
import dev.sluice.serving.Ticket.Event;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ArrayNode;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;

/// The answer of `/v1/responses`: a list of items, which are thoughts, text and calls of tools in
/// the order in which they came; whole, or with an event for each that happens to them.
final class ResponsesReply implements AnswerText.Listener {
  private static final JsonNodeFactory JSON = JsonNodeFactory.instance;

  /// What an item of pieces is.
  private enum Kind {
    THOUGHTS("rs", "reasoning_text", "response.reasoning_text"),
    TEXT("msg", "output_text", "response.output_text");

    private final String prefix;
    private final String part;
    private final String event;

    Kind(String prefix, String part, String event) {
      this.prefix = prefix;
      this.part = part;
      this.event = event;
    }
  }

  private final Exchange exchange;
  private final ServedModel model;
  private final ResponsesRequest request;
  private final String name; // of the answer, without a prefix
  private final long created;
  private final boolean stream;
  private final AnswerText reader;
  private final ArrayNode output = JSON.arrayNode();
  private final StringBuilder text = new StringBuilder(); // of the item that is open
  private @Nullable Kind open;
  private int events;
  private int newTokens;
  private int cachedTokens;

  ResponsesReply(
      Exchange exchange, ServedModel model, ResponsesRequest request, long number, long created) {
    this.exchange = exchange;
    this.model = model;
    this.request = request;
    this.name = created + "x" + number;
    this.created = created;
    this.stream = request.chat().common().stream();
    var chat = request.chat();
    this.reader =
        new AnswerText(
            model, chat.common().stops(), chat.thinks(), chat.tools(), chat.oneCall(), this);
  }

  /// Answers until the text has ended.
  void run(Ticket ticket) throws IOException, InterruptedException {
    try {
      if (stream) {
        exchange.beginEvents();
        tell("response.created", JSON.objectNode().set("response", response("in_progress")));
        tell("response.in_progress", JSON.objectNode().set("response", response("in_progress")));
      }
      var ending = follow(ticket);
      reader.finish();
      boolean isCut = reader.ending(ending) == Answer.Ending.LENGTH;
      if (open == null && output.isEmpty()) {
        begin(Kind.TEXT); // an answer without any text is one
      }
      end(isCut ? "incomplete" : "completed");
      ObjectNode response = response(isCut ? "incomplete" : "completed");
      if (isCut) {
        response.putObject("incomplete_details").put("reason", "max_output_tokens");
      }
      response.set("usage", usage());
      if (stream) {
        tell("response." + (isCut ? "incomplete" : "completed"), with("response", response));
      } else {
        exchange.finish(response);
      }
    } catch (UncheckedIOException e) {
      throw e.getCause();
    } catch (ApiException e) {
      fail(e);
    }
  }

  private void fail(ApiException e) throws IOException {
    if (!exchange.hasBegun()) {
      throw e;
    }
    if (!stream) {
      exchange.failure(e);
      return;
    }
    ObjectNode response = response("failed");
    response.putObject("error").put("code", e.type()).put("message", e.sentence());
    tell("response.failed", with("response", response));
  }

  private Ending follow(Ticket ticket) throws IOException, InterruptedException {
    while (true) {
      switch (ticket.next(exchange.untilPing())) {
        case null -> {}
        case Event.Read read -> cachedTokens = read.cachedTokens();
        case Event.Token token -> {
          if (!reader.hasEnded()) { // else chosen before the engine heard that no more is wanted
            newTokens++;
            reader.add(token.token());
            if (reader.hasEnded()) {
              ticket.stop(token.sequence());
            }
          }
        }
        case Event.Ended ended -> {
          return ended.ending();
        }
        case Event.Failed failed -> throw Reply.refusal(failed.cause());
      }
      exchange.pingWhereQuiet();
    }
  }

  // ---------------------------------------------------------------- items

  @Override
  public void onThought(String piece) {
    add(Kind.THOUGHTS, piece);
  }

  @Override
  public void onText(String piece) {
    add(Kind.TEXT, piece);
  }

  private void add(Kind kind, String piece) {
    if (open != kind) {
      end("completed");
      begin(kind);
    }
    text.append(piece);
    tell(kind.event + ".delta", logprobs(kind, inPart(kind).put("delta", piece)));
  }

  private void begin(Kind kind) {
    open = kind;
    tell("response.output_item.added", inOutput().set("item", item(kind, "in_progress", null)));
    tell("response.content_part.added", inPart(kind).set("part", part(kind, "")));
  }

  /// Ends the item that is open, if one is.
  private void end(String status) {
    var kind = open;
    if (kind == null) {
      return;
    }
    String whole = text.toString();
    tell(kind.event + ".done", logprobs(kind, inPart(kind).put("text", whole)));
    tell("response.content_part.done", inPart(kind).set("part", part(kind, whole)));
    ObjectNode item = item(kind, status, whole);
    tell("response.output_item.done", inOutput().set("item", item));
    output.add(item);
    text.setLength(0);
    open = null;
  }

  /// An item of pieces.
  ///
  /// @param whole its text; null before it has any
  private ObjectNode item(Kind kind, String status, @Nullable String whole) {
    ObjectNode item = JSON.objectNode();
    item.put("id", id(kind.prefix));
    switch (kind) {
      case THOUGHTS -> {
        item.put("type", "reasoning");
        item.putArray("summary");
      }
      case TEXT -> item.put("type", "message").put("role", "assistant");
    }
    item.put("status", status);
    ArrayNode content = item.putArray("content");
    if (whole != null) {
      content.add(part(kind, whole));
    }
    return item;
  }

  private static ObjectNode part(Kind kind, String text) {
    ObjectNode part = JSON.objectNode().put("type", kind.part).put("text", text);
    if (kind == Kind.TEXT) {
      part.putArray("annotations");
    }
    return logprobs(kind, part);
  }

  /// Texts have a list of them in the protocol, which nobody has asked for.
  private static ObjectNode logprobs(Kind kind, ObjectNode node) {
    if (kind == Kind.TEXT) {
      node.putArray("logprobs");
    }
    return node;
  }

  @Override
  public void onCall(String called, String arguments) {
    end("completed");
    String id = id("fc");
    tell("response.output_item.added", inOutput().set("item", call(called, "", "in_progress")));
    tell(
        "response.function_call_arguments.delta",
        inOutput().put("item_id", id).put("delta", arguments));
    tell(
        "response.function_call_arguments.done",
        inOutput().put("item_id", id).put("name", called).put("arguments", arguments));
    ObjectNode item = call(called, arguments, "completed");
    tell("response.output_item.done", inOutput().set("item", item));
    output.add(item);
  }

  private ObjectNode call(String called, String arguments, String status) {
    return JSON.objectNode()
        .put("id", id("fc"))
        .put("type", "function_call")
        .put("status", status)
        .put("call_id", id("call"))
        .put("name", called)
        .put("arguments", arguments);
  }

  /// Of the item that comes next.
  private String id(String prefix) {
    return "%s_%s_%d".formatted(prefix, name, output.size());
  }

  // ---------------------------------------------------------------- events and the whole

  private ObjectNode inOutput() {
    return JSON.objectNode().put("output_index", output.size());
  }

  private ObjectNode inPart(Kind kind) {
    return inOutput().put("item_id", id(kind.prefix)).put("content_index", 0);
  }

  private static ObjectNode with(String field, ObjectNode value) {
    ObjectNode data = JSON.objectNode();
    data.set(field, value);
    return data;
  }

  private void tell(String type, JsonNode about) {
    if (!stream) {
      return;
    }
    ObjectNode event = JSON.objectNode();
    event.put("type", type).put("sequence_number", events++);
    event.setAll((ObjectNode) about);
    try {
      exchange.event(type, event);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private ObjectNode response(String status) {
    ObjectNode response = JSON.objectNode();
    response.put("id", "resp_" + name);
    response.put("object", "response");
    response.put("created_at", created);
    response.put("status", status);
    response.put("background", false);
    response.putNull("error");
    response.putNull("incomplete_details");
    response.put("model", model.name());
    response.set("output", output.deepCopy());
    response.setAll(request.echo());
    response.putNull("usage");
    return response;
  }

  private ObjectNode usage() {
    int read = request.chat().text().ids().length;
    ObjectNode usage = JSON.objectNode();
    usage.put("input_tokens", read);
    usage.putObject("input_tokens_details").put("cached_tokens", cachedTokens);
    usage.put("output_tokens", newTokens);
    usage.putObject("output_tokens_details").put("reasoning_tokens", reader.thoughtTokens());
    usage.put("total_tokens", read + newTokens);
    return usage;
  }
}
